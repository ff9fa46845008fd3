/* Pages and room: what holds the content of larger files in memory. */
#include <errno.h>
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

void vx_pages_free(vx_fs *fs, vx_region *r, vx_slot **slots, uint32_t from, uint32_t to)
{
    vx_slot *s = *slots;
    if (!s)
        return;
    uint32_t *count = slots == &r->dirty ? &r->ndirty : &r->nfrozen;
    uint32_t gone = 0;
    for (uint32_t k = from; k < to; k++)
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

enum { DISK_PART = 16, SEGMENT_LEAST = 1 << 20 };

/* On a small disk segments are smaller: room to copy a whole one is kept, and is to be no large part of the disk. */
void vx_space_begin(vx_fs *fs)
{
    struct statvfs v;
    uint64_t most = fs->o.segment_bytes ? fs->o.segment_bytes : 64u << 20;
    uint64_t part = statvfs(fs->dir, &v) ? most : (uint64_t)v.f_blocks * v.f_frsize / DISK_PART & ~(uint64_t)(SEGMENT_LEAST - 1);
    if (part < SEGMENT_LEAST)
        part = SEGMENT_LEAST;
    fs->o.segment_bytes = most < part ? most : part;
}

/* Beside room for the log of metadata, and for the pages that go from there to the database, reclaim has to have some:
 * without it a disk that was filled once would stay full whatever is removed, for a segment is given back only after
 * what lives in it was written elsewhere. */
uint64_t vx_space_kept(const vx_fs *fs)
{
    return fs->read_only ? 0 : 2 * (uint64_t)VX_LOG_ROOM + fs->o.segment_bytes;
}

void vx_space_look(vx_fs *fs)
{
    struct statvfs v;
    fs->host_checked = 0;
    if (statvfs(fs->dir, &v))
        return;
    fs->host_free = (uint64_t)v.f_bavail * v.f_frsize;
    fs->host_kept = vx_space_kept(fs);
}

int vx_space_short(const vx_fs *fs)
{
    return fs->host_kept && fs->host_free <= 2 * fs->host_kept;
}

static uint64_t pending(const vx_fs *fs)
{
    return fs->dirty_bytes + fs->frozen_bytes + fs->dirty_ops * VX_META_COST / 8;
}

int vx_space_over(const vx_fs *fs, uint64_t bytes)
{
    return fs->o.size_limit && fs->used_bytes - fs->going_bytes + pending(fs) + bytes > fs->o.size_limit;
}

/* Room for `bytes` more on the host; looked up anew when it gets tight. */
static int host_check(vx_fs *fs, uint64_t bytes)
{
    const uint64_t all = pending(fs) + fs->moving + bytes;
    fs->host_checked += bytes;
    if (fs->host_checked > fs->host_free / 16 || all + fs->host_kept > fs->host_free)
        vx_space_look(fs);
    if (all + fs->host_kept <= fs->host_free)
        return 0;
    pthread_cond_signal(&fs->work); /* reclaim may find some */
    return -ENOSPC;
}

int vx_space_check(vx_fs *fs, uint64_t bytes)
{
    return vx_space_over(fs, bytes) ? -EDQUOT : host_check(fs, bytes);
}

int vx_space_host(vx_fs *fs, uint64_t bytes)
{
    if (fs->commit_err && vx_many_bytes(fs))
        return fs->commit_err;
    int rc = host_check(fs, bytes), counted = 0;
    while (rc == -ENOSPC && !fs->commit_err) { /* until nothing is left that could be given back */
        if (fs->committing || fs->deleting) {
            pthread_cond_wait(&fs->changed, &fs->lock);
        } else if (!counted && (fs->dirty_ops || fs->frozen_bytes || fs->durable < fs->committed)) {
            counted = 1; /* what was deleted; others may go on for ever */
            if (vx_commit_until(fs, fs->epoch, 1))
                break;
        } else if (vx_reclaim_step(fs)) {
            counted = 0;
        } else {
            break;
        }
        rc = host_check(fs, bytes);
    }
    return rc;
}

int vx_space_make(vx_fs *fs, uint64_t bytes)
{
    if (fs->commit_err && vx_many_bytes(fs))
        return fs->commit_err;
    if (vx_space_over(fs, bytes) && (fs->dirty_ops || fs->frozen_bytes) && !fs->commit_err)
        (void)vx_commit_until(fs, fs->epoch, 0); /* what was written over is counted twice until then */
    int rc = vx_space_over(fs, bytes) ? -EDQUOT : vx_space_host(fs, bytes);
    return !rc && vx_space_over(fs, bytes) ? -EDQUOT : rc; /* others may have written meanwhile */
}

int vx_fs_room(vx_fs *fs, uint64_t ino, uint64_t bytes)
{
    vx_inode *i;
    pthread_mutex_lock(&fs->lock);
    int rc = fs->read_only ? -EROFS : vx_inode_get(fs, ino, &i);
    const uint64_t has = rc ? 0 : i->a.size;
    bytes += VX_META_COST;
    if (!rc)
        rc = vx_space_host(fs, bytes);
    if (!rc && bytes > has)
        rc = vx_space_make(fs, bytes - has);
    pthread_mutex_unlock(&fs->lock);
    return rc ? rc : has != 0;
}
