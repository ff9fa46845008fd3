/* Row tables in memory, and what an operation on a file means for its rows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/commit.h"

enum { PAGE_ROWS = VX_TABLE_PAGE / sizeof(vx_row), REUSE_AFTER = 1024, TOUCHED_MAX = 1 << 20 };
static const char MAGIC[16] = "VexFS rows 1\n";

static size_t image_bytes(uint32_t rows)
{
    return VX_TABLE_PAGE + (size_t)rows * sizeof(vx_row);
}

static size_t dirty_words(uint32_t cap)
{
    return (image_bytes(cap) / VX_TABLE_PAGE + 1) / 64 + 1;
}

void vx_row_dirty(vx_table *t, uint32_t row)
{
    uint32_t page = row / PAGE_ROWS + 1;
    t->dirty[page / 64] |= 1ull << (page % 64);
    t->changes++;
}

static int searched(const vx_row *r)
{
    return r->ino && !(r->flags & (VX_ROW_STALE | VX_ROW_AWAY));
}

/* Of the rows of one file: they come and go together. */
static void count(vx_table *t, const vx_row *first, int by)
{
    uint32_t add = (uint32_t)by;
    uint32_t rows = 0;
    for (uint32_t k = (uint32_t)(first - t->row); k != VX_ROW_NONE; k = t->row[k].next)
        rows++;
    if (first->flags & VX_ROW_AWAY)
        t->away += add * rows;
    else if (first->flags & VX_ROW_STALE)
        t->stale += add * rows;
    else {
        t->live += add * rows;
        t->files += add;
    }
}

/* -- rows in and out of use -------------------------------------------------------------------------------------- */

static int grow(vx_table *t, uint32_t need)
{
    if (need <= t->cap)
        return 0;
    uint32_t cap = t->cap ? t->cap : 4 * PAGE_ROWS;
    while (cap < need)
        cap += cap / 2;
    char *image = realloc(t->image, image_bytes(cap));
    if (!image)
        return -ENOMEM;
    t->image = image;
    t->row = (vx_row *)(void *)(image + VX_TABLE_PAGE);
    uint64_t *dirty = realloc(t->dirty, dirty_words(cap) * sizeof *dirty);
    if (!dirty)
        return -ENOMEM;
    size_t had = t->dirty ? dirty_words(t->cap) : 0;
    memset(dirty + had, 0, (dirty_words(cap) - had) * sizeof *dirty);
    t->dirty = dirty;
    memset(t->row + t->cap, 0, (size_t)(cap - t->cap) * sizeof(vx_row));
    t->cap = cap;
    return 0;
}

static int free_push(vx_table *t, uint32_t row)
{
    if (t->free_n == t->free_cap) {
        uint32_t cap = t->free_cap ? t->free_cap * 2 : 1024;
        uint32_t *ring = malloc(cap * sizeof *ring);
        if (!ring)
            return -ENOMEM; /* the row stays unused until the volume is opened again */
        for (uint32_t k = 0; k < t->free_n; k++)
            ring[k] = t->free_rows[(t->free_head + k) % t->free_cap];
        free(t->free_rows);
        t->free_rows = ring;
        t->free_head = 0;
        t->free_cap = cap;
    }
    t->free_rows[(t->free_head + t->free_n++) % t->free_cap] = row;
    return 0;
}

int vx_rows_reserve(vx_table *t, uint32_t more)
{
    if (more > VX_ROW_NONE - 1 - t->n)
        return -EFBIG;
    return grow(t, t->n + more);
}

/* A search under way may still hold the number of a row that was freed: it is not given away at once. */
uint32_t vx_rows_reusable(const vx_table *t)
{
    return t->free_n > REUSE_AFTER ? t->free_n - REUSE_AFTER : 0;
}

uint32_t vx_row_take(vx_table *t, int reuse)
{
    if (!reuse)
        return t->n++;
    uint32_t row = t->free_rows[t->free_head];
    t->free_head = (t->free_head + 1) % t->free_cap;
    t->free_n--;
    return row;
}

