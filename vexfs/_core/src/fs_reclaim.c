/* Space reclaim: a segment less than half live is copied out, a segment without live bytes is unlinked.  Where room is
 * short an eighth of dead bytes is enough: what was removed all over the volume comes free, too.
 *
 * A segment goes only when the commit that emptied it is on stable storage: until then a crash could bring back the
 * metadata that still names it. */
#include <errno.h>
#include <string.h>

#include "clock.h"
#include "vexfs/commit.h"

enum { BATCH_FRAMES = 64, MANY_SMALL = 8, NO_ROOM = 2, AGAIN_S = 2, DEAD_LEAST = 1 << 20, HALF = 50, EIGHTH = 12 };

typedef struct {
    vx_frame_info *f;
    size_t n, cap;
} frames_t;

/* A live piece of a frame: one extent, as it was found. */
typedef struct {
    uint64_t ino;
    uint32_t index;
    vx_extent e;
    char *data;
} piece_t;

static uint32_t active_segment(const vx_fs *fs)
{
    vx_segstore_stats s;
    vx_segstore_read_stats(fs->store, &s);
    return s.active_seg;
}

static int much_dead(const vx_segment_row *s, unsigned dead_share)
{
    return (s->raw_total - s->raw_live) * 100 > s->raw_total * dead_share;
}

static vx_segment_row *candidate(const vx_fs *fs)
{
    uint32_t active = active_segment(fs);
    unsigned dead_share = vx_space_short(fs) ? EIGHTH : HALF;
    vx_segment_row *worst = NULL, *small = NULL;
    unsigned smalls = 0;
    for (size_t k = 0; k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        if (!s || s->gone || s->seg == active || !s->raw_live || s->stuck)
            continue;
        if (much_dead(s, dead_share) && (!worst || s->raw_live < worst->raw_live))
            worst = s;
        if (s->used < fs->o.segment_bytes / 8) {
            smalls++;
            small = s;
        }
    }
    return worst ? worst : smalls > MANY_SMALL ? small : NULL;
}

static vx_segment_row *empty(const vx_fs *fs, uint32_t active)
{
    for (size_t k = 0; k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        if (s && !s->gone && !s->raw_live && s->seg != active && s->epoch <= fs->durable)
            return s;
    }
    return NULL;
}

/* Whether so much of the segment that takes what is written is dead.  Lock held. */
static int active_is_waste(const vx_fs *fs, unsigned dead_share)
{
    const vx_segment_row *s = (const vx_segment_row *)vx_hmap_get(&fs->segments, active_segment(fs));
    return s && !fs->committing && s->raw_total - s->raw_live >= DEAD_LEAST && much_dead(s, dead_share);
}

/* Where room is short it is let go: it would keep that room, as nothing more is written that could fill it. */
static int let_go_active(vx_fs *fs)
{
    if (!vx_space_short(fs) || !active_is_waste(fs, EIGHTH))
        return 0;
    vx_space_look(fs);
    return vx_space_short(fs) && !vx_segstore_seal(fs->store);
}

/* Whether the host has room for what lives in a segment, for the log of metadata, and for what was written and is not
 * placed yet.  Lock held. */
static int fits(vx_fs *fs, const vx_segment_row *s)
{
    uint64_t most = s->raw_live < s->used ? s->raw_live : s->used;
    vx_space_look(fs);
    return most + VX_LOG_ROOM + fs->dirty_bytes + fs->frozen_bytes <= fs->host_free;
}

static void later(vx_fs *fs, vx_segment_row *s)
{
    s->stuck = NO_ROOM;
    fs->reclaim_after_ns = vx_now_ns() + AGAIN_S * UINT64_C(1000000000);
}

/* What could not be copied for want of room is tried again after a while, when something is done anyhow. */
static void try_again(vx_fs *fs)
{
    if (!fs->reclaim_after_ns || vx_now_ns() < fs->reclaim_after_ns)
        return;
    fs->reclaim_after_ns = 0;
    for (size_t k = 0; k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        if (s && s->stuck == NO_ROOM)
            s->stuck = 0;
    }
}

int vx_reclaim_wanted(const vx_fs *fs)
{
    return !fs->read_only && !fs->held && !fs->commit_err &&
           (candidate(fs) || empty(fs, active_segment(fs)) || (vx_space_short(fs) && active_is_waste(fs, EIGHTH)));
}

uint32_t vx_reclaim_empty(vx_fs *fs, uint32_t most)
{
    uint32_t n = 0;
    /* While one commits frames may have gone to a segment that no longer takes any and has no live byte counted yet. */
    for (vx_segment_row *s; n < most && !fs->committing && !fs->held && (s = empty(fs, active_segment(fs))); n++) {
        uint32_t seg = s->seg;
        fs->s.reclaimed_bytes += vx_segstore_size(fs->store, seg);
        fs->s.reclaimed_segments++;
        s->gone = s->dirty = 1;
        fs->gone_segments++;
        fs->deleting++;
        pthread_mutex_unlock(&fs->lock);
        (void)vx_segstore_delete(fs->store, seg); /* a file that stays is found and removed at the next open */
        pthread_mutex_lock(&fs->lock);
        fs->deleting--;
        pthread_cond_broadcast(&fs->changed);
    }
    if (n && fs->reclaim_after_ns)
        fs->reclaim_after_ns = 1; /* there is more room now */
    return n;
}

