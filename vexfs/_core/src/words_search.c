/* Finding the best documents: by windows of 4096, with MaxScore.
 *
 * In a window every list has a bound of what it can add.  Lists whose bounds together stay below the k-th best score so far
 * cannot bring a document in by themselves: only the others are added up; what comes out near enough to the mark is looked
 * up in the former, the strongest first, and dropped as soon as it cannot reach it any more.  Sources: Turtle, Flood,
 * "Query evaluation: strategies and optimizations", 1995; Ding, Suel, "Faster top-k document retrieval using block-max
 * indexes", 2011.  Scores are whole numbers while they are added, so that they do not depend on the order. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "words_query.h"

#define SCALE_BITS 20       /* of a score's fraction, when there is room */
#define SUM_MOST 0x7f000000 /* of all weights together */
#define BOUND_UNIT 255.0
#define SLACK 1.000001 /* of a bound against rounding */
#define CHUNK 256u

typedef struct {
    const uint16_t *docs; /* sorted; NULL when wide */
    const uint8_t *tfs;
    const vx_wide *wide;
    int32_t bound[WINDOWS];
    uint32_t begin[WINDOWS], n; /* of the windows in docs */
} cursor;

typedef struct {
    int32_t score;
    uint32_t row;
} hit;

typedef struct {
    vx_words *w;
    const vx_words_options *o;
    const vx_score_kernels *kernels;
    vx_list lists[VX_WORDS_UNITS];
    cursor at[VX_WORDS_UNITS]; /* of the lists that score, in this part */
    vx_bm25 model[VX_WORDS_UNITS];
    uint8_t scoring[VX_WORDS_UNITS]; /* numbers of the lists that score */
    int n, scores_n, must;
    const vx_part *part;
    uint32_t number;
    hit *heap;
    uint32_t held;
    int32_t mark; /* a score below cannot come in */
    uint32_t *only; /* sorted documents of o->rows */
    size_t only_n;
    int restricted;
    uint64_t allow[PART_DOCS / 64], some[PART_DOCS / 64];
    int32_t acc[WINDOW], score[WINDOW], out[CHUNK];
    uint16_t doc[WINDOW];
} search;

/* -- the best so far: a heap with the worst on top */

static int worse(hit a, hit b)
{
    return a.score < b.score || (a.score == b.score && a.row > b.row);
}

static void sink(hit *h, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t least = i, left = 2 * i + 1;
        if (left < n && worse(h[left], h[least]))
            least = left;
        if (left + 1 < n && worse(h[left + 1], h[least]))
            least = left + 1;
        if (least == i)
            return;
        const hit swap = h[i];
        h[i] = h[least];
        h[least] = swap;
        i = least;
    }
}

static int wanted(const search *s, uint32_t row, uint32_t doc)
{
    const vx_words_options *o = s->o;
    if (o->mask && (row >= o->mask_rows || !(o->mask[row / 64] >> row % 64 & 1)))
        return 0;
    return vx_words_lives(s->w, row, doc);
}

