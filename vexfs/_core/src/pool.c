/* Acquire and release: a thread's magazine first, then the tier, then a counted miss. */
#include "pool_guard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

static const size_t LARGEST = 16384;

static void take_back(void *owner, vx_local *local) {
    vx_pool *p = owner;
    vx_cache *c = (vx_cache *)local;
    for (int i = 0; i < VX_POOL_TIERS; i++) {
        vx_tier *t = &p->tier[i];
        vx_mag *m = &c->mag[i];
        vx_tier_flush(t, m, 0);
        pthread_mutex_lock(&t->lock);
        t->acquires += vx_peek(&m->acquires);
        t->releases += vx_peek(&m->releases);
        t->misses += vx_peek(&m->misses);
        pthread_mutex_unlock(&t->lock);
    }
}

/* What reading the clock twice costs, to be taken off every sample. */
static uint32_t clock_cost(void) {
    uint64_t best = 1000;
    for (int i = 0; i < 16; i++) {
        uint64_t from = vx_now_ns(), cost = vx_now_ns() - from;
        best = cost < best ? cost : best;
    }
    return (uint32_t)best;
}

vx_pool *vx_pool_new(const uint32_t counts[VX_POOL_TIERS], uint32_t options) {
    vx_pool *p = aligned_alloc(VX_LINE, (sizeof *p + VX_LINE - 1) / VX_LINE * VX_LINE);
    if (!p) return NULL;
    memset(p, 0, sizeof *p);
    pthread_mutex_init(&p->control, NULL);
    p->clock_cost_ns = clock_cost();
    int rc = 0;
    for (uint32_t i = 0; i < VX_POOL_TIERS && !rc; i++) rc = vx_tier_open(&p->tier[i], i);
    p->locals = rc ? NULL : vx_locals_new(p, sizeof(vx_cache), take_back);
    if (!p->locals || vx_pool_resize(p, counts) || vx_pool_set_options(p, options)) {
        vx_pool_free(p);
        return NULL;
    }
    return p;
}

void vx_pool_free(vx_pool *p) {
    if (!p) return;
    vx_locals_free(p->locals);
    vx_hard_free(p->hard);
    for (int i = 0; i < VX_POOL_TIERS; i++) vx_tier_close(&p->tier[i]);
    pthread_mutex_destroy(&p->control);
    free(p);
}

static void *plain(size_t size) {
    if (size > SIZE_MAX - VX_LINE) return NULL;
    return aligned_alloc(VX_LINE, (size + VX_LINE - (size > 0)) / VX_LINE * VX_LINE);
}

static void *beyond(vx_tier *t, vx_mag *m) {
    int fresh = 1;
    void *buf = vx_spill_acquire(t, &fresh);
    if (fresh) vx_bump(&m->misses, 1);
    return buf;
}

static void *refilled(vx_tier *t, vx_mag *m) {
    vx_tier_refill(t, m);
    uint32_t n = atomic_load_explicit(&m->n, memory_order_relaxed);
    if (!n) return beyond(t, m);
    atomic_store_explicit(&m->n, n - 1, memory_order_relaxed);
    atomic_store_explicit(&m->low, n - 1, memory_order_relaxed);
    return m->items[n - 1];
}

static inline void *take(vx_tier *t, vx_mag *m) {
    uint32_t n = atomic_load_explicit(&m->n, memory_order_relaxed);
    if (VX_UNLIKELY(!n)) return refilled(t, m);
    atomic_store_explicit(&m->n, --n, memory_order_relaxed);
    if (n < atomic_load_explicit(&m->low, memory_order_relaxed))
        atomic_store_explicit(&m->low, n, memory_order_relaxed);
    return m->items[n];
}

static __attribute__((noinline)) void *take_sampled(vx_pool *p, vx_tier *t, vx_mag *m, size_t size) {
    uint64_t from = vx_now_ns();
    void *buf = take(t, m);
    vx_pool_note(p, t, m, size, from);
    return buf;
}

static __attribute__((noinline)) void *acquire_apart(vx_pool *p, size_t size, int tag) {
    int off = p && atomic_load_explicit(&p->options, memory_order_relaxed) & VX_POOL_OFF;
    if (p && !off && size <= LARGEST) return vx_hard_acquire(p, vx_tier_of(size), size, tag);
    if (p && !off) atomic_fetch_add_explicit(&p->oversize, 1, memory_order_relaxed);
    return plain(size);
}

