/* Putting records: files, their attributes and their rows as one change.
 *
 * Everything that can be refused is refused before anything changes, and the lock is not let go of from then on: no
 * epoch ends in the middle, so a crash leaves all of a call or nothing. */
#include <errno.h>
#include <string.h>

#include "rows_impl.h"

typedef struct {
    vx_table *t;
    vx_record *r;
    size_t n;
    uint32_t rows, reuse, flags; /* reuse: so many of the rows are free ones whose pages are whole */
    const vx_span *spans;
    const char *stored, *words;
    const uint32_t *words_n;
    uint32_t *out;
} put_t;

/* The file of a record: *out NULL when it is to be made. */
static int find_file(vx_fs *fs, const vx_cred *c, const put_t *p, vx_record *r, vx_inode **out)
{
    *out = NULL;
    if (!r->ino) {
        vx_inode *dir;
        vx_dentry *d;
        int rc = vx_new_name_check(r->name, r->name_n);
        if (!rc)
            rc = vx_change_begin(fs, c, r->parent, r->name, r->name_n, &dir, &d);
        if (rc)
            return rc;
        if (!d->ino)
            return p->flags & VX_PUT_CREATE ? 0 : -ENOENT;
        if (p->flags & VX_PUT_EXCL)
            return -EEXIST;
        r->ino = d->ino;
    }
    int rc = vx_inode_get(fs, r->ino, out);
    if (rc)
        return rc;
    if (!(*out)->a.nlink)
        return -ENOENT;
    return S_ISREG((*out)->a.mode) ? vx_may(c, *out, 2) : S_ISDIR((*out)->a.mode) ? -EISDIR : -EINVAL;
}

/* Whether a file that was read for this table is another's now, has another name, or vectors that were given to it
 * meanwhile.  Its name does not lie on the stack of what follows. */
static __attribute__((noinline)) int is_elsewhere(vx_fs *fs, const put_t *p, const vx_record *r, vx_inode *i)
{
    char name[VX_NAME_MAX];
    uint64_t had = vx_rows_find(fs, i->a.ino);
    if (vx_rows_over(fs, i->a.ino) != p->t)
        return 1;
    if (had && fs->tables[(had >> 32) - 1] == p->t && !(p->t->row[(uint32_t)had].flags & VX_ROW_CONTENT))
        return 1;
    int n = p->words ? vx_name_of(fs, i, name) : 0;
    if (n <= 0)
        return 0;
    return vx_holds_vectors(name, (size_t)n) ||
           (r->name && (r->name_n != (uint32_t)n || memcmp(name, r->name, (size_t)n)));
}

static int check(vx_fs *fs, const vx_cred *c, const put_t *p, vx_record *r)
{
    vx_frame_mark();
    vx_inode *i;
    int rc = find_file(fs, c, p, r, &i);
    if (!rc)
        rc = vx_xattr_check(r->xattrs, r->xattrs_n);
    if (!rc && i)
        rc = vx_xattr_load(fs, i);
    if (!rc)
        rc = vx_xattr_fits(i, r->xattrs, r->xattrs_n);
    if (!rc && i && (p->flags & VX_PUT_CONTENT) && (i->a.generation != r->generation || is_elsewhere(fs, p, r, i)))
        rc = -ESTALE;
    if (!rc && r->content && (r->content_n > VX_INLINE_MAX || (i && !(i->flags & VX_I_INLINE))))
        rc = -EFBIG; /* written by the caller, as any file's content */
    r->status = rc;
    return rc;
}

static int whole_pages(vx_fs *fs, const put_t *p, uint32_t row)
{
    size_t row_bytes = p->t->o.row_bytes;
    uint64_t at = (uint64_t)row * row_bytes, end = at + row_bytes;
    int rc = 0;
    for (; at < end && !rc; at = at / VX_PAGE * VX_PAGE + VX_PAGE)
        rc = vx_page_whole(fs, p->t->vectors, at);
    return rc;
}

