/* The dentry cache: names, present and absent.
 *
 * A dentry's key on disk is (directory, slot).  The slot is a keyed 62-bit hash of the name with the low two bits
 * clear, or one of the three numbers after it: names whose hashes collide share four slots.  The slot is also the
 * cookie of readdir: it stays what it is while the name exists. */
#include <errno.h>
#include <string.h>

#include "vexfs/engine.h"

static size_t bucket_of(const vx_fs *fs, uint64_t parent, uint64_t hash)
{
    uint64_t x = (hash >> 2) + parent * 0x9E3779B97F4A7C15ull;
    return (size_t)(x ^ (x >> 29)) & fs->bucket_mask;
}

static void lru_push(vx_fs *fs, vx_dentry *d)
{
    d->lprev = NULL;
    d->lnext = fs->dentry_head;
    if (fs->dentry_head)
        fs->dentry_head->lprev = d;
    else
        fs->dentry_tail = d;
    fs->dentry_head = d;
}

static void lru_remove(vx_fs *fs, vx_dentry *d)
{
    if (d->lprev)
        d->lprev->lnext = d->lnext;
    else
        fs->dentry_head = d->lnext;
    if (d->lnext)
        d->lnext->lprev = d->lprev;
    else
        fs->dentry_tail = d->lprev;
}

static void grow(vx_fs *fs)
{
    size_t mask = fs->bucket_mask * 2 + 1;
    vx_dentry **old = fs->buckets, **now = calloc(mask + 1, sizeof *now);
    if (!now)
        return; /* longer chains: slower, still right */
    size_t old_n = fs->bucket_mask + 1;
    fs->buckets = now;
    fs->bucket_mask = mask;
    for (size_t k = 0; k < old_n; k++)
        for (vx_dentry *d = old[k], *next; d; d = next) {
            next = d->hnext;
            size_t b = bucket_of(fs, d->parent, d->hash);
            d->hnext = now[b];
            now[b] = d;
        }
    free(old);
}

vx_dentry *vx_dentry_find(vx_fs *fs, uint64_t parent, uint64_t hash, const char *name, size_t n)
{
    for (vx_dentry *d = fs->buckets[bucket_of(fs, parent, hash)]; d; d = d->hnext)
        if (d->hash == hash && d->parent == parent && d->name_n == n && !memcmp(d->name, name, n))
            return d;
    return NULL;
}

vx_dentry *vx_dentry_at(vx_fs *fs, uint64_t parent, uint64_t slot)
{
    uint64_t hash = slot & ~(uint64_t)(VX_SLOTS - 1);
    for (vx_dentry *d = fs->buckets[bucket_of(fs, parent, hash)]; d; d = d->hnext)
        if (d->slot == slot && d->parent == parent && d->hash == hash && d->ino)
            return d;
    return NULL;
}

void vx_dentry_ahead(const vx_fs *fs, uint64_t parent, uint64_t slot, int found)
{
    vx_dentry **bucket = &fs->buckets[bucket_of(fs, parent, slot & ~(uint64_t)(VX_SLOTS - 1))];
    __builtin_prefetch(found ? (const void *)*bucket : (const void *)bucket);
    if (found && *bucket)
        __builtin_prefetch((*bucket)->name);
}

vx_dentry *vx_dentry_insert(vx_fs *fs, uint64_t parent, uint64_t hash, uint64_t slot, const char *name, size_t n)
{
    vx_dentry *d = calloc(1, sizeof *d + n + 1);
    if (!d)
        return NULL;
    d->parent = parent;
    d->hash = hash;
    d->slot = slot;
    d->name_n = (uint16_t)n;
    d->flags = VX_D_NEGATIVE;
    memcpy(d->name, name, n);
    if (fs->dentries > fs->bucket_mask)
        grow(fs);
    size_t b = bucket_of(fs, parent, hash);
    d->hnext = fs->buckets[b];
    fs->buckets[b] = d;
    fs->dentries++;
    lru_push(fs, d);
    return d;
}

void vx_dentry_drop(vx_fs *fs, vx_dentry *d)
{
    vx_dentry **p = &fs->buckets[bucket_of(fs, d->parent, d->hash)];
    while (*p != d)
        p = &(*p)->hnext;
    *p = d->hnext;
    lru_remove(fs, d);
    fs->dentries--;
    free(d);
}

