/* fallocate(2): room ahead of need, and bytes given back in the middle of a file.
 *
 * Pages that a hole covers whole leave the map, at its ends zeros are written: a map stays one of pages.  What is
 * written goes to new places, so room cannot be set aside for it; whether there is enough is told. */
#include <errno.h>
#include <string.h>

#include "vexfs/engine.h"

/* Zeros off..end, at most a page; those of them that the file has. */
static int lay_zeros(vx_fs *fs, vx_inode *i, uint64_t off, uint64_t end)
{
    static const char zeros[VX_PAGE];
    end = end < i->a.size ? end : i->a.size;
    return off < end ? vx_write_held(fs, i, off, zeros, (size_t)(end - off)) : 0;
}

/* The pages at both ends whole in memory, and nothing of the file frozen.  From here on the lock is held: all of the
 * range becomes zeros in one epoch, for other threads and for a crash. */
static int zero_ready(vx_fs *fs, vx_inode *i, uint64_t off, uint64_t end)
{
    int rc;
    do {
        const int waits = i->frozen_pages != 0;
        rc = waits ? vx_data_settle(fs, i) : 0;
        if (!rc)
            rc = waits ? -EAGAIN : off % VX_PAGE ? vx_page_whole(fs, i, off) : 0;
        if (!rc && end % VX_PAGE)
            rc = vx_page_whole(fs, i, end);
    } while (rc == -EAGAIN);
    return rc;
}

/* Takes the pages off..end out of the map; nothing of the file is frozen. */
static int punch(vx_fs *fs, vx_inode *i, uint64_t off, uint64_t end)
{
    if ((i->flags & VX_I_INLINE) || off >= i->a.size)
        return 0;
    if (end >= i->a.size)
        return vx_data_cut(fs, i, off);
    int64_t at = vx_region_next(fs, i, (uint32_t)(off >> VX_REGION_SHIFT));
    while (at >= 0 && (uint64_t)at << VX_REGION_SHIFT < end) {
        const uint64_t base = (uint64_t)at << VX_REGION_SHIFT;
        const uint32_t from = off > base ? (uint32_t)(off - base) : 0;
        const uint32_t to = end - base < VX_REGION ? (uint32_t)(end - base) : VX_REGION;
        vx_region *r;
        int rc = vx_region_get(fs, i, (uint32_t)at, 1, &r);
        if (!rc)
            rc = vx_extents_cut(fs, r, from, to);
        if (rc)
            return rc;
        vx_pages_free(fs, r, &r->dirty, from / VX_PAGE, to / VX_PAGE);
        r->cut = 1;
        i->flags |= VX_I_CUT;
        at = vx_region_next(fs, i, (uint32_t)at + 1);
    }
    return at < 0 ? (int)at : 0;
}

/* Where the last page ends that has nothing behind `end`. */
static uint64_t whole_to(const vx_inode *i, uint64_t end)
{
    return end < i->a.size ? end / VX_PAGE * VX_PAGE : end;
}

/* Bytes off..end become zeros, those that the file has. */
static int zero(vx_fs *fs, vx_inode *i, uint64_t off, uint64_t end)
{
    int rc = zero_ready(fs, i, off, end);
    if (rc)
        return rc;
    if (i->flags & VX_I_INLINE) {
        rc = off < i->inl_n ? vx_inline_load(fs, i) : 0;
        if (!rc && off < i->inl_n) {
            vx_inline_dirty(fs, i);
            memset(i->inl + off, 0, (size_t)((end < i->inl_n ? end : i->inl_n) - off));
        }
        return rc;
    }
    const uint64_t from = (off + VX_PAGE - 1) / VX_PAGE * VX_PAGE, to = whole_to(i, end);
    rc = lay_zeros(fs, i, off, from < end ? from : end);
    if (!rc)
        rc = lay_zeros(fs, i, to > from ? to : from, end);
    return rc || from >= to ? rc : punch(fs, i, from, to);
}

/* As far as can be told: what is behind the end, and within the file what it has no blocks for. */
static uint64_t wanted(const vx_inode *i, uint64_t off, uint64_t end)
{
    const uint64_t inside = off < i->a.size ? (end < i->a.size ? end : i->a.size) - off : 0, have = vx_blocks(i) * 512;
    return end - off - (inside < have ? inside : have);
}

static int allocate(vx_fs *fs, const vx_cred *c, vx_inode *i, uint32_t mode, uint64_t off, uint64_t end)
{
    const int zeroes = (mode & (VX_ALLOC_PUNCH_HOLE | VX_ALLOC_ZERO_RANGE)) != 0;
    int changes = zeroes && off < i->a.size;
    int rc = mode & VX_ALLOC_PUNCH_HOLE && off % VX_PAGE == 0 && (end % VX_PAGE == 0 || end >= i->a.size)
                 ? 0 /* it gives room back */
                 : vx_space_make(fs, (zeroes ? 2 * VX_PAGE : wanted(i, off, end)) + VX_META_COST);
    if (!rc && zeroes)
        rc = zero(fs, i, off, end);
    if (!rc && !(mode & VX_ALLOC_KEEP_SIZE) && end > i->a.size) {
        rc = vx_data_truncate(fs, i, end);
        changes = 1;
    }
    if (changes) { /* also what failed in the middle */
        if (c->uid)
            vx_drop_privileges(i);
        vx_touch(fs, i, vx_now(), 1);
        vx_event_inode(fs, c, i->a.ino, 1);
        vx_mutated(fs, i->a.ino);
    }
    return rc;
}

int vx_fs_fallocate(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t mode, uint64_t off, uint64_t n)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_FALLOCATE);
    vx_inode *i;
    vx_throttle(fs);
    int rc = fs->read_only ? -EROFS : vx_inode_get(fs, ino, &i);
    if (!rc && !S_ISREG(i->a.mode))
        rc = S_ISDIR(i->a.mode) ? -EISDIR : -ENODEV;
    if (!rc && (mode & ~(uint32_t)(VX_ALLOC_KEEP_SIZE | VX_ALLOC_PUNCH_HOLE | VX_ALLOC_ZERO_RANGE)))
        rc = -EOPNOTSUPP;
    if (!rc && ((mode & VX_ALLOC_PUNCH_HOLE) && (mode & ~(uint32_t)VX_ALLOC_PUNCH_HOLE) != VX_ALLOC_KEEP_SIZE))
        rc = -EOPNOTSUPP; /* as the kernel has it: a hole never changes the size, and is no range of zeros */
    if (!rc && !n)
        rc = -EINVAL;
    if (!rc && (n > VX_FILE_MAX || off > VX_FILE_MAX - n))
        rc = -EFBIG;
    if (!rc) {
        i->refs++;
        rc = allocate(fs, c, i, mode, off, off + n);
        i->refs--;
        vx_inode_maybe_delete(fs, i);
    }
    return vx_op_leave(fs, &f, rc);
}