/* The rows that this call will take: free ones first.  Their pages are made whole; the last page may be a part. */
static int prepare_rows(vx_fs *fs, put_t *p)
{
    vx_table *t = p->t;
    int rc = vx_rows_reserve(t, p->rows);
    const uint32_t reusable = rc || !p->rows || (p->flags & VX_PUT_APPEND) ? 0 : vx_rows_reusable(t);
    p->reuse = reusable < p->rows ? reusable : p->rows;
    if (rc || !p->stored)
        return rc;
    if (t->words)
        rc = vx_page_whole(fs, t->words, t->words->a.size ? t->words->a.size - 1 : 0);
    if (!rc && t->vectors->a.size)
        rc = vx_page_whole(fs, t->vectors, t->vectors->a.size - 1);
    for (uint32_t k = 0; k < p->reuse && !rc; k++)
        rc = whole_pages(fs, p, t->free_rows[(t->free_head + k) % t->free_cap]);
    return rc;
}

static int put_row(vx_fs *fs, const put_t *p, const vx_inode *i, uint32_t k, uint32_t row, uint32_t flags)
{
    vx_table *t = p->t;
    vx_row *w = &t->row[row];
    uint64_t version = w->version + 1ull;
    memset(w, 0, sizeof *w);
    w->ino = i->a.ino & 0xffffffffffull;
    w->flags = flags & 0xffffff;
    w->dir = i->parent & 0xffffffffffull;
    w->version = version & 0xffffff;
    w->generation = (uint32_t)i->a.generation;
    w->start = p->spans ? p->spans[k].start : 0;
    w->length = p->spans ? p->spans[k].length : 0;
    w->next = VX_ROW_NONE;
    vx_row_dirty(t, row);
    int rc = 0;
    if (p->stored)
        rc = vx_write_held(fs, t->vectors, (uint64_t)row * t->o.row_bytes, p->stored + (size_t)k * t->o.row_bytes,
                           t->o.row_bytes);
    return rc;
}

/* A keyword record in the log: row, version, bytes. */
static int put_words(vx_fs *fs, const put_t *p, uint32_t k, uint32_t row, const char *words)
{
    uint32_t head[3] = {row, (uint32_t)p->t->row[row].version, p->words_n[k]};
    vx_inode *w = p->t->words;
    int rc = vx_write_held(fs, w, w->a.size, head, sizeof head);
    return rc ? rc : vx_write_held(fs, w, w->a.size, words, head[2]);
}

static int put_rows(vx_fs *fs, put_t *p, vx_inode *i, uint32_t first, uint32_t n, const char **words)
{
    vx_table *t = p->t;
    uint32_t last = VX_ROW_NONE, flags = p->flags & VX_PUT_CONTENT ? VX_ROW_CONTENT : 0;
    int rc = 0;
    for (uint32_t k = first; k < first + n && !rc; k++) {
        uint32_t row = vx_row_take(t, p->reuse > 0);
        p->reuse -= p->reuse > 0;
        p->out[k] = row;
        rc = put_row(fs, p, i, k, row, flags);
        if (!rc && p->words && t->words) {
            rc = put_words(fs, p, k, row, *words);
            *words += p->words_n[k];
        }
        if (last == VX_ROW_NONE)
            rc = rc ? rc : vx_hmap_put(&fs->rows_of, i->a.ino, ((uintptr_t)t->number + 1) << 32 | row);
        else
            t->row[last].next = row;
        last = row;
    }
    t->live += n;
    t->files += n > 0;
    return rc;
}

static int put_content(vx_fs *fs, vx_inode *i, const vx_record *r)
{
    uint32_t had = i->inl_n;
    int rc = vx_inline_room(fs, i, r->content_n);
    if (rc)
        return rc;
    vx_inline_dirty(fs, i);
    if (r->content_n)
        memcpy(i->inl, r->content, r->content_n);
    i->inl_n = r->content_n;
    fs->used_bytes += (uint64_t)r->content_n - had;
    i->a.size = r->content_n;
    vx_touch(fs, i, vx_now(), 1);
    return 0;
}

