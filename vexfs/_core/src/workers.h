/* Threads that share out the parts of one job, and do errands when there is none. */
#ifndef VEXFS_SRC_WORKERS_H
#define VEXFS_SRC_WORKERS_H

#include <stdint.h>

typedef struct vx_workers vx_workers;

typedef void (*vx_part_fn)(void *ctx, uint32_t part);
typedef void (*vx_errand_fn)(void *ctx); /* does one errand, if there is one */

/* NULL on ENOMEM or when not a single thread can be started. */
vx_workers *vx_workers_new(uint32_t threads, vx_errand_fn errand, void *ctx);
void vx_workers_free(vx_workers *w); /* stops them; no job may be running */
/* Calls fn(ctx, 0 .. parts - 1), at most `helpers` workers beside the caller; returns when all parts are done. */
void vx_workers_share(vx_workers *w, vx_part_fn fn, void *ctx, uint32_t parts, uint32_t helpers);
/* There is one more errand. */
void vx_workers_nudge(vx_workers *w);
#endif
