/* Tiered memory pools: 1, 4 and 16 KiB buffers, 64-byte aligned, per-thread caches over shared free lists.
 *
 * A miss (tier empty, or size above the largest tier) falls back to an aligned allocation and is counted.  A buffer is
 * released with the size it was acquired with.  All state hangs off the pool object: several extension modules may
 * carry this code and share one pool. */
#ifndef VEXFS_POOL_H
#define VEXFS_POOL_H

#include <stddef.h>
#include <stdint.h>

#define VX_POOL_TIERS 3

typedef struct vx_pool vx_pool;

/* Who owns a buffer: shown by allocation tracking. */
enum vx_tag { VX_TAG_OTHER, VX_TAG_PAGE, VX_TAG_INLINE, VX_TAG_FRAME, VX_TAG_REQUEST, VX_TAG_QUERY, VX_TAG_INDEX,
              VX_TAG_TEST, VX_TAG_COUNT };

enum vx_pool_option { VX_POOL_ZERO_ON_FREE = 1, VX_POOL_GUARD_PAGES = 2, VX_POOL_CANARIES = 4, VX_POOL_POISON = 8,
                      VX_POOL_TRACKING = 16 };

typedef struct {
    uint64_t acquires, hits, misses, in_use, high_water, capacity, releases;
    uint64_t latency_ns[64]; /* sampled log2-linear histogram of acquire */
} vx_pool_tier_stats;

typedef struct {
    vx_pool_tier_stats tier[VX_POOL_TIERS];
    uint64_t oversize, overflows, underflows, use_after_free, double_free;
} vx_pool_stats;

/* counts: buffers of 1, 4, 16 KiB.  NULL on ENOMEM. */
vx_pool *vx_pool_new(const uint32_t counts[VX_POOL_TIERS], uint32_t options);
void vx_pool_free(vx_pool *p);
/* A buffer of at least `size` bytes, 64-byte aligned, contents undefined; NULL on ENOMEM.  p may be NULL: plain
 * aligned allocation (pools switched off). */
void *vx_pool_acquire(vx_pool *p, size_t size, int tag);
void vx_pool_release(vx_pool *p, void *buf, size_t size);
int vx_pool_resize(vx_pool *p, const uint32_t counts[VX_POOL_TIERS]);
int vx_pool_set_options(vx_pool *p, uint32_t options);
void vx_pool_read_stats(vx_pool *p, vx_pool_stats *out);
void vx_pool_reset_stats(vx_pool *p);

/* The pool of the process, made on first use with the default counts (128, 64, 32) unless configured before. */
#endif