int vx_row_release(vx_fs *fs, vx_table *t, uint64_t ino)
{
    uint64_t at = vx_rows_find(fs, ino);
    if (at >> 32 != t->number + 1)
        return 0;
    uint32_t k = (uint32_t)at;
    count(t, &t->row[k], -1);
    while (k != VX_ROW_NONE) {
        vx_row *r = &t->row[k];
        uint32_t next = r->next;
        if (searched(r) && t->gone)
            t->gone(t->ctx, k);
        uint64_t version = r->version;
        memset(r, 0, sizeof *r);
        r->version = version & 0xffffff;
        r->next = VX_ROW_NONE;
        vx_row_dirty(t, k);
        (void)free_push(t, k);
        k = next;
    }
    vx_hmap_del(&fs->rows_of, ino);
    return 1;
}

/* -- what operations mean ---------------------------------------------------------------------------------------- */

static vx_table *table_of(const vx_fs *fs, uint64_t at)
{
    return at ? fs->tables[(at >> 32) - 1] : NULL;
}

static void moved_push(vx_fs *fs, uint64_t ino)
{
    if (fs->moved_n == fs->moved_cap) {
        uint32_t cap = fs->moved_cap ? fs->moved_cap * 2 : 64;
        uint64_t *p = realloc(fs->moved, cap * sizeof *p);
        if (!p)
            return; /* found again when the volume is next opened */
        fs->moved = p;
        fs->moved_cap = cap;
    }
    fs->moved[fs->moved_n++] = ino;
}

void vx_rows_gone(vx_fs *fs, uint64_t ino)
{
    if (!fs->open_tables)
        return;
    vx_table *t = table_of(fs, vx_rows_find(fs, ino));
    if (t)
        (void)vx_row_release(fs, t, ino);
    else if (vx_hmap_get(&fs->covers, ino))
        moved_push(fs, ino); /* the directory of an index */
}

static void set_flag(vx_table *t, uint32_t first, uint32_t flag, int on)
{
    if (!!(t->row[first].flags & flag) == on)
        return;
    count(t, &t->row[first], -1);
    for (uint32_t k = first; k != VX_ROW_NONE; k = t->row[k].next) {
        if (on && searched(&t->row[k]) && t->gone)
            t->gone(t->ctx, k);
        t->row[k].flags = (on ? t->row[k].flags | flag : t->row[k].flags & ~flag) & 0xffffff;
        vx_row_dirty(t, k);
    }
    count(t, &t->row[first], 1);
}

void vx_rows_stale(vx_fs *fs, uint64_t ino)
{
    uint64_t at = vx_rows_find(fs, ino);
    vx_table *t = table_of(fs, at);
    if (t && (t->row[(uint32_t)at].flags & VX_ROW_CONTENT))
        set_flag(t, (uint32_t)at, VX_ROW_STALE, 1);
}

void vx_rows_touched(vx_fs *fs, uint64_t ino)
{
    uint64_t at = vx_rows_find(fs, ino);
    vx_table *t = table_of(fs, at);
    if (!t)
        return;
    t->changes++;
    if (t->touched_n == t->touched_cap) {
        uint32_t cap = t->touched_cap ? t->touched_cap * 2 : 256;
        uint32_t *p = cap > TOUCHED_MAX ? NULL : realloc(t->touched, cap * sizeof *p);
        if (!p) {
            t->touched_lost = 1;
            t->touched_n = 0;
            return;
        }
        t->touched = p;
        t->touched_cap = cap;
    }
    for (uint32_t k = (uint32_t)at; k != VX_ROW_NONE && t->touched_n < t->touched_cap; k = t->row[k].next)
        t->touched[t->touched_n++] = k;
}

static vx_table *over(vx_fs *fs, uint64_t ino)
{
    for (int depth = 0; depth < 1 << 20; depth++) {
        vx_table *t = (vx_table *)vx_hmap_get(&fs->covers, ino);
        vx_inode *i;
        if (t || ino == VX_ROOT_INO || vx_inode_get(fs, ino, &i))
            return t;
        ino = i->parent;
        if (!ino)
            return NULL;
    }
    return NULL;
}

static void rehome(vx_fs *fs, vx_table *t, uint32_t first)
{
    vx_table *home = over(fs, t->row[first].dir);
    if (home == t && !(t->row[first].flags & VX_ROW_AWAY))
        return;
    if (home != t)
        set_flag(t, first, VX_ROW_AWAY, 1);
    if (home)
        moved_push(fs, t->row[first].ino);
}

