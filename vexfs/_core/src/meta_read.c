/* The reader: answers the filesystem's cache misses from a read transaction that stays open.
 *
 * An open transaction makes a read cost no lock and no look at the log's header.  It would also keep a checkpoint from
 * finishing, so the commit thread may end it between two calls; that is why rows are copied out before a call returns. */
#include "vexfs/meta_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const SQL[VX_READ_COUNT] = {
    [VX_READ_BEGIN] = "BEGIN",
    [VX_READ_END] = "COMMIT",
    [VX_READ_INODE] = "SELECT row FROM inode WHERE ino=?1",
    [VX_READ_MAP] = "SELECT map FROM extent WHERE key=?1",
    [VX_READ_XATTR] = "SELECT data FROM xattr WHERE ino=?1",
    [VX_READ_CONTENT] = "SELECT data FROM content WHERE ino=?1",
    [VX_READ_LOOKUP] = "SELECT slot,ino,type,name FROM dentry WHERE parent=?1 AND slot BETWEEN ?2 AND ?3",
    [VX_READ_DENTRIES] = "SELECT slot,ino,type,name FROM dentry WHERE parent=?1 AND slot>?2 ORDER BY slot LIMIT ?3",
    [VX_READ_MAPS] = "SELECT key,map FROM extent WHERE key BETWEEN ?1 AND ?2 ORDER BY key",
    [VX_READ_META] = "SELECT value FROM meta WHERE name=?1",
    [VX_READ_SEGMENTS] = "SELECT seg,row FROM segment ORDER BY seg",
    [VX_READ_ORPHANS] = "SELECT ino FROM orphan ORDER BY ino",
    [VX_READ_OPLOG] = "SELECT seq,data FROM oplog WHERE seq>?1 ORDER BY seq LIMIT ?2",
    [VX_READ_ALL_INODES] = "SELECT ino,row FROM inode WHERE ino>?1 ORDER BY ino LIMIT ?2",
    [VX_READ_ALL_DENTRIES] = "SELECT slot,ino,type,name,parent FROM dentry WHERE (parent,slot)>(?1,?2)"
                             " ORDER BY parent,slot LIMIT ?3",
    [VX_READ_ALL_MAPS] = "SELECT key,map FROM extent WHERE key>?1 ORDER BY key LIMIT ?2",
    [VX_READ_ALL_XATTRS] = "SELECT ino,data FROM xattr WHERE ino>?1 ORDER BY ino LIMIT ?2",
    [VX_READ_ALL_CONTENTS] = "SELECT ino,data FROM content WHERE ino>?1 ORDER BY ino LIMIT ?2",
    [VX_READ_TAILS] = "SELECT place,data FROM tail WHERE place>?1 ORDER BY place LIMIT ?2",
};

int vx_meta_prepare_reader(vx_meta *m)
{
    return vx_meta_prepare(m, m->reader, SQL, m->read, VX_READ_COUNT);
}

static int run(vx_meta *m, int which)
{
    sqlite3_step(m->read[which]);
    return sqlite3_reset(m->read[which]);
}

static void end_transaction(vx_meta *m)
{
    if (m->reading && !sqlite3_get_autocommit(m->reader))
        run(m, VX_READ_END);
    m->reading = 0;
}

static int enter(vx_meta *m)
{
    pthread_mutex_lock(&m->reader_mutex);
    if (m->depth == 0 && (__atomic_load_n(&m->stale, __ATOMIC_RELAXED) || !m->reading)) {
        __atomic_store_n(&m->stale, 0, __ATOMIC_SEQ_CST);
        end_transaction(m);
        if (run(m, VX_READ_BEGIN) != SQLITE_OK) {
            int rc = vx_meta_fail(m, m->reader, "beginning to read");
            pthread_mutex_unlock(&m->reader_mutex);
            return rc;
        }
        m->reading = 1;
    }
    m->depth++;
    return 0;
}

static void leave(vx_meta *m)
{
    m->depth--;
    /* A failed statement may have ended the transaction. */
    if (m->depth == 0 && sqlite3_get_autocommit(m->reader))
        m->reading = 0;
    pthread_mutex_unlock(&m->reader_mutex);
}

void vx_meta_refresh(vx_meta *m)
{
    __atomic_store_n(&m->stale, 1, __ATOMIC_SEQ_CST);
}

