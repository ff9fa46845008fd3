/* Stack-accounted handler frames.
 *
 * A handler enters a frame, which records where the C stack stands; functions of the core mark their depth; on leave
 * the deepest mark is the operation's true C stack use.  Nothing here allocates on the way: a thread's counters are made
 * on its first frame.  All state hangs off `vx_frames`. */
#ifndef VEXFS_FRAME_H
#define VEXFS_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "vexfs/pool.h"

#define VX_OP_MAX 64
#define VX_FRAME_BUCKETS 17 /* 256 bytes each; the last holds what is deeper than 4 KiB */
/* Of time: four an octave from 128 ns on; the first holds what is faster, the last what takes over a minute. */
#define VX_FRAME_TIMES 118

typedef struct vx_frames vx_frames; /* per-operation statistics: count, high water, histogram, violations, limit */

typedef struct vx_frame {
    uintptr_t base, deepest;
    struct vx_frame *outer;
    vx_frames *owner;
    void **innermost; /* where the thread keeps its innermost frame */
    int op;
    uint32_t painted; /* bytes painted below this frame, 0 unless it was chosen */
    uint64_t started_ns; /* 0 unless this frame is timed */
    void *counters; /* NULL: nothing is counted */
} vx_frame;

/* time_ns is estimated from the frames that were timed: one in 64, or as many as vx_frames_time asks.  prevented: scratch that would have broken the limit and went to the pools
 * instead.  painted_*: of frames whose stack was painted, the use by everything below, libraries included. */
typedef struct {
    uint64_t count, high_water, violations, total_bytes, time_ns;
    uint64_t prevented, pooled, painted_count, painted_high_water;
    uint64_t depth[VX_FRAME_BUCKETS];
} vx_frame_stats;

/* Of the frames that were timed. */
typedef struct {
    uint64_t timed, total_ns, bucket[VX_FRAME_TIMES];
} vx_frame_times;

vx_frames *vx_frames_new(uint32_t limit_bytes, uint32_t heap_threshold);
void vx_frames_free(vx_frames *f);
/* Off: frames are no-ops.  Counted: limit and threshold hold, and everything is counted.  Guarded: they hold, and nothing
 * is counted. */
enum vx_frames_mode { VX_FRAMES_OFF, VX_FRAMES_COUNTED, VX_FRAMES_GUARDED };
void vx_frames_configure(vx_frames *f, uint32_t limit_bytes, uint32_t heap_threshold, int mode);
/* Paints the stack below one frame in `every` (0: none) to see what code that marks nothing uses. */
void vx_frames_paint(vx_frames *f, uint32_t every);
/* Times one frame in `every`; 1 is all, two readings of the clock each. */
void vx_frames_time(vx_frames *f, uint32_t every);
void vx_frames_read(vx_frames *f, int op, vx_frame_stats *out); /* op -1: all */
void vx_frames_read_times(vx_frames *f, int op, vx_frame_times *out);
uint64_t vx_frame_time_limit(uint32_t bucket); /* the largest ns of a bucket; UINT64_MAX of the last */
void vx_frames_clear(vx_frames *f);

/* The innermost frame of this thread lives in a thread-local of the library that enters it; enter and leave nest.
 * f may be NULL (accounting switched off): both are then no-ops. */
void vx_frame_enter_at(vx_frame *frame, vx_frames *f, int op, uintptr_t base);
void vx_frame_leave(vx_frame *frame);
/* Marks the current depth for the innermost frame.  A few instructions. */
void vx_frame_mark(void);

/* Expanded in the handler itself, so that the handler's own locals count. */
#define vx_frame_enter(frame, f, op) vx_frame_enter_at((frame), (f), (op), (uintptr_t)__builtin_dwarf_cfa())

/* -- scratch ------------------------------------------------------------------------------------------------------
 * Small scratch lives on the stack, large scratch in the pools.
 *
 *     vx_scratch s;
 *     char *name = vx_frame_scratch(&s, pool, bytes);     NULL on ENOMEM
 *     ...
 *     vx_scratch_end(&s);
 *
 * The room comes from the caller's stack frame when `bytes` is at most heap_threshold and the operation stays within
 * its limit, else from the pool.  64-byte aligned.  Not in a loop: stack room is freed on return. */
typedef struct {
    void *pooled;
    size_t size;
    vx_pool *pool;
} vx_scratch;

/* Left free below scratch on the stack, for the calls that follow: tools/stack_budget.py sees to it that they need no
 * more, so that the limit holds whatever takes scratch. */
#define VX_FRAME_RESERVE 1536

/* 1 when the caller may take `bytes` of stack here; else the reason is counted. */
int vx_frame_fits(size_t bytes);
void *vx_scratch_take(vx_scratch *s, vx_pool *pool, size_t bytes);
void *vx_scratch_stack(vx_scratch *s, void *at);
void vx_scratch_end(vx_scratch *s);

/* The compiler must not see a constant: it would give the room a place in every frame, also where the pool serves. */
#define vx_frame_scratch(s, pool, bytes)                                                              \
    __extension__({                                                                                   \
        size_t vx_scratch_n_ = (bytes);                                                               \
        __asm__("" : "+r"(vx_scratch_n_));                                                            \
        vx_frame_fits(vx_scratch_n_)                                                                  \
            ? vx_scratch_stack((s), __builtin_alloca_with_align(vx_scratch_n_, 512))                  \
            : vx_scratch_take((s), (pool), vx_scratch_n_);                                            \
    })
#endif
