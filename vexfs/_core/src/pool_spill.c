/* The spill: aligned buffers for misses, cut from chunks of one huge page each.
 *
 * A burst (tens of thousands of dirty pages) costs one page fault a chunk instead of one a buffer, and what it leaves
 * behind serves the next one: a few empty chunks are kept, the memory of the others goes back to the system.  The first
 * chunk of a tier takes small pages, so that a lone miss does not cost a huge one. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "pool_internal.h"

#define CHUNK_BYTES VX_HUGE_BYTES

static const uint32_t KEPT_EMPTY[VX_POOL_TIERS] = {2, 32, 8};

typedef struct vx_chunk {
    struct vx_chunk *prev, *next; /* among the chunks with a free buffer */
    char *base;
    uint16_t used, made, free_head; /* made: buffers handed out at least once; the rest is untouched */
    uint16_t follower[];            /* free_head and follower: index + 1, 0 ends */
} vx_chunk;

static uint32_t buffers_of(const vx_tier *t) { return (uint32_t)(CHUNK_BYTES >> t->shift); }

static void link_chunk(vx_spill *s, vx_chunk *c) {
    c->prev = NULL;
    c->next = s->open;
    if (s->open) s->open->prev = c;
    s->open = c;
}

static void unlink_chunk(vx_spill *s, vx_chunk *c) {
    *(c->prev ? &c->prev->next : &s->open) = c->next;
    if (c->next) c->next->prev = c->prev;
}

/* Of an empty chunk that is kept. */
static void give_back(vx_tier *t, vx_chunk *c) {
    madvise(c->base, CHUNK_BYTES, MADV_DONTNEED);
    t->spill.unused -= c->made;
    t->spill.kept--;
    c->made = 0;
    c->free_head = 0;
}

/* A chunk that was given back, or the next one of the range. */
static vx_chunk *open_chunk(vx_tier *t) {
    vx_spill *s = &t->spill;
    if (s->chunk_n == s->span / CHUNK_BYTES) return NULL;
    if (s->chunk_n == s->table_n) {
        uint32_t wider = s->table_n ? s->table_n * 2 : 16;
        vx_chunk **table = realloc(s->table, wider * sizeof *table);
        if (!table) return NULL;
        s->table = table;
        s->table_n = wider;
    }
    vx_chunk *c = calloc(1, sizeof *c + buffers_of(t) * sizeof(uint16_t));
    if (!c) return NULL;
    c->base = s->base + (size_t)s->chunk_n * CHUNK_BYTES;
    if (mprotect(c->base, CHUNK_BYTES, PROT_READ | PROT_WRITE)) {
        free(c);
        return NULL;
    }
    if (s->chunk_n) madvise(c->base, CHUNK_BYTES, MADV_HUGEPAGE);
    VX_HIDE(c->base, CHUNK_BYTES);
    s->table[s->chunk_n++] = c;
    link_chunk(s, c);
    return c;
}

static void *cut(vx_tier *t, int *fresh) {
    vx_spill *s = &t->spill;
    vx_chunk *c = s->open ? s->open : open_chunk(t);
    if (!c) return NULL;
    uint32_t i;
    s->kept -= !c->used && c->made;
    *fresh = !c->free_head;
    if (c->free_head) {
        i = c->free_head - 1u;
        c->free_head = c->follower[i];
        s->unused--;
        s->recycled++;
    } else {
        i = c->made++;
    }
    if (++c->used == buffers_of(t)) unlink_chunk(s, c);
    return c->base + ((size_t)i << t->shift);
}

static void count_miss(vx_tier *t) {
    int64_t out = atomic_fetch_add_explicit(&t->missed, 1, memory_order_relaxed) + 1;
    int64_t peak = atomic_load_explicit(&t->missed_peak, memory_order_relaxed);
    while (out > peak && !atomic_compare_exchange_weak_explicit(&t->missed_peak, &peak, out, memory_order_relaxed,
                                                                memory_order_relaxed)) {
    }
}

void *vx_spill_acquire(vx_tier *t, int *fresh) {
    pthread_mutex_lock(&t->spill.lock);
    void *buf = cut(t, fresh);
    pthread_mutex_unlock(&t->spill.lock);
    if (buf) count_miss(t);
    return buf;
}

void vx_spill_release(vx_tier *t, void *buf) {
    atomic_fetch_sub_explicit(&t->missed, 1, memory_order_relaxed);
    VX_HIDE(buf, (size_t)1 << t->shift);
    vx_spill *s = &t->spill;
    size_t offset = (size_t)((char *)buf - s->base);
    uint32_t i = (uint32_t)(offset % CHUNK_BYTES >> t->shift);
    pthread_mutex_lock(&s->lock);
    vx_chunk *c = s->table[offset / CHUNK_BYTES];
    c->follower[i] = c->free_head;
    c->free_head = (uint16_t)(i + 1);
    s->unused++;
    if (c->used-- == buffers_of(t)) link_chunk(s, c);
    if (!c->used && ++s->kept > KEPT_EMPTY[t->index]) {
        give_back(t, c);
        unlink_chunk(s, c);
        /* Behind the others: what is still there is used first. */
        vx_chunk **at = &s->open, *prev = NULL;
        while (*at) {
            prev = *at;
            at = &prev->next;
        }
        *at = c;
        c->prev = prev;
        c->next = NULL;
    }
    pthread_mutex_unlock(&s->lock);
}

void vx_spill_trim(vx_tier *t) {
    pthread_mutex_lock(&t->spill.lock);
    for (uint32_t i = 0; i < t->spill.chunk_n; i++)
        if (!t->spill.table[i]->used && t->spill.table[i]->made) give_back(t, t->spill.table[i]);
    pthread_mutex_unlock(&t->spill.lock);
}

void vx_spill_close(vx_tier *t) {
    vx_spill *s = &t->spill;
    VX_SHOW(s->base, (size_t)s->chunk_n * CHUNK_BYTES);
    for (uint32_t i = 0; i < s->chunk_n; i++) free(s->table[i]);
    free(s->table);
}