static int apply(vx_fs *fs, const vx_cred *c, put_t *p, vx_record *r, uint32_t first, const char **words)
{
    vx_frame_mark();
    vx_inode *i = NULL;
    const int made = !r->ino;
    int rc = r->ino ? vx_inode_get(fs, r->ino, &i)
                    : vx_make_file(fs, c, r->parent, r->name, r->name_n, S_IFREG | 0644, 0, &i);
    if (rc)
        return rc;
    r->ino = i->a.ino;
    if (r->content)
        rc = put_content(fs, i, r);
    if (!rc && r->xattrs_n) {
        rc = vx_xattr_lay(fs, i, r->xattrs, r->xattrs_n);
        if (p->flags & VX_PUT_KEEP_ROWS)
            vx_rows_touched(fs, r->ino);
    }
    if (!rc && !(p->flags & VX_PUT_KEEP_ROWS)) {
        uint64_t had = vx_rows_find(fs, r->ino);
        if (had)
            (void)vx_row_release(fs, fs->tables[(had >> 32) - 1], r->ino);
        rc = put_rows(fs, p, i, first, r->nrows, words);
        if (!rc && r->nrows)
            vx_rows_touched(fs, r->ino);
    }
    if (made || r->content || r->xattrs_n) { /* rows alone change nothing of the file */
        vx_inode_dirty(fs, i);
        vx_event_inode(fs, c, r->ino, r->content != NULL);
    }
    vx_mutated(fs, r->ino);
    return rc;
}

static int put_all(vx_fs *fs, const vx_cred *c, put_t *p)
{
    int rc;
    do {
        rc = prepare_rows(fs, p);
        for (size_t k = 0; k < p->n && !rc; k++)
            rc = check(fs, c, p, &p->r[k]);
    } while (rc == -EAGAIN);
    const char *words = p->words;
    uint32_t first = 0;
    for (size_t k = 0; k < p->n && !rc; k++) {
        rc = apply(fs, c, p, &p->r[k], first, &words);
        first += p->r[k].nrows;
    }
    vx_inode_dirty(fs, p->t->file);
    return rc;
}

int vx_fs_put_records(vx_fs *fs, const vx_cred *c, vx_table *t, vx_record *r, size_t n, const vx_span *spans,
                      const void *stored, const char *words, const uint32_t *words_n, uint32_t flags,
                      uint32_t *rows_out)
{
    vx_frame f;
    put_t p = {.t = t, .r = r, .n = n, .flags = flags, .spans = spans, .stored = stored, .words = words,
               .words_n = words_n, .out = rows_out};
    uint64_t bytes = 0, rows = 0;
    for (size_t k = 0; k < n; k++) {
        rows += r[k].nrows;
        bytes += (uint64_t)VX_META_COST + r[k].xattrs_n + r[k].content_n;
    }
    if (!n)
        return 0;
    if (n > VX_PUT_MAX || rows > VX_PUT_MAX)
        return -E2BIG;
    p.rows = (uint32_t)rows;
    vx_op_enter(fs, &f, VX_OP_CREATE);
    vx_throttle(fs);
    int rc = fs->read_only ? -EROFS : vx_space_make(fs, bytes + rows * (t->o.row_bytes + sizeof(vx_row)));
    if (!rc)
        rc = put_all(fs, c, &p);
    return vx_op_leave(fs, &f, rc);
}

void vx_table_confirm(vx_fs *fs, vx_table *t, const uint32_t *rows, const uint64_t *inos, size_t n)
{
    pthread_mutex_lock(&fs->lock);
    for (size_t k = 0; k < n; k++) {
        const vx_row *r = rows[k] < t->n ? &t->row[rows[k]] : NULL;
        if (!r || r->ino != inos[k] || (r->flags & (VX_ROW_STALE | VX_ROW_AWAY)))
            vx_row_tell(t, rows[k]);
    }
    pthread_mutex_unlock(&fs->lock);
}

/* Their versions are those of rows that were used once: a keyword record that may be in the log for them is void.  Free
 * they are when the table is next opened, so that rows that are put go on behind them. */
int vx_table_skip(vx_fs *fs, vx_table *t, uint32_t n)
{
    pthread_mutex_lock(&fs->lock);
    int rc = fs->read_only ? -EROFS : vx_rows_reserve(t, n);
    for (uint32_t k = 0; k < n && !rc; k++) {
        t->row[t->n] = (vx_row){.version = 1, .next = VX_ROW_NONE};
        vx_row_dirty(t, t->n++);
    }
    if (!rc && n) {
        vx_inode_dirty(fs, t->file);
        vx_mutated(fs, t->file->a.ino);
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

int vx_table_drop(vx_fs *fs, vx_table *t, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    int rc = fs->read_only ? -EROFS : vx_row_release(fs, t, ino);
    if (rc > 0) {
        vx_inode_dirty(fs, t->file);
        vx_mutated(fs, ino);
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}