void vx_meta_release_reader(vx_meta *m)
{
    pthread_mutex_lock(&m->reader_mutex);
    if (m->depth == 0)
        end_transaction(m);
    pthread_mutex_unlock(&m->reader_mutex);
}

static int finish(vx_meta *m, sqlite3_stmt *stmt, int rc, const char *doing)
{
    if (sqlite3_reset(stmt) != SQLITE_OK)
        rc = vx_meta_fail(m, m->reader, doing);
    return rc;
}

/* The statement, unless a scan of the same kind is under way further up the stack. */
static sqlite3_stmt *idle(vx_meta *m, int which)
{
    return sqlite3_stmt_busy(m->read[which]) ? NULL : m->read[which];
}

/* -- single rows ------------------------------------------------------------------------------------------------------ */

static int keep(vx_meta *m, const void *data, size_t n)
{
    if (n > m->out_size) {
        uint8_t *wider = realloc(m->out, n + 4096);
        if (!wider)
            return -ENOMEM;
        m->out = wider;
        m->out_size = n + 4096;
    }
    if (n)
        memcpy(m->out, data, n);
    return 0;
}

static int get_blob(vx_meta *m, int which, uint64_t key, const void **data, size_t *n, const char *doing)
{
    int rc = enter(m);
    if (rc)
        return rc;
    sqlite3_stmt *stmt = m->read[which];
    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)key);
    rc = -ENOENT;
    if (sqlite3_step(stmt) == SQLITE_ROW) {
        size_t size = (size_t)sqlite3_column_bytes(stmt, 0);
        rc = keep(m, sqlite3_column_blob(stmt, 0), size);
        *data = m->out;
        *n = size;
    }
    rc = finish(m, stmt, rc, doing);
    leave(m);
    return rc;
}

int vx_meta_get_inode(vx_meta *m, uint64_t ino, const void **data, size_t *n)
{
    return ino < VX_META_INO_MAX ? get_blob(m, VX_READ_INODE, ino, data, n, "reading an inode") : -ENOENT;
}

int vx_meta_get_map(vx_meta *m, uint64_t ino, uint32_t region, const void **data, size_t *n)
{
    if (ino >= VX_META_INO_MAX || region >> VX_META_REGION_BITS)
        return -ENOENT;
    return get_blob(m, VX_READ_MAP, ino << VX_META_REGION_BITS | region, data, n, "reading an extent map");
}

int vx_meta_get_xattr(vx_meta *m, uint64_t ino, const void **data, size_t *n)
{
    return ino < VX_META_INO_MAX ? get_blob(m, VX_READ_XATTR, ino, data, n, "reading extended attributes") : -ENOENT;
}

int vx_meta_get_content(vx_meta *m, uint64_t ino, const void **data, size_t *n)
{
    return ino < VX_META_INO_MAX ? get_blob(m, VX_READ_CONTENT, ino, data, n, "reading a small file") : -ENOENT;
}

static void read_dentry(sqlite3_stmt *stmt, vx_dentry_row *row)
{
    row->slot = (uint64_t)sqlite3_column_int64(stmt, 0);
    row->ino = (uint64_t)sqlite3_column_int64(stmt, 1);
    row->type = (uint32_t)sqlite3_column_int(stmt, 2);
    row->name = sqlite3_column_blob(stmt, 3);
    row->name_n = (uint32_t)sqlite3_column_bytes(stmt, 3);
}

int vx_meta_lookup(vx_meta *m, uint64_t parent, uint64_t hash, const char *name, size_t name_n, uint64_t *ino,
                   uint32_t *type, uint64_t *slot)
{
    if (parent >= VX_META_INO_MAX || hash >= VX_META_NUMBER_MAX - 3)
        return -EINVAL;
    int rc = enter(m);
    if (rc)
        return rc;
    sqlite3_stmt *stmt = m->read[VX_READ_LOOKUP];
    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)parent);
    sqlite3_bind_int64(stmt, 2, (sqlite3_int64)hash);
    sqlite3_bind_int64(stmt, 3, (sqlite3_int64)hash + 3);
    rc = -ENOENT;
    while (rc == -ENOENT && sqlite3_step(stmt) == SQLITE_ROW) {
        vx_dentry_row row;
        read_dentry(stmt, &row);
        if (row.name_n != name_n || (name_n && memcmp(row.name, name, name_n) != 0))
            continue;
        *ino = row.ino;
        *type = row.type;
        *slot = row.slot;
        rc = 0;
    }
    rc = finish(m, stmt, rc, "looking up a name");
    leave(m);
    return rc;
}

