/* From a file to one of its paths.
 *
 * A file remembers the place of one of its names.  When that one is removed and others stay, they are searched for: among
 * the names in memory, then in the whole table of names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/engine.h"

enum { SEARCH_ROWS = 4096 }; /* names looked through before others may have the lock */

typedef struct {
    uint64_t slot, ino;
    char *out;
    int n;
} name_of_t;

static int take_name(void *ctx, const vx_dentry_row *row)
{
    name_of_t *t = ctx;
    if (row->slot == t->slot && row->ino == t->ino) {
        t->n = vx_row_named(row) ? (int)row->name_n : -EBADMSG;
        if (t->n > 0)
            memcpy(t->out, row->name, row->name_n);
    }
    return 1;
}

int vx_name_of(vx_fs *fs, const vx_inode *i, char *out)
{
    if (!i->parent)
        return -ENOENT; /* that name was removed */
    const vx_dentry *d = vx_dentry_at(fs, i->parent, i->slot);
    if (d) {
        if (d->ino != i->a.ino)
            return -ENOENT;
        memcpy(out, d->name, d->name_n);
        return d->name_n;
    }
    name_of_t t = {i->slot, i->a.ino, out, -ENOENT};
    vx_meta_latest(fs);
    int rc = vx_meta_scan(fs->meta, i->parent, i->slot - 1, 1, take_name, &t);
    if (rc >= 0 && t.n > 0) { /* asked for once, it is asked for again */
        vx_dentry *kept = vx_dentry_insert(fs, i->parent, i->slot & ~(uint64_t)(VX_SLOTS - 1), i->slot, out, (size_t)t.n);
        if (kept) {
            kept->ino = i->a.ino;
            kept->type = i->a.mode & S_IFMT;
            kept->flags = VX_D_STORED;
        }
    }
    return rc < 0 ? rc : t.n;
}

typedef struct {
    uint64_t parent, slot;
    int inside; /* below an index */
} place_t;

typedef struct {
    vx_fs *fs;
    vx_hmap wanted;        /* inode -> 1 + its number */
    place_t *place;        /* of what was found, parent 0: nothing */
    uint32_t left;         /* files of which no name is known that is good enough */
    uint64_t parent, slot; /* of the row that was looked at last */
    uint64_t met;          /* the file that it names, if that is one of those */
} search_t;

static int is_wanted(void *ctx, uint64_t parent, const vx_dentry_row *row)
{
    search_t *s = ctx;
    vx_frame_mark();
    s->parent = parent;
    s->slot = row->slot;
    if (!vx_hmap_get(&s->wanted, row->ino))
        return 0;
    uint64_t hash = row->slot & ~(uint64_t)(VX_SLOTS - 1);
    vx_dentry *d = vx_dentry_find(s->fs, parent, hash, row->name, row->name_n);
    s->met = !d || d->ino == row->ino ? row->ino : 0; /* memory knows better */
    return s->met != 0;
}

static void take(search_t *s, uint64_t ino, uint64_t parent, uint64_t slot)
{
    uintptr_t at = vx_hmap_get(&s->wanted, ino);
    place_t *p = at ? &s->place[at - 1] : NULL;
    if (!p || p->inside)
        return;
    const int inside = !s->fs->open_tables || vx_rows_over(s->fs, parent);
    if (inside || !p->parent)
        *p = (place_t){parent, slot, inside};
    s->left -= (uint32_t)inside;
}

static void search_memory(vx_fs *fs, search_t *s)
{
    for (vx_dentry *d = fs->dentry_head; d && s->left; d = d->lnext)
        if (d->ino)
            take(s, d->ino, d->parent, d->slot);
}

/* Lets go of the lock between stretches of the table; names may be made and removed meanwhile, so memory is asked anew. */
static int search(vx_fs *fs, search_t *s)
{
    int rc = 0;
    search_memory(fs, s);
    while (s->left) {
        vx_meta_latest(fs);
        s->met = 0;
        rc = vx_meta_scan_dentries(fs->meta, s->parent, s->slot, SEARCH_ROWS, is_wanted, s);
        if (s->met && rc > 0) {
            take(s, s->met, s->parent, s->slot);
            continue;
        }
        if (rc != SEARCH_ROWS)
            break;
        pthread_mutex_unlock(&fs->lock);
        pthread_mutex_lock(&fs->lock);
        search_memory(fs, s);
    }
    return rc < 0 ? rc : 0;
}