static int collect(void *ctx, const vx_frame_info *info)
{
    frames_t *a = ctx;
    if (info->err || !info->ino)
        return 0;
    if (a->n == a->cap) {
        size_t cap = a->cap * 2 + 256;
        vx_frame_info *f = realloc(a->f, cap * sizeof *f);
        if (!f)
            return -ENOMEM;
        a->f = f;
        a->cap = cap;
    }
    a->f[a->n++] = *info;
    return 0;
}

/* The extents that still name a frame.  Lock held. */
static int find_pieces(vx_fs *fs, uint32_t seg, const vx_frame_info *f, piece_t *out, uint32_t cap, uint32_t *n)
{
    vx_inode *i;
    vx_region *r;
    int rc = vx_inode_get(fs, f->ino, &i);
    if (!rc)
        rc = vx_region_get(fs, i, (uint32_t)(f->off >> VX_REGION_SHIFT), 1, &r);
    if (rc)
        return rc == -ENOENT ? 0 : rc;
    for (uint32_t k = 0; k < r->ext_n; k++)
        if (r->ext[k].seg == seg && r->ext[k].pos == f->pos) {
            if (*n == cap)
                return -E2BIG;
            out[(*n)++] = (piece_t){f->ino, r->index, r->ext[k], NULL};
        }
    return 0;
}

static int copy_pieces(vx_fs *fs, piece_t *pieces, uint32_t n, vx_frame_put *puts)
{
    struct iovec *iov = malloc(n * sizeof *iov);
    int rc = iov ? 0 : -ENOMEM;
    for (uint32_t k = 0; k < n && !rc; k++) {
        piece_t *p = &pieces[k];
        uint64_t off = ((uint64_t)p->index << VX_REGION_SHIFT) + p->e.off;
        p->data = malloc(p->e.len);
        if (!p->data) {
            rc = -ENOMEM;
            break;
        }
        vx_frame_get g = {.ino = p->ino, .off = off - p->e.skip, .seg = p->e.seg, .pos = p->e.pos,
                          .stored = p->e.stored, .skip = p->e.skip, .len = p->e.len, .dst = p->data};
        rc = vx_segstore_read(fs->store, &g, 1);
        iov[k] = (struct iovec){p->data, p->e.len};
        puts[k] = (vx_frame_put){.ino = p->ino, .off = off, .iov = &iov[k], .iovcnt = 1, .raw_len = p->e.len};
    }
    if (!rc)
        rc = vx_segstore_append(fs->store, puts, n);
    if (!rc)
        rc = vx_tail_sync(fs);
    if (rc)
        vx_segstore_absolve(fs->store); /* the originals are where they were */
    for (uint32_t k = 0; k < n; k++)
        free(pieces[k].data);
    free(iov);
    return rc;
}

/* The map names the copy wherever it still named the original.  Lock held. */
static int relocate(vx_fs *fs, const piece_t *p, const vx_frame_put *put)
{
    vx_inode *i;
    vx_region *r;
    int rc = vx_inode_get(fs, p->ino, &i);
    if (!rc)
        rc = vx_region_get(fs, i, p->index, 1, &r);
    if (rc)
        return rc == -ENOENT ? 0 : rc;
    r->cut = 1; /* also when it stops in the middle: what has changed must be committed */
    i->flags |= VX_I_CUT;
    vx_inode_dirty(fs, i);
    vx_segment_live(fs, put->seg, 0, put->raw_len, (uint64_t)put->pos + put->stored);
    for (uint32_t at = p->e.off; at < p->e.off + p->e.len;) {
        uint32_t hole;
        const vx_extent *e = vx_extents_at(r, at, &hole);
        if (!e) {
            at += hole;
            continue;
        }
        uint32_t end = e->off + e->len < p->e.off + p->e.len ? e->off + e->len : p->e.off + p->e.len;
        if (e->seg == p->e.seg && e->pos == p->e.pos && e->skip + (at - e->off) == p->e.skip + (at - p->e.off)) {
            vx_extent copy = {.off = at, .len = end - at, .seg = put->seg, .pos = put->pos, .stored = put->stored,
                              .skip = at - p->e.off};
            rc = vx_extents_lay(fs, r, &copy);
            if (rc)
                return rc;
        }
        at = end;
    }
    return 0;
}

