/* Counters of the pools, put together from the threads' own when somebody asks. */
#include <string.h>

#include "clock.h"
#include "pool_internal.h"

/* Four buckets an octave: exact below 8, within an eighth above. */
static uint32_t bucket_of(uint64_t v) {
    if (v < 4) return (uint32_t)v;
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(v);
    uint32_t i = (octave - 1) * 4 + (uint32_t)((v >> (octave - 2)) & 3);
    return i < VX_POOL_BUCKETS ? i : VX_POOL_BUCKETS - 1;
}

uint64_t vx_pool_bucket(uint32_t i) {
    if (i < 4) return i;
    uint32_t octave = i / 4 + 1;
    return ((uint64_t)(5 + i % 4) << (octave - 2)) - 1;
}

void vx_pool_note(vx_pool *p, vx_tier *t, const vx_mag *m, size_t size, uint64_t started_ns) {
    uint64_t took = vx_now_ns() - started_ns;
    took = took > p->clock_cost_ns ? took - p->clock_cost_ns : 0;
    int64_t in_use = atomic_load_explicit(&t->in_use, memory_order_relaxed) + (m->held - m->settled) -
                     (int32_t)atomic_load_explicit(&m->n, memory_order_relaxed) +
                     atomic_load_explicit(&t->missed, memory_order_relaxed);
    uint64_t demand = in_use > 0 ? (uint64_t)in_use : 0;
    atomic_fetch_add_explicit(&t->latency[bucket_of(took)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->demand[bucket_of(demand)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->asked_bytes, size, memory_order_relaxed);
}

typedef struct {
    vx_pool *pool;
    vx_pool_stats *out;
    int64_t in_use[VX_POOL_TIERS], peak[VX_POOL_TIERS];
} gather;

static void add_thread(gather *g, vx_local *local) {
    vx_cache *c = (vx_cache *)local;
    for (int i = 0; i < VX_POOL_TIERS; i++) {
        vx_mag *m = &c->mag[i];
        vx_pool_tier_stats *s = &g->out->tier[i];
        s->acquires += vx_peek(&m->acquires);
        s->releases += vx_peek(&m->releases);
        s->misses += vx_peek(&m->misses);
        pthread_mutex_lock(&g->pool->tier[i].lock);
        int32_t n = (int32_t)atomic_load_explicit(&m->n, memory_order_relaxed);
        int32_t low = (int32_t)atomic_load_explicit(&m->low, memory_order_relaxed);
        g->in_use[i] += m->held - n - m->settled;
        g->peak[i] += m->held - low - m->settled;
        pthread_mutex_unlock(&g->pool->tier[i].lock);
    }
}

static void read_tier(vx_tier *t, vx_pool_tier_stats *s, int64_t in_use, int64_t peak) {
    pthread_mutex_lock(&t->lock);
    s->acquires += t->acquires;
    s->releases += t->releases;
    s->misses += t->misses;
    int64_t settled = atomic_load_explicit(&t->in_use, memory_order_relaxed);
    in_use += settled;
    peak += settled;
    if (t->in_use_peak > peak) peak = t->in_use_peak;
    pthread_mutex_unlock(&t->lock);
    in_use += atomic_load_explicit(&t->missed, memory_order_relaxed);
    peak += atomic_load_explicit(&t->missed_peak, memory_order_relaxed);
    s->in_use = in_use > 0 ? (uint64_t)in_use : 0;
    s->high_water = peak > 0 ? (uint64_t)peak : 0;
    s->capacity = atomic_load_explicit(&t->capacity, memory_order_relaxed);
    pthread_mutex_lock(&t->spill.lock);
    s->kept = t->spill.unused;
    s->recycled = t->spill.recycled;
    pthread_mutex_unlock(&t->spill.lock);
    for (int b = 0; b < VX_POOL_BUCKETS; b++) {
        s->latency_ns[b] = vx_peek(&t->latency[b]);
        s->demand[b] = vx_peek(&t->demand[b]);
        s->sampled += s->demand[b];
    }
    s->sampled_bytes = vx_peek(&t->asked_bytes);
}

static void read_all(vx_pool *p, vx_pool_stats *out) {
    memset(out, 0, sizeof *out);
    gather g = {.pool = p, .out = out};
    for (vx_local *local = vx_locals_lock(p->locals); local; local = local->next_of_owner) add_thread(&g, local);
    for (int i = 0; i < VX_POOL_TIERS; i++) read_tier(&p->tier[i], &out->tier[i], g.in_use[i], g.peak[i]);
    vx_locals_unlock(p->locals);
    out->oversize = vx_peek(&p->oversize);
    out->bad_size = vx_peek(&p->bad_size);
    if (p->hard) vx_hard_stats(p, out);
}

/* A thread may have counted on between two readings: never below zero. */
static uint64_t minus(uint64_t now, uint64_t then) { return now > then ? now - then : 0; }

static void subtract_tier(vx_pool_tier_stats *s, const vx_pool_tier_stats *then) {
    s->acquires = minus(s->acquires, then->acquires);
    s->releases = minus(s->releases, then->releases);
    s->misses = minus(s->misses, then->misses);
    s->recycled = minus(s->recycled, then->recycled);
    s->sampled = minus(s->sampled, then->sampled);
    s->sampled_bytes = minus(s->sampled_bytes, then->sampled_bytes);
    for (int b = 0; b < VX_POOL_BUCKETS; b++) {
        s->latency_ns[b] = minus(s->latency_ns[b], then->latency_ns[b]);
        s->demand[b] = minus(s->demand[b], then->demand[b]);
    }
}

void vx_pool_read_stats(vx_pool *p, vx_pool_stats *out) {
    pthread_mutex_lock(&p->control);
    read_all(p, out);
    const vx_pool_stats *then = &p->since;
    for (int i = 0; i < VX_POOL_TIERS; i++) {
        vx_pool_tier_stats *s = &out->tier[i];
        subtract_tier(s, &then->tier[i]);
        if (s->misses > s->acquires) s->misses = s->acquires; /* a thread counted between two of our looks */
        s->hits = s->acquires - s->misses;
    }
    out->oversize = minus(out->oversize, then->oversize);
    out->overflows = minus(out->overflows, then->overflows);
    out->underflows = minus(out->underflows, then->underflows);
    out->use_after_free = minus(out->use_after_free, then->use_after_free);
    out->double_free = minus(out->double_free, then->double_free);
    out->bad_size = minus(out->bad_size, then->bad_size);
    pthread_mutex_unlock(&p->control);
}

/* The next peak starts from what is in use now. */
static void restart_peaks(vx_pool *p, vx_local *local) {
    vx_cache *c = (vx_cache *)local;
    for (int i = 0; i < VX_POOL_TIERS; i++) {
        vx_mag *m = &c->mag[i];
        pthread_mutex_lock(&p->tier[i].lock);
        atomic_store_explicit(&m->low, atomic_load_explicit(&m->n, memory_order_relaxed), memory_order_relaxed);
        pthread_mutex_unlock(&p->tier[i].lock);
    }
}

void vx_pool_reset_stats(vx_pool *p) {
    pthread_mutex_lock(&p->control);
    read_all(p, &p->since);
    for (vx_local *local = vx_locals_lock(p->locals); local; local = local->next_of_owner) restart_peaks(p, local);
    vx_locals_unlock(p->locals);
    for (int i = 0; i < VX_POOL_TIERS; i++) {
        vx_tier *t = &p->tier[i];
        pthread_mutex_lock(&t->lock);
        t->in_use_peak = 0;
        pthread_mutex_unlock(&t->lock);
        atomic_store_explicit(&t->missed_peak, atomic_load_explicit(&t->missed, memory_order_relaxed),
                              memory_order_relaxed);
    }
    if (p->hard) vx_hard_restart_peaks(p->hard);
    pthread_mutex_unlock(&p->control);
}