/* The file is known by the name at that place, unless it went. */
static int know(vx_fs *fs, vx_inode *i, const place_t *p)
{
    char name[VX_NAME_MAX];
    if (i->parent || !i->a.nlink || !p->parent)
        return i->parent ? 0 : -ENOENT;
    i->parent = p->parent;
    i->slot = p->slot;
    int n = vx_name_of(fs, i, name);
    const vx_dentry *d = n < 0 ? NULL : vx_dentry_at(fs, p->parent, p->slot);
    i->parent = i->slot = 0;
    if (!d)
        return n < 0 ? n : -ENOMEM;
    vx_rows_known(fs, i, "", 0, d);
    if (!fs->read_only) {
        vx_inode_dirty(fs, i);
        vx_mutated(fs, i->a.ino);
    }
    return 0;
}

/* For files of which no name is known. */
static int find_names(vx_fs *fs, const uint64_t *inos, uint32_t n)
{
    search_t s = {.fs = fs, .left = n, .place = calloc(n, sizeof *s.place)};
    vx_inode *i;
    int rc = !s.place || vx_hmap_init(&s.wanted, 64) ? -ENOMEM : 0;
    for (uint32_t k = 0; k < n && !rc; k++)
        rc = vx_hmap_put(&s.wanted, inos[k], k + 1);
    if (!rc)
        rc = search(fs, &s);
    for (uint32_t k = 0; k < n && !rc; k++)
        if (!vx_inode_get(fs, inos[k], &i))
            (void)know(fs, i, &s.place[k]);
    free(s.wanted.cells);
    free(s.place);
    return rc;
}

int vx_fs_find_names(vx_fs *fs, const uint64_t *inos, uint32_t n)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_WALK);
    uint64_t *unknown = calloc(n ? n : 1, sizeof *unknown);
    uint32_t some = 0;
    vx_inode *i;
    for (uint32_t k = 0; k < n && unknown; k++)
        if (!vx_inode_get(fs, inos[k], &i) && i->a.nlink && !i->parent)
            unknown[some++] = inos[k];
    int rc = !unknown ? -ENOMEM : some ? find_names(fs, unknown, some) : 0;
    free(unknown);
    return vx_op_leave(fs, &f, rc);
}

int vx_fs_met(vx_fs *fs, uint64_t parent, const char *name, size_t n)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_WALK);
    vx_dentry *d;
    vx_inode *i;
    int rc = vx_dentry_get(fs, parent, name, n, &d);
    if (!rc)
        rc = d->ino ? vx_inode_get(fs, d->ino, &i) : -ENOENT;
    const int several = !rc && S_ISREG(i->a.mode) && (i->a.nlink > 1 || !i->parent);
    if (several && fs->open_tables && !fs->read_only && vx_rows_over(fs, parent) &&
        !(i->parent && vx_rows_over(fs, i->parent))) {
        vx_rows_named(fs, i, 0, NULL, d);
        vx_inode_dirty(fs, i);
        vx_mutated(fs, i->a.ino);
        rc = 1;
    }
    return vx_op_leave(fs, &f, rc);
}

int vx_fs_path_of(vx_fs *fs, uint64_t ino, char *buf, size_t cap)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_WALK);
    char *name = vx_pool_acquire(fs->o.pool, 1024, VX_TAG_REQUEST);
    size_t at = cap; /* written from the end */
    vx_inode *i;
    int rc = name ? vx_inode_get(fs, ino, &i) : -ENOMEM;
    while (!rc && i->a.ino != VX_ROOT_INO) {
        int n = i->a.nlink ? vx_name_of(fs, i, name) : -ENOENT;
        if (n == -ENOENT && i->a.nlink && !S_ISDIR(i->a.mode)) {
            i->parent = i->slot = 0;
            i->refs++;
            if (!find_names(fs, &i->a.ino, 1))
                n = vx_name_of(fs, i, name);
            i->refs--;
        }
        if (n < 0 || at < (size_t)n + 1) {
            rc = n < 0 ? n : -ENAMETOOLONG;
            break;
        }
        at -= (size_t)n;
        memcpy(buf + at, name, (size_t)n);
        buf[--at] = '/';
        rc = vx_inode_get(fs, i->parent, &i);
    }
    if (!rc && at == cap)
        buf[--at] = '/';
    if (!rc) {
        memmove(buf, buf + at, cap - at);
        rc = (int)(cap - at);
    }
    if (name)
        vx_pool_release(fs->o.pool, name, 1024);
    return vx_op_leave(fs, &f, rc);
}