static int move_frames(vx_fs *fs, uint32_t seg, const vx_frame_info *f, size_t n)
{
    enum { CAP = BATCH_FRAMES * 64 };
    piece_t *pieces = malloc(CAP * sizeof *pieces);
    vx_frame_put *puts = malloc(CAP * sizeof *puts);
    uint32_t count = 0;
    int rc = pieces && puts ? 0 : -ENOMEM;
    pthread_mutex_lock(&fs->lock);
    for (size_t k = 0; k < n && !rc; k++)
        rc = find_pieces(fs, seg, &f[k], pieces, CAP, &count);
    pthread_mutex_unlock(&fs->lock);
    if (!rc && count)
        rc = copy_pieces(fs, pieces, count, puts);
    pthread_mutex_lock(&fs->lock);
    for (uint32_t k = 0; k < count && !rc; k++)
        rc = relocate(fs, &pieces[k], &puts[k]);
    for (uint32_t k = 0; k < count && !rc; k++)
        fs->moving -= pieces[k].e.len < fs->moving ? pieces[k].e.len : fs->moving;
    if (!fs->first_dirty_ns && count)
        vx_mutated(fs, 0);
    vx_space_look(fs);
    pthread_mutex_unlock(&fs->lock);
    free(pieces);
    free(puts);
    return rc;
}

/* Lock held, released inside; fs->committing is ours, so that no map is being placed meanwhile. */
int vx_reclaim_segment(vx_fs *fs, uint32_t seg)
{
    frames_t all = {NULL, 0, 0};
    const vx_segment_row *from = (const vx_segment_row *)vx_hmap_get(&fs->segments, seg);
    fs->moving = from ? from->raw_live : 0;
    pthread_mutex_unlock(&fs->lock);
    int rc = vx_segstore_scan(fs->store, seg, 0, collect, &all);
    for (size_t at = 0; at < all.n && !rc; at += BATCH_FRAMES)
        rc = move_frames(fs, seg, all.f + at, all.n - at < BATCH_FRAMES ? all.n - at : BATCH_FRAMES);
    free(all.f);
    pthread_mutex_lock(&fs->lock);
    fs->moving = 0;
    pthread_cond_broadcast(&fs->changed);
    vx_segment_row *s = (vx_segment_row *)vx_hmap_get(&fs->segments, seg);
    if (s)
        s->stuck = rc || s->raw_live; /* a damaged frame holds it: it stays for fsck */
    if (s && (rc == -ENOSPC || rc == -EDQUOT))
        later(fs, s);
    return rc;
}

static int reclaim_exclusive(vx_fs *fs, uint32_t seg)
{
    while (fs->committing)
        pthread_cond_wait(&fs->changed, &fs->lock);
    fs->committing = 1;
    int rc = vx_reclaim_segment(fs, seg);
    fs->committing = 0;
    pthread_cond_broadcast(&fs->changed);
    return rc;
}

int vx_reclaim_step(vx_fs *fs)
{
    if (fs->read_only || fs->held || fs->commit_err || fs->batch_pending)
        return 0;
    try_again(fs);
    if (vx_reclaim_empty(fs, 1) || let_go_active(fs))
        return 1; /* one at a time: meanwhile somebody may wait for a commit */
    vx_segment_row *s = candidate(fs);
    if (!s)
        return 0;
    if (fits(fs, s))
        (void)reclaim_exclusive(fs, s->seg);
    else
        later(fs, s);
    return 1;
}

static int less_live(const void *a, const void *b)
{
    uint64_t x = ((const vx_segment_row *)a)->raw_live, y = ((const vx_segment_row *)b)->raw_live;
    return (x > y) - (x < y);
}

/* Those with most to gain come first: what they leave makes room for the others. */
int vx_fs_compact(vx_fs *fs, unsigned dead_share, int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                  uint32_t *left)
{
    *left = 0;
    pthread_mutex_lock(&fs->lock);
    int rc = fs->read_only ? -EROFS : vx_commit_until(fs, fs->epoch, 1);
    if (!rc && active_is_waste(fs, dead_share))
        (void)vx_segstore_seal(fs->store);
    uint32_t active = active_segment(fs);
    size_t total = 0, done = 0, cap = fs->segments.used + 1;
    vx_segment_row *list = malloc(cap * sizeof *list);
    if (!list)
        rc = -ENOMEM;
    for (size_t k = 0; !rc && k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        if (s && !s->gone && s->seg != active && s->raw_live &&
            much_dead(s, dead_share) && total < cap)
            list[total++] = *s;
    }
    if (!rc)
        qsort(list, total, sizeof *list, less_live);
    for (; done < total && !rc; done++) {
        int moved = fits(fs, &list[done]) ? reclaim_exclusive(fs, list[done].seg) : -ENOSPC;
        *left += moved == -ENOSPC || moved == -EDQUOT; /* what cannot be read stays where it is, too */
        rc = vx_commit_until(fs, fs->epoch, 1);
        (void)vx_reclaim_empty(fs, UINT32_MAX);
        if (progress && !rc) {
            pthread_mutex_unlock(&fs->lock);
            rc = progress(ctx, done + 1, total);
            pthread_mutex_lock(&fs->lock);
        }
    }
    if (!rc) {
        (void)vx_reclaim_empty(fs, UINT32_MAX);
        rc = vx_commit_until(fs, fs->epoch, 1);
    }
    free(list);
    pthread_mutex_unlock(&fs->lock);
    return rc;
}