/* Leaves the statement on its row, inside the reader: the caller finishes and leaves. */
static int find_meta(vx_meta *m, const char *name, sqlite3_stmt **out)
{
    int rc = enter(m);
    if (rc)
        return rc;
    *out = m->read[VX_READ_META];
    sqlite3_bind_text(*out, 1, name, -1, SQLITE_STATIC);
    return sqlite3_step(*out) == SQLITE_ROW ? 1 : 0;
}

int vx_meta_get_int(vx_meta *m, const char *name, int64_t *out)
{
    sqlite3_stmt *stmt = NULL;
    int rc = find_meta(m, name, &stmt);
    if (rc < 0)
        return rc;
    if (rc)
        *out = sqlite3_column_int64(stmt, 0);
    rc = finish(m, stmt, rc ? 0 : -ENOENT, "reading a setting");
    leave(m);
    return rc;
}

int vx_meta_get_blob(vx_meta *m, const char *name, const void **data, size_t *n)
{
    sqlite3_stmt *stmt = NULL;
    int rc = find_meta(m, name, &stmt);
    if (rc < 0)
        return rc;
    if (rc) {
        *n = (size_t)sqlite3_column_bytes(stmt, 0);
        rc = keep(m, sqlite3_column_blob(stmt, 0), *n);
        *data = m->out;
    } else {
        rc = -ENOENT;
    }
    rc = finish(m, stmt, rc, "reading a setting");
    leave(m);
    return rc;
}

/* -- scans ------------------------------------------------------------------------------------------------------------ */

/* Enters the reader and hands out a statement with its numbers bound, or says why not. */
static int start_scan(vx_meta *m, int which, const int64_t *numbers, int count, sqlite3_stmt **out)
{
    int rc = enter(m);
    if (rc)
        return rc;
    *out = idle(m, which);
    if (!*out) {
        leave(m);
        return vx_meta_say(m, -EBUSY, "%s: a scan was begun inside the callback of a scan of the same kind", m->path);
    }
    for (int i = 0; i < count; i++)
        sqlite3_bind_int64(*out, i + 1, numbers[i]);
    return 0;
}

int vx_meta_scan(vx_meta *m, uint64_t parent, uint64_t after, uint32_t limit, vx_dentry_fn fn, void *ctx)
{
    sqlite3_stmt *stmt = NULL;
    if (parent >= VX_META_INO_MAX || after >= VX_META_NUMBER_MAX)
        return -EINVAL;
    int rows = 0, stop = 0;
    int rc = start_scan(m, VX_READ_DENTRIES, (int64_t[]){(int64_t)parent, (int64_t)after, limit}, 3, &stmt);
    if (rc)
        return rc;
    while (!stop && sqlite3_step(stmt) == SQLITE_ROW) {
        vx_dentry_row row;
        read_dentry(stmt, &row);
        rows++;
        stop = fn(ctx, &row);
    }
    rc = finish(m, stmt, 0, "listing a directory");
    leave(m);
    return rc ? rc : rows;
}

int vx_meta_scan_dentries(vx_meta *m, uint64_t parent, uint64_t after, uint32_t limit, vx_entry_fn fn, void *ctx)
{
    sqlite3_stmt *stmt = NULL;
    if (parent >= VX_META_INO_MAX || after >= VX_META_NUMBER_MAX)
        return -EINVAL;
    int rows = 0, stop = 0;
    int rc = start_scan(m, VX_READ_ALL_DENTRIES, (int64_t[]){(int64_t)parent, (int64_t)after, limit}, 3, &stmt);
    if (rc)
        return rc;
    while (!stop && sqlite3_step(stmt) == SQLITE_ROW) {
        vx_dentry_row row;
        read_dentry(stmt, &row);
        rows++;
        stop = fn(ctx, (uint64_t)sqlite3_column_int64(stmt, 4), &row);
    }
    rc = finish(m, stmt, 0, "reading directory entries");
    leave(m);
    return rc ? rc : rows;
}

typedef struct {
    int rows, stop;
    vx_row_fn fn;
    void *ctx;
} row_scan;

