/* A search: what is needed for it, which way it goes, and its queries dealt out to threads. */
#include <errno.h>
#include <math.h>

#include "vindex_impl.h"

/* A mask that leaves no more rows than this has them compared one by one; one that leaves fewer than so many, or than this
 * share of all, has them sifted by their codes.  Others are looked for in the lists. */
#define MASKED_EXACT 100u
#define MASKED_ROWS 2000u
#define MASKED_SHARE 50u

/* Codes have a say only where errors are spread over more dimensions than these; such rows are short to compare. */
#define FLAT_DIM 2u

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static uint8_t *carve(uint8_t **at, size_t bytes)
{
    uint8_t *here = *at;
    *at += rounded(bytes);
    return here;
}

int vx_search_begin(vx_search *s, vx_vindex *v, const vx_vindex_ask *ask)
{
    const vx_generation *g = s->g;
    const size_t padded = v->padded, k = ask->k;
    memset(&s->work, 0, sizeof s->work);
    s->v = v;
    s->ask = ask;
    s->kernels = vx_vkernels_in(v);
    s->status = 0;
    const size_t probe = vx_probe_bytes(v, g->lists);
    const size_t warm = VX_WARM_BLOCKS * VX_BLOCK * sizeof(float);
    s->memory_bytes = probe + rounded(v->dim * 4) + rounded(padded) + warm + rounded(v->row_bytes) + 4 * rounded(k * 4);
    s->candidates_room = 256 + 4 * (uint32_t)k;
    s->seen_room = 512;
    while (s->seen_room < 8 * k)
        s->seen_room *= 2;
    s->turn = 0;
    s->memory = vx_pool_acquire(v->pool, s->memory_bytes, VX_TAG_QUERY);
    s->candidate = malloc(s->candidates_room * sizeof *s->candidate);
    s->seen = calloc(s->seen_room, sizeof *s->seen);
    if (!s->memory || !s->candidate || !s->seen) {
        vx_search_end(s);
        return -ENOMEM;
    }
    uint8_t *at = s->memory;
    vx_probe_carve(&s->probe, v, g->lists, carve(&at, probe));
    s->q = (float *)(void *)carve(&at, v->dim * 4);
    s->q8 = (int8_t *)carve(&at, padded);
    s->warm = (float *)(void *)carve(&at, warm);
    s->stored = carve(&at, v->row_bytes);
    s->top = (vx_top){(float *)(void *)carve(&at, k * 4), (uint32_t *)(void *)carve(&at, k * 4), ask->k, 0};
    s->rough = (vx_top){(float *)(void *)carve(&at, k * 4), (uint32_t *)(void *)carve(&at, k * 4), ask->k, 0};
    return 0;
}

void vx_search_end(vx_search *s)
{
    if (s->memory)
        vx_pool_release(s->v->pool, s->memory, s->memory_bytes);
    free(s->candidate);
    free(s->seen);
    s->memory = NULL;
    s->candidate = NULL;
    s->seen = NULL;
}

/* The least key that is within the threshold; slack for rounding, the distances themselves are looked at in the end. */
static float least_key(const vx_search *s)
{
    const float t = s->ask->threshold;
    if (!s->ask->limited)
        return -INFINITY;
    if (s->v->metric == VX_L2)
        return t < 0 ? INFINITY : -t * t * 1.00001f;
    return s->v->metric == VX_COSINE ? 1 - t - 1e-6f : -t - fabsf(t) * 1e-6f;
}

static void set_query(vx_search *s, const float *q)
{
    const vx_vindex *v = s->v;
    const float scale = v->metric == VX_COSINE ? vx_row_inverse_norm(v, q) : 1;
    float *own = (float *)(uintptr_t)s->q;
    for (uint32_t i = 0; i < v->dim; i++)
        own[i] = q[i] * scale;
    s->top.n = 0;
    s->least = least_key(s);
}

void vx_search_one(vx_search *s, const float *q)
{
    set_query(s, q);
    s->work.queries++;
    switch (s->work.plan) {
    case VX_PLAN_EMPTY: break;
    case VX_PLAN_EXACT: s->ask->mask ? vx_search_masked(s) : vx_search_exact(s); break;
    case VX_PLAN_ROWS: vx_search_only(s); break;
    case VX_PLAN_SIFT: vx_search_sifted(s); break;
    default: vx_search_lists(s);
    }
    vx_top_sort(&s->top);
}

