/* Finding the best documents: by windows of 4096 in blocks of 256, with MaxScore.
 *
 * In a block every list has a bound of what it can add.  Blocks whose bounds together stay below the k-th best score so far
 * are passed over.  Lists whose bounds together stay below it cannot bring a document in by themselves: only the others
 * are added up; what comes out near enough to the mark is looked up in the former, the strongest first, and dropped as
 * soon as it cannot reach it any more.  Sources: Turtle, Flood, "Query evaluation: strategies and optimizations", 1995;
 * Ding, Suel, "Faster top-k document retrieval using block-max indexes", 2011.  Scores are whole numbers while they are
 * added, so that they do not depend on the order. */
#include <string.h>

#include "words_search.h"

#define BOUND_UNIT 255.0
#define SLACK 1.000001 /* of a bound against rounding */
#define IN_WINDOW (WINDOW / BLOCK)

/* -- a list in a part */

/* Exact bounds of a sorted list, and where its windows begin. */
static void measure(vx_word_search *s, int i)
{
    vx_cursor *c = &s->at[i];
    uint32_t window = 0;
    c->begin[0] = 0;
    for (uint32_t k = 0; k < c->n; k += CHUNK) {
        const uint32_t n = c->n - k < CHUNK ? c->n - k : CHUNK;
        s->kernels->sparse(c->docs + k, c->tfs + k, n, s->part->length, s->model[i], s->out);
        for (uint32_t j = 0; j < n; j++) {
            int32_t *bound = &c->bound[c->docs[k + j] / BLOCK];
            while (window < c->docs[k + j] / WINDOW)
                c->begin[++window] = k + j;
            if (s->out[j] > *bound)
                *bound = s->out[j];
        }
    }
    while (window < WINDOWS - 1)
        c->begin[++window] = c->n;
}

static void bounds_of_wide(const vx_word_search *s, int i, vx_cursor *c)
{
    const double average = vx_words_average(s->w);
    const double drift = average > s->part->average ? average / s->part->average : 1.0;
    const float unit = (float)(s->model[i].weight * drift * SLACK / BOUND_UNIT);
    const float most = (float)(s->model[i].weight * SLACK);
    for (uint32_t k = 0; k < BLOCKS; k++) {
        const uint8_t b = c->wide->w[k / IN_WINDOW].bound[k % IN_WINDOW];
        const float bound = unit * b < most ? unit * b : most;
        c->bound[k] = b ? (int32_t)bound + 2 : 0;
    }
}

void vx_word_open(vx_word_search *s, int i)
{
    vx_list *l = &s->lists[s->scoring[i]];
    vx_cursor *c = &s->at[i];
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
        bounds_of_wide(s, i, c);
        return;
    }
    c->docs = seg->n <= FEW ? seg->u.few.doc : (const uint16_t *)(const void *)seg->u.sparse;
    c->tfs = seg->n <= FEW ? seg->u.few.tf : seg->u.sparse + (size_t)seg->cap * 2;
    measure(s, i);
}

static vx_slice slice_of(const vx_cursor *c, uint32_t window)
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

/* The first posting at or behind `doc`, from `at` on. */
static uint32_t seek(const vx_slice *l, uint32_t at, uint32_t doc)
{
    uint32_t step = 1;
    if (at >= l->n || l->docs[at] >= doc)
        return at;
    while (at + step < l->n && l->docs[at + step] < doc) {
        at += step;
        step *= 2;
    }
    while (step > 1) { /* docs[at] is before; the wanted one is within the last step */
        step /= 2;
        if (at + step < l->n && l->docs[at + step] < doc)
            at += step;
    }
    return at + 1;
}

/* -- a window */

typedef struct {
    uint32_t number, base;   /* of its first document in the part */
    uint32_t open;           /* bits of blocks in which a document may come in */
    int32_t rest[IN_WINDOW]; /* what the lists that are looked up can still add */
    uint8_t order[VX_WORDS_UNITS];
    int n, first; /* lists from first on are added up; those before are looked up */
} window_state;

