/* Inside of the pools: a tier is one reserved range of addresses, so that one comparison tells whose a buffer is.
 *
 *   thread's magazine  <- batches ->  tier's stack of free buffers  <- commit, retire ->  reserved range
 *   a miss             <- one by one ->  spill: chunks behind the tier in the same range
 *
 * Lock order: list of thread blocks, then tier, then hardened table. */
#ifndef VEXFS_SRC_POOL_INTERNAL_H
#define VEXFS_SRC_POOL_INTERNAL_H

#include "local.h"
#include "vexfs/pool.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define VX_HIDE(at, n) ASAN_POISON_MEMORY_REGION(at, n)
#define VX_SHOW(at, n) ASAN_UNPOISON_MEMORY_REGION(at, n)
#else
#define VX_HIDE(at, n) ((void)(at), (void)(n))
#define VX_SHOW(at, n) ((void)(at), (void)(n))
#endif

#define VX_MAG_MAX 32
#define VX_SAMPLE_EVERY 64u /* one acquire in so many is timed and its demand noted */
#define VX_HUGE_BYTES ((size_t)2 << 20)

/* A thread's own buffers of one tier.  Written by its thread; `held` and `settled` under the tier's lock. */
typedef struct {
    _Atomic uint32_t n, low; /* buffers here; the fewest since the last exchange with the tier */
    int32_t held, settled;   /* net buffers taken from the tier; in use at the last exchange */
    _Atomic uint64_t acquires, releases, misses;
    void *items[VX_MAG_MAX];
} vx_mag;

typedef struct {
    _Alignas(VX_LINE) vx_local local;
    vx_mag mag[VX_POOL_TIERS];
} vx_cache;

struct vx_chunk;

typedef struct {
    char *base;
    size_t span;
    _Alignas(VX_LINE) pthread_mutex_t lock;
    struct vx_chunk **table, *open;
    uint32_t table_n, chunk_n, kept; /* kept: chunks that hold memory and no buffer in use */
    uint64_t unused; /* buffers that were used and wait to be used again */
    uint64_t recycled;
} vx_spill;

typedef struct {
    char *base;
    size_t span; /* reserved bytes */
    uint32_t shift, index;
    _Atomic uint32_t mag_limit;

    _Alignas(VX_LINE) pthread_mutex_t lock;
    _Atomic uint32_t free_n, capacity;
    uint32_t live, made; /* buffers in circulation; ever committed */
    uint32_t stack_cap;
    void **stack;   /* free buffers, newest last */
    void **retired; /* taken out of circulation by a smaller capacity */
    uint32_t retired_n;
    _Atomic int64_t in_use; /* pool buffers in use as of the last exchanges */
    int64_t in_use_peak;

    vx_spill spill;
    _Alignas(VX_LINE) _Atomic int64_t missed; /* misses in use */
    _Atomic int64_t missed_peak;

    _Alignas(VX_LINE) _Atomic uint64_t latency[VX_POOL_BUCKETS], demand[VX_POOL_BUCKETS];
    _Atomic uint64_t asked_bytes; /* of sampled acquires */
    uint64_t acquires, releases, misses; /* of threads that ended, and of the hardened path */
} vx_tier;

typedef struct vx_hard vx_hard;

struct vx_pool {
    _Atomic uint32_t options;
    vx_locals *locals;
    _Atomic(vx_hard *) hard; /* made with the first hardened option, kept until the end */
    vx_tier tier[VX_POOL_TIERS];
    _Atomic uint64_t oversize, bad_size;
    pthread_mutex_t control; /* resize, options, reset */
    uint32_t clock_cost_ns;
    vx_pool_stats since; /* what the counters stood at when they were last reset */
};

static inline uint32_t vx_tier_of(size_t size) { return size <= 1024 ? 0 : size <= 4096 ? 1 : 2; }

static inline int vx_tier_owns(const vx_tier *t, const void *buf) {
    return (size_t)((const char *)buf - t->base) < t->span;
}

static inline int vx_tier_spilled(const vx_tier *t, const void *buf) {
    return (size_t)((const char *)buf - t->spill.base) < t->spill.span;
}

int vx_tier_open(vx_tier *t, uint32_t index);
void vx_tier_close(vx_tier *t);
int vx_tier_resize(vx_tier *t, uint32_t capacity);
/* Fills a magazine or empties part of it; a magazine may stay empty when the tier is. */
void vx_tier_refill(vx_tier *t, vx_mag *m);
void vx_tier_flush(vx_tier *t, vx_mag *m, uint32_t keep);

/* NULL on ENOMEM; *fresh: the memory is new to the pool, not left behind by an earlier miss. */
void *vx_spill_acquire(vx_tier *t, int *fresh);
void vx_spill_release(vx_tier *t, void *buf);
void vx_spill_trim(vx_tier *t);
void vx_spill_close(vx_tier *t);

void vx_pool_note(vx_pool *p, vx_tier *t, const vx_mag *m, size_t size, uint64_t started_ns);

vx_hard *vx_hard_new(void);
void vx_hard_free(vx_hard *h);
void vx_hard_restart_peaks(vx_hard *h);
void *vx_hard_acquire(vx_pool *p, uint32_t tier, size_t size, int tag);
/* 1 when the buffer is (or was) a hardened one and has been dealt with. */
int vx_hard_release(vx_pool *p, void *buf, size_t size);
void vx_hard_stats(vx_pool *p, vx_pool_stats *out);

#endif
