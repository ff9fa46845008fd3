/* Inside of the bridge.  bridge.c is what callers reach, bridge_worker.c the thread that hands items on.
 *
 * Order per key across classes: while a key has items in one class, later items of that key join that class, whatever
 * they asked for.  Keys share slots by hash, which may cost a class its say, never the order. */
#ifndef VEXFS_SRC_BRIDGE_INTERNAL_H
#define VEXFS_SRC_BRIDGE_INTERNAL_H

#include <pthread.h>

#include "bridge_queue.h"
#include "hist.h"

#define VX_BRIDGE_SLOTS 4096u
#define VX_BRIDGE_BATCH_MAX 4096u

typedef struct {
    _Atomic(vx_handler) fn;
    _Atomic uint32_t open; /* enqueue takes items of this kind */
    void *ctx;
} vx_bridge_target;

/* What the worker counts, under `figures`. */
typedef struct {
    uint64_t handled, batches, high_water, handled_since, pushed_since;
    vx_hist latency;
} vx_class_figures;

/* The worker's own: whose turn it is, and the batch in hand. */
typedef struct {
    vx_bridge_config config;
    uint32_t serial;
    uint64_t credit[VX_CLASS_COUNT];
    uint64_t idle_at_ns, since_idle; /* items handed on since the worker last ran dry: the rate */
    vx_item items[VX_BRIDGE_BATCH_MAX], group[VX_BRIDGE_BATCH_MAX];
    uint64_t at_ns[VX_BRIDGE_BATCH_MAX], group_at_ns[VX_BRIDGE_BATCH_MAX];
} vx_bridge_work;

struct vx_bridge {
    vx_queue queue[VX_CLASS_COUNT];
    _Atomic uint64_t slot[VX_BRIDGE_SLOTS]; /* items waiting << 8 | class */
    vx_bridge_target target[VX_KIND_MAX];

    _Alignas(VX_LINE) _Atomic uint32_t asleep; /* the worker waits until somebody wakes it */
    _Atomic uint32_t waiting;                  /* threads that wait for progress: barriers, and for room */
    _Atomic uint32_t stopping, config_serial, classes;
    _Atomic uint64_t done[VX_CLASS_COUNT]; /* items handled, in the order of the class */
    _Atomic uint64_t rejected[VX_CLASS_COUNT], waits[VX_CLASS_COUNT], barriers;

    pthread_mutex_t lock; /* of both conditions */
    pthread_cond_t wake, progress;

    /* Held over the whole of a start, a stop and a settling, so that the queue is never in two hands.  The worker takes only
     * `control`, which is never held while somebody waits for it. */
    pthread_mutex_t life;
    _Atomic uint32_t running;
    pthread_t thread;

    pthread_mutex_t control; /* configuration and handlers */
    vx_bridge_config config;
    _Atomic uintptr_t worker; /* the thread in whose hands the queue is */

    vx_bridge_work *work;

    pthread_mutex_t figures;
    vx_class_figures figure[VX_CLASS_COUNT];
};

void vx_bridge_rouse(vx_bridge *b);
/* Hands on until told to stop; with drain = 1, until nothing is left. */
void vx_bridge_run(vx_bridge *b, int drain);

/* The thread's id, not the address of a thread-local: a handler may run in another module's copy of this code. */
static inline int vx_bridge_by_worker(vx_bridge *b) {
    return atomic_load_explicit(&b->worker, memory_order_relaxed) == (uintptr_t)pthread_self();
}

static inline _Atomic uint64_t *vx_bridge_slot(vx_bridge *b, uint64_t key) {
    return &b->slot[key * 0x9E3779B97F4A7C15u >> 52];
}

#endif