static void offer(search *s, uint32_t doc, int32_t score)
{
    const hit h = {score, s->part->row[doc]};
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

/* -- lists in a part */

static int32_t as_bound(double ratio, const search *s, int i)
{
    const double average = vx_words_average(s->w);
    const double drift = average > s->part->average ? average / s->part->average : 1.0;
    const double most = ratio * drift < 1 ? ratio * drift : 1.0;
    return (int32_t)(s->model[i].weight * most * SLACK) + 2;
}

/* Exact bounds of a sorted list, and where its windows begin. */
static void measure(search *s, int i)
{
    cursor *c = &s->at[i];
    uint32_t window = 0;
    for (uint32_t k = 0; k < c->n; k += CHUNK) {
        const uint32_t n = c->n - k < CHUNK ? c->n - k : CHUNK;
        s->kernels->sparse(c->docs + k, c->tfs + k, n, s->part->length, s->model[i], s->out);
        for (uint32_t j = 0; j < n; j++) {
            const uint32_t in = c->docs[k + j] / WINDOW;
            while (window < in)
                c->begin[++window] = k + j;
            if (s->out[j] > c->bound[in])
                c->bound[in] = s->out[j];
        }
    }
    while (window < WINDOWS - 1)
        c->begin[++window] = c->n;
}

static void open_list(search *s, int i)
{
    vx_list *l = &s->lists[s->scoring[i]];
    cursor *c = &s->at[i];
    memset(c, 0, sizeof *c);
    if (l->made) {
        const vx_made *m = &l->made[s->number];
        c->docs = m->docs;
        c->tfs = m->tfs;
        c->n = m->n;
        measure(s, i);
        return;
    }
    const vx_seg *seg = vx_term_seg(l->term, s->number);
    if (!seg)
        return;
    c->n = seg->n;
    if (seg->n > SPARSE_MOST) {
        c->wide = seg->u.wide;
        for (uint32_t k = 0; k < WINDOWS; k++)
            c->bound[k] = c->wide->w[k].n ? as_bound(c->wide->w[k].bound / BOUND_UNIT, s, i) : 0;
        return;
    }
    c->docs = seg->n <= FEW ? seg->u.few.doc : (const uint16_t *)(const void *)seg->u.sparse;
    c->tfs = seg->n <= FEW ? seg->u.few.tf : seg->u.sparse + (size_t)seg->cap * 2;
    measure(s, i);
}

static vx_slice slice_of(const cursor *c, uint32_t window)
{
    if (c->wide) {
        const vx_window *w = &c->wide->w[window];
        if (w->dense)
            return (vx_slice){NULL, w->data, w->n};
        return (vx_slice){w->data, (const uint8_t *)w->data + (size_t)w->cap * 2, w->n};
    }
    const uint32_t from = c->begin[window], to = window == WINDOWS - 1 ? c->n : c->begin[window + 1];
    return (vx_slice){c->docs + from, c->tfs + from, to - from};
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

static void restrict_part(search *s)
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

static int allowed(const search *s, uint32_t doc)
{
    return !s->restricted || s->allow[doc / 64] >> doc % 64 & 1;
}

static int window_is_open(const search *s, uint32_t window)
{
    uint64_t any = 0;
    for (uint32_t i = 0; s->restricted && i < WINDOW / 64; i++)
        any |= s->allow[window * (WINDOW / 64) + i];
    return !s->restricted || any;
}

/* -- a window */

/* Adds a list up in s->acc. */
static void add_up(search *s, int i, uint32_t window)
{
    const vx_slice l = slice_of(&s->at[i], window);
    if (!l.docs) {
        s->kernels->dense(l.tfs, WINDOW, s->part->length + window * WINDOW, s->model[i], s->acc);
        return;
    }
    for (uint32_t k = 0; k < l.n; k += CHUNK) {
        const uint32_t n = l.n - k < CHUNK ? l.n - k : CHUNK;
        s->kernels->sparse(l.docs + k, l.tfs + k, n, s->part->length, s->model[i], s->out);
        for (uint32_t j = 0; j < n; j++)
            s->acc[l.docs[k + j] % WINDOW] += s->out[j];
    }
}

/* The documents of one sorted list that reach `least`, to s->doc and s->score. */
static uint32_t straight(search *s, int i, uint32_t window, int32_t least)
{
    const vx_slice l = slice_of(&s->at[i], window);
    uint32_t found = 0;
    for (uint32_t k = 0; k < l.n; k += CHUNK) {
        const uint32_t n = l.n - k < CHUNK ? l.n - k : CHUNK;
        s->kernels->sparse(l.docs + k, l.tfs + k, n, s->part->length, s->model[i], s->out);
        for (uint32_t j = 0; j < n; j++)
            if (s->out[j] >= least) {
                s->doc[found] = l.docs[k + j] % WINDOW;
                s->score[found++] = s->out[j];
            }
    }
    return found;
}

/* Drops what cannot reach `least`; what is left. */
static uint32_t sift(search *s, uint32_t n, int32_t least)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s->score[i] >= least) {
            s->doc[kept] = s->doc[i];
            s->score[kept++] = s->score[i];
        }
    return kept;
}