void vx_dentry_evict(vx_fs *fs, vx_dentry *d)
{
    if (d->flags & (VX_D_DIRTY | VX_D_PINNED)) {
        lru_remove(fs, d);
        lru_push(fs, d);
    } else {
        vx_dentry_drop(fs, d);
    }
}

typedef struct {
    vx_fs *fs;
    uint64_t parent, hash;
    uint32_t used; /* bit k: slot hash + k is taken on disk */
    int rc;
} load_t;

static int load_row(void *ctx, const vx_dentry_row *row)
{
    load_t *l = ctx;
    vx_frame_mark();
    if (row->slot > l->hash + VX_SLOTS - 1)
        return 1;
    l->used |= 1u << (row->slot - l->hash);
    if (!vx_row_named(row)) {
        l->rc = -EBADMSG;
        return 1;
    }
    if (vx_dentry_find(l->fs, l->parent, l->hash, row->name, row->name_n))
        return 0; /* memory is newer */
    vx_dentry *d = vx_dentry_insert(l->fs, l->parent, l->hash, row->slot, row->name, row->name_n);
    if (!d) {
        l->rc = -ENOMEM;
        return 1;
    }
    d->ino = row->ino;
    d->type = row->type;
    d->flags = VX_D_STORED;
    return 0;
}

int vx_dentry_get(vx_fs *fs, uint64_t parent, const char *name, size_t n, vx_dentry **out)
{
    uint64_t hash = vx_name_slot(fs->hash_key, name, n);
    vx_dentry *d = vx_dentry_find(fs, parent, hash, name, n);
    if (d) {
        fs->s.dentry_hits++;
        if (fs->dentry_head != d) {
            lru_remove(fs, d);
            lru_push(fs, d);
        }
        *out = d;
        return 0;
    }
    fs->s.dentry_misses++;
    load_t l = {.fs = fs, .parent = parent, .hash = hash};
    vx_inode *dir = (vx_inode *)vx_hmap_get(&fs->inodes, parent);
    if (!dir || !(dir->flags & VX_I_NEW)) {
        vx_meta_latest(fs);
        int rc = vx_meta_scan(fs->meta, parent, hash - 1, VX_SLOTS, load_row, &l);
        if (rc < 0 || l.rc)
            return rc < 0 ? rc : l.rc;
        d = vx_dentry_find(fs, parent, hash, name, n);
    }
    if (!d) {
        for (vx_dentry *o = fs->buckets[bucket_of(fs, parent, hash)]; o; o = o->hnext)
            if (o->hash == hash && o->parent == parent)
                l.used |= 1u << (o->slot - hash);
        uint64_t k = 0;
        while (k < VX_SLOTS - 1 && (l.used & (1u << k)))
            k++;
        if (l.used & (1u << k))
            return -ENOSPC; /* five names of one directory with one 60-bit hash */
        d = vx_dentry_insert(fs, parent, hash, hash + k, name, n);
        if (!d)
            return -ENOMEM;
    }
    *out = d;
    return 0;
}

void vx_dentry_set(vx_fs *fs, vx_inode *dir, vx_dentry *d, uint64_t ino, uint32_t type)
{
    d->ino = ino;
    d->type = type;
    d->flags = (uint16_t)(ino ? d->flags & ~VX_D_NEGATIVE : d->flags | VX_D_NEGATIVE);
    d->pin_epoch = fs->epoch;
    if (!(d->flags & VX_D_DIRTY)) {
        d->flags |= VX_D_DIRTY;
        d->dnext = NULL;
        d->dprev = fs->dirty_dentries_tail;
        if (d->dprev)
            d->dprev->dnext = d;
        else
            fs->dirty_dentries = d;
        fs->dirty_dentries_tail = d;
    }
    if (!(d->flags & VX_D_PINNED)) {
        d->flags |= VX_D_PINNED;
        d->pprev = NULL;
        d->pnext = dir->pinned;
        if (d->pnext)
            d->pnext->pprev = d;
        dir->pinned = d;
    }
}

void vx_dentry_unpin(vx_fs *fs, vx_dentry *d)
{
    if (d->pprev) {
        d->pprev->pnext = d->pnext;
    } else {
        vx_inode *dir = (vx_inode *)vx_hmap_get(&fs->inodes, d->parent);
        if (dir && dir->pinned == d)
            dir->pinned = d->pnext;
    }
    if (d->pnext)
        d->pnext->pprev = d->pprev;
    d->pnext = d->pprev = NULL;
    d->flags &= (uint16_t)~VX_D_PINNED;
}