/* How many rows the mask lets through. */
static uint64_t allowed(const vx_vindex *v, const vx_vindex_ask *ask)
{
    const uint64_t end = atomic_load(&v->end), bits = ask->mask_bits < end ? ask->mask_bits : end;
    const uint64_t *alive = (const uint64_t *)(const void *)v->alive.at;
    uint64_t n = 0;
    for (uint64_t word = 0; word < bits / 64; word++)
        n += (uint64_t)__builtin_popcountll(ask->mask[word] & alive[word]);
    if (bits % 64)
        n += (uint64_t)__builtin_popcountll(ask->mask[bits / 64] & alive[bits / 64] &
                                            (((uint64_t)1 << bits % 64) - 1));
    return n;
}

static uint32_t choose_plan(const vx_vindex *v, const vx_generation *g, const vx_vindex_ask *ask, uint64_t candidates)
{
    const uint64_t live = atomic_load(&v->live);
    if (live == 0 || (ask->mask && candidates == 0))
        return VX_PLAN_EMPTY;
    if (ask->only)
        return VX_PLAN_ROWS;
    const int small = live <= VX_EXACT_ROWS || candidates <= MASKED_EXACT || v->dim <= FLAT_DIM;
    const int all = ask->recall >= 1 && ask->effort == 0; /* estimates overlook a few, however wide they are taken */
    if (ask->exact == 1 || (ask->exact < 0 && (small || all)))
        return VX_PLAN_EXACT;
    if (ask->mask && ask->exact < 0 && candidates < MASKED_ROWS + live / MASKED_SHARE + 8 * (uint64_t)ask->k)
        return VX_PLAN_SIFT;
    return g->lists == 1 ? VX_PLAN_FLAT : VX_PLAN_LISTS;
}

/* How many lists to look into, and how wide the bounds are taken. */
static void set_effort(vx_search *s, uint64_t candidates)
{
    const vx_generation *g = s->g;
    const vx_vindex_ask *ask = s->ask;
    const uint64_t live = atomic_load(&s->v->live);
    const float share = s->share = live > candidates ? (float)candidates / (float)live : 1;
    s->width = ask->recall > 0.995f ? 3.0f : ask->recall >= 0.98f || s->work.plan == VX_PLAN_SIFT ? 2.2f : 1.8f;
    s->lists = s->lists_most = ask->effort;
    s->slack = INFINITY;
    if (ask->effort)
        return;
    s->lists = vx_calibrated_lists(g, ask->recall, (float)ask->k, share);
    s->slack = vx_calibrated_slack(g, ask->recall, (float)ask->k, share);
    if (s->lists == 0) {
        const float missed = 1.0001f - ask->recall, lists = 10 + 1.2f / (missed * share);
        s->lists = ask->recall >= 1 || lists > (float)g->lists ? g->lists : (uint32_t)lists;
    }
    /* What k rows take at least, when lists are not much longer than k. */
    const uint64_t per_list = live * g->places / g->lists + 1, least = 3 * (uint64_t)ask->k / per_list;
    if (s->lists < least)
        s->lists = least < g->lists ? (uint32_t)least : g->lists;
    s->lists_most = s->slack < INFINITY ? VX_LISTS_MOST * s->lists : s->lists;
}

static float distance_of(const vx_search *s, float key)
{
    if (s->v->metric == VX_L2)
        return sqrtf(-key);
    if (s->v->metric == VX_DOT)
        return -key;
    const float distance = 1 - key;
    return distance < 0 ? 0 : distance > 2 ? 2 : distance;
}

typedef struct {
    vx_vindex *v;
    const vx_vindex_ask *ask;
    const float *q;
    size_t n;
    uint32_t *rows, *filled;
    float *distances;
    uint32_t plan;
    uint64_t candidates;
    vx_generation *g;
    vx_vindex_work work;
    int status;
    pthread_t thread;
} vx_share;

