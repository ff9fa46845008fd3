/* One tier: its range of addresses, its stack of free buffers, its capacity. */
#include "pool_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Addresses cost nothing; counts can grow to a million buffers, bursts to several times that. */
static const size_t SPAN[VX_POOL_TIERS] = {(size_t)1 << 30, (size_t)4 << 30, (size_t)8 << 30};
static const size_t SPILL_SPAN[VX_POOL_TIERS] = {(size_t)4 << 30, (size_t)16 << 30, (size_t)16 << 30};

static size_t size_of(const vx_tier *t) { return (size_t)1 << t->shift; }

/* The range is aligned to huge pages; less of it is taken where the process's address space is limited. */
static int reserve(vx_tier *t) {
    for (uint32_t less = 0; less <= 8; less += 2) {
        size_t span = SPAN[t->index] >> less, spill = SPILL_SPAN[t->index] >> less, all = span + spill;
        char *at = mmap(NULL, all + VX_HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) continue;
        size_t head = (VX_HUGE_BYTES - (uintptr_t)at % VX_HUGE_BYTES) % VX_HUGE_BYTES;
        if (head) munmap(at, head);
        munmap(at + head + all, VX_HUGE_BYTES - head);
        t->base = at + head;
        t->span = span;
        t->spill.base = t->base + span;
        t->spill.span = spill;
        return 0;
    }
    return -ENOMEM;
}

int vx_tier_open(vx_tier *t, uint32_t index) {
    t->index = index;
    t->shift = 10 + 2 * index;
    pthread_mutex_init(&t->lock, NULL);
    pthread_mutex_init(&t->spill.lock, NULL);
    return reserve(t);
}

void vx_tier_close(vx_tier *t) {
    if (!t->shift) return;
    if (t->base) {
        vx_spill_close(t);
        VX_SHOW(t->base, (size_t)t->made << t->shift);
        munmap(t->base, t->span + t->spill.span);
    }
    free(t->stack);
    free(t->retired);
    pthread_mutex_destroy(&t->lock);
    pthread_mutex_destroy(&t->spill.lock);
}

/* Room for `n` pointers in both stacks, so that a release never has to allocate. */
static int grow_stacks(vx_tier *t, uint32_t n) {
    if (n <= t->stack_cap) return 0;
    void **stack = realloc(t->stack, n * sizeof *stack);
    if (!stack) return -ENOMEM;
    t->stack = stack;
    void **retired = realloc(t->retired, n * sizeof *retired);
    if (!retired) return -ENOMEM;
    t->retired = retired;
    t->stack_cap = n;
    return 0;
}

static int commit(vx_tier *t, uint32_t upto) {
    size_t from = (size_t)t->made << t->shift, to = (size_t)upto << t->shift;
    if (mprotect(t->base, to, PROT_READ | PROT_WRITE)) return -errno;
    /* A huge page is asked for only where it is filled: the default counts take less than half of one. */
    size_t whole = to / VX_HUGE_BYTES * VX_HUGE_BYTES;
    if (whole) madvise(t->base, whole, MADV_HUGEPAGE);
    VX_HIDE(t->base + from, to - from);
    uint32_t free_n = atomic_load_explicit(&t->free_n, memory_order_relaxed);
    for (uint32_t i = upto; i > t->made; i--) t->stack[free_n++] = t->base + ((size_t)(i - 1) << t->shift);
    atomic_store_explicit(&t->free_n, free_n, memory_order_relaxed);
    t->live += upto - t->made;
    t->made = upto;
    return 0;
}

static void retire(vx_tier *t, void *buf) {
    if (t->shift >= 12) madvise(buf, size_of(t), MADV_DONTNEED);
    t->retired[t->retired_n++] = buf;
    t->live--;
}

int vx_tier_resize(vx_tier *t, uint32_t capacity) {
    if (((size_t)capacity << t->shift) > t->span) return -E2BIG;
    pthread_mutex_lock(&t->lock);
    int rc = grow_stacks(t, capacity > t->made ? capacity : t->made);
    uint32_t free_n = atomic_load_explicit(&t->free_n, memory_order_relaxed);
    if (!rc) {
        while (t->live < capacity && t->retired_n) {
            t->stack[free_n++] = t->retired[--t->retired_n];
            t->live++;
        }
        while (t->live > capacity && free_n) retire(t, t->stack[--free_n]);
        atomic_store_explicit(&t->free_n, free_n, memory_order_relaxed);
        if (t->live < capacity) rc = commit(t, t->made + (capacity - t->live));
    }
    if (!rc) {
        uint32_t limit = capacity / 16;
        limit = limit > VX_MAG_MAX ? VX_MAG_MAX : limit;
        atomic_store_explicit(&t->capacity, capacity, memory_order_relaxed);
        atomic_store_explicit(&t->mag_limit, limit ? limit : capacity > 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

/* What this thread had in use at most since the last exchange enters the tier's peak; then its share is settled. */
static void settle(vx_tier *t, vx_mag *m) {
    int32_t n = (int32_t)atomic_load_explicit(&m->n, memory_order_relaxed);
    int32_t low = (int32_t)atomic_load_explicit(&m->low, memory_order_relaxed);
    int64_t in_use = atomic_load_explicit(&t->in_use, memory_order_relaxed);
    int64_t peak = in_use + (m->held - low) - m->settled;
    if (peak > t->in_use_peak) t->in_use_peak = peak;
    atomic_store_explicit(&t->in_use, in_use + (m->held - n) - m->settled, memory_order_relaxed);
    m->settled = m->held - n;
}

static void set_n(vx_mag *m, uint32_t n) {
    atomic_store_explicit(&m->n, n, memory_order_relaxed);
    atomic_store_explicit(&m->low, n, memory_order_relaxed);
}

void vx_tier_refill(vx_tier *t, vx_mag *m) {
    if (!atomic_load_explicit(&t->free_n, memory_order_relaxed)) return;
    pthread_mutex_lock(&t->lock);
    settle(t, m);
    uint32_t free_n = atomic_load_explicit(&t->free_n, memory_order_relaxed);
    uint32_t want = (atomic_load_explicit(&t->mag_limit, memory_order_relaxed) + 1) / 2;
    uint32_t n = want < free_n ? want : free_n;
    memcpy(m->items, t->stack + free_n - n, n * sizeof(void *));
    atomic_store_explicit(&t->free_n, free_n - n, memory_order_relaxed);
    m->held += (int32_t)n;
    set_n(m, n);
    pthread_mutex_unlock(&t->lock);
}

void vx_tier_flush(vx_tier *t, vx_mag *m, uint32_t keep) {
    pthread_mutex_lock(&t->lock);
    settle(t, m);
    uint32_t n = atomic_load_explicit(&m->n, memory_order_relaxed), moved = n > keep ? n - keep : 0;
    uint32_t capacity = atomic_load_explicit(&t->capacity, memory_order_relaxed);
    uint32_t free_n = atomic_load_explicit(&t->free_n, memory_order_relaxed);
    /* The oldest go: the newest are in this core's cache. */
    for (uint32_t i = 0; i < moved; i++) {
        if (t->live > capacity)
            retire(t, m->items[i]);
        else
            t->stack[free_n++] = m->items[i];
    }
    memmove(m->items, m->items + moved, (n - moved) * sizeof(void *));
    atomic_store_explicit(&t->free_n, free_n, memory_order_relaxed);
    m->held -= (int32_t)moved;
    set_n(m, n - moved);
    pthread_mutex_unlock(&t->lock);
}
