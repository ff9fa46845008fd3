/* File content: reads, writes, truncation, over inline bytes, dirty pages, frozen pages and extents. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

#include "vexfs/engine.h"

uint64_t vx_blocks(const vx_inode *i)
{
    if (!S_ISREG(i->a.mode))
        return S_ISDIR(i->a.mode) ? 8 : (i->inl_n + 511) / 512;
    if (i->flags & VX_I_INLINE)
        return (i->inl_n + 511) / 512;
    uint64_t bytes = i->alloc + (uint64_t)(i->dirty_pages + i->frozen_pages) * VX_PAGE;
    uint64_t most = (i->a.size + VX_PAGE - 1) / VX_PAGE * VX_PAGE;
    return ((bytes < most ? bytes : most) + 511) / 512;
}

/* Inline bytes live as long as their inode is cached, thousands of them: they are sized to fit, and not the pools'. */
int vx_inline_room(vx_fs *fs, vx_inode *i, size_t n)
{
    if (n <= i->inl_cap)
        return 0;
    uint32_t cap = i->inl_cap ? (uint32_t)n * 2 : ((uint32_t)n + 63) & ~63u;
    cap = cap > VX_INLINE_MAX ? VX_INLINE_MAX : cap;
    char *p = realloc(i->inl, cap);
    if (!p)
        return -ENOMEM;
    fs->inline_bytes += cap - i->inl_cap;
    i->inl = p;
    i->inl_cap = cap;
    return 0;
}

void vx_inline_free(vx_fs *fs, vx_inode *i)
{
    fs->inline_bytes -= i->inl_cap;
    free(i->inl);
    i->inl = NULL;
    i->inl_n = i->inl_cap = 0;
}

void vx_pages_free(vx_fs *fs, vx_region *r, vx_slot **slots, uint32_t from)
{
    vx_slot *s = *slots;
    if (!s)
        return;
    uint32_t *count = slots == &r->dirty ? &r->ndirty : &r->nfrozen;
    uint32_t gone = 0;
    for (uint32_t k = from; k < VX_REGION_PAGES; k++)
        if (s[k].buf) {
            vx_pool_release(fs->o.pool, s[k].buf, VX_PAGE);
            s[k].buf = NULL;
            gone++;
        }
    *count -= gone;
    if (slots == &r->dirty) {
        r->inode->dirty_pages -= gone;
        fs->dirty_bytes -= (uint64_t)gone * VX_PAGE;
    } else {
        r->inode->frozen_pages -= gone;
        fs->frozen_bytes -= (uint64_t)gone * VX_PAGE;
    }
    if (!*count) {
        vx_pool_release(fs->o.pool, s, VX_REGION_PAGES * sizeof *s);
        *slots = NULL;
    }
}

/* Room for `bytes` more in the volume's limit and on the host; looked up anew when it gets tight. */
int vx_space_check(vx_fs *fs, uint64_t bytes)
{
    uint64_t pending = fs->dirty_bytes + fs->frozen_bytes + fs->dirty_ops * VX_META_COST / 8;
    if (fs->o.size_limit && fs->used_bytes + pending + bytes > fs->o.size_limit)
        return -EDQUOT;
    const uint64_t slack = 4u << 20; /* for the log of metadata */
    fs->host_checked += bytes;
    if (fs->host_checked > fs->host_free / 16 || pending + bytes + slack > fs->host_free) {
        struct statvfs v;
        if (!statvfs(fs->dir, &v))
            fs->host_free = (uint64_t)v.f_bavail * v.f_frsize;
        fs->host_checked = 0;
    }
    return pending + bytes + slack > fs->host_free ? -ENOSPC : 0;
}

int vx_space_make(vx_fs *fs, uint64_t bytes)
{
    if (fs->commit_err && fs->dirty_bytes + fs->frozen_bytes > fs->o.dirty_limit)
        return fs->commit_err;
    int rc = vx_space_check(fs, bytes);
    if (rc && fs->dirty_ops && !fs->commit_err && !vx_commit_until(fs, fs->epoch, 0))
        rc = vx_space_check(fs, bytes); /* what was deleted and not yet committed has been counted now */
    return rc;
}

