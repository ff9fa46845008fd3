/* The cross-layer bridge: one bounded queue between frontends and storage, index and semantic work.
 *
 * Lock-free enqueue; priority classes with weights (no class starves); batches; a lazy-sync threshold; barriers;
 * back-pressure; a latency histogram per class.  Items with one key are handled in the order they were enqueued. */
#ifndef VEXFS_BRIDGE_H
#define VEXFS_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

typedef struct vx_bridge vx_bridge;

enum vx_class { VX_CLASS_HIGH, VX_CLASS_MEDIUM, VX_CLASS_LOW, VX_CLASS_COUNT = 8 };

typedef struct {
    uint64_t key;  /* inode number: the unit of order */
    uint64_t arg;
    uint32_t kind; /* what to do: selects the handler, below VX_KIND_MAX */
    uint16_t cls;
    uint16_t flags;
} vx_item;

#define VX_KIND_MAX 16

/* Handles a batch of one kind, on the bridge's thread, without the GIL. */
typedef void (*vx_handler)(void *ctx, const vx_item *items, size_t n);

typedef struct {
    uint32_t capacity; /* items a class; rounded up to a power of two */
    uint32_t batch_size, classes;
    uint32_t weights[VX_CLASS_COUNT];
    uint32_t lazy_sync;         /* 0: a batch is handed on at once */
    uint64_t sync_threshold_ns; /* lazy sync: a batch waits at most this long to fill */
} vx_bridge_config;

typedef struct {
    uint64_t enqueued, handled, batches, barriers, rejected, waits, depth, high_water;
    uint64_t latency_count, latency_sum_ns, latency_max_ns;
} vx_bridge_stats;

vx_bridge *vx_bridge_new(const vx_bridge_config *c);
void vx_bridge_free(vx_bridge *b); /* stops; handles what is queued first */
/* fn NULL takes the handler away: returns when nothing of its kind is queued any more, and nobody may enqueue that kind
 * meanwhile.  -EBUSY: another handler is in its place and the bridge runs. */
int vx_bridge_handler(vx_bridge *b, uint32_t kind, vx_handler fn, void *ctx);
/* Whoever starts, stops or takes a handler away waits for the others; -EDEADLK from a handler. */
int vx_bridge_start(vx_bridge *b);
int vx_bridge_stop(vx_bridge *b); /* keeps what is queued; start continues */
int vx_bridge_configure(vx_bridge *b, const vx_bridge_config *c);
/* 0; -EAGAIN when the class is full and wait = 0; with wait = 1 it blocks until there is room (a handler never does: it
 * would wait for itself).  -EINVAL: the kind has no handler. */
int vx_bridge_enqueue(vx_bridge *b, const vx_item *item, int wait);
/* Returns when everything enqueued before the call has been handled; timeout_ns 0 = for ever; -ETIMEDOUT.
 * -EDEADLK from a handler. */
int vx_bridge_barrier(vx_bridge *b, uint64_t timeout_ns);
void vx_bridge_read(vx_bridge *b, int cls, vx_bridge_stats *out); /* cls -1: all */
uint64_t vx_bridge_percentile(vx_bridge *b, int cls, double percent); /* latency, ns */
void vx_bridge_reset(vx_bridge *b);
#endif
