/* Frozen pages to frames: runs of bytes, each at most a frame, none across a frame's boundary. */
#include <errno.h>
#include <string.h>

#include "vexfs/commit.h"

typedef struct {
    vx_frame_put *puts;
    vx_placed *placed;
    struct iovec *iov;
    size_t nputs, niov;
} runs_t;

/* A region whose map has fallen into pieces is read whole and written anew: its pages' gaps come from below. */
static int defragment(vx_fs *fs, vx_region *r)
{
    uint64_t base = (uint64_t)r->index << VX_REGION_SHIFT;
    for (uint32_t page = 0; page < VX_REGION_PAGES; page++) {
        uint32_t lo = page * VX_PAGE, hole;
        int touched = 0;
        for (uint32_t at = lo; at < lo + VX_PAGE && !touched; at += hole)
            touched = vx_extents_at(r, at, &hole) != NULL;
        vx_slot *s = &r->frozen[page];
        if (!touched || (s->buf && s->lo == 0 && s->hi == VX_PAGE))
            continue;
        char *buf = vx_pool_acquire(fs->o.pool, VX_PAGE, VX_TAG_PAGE);
        if (!buf)
            return -ENOMEM;
        memset(buf, 0, VX_PAGE);
        int rc = 0;
        uint32_t last = 0; /* where the page's known bytes end */
        for (uint32_t at = lo; at < lo + VX_PAGE && !rc;) {
            const vx_extent *e = vx_extents_at(r, at, &hole);
            if (!e) {
                at += hole;
                continue;
            }
            uint32_t in = at - e->off, n = e->len - in < lo + VX_PAGE - at ? e->len - in : lo + VX_PAGE - at;
            vx_frame_get g = {.ino = r->inode->a.ino, .off = base + e->off - e->skip, .seg = e->seg, .pos = e->pos,
                              .stored = e->stored, .skip = e->skip + in, .len = n, .dst = buf + (at - lo)};
            rc = vx_segstore_read(fs->store, &g, 1);
            at += n;
            last = at - lo;
        }
        if (rc) {
            vx_pool_release(fs->o.pool, buf, VX_PAGE);
            continue; /* damaged: leave this page's extents as they are */
        }
        if (s->buf) {
            memcpy(buf + s->lo, s->buf + s->lo, s->hi - s->lo);
            last = last > s->hi ? last : s->hi;
        }
        pthread_mutex_lock(&fs->lock);
        char *old = s->buf;
        if (!old) {
            r->nfrozen++;
            r->inode->frozen_pages++;
            fs->frozen_bytes += VX_PAGE;
        }
        *s = (vx_slot){.buf = buf, .lo = 0, .hi = (uint16_t)last};
        pthread_mutex_unlock(&fs->lock);
        if (old)
            vx_pool_release(fs->o.pool, old, VX_PAGE);
    }
    return 0;
}

/* One region's frozen bytes as runs; with q NULL only counts. */
static void find_runs(vx_region *r, runs_t *q)
{
    uint64_t base = (uint64_t)r->index << VX_REGION_SHIFT;
    vx_frame_put *run = NULL;
    for (uint32_t page = 0; page < VX_REGION_PAGES; page++) {
        const vx_slot *s = &r->frozen[page];
        if (!s->buf)
            continue;
        uint64_t off = base + (uint64_t)page * VX_PAGE + s->lo;
        uint32_t n = (uint32_t)s->hi - s->lo;
        if (!run || run->off + run->raw_len != off || off % VX_FRAME_MAX == 0) {
            run = &q->puts[q->nputs];
            *run = (vx_frame_put){.ino = r->inode->a.ino, .off = off, .iov = &q->iov[q->niov]};
            q->placed[q->nputs++] = (vx_placed){run, r};
        }
        q->iov[q->niov++] = (struct iovec){s->buf + s->lo, n};
        run->iovcnt++;
        run->raw_len += n;
    }
}

int vx_place_data(vx_fs *fs)
{
    size_t pages = 0;
    vx_frame_mark();
    for (vx_region *r = fs->frozen_regions; r; r = r->fnext) {
        if (r->ext_n > VX_EXTENTS_PER_REGION) {
            int rc = defragment(fs, r);
            if (rc)
                return rc;
        }
        pages += r->nfrozen;
    }
    runs_t q = {.puts = malloc((pages + 1) * sizeof *q.puts), .placed = malloc((pages + 1) * sizeof *q.placed),
                .iov = malloc((pages + 1) * sizeof *q.iov)};
    int rc = q.puts && q.placed && q.iov ? 0 : -ENOMEM;
    for (vx_region *r = rc ? NULL : fs->frozen_regions; r; r = r->fnext)
        find_runs(r, &q);
    if (!rc && q.nputs)
        rc = vx_segstore_append(fs->store, q.puts, q.nputs);
    if (!rc && q.nputs)
        rc = vx_tail_secure(fs, q.puts, q.nputs);
    if (rc)
        vx_segstore_absolve(fs->store); /* the pages are kept: all of it is appended anew on the next try */
    pthread_mutex_lock(&fs->lock);
    if (!rc)
        rc = vx_install_data(fs, q.placed, q.nputs);
    pthread_cond_broadcast(&fs->changed);
    pthread_mutex_unlock(&fs->lock);
    free(q.puts);
    free(q.placed);
    free(q.iov);
    return rc;
}
