/* Search in the lists: the nearest lists first, 1-bit codes by the block, 4-bit codes for what passes, rows for the last. */
#include <errno.h>
#include <math.h>

#include "vindex_impl.h"

#define PENDING 64u
#define AHEAD 5u
/* Blocks are asked for so many pairs before they are looked at. */
#define LEAD 4u
/* A search begins with the first blocks of its first list for k up to this. */
#define WARM_K 64u
#define SORTED_BY_HAND 48u
/* What k rows seem to reach and do reach may be so much of an error apart; less where so many times k rows are that good. */
#define TOO_MUCH 0.8f
#define TOO_MUCH_OF_MANY 0.25f
#define MANY 8u

/* What the query brings to every list. */
typedef struct {
    float add;              /* <q, origin> */
    float step_8, offset_8; /* of the products with 4-bit codes */
    float error_4;
    float table;            /* variance that the tables of the 1-bit codes add */
    float shift;            /* from a score to a key, for l2 */
    float limit;            /* the score that the threshold asks for */
    float length;           /* of the query, from the origin */
    float allowed;          /* the most that was allowed for the error of a 4-bit code */
    uint32_t compared;      /* candidates that nothing but the rows themselves told apart */
    int exactly;            /* `limit` is what k rows do reach: estimates have no say in it */
} vx_asked;

/* Entries of one list that passed the sieve, waiting for their 4-bit codes to come from memory. */
typedef struct {
    uint32_t row[PENDING + VX_BLOCK], n;
} vx_pending;

static void prepare(vx_search *s, vx_asked *a)
{
    const vx_vindex *v = s->v;
    const vx_generation *g = s->g;
    vx_probe *p = &s->probe;
    s->kernels->rotate(&v->rotation, s->q, p->x);
    a->add = 0;
    if (g->lists > 1) {
        if (v->metric != VX_L2)
            a->add = s->kernels->dot[VX_F32](p->x, g->origin, v->padded);
        for (uint32_t i = 0; i < v->padded; i++)
            p->x[i] -= g->origin[i];
    }
    vx_probe_begin(p, v);
    int32_t sum;
    a->step_8 = s->kernels->round(p->x, v->padded, 127, s->q8, &sum);
    a->offset_8 = -7.5f * a->step_8 * (float)sum;
    a->length = sqrtf(p->square);
    a->error_4 = s->width * VX_ERROR_4 * a->length;
    a->table = VX_ROUNDED * VX_ROUNDED * p->step * p->step * (float)(v->padded / 4);
    a->shift = p->square;
    /* What floats take of a short distance between long vectors leaves nothing out. */
    a->limit = v->metric == VX_L2 ? 0.5f * (s->least + a->shift) - 1e-6f * a->shift : s->least;
    a->allowed = 0;
    a->exactly = 0;
}

/* What a row has to reach now. */
static float least_of(const vx_search *s, const vx_asked *a)
{
    const float least = a->exactly ? a->limit : vx_top_least(&s->rough);
    return least > a->limit ? least : a->limit;
}

/* 1 when the row was not there yet. */
static int first_time(vx_search *s, uint32_t row)
{
    const uint64_t mine = (uint64_t)s->turn << 32 | row;
    uint32_t at = row * 0x9e3779b1u >> 7 & (s->seen_room - 1);
    while (s->seen[at] >> 32 == s->turn) {
        if (s->seen[at] == mine)
            return 0;
        at = (at + 1) & (s->seen_room - 1);
    }
    s->seen[at] = mine;
    s->seen_n++;
    return 1;
}

/* Room in `seen` for another `n` rows. */
static int make_room(vx_search *s, uint32_t n)
{
    if (2 * (s->seen_n + n) <= s->seen_room)
        return 0;
    uint64_t *old = s->seen;
    const uint32_t room = s->seen_room;
    s->seen = calloc(4 * (size_t)room, sizeof *s->seen);
    if (!s->seen) {
        s->seen = old;
        return -ENOMEM;
    }
    s->seen_room = 4 * room;
    s->seen_n = 0;
    for (uint32_t i = 0; i < room; i++)
        if (old[i] >> 32 == s->turn)
            first_time(s, (uint32_t)old[i]);
    free(old);
    return 0;
}

