/* The two halves of a commit that hold the lock: freezing an epoch, and taking in where its data went. */
#include <errno.h>
#include <string.h>

#include "vexfs/commit.h"

enum { ROW_ALLOC_AT = 40 }; /* of the allocated bytes in an inode's row: known only when the data has its place */

static void freeze_maps(vx_fs *fs, vx_inode *i)
{
    if (!(i->flags & VX_I_CUT))
        return;
    if (!(i->flags & VX_I_NEW) && i->cut != VX_NO_FLOOR)
        vx_batch_put(&fs->batch, VX_B_CUT, i->a.ino, i->cut, 0, 0, NULL, 0);
    for (vx_region *r = i->regions; r; r = r->next)
        if (r->cut) {
            vx_pack_map(fs, r);
            r->cut = 0;
        }
    i->cut = VX_NO_FLOOR;
    i->flags &= ~(uint32_t)VX_I_CUT;
}

static void freeze_pages(vx_fs *fs, vx_inode *i)
{
    for (vx_region *r = i->dirty_pages ? i->regions : NULL; r; r = r->next) {
        if (!r->dirty)
            continue;
        r->frozen = r->dirty;
        r->nfrozen = r->ndirty;
        r->dirty = NULL;
        r->ndirty = 0;
        r->fnext = fs->frozen_regions;
        fs->frozen_regions = r;
    }
    i->frozen_pages = i->dirty_pages;
    i->dirty_pages = 0;
}

static void freeze_gone(vx_fs *fs, vx_inode *i)
{
    /* A map that cannot be read is lost with its file: nothing else depends on it but the count of live bytes. */
    if (vx_extents_forget(fs, i, 0))
        fs->s.commit_errors++;
    i->flags &= ~(uint32_t)(VX_I_CUT | VX_I_XDIRTY | VX_I_CONTENT);
    if (i->flags & VX_I_NEW)
        return;
    uint32_t parts = (i->flags & VX_I_XSTORED ? VX_PART_XATTR : 0) | (i->flags & VX_I_APART ? VX_PART_CONTENT : 0) |
                     (i->flags & VX_I_ORPHAN ? VX_PART_ORPHAN : 0) | (i->flags & VX_I_MAPPED ? VX_PART_MAPS : 0);
    vx_batch_put(&fs->batch, VX_B_INODE_GONE, i->a.ino, parts, 0, 0, NULL, 0);
}

/* Content that has outgrown the row goes into a row of its own; the row itself is rewritten with every other change. */
static void freeze_content(vx_fs *fs, vx_inode *i)
{
    int apart = (i->flags & VX_I_INLINE) && vx_row_inline(i) < i->inl_n;
    if (apart && (i->flags & VX_I_INL_DIRTY))
        vx_batch_put(&fs->batch, VX_B_CONTENT, i->a.ino, 0, 0, 0, i->inl, i->inl_n);
    else if (!apart && (i->flags & VX_I_APART))
        vx_batch_put(&fs->batch, VX_B_CONTENT_GONE, i->a.ino, 0, 0, 0, NULL, 0);
    i->flags = (apart ? i->flags | VX_I_APART : i->flags & ~(uint32_t)VX_I_APART) & ~(uint32_t)VX_I_INL_DIRTY;
}