static const int32_t *bounds(const vx_word_search *s, int i, const window_state *v)
{
    return s->at[i].bound + v->number * IN_WINDOW;
}

/* Which blocks are open. */
static void look_at_blocks(const vx_word_search *s, window_state *v)
{
    int32_t sum[IN_WINDOW] = {0};
    for (int i = 0; i < s->scores_n; i++)
        for (uint32_t b = 0; b < IN_WINDOW; b++)
            sum[b] += bounds(s, i, v)[b];
    v->open = 0;
    for (uint32_t b = 0; b < IN_WINDOW; b++) {
        const uint64_t *allow = s->allow + (v->base + b * BLOCK) / 64;
        const int may = !s->restricted || allow[0] | allow[1] | allow[2] | allow[3];
        v->open |= (uint32_t)(sum[b] >= s->mark && may) << b;
    }
}

/* Sorts the lists by their bounds, and parts them: as many as possible are only looked up. */
static void part_lists(const vx_word_search *s, window_state *v)
{
    int32_t most[VX_WORDS_UNITS];
    v->n = 0;
    for (int i = 0; i < s->scores_n; i++) {
        most[i] = 0;
        for (uint32_t b = 0; b < IN_WINDOW; b++)
            if (v->open >> b & 1 && bounds(s, i, v)[b] > most[i])
                most[i] = bounds(s, i, v)[b];
        if (!most[i])
            continue;
        int k = v->n++;
        for (; k && most[v->order[k - 1]] > most[i]; k--)
            v->order[k] = v->order[k - 1];
        v->order[k] = (uint8_t)i;
    }
    memset(v->rest, 0, sizeof v->rest);
    for (v->first = 0; v->first < v->n; v->first++) {
        const int32_t *add = bounds(s, v->order[v->first], v);
        int32_t sum = 0;
        for (uint32_t b = 0; b < IN_WINDOW; b++)
            if (v->open >> b & 1 && v->rest[b] + add[b] > sum)
                sum = v->rest[b] + add[b];
        if (sum >= s->mark)
            return;
        for (uint32_t b = 0; b < IN_WINDOW; b++)
            v->rest[b] += add[b];
    }
}

/* The score without the lists that are looked up that a document of the block needs. */
static int32_t least_in(const vx_word_search *s, const window_state *v, uint32_t block)
{
    const int32_t least = s->mark - v->rest[block];
    return least > 1 ? least : 1;
}

/* Scores postings from..to of a sorted list, and adds them up in s->acc. */
static void add_sorted(vx_word_search *s, int i, const vx_slice *l, uint32_t from, uint32_t to)
{
    for (uint32_t k = from; k < to; k += CHUNK) {
        const uint32_t n = to - k < CHUNK ? to - k : CHUNK;
        s->kernels->sparse(l->docs + k, l->tfs + k, n, s->part->length, s->model[i], s->out);
        for (uint32_t j = 0; j < n; j++)
            s->acc[l->docs[k + j] % WINDOW] += s->out[j];
    }
}

/* Adds a list up in the open blocks; runs of them at a time. */
static void add_up(vx_word_search *s, int i, const window_state *v)
{
    const vx_slice l = slice_of(&s->at[i], v->number);
    uint32_t at = 0;
    for (uint32_t open = v->open; open;) {
        const uint32_t b = (uint32_t)__builtin_ctz(open), run = (uint32_t)__builtin_ctz(~(open >> b));
        const uint32_t from = b * BLOCK, n = run * BLOCK;
        open &= ~(((1u << run) - 1) << b);
        if (!l.docs) {
            s->kernels->dense(l.tfs + from, n, s->part->length + v->base + from, s->model[i], s->acc + from);
            continue;
        }
        at = seek(&l, at, v->base + from);
        const uint32_t end = b + run == IN_WINDOW ? l.n : seek(&l, at, v->base + from + n);
        add_sorted(s, i, &l, at, end);
        at = end;
    }
}

