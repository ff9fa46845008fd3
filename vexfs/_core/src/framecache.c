#include "framecache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS_MAX 16u
#define SHARD_BYTES_MIN (4u << 20) /* a shard must hold many of the largest frames, or it evicts what is in use */
#define ENTRY_BYTES (sizeof(vx_cached) + 32)

enum { LOADING, READY, FAILED };

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t published;
    vx_cached **buckets;
    vx_cached *hand; /* a ring of the entries that are READY and in the table */
    uint64_t bytes, budget, evictions, ahead; /* bytes, ahead: of what nobody has read yet */
} __attribute__((aligned(64))) shard;

struct vx_framecache {
    uint32_t shard_count, bucket_count; /* powers of two */
    shard shards[SHARDS_MAX];
};

static uint64_t hashed(uint32_t seg, uint32_t pos)
{
    uint64_t h = ((uint64_t)seg << 32 | pos) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static shard *shard_of(vx_framecache *c, uint64_t h)
{
    return &c->shards[h >> 60 & (c->shard_count - 1)];
}

static vx_cached **bucket_of(vx_framecache *c, shard *s, uint64_t h)
{
    return &s->buckets[h >> 8 & (c->bucket_count - 1)];
}

vx_framecache *vx_framecache_new(uint64_t bytes)
{
    vx_framecache *c = aligned_alloc(64, sizeof *c);
    if (!c)
        return NULL;
    memset(c, 0, sizeof *c);
    c->shard_count = 1;
    while (c->shard_count < SHARDS_MAX && (uint64_t)c->shard_count * 2 * SHARD_BYTES_MIN <= bytes)
        c->shard_count *= 2;
    c->bucket_count = 64;
    while (c->bucket_count < 65536 && (uint64_t)c->bucket_count * c->shard_count * 32768 < bytes)
        c->bucket_count *= 2;
    for (uint32_t i = 0; i < c->shard_count; i++) {
        shard *s = &c->shards[i];
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->published, NULL);
        s->budget = bytes / c->shard_count;
        s->buckets = calloc(c->bucket_count, sizeof *s->buckets);
        if (!s->buckets) {
            c->shard_count = i + 1;
            vx_framecache_free(c);
            return NULL;
        }
    }
    return c;
}

static void free_chain(vx_cached *e)
{
    while (e) {
        vx_cached *next = e->chain;
        free(e->base);
        free(e);
        e = next;
    }
}

/* Takes an entry out of table and clock; under the shard's lock. */
static void unlist(vx_framecache *c, shard *s, vx_cached *e)
{
    for (vx_cached **at = bucket_of(c, s, hashed(e->seg, e->pos)); *at; at = &(*at)->chain)
        if (*at == e) {
            *at = e->chain;
            break;
        }
    if (e->next) {
        if (s->hand == e)
            s->hand = e->next == e ? NULL : e->next;
        e->prev->next = e->next;
        e->next->prev = e->prev;
        s->bytes -= e->base_n + ENTRY_BYTES;
        s->ahead -= e->ahead ? e->base_n : 0;
    }
    e->listed = 0;
}

/* Evicts until the shard fits its budget or everything left is held; gives the victims as a chain to be freed outside
 * the lock. */
static vx_cached *evict(vx_framecache *c, shard *s)
{
    vx_cached *victims = NULL, *since = NULL;
    int passed = 0; /* full turns without a victim: one to clear the marks, one to find all held */
    while (s->bytes > s->budget && s->hand && passed < 2) {
        vx_cached *e = s->hand;
        s->hand = e->next;
        if (e->refs == 0 && !e->used) {
            unlist(c, s, e);
            e->chain = victims;
            victims = e;
            s->evictions++;
            since = NULL;
            passed = 0;
            continue;
        }
        e->used = 0;
        if (!since)
            since = e;
        else if (e == since)
            passed++;
    }
    return victims;
}

/* What was read ahead stays for a turn of the clock; read for the first time it is as if it had just been loaded. */
static void mark_read(shard *s, vx_cached *e)
{
    s->ahead -= e->ahead && e->state == READY ? e->base_n : 0;
    e->used = !e->ahead;
    e->ahead = 0;
}

static enum vx_found find(vx_framecache *c, uint32_t seg, uint32_t pos, uint8_t ahead, vx_cached **out)
{
    uint64_t h = hashed(seg, pos);
    shard *s = shard_of(c, h);
    enum vx_found found = VX_FOUND_CLAIMED;
    pthread_mutex_lock(&s->lock);
    vx_cached **bucket = bucket_of(c, s, h), *e = *bucket;
    while (e && (e->seg != seg || e->pos != pos))
        e = e->chain;
    if (e) {
        found = e->state == READY ? VX_FOUND_READY : VX_FOUND_LOADING;
        e->refs++;
        if (!ahead)
            mark_read(s, e);
    } else if (!(ahead && s->ahead > s->budget / 2) && (e = calloc(1, sizeof *e)) != NULL) {
        e->seg = seg;
        e->pos = pos;
        e->refs = 1;
        e->listed = 1;
        e->used = e->ahead = ahead;
        e->chain = *bucket;
        *bucket = e;
    } else {
        found = VX_FOUND_NOMEM;
    }
    pthread_mutex_unlock(&s->lock);
    *out = e;
    return found;
}

