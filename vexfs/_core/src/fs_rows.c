/* Row tables in memory, and what an operation on a file means for its rows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rows_impl.h"

enum { REUSE_AFTER = 1024, TOUCHED_MAX = 1 << 20 };
static const uint32_t LAST_MOMENT = VX_ROW_NONE - 2;

static size_t dirty_words(uint32_t cap)
{
    return (vx_image_bytes(cap) / VX_TABLE_PAGE + 1) / 64 + 1;
}

void vx_row_dirty(vx_table *t, uint32_t row)
{
    uint32_t page = row / VX_PAGE_ROWS + 1;
    t->dirty[page / 64] |= 1ull << (page % 64);
    t->changes++;
}

void vx_rows_count(vx_table *t, const vx_row *first, int by)
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

int vx_rows_grow(vx_table *t, uint32_t need)
{
    if (need <= t->cap)
        return 0;
    uint64_t want = t->cap ? t->cap : 4 * VX_PAGE_ROWS;
    while (want < need)
        want += want / 2;
    const uint32_t cap = want < VX_ROW_NONE ? (uint32_t)want : VX_ROW_NONE;
    char *image = realloc(t->image, vx_image_bytes(cap));
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

int vx_row_free(vx_table *t, uint32_t row)
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
    return vx_rows_grow(t, t->n + more);
}

/* A search under way may still hold the number of a row that was freed: it is not given away at once, and that it was is
 * noted.  Without memory for that, none is given away. */
uint32_t vx_rows_reusable(vx_table *t)
{
    if (t->free_n <= REUSE_AFTER)
        return 0;
    if (t->given_cap < t->cap) {
        uint32_t *given = realloc(t->given, t->cap * sizeof *given);
        if (!given)
            return 0;
        memset(given + t->given_cap, 0, (t->cap - t->given_cap) * sizeof *given);
        t->given = given;
        t->given_cap = t->cap;
    }
    if (t->moment == LAST_MOMENT) {
        memset(t->given, 0, t->given_cap * sizeof *t->given);
        t->moment = 0;
    }
    t->moment++;
    return t->free_n - REUSE_AFTER;
}

uint32_t vx_row_take(vx_table *t, int reuse)
{
    if (!reuse)
        return t->n++;
    uint32_t row = t->free_rows[t->free_head];
    t->given[row] = t->moment;
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
    vx_rows_count(t, &t->row[k], -1);
    while (k != VX_ROW_NONE) {
        vx_row *r = &t->row[k];
        uint32_t next = r->next;
        if (vx_row_searched(r))
            vx_row_tell(t, k);
        uint64_t version = r->version;
        memset(r, 0, sizeof *r);
        r->version = version & 0xffffff;
        r->next = VX_ROW_NONE;
        vx_row_dirty(t, k);
        (void)vx_row_free(t, k);
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

void vx_moved_push(vx_fs *fs, uint64_t ino)
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
        vx_moved_push(fs, ino); /* the directory of an index */
}

void vx_rows_flag(vx_table *t, uint32_t first, uint32_t flag, int on)
{
    if (!!(t->row[first].flags & flag) == on)
        return;
    vx_rows_count(t, &t->row[first], -1);
    for (uint32_t k = first; k != VX_ROW_NONE; k = t->row[k].next) {
        if (on && flag != VX_ROW_RENAMED && vx_row_searched(&t->row[k]))
            vx_row_tell(t, k);
        t->row[k].flags = (on ? t->row[k].flags | flag : t->row[k].flags & ~flag) & 0xffffff;
        vx_row_dirty(t, k);
    }
    vx_rows_count(t, &t->row[first], 1);
}

/* Names of files whose content is vectors: of which kind. */
int vx_holds_vectors(const char *name, size_t n)
{
    return n <= 4 ? 0 : !memcmp(name + n - 4, ".npy", 4) ? 1 : !memcmp(name + n - 4, ".vec", 4) ? 2 : 0;
}

void vx_rows_stale(vx_fs *fs, vx_inode *i)
{
    if (!fs->open_tables || !S_ISREG(i->a.mode))
        return;
    uint64_t at = vx_rows_find(fs, i->a.ino);
    vx_table *t = table_of(fs, at);
    if (t && (t->row[(uint32_t)at].flags & VX_ROW_CONTENT))
        vx_rows_flag(t, (uint32_t)at, VX_ROW_STALE, 1);
    if (i->flags & VX_I_MOVED)
        return;
    char name[VX_NAME_MAX];
    int n = vx_name_of(fs, i, name);
    if (n < 0 ? t != NULL : vx_holds_vectors(name, (size_t)n)) {
        vx_moved_push(fs, i->a.ino);
        i->flags |= VX_I_MOVED;
    }
}


void vx_rows_touched(vx_fs *fs, uint64_t ino)
{
    uint64_t at = vx_rows_find(fs, ino);
    vx_table *t = table_of(fs, at);
    if (!t)
        return;
    t->changes++;
    for (uint32_t k = (uint32_t)at; k != VX_ROW_NONE && !t->touched_lost; k = t->row[k].next) {
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
        t->touched[t->touched_n++] = k;
    }
}

vx_table *vx_rows_over(vx_fs *fs, uint64_t ino)
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
    vx_table *home = vx_rows_over(fs, t->row[first].dir);
    if (home == t && !(t->row[first].flags & VX_ROW_AWAY))
        return;
    if (home != t)
        vx_rows_flag(t, first, VX_ROW_AWAY, 1);
    if (home)
        vx_moved_push(fs, t->row[first].ino);
}