static void set_dir(vx_fs *fs, vx_table *t, uint32_t first, uint64_t dir)
{
    for (uint32_t k = first; k != VX_ROW_NONE; k = t->row[k].next) {
        t->row[k].dir = dir & 0xffffffffffull;
        vx_row_dirty(t, k);
    }
    rehome(fs, t, first);
}

void vx_rows_unnamed(vx_fs *fs, const vx_inode *i, uint64_t dir)
{
    uint64_t at = vx_rows_find(fs, i->a.ino);
    vx_table *t = table_of(fs, at);
    if (!t || t->row[(uint32_t)at].dir != dir)
        return;
    if (i->parent)
        set_dir(fs, t, (uint32_t)at, i->parent);
    else
        moved_push(fs, i->a.ino); /* another of its names has to be looked for */
}

/* Whether `dir` is `top` or lies below it; what was found out is kept in `known` as 1 or 2 (yes). */
static int below(vx_fs *fs, uint64_t dir, uint64_t top, vx_hmap *known)
{
    uintptr_t answer = vx_hmap_get(known, dir);
    if (answer)
        return answer == 2;
    uint64_t at = dir;
    vx_inode *i;
    int yes = 0;
    for (int depth = 0; depth < 1 << 20 && !yes; depth++) {
        yes = at == top;
        if (yes || at == VX_ROOT_INO || !at || vx_inode_get(fs, at, &i))
            break;
        at = i->parent;
    }
    (void)vx_hmap_put(known, dir, yes ? 2 : 1);
    return yes;
}

/* A directory moved, or an index came or went over it: every row below it may belong elsewhere now. */
static void rehome_below(vx_fs *fs, uint64_t top)
{
    vx_hmap known;
    if (vx_hmap_init(&known, 256))
        return;
    for (uint32_t n = 0; n < fs->ntables; n++) {
        vx_table *t = fs->tables[n];
        for (uint32_t k = 0; t && k < t->n; k++) {
            const vx_row *r = &t->row[k];
            if (r->ino && (uint32_t)vx_rows_find(fs, r->ino) == k && below(fs, r->dir, top, &known))
                rehome(fs, t, k);
        }
    }
    free(known.cells);
}

void vx_rows_moved(vx_fs *fs, const vx_inode *i)
{
    if (!fs->open_tables)
        return;
    if (S_ISDIR(i->a.mode)) {
        fs->tree++;
        rehome_below(fs, i->a.ino);
        return;
    }
    uint64_t at = vx_rows_find(fs, i->a.ino);
    if (at)
        set_dir(fs, table_of(fs, at), (uint32_t)at, i->parent);
}

/* -- commits ----------------------------------------------------------------------------------------------------- */

static int freeze_table(vx_fs *fs, vx_table *t)
{
    size_t size = image_bytes(t->n), pages = (size + VX_TABLE_PAGE - 1) / VX_TABLE_PAGE;
    for (size_t w = 0; w * 64 < pages; w++)
        while (t->dirty[w]) {
            size_t page = w * 64 + (size_t)__builtin_ctzll(t->dirty[w]), at = page * VX_TABLE_PAGE;
            size_t n = size - at < VX_TABLE_PAGE ? size - at : VX_TABLE_PAGE;
            int rc = vx_write_held(fs, t->file, at, t->image + at, n);
            if (rc)
                return rc;
            t->dirty[w] &= t->dirty[w] - 1;
        }
    return 0;
}

int vx_rows_freeze(vx_fs *fs)
{
    int rc = 0;
    for (uint32_t k = 0; k < fs->ntables && !rc; k++)
        if (fs->tables[k])
            rc = freeze_table(fs, fs->tables[k]);
    return rc;
}

/* -- opening ----------------------------------------------------------------------------------------------------- */

static void table_free(vx_table *t)
{
    free(t->image);
    free(t->dirty);
    free(t->free_rows);
    free(t->touched);
    free(t);
}

/* Row k is the next of its file's chain; rows of a file are linked in order of their numbers at opening. */
static int adopt(vx_table *t, uint32_t k, vx_hmap *linked)
{
    vx_row *r = &t->row[k];
    if (!r->ino)
        return free_push(t, k);
    if (r->next != VX_ROW_NONE) {
        if (r->next >= t->n || t->row[r->next].ino != r->ino || r->next == k)
            return -EBADMSG;
        int rc = vx_hmap_put(linked, (uint64_t)r->next + 1, 1);
        if (rc)
            return rc;
    }
    return 0;
}

