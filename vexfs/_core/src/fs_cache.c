/* The inode cache: what memory knows of files, laid over the last commit. */
#include <errno.h>
#include <string.h>

#include "vexfs/codec.h"
#include "vexfs/engine.h"

int64_t vx_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int vx_cache_init(vx_fs *fs)
{
    fs->bucket_mask = 4095;
    fs->buckets = calloc(fs->bucket_mask + 1, sizeof *fs->buckets);
    if (!fs->buckets || vx_hmap_init(&fs->inodes, 4096) || vx_hmap_init(&fs->regions, 1024) ||
        vx_hmap_init(&fs->lookups, 1024) || vx_hmap_init(&fs->segments, 64))
        return -ENOMEM;
    return 0;
}

/* -- rows ------------------------------------------------------------------------------------------------------ */

typedef struct {
    uint8_t version, flags;
    uint16_t header_n;
    uint32_t mode, nlink, uid, gid, inline_n;
    uint64_t rdev, size, alloc, generation;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    uint64_t parent, slot;
} row_t;
_Static_assert(sizeof(row_t) == VX_ROW_HEADER, "the inode row is a format: docs/format.md");
enum { ROW_VERSION = 1, ROW_INLINE = 1, ROW_XATTR = 2, ROW_APART = 4 };

size_t vx_inode_pack(const vx_inode *i, char *out)
{
    row_t r = {.version = ROW_VERSION, .header_n = sizeof r, .mode = i->a.mode, .nlink = i->a.nlink, .uid = i->a.uid,
               .gid = i->a.gid, .inline_n = i->flags & VX_I_INLINE ? i->inl_n : 0, .rdev = i->a.rdev,
               .size = i->a.size, .alloc = i->alloc, .generation = i->a.generation, .atime_ns = i->a.atime_ns,
               .mtime_ns = i->a.mtime_ns, .ctime_ns = i->a.ctime_ns, .btime_ns = i->a.btime_ns, .parent = i->parent,
               .slot = i->slot};
    uint32_t here = vx_row_inline(i);
    r.flags = (uint8_t)((i->flags & VX_I_INLINE ? ROW_INLINE : 0) | (i->flags & VX_I_XATTR ? ROW_XATTR : 0) |
                        (here < r.inline_n ? ROW_APART : 0));
    memcpy(out, &r, sizeof r);
    if (here)
        memcpy(out + sizeof r, i->inl, here);
    return sizeof r + here;
}

static int unpack(vx_fs *fs, vx_inode *i, const void *data, size_t n)
{
    row_t r;
    if (n < sizeof r)
        return -EBADMSG;
    memcpy(&r, data, sizeof r);
    uint32_t here = r.flags & ROW_APART ? 0 : r.inline_n;
    if (r.version != ROW_VERSION || r.header_n != sizeof r || r.inline_n > VX_INLINE_MAX || n != sizeof r + here ||
        r.size > VX_FILE_MAX)
        return -EBADMSG;
    i->a.mode = r.mode;
    i->a.nlink = r.nlink;
    i->a.uid = r.uid;
    i->a.gid = r.gid;
    i->a.rdev = r.rdev;
    i->a.size = r.size;
    i->a.generation = r.generation;
    i->a.atime_ns = r.atime_ns;
    i->a.mtime_ns = r.mtime_ns;
    i->a.ctime_ns = r.ctime_ns;
    i->a.btime_ns = r.btime_ns;
    i->alloc = r.alloc;
    i->parent = r.parent;
    i->slot = r.slot;
    i->flags = (r.flags & ROW_INLINE ? VX_I_INLINE : 0) | (r.flags & ROW_XATTR ? VX_I_XATTR | VX_I_XSTORED : 0) |
               (r.flags & ROW_APART ? VX_I_APART : 0) | (r.flags & ROW_INLINE && !r.alloc ? 0 : VX_I_MAPPED) |
               (r.nlink ? 0 : VX_I_ORPHAN);
    if (here) {
        int rc = vx_inline_room(fs, i, here);
        if (rc)
            return rc;
        memcpy(i->inl, (const char *)data + sizeof r, here);
    }
    i->inl_n = r.inline_n;
    if (here > VX_ROW_INLINE)
        i->flags |= VX_I_INL_DIRTY; /* as rows once were: it moves out when the row is next written */
    return 0;
}

