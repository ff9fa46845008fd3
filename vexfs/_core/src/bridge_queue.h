/* One class of the bridge: a chain of bounded rings, many producers, one consumer.
 *
 * A ring is the bounded queue of D. Vyukov (cells with a turn each).  Changing the capacity closes the current ring, so
 * that nobody can claim a cell in it any more, and opens another behind it; the consumer drains them in order.  Drained
 * rings are kept for the next change, never freed while the bridge lives: a producer may still look at one. */
#ifndef VEXFS_SRC_BRIDGE_QUEUE_H
#define VEXFS_SRC_BRIDGE_QUEUE_H

#include <stdatomic.h>
#include <stdint.h>

#include "local.h"
#include "vexfs/bridge.h"

typedef struct {
    _Alignas(VX_LINE) _Atomic uint64_t turn; /* position: free for it; position + 1: filled */
    uint64_t at_ns;
    vx_item item;
} vx_cell;

typedef struct vx_ring {
    _Alignas(VX_LINE) _Atomic uint64_t tail; /* next position to claim, and the closed bit */
    _Alignas(VX_LINE) _Atomic uint64_t head; /* next position to take */
    _Atomic uint64_t base;                   /* base + position: how many items the class got before */
    _Atomic(struct vx_ring *) next;          /* opened after this one was closed */
    struct vx_ring *next_spare;
    uint64_t mask;
    vx_cell cells[];
} vx_ring;

typedef struct {
    _Alignas(VX_LINE) _Atomic(vx_ring *) current;
    _Alignas(VX_LINE) vx_ring *oldest; /* the consumer's */
    vx_ring *spare;                    /* under the bridge's control lock */
} vx_queue;

int vx_queue_open(vx_queue *q, uint32_t capacity);
void vx_queue_close(vx_queue *q);
/* One caller at a time (the bridge's control lock).  0 or -ENOMEM. */
int vx_queue_resize(vx_queue *q, uint32_t capacity);
/* 0, or -EAGAIN when full. */
int vx_queue_push(vx_queue *q, const vx_item *item, uint64_t now_ns);
/* Items ever pushed (claimed). */
uint64_t vx_queue_pushed(vx_queue *q);

/* The consumer's. */
const vx_cell *vx_queue_peek(vx_queue *q); /* NULL: nothing to take yet */
uint32_t vx_queue_take(vx_queue *q, vx_item *items, uint64_t *at_ns, uint32_t n);
/* A ring that is closed and drained, already out of the chain, or NULL. */
vx_ring *vx_queue_drained(vx_queue *q);

#endif