enum vx_found vx_framecache_find(vx_framecache *c, uint32_t seg, uint32_t pos, vx_cached **out)
{
    return find(c, seg, pos, 0, out);
}

enum vx_found vx_framecache_find_ahead(vx_framecache *c, uint32_t seg, uint32_t pos, vx_cached **out)
{
    return find(c, seg, pos, 1, out);
}

void vx_framecache_publish(vx_framecache *c, vx_cached *e, int err)
{
    shard *s = shard_of(c, hashed(e->seg, e->pos));
    vx_cached *victims = NULL;
    pthread_mutex_lock(&s->lock);
    if (err) {
        unlist(c, s, e); /* the next reader tries afresh */
        e->err = err;
        e->state = FAILED;
    } else {
        e->state = READY;
        if (s->hand) {
            e->next = s->hand;
            e->prev = s->hand->prev;
            e->prev->next = e;
            s->hand->prev = e;
        } else {
            e->next = e->prev = s->hand = e;
        }
        s->bytes += e->base_n + ENTRY_BYTES;
        s->ahead += e->ahead ? e->base_n : 0;
        victims = evict(c, s);
    }
    pthread_cond_broadcast(&s->published);
    pthread_mutex_unlock(&s->lock);
    free_chain(victims);
}

int vx_framecache_wait(vx_framecache *c, vx_cached *e)
{
    shard *s = shard_of(c, hashed(e->seg, e->pos));
    pthread_mutex_lock(&s->lock);
    while (e->state == LOADING)
        pthread_cond_wait(&s->published, &s->lock);
    int err = e->err;
    pthread_mutex_unlock(&s->lock);
    return err;
}

void vx_framecache_release(vx_framecache *c, vx_cached *e)
{
    shard *s = shard_of(c, hashed(e->seg, e->pos));
    vx_cached *victims = NULL;
    pthread_mutex_lock(&s->lock);
    if (--e->refs == 0) {
        if (!e->listed) {
            e->chain = NULL;
            victims = e;
        } else if (s->bytes > s->budget) {
            victims = evict(c, s); /* there may have been nothing to evict while this one was held */
        }
    }
    pthread_mutex_unlock(&s->lock);
    free_chain(victims);
}

void vx_framecache_drop(vx_framecache *c, int64_t seg)
{
    for (uint32_t i = 0; i < c->shard_count; i++) {
        shard *s = &c->shards[i];
        vx_cached *victims = NULL;
        pthread_mutex_lock(&s->lock);
        for (uint32_t b = 0; b < c->bucket_count; b++)
            for (vx_cached *e = s->buckets[b], *next; e; e = next) {
                next = e->chain;
                if (e->refs == 0 && e->state == READY && (seg < 0 || e->seg == seg)) {
                    unlist(c, s, e);
                    e->chain = victims;
                    victims = e;
                }
            }
        pthread_mutex_unlock(&s->lock);
        free_chain(victims);
    }
}

void vx_framecache_resize(vx_framecache *c, uint64_t bytes)
{
    for (uint32_t i = 0; i < c->shard_count; i++) {
        shard *s = &c->shards[i];
        pthread_mutex_lock(&s->lock);
        s->budget = bytes / c->shard_count;
        vx_cached *victims = evict(c, s);
        pthread_mutex_unlock(&s->lock);
        free_chain(victims);
    }
}

uint64_t vx_framecache_bytes(vx_framecache *c)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->shard_count; i++) {
        pthread_mutex_lock(&c->shards[i].lock);
        sum += c->shards[i].bytes;
        pthread_mutex_unlock(&c->shards[i].lock);
    }
    return sum;
}

uint64_t vx_framecache_evictions(vx_framecache *c)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->shard_count; i++) {
        pthread_mutex_lock(&c->shards[i].lock);
        sum += c->shards[i].evictions;
        pthread_mutex_unlock(&c->shards[i].lock);
    }
    return sum;
}

void vx_framecache_free(vx_framecache *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < c->shard_count; i++) {
        shard *s = &c->shards[i];
        for (uint32_t b = 0; s->buckets && b < c->bucket_count; b++)
            free_chain(s->buckets[b]);
        free(s->buckets);
        pthread_mutex_destroy(&s->lock);
        pthread_cond_destroy(&s->published);
    }
    free(c);
}