/* -- inodes ---------------------------------------------------------------------------------------------------- */

static void lru_push(vx_fs *fs, vx_inode *i)
{
    i->lprev = NULL;
    i->lnext = fs->inode_head;
    if (fs->inode_head)
        fs->inode_head->lprev = i;
    else
        fs->inode_tail = i;
    fs->inode_head = i;
}

static void lru_remove(vx_fs *fs, vx_inode *i)
{
    if (i->lprev)
        i->lprev->lnext = i->lnext;
    else
        fs->inode_head = i->lnext;
    if (i->lnext)
        i->lnext->lprev = i->lprev;
    else
        fs->inode_tail = i->lprev;
}

int vx_inode_new(vx_fs *fs, uint64_t ino, vx_inode **out)
{
    vx_inode *i = calloc(1, sizeof *i);
    if (!i)
        return -ENOMEM;
    i->a.ino = ino;
    i->map_floor = VX_NO_FLOOR;
    i->cut = VX_NO_FLOOR;
    if (vx_hmap_put(&fs->inodes, ino, (uintptr_t)i)) {
        free(i);
        return -ENOMEM;
    }
    lru_push(fs, i);
    *out = i;
    return 0;
}

int vx_inode_get(vx_fs *fs, uint64_t ino, vx_inode **out)
{
    vx_inode *i = (vx_inode *)vx_hmap_get(&fs->inodes, ino);
    if (i) {
        fs->s.inode_hits++;
        if (i->flags & VX_I_DELETED)
            return -ENOENT;
        if (fs->inode_head != i) {
            lru_remove(fs, i);
            lru_push(fs, i);
        }
        *out = i;
        return 0;
    }
    fs->s.inode_misses++;
    vx_frame_mark();
    const void *data;
    size_t n;
    vx_meta_latest(fs);
    int rc = vx_meta_get_inode(fs->meta, ino, &data, &n);
    if (rc)
        return rc;
    rc = vx_inode_new(fs, ino, &i);
    if (rc)
        return rc;
    rc = unpack(fs, i, data, n);
    if (rc) {
        vx_inode_drop(fs, i);
        return rc;
    }
    *out = i;
    return 0;
}

static void dirty_remove(vx_fs *fs, vx_inode *i)
{
    if (!(i->flags & VX_I_DIRTY))
        return;
    if (i->dprev)
        i->dprev->dnext = i->dnext;
    else
        fs->dirty_inodes = i->dnext;
    if (i->dnext)
        i->dnext->dprev = i->dprev;
    else
        fs->dirty_inodes_tail = i->dprev;
    i->dnext = i->dprev = NULL;
    i->flags &= ~(uint32_t)VX_I_DIRTY;
}

void vx_inode_drop(vx_fs *fs, vx_inode *i)
{
    while (i->regions)
        vx_region_drop(fs, i->regions);
    dirty_remove(fs, i);
    lru_remove(fs, i);
    vx_hmap_del(&fs->inodes, i->a.ino);
    vx_inline_free(fs, i);
    fs->xattr_bytes -= i->xattr_n;
    free(i->xattr);
    free(i);
}

void vx_inode_dirty(vx_fs *fs, vx_inode *i)
{
    i->pin_epoch = fs->epoch;
    if (i->flags & VX_I_DIRTY)
        return;
    i->flags |= VX_I_DIRTY;
    i->dnext = NULL; /* oldest first: new rows are appended in order of their number */
    i->dprev = fs->dirty_inodes_tail;
    if (i->dprev)
        i->dprev->dnext = i;
    else
        fs->dirty_inodes = i;
    fs->dirty_inodes_tail = i;
}

int vx_inode_maybe_delete(vx_fs *fs, vx_inode *i)
{
    if (i->a.nlink || i->opens || i->refs || (i->flags & VX_I_DELETED) || vx_hmap_get(&fs->lookups, i->a.ino))
        return 0;
    for (vx_region *r = i->regions; r; r = r->next)
        vx_pages_free(fs, r, &r->dirty, 0, VX_REGION_PAGES);
    fs->used_bytes -= i->inl_n; /* what lies in extents is counted out when the deletion is frozen */
    fs->files--;
    i->flags |= VX_I_DELETED;
    if ((i->flags & VX_I_NEW) && !i->frozen_pages && i->pin_epoch == fs->epoch) {
        vx_inode_drop(fs, i); /* came and went within one epoch: no commit ever hears of it */
        return 0;
    }
    fs->going_bytes += i->alloc;
    vx_inode_dirty(fs, i);
    return 1;
}

