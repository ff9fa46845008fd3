#include "bridge_queue.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t CLOSED = (uint64_t)1 << 63;

static vx_ring *make(uint32_t capacity) {
    uint64_t n = 2;
    while (n < capacity) n *= 2;
    vx_ring *r = aligned_alloc(VX_LINE, sizeof *r + n * sizeof(vx_cell));
    if (!r) return NULL;
    memset((void *)r, 0, sizeof *r + n * sizeof(vx_cell));
    for (uint64_t i = 0; i < n; i++) atomic_init(&r->cells[i].turn, i);
    r->mask = n - 1;
    return r;
}

int vx_queue_open(vx_queue *q, uint32_t capacity) {
    vx_ring *r = make(capacity);
    if (!r) return -ENOMEM;
    q->oldest = r;
    atomic_store(&q->current, r);
    return 0;
}

void vx_queue_close(vx_queue *q) {
    for (vx_ring *r = q->oldest, *next; r; r = next) {
        next = atomic_load(&r->next);
        free(r);
    }
    for (vx_ring *r = q->spare, *next; r; r = next) {
        next = r->next_spare;
        free(r);
    }
}

static vx_ring *spare_or_new(vx_queue *q, uint32_t capacity) {
    for (vx_ring **at = &q->spare; *at; at = &(*at)->next_spare) {
        vx_ring *r = *at;
        if (r->mask + 1 < capacity || r->mask + 1 >= 2 * (uint64_t)capacity) continue;
        *at = r->next_spare;
        return r;
    }
    return make(capacity);
}

int vx_queue_resize(vx_queue *q, uint32_t capacity) {
    vx_ring *old = atomic_load(&q->current);
    if (old->mask + 1 >= capacity && (old->mask + 1 < 2 * (uint64_t)capacity || old->mask == 1)) return 0;
    vx_ring *r = spare_or_new(q, capacity);
    if (!r) return -ENOMEM;
    atomic_store(&r->next, NULL);
    uint64_t closed_at = atomic_fetch_or(&old->tail, CLOSED);
    atomic_store(&r->base, atomic_load(&old->base) + closed_at - atomic_load(&r->head));
    atomic_store(&old->next, r);
    atomic_store(&q->current, r);
    /* Last: a producer that still holds a ring from its earlier life pushes where `vx_queue_pushed` counts. */
    atomic_fetch_and(&r->tail, ~CLOSED);
    return 0;
}

int vx_queue_push(vx_queue *q, const vx_item *item, uint64_t now_ns) {
    vx_ring *r = atomic_load_explicit(&q->current, memory_order_acquire);
    uint64_t at = atomic_load_explicit(&r->tail, memory_order_relaxed);
    vx_cell *cell;
    for (;;) {
        if (VX_UNLIKELY(at & CLOSED)) {
            /* The successor is a few stores away, unless its maker was interrupted. */
            vx_ring *now = atomic_load_explicit(&q->current, memory_order_acquire);
            if (now == r) sched_yield();
            r = now;
            at = atomic_load_explicit(&r->tail, memory_order_relaxed);
            continue;
        }
        cell = &r->cells[at & r->mask];
        uint64_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
        if (turn == at) {
            if (atomic_compare_exchange_weak_explicit(&r->tail, &at, at + 1, memory_order_relaxed,
                                                      memory_order_relaxed))
                break;
            continue;
        }
        uint64_t seen = atomic_load_explicit(&r->tail, memory_order_relaxed);
        if (turn < at && seen == at) return -EAGAIN;
        at = seen;
    }
    cell->item = *item;
    cell->at_ns = now_ns;
    /* Sequentially consistent: the producer looks next whether the consumer sleeps, the consumer falls asleep and then
     * looks here; one of them must see the other. */
    atomic_exchange(&cell->turn, at + 1);
    return 0;
}

uint64_t vx_queue_pushed(vx_queue *q) {
    vx_ring *r = atomic_load(&q->current);
    /* base first: should the ring be closed and opened anew in between, the sum is too small for now but never too
     * large, and never smaller than what was pushed before the call. */
    uint64_t base = atomic_load(&r->base);
    return base + (atomic_load(&r->tail) & ~CLOSED);
}

const vx_cell *vx_queue_peek(vx_queue *q) {
    vx_ring *r = q->oldest;
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    const vx_cell *cell = &r->cells[head & r->mask];
    return atomic_load(&cell->turn) == head + 1 ? cell : NULL;
}

uint32_t vx_queue_take(vx_queue *q, vx_item *items, uint64_t *at_ns, uint32_t n) {
    vx_ring *r = q->oldest;
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    uint32_t taken = 0;
    while (taken < n) {
        vx_cell *cell = &r->cells[head & r->mask];
        if (atomic_load_explicit(&cell->turn, memory_order_acquire) != head + 1) break;
        items[taken] = cell->item;
        at_ns[taken++] = cell->at_ns;
        atomic_store_explicit(&cell->turn, head + r->mask + 1, memory_order_release);
        head++;
    }
    atomic_store_explicit(&r->head, head, memory_order_release);
    return taken;
}

vx_ring *vx_queue_drained(vx_queue *q) {
    vx_ring *r = q->oldest, *next = atomic_load(&r->next);
    if (!next) return NULL;
    uint64_t tail = atomic_load(&r->tail);
    if ((tail & ~CLOSED) != atomic_load_explicit(&r->head, memory_order_relaxed)) return NULL;
    q->oldest = next;
    return r;
}