/* 1: adopted; 0: another table has rows of this file already. */
static int adopt_file(vx_fs *fs, vx_table *t, uint32_t first)
{
    uint32_t rows = 0;
    for (uint32_t k = first; k != VX_ROW_NONE; k = t->row[k].next)
        if (++rows > t->n)
            return -EBADMSG; /* a loop */
    if (vx_rows_find(fs, t->row[first].ino))
        return -EBADMSG;
    int rc = vx_hmap_put(&fs->rows_of, t->row[first].ino, ((uintptr_t)t->number + 1) << 32 | first);
    if (!rc)
        count(t, &t->row[first], 1);
    if (!rc && (t->row[first].flags & VX_ROW_AWAY))
        moved_push(fs, t->row[first].ino);
    return rc;
}

static int adopt_all(vx_fs *fs, vx_table *t)
{
    vx_hmap linked;
    int rc = vx_hmap_init(&linked, 64);
    for (uint32_t k = 0; k < t->n && !rc; k++)
        rc = adopt(t, k, &linked);
    for (uint32_t k = 0; k < t->n && !rc; k++)
        if (t->row[k].ino && !vx_hmap_get(&linked, (uint64_t)k + 1))
            rc = adopt_file(fs, t, k);
    free(linked.cells);
    return rc;
}

static int hold_file(vx_fs *fs, uint64_t ino, vx_inode **out)
{
    int rc = vx_inode_get(fs, ino, out);
    if (!rc && !S_ISREG((*out)->a.mode))
        rc = -EBADMSG;
    if (rc)
        *out = NULL;
    else
        (*out)->refs++;
    return rc == -ENOENT ? -EBADMSG : rc;
}

static void let_go(vx_table *t)
{
    vx_inode *held[3] = {t->file, t->vectors, t->words};
    for (int k = 0; k < 3; k++)
        if (held[k])
            held[k]->refs--;
    t->file = t->vectors = t->words = NULL;
}

static int read_image(vx_fs *fs, vx_table *t, uint64_t size)
{
    if (!size) {
        memcpy(t->image, MAGIC, sizeof MAGIC);
        t->dirty[0] |= 1;
        return 0;
    }
    for (uint64_t at = 0; at < size;) {
        uint64_t n = size - at < 8 << 20 ? size - at : 8 << 20;
        int64_t got = vx_fs_read(fs, t->o.rows, at, t->image + at, (size_t)n);
        if (got <= 0)
            return got < 0 ? (int)got : -EBADMSG;
        at += (uint64_t)got;
    }
    return memcmp(t->image, MAGIC, sizeof MAGIC) ? -EBADMSG : 0;
}

static int enlist(vx_fs *fs, vx_table *t)
{
    if (!fs->rows_of.cells && (vx_hmap_init(&fs->rows_of, 1024) || vx_hmap_init(&fs->covers, 64)))
        return -ENOMEM;
    if (vx_hmap_get(&fs->covers, t->o.dir))
        return -EEXIST;
    vx_table **list = realloc(fs->tables, (fs->ntables + 1) * sizeof *list);
    if (!list)
        return -ENOMEM;
    fs->tables = list;
    t->number = fs->ntables;
    fs->tables[fs->ntables++] = t;
    fs->open_tables++;
    int rc = vx_hmap_put(&fs->covers, t->o.dir, (uintptr_t)t);
    if (!rc)
        rc = adopt_all(fs, t);
    if (!rc)
        rehome_below(fs, t->o.dir); /* what another index had here is this one's */
    return rc;
}

/* Out of all maps; what the other tables know stays. */
static void delist(vx_fs *fs, vx_table *t)
{
    for (uint32_t k = 0; k < t->n; k++)
        if (t->row[k].ino && vx_rows_find(fs, t->row[k].ino) >> 32 == t->number + 1)
            vx_hmap_del(&fs->rows_of, t->row[k].ino);
    if ((vx_table *)vx_hmap_get(&fs->covers, t->o.dir) == t)
        vx_hmap_del(&fs->covers, t->o.dir);
    fs->tables[t->number] = NULL;
    fs->open_tables--;
}