void vx_inode_let_go(vx_fs *fs, vx_inode *i)
{
    const uint64_t ino = i->a.ino;
    if (vx_inode_maybe_delete(fs, i))
        vx_mutated(fs, ino);
}

/* -- shrinking ------------------------------------------------------------------------------------------------- */

static int inode_idle(const vx_fs *fs, const vx_inode *i)
{
    return !(i->flags & VX_I_DIRTY) && !i->opens && !i->refs && !i->dirty_pages && !i->frozen_pages && !i->pinned &&
           i->pin_epoch <= fs->committed && i->a.ino != VX_ROOT_INO &&
           (i->a.nlink || (i->flags & VX_I_DELETED)); /* an unlinked file that is remembered goes when forgotten */
}

/* Inodes above what memory keeps, also by the bytes of their attributes. */
static size_t surplus(const vx_fs *fs)
{
    size_t used = fs->inodes.used, over = used > fs->o.inode_cache ? used - fs->o.inode_cache : 0;
    if (fs->xattr_bytes <= VX_XATTR_CACHE)
        return over;
    size_t share = (size_t)(((fs->xattr_bytes - VX_XATTR_CACHE) >> 10) * used / (fs->xattr_bytes >> 10));
    return share > over ? share : over;
}

void vx_cache_shrink(vx_fs *fs)
{
    vx_inline_shrink(fs);
    /* A bounded walk from the cold end: what cannot go is moved to the warm end, so that it is not met each time. */
    size_t left = vx_shrink_steps(surplus(fs));
    for (int stay = 0; left && stay < 64 && vx_many_inodes(fs) && fs->inode_tail; left--) {
        vx_inode *i = fs->inode_tail;
        if (inode_idle(fs, i)) {
            vx_inode_drop(fs, i);
        } else {
            lru_remove(fs, i);
            lru_push(fs, i);
            stay++;
        }
    }
    const size_t most = 2 * fs->o.inode_cache;
    left = vx_shrink_steps(fs->dentries > most ? fs->dentries - most : 0);
    for (size_t stay = 0; left && stay < 64 && fs->dentries > most && fs->dentry_tail; left--) {
        size_t before = fs->dentries;
        vx_dentry_evict(fs, fs->dentry_tail);
        stay += fs->dentries == before;
    }
    for (int steps = 0; steps < 64 && fs->nregions > VX_REGION_CACHE(fs) && fs->region_tail; steps++)
        vx_region_evict(fs, fs->region_tail);
}

void vx_cache_drop(vx_fs *fs)
{
    vx_inline_drop(fs);
    for (vx_region *r = fs->region_tail, *prev; r; r = prev) {
        prev = r->lprev;
        if (!r->dirty && !r->frozen && !r->inode->refs && r->inode->pin_epoch <= fs->committed)
            vx_region_drop(fs, r);
    }
    for (vx_dentry *d = fs->dentry_tail, *prev; d; d = prev) {
        prev = d->lprev;
        if (!(d->flags & (VX_D_DIRTY | VX_D_PINNED)))
            vx_dentry_drop(fs, d);
    }
    for (vx_inode *i = fs->inode_tail, *prev; i; i = prev) {
        prev = i->lprev;
        if (inode_idle(fs, i))
            vx_inode_drop(fs, i);
    }
}

void vx_cache_free(vx_fs *fs)
{
    while (fs->inode_head) {
        vx_inode *i = fs->inode_head;
        for (vx_region *r = i->regions; r; r = r->next) {
            vx_pages_free(fs, r, &r->dirty, 0, VX_REGION_PAGES);
            vx_pages_free(fs, r, &r->frozen, 0, VX_REGION_PAGES);
        }
        vx_inode_drop(fs, i);
    }
    while (fs->dentry_head)
        vx_dentry_drop(fs, fs->dentry_head);
    vx_rows_free(fs);
    for (size_t k = 0; fs->segments.cells && k <= fs->segments.mask; k++)
        free((void *)fs->segments.cells[k].value);
    free(fs->buckets);
    free(fs->inodes.cells);
    free(fs->regions.cells);
    free(fs->lookups.cells);
    free(fs->segments.cells);
}