static void freeze_inode(vx_fs *fs, vx_inode *i)
{
    i->flags &= ~(uint32_t)VX_I_DIRTY;
    i->dnext = i->dprev = NULL;
    i->fnext = fs->frozen_inodes;
    fs->frozen_inodes = i;
    i->row_at = 0;
    if (i->flags & VX_I_DELETED) {
        freeze_gone(fs, i);
        return;
    }
    freeze_maps(fs, i);
    freeze_pages(fs, i);
    freeze_content(fs, i);
    size_t n = VX_ROW_HEADER + vx_row_inline(i);
    i->row_at = vx_batch_put(&fs->batch, VX_B_INODE, i->a.ino, 0, 0, 0, NULL, n);
    if (!fs->batch.failed)
        vx_inode_pack(i, fs->batch.data + i->row_at);
    if (!i->a.nlink && !(i->flags & VX_I_ORPHAN)) {
        vx_batch_put(&fs->batch, VX_B_ORPHAN, i->a.ino, 0, 0, 0, NULL, 0);
        i->flags |= VX_I_ORPHAN;
    } else if (i->a.nlink && (i->flags & VX_I_ORPHAN)) {
        vx_batch_put(&fs->batch, VX_B_ORPHAN_GONE, i->a.ino, 0, 0, 0, NULL, 0);
        i->flags &= ~(uint32_t)VX_I_ORPHAN;
    }
    if (i->flags & VX_I_XDIRTY) {
        if (i->xattr_n)
            vx_batch_put(&fs->batch, VX_B_XATTR, i->a.ino, 0, 0, 0, i->xattr, i->xattr_n);
        else
            vx_batch_put(&fs->batch, VX_B_XATTR_GONE, i->a.ino, 0, 0, 0, NULL, 0);
        i->flags |= VX_I_XSTORED;
    }
    if (i->flags & VX_I_CONTENT)
        vx_oplog(fs, VX_LOG_CONTENT, i->a.ino, i->a.size, i->a.generation, 0, i->a.mtime_ns, NULL, 0, NULL, 0);
    i->flags &= ~(uint32_t)(VX_I_NEW | VX_I_XDIRTY | VX_I_CONTENT);
}

static void freeze_dentry(vx_fs *fs, vx_dentry *d)
{
    d->flags &= (uint16_t)~VX_D_DIRTY;
    d->dnext = d->dprev = NULL;
    d->fnext = fs->frozen_dentries;
    fs->frozen_dentries = d;
    if (d->flags & VX_D_NEGATIVE) {
        if (d->flags & VX_D_STORED)
            vx_batch_put(&fs->batch, VX_B_DENTRY_GONE, d->parent, d->slot, 0, 0, NULL, 0);
        d->flags &= (uint16_t)~VX_D_STORED;
    } else {
        vx_batch_put(&fs->batch, VX_B_DENTRY, d->parent, d->slot, d->ino, d->type, d->name, d->name_n);
        d->flags |= VX_D_STORED;
    }
}

static void put_int(vx_fs *fs, const char *name, uint64_t value)
{
    vx_batch_put(&fs->batch, VX_B_INT, value, 0, 0, 0, name, strlen(name) + 1);
}

void vx_freeze_epoch(vx_fs *fs)
{
    vx_frame_mark();
    fs->batch.n = 0;
    fs->batch.failed = 0;
    fs->batch_epoch = fs->epoch++;
    fs->batch_pending = 1;
    fs->batch_data_done = 0;
    for (vx_inode *i = fs->dirty_inodes, *next; i; i = next) {
        next = i->dnext;
        freeze_inode(fs, i);
    }
    fs->dirty_inodes = fs->dirty_inodes_tail = NULL;
    for (vx_dentry *d = fs->dirty_dentries, *next; d; d = next) {
        next = d->dnext;
        freeze_dentry(fs, d);
    }
    fs->dirty_dentries = fs->dirty_dentries_tail = NULL;
    vx_batch swap = fs->frozen_oplog;
    fs->frozen_oplog = fs->oplog;
    fs->oplog = swap;
    fs->oplog.n = 0;
    put_int(fs, "next_ino", fs->next_ino);
    put_int(fs, "files", fs->files);
    fs->frozen_bytes = fs->dirty_bytes;
    fs->frozen_inline = fs->dirty_inline;
    fs->dirty_bytes = fs->dirty_inline = 0;
    fs->dirty_ops = 0;
    fs->first_dirty_ns = 0;
    fs->batch_used = fs->used_bytes;
    fs->going_bytes = 0;
    for (size_t k = 0; k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        if (!s)
            continue;
        s->running = 0;
        if (s->epoch > fs->batch_epoch)
            s->epoch = fs->batch_epoch; /* what the files that go held: it goes with this commit, not with one to come */
    }
}

