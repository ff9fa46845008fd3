/* Writing and truncating: small files stay in their row, larger ones change in pages until a commit places them. */
#include <errno.h>
#include <string.h>

#include "vexfs/engine.h"

/* Completes a page so that bytes `from..to` can join what it holds: the gap between is read from below. */
static int fill_gap(vx_fs *fs, vx_inode *i, vx_region *r, uint32_t page, uint32_t from, uint32_t to)
{
    uint64_t base = ((uint64_t)r->index << VX_REGION_SHIFT) + (uint64_t)page * VX_PAGE;
    uint32_t lo = r->dirty[page].lo, hi = r->dirty[page].hi;
    uint32_t a = to < lo ? to : hi, b = to < lo ? lo : from; /* the gap a..b */
    const uint64_t generation = i->a.generation;
    char *gap = vx_pool_acquire(fs->o.pool, VX_PAGE, VX_TAG_REQUEST);
    if (!gap)
        return -ENOMEM;
    memset(gap, 0, VX_PAGE);
    int64_t rc = 0;
    if (base + a < i->a.size)
        rc = vx_data_read(fs, i, base + a, gap, (size_t)(i->a.size - base - a < b - a ? i->a.size - base - a : b - a));
    if (rc >= 0) {
        rc = -EAGAIN; /* unless nothing changed while the lock was away */
        if (i->a.generation == generation && r->dirty && r->dirty[page].buf && r->dirty[page].lo == lo &&
            r->dirty[page].hi == hi) {
            memcpy(r->dirty[page].buf + a, gap, b - a);
            r->dirty[page].lo = (uint16_t)(a < lo ? a : lo);
            r->dirty[page].hi = (uint16_t)(b > hi ? b : hi);
            rc = 0;
        }
    }
    vx_pool_release(fs->o.pool, gap, VX_PAGE);
    return (int)rc;
}

/* Joins what a page holds to the bytes that come to it.  -EAGAIN: the lock may have been away. */
static int close_gap(vx_fs *fs, vx_inode *i, uint64_t at, uint32_t n)
{
    uint32_t page = (uint32_t)(at & (VX_REGION - 1)) / VX_PAGE, from = (uint32_t)(at % VX_PAGE), to = from + n;
    vx_region *r;
    int rc = vx_region_get(fs, i, (uint32_t)(at >> VX_REGION_SHIFT), 1, &r);
    if (rc || !r->dirty || !r->dirty[page].buf || (from <= r->dirty[page].hi && to >= r->dirty[page].lo))
        return rc;
    rc = fill_gap(fs, i, r, page, from, to);
    return rc ? rc : -EAGAIN;
}

/* Only the first and the last page of a write can leave a gap.  They are made ready before any byte is changed: the
 * lock is held from here to the end of the write, so that no epoch and no other writer sees half of it. */
static int close_gaps(vx_fs *fs, vx_inode *i, uint64_t off, size_t n)
{
    uint64_t end = off + n, last = (end - 1) / VX_PAGE * VX_PAGE;
    uint32_t first = VX_PAGE - (uint32_t)(off % VX_PAGE);
    int rc = close_gap(fs, i, off, first < n ? first : (uint32_t)n);
    if (!rc && last > off)
        rc = close_gap(fs, i, last, (uint32_t)(end - last));
    return rc;
}

static int write_page(vx_fs *fs, vx_inode *i, uint64_t at, const char *src, uint32_t n)
{
    uint32_t page = (uint32_t)(at & (VX_REGION - 1)) / VX_PAGE, from = (uint32_t)(at % VX_PAGE), to = from + n;
    vx_region *r;
    vx_frame_mark();
    int rc = vx_region_get(fs, i, (uint32_t)(at >> VX_REGION_SHIFT), 1, &r);
    if (rc)
        return rc;
    if (!r->dirty) {
        r->dirty = vx_pool_acquire(fs->o.pool, VX_REGION_PAGES * sizeof *r->dirty, VX_TAG_PAGE);
        if (!r->dirty)
            return -ENOMEM;
        memset(r->dirty, 0, VX_REGION_PAGES * sizeof *r->dirty);
    }
    vx_slot *s = &r->dirty[page];
    if (!s->buf) {
        s->buf = vx_pool_acquire(fs->o.pool, VX_PAGE, VX_TAG_PAGE);
        if (!s->buf)
            return -ENOMEM;
        s->lo = (uint16_t)from;
        s->hi = (uint16_t)to;
        r->ndirty++;
        i->dirty_pages++;
        fs->dirty_bytes += VX_PAGE;
        vx_inode_dirty(fs, i);
    } else { /* the two touch: the gap was closed before */
        s->lo = (uint16_t)(from < s->lo ? from : s->lo);
        s->hi = (uint16_t)(to > s->hi ? to : s->hi);
    }
    memcpy(s->buf + from, src, n);
    return 0;
}