/* Documents that are near enough after all lists from first on are added up. */
static uint32_t collect(vx_word_search *s, const window_state *v)
{
    uint32_t found = 0;
    for (int i = v->first; i < v->n; i++)
        add_up(s, v->order[i], v);
    for (uint32_t open = v->open; open; open &= open - 1) {
        const uint32_t b = (uint32_t)__builtin_ctz(open), from = b * BLOCK;
        const uint32_t n = s->kernels->collect(s->acc + from, BLOCK, least_in(s, v, b), s->doc + found, s->score + found);
        for (uint32_t i = found; i < found + n; i++)
            s->doc[i] = (uint16_t)(s->doc[i] + from);
        found += n;
    }
    return found;
}

/* The same when there is one list, sorted, to add up. */
static uint32_t collect_one(vx_word_search *s, const window_state *v)
{
    const int i = v->order[v->first];
    const vx_slice l = slice_of(&s->at[i], v->number);
    uint32_t found = 0;
    for (uint32_t k = 0; k < l.n; k += CHUNK) {
        const uint32_t n = l.n - k < CHUNK ? l.n - k : CHUNK;
        s->kernels->sparse(l.docs + k, l.tfs + k, n, s->part->length, s->model[i], s->out);
        for (uint32_t j = 0; j < n; j++) {
            const uint32_t doc = l.docs[k + j] % WINDOW, b = doc / BLOCK;
            if (v->open >> b & 1 && s->out[j] >= least_in(s, v, b)) {
                s->doc[found] = (uint16_t)doc;
                s->score[found++] = s->out[j];
            }
        }
    }
    return found;
}

static uint32_t keep_allowed(vx_word_search *s, const window_state *v, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t doc = v->base + s->doc[i];
        s->doc[kept] = s->doc[i];
        s->score[kept] = s->score[i];
        kept += s->allow[doc / 64] >> doc % 64 & 1;
    }
    return kept;
}

/* Adds what a list has for the candidates, and drops those that cannot come in any more; how many are left. */
static uint32_t look_up(vx_word_search *s, int i, window_state *v, uint32_t n)
{
    const vx_slice l = slice_of(&s->at[i], v->number);
    const float *length = s->part->length + v->base;
    uint32_t at = 0, kept = 0;
    for (uint32_t b = 0; b < IN_WINDOW; b++)
        v->rest[b] -= bounds(s, i, v)[b];
    for (uint32_t c = 0; c < n; c++) {
        const uint32_t doc = s->doc[c];
        int32_t score = s->score[c];
        uint8_t tf = 0;
        if (!l.docs) {
            tf = l.tfs[doc];
        } else if (at < l.n) {
            at = seek(&l, at, v->base + doc);
            tf = at < l.n && l.docs[at] == v->base + doc ? l.tfs[at] : 0;
        }
        if (tf)
            score += vx_contribution(tf, length[doc], s->model[i]);
        s->doc[kept] = (uint16_t)doc;
        s->score[kept] = score;
        kept += score + v->rest[doc / BLOCK] >= s->mark;
    }
    return kept;
}

void vx_word_window(vx_word_search *s, uint32_t window)
{
    window_state v = {.number = window, .base = window * WINDOW};
    look_at_blocks(s, &v);
    if (!v.open)
        return;
    part_lists(s, &v);
    if (v.first == v.n)
        return;
    const int one = v.first == v.n - 1 && slice_of(&s->at[v.order[v.first]], window).docs;
    uint32_t found = one ? collect_one(s, &v) : collect(s, &v);
    if (s->restricted)
        found = keep_allowed(s, &v, found);
    for (int i = v.first - 1; i >= 0 && found; i--)
        found = look_up(s, v.order[i], &v, found);
    for (uint32_t i = 0; i < found; i++)
        vx_word_offer(s, v.base + s->doc[i], s->score[i]);
}