static void *search_share(void *what)
{
    vx_share *share = what;
    vx_search s = {.g = share->g};
    share->status = vx_search_begin(&s, share->v, share->ask);
    if (share->status != 0)
        return NULL;
    s.work.plan = share->plan;
    set_effort(&s, share->candidates);
    const size_t k = share->ask->k;
    for (size_t i = 0; i < share->n && s.status == 0; i++) {
        vx_search_one(&s, share->q + i * share->v->dim);
        uint32_t n = 0;
        for (uint32_t j = 0; j < s.top.n; j++) {
            const float distance = distance_of(&s, s.top.score[j]);
            if (share->ask->limited && !(distance <= share->ask->threshold))
                continue;
            share->rows[i * k + n] = s.top.row[j];
            share->distances[i * k + n++] = distance;
        }
        share->filled[i] = n;
        for (; n < k; n++) {
            share->rows[i * k + n] = VX_VINDEX_NONE;
            share->distances[i * k + n] = INFINITY;
        }
    }
    share->status = s.status;
    share->work = s.work;
    vx_search_end(&s);
    return NULL;
}

static void add_work(vx_vindex_work *to, const vx_vindex_work *from)
{
    to->queries += from->queries;
    to->lists += from->lists;
    to->scanned += from->scanned;
    to->fine += from->fine;
    to->exact += from->exact;
    to->fetched += from->fetched;
}

static int run_shares(const vx_share *whole, size_t nq, uint32_t threads, vx_vindex_work *work)
{
    vx_share *share = calloc(threads, sizeof *share);
    if (!share)
        return -ENOMEM;
    const size_t k = whole->ask->k;
    size_t at = 0;
    uint32_t started = 0;
    for (uint32_t t = 0; t < threads; t++) {
        const size_t until = nq * (t + 1) / threads;
        share[t] = *whole;
        share[t].q += at * whole->v->dim;
        share[t].rows += at * k;
        share[t].distances += at * k;
        share[t].filled += at;
        share[t].n = until - at;
        at = until;
        if (t + 1 == threads || pthread_create(&share[t].thread, NULL, search_share, &share[t]) != 0) {
            /* The last share is this thread's own, and so is all that no thread could be had for. */
            share[t].n += nq - until;
            search_share(&share[t]);
            started = t;
            break;
        }
    }
    int status = share[started].status;
    for (uint32_t t = 0; t < started; t++) {
        pthread_join(share[t].thread, NULL);
        status = status ? status : share[t].status;
        add_work(work, &share[t].work);
    }
    add_work(work, &share[started].work);
    free(share);
    return status;
}

int vx_vindex_search(vx_vindex *v, const float *q, size_t nq, const vx_vindex_ask *ask, uint32_t *rows, float *distances,
                     uint32_t *filled, vx_vindex_work *work)
{
    if (ask->k == 0 || ask->k > VX_VINDEX_K_MAX)
        return -EINVAL;
    vx_vindex_work own;
    work = work ? work : &own;
    memset(work, 0, sizeof *work);
    if (nq == 0)
        return 0;
    const uint64_t ticket = vx_epoch_enter(v);
    vx_share whole = {.v = v, .ask = ask, .q = q, .n = nq, .rows = rows, .distances = distances, .filled = filled};
    whole.g = atomic_load(&v->generation);
    whole.candidates = ask->mask ? allowed(v, ask) : atomic_load(&v->live);
    whole.plan = choose_plan(v, whole.g, ask, whole.candidates);
    const uint32_t threads = ask->threads > 1 && nq > 1 ? (ask->threads < nq ? ask->threads : (uint32_t)nq) : 1;
    int status;
    if (threads > 1) {
        status = run_shares(&whole, nq, threads, work);
    } else {
        search_share(&whole);
        status = whole.status;
        *work = whole.work;
    }
    work->plan = whole.plan;
    if (whole.plan == VX_PLAN_LISTS && ask->effort == 0)
        vx_recent_note(v, q, nq);
    work->lists_total = whole.g->lists;
    vx_epoch_leave(v, ticket);
    atomic_fetch_add_explicit(&v->searches, nq, memory_order_relaxed);
    vx_simd_count(v->simd, work->lists + work->exact, work->scanned + work->fine + work->exact);
    return status;
}