/* Rows of (number, blob): what most tables are. */
static int scan_rows(vx_meta *m, int which, const int64_t *numbers, int count, row_scan *s, const char *doing)
{
    sqlite3_stmt *stmt = NULL;
    int rc = start_scan(m, which, numbers, count, &stmt);
    if (rc)
        return rc;
    while (!s->stop && sqlite3_step(stmt) == SQLITE_ROW) {
        size_t n = (size_t)sqlite3_column_bytes(stmt, 1);
        s->rows++;
        s->stop = s->fn(s->ctx, (uint64_t)sqlite3_column_int64(stmt, 0), sqlite3_column_blob(stmt, 1), n);
    }
    rc = finish(m, stmt, 0, doing);
    leave(m);
    return rc;
}

typedef struct {
    void *fn, *ctx;
} narrowed;

static int as_map(void *ctx, uint64_t key, const void *data, size_t n)
{
    narrowed *a = ctx;
    return ((vx_map_fn)a->fn)(a->ctx, (uint32_t)(key & ((1u << VX_META_REGION_BITS) - 1)), data, n);
}

static int as_segment(void *ctx, uint64_t key, const void *data, size_t n)
{
    narrowed *a = ctx;
    return ((vx_segment_fn)a->fn)(a->ctx, (uint32_t)key, data, n);
}

static int as_ino(void *ctx, uint64_t key, const void *data, size_t n)
{
    narrowed *a = ctx;
    (void)data;
    (void)n;
    return ((vx_ino_fn)a->fn)(a->ctx, key);
}

int vx_meta_scan_maps(vx_meta *m, uint64_t ino, uint32_t from, vx_map_fn fn, void *ctx)
{
    if (ino >= VX_META_INO_MAX || from >> VX_META_REGION_BITS)
        return -EINVAL;
    narrowed a = {(void *)fn, ctx};
    row_scan s = {.fn = as_map, .ctx = &a};
    int64_t base = (int64_t)(ino << VX_META_REGION_BITS);
    int rc = scan_rows(m, VX_READ_MAPS, (int64_t[]){base + from, base + (1 << VX_META_REGION_BITS) - 1}, 2, &s,
                       "reading extent maps");
    return rc ? rc : s.stop;
}

int vx_meta_scan_segments(vx_meta *m, vx_segment_fn fn, void *ctx)
{
    narrowed a = {(void *)fn, ctx};
    row_scan s = {.fn = as_segment, .ctx = &a};
    int rc = scan_rows(m, VX_READ_SEGMENTS, NULL, 0, &s, "reading the segments");
    return rc ? rc : s.stop;
}

int vx_meta_scan_orphans(vx_meta *m, vx_ino_fn fn, void *ctx)
{
    narrowed a = {(void *)fn, ctx};
    row_scan s = {.fn = as_ino, .ctx = &a};
    int rc = scan_rows(m, VX_READ_ORPHANS, NULL, 0, &s, "reading the orphans");
    return rc ? rc : s.stop;
}

int vx_meta_scan_oplog(vx_meta *m, uint64_t after, uint32_t limit, vx_oplog_fn fn, void *ctx)
{
    if (after >= VX_META_NUMBER_MAX)
        return -EINVAL;
    row_scan s = {.fn = fn, .ctx = ctx};
    int rc = scan_rows(m, VX_READ_OPLOG, (int64_t[]){(int64_t)after, limit}, 2, &s, "reading the oplog");
    return rc ? rc : s.stop;
}

static int scan_table(vx_meta *m, int which, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx, const char *doing)
{
    row_scan s = {.fn = fn, .ctx = ctx};
    int rc = scan_rows(m, which, (int64_t[]){after, limit}, 2, &s, doing);
    return rc ? rc : s.rows;
}

int vx_meta_scan_inodes(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
{
    return scan_table(m, VX_READ_ALL_INODES, after, limit, fn, ctx, "reading inodes");
}

int vx_meta_scan_all_maps(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
{
    return scan_table(m, VX_READ_ALL_MAPS, after, limit, fn, ctx, "reading extent maps");
}

int vx_meta_scan_xattrs(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
{
    return scan_table(m, VX_READ_ALL_XATTRS, after, limit, fn, ctx, "reading extended attributes");
}

int vx_meta_scan_contents(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
{
    return scan_table(m, VX_READ_ALL_CONTENTS, after, limit, fn, ctx, "reading small files");
}

int vx_meta_scan_tails(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
{
    return scan_table(m, VX_READ_TAILS, after, limit, fn, ctx, "reading the tails of segments");
}