static int write_pages(vx_fs *fs, vx_inode *i, uint64_t off, const char *src, size_t n, size_t *done)
{
    while (*done < n) {
        uint64_t at = off + *done;
        uint32_t k = VX_PAGE - (uint32_t)(at % VX_PAGE);
        if (k > n - *done)
            k = (uint32_t)(n - *done);
        int rc = write_page(fs, i, at, src + *done, k);
        if (rc)
            return rc;
        *done += k;
    }
    return 0;
}

/* An inline file that outgrew its row: its bytes become the first dirty page. */
int vx_leave_inline(vx_fs *fs, vx_inode *i)
{
    uint32_t n = i->inl_n;
    int rc = vx_inline_load(fs, i);
    if (rc)
        return rc;
    i->flags &= ~(uint32_t)VX_I_INLINE;
    if (n) {
        rc = write_page(fs, i, 0, i->inl, n);
        if (rc) {
            i->flags |= VX_I_INLINE;
            return rc;
        }
    }
    fs->used_bytes -= n;
    vx_inline_free(fs, i);
    return 0;
}

int vx_page_whole(vx_fs *fs, vx_inode *i, uint64_t at)
{
    uint64_t base = at / VX_PAGE * VX_PAGE;
    uint32_t page = (uint32_t)(at & (VX_REGION - 1)) / VX_PAGE;
    if (base >= i->a.size || (i->flags & VX_I_INLINE))
        return 0;
    uint32_t end = i->a.size - base < VX_PAGE ? (uint32_t)(i->a.size - base) : VX_PAGE;
    vx_region *r;
    int rc = vx_region_get(fs, i, (uint32_t)(at >> VX_REGION_SHIFT), 1, &r);
    if (rc || (r->dirty && r->dirty[page].buf && !r->dirty[page].lo && r->dirty[page].hi >= end))
        return rc;
    char *whole = vx_pool_acquire(fs->o.pool, VX_PAGE, VX_TAG_REQUEST);
    if (!whole)
        return -ENOMEM;
    int64_t n = vx_data_read(fs, i, base, whole, end);
    rc = n < 0 ? (int)n : n < end ? -EIO : write_page(fs, i, base, whole, end);
    vx_pool_release(fs->o.pool, whole, VX_PAGE);
    return rc ? rc : -EAGAIN;
}

static int write_inline(vx_fs *fs, vx_inode *i, uint64_t off, const char *src, size_t n)
{
    int rc = off || n < i->inl_n ? vx_inline_load(fs, i) : 0; /* what is overwritten whole need not be read */
    if (!rc)
        rc = vx_inline_room(fs, i, (size_t)off + n);
    if (rc)
        return rc;
    vx_inline_dirty(fs, i);
    if (off > i->inl_n)
        memset(i->inl + i->inl_n, 0, (size_t)off - i->inl_n);
    memcpy(i->inl + off, src, n);
    if (off + n > i->inl_n) {
        fs->used_bytes += off + n - i->inl_n;
        i->inl_n = (uint32_t)(off + n);
    }
    return 0;
}

