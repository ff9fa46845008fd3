/* From a file to one of its paths.
 *
 * A file remembers the place of one of its names.  When that one is removed and others stay, they are searched for: among
 * the names in memory, then in the whole table of names. */
#include <errno.h>
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
    if (fs->meta_stale) {
        vx_meta_refresh(fs->meta);
        fs->meta_stale = 0;
    }
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
    vx_fs *fs;
    uint64_t ino, parent, slot; /* of the row that was looked at last */
    int found;
} search_t;

static int is_name_of(void *ctx, uint64_t parent, const vx_dentry_row *row)
{
    search_t *s = ctx;
    vx_frame_mark();
    s->parent = parent;
    s->slot = row->slot;
    if (row->ino != s->ino)
        return 0;
    uint64_t hash = row->slot & ~(uint64_t)(VX_SLOTS - 1);
    vx_dentry *d = vx_dentry_find(s->fs, parent, hash, row->name, row->name_n);
    s->found = !d || d->ino == s->ino; /* memory knows better */
    return s->found;
}

static int search_memory(vx_fs *fs, search_t *s)
{
    for (vx_dentry *d = fs->dentry_head; d && !s->found; d = d->lnext)
        if (d->ino == s->ino) {
            s->parent = d->parent;
            s->slot = d->slot;
            s->found = 1;
        }
    return s->found;
}

/* Lets go of the lock between stretches of the table; names may be made and removed meanwhile, so memory is asked anew. */
static int search_name(vx_fs *fs, vx_inode *i)
{
    search_t s = {.fs = fs, .ino = i->a.ino};
    int rc = SEARCH_ROWS;
    i->refs++;
    while (!search_memory(fs, &s) && rc == SEARCH_ROWS) {
        if (fs->meta_stale) {
            vx_meta_refresh(fs->meta);
            fs->meta_stale = 0;
        }
        rc = vx_meta_scan_dentries(fs->meta, s.parent, s.slot, SEARCH_ROWS, is_name_of, &s);
        if (rc == SEARCH_ROWS && !s.found) {
            pthread_mutex_unlock(&fs->lock);
            pthread_mutex_lock(&fs->lock);
        }
    }
    i->refs--;
    if (!s.found)
        return rc < 0 ? rc : -ENOENT;
    i->parent = s.parent;
    i->slot = s.slot;
    vx_rows_moved(fs, i, 0);
    return 0;
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
        if (n == -ENOENT && i->a.nlink && !S_ISDIR(i->a.mode) && !search_name(fs, i))
            n = vx_name_of(fs, i, name);
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