/* Adds what a list has for the candidates. */
static void look_up(search *s, int i, uint32_t window, uint32_t n)
{
    const vx_slice l = slice_of(&s->at[i], window);
    const uint32_t base = window * WINDOW;
    const float *length = s->part->length + base;
    uint32_t at = 0;
    for (uint32_t c = 0; c < n; c++) {
        const uint32_t doc = s->doc[c];
        uint8_t tf = 0;
        if (!l.docs) {
            tf = l.tfs[doc];
        } else {
            uint32_t step = 1;
            while (at + step < l.n && l.docs[at + step] < base + doc)
                at += step, step *= 2;
            while (step > 1) { /* l.docs[at] is below or first; the wanted one is within the last step */
                step /= 2;
                if (at + step < l.n && l.docs[at + step] < base + doc)
                    at += step;
            }
            if (at < l.n && l.docs[at] < base + doc)
                at++;
            tf = at < l.n && l.docs[at] == base + doc ? l.tfs[at] : 0;
        }
        if (tf)
            s->score[c] += vx_contribution(tf, length[doc], s->model[i]);
    }
}

static void search_window(search *s, uint32_t window)
{
    uint8_t order[VX_WORDS_UNITS];
    int n = 0, first = 0;
    int64_t below = 0; /* bounds of the lists that only are looked up */
    for (int i = 0; i < s->scores_n; i++) {
        if (!s->at[i].bound[window])
            continue;
        int k = n++;
        for (; k && s->at[order[k - 1]].bound[window] > s->at[i].bound[window]; k--)
            order[k] = order[k - 1];
        order[k] = (uint8_t)i;
    }
    while (first < n && below + s->at[order[first]].bound[window] < s->mark)
        below += s->at[order[first++]].bound[window];
    if (first == n)
        return;
    int32_t least = (int32_t)(s->mark - below > 1 ? s->mark - below : 1);
    uint32_t found;
    if (first == n - 1 && slice_of(&s->at[order[first]], window).docs) {
        found = straight(s, order[first], window, least);
    } else {
        for (int i = first; i < n; i++)
            add_up(s, order[i], window);
        found = s->kernels->collect(s->acc, WINDOW, least, s->doc, s->score);
    }
    if (s->restricted) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < found; i++)
            if (allowed(s, window * WINDOW + s->doc[i])) {
                s->doc[kept] = s->doc[i];
                s->score[kept++] = s->score[i];
            }
        found = kept;
    }
    for (int i = first - 1; i >= 0 && found; i--) {
        look_up(s, order[i], window, found);
        below -= s->at[order[i]].bound[window];
        if (s->mark - below > 1)
            found = sift(s, found, (int32_t)(s->mark - below));
    }
    for (uint32_t i = 0; i < found; i++)
        offer(s, window * WINDOW + s->doc[i], s->score[i]);
}

static void search_part(search *s, uint32_t number)
{
    s->number = number;
    s->part = s->w->parts[number];
    if (s->restricted)
        restrict_part(s);
    for (int i = 0; i < s->scores_n; i++)
        open_list(s, i);
    for (uint32_t window = 0; window * WINDOW < s->part->n; window++)
        if (window_is_open(s, window))
            search_window(s, window);
}

/* -- a search */

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int take_rows(search *s)
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

/* Weights in whole numbers; the scale, as a power of two. */
static double weigh(search *s)
{
    const double average = vx_words_average(s->w);
    double sum = 0, scale = (double)(1 << SCALE_BITS);
    for (int i = 0; i < s->n; i++)
        if (s->lists[i].sign != '-' && s->lists[i].df)
            s->scoring[s->scores_n++] = (uint8_t)i;
    for (int i = 0; i < s->scores_n; i++)
        sum += s->lists[s->scoring[i]].weight * s->lists[s->scoring[i]].times;
    while (sum * scale > SUM_MOST)
        scale /= 2;
    for (int i = 0; i < s->scores_n; i++) {
        const vx_list *l = &s->lists[s->scoring[i]];
        s->model[i] = (vx_bm25){(float)(VX_WORDS_K1 * (1 - VX_WORDS_B)), (float)(VX_WORDS_K1 * VX_WORDS_B / average),
                                (float)(l->weight * l->times * scale)};
    }
    return scale;
}

static int find(search *s, double *scale)
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
    search *s = malloc(sizeof *s);
    hit *heap = malloc(o->k * sizeof *heap);
    int err = s && heap ? vx_query_parse(&q, query, n, o->prefix_last) : -ENOMEM;
    if (!s || !heap) {
        free(s);
        free(heap);
        return err;
    }
    memset(s, 0, offsetof(search, allow));
    memset(s->acc, 0, sizeof s->acc);
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
        const hit top = heap[0];
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