int vx_write_held(vx_fs *fs, vx_inode *i, uint64_t off, const void *src, size_t n)
{
    size_t done = 0;
    int rc = 0;
    vx_frame_mark();
    if ((i->flags & VX_I_INLINE) && off + n <= VX_INLINE_MAX) {
        rc = write_inline(fs, i, off, src, n);
    } else {
        if (i->flags & VX_I_INLINE)
            rc = vx_leave_inline(fs, i);
        if (!rc)
            rc = write_pages(fs, i, off, src, n, &done);
    }
    if (!rc && off + n > i->a.size)
        i->a.size = off + n;
    vx_inode_dirty(fs, i);
    return rc;
}

static int holds(const vx_slot *slots, uint32_t page)
{
    return slots && slots[page].buf;
}

/* Whether all that is written over has its place, in the map or in pages that are counted: the limit has room for it. */
static int adds_nothing(vx_fs *fs, vx_inode *i, uint64_t off, size_t n)
{
    const uint64_t end = off + n;
    vx_region *r;
    if (end < off || end > i->a.size)
        return 0;
    if (i->flags & VX_I_INLINE)
        return end <= i->inl_n;
    while (off < end) {
        uint32_t in = (uint32_t)(off & (VX_REGION - 1)), hole;
        if (vx_region_get(fs, i, (uint32_t)(off >> VX_REGION_SHIFT), 1, &r))
            return 0;
        if (holds(r->dirty, in / VX_PAGE) || holds(r->frozen, in / VX_PAGE)) {
            off = (off / VX_PAGE + 1) * VX_PAGE;
            continue;
        }
        const vx_extent *e = vx_extents_at(r, in, &hole);
        if (!e)
            return 0;
        off += e->off + e->len - in;
    }
    return 1;
}

/* Room, and pages ready to take the bytes; *off is where an appender finds the end when the lock stays held. */
static int write_ready(vx_fs *fs, vx_inode *i, uint64_t *off, size_t n, int append)
{
    const uint64_t room = n + VX_META_COST;
    const int over = !append && vx_space_over(fs, room) && adds_nothing(fs, i, *off, n);
    int rc = over ? vx_space_host(fs, room) : vx_space_make(fs, room);
    if (rc)
        return rc;
    do {
        if (append)
            *off = i->a.size;
        if (*off + n > VX_FILE_MAX || *off + n < *off)
            return -EFBIG;
        rc = i->flags & VX_I_INLINE ? 0 : close_gaps(fs, i, *off, n);
    } while (rc == -EAGAIN);
    return rc;
}

static int64_t write_locked(vx_fs *fs, const vx_cred *c, uint64_t off, int append, vx_inode *i, const char *src,
                            size_t n)
{
    int rc = write_ready(fs, i, &off, n, append);
    if (rc)
        return rc;
    size_t done = 0;
    if ((i->flags & VX_I_INLINE) && off + n <= VX_INLINE_MAX) {
        rc = write_inline(fs, i, off, src, n);
        done = rc ? 0 : n;
    } else {
        if (i->flags & VX_I_INLINE) {
            rc = vx_leave_inline(fs, i);
            if (!rc)
                rc = close_gaps(fs, i, off, n); /* with zeros: nothing lies below, so the lock stays */
            rc = rc == -EAGAIN ? 0 : rc;
        }
        if (!rc)
            rc = write_pages(fs, i, off, src, n, &done);
    }
    if (!done)
        return rc;
    if (off + done > i->a.size)
        i->a.size = off + done;
    const uint32_t mode = i->a.mode;
    if (c->uid)
        vx_drop_privileges(i);
    vx_touch(fs, i, vx_now(), 1);
    vx_event_inode(fs, c, i->a.ino, 1);
    if (i->a.mode != mode)
        vx_event_inode(fs, NULL, i->a.ino, 0); /* who wrote does not know of it */
    vx_mutated(fs, i->a.ino);
    return (int64_t)done;
}

/* Each piece is one cut; between them the writer waits its turn, so that a huge write keeps within dirty_limit. */
static int64_t write_pieces(vx_fs *fs, const vx_cred *c, uint64_t off, int append, vx_inode *i, const char *src,
                            size_t n)
{
    int64_t done = 0, rc = 0;
    while ((size_t)done < n && rc >= 0) {
        size_t piece = n - (size_t)done < VX_WRITE_PIECE ? n - (size_t)done : VX_WRITE_PIECE;
        vx_throttle(fs);
        rc = write_locked(fs, c, off + (uint64_t)done, append, i, src + done, piece);
        done += rc > 0 ? rc : 0;
        if (rc >= 0 && (size_t)rc < piece)
            break;
    }
    return done ? done : rc;
}

