/* Stack-accounted handler frames.
 *
 * A handler enters a frame, which records where the C stack stands; functions of the core mark their depth; on leave
 * the deepest mark is the operation's true C stack use.  Nothing here allocates.  All state hangs off `vx_frames`. */
#ifndef VEXFS_FRAME_H
#define VEXFS_FRAME_H

#include <stdint.h>

#define VX_OP_MAX 64

typedef struct vx_frames vx_frames; /* per-operation statistics: count, high water, histogram, violations, limit */

typedef struct vx_frame {
    uintptr_t base, deepest;
    struct vx_frame *outer;
    vx_frames *owner;
    int op;
} vx_frame;

typedef struct {
    uint64_t count, high_water, violations, total_bytes, time_ns;
} vx_frame_stats;

vx_frames *vx_frames_new(uint32_t limit_bytes, uint32_t heap_threshold);
void vx_frames_free(vx_frames *f);
void vx_frames_configure(vx_frames *f, uint32_t limit_bytes, uint32_t heap_threshold, int monitoring);
void vx_frames_read(vx_frames *f, int op, vx_frame_stats *out);
void vx_frames_clear(vx_frames *f);

/* The innermost frame of this thread lives in a thread-local of the library that enters it; enter and leave nest.
 * f may be NULL (accounting switched off): both are then no-ops. */
void vx_frame_enter(vx_frame *frame, vx_frames *f, int op);
void vx_frame_leave(vx_frame *frame);
/* Marks the current depth for the innermost frame.  A few instructions. */
void vx_frame_mark(void);
#endif