void *vx_pool_acquire(vx_pool *p, size_t size, int tag) {
    if (VX_UNLIKELY(!p || size > LARGEST)) return acquire_apart(p, size, tag);
    if (VX_UNLIKELY(atomic_load_explicit(&p->options, memory_order_relaxed) & ~VX_POOL_ZERO_ON_FREE))
        return acquire_apart(p, size, tag);
    vx_cache *c = (vx_cache *)vx_local_of(p, p->locals, VX_LOCAL_POOL);
    if (VX_UNLIKELY(!c)) return NULL;
    uint32_t i = vx_tier_of(size);
    vx_tier *t = &p->tier[i];
    vx_mag *m = &c->mag[i];
    vx_bump(&m->acquires, 1);
    void *buf = VX_UNLIKELY(vx_peek(&m->acquires) % VX_SAMPLE_EVERY == 0) ? take_sampled(p, t, m, size) : take(t, m);
    VX_SHOW(buf, buf ? size : 0);
    return buf;
}

static inline void put(vx_tier *t, vx_mag *m, void *buf) {
    VX_HIDE(buf, (size_t)1 << t->shift);
    uint32_t n = atomic_load_explicit(&m->n, memory_order_relaxed);
    uint32_t limit = atomic_load_explicit(&t->mag_limit, memory_order_relaxed);
    if (VX_UNLIKELY(n >= limit)) {
        vx_tier_flush(t, m, limit / 2);
        n = atomic_load_explicit(&m->n, memory_order_relaxed);
    }
    m->items[n] = buf;
    atomic_store_explicit(&m->n, n + 1, memory_order_relaxed);
    /* A capacity of 0 keeps nothing here. */
    if (VX_UNLIKELY(!limit)) vx_tier_flush(t, m, 0);
}

/* Not in the range of the tier that its size names: a miss, oversize, under guard, plain, or a wrong size. */
static __attribute__((noinline)) void release_apart(vx_pool *p, vx_cache *c, void *buf, size_t size) {
    if (p && p->hard && vx_hard_release(p, buf, size)) return;
    for (uint32_t i = 0; p && i < VX_POOL_TIERS; i++) {
        vx_tier *t = &p->tier[i];
        int owned = vx_tier_owns(t, buf);
        if (!owned && !vx_tier_spilled(t, buf)) continue;
        if (size > LARGEST || vx_tier_of(size) != i) atomic_fetch_add_explicit(&p->bad_size, 1, memory_order_relaxed);
        if (!c) return; /* no memory for this thread's magazine: the buffer is lost, nothing else */
        vx_bump(&c->mag[i].releases, 1);
        if (owned)
            put(t, &c->mag[i], buf);
        else
            vx_spill_release(t, buf);
        return;
    }
    free(buf);
}

/* The barrier keeps the compiler from dropping a store to memory that is about to be freed. */
static void wipe(void *buf, size_t size) {
    memset(buf, 0, size);
    __asm__ volatile("" ::"r"(buf) : "memory");
}

void vx_pool_release(vx_pool *p, void *buf, size_t size) {
    if (!buf) return;
    uint32_t options = p ? atomic_load_explicit(&p->options, memory_order_relaxed) : 0;
    if (VX_UNLIKELY(options)) {
        if (p->hard && vx_hard_release(p, buf, size)) return;
        if (options & VX_POOL_ZERO_ON_FREE) wipe(buf, size);
    }
    vx_cache *c = p ? (vx_cache *)vx_local_of(p, p->locals, VX_LOCAL_POOL) : NULL;
    uint32_t i = vx_tier_of(size);
    if (VX_UNLIKELY(!c || size > LARGEST || !vx_tier_owns(&p->tier[i], buf))) {
        release_apart(p, c, buf, size);
        return;
    }
    vx_bump(&c->mag[i].releases, 1);
    put(&p->tier[i], &c->mag[i], buf);
}

int vx_pool_resize(vx_pool *p, const uint32_t counts[VX_POOL_TIERS]) {
    pthread_mutex_lock(&p->control);
    int rc = 0;
    for (int i = 0; i < VX_POOL_TIERS && !rc; i++) rc = vx_tier_resize(&p->tier[i], counts[i]);
    pthread_mutex_unlock(&p->control);
    return rc;
}

int vx_pool_set_options(vx_pool *p, uint32_t options) {
    if (options >> 6) return -EINVAL;
    pthread_mutex_lock(&p->control);
    int rc = 0;
    if ((options & ~(VX_POOL_ZERO_ON_FREE | VX_POOL_OFF)) && !p->hard) {
        vx_hard *hard = vx_hard_new();
        if (hard)
            p->hard = hard;
        else
            rc = -ENOMEM;
    }
    if (!rc && options & VX_POOL_GUARD_PAGES) vx_fault_watch(p->hard);
    if (!rc) atomic_store_explicit(&p->options, options, memory_order_release);
    pthread_mutex_unlock(&p->control);
    return rc;
}

void vx_pool_trim(vx_pool *p) {
    for (int i = 0; i < VX_POOL_TIERS; i++) vx_spill_trim(&p->tier[i]);
}
