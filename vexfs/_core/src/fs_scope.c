/* What a search asks a row table: which rows lie below a directory, and whose rows they are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rows_impl.h"

void vx_table_read(vx_fs *fs, vx_table *t, vx_table_stats *out)
{
    pthread_mutex_lock(&fs->lock);
    *out = (vx_table_stats){.changes = t->changes, .tree = fs->tree, .rows = t->n, .live = t->live, .files = t->files,
                            .free_rows = t->free_n, .away = t->away, .stale = t->stale, .moved = fs->moved_n,
                            .moment = t->moment};
    pthread_mutex_unlock(&fs->lock);
}

uint64_t vx_table_dir(const vx_table *t)
{
    return t->o.dir;
}

uint32_t vx_table_rows(vx_fs *fs, vx_table *t, uint32_t first, uint32_t n, vx_row *out)
{
    pthread_mutex_lock(&fs->lock);
    uint32_t have = first < t->n ? t->n - first : 0;
    n = n < have ? n : have;
    if (n)
        memcpy(out, t->row + first, n * sizeof *out);
    pthread_mutex_unlock(&fs->lock);
    return n;
}

uint32_t vx_table_versions(vx_fs *fs, vx_table *t, uint32_t *out, uint32_t cap)
{
    pthread_mutex_lock(&fs->lock);
    uint32_t n = t->n < cap ? t->n : cap;
    for (uint32_t k = 0; k < n; k++)
        out[k] = vx_row_searched(&t->row[k]) ? (uint32_t)t->row[k].version : VX_ROW_NONE;
    pthread_mutex_unlock(&fs->lock);
    return n;
}

uint32_t vx_table_rows_of(vx_fs *fs, vx_table *t, uint64_t ino, uint32_t *out, uint32_t cap)
{
    uint32_t n = 0;
    pthread_mutex_lock(&fs->lock);
    uint64_t at = vx_rows_find(fs, ino);
    if (at >> 32 == t->number + 1)
        for (uint32_t k = (uint32_t)at; k != VX_ROW_NONE; k = t->row[k].next, n++)
            if (n < cap)
                out[n] = k;
    pthread_mutex_unlock(&fs->lock);
    return n;
}

static int inside(vx_fs *fs, uint64_t dir, uint64_t top)
{
    vx_inode *i;
    for (int depth = 0; depth < 1 << 20; depth++) {
        if (dir == top)
            return 1;
        if (dir == VX_ROOT_INO || !dir || vx_inode_get(fs, dir, &i))
            return 0;
        dir = i->parent;
    }
    return 0;
}

int64_t vx_table_scope(vx_fs *fs, vx_table *t, uint64_t dir, uint64_t *bits, uint32_t rows)
{
    vx_hmap known;
    int64_t n = 0;
    memset(bits, 0, ((size_t)rows + 63) / 64 * sizeof *bits);
    if (vx_hmap_init(&known, 256))
        return -ENOMEM;
    pthread_mutex_lock(&fs->lock);
    uint64_t last = 0;
    uintptr_t answer = 0;
    for (uint32_t k = 0; k < rows && k < t->n; k++) {
        const vx_row *r = &t->row[k];
        if (!vx_row_searched(r))
            continue;
        if (r->dir != last) {
            last = r->dir;
            answer = vx_hmap_get(&known, last);
            if (!answer) {
                answer = inside(fs, last, dir) ? 2 : 1;
                (void)vx_hmap_put(&known, last, answer);
            }
        }
        if (answer == 2) {
            bits[k / 64] |= 1ull << (k % 64);
            n++;
        }
    }
    pthread_mutex_unlock(&fs->lock);
    free(known.cells);
    return n;
}

int64_t vx_table_touched(vx_fs *fs, vx_table *t, uint32_t *out, uint32_t cap)
{
    pthread_mutex_lock(&fs->lock);
    int64_t n = t->touched_lost || t->touched_n > cap ? -1 : (int64_t)t->touched_n;
    if (n > 0)
        memcpy(out, t->touched, (size_t)n * sizeof *out);
    t->touched_n = 0;
    t->touched_lost = 0;
    pthread_mutex_unlock(&fs->lock);
    return n;
}

/* -- hits -------------------------------------------------------------------------------------------------------- */

enum { PATH_MAX_BYTES = 4096 };

typedef struct {
    char *text; /* of PATH_MAX_BYTES: the directory of the hit before, then the name */
    uint64_t dir;
    uint32_t dir_n;
} path_t;

static int directory_path(vx_fs *fs, uint64_t dir, path_t *p)
{
    char name[VX_NAME_MAX + 1];
    uint32_t at = PATH_MAX_BYTES;
    vx_inode *i;
    if (p->dir == dir)
        return 0;
    p->dir = 0;
    int rc = vx_inode_get(fs, dir, &i);
    while (!rc && i->a.ino != VX_ROOT_INO) {
        int n = i->a.nlink ? vx_name_of(fs, i, name) : -ENOENT;
        if (n < 0 || at < (uint32_t)n + 1)
            return n < 0 ? n : -ENAMETOOLONG;
        at -= (uint32_t)n;
        memcpy(p->text + at, name, (size_t)n);
        p->text[--at] = '/';
        rc = vx_inode_get(fs, i->parent, &i);
    }
    if (rc)
        return rc;
    memmove(p->text, p->text + at, PATH_MAX_BYTES - at);
    p->dir_n = PATH_MAX_BYTES - at;
    p->dir = dir;
    return 0;
}

