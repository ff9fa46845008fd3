/* Reading: bytes come from the newest place that has them, dirty pages, frozen pages, extents; holes are zeros.
 *
 * What lies on disk is planned under the lock, with its segments pinned, and read without it. */
#include <errno.h>
#include <string.h>

#include "vexfs/engine.h"

/* Frames asked for together; and ahead of a reader so many times as many. */
enum { GETS = 16, ROUNDS = 16 };

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
    const uint64_t half = fs->o.prefetch_bytes > 1 ? fs->o.prefetch_bytes / 2 : 1, now = end / half, crossed = now - off / half;
    if (!crossed && i->read_run > 2) /* asks when half of the window is used up: the other one was asked for before */
        return;
    vx_scratch scratch;
    vx_frame_get *ahead = vx_frame_scratch(&scratch, fs->o.pool, GETS * sizeof *ahead);
    uint32_t n = 0, rounds = 0;
    const uint64_t stop = (now + 2) * half < i->a.size ? (now + 2) * half : i->a.size;
    for (uint64_t at = crossed == 1 && i->read_run > 2 ? (now + 1) * half : end; ahead && at < stop && rounds < ROUNDS;) {
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
        if (n == GETS) {
            vx_segstore_prefetch(fs->store, ahead, n);
            n = 0;
            rounds++;
        }
    }
    if (n)
        vx_segstore_prefetch(fs->store, ahead, n);
    if (ahead)
        vx_scratch_end(&scratch);
}

int64_t vx_data_read(vx_fs *fs, vx_inode *i, uint64_t off, char *dst, size_t n)
{
    size_t done = 0;
    vx_scratch scratch;
    plan_t *p = vx_frame_scratch(&scratch, fs->o.pool, sizeof *p);
    int rc = p ? 0 : -ENOMEM;
    while (!rc && done < n && off + done < i->a.size) {
        size_t left = n - done < i->a.size - off - done ? n - done : (size_t)(i->a.size - off - done);
        if (i->flags & VX_I_INLINE) {
            rc = vx_inline_load(fs, i);
            if (rc)
                break;
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
    return rc ? rc : (int64_t)done; /* never less for a fault: whoever asks takes that for the end of the file */
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
        rc = vx_data_read(fs, i, off, dst, n);
        if (rc > 0) {
            touch_atime(fs, i);
            if (!(i->flags & VX_I_INLINE))
                read_ahead(fs, i, off, off + (uint64_t)rc);
        }
        i->refs--;
        vx_inode_let_go(fs, i);
    }
    vx_op_leave(fs, &f, rc < 0 ? (int)rc : 0);
    return rc;
}

int vx_fs_data(vx_fs *fs, uint64_t ino, uint64_t off, uint64_t *begin, uint64_t *end)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_READ);
    vx_inode *i;
    int rc = vx_inode_get(fs, ino, &i);
    if (!rc && !S_ISREG(i->a.mode))
        rc = S_ISDIR(i->a.mode) ? -EISDIR : -EINVAL;
    if (!rc) {
        const uint64_t size = i->a.size;
        *begin = *end = size;
        if ((i->flags & VX_I_INLINE) && off < i->inl_n) {
            *begin = off;
            *end = i->inl_n;
        } else if (!(i->flags & VX_I_INLINE) && off < size) {
            int64_t at = vx_region_next(fs, i, (uint32_t)(off >> VX_REGION_SHIFT));
            const uint64_t from = (uint64_t)at << VX_REGION_SHIFT;
            rc = at < 0 ? (int)at : 0;
            if (!rc && from < size) {
                *begin = from > off ? from : off;
                *end = from + VX_REGION < size ? from + VX_REGION : size;
            }
        }
    }
    return vx_op_leave(fs, &f, rc);
}
