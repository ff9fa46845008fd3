/* Per-thread blocks of an object that many threads and several extension modules share.
 *
 * Each copy of this code keeps its own thread-local list of blocks; the object keeps a list of all of them.  Either may
 * end first.  When the thread ends, the object's `retire` takes back what the block holds; when the object ends, the
 * blocks are orphaned and freed by their threads later. */
#ifndef VEXFS_SRC_LOCAL_H
#define VEXFS_SRC_LOCAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define VX_LINE 64
#define VX_LIKELY(x) __builtin_expect(!!(x), 1)
#define VX_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* No initial-exec model here: the surplus of static TLS that the loader keeps for dlopen is small, every extension module
 * carries a copy, and a process that has loaded other large libraries has none left.  TLS descriptors (setup.py) cost
 * about as little while there is room, and still load when there is none. */
#define VX_TLS _Thread_local

typedef struct vx_locals vx_locals;

typedef struct vx_local {
    _Atomic(void *) owner; /* NULL once the object is gone */
    vx_locals *locals;
    struct vx_local *next_of_owner, *next_of_thread;
} vx_local;

/* Called with the list locked. */
typedef void (*vx_local_fn)(void *owner, vx_local *local);

enum { VX_LOCAL_POOL, VX_LOCAL_FRAMES, VX_LOCAL_KINDS };

/* What this thread keeps at hand, in one place because finding it costs a call: the block that it used last, per kind (the
 * fast path looks nowhere else), and its innermost frame. */
typedef struct {
    vx_local *last[VX_LOCAL_KINDS];
    void *innermost;
} vx_at_hand;

extern VX_TLS vx_at_hand vx_here __attribute__((visibility("hidden")));

/* `bytes`: size of one block, which starts with a vx_local and is zeroed. */
vx_locals *vx_locals_new(void *owner, size_t bytes, vx_local_fn retire);
void vx_locals_free(vx_locals *l);
/* This thread's block, made when there is none yet; NULL on ENOMEM. */
vx_local *vx_local_find(vx_locals *l, int kind);
/* Locks the list and answers its first block: nobody comes or ends until it is unlocked. */
vx_local *vx_locals_lock(vx_locals *l);
void vx_locals_unlock(vx_locals *l);

static inline vx_local *vx_local_of(const void *owner, vx_locals *l, int kind) {
    vx_local *last = vx_here.last[kind];
    if (VX_LIKELY(last && atomic_load_explicit(&last->owner, memory_order_relaxed) == owner)) return last;
    return vx_local_find(l, kind);
}

/* Counters that one thread writes and others read: no locked instruction. */
static inline void vx_bump(_Atomic uint64_t *counter, uint64_t by) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by, memory_order_relaxed);
}

static inline uint64_t vx_peek(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