int64_t vx_fs_write(vx_fs *fs, const vx_cred *c, uint64_t ino, uint64_t off, const void *src, size_t n, uint32_t flags)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_WRITE);
    vx_inode *i;
    int64_t rc = fs->read_only ? -EROFS : vx_inode_get(fs, ino, &i);
    if (!rc && !S_ISREG(i->a.mode))
        rc = S_ISDIR(i->a.mode) ? -EISDIR : -EINVAL;
    if (!rc && n) {
        i->refs++;
        rc = write_pieces(fs, c, off, (flags & VX_WRITE_APPEND) != 0, i, src, n);
        i->refs--;
        vx_inode_maybe_delete(fs, i);
    }
    vx_op_leave(fs, &f, rc < 0 ? (int)rc : 0);
    return rc;
}

/* -- truncation ----------------------------------------------------------------------------------------------- */

int vx_data_cut(vx_fs *fs, vx_inode *i, uint64_t size)
{
    uint32_t keep = (uint32_t)((size + VX_REGION - 1) >> VX_REGION_SHIFT); /* regions from here on go whole */
    uint32_t in = (uint32_t)(size & (VX_REGION - 1));
    vx_region *r = NULL;
    int rc = in ? vx_region_get(fs, i, (uint32_t)(size >> VX_REGION_SHIFT), 1, &r) : 0;
    if (!rc && keep < VX_REGIONS)
        rc = vx_extents_forget(fs, i, keep);
    if (!rc && in)
        rc = vx_extents_cut(fs, r, in, VX_REGION); /* loaded: it cannot fail any more */
    if (rc)
        return rc;
    if (in) {
        if (r->dirty) {
            vx_slot *s = &r->dirty[in / VX_PAGE];
            uint32_t end = in % VX_PAGE, keeps = end && s->buf && s->lo < end;
            if (keeps && s->hi > end)
                s->hi = (uint16_t)end;
            vx_pages_free(fs, r, &r->dirty, in / VX_PAGE + keeps, VX_REGION_PAGES);
        }
        r->cut = 1;
    }
    if (keep < i->map_floor)
        i->map_floor = keep;
    if (keep < i->cut && keep < VX_REGIONS) /* else nothing goes whole */
        i->cut = keep;
    i->flags |= VX_I_CUT;
    i->floor_epoch = fs->epoch;
    return 0;
}

int vx_data_settle(vx_fs *fs, vx_inode *i)
{
    while (i->frozen_pages) {
        if (fs->commit_err && !fs->committing)
            return fs->commit_err;
        pthread_cond_wait(&fs->changed, &fs->lock);
    }
    return 0;
}

int vx_data_truncate(vx_fs *fs, vx_inode *i, uint64_t size)
{
    if (size > VX_FILE_MAX)
        return -EFBIG;
    i->refs++;
    int rc = size < i->a.size ? vx_data_settle(fs, i) : 0;
    if (!rc && (i->flags & VX_I_INLINE) && size > VX_INLINE_MAX)
        rc = vx_leave_inline(fs, i);
    if (rc) {
        i->refs--;
        return rc;
    }
    if (i->flags & VX_I_INLINE) {
        rc = size && size < i->inl_n ? vx_inline_load(fs, i) : 0;
        if (!rc && size < i->inl_n) {
            fs->used_bytes -= i->inl_n - size;
            i->inl_n = (uint32_t)size;
            vx_inline_dirty(fs, i);
        }
    } else if (size < i->a.size) {
        rc = vx_data_cut(fs, i, size);
        if (!rc && !size)
            i->flags |= VX_I_INLINE;
    }
    if (!rc) {
        i->a.size = size;
        vx_inode_dirty(fs, i);
    }
    i->refs--;
    return rc;
}
