/* Listing directories and walking paths.
 *
 * A listing goes in order of slots: rows of the last commit, with what memory changed laid over them.  It holds one
 * page of entries, however large the directory is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/engine.h"

enum { PAGE_ROWS = 128, NAME_ROOM = 64 };

typedef struct {
    uint64_t slot, ino;
    uint32_t type, name_at;
    uint16_t name_n;
} entry_t;

typedef struct {
    entry_t *e;
    char *names;
    uint32_t n, cap;
    size_t names_n, names_cap;
    int failed;
} page_t;

static void add(page_t *p, uint64_t slot, uint64_t ino, uint32_t type, const char *name, size_t n)
{
    if (p->n == p->cap) {
        uint32_t cap = p->cap ? p->cap * 2 : PAGE_ROWS + 32;
        entry_t *e = realloc(p->e, cap * sizeof *e);
        if (!e) {
            p->failed = -ENOMEM;
            return;
        }
        p->e = e;
        p->cap = cap;
    }
    if (p->names_n + n > p->names_cap) {
        size_t cap = p->names_cap * 2 + PAGE_ROWS * NAME_ROOM;
        char *s = realloc(p->names, cap);
        if (!s) {
            p->failed = -ENOMEM;
            return;
        }
        p->names = s;
        p->names_cap = cap;
    }
    memcpy(p->names + p->names_n, name, n);
    p->e[p->n++] = (entry_t){slot, ino, type, (uint32_t)p->names_n, (uint16_t)n};
    p->names_n += n;
}

static int add_row(void *ctx, const vx_dentry_row *row)
{
    if (!vx_row_named(row)) {
        ((page_t *)ctx)->failed = -EBADMSG;
        return 1;
    }
    add(ctx, row->slot, row->ino, row->type, row->name, row->name_n);
    return 0;
}

static int by_slot(const void *a, const void *b)
{
    uint64_t x = ((const entry_t *)a)->slot, y = ((const entry_t *)b)->slot;
    return x < y ? -1 : x > y;
}

/* The volume's own directory shows in no listing. */
static void hide(page_t *p)
{
    for (uint32_t k = 0; k < p->n; k++)
        if (vx_is_hidden(p->names + p->e[k].name_at, p->e[k].name_n))
            p->e[k].ino = 0;
}

