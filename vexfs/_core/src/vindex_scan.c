/* Search in the lists: the nearest lists first, 1-bit codes by the block, 4-bit codes for what passes, rows for the last. */
#include <errno.h>
#include <math.h>

#include "vindex_impl.h"

#define PENDING 64u
#define AHEAD 5u

/* One list at work. */
typedef struct {
    const vx_list *list;
    float add, distance;
    uint32_t pending[PENDING + VX_BLOCK], n;
} vx_visit;

/* What the query brings to every list. */
typedef struct {
    float square;              /* of the rotated query, from the origin */
    float step_8, offset_8;    /* of the products with 4-bit codes */
    float step_1, base_1;
    float shift;               /* from a score to a key, for l2 */
} vx_asked;

static void prepare(vx_search *s, vx_asked *a)
{
    const vx_vindex *v = s->v;
    const vx_generation *g = s->g;
    s->kernels->rotate(&v->rotation, s->q, s->rotated);
    if (v->metric == VX_L2)
        for (uint32_t i = 0; i < v->padded; i++)
            s->rotated[i] -= g->origin[i];
    a->square = s->kernels->dot[VX_F32](s->rotated, s->rotated, v->padded);
    s->kernels->tables(s->rotated, v->padded, s->tables, &a->step_1, &a->base_1);
    a->step_8 = vx_round_query(s->rotated, v->padded, 127, s->q8);
    int32_t sum = 0;
    for (uint32_t i = 0; i < v->padded; i++)
        sum += s->q8[i];
    a->offset_8 = -7.5f * a->step_8 * (float)sum;
}

/* <q, c> of every list into s->coarse. */
static void coarse(vx_search *s)
{
    const vx_vindex *v = s->v;
    const vx_generation *g = s->g;
    if (g->lists == 1) {
        s->coarse[0] = s->kernels->dot[VX_F32](s->rotated, g->centroid, v->padded);
        return;
    }
    const float step = vx_round_query(s->rotated, v->padded, 63, s->q7);
    const float mean = s->kernels->dot[VX_F32](s->rotated, g->mean, v->padded);
    int32_t sum = 0;
    for (uint32_t i = 0; i < v->padded; i++)
        sum += s->q7[i];
    s->kernels->coarse(s->q7, g->coarse, g->lists, v->padded, s->coarse_i);
    for (uint32_t l = 0; l < g->lists; l++)
        s->coarse[l] = mean + step * g->coarse_step[l] * (float)(s->coarse_i[l] - 128 * sum);
}

/* s->order: the lists by buckets of their score, best first; within a bucket in any order. */
static void order_lists(vx_search *s)
{
    const vx_generation *g = s->g;
    const float half = s->v->metric == VX_L2 ? 0.5f : 0;
    float most = -INFINITY, least = INFINITY;
    for (uint32_t l = 0; l < g->lists; l++) {
        const float score = s->coarse[l] - half * g->square[l];
        most = score > most ? score : most;
        least = score < least ? score : least;
    }
    enum { BUCKETS = 256 };
    uint32_t start[BUCKETS + 1] = {0};
    const float scale = most > least ? (float)(BUCKETS - 1) / (most - least) : 0;
    uint16_t *bucket = (uint16_t *)(void *)s->coarse_i;
    for (uint32_t l = 0; l < g->lists; l++) {
        const float at = (most - (s->coarse[l] - half * g->square[l])) * scale;
        bucket[l] = (uint16_t)(at >= 0 ? at < BUCKETS - 1 ? at : BUCKETS - 1 : 0);
        start[bucket[l] + 1]++;
    }
    for (uint32_t b = 0; b < BUCKETS; b++)
        start[b + 1] += start[b];
    for (uint32_t l = 0; l < g->lists; l++)
        s->order[start[bucket[l]]++] = l;
}

static int add_candidate(vx_search *s, float score, uint32_t row)
{
    if (s->candidates == s->candidates_room) {
        /* What can no longer be among the best makes room. */
        const float least = vx_top_least(&s->rough);
        uint32_t n = 0;
        for (uint32_t i = 0; i < s->candidates; i++)
            if (s->candidate[i].score >= least)
                s->candidate[n++] = s->candidate[i];
        s->candidates = n;
        if (n > s->candidates_room / 2) {
            vx_candidate *more = realloc(s->candidate, 2 * (size_t)s->candidates_room * sizeof *more);
            if (!more)
                return -ENOMEM;
            s->candidate = more;
            s->candidates_room *= 2;
        }
    }
    s->candidate[s->candidates++] = (vx_candidate){score, row};
    return 0;
}

static void compare_pending(vx_search *s, const vx_asked *a, vx_visit *visit)
{
    const vx_vindex *v = s->v;
    const vx_list *l = visit->list;
    const size_t bytes = v->padded / 2;
    for (uint32_t i = 0; i < visit->n; i++) {
        const uint32_t at = visit->pending[i], j = at % VX_BLOCK;
        const vx_entries *e = vx_entries_of(v, l, at / VX_BLOCK);
        const uint32_t row = atomic_load_explicit(&e->row[j], memory_order_relaxed);
        if (row == VX_VINDEX_NONE || !vx_wanted(s, row))
            continue;
        const int32_t product = s->kernels->fine(l->fine + at * bytes, s->q8, bytes);
        const float score = visit->add + e->fine_a[j] + e->fine_b[j] * (a->step_8 * (float)product + a->offset_8);
        const float best = score + s->width * VX_ERROR_4 * e->b[j] * visit->distance;
        s->work.fine++;
        if (best < vx_top_least(&s->rough))
            continue;
        vx_top_push(&s->rough, score, row);
        if (add_candidate(s, best, row) != 0)
            s->status = -ENOMEM;
    }
    visit->n = 0;
}