static void set_dir(vx_fs *fs, vx_table *t, uint32_t first, uint64_t dir)
{
    for (uint32_t k = t->row[first].dir == dir ? VX_ROW_NONE : first; k != VX_ROW_NONE; k = t->row[k].next) {
        t->row[k].dir = dir & 0xffffffffffull;
        vx_row_dirty(t, k);
    }
    rehome(fs, t, first);
}

void vx_rows_unnamed(vx_fs *fs, const vx_inode *i, uint64_t dir)
{
    uint64_t at = vx_rows_find(fs, i->a.ino);
    vx_table *t = table_of(fs, at);
    /* Text that was read under that name is read again under another one. */
    const int read = t && (t->row[(uint32_t)at].flags & VX_ROW_CONTENT);
    if (read)
        vx_rows_flag(t, (uint32_t)at, VX_ROW_RENAMED, 1);
    if (fs->open_tables && (read || (!i->parent && vx_rows_over(fs, dir))))
        vx_moved_push(fs, i->a.ino); /* another of its names has to be looked for */
    if (i->parent && t && t->row[(uint32_t)at].dir == dir)
        set_dir(fs, t, (uint32_t)at, i->parent);
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

void vx_rows_rehome(vx_fs *fs, uint64_t top)
{
    vx_hmap known;
    if (vx_hmap_init(&known, 256))
        return;
    for (uint32_t n = 0; n < fs->ntables; n++) {
        vx_table *t = fs->tables[n];
        uint64_t dir = 0; /* of the row before */
        int inside = 0, at_home = 0;
        for (uint32_t k = 0; t && k < t->n; k++) {
            const vx_row *r = &t->row[k];
            if (r->ino && r->dir != dir) {
                dir = r->dir;
                inside = below(fs, dir, top, &known);
                at_home = inside && vx_rows_over(fs, dir) == t;
            }
            if (!r->ino || !inside || (at_home && !(r->flags & VX_ROW_AWAY)))
                continue;
            if ((uint32_t)vx_rows_find(fs, r->ino) == k)
                rehome(fs, t, k);
        }
    }
    free(known.cells);
}

void vx_rows_moved(vx_fs *fs, const vx_inode *i, uint64_t from)
{
    if (!fs->open_tables)
        return;
    if (S_ISDIR(i->a.mode)) {
        const vx_table *over = vx_rows_over(fs, i->parent);
        fs->tree++;
        if (over != vx_rows_over(fs, from)) { /* else what covers it covers it still */
            vx_rows_rehome(fs, i->a.ino);
            vx_moved_push(fs, i->a.ino); /* files without rows may become vectors now, others have names elsewhere */
        }
        return;
    }
    uint64_t at = vx_rows_find(fs, i->a.ino);
    if (at)
        set_dir(fs, table_of(fs, at), (uint32_t)at, i->parent);
}

/* What was made of the content as one kind of file is void for the other. */
static void renamed(vx_fs *fs, const vx_inode *i, const char *was, size_t was_n, const vx_dentry *now)
{
    int before = vx_holds_vectors(was, was_n), after = vx_holds_vectors(now->name, now->name_n);
    uint64_t at = vx_rows_find(fs, i->a.ino);
    vx_table *t = table_of(fs, at);
    if (t && (t->row[(uint32_t)at].flags & VX_ROW_CONTENT)) {
        if (before != after)
            (void)vx_row_release(fs, t, i->a.ino);
        else if (!after && (was_n != now->name_n || memcmp(was, now->name, was_n)))
            vx_rows_flag(t, (uint32_t)at, VX_ROW_RENAMED, 1);
    }
    if (before || after)
        vx_moved_push(fs, i->a.ino);
}

void vx_rows_known(vx_fs *fs, vx_inode *i, const char *was, size_t was_n, const vx_dentry *now)
{
    const uint64_t known_in = i->parent;
    i->parent = now->parent;
    i->slot = now->slot;
    if (known_in != now->parent)
        vx_rows_moved(fs, i, known_in);
    if (fs->open_tables && S_ISREG(i->a.mode))
        renamed(fs, i, was, was_n, now);
}

/* Of several names the last one decides that was given below an index; where there is none, the last one. */
void vx_rows_named(vx_fs *fs, vx_inode *i, uint64_t from, const vx_dentry *was, const vx_dentry *now)
{
    char other[VX_NAME_MAX] = {0};
    const uint64_t known_in = i->parent;
    const int file = fs->open_tables && S_ISREG(i->a.mode), known = was && known_in == from && i->slot == was->slot;
    int n = 0;
    if (file && i->a.nlink > 1 && !vx_rows_over(fs, now->parent) && (!known_in || vx_rows_over(fs, known_in))) {
        if (known) { /* it left, and another name may be inside; as where none is known, which is looked for already */
            i->parent = i->slot = 0;
            vx_rows_unnamed(fs, i, from);
        }
        return;
    }
    if (file && !known && known_in)
        n = vx_name_of(fs, i, other);
    vx_rows_known(fs, i, known ? was->name : other, known ? was->name_n : (size_t)(n > 0 ? n : 0), now);
}

/* -- commits ----------------------------------------------------------------------------------------------------- */

int vx_table_freeze(vx_fs *fs, vx_table *t)
{
    size_t size = vx_image_bytes(t->n), pages = (size + VX_TABLE_PAGE - 1) / VX_TABLE_PAGE;
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

/* One that cannot be written keeps no other from it.  -ENOMEM, if any was short of memory, or what the first failed by. */
int vx_rows_freeze(vx_fs *fs)
{
    int rc = 0;
    for (uint32_t k = 0; k < fs->ntables; k++) {
        const int failed = fs->tables[k] ? vx_table_freeze(fs, fs->tables[k]) : 0;
        rc = !rc || failed == -ENOMEM ? failed : rc;
    }
    return rc;
}