int vx_table_open(vx_fs *fs, const vx_table_options *o, vx_table **out)
{
    vx_table *t = calloc(1, sizeof *t);
    vx_attr a = {0};
    if (!t)
        return -ENOMEM;
    t->o = *o;
    int rc = vx_fs_getattr(fs, o->rows, &a);
    if (!rc && a.size && (a.size < VX_TABLE_PAGE || (a.size - VX_TABLE_PAGE) % sizeof(vx_row)))
        rc = -EBADMSG;
    uint64_t rows = a.size ? (a.size - VX_TABLE_PAGE) / sizeof(vx_row) : 0;
    if (!rc)
        rc = rows < VX_ROW_NONE ? grow(t, (uint32_t)rows + PAGE_ROWS) : -EBADMSG;
    if (!rc) {
        memset(t->image, 0, VX_TABLE_PAGE);
        rc = read_image(fs, t, a.size);
        t->n = (uint32_t)rows;
    }
    pthread_mutex_lock(&fs->lock);
    if (!rc)
        rc = hold_file(fs, o->rows, &t->file);
    if (!rc)
        rc = hold_file(fs, o->vectors, &t->vectors);
    if (!rc && o->words)
        rc = hold_file(fs, o->words, &t->words);
    if (!rc) {
        rc = enlist(fs, t);
        if (rc && rc != -EEXIST)
            delist(fs, t);
    }
    if (rc)
        let_go(t);
    pthread_mutex_unlock(&fs->lock);
    if (rc) {
        table_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void vx_table_close(vx_fs *fs, vx_table *t)
{
    pthread_mutex_lock(&fs->lock);
    if (!fs->read_only && freeze_table(fs, t))
        fs->s.commit_errors++;
    delist(fs, t);
    rehome_below(fs, t->o.dir);
    let_go(t);
    pthread_mutex_unlock(&fs->lock);
    table_free(t);
}

void vx_rows_free(vx_fs *fs)
{
    for (uint32_t k = 0; k < fs->ntables; k++)
        if (fs->tables[k])
            table_free(fs->tables[k]);
    free(fs->tables);
    free(fs->rows_of.cells);
    free(fs->covers.cells);
    free(fs->moved);
}

void vx_table_watch(vx_fs *fs, vx_table *t, vx_row_gone_fn gone, void *ctx)
{
    pthread_mutex_lock(&fs->lock);
    t->gone = gone;
    t->ctx = ctx;
    pthread_mutex_unlock(&fs->lock);
}

vx_table *vx_table_over(vx_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    vx_table *t = fs->open_tables ? over(fs, ino) : NULL;
    pthread_mutex_unlock(&fs->lock);
    return t;
}

uint32_t vx_fs_moved(vx_fs *fs, uint64_t *out, uint32_t cap)
{
    pthread_mutex_lock(&fs->lock);
    uint32_t n = fs->moved_n < cap ? fs->moved_n : cap;
    if (n) {
        memcpy(out, fs->moved, n * sizeof *out);
        memmove(fs->moved, fs->moved + n, (fs->moved_n - n) * sizeof *out);
        fs->moved_n -= n;
    }
    pthread_mutex_unlock(&fs->lock);
    return n;
}

int vx_table_return(vx_fs *fs, vx_table *t, uint64_t ino)
{
    int rows = 0;
    vx_inode *i;
    pthread_mutex_lock(&fs->lock);
    uint64_t at = vx_rows_find(fs, ino);
    if (at >> 32 == t->number + 1 && !vx_inode_get(fs, ino, &i)) {
        uint32_t first = (uint32_t)at;
        if (i->parent && i->parent != t->row[first].dir)
            for (uint32_t k = first; k != VX_ROW_NONE; k = t->row[k].next)
                t->row[k].dir = i->parent & 0xffffffffffull;
        if (over(fs, t->row[first].dir) == t) {
            set_flag(t, first, VX_ROW_AWAY, 0);
            for (uint32_t k = first; k != VX_ROW_NONE; k = t->row[k].next)
                rows += searched(&t->row[k]);
            vx_inode_dirty(fs, t->file);
            vx_mutated(fs, ino);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return rows;
}