/* -- reading --------------------------------------------------------------------------------------------------- */

enum { GETS = 16 };

typedef struct {
    vx_frame_get get[GETS];
    uint32_t n;
} plan_t;

/* One stretch that memory does not hold: extents are planned, holes are zeros.  Answers how many bytes it covered. */
static uint32_t plan_disk(vx_fs *fs, vx_region *r, uint32_t off, uint32_t len, char *dst, plan_t *p)
{
    uint32_t done = 0;
    while (done < len) {
        uint32_t hole;
        const vx_extent *e = vx_extents_at(r, off + done, &hole);
        uint32_t n = len - done;
        if (!e) {
            n = n < hole ? n : hole;
            memset(dst + done, 0, n);
        } else {
            uint32_t in = off + done - e->off;
            n = n < e->len - in ? n : e->len - in;
            vx_frame_get *last = p->n ? &p->get[p->n - 1] : NULL;
            if (last && last->seg == e->seg && last->pos == e->pos && last->skip + last->len == e->skip + in &&
                (char *)last->dst + last->len == dst + done) {
                last->len += n;
            } else {
                if (p->n == GETS)
                    break;
                if (vx_segstore_pin(fs->store, e->seg))
                    break;
                p->get[p->n++] = (vx_frame_get){
                    .ino = r->inode->a.ino,
                    .off = ((uint64_t)r->index << VX_REGION_SHIFT) + e->off - e->skip,
                    .seg = e->seg, .pos = e->pos, .stored = e->stored, .skip = e->skip + in, .len = n,
                    .dst = dst + done};
            }
        }
        done += n;
    }
    return done;
}

/* What a slot holds of the page bytes from..to: copies it, and says where it began and ended. */
static int from_slot(const vx_slot *slots, uint32_t page, uint32_t from, uint32_t to, uint32_t *lo, uint32_t *hi)
{
    if (!slots || !slots[page].buf)
        return 0;
    *lo = slots[page].lo > from ? slots[page].lo : from;
    *hi = slots[page].hi < to ? slots[page].hi : to;
    return *lo < *hi;
}

/* Bytes from..to of one page, newest first: dirty, frozen, disk.  Answers the bytes covered from `from` on. */
static uint32_t plan_page(vx_fs *fs, vx_region *r, uint32_t page, uint32_t from, uint32_t to, char *dst, plan_t *p)
{
    const vx_slot *layers[2] = {r->dirty, r->frozen};
    uint32_t at = from;
    while (at < to) {
        uint32_t end = to, lo, hi, hit = 0;
        for (int k = 0; k < 2 && !hit; k++)
            if (from_slot(layers[k], page, at, end, &lo, &hi)) {
                if (lo == at) {
                    memcpy(dst + (at - from), layers[k][page].buf + lo, hi - lo);
                    at = hi;
                    hit = 1;
                } else {
                    end = lo; /* older layers only up to here */
                }
            }
        if (hit)
            continue;
        uint32_t n = plan_disk(fs, r, page * VX_PAGE + at, end - at, dst + (at - from), p);
        at += n;
        if (at < end)
            break;
    }
    return at - from;
}

static int plan_region(vx_fs *fs, vx_region *r, uint32_t off, uint32_t len, char *dst, plan_t *p, uint32_t *done)
{
    int rc = vx_region_load(fs, r);
    if (rc)
        return rc;
    if (!r->dirty && !r->frozen) {
        *done = plan_disk(fs, r, off, len, dst, p);
        return 0;
    }
    uint32_t at = 0;
    while (at < len) {
        uint32_t page = (off + at) / VX_PAGE, from = (off + at) % VX_PAGE;
        uint32_t to = from + (len - at) < VX_PAGE ? from + (len - at) : VX_PAGE;
        uint32_t n = plan_page(fs, r, page, from, to, dst + at, p);
        at += n;
        if (n < to - from)
            break;
    }
    *done = at;
    return 0;
}