void vx_pack_map(vx_fs *fs, vx_region *r)
{
    if (!r->ext_n) {
        vx_batch_put(&fs->batch, VX_B_MAP_GONE, r->inode->a.ino, r->index, 0, 0, NULL, 0);
        return;
    }
    r->inode->flags |= VX_I_MAPPED;
    size_t at = vx_batch_put(&fs->batch, VX_B_MAP, r->inode->a.ino, r->index, 0, 0, NULL, vx_extents_bytes(r->ext_n));
    if (!fs->batch.failed)
        vx_extents_pack(r->ext, r->ext_n, fs->batch.data + at);
}

static void put_segments(vx_fs *fs)
{
    put_int(fs, "used", fs->batch_used);
    fs->gone_segments = 0;
    for (size_t k = 0; k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        if (!s || !s->dirty)
            continue;
        /* A later epoch may have freed bytes already: a segment called empty too early would be deleted after a crash. */
        uint64_t row[4] = {s->raw_total, s->raw_live - (uint64_t)s->running, s->used, 0};
        if (s->gone)
            vx_batch_put(&fs->batch, VX_B_SEGMENT_GONE, s->seg, 0, 0, 0, NULL, 0);
        else
            vx_batch_put(&fs->batch, VX_B_SEGMENT, s->seg, 0, 0, 0, row, sizeof row);
        s->dirty = s->running != 0;
    }
}

static int lay_placed(vx_fs *fs, const vx_placed *placed, size_t n)
{
    int rc = 0;
    uint64_t before = fs->used_bytes;
    fs->placing = 1;
    for (size_t k = 0; k < n && !rc; k++) {
        const vx_frame_put *p = placed[k].put;
        uint32_t in = (uint32_t)(p->off & (VX_REGION - 1));
        vx_extent e = {.off = in, .len = p->raw_len, .seg = p->seg, .pos = p->pos, .stored = p->stored};
        rc = vx_extents_lay(fs, placed[k].region, &e);
        if (!rc)
            vx_segment_live(fs, p->seg, 0, p->raw_len, (uint64_t)p->pos + p->stored);
    }
    fs->placing = 0;
    fs->batch_used += fs->used_bytes - before;
    return rc;
}

int vx_install_data(vx_fs *fs, const vx_placed *placed, size_t n)
{
    int rc = lay_placed(fs, placed, n);
    if (rc)
        return rc; /* laid twice on another try: the same bytes in the same place */
    for (vx_region *r = fs->frozen_regions, *next; r; r = next) {
        next = r->fnext;
        r->fnext = NULL;
        vx_pages_free(fs, r, &r->frozen, 0, VX_REGION_PAGES);
        vx_pack_map(fs, r);
        if (r->inode->row_at && !fs->batch.failed)
            memcpy(fs->batch.data + r->inode->row_at + ROW_ALLOC_AT, &r->inode->alloc, sizeof r->inode->alloc);
    }
    fs->frozen_regions = NULL;
    put_segments(fs);
    fs->batch_data_done = 1;
    return fs->batch.failed || fs->frozen_oplog.failed ? -ENOMEM : 0;
}

void vx_thaw_epoch(vx_fs *fs)
{
    fs->committed = fs->batch_epoch;
    fs->meta_stale = 1;
    fs->batch_pending = 0;
    fs->frozen_inline = 0;
    fs->untrimmed = 1;
    fs->s.commits++;
    for (vx_dentry *d = fs->frozen_dentries, *next; d; d = next) {
        next = d->fnext;
        d->fnext = NULL;
        if (!(d->flags & VX_D_DIRTY))
            vx_dentry_unpin(fs, d);
    }
    fs->frozen_dentries = NULL;
    for (vx_inode *i = fs->frozen_inodes, *next; i; i = next) {
        next = i->fnext;
        i->fnext = NULL;
        if (i->floor_epoch <= fs->committed)
            i->map_floor = VX_NO_FLOOR;
        vx_inline_clean(fs, i);
        if ((i->flags & VX_I_DELETED) && !(i->flags & VX_I_DIRTY) && !i->refs)
            vx_inode_drop(fs, i);
    }
    fs->frozen_inodes = NULL;
    for (size_t k = 0; k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        if (s && s->gone && !s->dirty) {
            vx_hmap_del(&fs->segments, s->seg);
            free(s);
            k--; /* deletion may have moved another into this cell */
        }
    }
}