static int fill_page(vx_fs *fs, vx_inode *dir, uint64_t after, page_t *p)
{
    uint64_t last = UINT64_MAX;
    vx_frame_mark();
    if (!(dir->flags & VX_I_NEW)) {
        vx_meta_latest(fs);
        int rc = vx_meta_scan(fs->meta, dir->a.ino, after, PAGE_ROWS, add_row, p);
        if (rc < 0 || p->failed)
            return rc < 0 ? rc : p->failed;
        if (rc == PAGE_ROWS)
            last = p->e[p->n - 1].slot;
    }
    uint32_t rows = p->n;
    for (vx_dentry *d = dir->pinned; d; d = d->pnext) {
        if (d->slot <= after || d->slot > last)
            continue;
        entry_t key = {.slot = d->slot};
        entry_t *e = rows ? bsearch(&key, p->e, rows, sizeof *e, by_slot) : NULL;
        if (e)
            e->ino = 0; /* memory knows better */
        if (d->ino)
            add(p, d->slot, d->ino, d->type, d->name, d->name_n);
    }
    if (p->failed)
        return p->failed;
    if (dir->a.ino == VX_ROOT_INO)
        hide(p);
    if (p->n > rows)
        qsort(p->e, p->n, sizeof *p->e, by_slot);
    return last == UINT64_MAX;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Lookups of what is listed will follow: have the dentries and inodes at hand.  Inodes are read in order of their
 * number: what was made together lies together. */
static void preload(vx_fs *fs, vx_inode *dir, const page_t *p)
{
    size_t n = 0, room = p->n * sizeof(uint64_t);
    uint64_t *inos = p->n ? vx_pool_acquire(fs->o.pool, room, VX_TAG_REQUEST) : NULL;
    for (uint32_t k = 0; inos && k < p->n; k++) {
        const entry_t *e = &p->e[k];
        if (!e->ino)
            continue;
        const char *name = p->names + e->name_at;
        uint64_t hash = e->slot & ~(uint64_t)(VX_SLOTS - 1);
        if (!vx_dentry_find(fs, dir->a.ino, hash, name, e->name_n)) {
            vx_dentry *d = vx_dentry_insert(fs, dir->a.ino, hash, e->slot, name, e->name_n);
            if (!d)
                break;
            d->ino = e->ino;
            d->type = e->type;
            d->flags = VX_D_STORED;
        }
        if (!vx_hmap_get(&fs->inodes, e->ino))
            inos[n++] = e->ino;
    }
    if (n)
        qsort(inos, n, sizeof *inos, by_number);
    vx_inode *i;
    for (size_t k = 0; k < n; k++)
        (void)vx_inode_get(fs, inos[k], &i);
    if (inos)
        vx_pool_release(fs->o.pool, inos, room);
}

static int list(vx_fs *fs, vx_inode *dir, uint64_t cookie, int attrs, vx_filldir fill, void *ctx)
{
    if (cookie < 1 && fill(ctx, ".", 1, dir->a.ino, S_IFDIR, 1))
        return 0;
    if (cookie < 2 && fill(ctx, "..", 2, dir->parent, S_IFDIR, 2))
        return 0;
    uint64_t after = cookie < VX_SLOTS ? VX_SLOTS - 1 : cookie;
    for (int stop = 0, end = 0; !stop && !end;) {
        page_t p;
        memset(&p, 0, sizeof p);
        int rc = fill_page(fs, dir, after, &p);
        end = rc == 1;
        if (rc >= 0 && attrs)
            preload(fs, dir, &p);
        for (uint32_t k = 0; rc >= 0 && k < p.n && !stop; k++) {
            const entry_t *e = &p.e[k];
            after = e->slot;
            if (e->ino)
                stop = fill(ctx, p.names + e->name_at, e->name_n, e->ino, e->type, e->slot);
        }
        free(p.e);
        free(p.names);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int vx_fs_readdir(vx_fs *fs, uint64_t ino, uint64_t cookie, int attrs, vx_filldir fill, void *ctx)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_READDIR);
    vx_inode *dir;
    int rc = vx_inode_get(fs, ino, &dir);
    if (!rc)
        rc = !S_ISDIR(dir->a.mode) ? -ENOTDIR : !dir->a.nlink ? 0 : list(fs, dir, cookie, attrs, fill, ctx);
    return vx_op_leave(fs, &f, rc);
}

/* -- paths ----------------------------------------------------------------------------------------------------- */

enum { MAX_LINKS = 40, PATH_ROOM = 16384 };

typedef struct {
    vx_fs *fs;
    const vx_cred *c;
    char *buf; /* the path that is left, once a symlink was met, in one of two halves */
    size_t room;
    int links;
} walk_t;

/* Whether `.vexfs` is among the components: what is there is the volume's own, and shows through no symlink. */
static int leads_inside(const char *path, size_t n)
{
    static const char own[] = ".vexfs";
    const size_t k = sizeof own - 1;
    for (size_t i = 0; i + k <= n; i++) {
        if (!memcmp(path + i, own, k) && (!i || path[i - 1] == '/') && (i + k == n || path[i + k] == '/'))
            return 1;
    }
    return 0;
}

/* The symlink's target in front of what is left of the path. */
static int splice(walk_t *w, vx_inode *link, const char **path, size_t *n)
{
    vx_frame_mark();
    if (++w->links > MAX_LINKS)
        return -ELOOP;
    int rc = vx_inline_load(w->fs, link);
    if (rc)
        return rc;
    size_t tn = link->inl_n, total = tn + (*n ? 1 + *n : 0);
    if (leads_inside(link->inl, tn))
        return -ENOENT;
    char *before = w->buf, *half = *path >= before && *path < before + w->room / 2 ? before + w->room / 2 : before;
    const size_t had = w->room;
    if (total > had / 2) {
        w->room = total > PATH_ROOM / 2 ? 2 * total : PATH_ROOM;
        half = w->buf = vx_pool_acquire(w->fs->o.pool, w->room, VX_TAG_REQUEST);
    }
    if (!half) {
        w->buf = before;
        w->room = had;
        return -ENOMEM;
    }
    memcpy(half, link->inl, tn);
    if (*n) {
        half[tn] = '/';
        memcpy(half + tn + 1, *path, *n);
    }
    if (before && before != w->buf)
        vx_pool_release(w->fs->o.pool, before, had);
    *path = half;
    *n = total;
    return 0;
}

/* One component and the slashes behind it. */
static size_t component(const char *path, size_t n, size_t *slashes)
{
    const char *s = memchr(path, '/', n);
    size_t k = s ? (size_t)(s - path) : n, j = k;
    while (j < n && path[j] == '/')
        j++;
    *slashes = j - k;
    return k;
}

/* Walks to the end, or (parent != NULL) to the last component, which is then *name. */
static int walk(walk_t *w, uint64_t base, const char *path, size_t n, int follow, vx_inode **out, const char **name,
                size_t *name_n, int *dir_wanted)
{
    vx_inode *at;
    if (n >= VX_PATH_MAX)
        return -ENAMETOOLONG;
    if (memchr(path, 0, n))
        return -EINVAL;
    int rc = vx_inode_get(w->fs, base, &at), must_dir = 0;
    while (!rc) {
        if (n && *path == '/') {
            rc = vx_inode_get(w->fs, VX_ROOT_INO, &at);
            while (n && *path == '/') {
                path++;
                n--;
            }
            continue;
        }
        if (!n)
            break;
        size_t slashes, k = component(path, n, &slashes);
        int last = k + slashes == n;
        rc = !S_ISDIR(at->a.mode) ? -ENOTDIR : k > VX_NAME_MAX ? -ENAMETOOLONG : vx_may(w->c, at, 1);
        if (rc)
            break;
        if (last && name) {
            *out = at;
            *name = path;
            *name_n = k;
            *dir_wanted = slashes > 0;
            return 0;
        }
        vx_inode *next;
        rc = vx_lookup_at(w->fs, at, path, k, &next);
        if (rc)
            break;
        path += k + slashes;
        n -= k + slashes;
        must_dir |= last && slashes;
        if (S_ISLNK(next->a.mode) && (!last || follow || must_dir))
            rc = splice(w, next, &path, &n);
        else
            at = next;
    }
    if (!rc && must_dir && !S_ISDIR(at->a.mode))
        rc = -ENOTDIR;
    if (!rc && name)
        rc = -EEXIST; /* the root itself has no name */
    *out = at;
    return rc;
}

int vx_fs_walk(vx_fs *fs, const vx_cred *c, uint64_t base, const char *path, size_t n, int follow, vx_attr *out)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_WALK);
    walk_t w = {.fs = fs, .c = c};
    vx_inode *i;
    int rc = walk(&w, base, path, n, follow, &i, NULL, NULL, NULL);
    if (!rc) {
        vx_remember(fs, c, i->a.ino);
        vx_fill_attr(i, out);
    }
    if (w.buf)
        vx_pool_release(fs->o.pool, w.buf, w.room);
    return vx_op_leave(fs, &f, rc);
}

int vx_fs_walk_parent(vx_fs *fs, const vx_cred *c, uint64_t base, const char *path, size_t n, uint64_t *parent,
                      const char **name, size_t *name_n, int *dir)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_WALK);
    walk_t w = {.fs = fs, .c = c};
    vx_inode *i;
    int rc = walk(&w, base, path, n, 0, &i, name, name_n, dir);
    if (!rc) { /* the last component is never replaced by a symlink's target: it stands at the end of `path` */
        *parent = i->a.ino;
        while (n && path[n - 1] == '/')
            n--;
        *name = path + n - *name_n;
    }
    if (w.buf)
        vx_pool_release(fs->o.pool, w.buf, w.room);
    return vx_op_leave(fs, &f, rc);
}
