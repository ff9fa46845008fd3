/* What one step of the mechanisms costs on this machine, timed from C: nanoseconds over `rounds` steps. */
#ifndef VEXFS_MEASURE_H
#define VEXFS_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "vexfs/bridge.h"
#include "vexfs/frame.h"
#include "vexfs/pool.h"

/* Acquire and release of one buffer; p NULL: of aligned allocation. */
uint64_t vx_measure_pool(vx_pool *p, size_t size, uint64_t rounds);
/* `depth` buffers acquired, each touched, then all released; 0 on ENOMEM. */
uint64_t vx_measure_burst(vx_pool *p, size_t size, uint64_t depth, uint64_t rounds);
/* Enter, mark and leave. */
uint64_t vx_measure_frame(vx_frames *f, int op, uint32_t marks, uint64_t rounds);
/* Enqueues `rounds` items of `kind` under keys from `key` on, in class key % classes, `rate` a second (0: as fast as
 * can be); *spent_ns gets the time inside enqueue, less the clock's own.  0 or -errno. */
int vx_measure_enqueue(vx_bridge *b, uint32_t kind, uint64_t key, uint32_t classes, double rate, uint64_t rounds,
                       uint64_t *spent_ns);
/* A handler that does nothing. */
void vx_measure_discard(void *ctx, const vx_item *items, size_t n);
#endif