static int hit_path(vx_fs *fs, const vx_inode *i, uint64_t dir, path_t *p, uint32_t *n)
{
    int rc = directory_path(fs, i->parent ? i->parent : dir, p);
    if (rc)
        return rc;
    if (p->dir_n + 1 + VX_NAME_MAX > PATH_MAX_BYTES)
        return -ENAMETOOLONG;
    p->text[p->dir_n] = '/';
    int name_n = vx_name_of(fs, i, p->text + p->dir_n + 1);
    if (name_n < 0)
        return name_n;
    *n = p->dir_n + 1 + (uint32_t)name_n;
    return 0;
}

enum { AHEAD = 16, LINE = 64 };

static void fetch(const void *at, size_t n)
{
    for (size_t k = 0; k < n; k += LINE)
        __builtin_prefetch((const char *)at + k);
}

/* Asks memory for what `describe` will look at, for several rows at once: one after the other each would wait for it
 * a dozen times.  Every loop asks for what the one before it has brought the addresses of. */
static void look_ahead(vx_fs *fs, const vx_table *t, const uint32_t *rows, size_t n)
{
    const vx_inode *inode[AHEAD];
    for (size_t k = 0; k < n; k++)
        if (rows[k] < t->n)
            __builtin_prefetch(&t->row[rows[k]]);
    for (size_t k = 0; k < n; k++)
        if (rows[k] < t->n)
            __builtin_prefetch(&fs->inodes.cells[vx_hmap_home(&fs->inodes, t->row[rows[k]].ino)]);
    for (size_t k = 0; k < n; k++) {
        inode[k] = rows[k] < t->n ? (const vx_inode *)vx_hmap_get(&fs->inodes, t->row[rows[k]].ino) : NULL;
        if (inode[k])
            fetch(inode[k], sizeof *inode[k]);
    }
    for (size_t k = 0; k < n; k++)
        if (inode[k]) {
            const vx_inode *before = inode[k]->lprev, *after = inode[k]->lnext; /* it is taken out from between them */
            __builtin_prefetch(inode[k]->xattr);
            __builtin_prefetch(before ? (const void *)&before->lnext : NULL);
            __builtin_prefetch(after ? (const void *)&after->lprev : NULL);
            vx_dentry_ahead(fs, inode[k]->parent, inode[k]->slot, 0);
        }
    for (size_t k = 0; k < n; k++)
        if (inode[k])
            vx_dentry_ahead(fs, inode[k]->parent, inode[k]->slot, 1);
}

/* 1: not a hit any more. */
static int describe(vx_fs *fs, vx_table *t, uint32_t row, uint32_t what, path_t *p, vx_hit *h, const void **xattrs)
{
    vx_frame_mark();
    vx_inode *i;
    if (row >= t->n || !vx_row_searched(&t->row[row]))
        return 1;
    const vx_row *r = &t->row[row];
    if (vx_inode_get(fs, r->ino, &i) || !i->a.nlink)
        return 1;
    *h = (vx_hit){.ino = r->ino, .dir = r->dir, .generation = i->a.generation, .row = row, .start = r->start,
                  .length = r->length};
    if ((what & VX_HIT_PATH) && hit_path(fs, i, r->dir, p, &h->path_n))
        h->path_n = 0; /* the caller finds another of its names, or leaves it */
    if (what & VX_HIT_XATTRS) {
        int rc = vx_xattr_load(fs, i);
        if (rc)
            return rc;
        *xattrs = i->xattr;
        h->xattrs_n = i->xattr_n;
    }
    return 0;
}

int vx_table_hits(vx_fs *fs, vx_table *t, const uint32_t *rows, size_t n, uint32_t since, uint32_t what, vx_hit_fn fn,
                  void *ctx)
{
    vx_frame f;
    path_t p = {.text = vx_pool_acquire(fs->o.pool, PATH_MAX_BYTES, VX_TAG_QUERY)};
    if (!p.text)
        return -ENOMEM;
    vx_op_enter(fs, &f, VX_OP_WALK);
    int rc = 0;
    for (size_t k = 0; k < n && rc >= 0; k++) {
        if (k % AHEAD == 0)
            look_ahead(fs, t, rows + k, n - k < AHEAD ? n - k : AHEAD);
        vx_hit h;
        const void *xattrs = NULL;
        if (since < t->moment && vx_row_given(t, rows[k]) > since)
            continue;
        rc = describe(fs, t, rows[k], what, &p, &h, &xattrs);
        h.at = (uint32_t)k;
        if (!rc && fn(ctx, &h, p.text, xattrs))
            rc = -ECANCELED;
    }
    rc = rc > 0 ? 0 : rc;
    vx_op_leave(fs, &f, 0);
    vx_pool_release(fs->o.pool, p.text, PATH_MAX_BYTES);
    return rc;
}
