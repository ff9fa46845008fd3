/* Opening and closing row tables, and what is asked of them as a whole. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rows_impl.h"

static const char MAGIC[16] = "VexFS rows 1\n";

enum { AHEAD = 16 };

static void table_free(vx_table *t)
{
    free(t->image);
    free(t->dirty);
    free(t->free_rows);
    free(t->touched);
    free(t->given);
    free(t);
}

/* Row k is the next of its file's chain; rows of a file are linked in order of their numbers at opening. */
static int adopt(vx_table *t, uint32_t k, vx_hmap *linked)
{
    vx_row *r = &t->row[k];
    if (!r->ino)
        return vx_row_free(t, k);
    if (r->next != VX_ROW_NONE) {
        if (r->next >= t->n || t->row[r->next].ino != r->ino || vx_hmap_get(linked, (uint64_t)r->next + 1))
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
        vx_rows_count(t, &t->row[first], 1);
    if (!rc && (t->row[first].flags & VX_ROW_AWAY))
        vx_moved_push(fs, t->row[first].ino);
    return rc;
}

static int adopt_all(vx_fs *fs, vx_table *t)
{
    vx_hmap linked;
    uint32_t rows = 0;
    int rc = vx_hmap_init(&linked, 64);
    for (uint32_t k = 0; k < t->n && !rc; k++) {
        rows += t->row[k].ino != 0;
        rc = adopt(t, k, &linked);
    }
    rc = rc ? rc : vx_hmap_reserve(&fs->rows_of, rows - linked.used); /* as many as there are files */
    for (uint32_t k = 0; k < t->n && !rc; k++) {
        if (t->n - k > AHEAD) /* the cell of one that comes soon is asked of memory now */
            __builtin_prefetch(&fs->rows_of.cells[vx_hmap_home(&fs->rows_of, t->row[k + AHEAD].ino)], 1);
        if (t->row[k].ino && !vx_hmap_get(&linked, (uint64_t)k + 1))
            rc = adopt_file(fs, t, k);
    }
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

static void let_go(vx_fs *fs, vx_table *t)
{
    vx_inode *held[3] = {t->file, t->vectors, t->words};
    t->file = t->vectors = t->words = NULL;
    for (int k = 0; k < 3; k++)
        if (held[k]) {
            held[k]->refs--;
            vx_inode_let_go(fs, held[k]); /* one may have lost its name meanwhile */
        }
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

/* -EEXIST and -ENOMEM before the table is in the list leave everything as it was. */
static int enlist(vx_fs *fs, vx_table *t)
{
    t->number = UINT32_MAX;
    if (!fs->rows_of.cells && vx_hmap_init(&fs->rows_of, 1024))
        return -ENOMEM;
    if (!fs->covers.cells && vx_hmap_init(&fs->covers, 64))
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
        vx_rows_rehome(fs, t->o.dir); /* what another index had here is this one's */
    return rc;
}

/* Out of all maps; what the other tables know stays. */
static void delist(vx_fs *fs, vx_table *t)
{
    if (t->number == UINT32_MAX)
        return;
    if (fs->open_tables == 1) { /* all that the map has is this one's */
        vx_hmap none;
        if (!vx_hmap_init(&none, 1024)) {
            free(fs->rows_of.cells);
            fs->rows_of = none;
        }
    }
    for (uint32_t k = 0; k < t->n && fs->rows_of.used; k++)
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
        rc = rows < VX_ROW_NONE - VX_PAGE_ROWS ? vx_rows_grow(t, (uint32_t)rows + VX_PAGE_ROWS) : -EBADMSG;
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
        let_go(fs, t);
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
    if (!fs->read_only && vx_table_freeze(fs, t))
        fs->s.commit_errors++;
    delist(fs, t);
    vx_rows_rehome(fs, t->o.dir);
    let_go(fs, t);
    pthread_mutex_unlock(&fs->lock);
    table_free(t);
}

int vx_table_words(vx_fs *fs, vx_table *t, uint64_t ino)
{
    vx_inode *words;
    pthread_mutex_lock(&fs->lock);
    const int rc = hold_file(fs, ino, &words);
    if (!rc) {
        if (t->words) {
            t->words->refs--;
            vx_inode_let_go(fs, t->words);
        }
        t->words = words;
        t->o.words = ino;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
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

void vx_table_watch(vx_fs *fs, vx_table *t, uint32_t place, vx_row_gone_fn gone, void *ctx)
{
    pthread_mutex_lock(&fs->lock);
    t->gone[place] = gone;
    t->ctx[place] = ctx;
    pthread_mutex_unlock(&fs->lock);
}

vx_table *vx_table_over(vx_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    vx_table *t = fs->open_tables ? vx_rows_over(fs, ino) : NULL;
    pthread_mutex_unlock(&fs->lock);
    return t;
}

uint32_t vx_fs_moved(vx_fs *fs, uint64_t *out, uint32_t cap)
{
    pthread_mutex_lock(&fs->lock);
    uint32_t n = fs->moved_n < cap ? fs->moved_n : cap;
    if (n) {
        memcpy(out, fs->moved, n * sizeof *out);
        for (uint32_t k = 0; k < n; k++) {
            vx_inode *i = (vx_inode *)vx_hmap_get(&fs->inodes, out[k]);
            if (i)
                i->flags &= ~(uint32_t)VX_I_MOVED;
        }
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
        if (vx_rows_over(fs, t->row[first].dir) == t) {
            vx_rows_flag(t, first, VX_ROW_AWAY, 0);
            for (uint32_t k = first; k != VX_ROW_NONE; k = t->row[k].next)
                rows += vx_row_searched(&t->row[k]);
            vx_rows_touched(fs, ino); /* its attributes may be others than when it left */
            vx_inode_dirty(fs, t->file);
            vx_mutated(fs, ino);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return rows;
}
