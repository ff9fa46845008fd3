/* A search: which documents may come in, the best so far, part after part.  words_window.c finds the candidates. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "words_search.h"

#define SUM_MOST 0x7f000000 /* of all weights together */

/* -- the best so far: a heap with the worst on top */

static int worse(vx_word_hit a, vx_word_hit b)
{
    return a.score < b.score || (a.score == b.score && a.row > b.row);
}

static void sink(vx_word_hit *h, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t least = i, left = 2 * i + 1;
        if (left < n && worse(h[left], h[least]))
            least = left;
        if (left + 1 < n && worse(h[left + 1], h[least]))
            least = left + 1;
        if (least == i)
            return;
        const vx_word_hit swap = h[i];
        h[i] = h[least];
        h[least] = swap;
        i = least;
    }
}

static int wanted(const vx_word_search *s, uint32_t row, uint32_t doc)
{
    const vx_words_options *o = s->o;
    if (o->mask && (row >= o->mask_rows || !(o->mask[row / 64] >> row % 64 & 1)))
        return 0;
    return vx_words_lives(s->w, row, doc);
}

void vx_word_offer(vx_word_search *s, uint32_t doc, int32_t score)
{
    const vx_word_hit h = {score, s->part->row[doc]};
    const uint32_t k = s->o->k;
    if (score < s->mark || (s->held == k && !worse(s->heap[0], h)) || !wanted(s, h.row, s->number << PART_BITS | doc))
        return;
    if (s->held < k) {
        uint32_t i = s->held++;
        for (; i && worse(h, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
            s->heap[i] = s->heap[(i - 1) / 2];
        s->heap[i] = h;
    } else {
        s->heap[0] = h;
        sink(s->heap, k, 0);
    }
    if (s->held == k)
        s->mark = s->heap[0].score;
}

/* -- which documents may come in at all */

static void mark_list(vx_list *l, uint32_t part, uint64_t *bits)
{
    memset(bits, 0, PART_DOCS / 8);
    if (l->made) {
        for (uint32_t i = 0; i < l->made[part].n; i++)
            bits[l->made[part].docs[i] / 64] |= 1ull << l->made[part].docs[i] % 64;
        return;
    }
    const vx_seg *seg = l->term ? vx_term_seg(l->term, part) : NULL;
    if (!seg)
        return;
    if (seg->n <= SPARSE_MOST) {
        const uint16_t *docs = seg->n <= FEW ? seg->u.few.doc : (const uint16_t *)(const void *)seg->u.sparse;
        for (uint32_t i = 0; i < seg->n; i++)
            bits[docs[i] / 64] |= 1ull << docs[i] % 64;
        return;
    }
    for (uint32_t k = 0; k < WINDOWS; k++) {
        const vx_window *w = &seg->u.wide->w[k];
        for (uint32_t i = 0; i < (w->dense ? WINDOW : w->n); i++) {
            const uint32_t doc = w->dense ? k * WINDOW + i : ((const uint16_t *)w->data)[i];
            bits[doc / 64] |= (uint64_t)(!w->dense || ((const uint8_t *)w->data)[i]) << doc % 64;
        }
    }
}

static void restrict_part(vx_word_search *s)
{
    memset(s->allow, s->o->rows ? 0 : 0xff, sizeof s->allow);
    for (size_t i = 0; s->o->rows && i < s->only_n; i++)
        if (s->only[i] >> PART_BITS == s->number)
            s->allow[s->only[i] % PART_DOCS / 64] |= 1ull << s->only[i] % 64;
    for (int i = 0; i < s->n; i++) {
        const char sign = s->lists[i].sign;
        if (sign == ' ')
            continue;
        mark_list(&s->lists[i], s->number, s->some);
        for (uint32_t k = 0; k < PART_DOCS / 64; k++)
            s->allow[k] &= sign == '+' ? s->some[k] : ~s->some[k];
    }
}

static void search_part(vx_word_search *s, uint32_t number)
{
    s->number = number;
    s->part = s->w->parts[number];
    if (s->restricted)
        restrict_part(s);
    for (int i = 0; i < s->scores_n; i++)
        vx_word_open(s, i);
    for (uint32_t window = 0; window * WINDOW < s->part->n; window++)
        vx_word_window(s, window);
}

/* -- a search */

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int take_rows(vx_word_search *s)
{
    s->only = malloc((s->o->rows_n + 1) * sizeof *s->only);
    if (!s->only)
        return -ENOMEM;
    for (size_t i = 0; i < s->o->rows_n; i++) {
        const uint32_t doc = s->o->rows[i] < VX_WORDS_ROWS ? vx_words_doc(s->w, s->o->rows[i]) : 0;
        if (doc)
            s->only[s->only_n++] = doc - 1;
    }
    qsort(s->only, s->only_n, sizeof *s->only, by_number);
    return 0;
}

/* Weights in whole numbers, as large as may be: what a word that nearly all have adds to a long document is very little,
 * and must not be nothing.  The scale, as a power of two. */
static double weigh(vx_word_search *s)
{
    const double average = vx_words_average(s->w);
    double sum = 0, scale = 1;
    for (int i = 0; i < s->n; i++)
        if (s->lists[i].sign != '-' && s->lists[i].df)
            s->scoring[s->scores_n++] = (uint8_t)i;
    for (int i = 0; i < s->scores_n; i++)
        sum += s->lists[s->scoring[i]].weight * s->lists[s->scoring[i]].times;
    while (sum * scale > SUM_MOST)
        scale /= 2;
    while (sum > 0 && sum * scale * 2 <= SUM_MOST)
        scale *= 2;
    for (int i = 0; i < s->scores_n; i++) {
        const vx_list *l = &s->lists[s->scoring[i]];
        s->model[i] = (vx_bm25){(float)(VX_WORDS_K1 * (1 - VX_WORDS_B)), (float)(VX_WORDS_K1 * VX_WORDS_B / average),
                                (float)(l->weight * l->times * scale)};
    }
    return scale;
}

static int find(vx_word_search *s, double *scale)
{
    int impossible = 0;
    for (int i = 0; i < s->n; i++) {
        s->restricted |= s->lists[i].sign != ' ';
        impossible |= s->lists[i].sign == '+' && !s->lists[i].df;
    }
    *scale = weigh(s);
    if (impossible || !s->scores_n)
        return 0;
    s->restricted |= s->o->rows != NULL;
    const int err = s->o->rows ? take_rows(s) : 0;
    s->mark = 1;
    for (uint32_t i = 0; i < s->w->parts_n && !err; i++)
        if (s->w->parts[i] && s->w->parts[i]->n)
            search_part(s, i);
    return err;
}

static const vx_score_kernels *kernels(const vx_words *w)
{
#if defined(__x86_64__)
    if (w->avx2)
        return &vx_score_avx2;
#endif
    (void)w;
    return &vx_score_scalar;
}

/* Reads under the lock; the dead are accounted first. */
static void lock_for_reading(vx_words *w)
{
    if (atomic_load_explicit(&w->unaccounted, memory_order_relaxed) != NONE) {
        pthread_rwlock_wrlock(&w->lock);
        vx_words_account(w);
        pthread_rwlock_unlock(&w->lock);
    }
    pthread_rwlock_rdlock(&w->lock);
}

int64_t vx_words_search(vx_words *w, const char *query, size_t n, const vx_words_options *o, uint32_t *rows, float *scores)
{
    vx_query q;
    double scale = 1;
    if (!o->k)
        return 0;
    vx_word_search *s = malloc(sizeof *s);
    vx_word_hit *heap = malloc(o->k * sizeof *heap);
    int err = s && heap ? vx_query_parse(&q, query, n, o->prefix_last) : -ENOMEM;
    if (!s || !heap) {
        free(s);
        free(heap);
        return err;
    }
    memset(s, 0, offsetof(vx_word_search, at));
    s->w = w;
    s->o = o;
    s->heap = heap;
    s->kernels = kernels(w);
    if (!err) {
        lock_for_reading(w);
        err = s->n = vx_query_resolve(w, &q, s->lists);
        if (err > 0) {
            err = find(s, &scale);
            vx_lists_free(w, s->lists, s->n);
        }
        pthread_rwlock_unlock(&w->lock);
    }
    const uint32_t held = s->held;
    for (uint32_t left = held; left;) { /* the worst to the end */
        const vx_word_hit top = heap[0];
        heap[0] = heap[--left];
        sink(heap, left, 0);
        rows[left] = top.row;
        scores[left] = (float)(top.score / scale);
    }
    vx_query_free(&q);
    free(s->only);
    free(s);
    free(heap);
    return err < 0 ? err : (int64_t)held;
}