static void scan_list(vx_search *s, const vx_asked *a, uint32_t l)
{
    const vx_vindex *v = s->v;
    vx_visit visit = {.list = atomic_load_explicit(&s->g->list[l], memory_order_acquire), .add = s->coarse[l]};
    if (!visit.list)
        return;
    const uint32_t n = atomic_load_explicit(&visit.list->count, memory_order_acquire);
    const float away = a->square + s->g->square[l] - 2 * s->coarse[l];
    visit.distance = away > 0 ? sqrtf(away) : 0;
    const size_t bytes = v->padded / 2;
    vx_sieve sieve = {visit.add, a->step_1, a->base_1 + s->width * VX_ERROR_1 * visit.distance, 0};
    const float limit = v->metric == VX_L2 ? 0.5f * (s->least + a->shift) : s->least;
    for (uint32_t at = 0; at < n; at += VX_BLOCK) {
        const uint8_t *block = visit.list->blocks + at / VX_BLOCK * v->block_bytes;
        const float least = vx_top_least(&s->rough);
        sieve.least = least > limit ? least : limit;
        uint32_t found = s->kernels->scan(block, s->tables, v->code_lines, &sieve);
        if (n - at < VX_BLOCK)
            found &= ((uint32_t)1 << (n - at)) - 1;
        for (; found; found &= found - 1) {
            const uint32_t entry = at + (uint32_t)__builtin_ctz(found);
            visit.pending[visit.n++] = entry;
            for (size_t i = 0; i < bytes && i < 512; i += 64)
                __builtin_prefetch(visit.list->fine + entry * bytes + i, 0, 3);
        }
        if (visit.n >= 16)
            compare_pending(s, a, &visit);
    }
    compare_pending(s, a, &visit);
    s->work.scanned += n;
    s->work.lists++;
}

static int by_score(const void *a, const void *b)
{
    const vx_candidate *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : (x->row > y->row) - (x->row < y->row);
}

/* 1 when the row was not there yet. */
static int first_time(vx_search *s, uint32_t row)
{
    uint32_t at = row * 0x9e3779b1u & (s->seen_room - 1);
    while (s->seen[at] != VX_VINDEX_NONE) {
        if (s->seen[at] == row)
            return 0;
        at = (at + 1) & (s->seen_room - 1);
    }
    s->seen[at] = row;
    return 1;
}

static int clear_seen(vx_search *s)
{
    uint32_t room = 64;
    while (room < 2 * s->candidates)
        room *= 2;
    if (room > s->seen_room || !s->seen) {
        uint32_t *more = realloc(s->seen, room * sizeof *more);
        if (!more)
            return -ENOMEM;
        s->seen = more;
    }
    s->seen_room = room;
    memset(s->seen, 0xff, room * sizeof *s->seen);
    return 0;
}

static void fetch_row(const vx_vindex *v, uint32_t row)
{
    if (vx_bit(&v->resident, row))
        for (size_t at = 0; at < v->row_bytes && at < 4096; at += 64)
            __builtin_prefetch(vx_row(v, row) + at, 0, 3);
}

/* The candidates themselves, the most promising first, until none can be better than the k found. */
static void compare_candidates(vx_search *s, const vx_asked *a)
{
    const float least = vx_top_least(&s->rough);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->candidates; i++)
        if (s->candidate[i].score >= least)
            s->candidate[n++] = s->candidate[i];
    s->candidates = n;
    qsort(s->candidate, n, sizeof *s->candidate, by_score);
    if (clear_seen(s) != 0) {
        s->status = -ENOMEM;
        return;
    }
    const vx_vindex *v = s->v;
    for (uint32_t i = 0; i < n && s->status == 0; i++) {
        for (uint32_t j = i ? i + AHEAD : 0; j <= i + AHEAD && j < n; j++)
            fetch_row(v, s->candidate[j].row);
        const float best = v->metric == VX_L2 ? 2 * s->candidate[i].score - a->shift : s->candidate[i].score;
        if (s->top.n == s->top.k && best < s->top.score[0])
            break;
        if (first_time(s, s->candidate[i].row))
            vx_compare_row(s, s->candidate[i].row);
    }
}

void vx_search_lists(vx_search *s)
{
    vx_asked a;
    prepare(s, &a);
    a.shift = a.square;
    s->rough.n = 0;
    s->candidates = 0;
    coarse(s);
    order_lists(s);
    const uint32_t most = s->lists < s->g->lists ? s->lists : s->g->lists;
    for (uint32_t i = 0; i < s->g->lists && s->status == 0; i++) {
        /* As long as fewer than k were found, there is a reason to go on. */
        if (i >= most && (s->rough.n == s->rough.k || s->ask->effort || s->ask->limited))
            break;
        scan_list(s, &a, s->order[i]);
    }
    if (s->status == 0)
        compare_candidates(s, &a);
}