/* Reads what was planned without the lock; the plan pinned the segments. */
static int run_plan(vx_fs *fs, plan_t *p)
{
    vx_frame_mark();
    if (!p->n)
        return 0;
    pthread_mutex_unlock(&fs->lock);
    int rc = vx_segstore_read(fs->store, p->get, p->n);
    for (uint32_t k = 0; k < p->n; k++)
        vx_segstore_unpin(fs->store, p->get[k].seg);
    pthread_mutex_lock(&fs->lock);
    return rc;
}

/* A reader that goes on where it stopped gets the frames ahead of it. */
static void read_ahead(vx_fs *fs, vx_inode *i, uint64_t off, uint64_t end)
{
    if (off != i->read_next) {
        i->read_run = 0;
        i->read_next = end;
        return;
    }
    i->read_next = end;
    if (++i->read_run < 2 || !fs->o.prefetch_bytes)
        return;
    uint64_t half = fs->o.prefetch_bytes / 2; /* asks when half of the window is used up */
    if (half && off / half == end / half && i->read_run > 2)
        return;
    vx_scratch scratch;
    vx_frame_get *ahead = vx_frame_scratch(&scratch, fs->o.pool, GETS * sizeof *ahead);
    uint32_t n = 0;
    uint64_t stop = end + fs->o.prefetch_bytes < i->a.size ? end + fs->o.prefetch_bytes : i->a.size;
    for (uint64_t at = end; ahead && at < stop && n < GETS;) {
        vx_region *r;
        if (vx_region_get(fs, i, (uint32_t)(at >> VX_REGION_SHIFT), 1, &r))
            break;
        uint32_t hole, in = (uint32_t)(at & (VX_REGION - 1));
        const vx_extent *e = vx_extents_at(r, in, &hole);
        if (e) {
            ahead[n++] = (vx_frame_get){.ino = i->a.ino,
                                        .off = ((uint64_t)r->index << VX_REGION_SHIFT) + e->off - e->skip,
                                        .seg = e->seg, .pos = e->pos, .stored = e->stored};
            at += e->len - (in - e->off);
        } else {
            at += hole;
        }
    }
    if (n)
        vx_segstore_prefetch(fs->store, ahead, n);
    if (ahead)
        vx_scratch_end(&scratch);
}

static int64_t read_locked(vx_fs *fs, vx_inode *i, uint64_t off, char *dst, size_t n)
{
    size_t done = 0;
    vx_scratch scratch;
    plan_t *p = vx_frame_scratch(&scratch, fs->o.pool, sizeof *p);
    int rc = p ? 0 : -ENOMEM;
    while (!rc && done < n && off + done < i->a.size) {
        size_t left = n - done < i->a.size - off - done ? n - done : (size_t)(i->a.size - off - done);
        if (i->flags & VX_I_INLINE) {
            uint64_t have = off + done < i->inl_n ? i->inl_n - (off + done) : 0;
            size_t k = left < have ? left : (size_t)have;
            if (k)
                memcpy(dst + done, i->inl + off + done, k);
            memset(dst + done + k, 0, left - k);
            done += left;
            continue;
        }
        uint64_t at = off + done;
        uint32_t in = (uint32_t)(at & (VX_REGION - 1));
        uint32_t len = left < VX_REGION - in ? (uint32_t)left : VX_REGION - in, got = 0;
        vx_region *r;
        p->n = 0;
        rc = vx_region_get(fs, i, (uint32_t)(at >> VX_REGION_SHIFT), 1, &r);
        if (!rc)
            rc = plan_region(fs, r, in, len, dst + done, p, &got);
        int failed = run_plan(fs, p);
        if (!rc)
            rc = failed ? failed : got ? 0 : -EIO;
        if (!rc)
            done += got;
    }
    vx_scratch_end(&scratch);
    return done || !rc ? (int64_t)done : rc;
}

static void touch_atime(vx_fs *fs, vx_inode *i)
{
    if (!fs->o.atime || fs->read_only)
        return;
    int64_t now = vx_now();
    if (fs->o.atime == 1 && i->a.atime_ns > i->a.mtime_ns && i->a.atime_ns > i->a.ctime_ns &&
        now - i->a.atime_ns < 86400000000000ll)
        return;
    i->a.atime_ns = now;
    vx_inode_dirty(fs, i);
    vx_mutated(fs, i->a.ino);
}

