/* Tiered memory pools: 1, 4 and 16 KiB buffers, 64-byte aligned, per-thread caches over shared free lists.
 *
 * When a tier is empty, buffers that earlier bursts left behind serve (a hit, counted as recycled, too); when there are
 * none, new memory is taken, which is a miss.  Sizes above the largest tier go to the allocator and are counted apart.
 * A buffer is released with the size it was acquired with.  All state hangs off the pool object: several extension modules may
 * carry this code and share one pool. */
#ifndef VEXFS_POOL_H
#define VEXFS_POOL_H

#include <stddef.h>
#include <stdint.h>

#define VX_POOL_TIERS 3
#define VX_POOL_BUCKETS 64

typedef struct vx_pool vx_pool;

/* Who owns a buffer: shown by allocation tracking. */
enum vx_tag { VX_TAG_OTHER, VX_TAG_PAGE, VX_TAG_FRAME, VX_TAG_REQUEST, VX_TAG_QUERY, VX_TAG_TEST, VX_TAG_COUNT };

enum vx_pool_option { VX_POOL_ZERO_ON_FREE = 1, VX_POOL_GUARD_PAGES = 2, VX_POOL_CANARIES = 4, VX_POOL_POISON = 8,
                      VX_POOL_TRACKING = 16,
                      VX_POOL_OFF = 32 /* plain aligned allocation, not counted; may be switched while in use */ };

/* in_use and high_water count buffers of the pool and misses alike.  The sampled figures stand for one acquire in 64:
 * latency of the acquire, buffers in use at that moment (the demand that a capacity has to meet), bytes asked for. */
typedef struct {
    uint64_t acquires, hits, misses, in_use, high_water, capacity, releases;
    uint64_t latency_ns[VX_POOL_BUCKETS]; /* log2-linear histogram, bounds by vx_pool_bucket */
    uint64_t demand[VX_POOL_BUCKETS];     /* likewise */
    uint64_t sampled, sampled_bytes;
    uint64_t recycled; /* hits beyond the capacity, from what was kept of earlier misses */
    uint64_t kept;     /* how much of it there is now */
} vx_pool_tier_stats;

typedef struct {
    vx_pool_tier_stats tier[VX_POOL_TIERS];
    uint64_t oversize, overflows, underflows, use_after_free, double_free, bad_size;
} vx_pool_stats;

/* The largest value that falls into bucket i; the last bucket also holds everything above. */
uint64_t vx_pool_bucket(uint32_t i);

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
/* Gives back to the system what is kept of released misses. */
void vx_pool_trim(vx_pool *p);

/* -- hardened mode ----------------------------------------------------------------------------------------------
 * Any option but zero on free puts every buffer under guard by itself; buffers acquired before keep their old ways.
 * Damage is found when a buffer is released, when a free one is handed out again, and by vx_pool_check. */
enum vx_violation_kind { VX_POOL_OVERFLOW = 1, VX_POOL_UNDERFLOW, VX_POOL_USE_AFTER_FREE, VX_POOL_DOUBLE_FREE,
                         VX_POOL_BAD_SIZE };

typedef struct {
    uint32_t kind, tag, tier;
    int32_t offset; /* of the first damaged byte, relative to the buffer */
    uint64_t size, address, time_ns, serial;
} vx_pool_violation;

typedef struct {
    uint64_t count, bytes, oldest_ns;
} vx_pool_owner;

/* Looks at every hardened buffer, in use or free; the number of violations newly found. */
size_t vx_pool_check(vx_pool *p);
/* The last violations, oldest first; how many were written (at most n; 64 are kept). */
size_t vx_pool_violations(vx_pool *p, vx_pool_violation *out, size_t n);
/* Tracking: hardened buffers in use per owner's tag; oldest_ns is the age of the oldest. */
void vx_pool_owners(vx_pool *p, vx_pool_owner out[VX_TAG_COUNT]);
const char *vx_pool_violation_name(uint32_t kind);
const char *vx_pool_tag_name(uint32_t tag);
#endif