/* Without the candidates that can no longer be among the best. */
static void drop_candidates(vx_search *s, const vx_asked *a)
{
    const float least = least_of(s, a);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->candidates; i++)
        if (s->candidate[i].score >= least)
            s->candidate[n++] = s->candidate[i];
    s->candidates = n;
}

static int add_candidate(vx_search *s, const vx_asked *a, float score, uint32_t row)
{
    if (s->candidates == s->candidates_room) {
        drop_candidates(s, a);
        if (s->candidates > s->candidates_room / 2) {
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

static void compare_pending(vx_search *s, vx_asked *a, vx_pending *pending)
{
    const vx_vindex *v = s->v;
    const size_t bytes = v->padded / 2;
    for (uint32_t i = 0; i < pending->n; i++) {
        const uint32_t row = pending->row[i];
        const uint8_t *code = vx_fine(v, s->g, row);
        float numbers[2];
        memcpy(numbers, code + bytes, sizeof numbers);
        const int32_t product = s->kernels->fine(code, s->q8, bytes);
        const float score = a->add + numbers[0] + numbers[1] * (a->step_8 * (float)product + a->offset_8);
        const float error = a->error_4 * numbers[1], best = score + error;
        if (!(best >= least_of(s, a)))
            continue;
        a->allowed = error > a->allowed ? error : a->allowed;
        vx_top_push(&s->rough, score, row);
        if (add_candidate(s, a, best, row) != 0)
            s->status = -ENOMEM;
    }
    s->work.fine += pending->n;
    pending->n = 0;
}

static void fetch_code(const vx_search *s, uint32_t row)
{
    const uint8_t *code = vx_fine(s->v, s->g, row);
    for (size_t i = 0; i < s->v->fine_bytes + 63 && i < 512; i += 64)
        __builtin_prefetch(code + i, 0, 3);
}

/* Rows of a block whose bits are set, wanted and new, go to those pending. */
static void take(vx_search *s, const _Atomic uint32_t *rows, uint32_t found, vx_pending *pending)
{
    for (; found; found &= found - 1) {
        const uint32_t row = atomic_load_explicit(&rows[__builtin_ctz(found)], memory_order_relaxed);
        if (row == VX_VINDEX_NONE || !vx_wanted(s, row) || !first_time(s, row))
            continue;
        pending->row[pending->n++] = row;
        fetch_code(s, row);
    }
}

/* One list at work. */
typedef struct {
    const vx_list *list;
    uint32_t n;
    vx_sieve sieve;
} vx_visit;

static int begin_visit(const vx_search *s, const vx_asked *a, uint32_t i, vx_visit *visit)
{
    const uint32_t l = s->probe.list[i];
    const float product = s->probe.product[i], square = s->g->square[l];
    visit->list = atomic_load_explicit(&s->g->list[l], memory_order_acquire);
    if (!visit->list)
        return 0;
    visit->n = atomic_load_explicit(&visit->list->count, memory_order_acquire);
    const float step_7 = s->probe.step_7, step_c = s->g->coarse_step[l];
    const float off = s->width * VX_ROUNDED * sqrtf(step_7 * step_7 * square + step_c * step_c * s->probe.square);
    const float away = s->probe.square + square - 2 * product + 2 * off;
    const float wide = s->width * sqrtf((away > 0 ? VX_ERROR_1 * VX_ERROR_1 * away : 0) + a->table);
    visit->sieve = (vx_sieve){a->add + product + off, s->probe.step, s->probe.base + wide, 0};
    return visit->n > 0;
}

static void take_block(vx_search *s, vx_asked *a, const vx_visit *visit, uint32_t at, uint32_t found,
                       vx_pending *pending)
{
    if (visit->n - at < VX_BLOCK)
        found &= ((uint32_t)1 << (visit->n - at)) - 1;
    if (!found)
        return;
    if (make_room(s, VX_BLOCK) != 0)
        s->status = -ENOMEM;
    else
        take(s, vx_rows_of(s->v, visit->list) + at, found, pending);
    if (pending->n >= PENDING / 4)
        compare_pending(s, a, pending);
}

/* What will be looked at, pair of blocks by pair, list after list. */
typedef struct {
    const uint8_t *block;
    uint32_t list, at, n;
} vx_coming;

/* Asks for the head of the i-th list. */
static void fetch_list(const vx_search *s, uint32_t i)
{
    if (i < s->probe.n)
        __builtin_prefetch((const void *)atomic_load_explicit(&s->g->list[s->probe.list[i]], memory_order_relaxed), 0, 3);
}

/* The next pair of blocks; behind the last anything. */
static const uint8_t *next_pair(const vx_search *s, vx_coming *c)
{
    while (c->at >= c->n && c->list < s->probe.n) {
        const vx_list *l = atomic_load_explicit(&s->g->list[s->probe.list[c->list++]], memory_order_acquire);
        c->n = l ? atomic_load_explicit(&l->count, memory_order_relaxed) : 0;
        c->at = 0;
        if (c->n) {
            c->block = vx_block(s->v, l, 0);
            const uint8_t *rows = (const void *)vx_rows_of(s->v, l);
            for (size_t b = 0; b < c->n * sizeof(uint32_t) && b < 1024; b += 64)
                __builtin_prefetch(rows + b, 0, 2);
        }
        fetch_list(s, c->list + 1);
    }
    const uint8_t *pair = c->block;
    if (c->at < c->n) {
        c->block += 2 * s->v->block_bytes;
        c->at += 2 * VX_BLOCK;
    }
    return pair;
}

static void scan_list(vx_search *s, vx_asked *a, uint32_t i, vx_coming *coming, vx_pending *pending)
{
    const vx_vindex *v = s->v;
    vx_visit visit;
    if (!begin_visit(s, a, i, &visit))
        return;
    for (uint32_t at = 0; at < visit.n && s->status == 0; at += 2 * VX_BLOCK) {
        const uint32_t blocks = visit.n - at > VX_BLOCK ? 2 : 1;
        uint32_t found[2];
        visit.sieve.least = least_of(s, a);
        const uint8_t *block = vx_block(v, visit.list, at / VX_BLOCK);
        const uint8_t *ahead = next_pair(s, coming);
        if (blocks == 1)
            for (size_t b = 0; b < v->block_bytes; b += 64)
                __builtin_prefetch(ahead + v->block_bytes + b, 0, 2);
        s->kernels->scan(block, v->block_bytes, blocks, ahead, s->probe.tables, v->code_lines, &visit.sieve, found);
        for (uint32_t b = 0; b < blocks; b++)
            take_block(s, a, &visit, at + b * VX_BLOCK, found[b], pending);
    }
    s->work.scanned += visit.n;
    s->work.lists++;
}

/* As long as nothing is known, everything would pass.  So the first blocks give up their most promising ones first: those
 * that are above what about 2k of them reach without any allowance for error. */
static void warm_up(vx_search *s, vx_asked *a, vx_pending *pending)
{
    const vx_vindex *v = s->v;
    vx_visit visit;
    if (s->rough.k > WARM_K || s->ask->mask || !begin_visit(s, a, 0, &visit))
        return;
    visit.sieve.base = s->probe.base;
    uint32_t blocks = (visit.n + VX_BLOCK - 1) / VX_BLOCK;
    blocks = blocks < VX_WARM_BLOCKS ? blocks : VX_WARM_BLOCKS;
    float *key = s->warm, mean, deviation;
    for (uint32_t b = 0; b < blocks; b++) {
        const uint8_t *block = vx_block(v, visit.list, b);
        const float *scale = (const float *)(const void *)(block + v->code_lines * VX_BLOCK);
        s->kernels->scores(block, 0, 1, s->probe.tables, v->code_lines, scale, visit.sieve.step, visit.sieve.base,
                           key + b * VX_BLOCK);
    }
    uint32_t n = blocks * VX_BLOCK < visit.n ? blocks * VX_BLOCK : visit.n;
    if (n < 3 * s->rough.k)
        return;
    s->kernels->spread(key, n, &mean, &deviation);
    /* Half of them are above the mean less one deviation, unless floats can no longer tell. */
    float level = mean + 3 * deviation;
    for (int step = 14; step >= -5 && s->kernels->count(key, n, level) < s->rough.k + s->rough.k / 4; step--)
        level = mean + 0.2f * (float)step * deviation;
    for (uint32_t at = 0; at < n; at += VX_BLOCK) {
        uint32_t found = 0;
        for (uint32_t i = 0; i < VX_BLOCK && at + i < n; i++)
            found |= (uint32_t)(key[at + i] >= level) << i;
        take_block(s, a, &visit, at, found, pending);
    }
    compare_pending(s, a, pending);
}

static int by_score(const void *a, const void *b)
{
    const vx_candidate *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : (x->row > y->row) - (x->row < y->row);
}

static void sort_candidates(vx_candidate *c, uint32_t n)
{
    if (n > SORTED_BY_HAND) {
        qsort(c, n, sizeof *c, by_score);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        const vx_candidate x = c[i];
        uint32_t at = i;
        for (; at > 0 && by_score(&x, &c[at - 1]) < 0; at--)
            c[at] = c[at - 1];
        c[at] = x;
    }
}

static void fetch_row(const vx_vindex *v, uint32_t row)
{
    if (vx_bit(&v->resident, row))
        for (size_t at = 0; at < v->row_bytes && at < 4096; at += 64)
            __builtin_prefetch(vx_row(v, row) + at, 0, 2);
}

/* The candidates themselves, the most promising first, until none can be better than the k found. */
static void compare_candidates(vx_search *s, vx_asked *a)
{
    drop_candidates(s, a);
    const uint32_t n = s->candidates;
    sort_candidates(s->candidate, n);
    const vx_vindex *v = s->v;
    for (uint32_t i = 0; i < n && s->status == 0; i++) {
        for (uint32_t j = i ? i + AHEAD : 0; j <= i + AHEAD && j < n; j++)
            fetch_row(v, s->candidate[j].row);
        const float best = v->metric == VX_L2 ? 2 * s->candidate[i].score - a->shift : s->candidate[i].score;
        if (s->top.n == s->top.k && best < s->top.score[0])
            break;
        vx_compare_row(s, s->candidate[i].row);
        a->compared = i + 1;
    }
}

/* How far a list may be below what rows have to reach now.  How many are within a threshold is told by those found so far:
 * lists fall short of the best few by more. */
static float slack_of(const vx_search *s, int full)
{
    if (full)
        return s->slack;
    const float few = vx_calibrated_slack(s->g, s->ask->recall, s->rough.n > 1 ? (float)s->rough.n : 1, s->share);
    return few > s->slack ? few : s->slack;
}

/* What the i-th list has to reach to be looked into.  As long as fewer than k were found that is nothing, unless they are
 * beyond the threshold: then there may not be as many.  Nor is it for the first few when k were: of a query that is far
 * from all rows the worst of them tells little. */
static float reach_of(const vx_search *s, const vx_asked *a, uint32_t i)
{
    const int full = s->rough.n == s->rough.k || s->ask->effort;
    if (!(s->slack < INFINITY) || (full ? i < 1 + s->lists / 6 : !s->ask->limited))
        return -INFINITY;
    const float slack = slack_of(s, full);
    return slack < INFINITY ? least_of(s, a) - slack * a->length - a->add : -INFINITY;
}

/* Whether lists from the i-th on are too many. */
static int is_enough(const vx_search *s, uint32_t i)
{
    const int full = s->rough.n == s->rough.k || s->ask->effort, guess = !(s->slack < INFINITY);
    return i >= s->lists_most && (full || (guess && s->ask->limited));
}

/* The lists that were chosen; 1 when there is no reason to go on. */
static int scan_lists(vx_search *s, vx_asked *a, vx_pending *pending)
{
    vx_coming coming = {.block = s->probe.tables};
    for (uint32_t pair = 0; pair < LEAD; pair++)
        (void)next_pair(s, &coming);
    for (uint32_t i = 0; i < s->probe.n && s->status == 0; i++) {
        const float reach = reach_of(s, a, i), key = s->probe.key[i];
        /* What is behind it may be better by a bucket. */
        if (is_enough(s, i) || key + s->probe.bucket < reach)
            return 1;
        if (key < reach)
            continue;
        scan_list(s, a, i, &coming, pending);
        if (s->rough.n < s->rough.k)
            compare_pending(s, a, pending);
    }
    return s->probe.n == s->g->lists || s->status != 0;
}

/* The best of very many that are nearly as good seem better than they are, by as much as an estimate may be off: what they
 * seem to reach is too much to ask of others.  1 when that was so; what k rows do reach is asked next. */
static int asked_too_much(vx_search *s, vx_asked *a)
{
    if (a->exactly || s->status != 0 || s->top.n < s->top.k || s->rough.n < s->rough.k)
        return 0;
    const float worst = s->top.score[0], reached = s->v->metric == VX_L2 ? 0.5f * (worst + a->shift) : worst;
    const float part = a->compared / MANY >= s->top.k ? TOO_MUCH_OF_MANY : TOO_MUCH;
    if (!(vx_top_least(&s->rough) - reached > part * a->allowed))
        return 0;
    a->limit = reached > a->limit ? reached : a->limit;
    a->exactly = 1;
    return 1;
}

/* The rows that were found before are candidates at once, and found again: their 1-bit codes might leave them out now. */
static void take_found(vx_search *s, const vx_asked *a)
{
    if (make_room(s, s->top.n) != 0)
        s->status = -ENOMEM;
    for (uint32_t i = 0; i < s->top.n && s->status == 0; i++) {
        first_time(s, s->top.row[i]);
        vx_top_push(&s->rough, a->limit, s->top.row[i]);
        s->status = add_candidate(s, a, INFINITY, s->top.row[i]);
    }
    s->top.n = 0;
}

static void search_lists(vx_search *s, vx_asked *a)
{
    vx_pending pending = {.n = 0};
    s->rough.n = 0;
    s->candidates = 0;
    s->seen_n = 0;
    if (++s->turn == 0)
        s->turn = 1;
    if (a->exactly)
        take_found(s, a);
    uint32_t want = s->lists + (s->lists_most - s->lists) / 3; /* half as many again are chosen */
    for (;;) {
        vx_probe_choose(&s->probe, s->v, s->g, want, 1);
        if (s->rough.n == 0)
            warm_up(s, a, &pending);
        if (scan_lists(s, a, &pending))
            break;
        compare_pending(s, a, &pending);
        /* All that were chosen are too few: over again with more, which begin with the same, more or less. */
        if (want >= s->g->lists)
            break;
        want *= 4;
    }
    if (s->status == 0) {
        compare_pending(s, a, &pending);
        compare_candidates(s, a);
    }
}

void vx_search_lists(vx_search *s)
{
    vx_asked a;
    prepare(s, &a);
    search_lists(s, &a);
    if (asked_too_much(s, &a))
        search_lists(s, &a);
}

static void sift(vx_search *s, vx_asked *a)
{
    vx_pending pending = {.n = 0};
    const uint64_t end = vx_coded(s->v, s->g);
    s->rough.n = 0;
    s->candidates = 0;
    for (uint32_t word = 0; (uint64_t)word * 64 < end && s->status == 0; word++)
        for (uint64_t bits = vx_wanted_word(s, word); bits && s->status == 0; bits &= bits - 1) {
            const uint32_t row = word * 64 + (uint32_t)__builtin_ctzll(bits);
            fetch_code(s, row);
            if (row < end)
                pending.row[pending.n++] = row;
            if (pending.n == PENDING / 4)
                compare_pending(s, a, &pending);
        }
    compare_pending(s, a, &pending);
    if (s->status == 0)
        compare_candidates(s, a);
}

/* Every row of the mask by its 4-bit code: a quarter of what comparing the rows themselves costs. */
void vx_search_sifted(vx_search *s)
{
    vx_asked a;
    prepare(s, &a);
    sift(s, &a);
    if (asked_too_much(s, &a)) {
        s->top.n = 0; /* whose 4-bit codes promise more than what is asked now */
        sift(s, &a);
    }
}