int64_t vx_fs_read(vx_fs *fs, uint64_t ino, uint64_t off, void *dst, size_t n)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_READ);
    vx_inode *i;
    int64_t rc = vx_inode_get(fs, ino, &i);
    if (!rc && !S_ISREG(i->a.mode))
        rc = S_ISDIR(i->a.mode) ? -EISDIR : -EINVAL;
    if (!rc && off < i->a.size && n) {
        i->refs++;
        rc = read_locked(fs, i, off, dst, n);
        if (rc > 0) {
            touch_atime(fs, i);
            if (!(i->flags & VX_I_INLINE))
                read_ahead(fs, i, off, off + (uint64_t)rc);
        }
        i->refs--;
        vx_inode_maybe_delete(fs, i);
    }
    vx_op_leave(fs, &f, 0);
    return rc;
}

/* -- writing --------------------------------------------------------------------------------------------------- */

/* Completes a page so that bytes `from..to` can join what it holds: the gap between is read from below. */
static int fill_gap(vx_fs *fs, vx_inode *i, vx_region *r, uint32_t page, uint32_t from, uint32_t to)
{
    uint64_t base = ((uint64_t)r->index << VX_REGION_SHIFT) + (uint64_t)page * VX_PAGE;
    uint32_t lo = r->dirty[page].lo, hi = r->dirty[page].hi;
    uint32_t a = to < lo ? to : hi, b = to < lo ? lo : from; /* the gap a..b */
    char *gap = vx_pool_acquire(fs->o.pool, VX_PAGE, VX_TAG_REQUEST);
    if (!gap)
        return -ENOMEM;
    memset(gap, 0, VX_PAGE);
    int64_t rc = 0;
    if (base + a < i->a.size)
        rc = read_locked(fs, i, base + a, gap, (size_t)(i->a.size - base - a < b - a ? i->a.size - base - a : b - a));
    if (rc >= 0) {
        rc = -EAGAIN; /* unless nothing changed while the lock was away */
        if (r->dirty && r->dirty[page].buf && r->dirty[page].lo == lo && r->dirty[page].hi == hi) {
            memcpy(r->dirty[page].buf + a, gap, b - a);
            r->dirty[page].lo = (uint16_t)(a < lo ? a : lo);
            r->dirty[page].hi = (uint16_t)(b > hi ? b : hi);
            rc = 0;
        }
    }
    vx_pool_release(fs->o.pool, gap, VX_PAGE);
    return (int)rc;
}

static int write_page(vx_fs *fs, vx_inode *i, uint64_t at, const char *src, uint32_t n)
{
    uint32_t page = (uint32_t)(at & (VX_REGION - 1)) / VX_PAGE, from = (uint32_t)(at % VX_PAGE), to = from + n;
    vx_region *r;
    vx_frame_mark();
    for (;;) {
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
            vx_inode_dirty(fs, i); /* before the lock can be released: the page must be in somebody's epoch */
        } else if (from <= s->hi && to >= s->lo) {
            s->lo = (uint16_t)(from < s->lo ? from : s->lo);
            s->hi = (uint16_t)(to > s->hi ? to : s->hi);
        } else {
            rc = fill_gap(fs, i, r, page, from, to);
            if (rc && rc != -EAGAIN)
                return rc;
            continue;
        }
        memcpy(s->buf + from, src, n);
        return 0;
    }
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
static int leave_inline(vx_fs *fs, vx_inode *i)
{
    uint32_t n = i->inl_n;
    i->flags &= ~(uint32_t)VX_I_INLINE;
    if (n) {
        int rc = write_page(fs, i, 0, i->inl, n);
        if (rc) {
            i->flags |= VX_I_INLINE;
            return rc;
        }
    }
    fs->used_bytes -= n;
    vx_inline_free(fs, i);
    return 0;
}

static int write_inline(vx_fs *fs, vx_inode *i, uint64_t off, const char *src, size_t n)
{
    int rc = vx_inline_room(fs, i, (size_t)off + n);
    if (rc)
        return rc;
    if (off > i->inl_n)
        memset(i->inl + i->inl_n, 0, (size_t)off - i->inl_n);
    memcpy(i->inl + off, src, n);
    if (off + n > i->inl_n) {
        fs->used_bytes += off + n - i->inl_n;
        i->inl_n = (uint32_t)(off + n);
    }
    return 0;
}

