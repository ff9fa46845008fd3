/* Decoded frames kept in memory: a sharded hash with CLOCK replacement.
 *
 * Whoever misses first claims the frame and loads it; others that want it wait for him.  An entry that is held by
 * somebody is never evicted, so bytes can be copied out of it without a lock. */
#ifndef VEXFS_SRC_FRAMECACHE_H
#define VEXFS_SRC_FRAMECACHE_H

#include <stddef.h>
#include <stdint.h>

typedef struct vx_framecache vx_framecache;

typedef struct vx_cached {
    struct vx_cached *chain, *prev, *next; /* in its bucket; on the clock */
    uint32_t seg, pos, stored, raw_len;
    uint64_t ino, off;
    uint32_t refs;
    uint8_t state, used, listed, ahead; /* ahead: nobody has read it yet */
    int err;
    void *base; /* the allocation that `data` stands in; from malloc or aligned_alloc */
    size_t base_n;
    const uint8_t *data;
} vx_cached;

vx_framecache *vx_framecache_new(uint64_t bytes);
void vx_framecache_free(vx_framecache *c);
void vx_framecache_resize(vx_framecache *c, uint64_t bytes);

enum vx_found { VX_FOUND_READY, VX_FOUND_CLAIMED, VX_FOUND_LOADING, VX_FOUND_NOMEM };
/* Holds the entry of a frame.  CLAIMED: it is new, and the caller must fill or fail it. */
enum vx_found vx_framecache_find(vx_framecache *c, uint32_t seg, uint32_t pos, vx_cached **out);
/* The same for who reads ahead; NOMEM, too, when half of the room is taken by what nobody has read yet. */
enum vx_found vx_framecache_find_ahead(vx_framecache *c, uint32_t seg, uint32_t pos, vx_cached **out);
/* Publishes a claimed entry: identity, data and base are set; or err, which those who wait get too. */
void vx_framecache_publish(vx_framecache *c, vx_cached *e, int err);
int vx_framecache_wait(vx_framecache *c, vx_cached *e); /* until it is published: 0 or its error */
void vx_framecache_release(vx_framecache *c, vx_cached *e);

void vx_framecache_drop(vx_framecache *c, int64_t seg); /* what nobody holds, of one segment or (-1) of all */
uint64_t vx_framecache_bytes(vx_framecache *c);
uint64_t vx_framecache_evictions(vx_framecache *c);
#endif