static int64_t write_locked(vx_fs *fs, const vx_cred *c, uint64_t off, vx_inode *i, const char *src, size_t n)
{
    if (off + n > VX_FILE_MAX || off + n < off)
        return -EFBIG;
    int rc = vx_space_make(fs, n + VX_META_COST);
    if (rc)
        return rc;
    size_t done = 0;
    if ((i->flags & VX_I_INLINE) && off + n <= VX_INLINE_MAX) {
        rc = write_inline(fs, i, off, src, n);
        done = rc ? 0 : n;
    } else {
        if (i->flags & VX_I_INLINE)
            rc = leave_inline(fs, i);
        if (!rc)
            rc = write_pages(fs, i, off, src, n, &done);
    }
    if (!done)
        return rc;
    if (off + done > i->a.size)
        i->a.size = off + done;
    if (c->uid)
        vx_drop_privileges(i);
    vx_touch(fs, i, vx_now(), 1);
    vx_event_inode(fs, c, i->a.ino, 1);
    vx_mutated(fs, i->a.ino);
    return (int64_t)done;
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
        vx_throttle(fs);
        rc = write_locked(fs, c, flags & VX_WRITE_APPEND ? i->a.size : off, i, src, n);
        i->refs--;
        vx_inode_maybe_delete(fs, i);
    }
    vx_op_leave(fs, &f, 0);
    return rc;
}

/* -- truncation ------------------------------------------------------------------------------------------------ */

/* Shrinks what memory and the map hold to `size` bytes; nothing of the file is frozen. */
static int cut_regions(vx_fs *fs, vx_inode *i, uint64_t size)
{
    uint32_t keep = (uint32_t)((size + VX_REGION - 1) >> VX_REGION_SHIFT); /* regions from here on go whole */
    uint32_t in = (uint32_t)(size & (VX_REGION - 1));
    if (in) {
        vx_region *r;
        int rc = vx_region_get(fs, i, (uint32_t)(size >> VX_REGION_SHIFT), 1, &r);
        if (!rc)
            rc = vx_extents_cut(fs, r, in);
        if (rc)
            return rc;
        if (r->dirty) {
            vx_slot *s = &r->dirty[in / VX_PAGE];
            uint32_t end = in % VX_PAGE, keeps = end && s->buf && s->lo < end;
            if (keeps && s->hi > end)
                s->hi = (uint16_t)end;
            vx_pages_free(fs, r, &r->dirty, in / VX_PAGE + keeps);
        }
        r->cut = 1;
    }
    int rc = vx_extents_forget(fs, i, keep);
    if (rc)
        return rc;
    if (keep < i->map_floor)
        i->map_floor = keep;
    if (keep < i->cut)
        i->cut = keep;
    i->flags |= VX_I_CUT;
    i->floor_epoch = fs->epoch;
    if (!size)
        i->flags |= VX_I_INLINE;
    return 0;
}

int vx_data_truncate(vx_fs *fs, vx_inode *i, uint64_t size)
{
    if (size > VX_FILE_MAX)
        return -EFBIG;
    int rc = 0;
    i->refs++;
    while (!rc && i->frozen_pages && size < i->a.size) { /* the epoch being committed still has to place them */
        if (fs->commit_err && !fs->committing)
            rc = fs->commit_err;
        else
            pthread_cond_wait(&fs->changed, &fs->lock);
    }
    if (rc) {
        i->refs--;
        return rc;
    }
    if ((i->flags & VX_I_INLINE) && size > VX_INLINE_MAX)
        rc = leave_inline(fs, i);
    if (i->flags & VX_I_INLINE) {
        if (size < i->inl_n) {
            fs->used_bytes -= i->inl_n - size;
            i->inl_n = (uint32_t)size;
        }
    } else if (size < i->a.size) {
        rc = cut_regions(fs, i, size);
    }
    if (!rc) {
        i->a.size = size;
        vx_inode_dirty(fs, i);
    }
    i->refs--;
    return rc;
}
