/* The writer: one thread, one transaction at a time. */
#include "vexfs/meta_impl.h"

#include <errno.h>
#include <string.h>

static const char *const SQL[VX_WRITE_COUNT] = {
    [VX_WRITE_BEGIN] = "BEGIN IMMEDIATE",
    [VX_WRITE_COMMIT] = "COMMIT",
    [VX_WRITE_ROLLBACK] = "ROLLBACK",
    [VX_PUT_INODE] = "REPLACE INTO inode(ino,row) VALUES(?1,?2)",
    [VX_DEL_INODE] = "DELETE FROM inode WHERE ino=?1",
    [VX_PUT_DENTRY] = "REPLACE INTO dentry(parent,slot,ino,type,name) VALUES(?1,?2,?3,?4,?5)",
    [VX_DEL_DENTRY] = "DELETE FROM dentry WHERE parent=?1 AND slot=?2",
    [VX_PUT_CONTENT] = "REPLACE INTO content(ino,data) VALUES(?1,?2)",
    [VX_DEL_CONTENT] = "DELETE FROM content WHERE ino=?1",
    [VX_PUT_MAP] = "REPLACE INTO extent(key,map) VALUES(?1,?2)",
    [VX_DEL_MAP] = "DELETE FROM extent WHERE key=?1",
    [VX_DEL_MAPS] = "DELETE FROM extent WHERE key BETWEEN ?1 AND ?2",
    [VX_PUT_XATTR] = "REPLACE INTO xattr(ino,data) VALUES(?1,?2)",
    [VX_DEL_XATTR] = "DELETE FROM xattr WHERE ino=?1",
    [VX_PUT_SEGMENT] = "REPLACE INTO segment(seg,row) VALUES(?1,?2)",
    [VX_DEL_SEGMENT] = "DELETE FROM segment WHERE seg=?1",
    [VX_PUT_ORPHAN] = "REPLACE INTO orphan(ino) VALUES(?1)",
    [VX_DEL_ORPHAN] = "DELETE FROM orphan WHERE ino=?1",
    [VX_PUT_OPLOG] = "REPLACE INTO oplog(seq,data) VALUES(?1,?2)",
    [VX_OLD_OPLOG] = "SELECT max(seq) FROM oplog WHERE seq<=?1",
    /* `newer`: bytes of the rows behind it; the newest has none, and stays. */
    [VX_LONG_OPLOG] = "SELECT max(seq) FROM oplog WHERE seq<=?1 OR seq<=(SELECT max(seq) FROM (SELECT seq,sum(length("
                     "data))OVER(ORDER BY seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newer FROM "
                     "oplog)WHERE newer>=?2)",
    [VX_OPLOG_BYTES] = "SELECT total(length(data)) FROM oplog",
    [VX_TRIM_OPLOG] = "DELETE FROM oplog WHERE seq<=?1",
    [VX_PUT_META] = "REPLACE INTO meta(name,value) VALUES(?1,?2)",
    [VX_PUT_TAIL] = "REPLACE INTO tail(place,data) VALUES(?1,?2)",
    [VX_DEL_TAILS] = "DELETE FROM tail WHERE place BETWEEN ?1<<32 AND ?1<<32|0xffffffff",
    [VX_CLEAR_TAILS] = "DELETE FROM tail",
};

int vx_meta_prepare_writer(vx_meta *m)
{
    m->oplog_bytes = UINT64_MAX;
    return vx_meta_prepare(m, m->writer, SQL, m->write, VX_WRITE_COUNT);
}

/* -- transactions ------------------------------------------------------------------------------------------------------ */

static int run(vx_meta *m, int which, const char *doing)
{
    sqlite3_stmt *stmt = m->write[which];
    sqlite3_step(stmt);
    int rc = sqlite3_reset(stmt);
    return rc == SQLITE_OK ? 0 : vx_meta_fail(m, m->writer, doing);
}

int vx_meta_begin(vx_meta *m)
{
    if (m->read_only)
        return vx_meta_say(m, -EROFS, "%s: open for reading only", m->path);
    if (m->writing)
        return vx_meta_say(m, -EALREADY, "%s: a transaction is already open", m->path);
    int rc = run(m, VX_WRITE_BEGIN, "beginning a transaction");
    m->writing = rc == 0;
    m->doomed = 0;
    return rc;
}

int vx_meta_rollback(vx_meta *m)
{
    int rc = 0;
    if (m->writing && !sqlite3_get_autocommit(m->writer))
        rc = run(m, VX_WRITE_ROLLBACK, "rolling back");
    m->writing = 0;
    m->doomed = 0;
    m->oplog_bytes = UINT64_MAX;
    return rc;
}

/* 0 when a transaction is open and whole. */
static int ready(vx_meta *m)
{
    if (m->doomed)
        return m->doomed;
    return m->writing ? 0 : vx_meta_say(m, -EINVAL, "%s: no transaction is open", m->path);
}

int vx_meta_commit(vx_meta *m)
{
    int rc = ready(m);
    if (!rc)
        rc = run(m, VX_WRITE_COMMIT, "committing");
    if (!rc)
        m->writing = 0;
    else
        vx_meta_rollback(m);
    return rc;
}

/* After the last step of a statement.  SQLite ends the whole transaction on some failures; statements after that would
 * commit one by one, so they are refused until the caller rolls back. */
static int ended(vx_meta *m, sqlite3_stmt *stmt)
{
    if (sqlite3_reset(stmt) == SQLITE_OK)
        return 0;
    int rc = vx_meta_fail(m, m->writer, "writing a row");
    if (sqlite3_get_autocommit(m->writer))
        m->doomed = rc;
    return rc;
}

/* Runs a bound statement. */
static int change(vx_meta *m, int which)
{
    sqlite3_step(m->write[which]);
    return ended(m, m->write[which]);
}

static int change_by_number(vx_meta *m, int which, uint64_t number)
{
    int rc = ready(m);
    if (rc)
        return rc;
    sqlite3_bind_int64(m->write[which], 1, (sqlite3_int64)number);
    return change(m, which);
}

static int bind_blob(sqlite3_stmt *stmt, int at, const void *data, size_t n)
{
    return n ? sqlite3_bind_blob64(stmt, at, data, n, SQLITE_STATIC) : sqlite3_bind_zeroblob(stmt, at, 0);
}

static int put_blob(vx_meta *m, int which, uint64_t number, const void *data, size_t n)
{
    int rc = ready(m);
    if (rc)
        return rc;
    sqlite3_stmt *stmt = m->write[which];
    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)number);
    if (bind_blob(stmt, 2, data, n) != SQLITE_OK)
        return vx_meta_fail(m, m->writer, "writing a row");
    return change(m, which);
}

static int out_of_range(vx_meta *m, const char *what)
{
    return vx_meta_say(m, -EINVAL, "%s: %s is out of range", m->path, what);
}

/* -- rows -------------------------------------------------------------------------------------------------------------- */

int vx_meta_put_inode(vx_meta *m, uint64_t ino, const void *data, size_t n)
{
    return ino < VX_META_INO_MAX ? put_blob(m, VX_PUT_INODE, ino, data, n) : out_of_range(m, "an inode number");
}

int vx_meta_del_inode(vx_meta *m, uint64_t ino, uint32_t parts)
{
    static const struct {
        uint32_t part;
        int which;
    } BY_INO[] = {{VX_PART_XATTR, VX_DEL_XATTR}, {VX_PART_CONTENT, VX_DEL_CONTENT}, {VX_PART_ORPHAN, VX_DEL_ORPHAN}};
    if (ino >= VX_META_INO_MAX)
        return out_of_range(m, "an inode number");
    int rc = change_by_number(m, VX_DEL_INODE, ino);
    for (size_t k = 0; k < sizeof BY_INO / sizeof *BY_INO && !rc; k++)
        if (parts & BY_INO[k].part)
            rc = change_by_number(m, BY_INO[k].which, ino);
    return rc || !(parts & VX_PART_MAPS) ? rc : vx_meta_del_maps(m, ino, 0);
}

int vx_meta_put_dentry(vx_meta *m, uint64_t parent, uint64_t slot, uint64_t ino, uint32_t type, const char *name,
                       size_t name_n)
{
    int rc = ready(m);
    if (rc)
        return rc;
    if (parent >= VX_META_INO_MAX || ino >= VX_META_INO_MAX || slot >= VX_META_NUMBER_MAX || type > INT32_MAX)
        return out_of_range(m, "a number of a directory entry");
    sqlite3_stmt *stmt = m->write[VX_PUT_DENTRY];
    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)parent);
    sqlite3_bind_int64(stmt, 2, (sqlite3_int64)slot);
    sqlite3_bind_int64(stmt, 3, (sqlite3_int64)ino);
    sqlite3_bind_int64(stmt, 4, type);
    if (bind_blob(stmt, 5, name, name_n) != SQLITE_OK)
        return vx_meta_fail(m, m->writer, "writing a row");
    return change(m, VX_PUT_DENTRY);
}

int vx_meta_del_dentry(vx_meta *m, uint64_t parent, uint64_t slot)
{
    int rc = ready(m);
    if (rc)
        return rc;
    if (parent >= VX_META_INO_MAX || slot >= VX_META_NUMBER_MAX)
        return out_of_range(m, "a number of a directory entry");
    sqlite3_bind_int64(m->write[VX_DEL_DENTRY], 1, (sqlite3_int64)parent);
    sqlite3_bind_int64(m->write[VX_DEL_DENTRY], 2, (sqlite3_int64)slot);
    return change(m, VX_DEL_DENTRY);
}

static int map_in_range(uint64_t ino, uint32_t region)
{
    return ino < VX_META_INO_MAX && !(region >> VX_META_REGION_BITS);
}

int vx_meta_put_map(vx_meta *m, uint64_t ino, uint32_t region, const void *data, size_t n)
{
    if (!map_in_range(ino, region))
        return out_of_range(m, "a region of a file");
    return put_blob(m, VX_PUT_MAP, ino << VX_META_REGION_BITS | region, data, n);
}

int vx_meta_del_map(vx_meta *m, uint64_t ino, uint32_t region)
{
    if (!map_in_range(ino, region))
        return out_of_range(m, "a region of a file");
    return change_by_number(m, VX_DEL_MAP, ino << VX_META_REGION_BITS | region);
}

int vx_meta_del_maps(vx_meta *m, uint64_t ino, uint32_t from_region)
{
    int rc = ready(m);
    if (rc)
        return rc;
    if (!map_in_range(ino, from_region))
        return out_of_range(m, "a region of a file");
    sqlite3_int64 base = (sqlite3_int64)(ino << VX_META_REGION_BITS);
    sqlite3_bind_int64(m->write[VX_DEL_MAPS], 1, base + from_region);
    sqlite3_bind_int64(m->write[VX_DEL_MAPS], 2, base + (1 << VX_META_REGION_BITS) - 1);
    return change(m, VX_DEL_MAPS);
}

int vx_meta_put_xattr(vx_meta *m, uint64_t ino, const void *data, size_t n)
{
    return ino < VX_META_INO_MAX ? put_blob(m, VX_PUT_XATTR, ino, data, n) : out_of_range(m, "an inode number");
}

int vx_meta_del_xattr(vx_meta *m, uint64_t ino)
{
    return ino < VX_META_INO_MAX ? change_by_number(m, VX_DEL_XATTR, ino) : out_of_range(m, "an inode number");
}

int vx_meta_put_content(vx_meta *m, uint64_t ino, const void *data, size_t n)
{
    return ino < VX_META_INO_MAX ? put_blob(m, VX_PUT_CONTENT, ino, data, n) : out_of_range(m, "an inode number");
}

int vx_meta_del_content(vx_meta *m, uint64_t ino)
{
    return ino < VX_META_INO_MAX ? change_by_number(m, VX_DEL_CONTENT, ino) : out_of_range(m, "an inode number");
}

int vx_meta_put_segment(vx_meta *m, uint32_t seg, const void *row, size_t n)
{
    return put_blob(m, VX_PUT_SEGMENT, seg, row, n);
}

int vx_meta_del_segment(vx_meta *m, uint32_t seg)
{
    int rc = change_by_number(m, VX_DEL_SEGMENT, seg);
    return rc ? rc : change_by_number(m, VX_DEL_TAILS, seg);
}

int vx_meta_put_orphan(vx_meta *m, uint64_t ino)
{
    return ino < VX_META_INO_MAX ? change_by_number(m, VX_PUT_ORPHAN, ino) : out_of_range(m, "an inode number");
}

int vx_meta_del_orphan(vx_meta *m, uint64_t ino)
{
    return ino < VX_META_INO_MAX ? change_by_number(m, VX_DEL_ORPHAN, ino) : out_of_range(m, "an inode number");
}

int vx_meta_put_oplog(vx_meta *m, uint64_t seq, const void *data, size_t n)
{
    if (seq >= VX_META_NUMBER_MAX)
        return out_of_range(m, "an oplog number");
    m->oplog_bytes += n < UINT64_MAX - m->oplog_bytes ? n : UINT64_MAX - m->oplog_bytes;
    return put_blob(m, VX_PUT_OPLOG, seq, data, n);
}

static int measure_oplog(vx_meta *m)
{
    sqlite3_stmt *stmt = m->write[VX_OPLOG_BYTES];
    m->oplog_bytes = sqlite3_step(stmt) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(stmt, 0) : UINT64_MAX;
    return ended(m, stmt);
}

int vx_meta_trim_oplog(vx_meta *m, uint64_t upto, uint64_t most_bytes, uint64_t *last)
{
    int rc = ready(m);
    if (rc)
        return rc;
    /* Bytes are counted row by row only when there may be too many: that looks at all of them. */
    const int much = m->oplog_bytes >= most_bytes;
    sqlite3_stmt *stmt = m->write[much ? VX_LONG_OPLOG : VX_OLD_OPLOG];
    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)(upto < VX_META_NUMBER_MAX ? upto : VX_META_NUMBER_MAX - 1));
    if (much)
        sqlite3_bind_int64(stmt, 2, (sqlite3_int64)most_bytes);
    int some = sqlite3_step(stmt) == SQLITE_ROW && sqlite3_column_type(stmt, 0) == SQLITE_INTEGER;
    uint64_t old = some ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
    rc = ended(m, stmt);
    if (!rc && some) {
        *last = old;
        rc = change_by_number(m, VX_TRIM_OPLOG, old);
    }
    return rc || !much ? rc : measure_oplog(m);
}

int vx_meta_put_tail(vx_meta *m, uint32_t seg, uint32_t pos, const void *data, size_t n)
{
    uint64_t place = (uint64_t)seg << 32 | pos;
    return place < VX_META_NUMBER_MAX ? put_blob(m, VX_PUT_TAIL, place, data, n) : out_of_range(m, "a segment");
}

int vx_meta_clear_tails(vx_meta *m)
{
    int rc = ready(m);
    return rc ? rc : change(m, VX_CLEAR_TAILS);
}

int vx_meta_put_int(vx_meta *m, const char *name, int64_t value)
{
    int rc = ready(m);
    if (rc)
        return rc;
    sqlite3_bind_text(m->write[VX_PUT_META], 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(m->write[VX_PUT_META], 2, value);
    return change(m, VX_PUT_META);
}

int vx_meta_put_blob(vx_meta *m, const char *name, const void *data, size_t n)
{
    int rc = ready(m);
    if (rc)
        return rc;
    sqlite3_bind_text(m->write[VX_PUT_META], 1, name, -1, SQLITE_STATIC);
    if (bind_blob(m->write[VX_PUT_META], 2, data, n) != SQLITE_OK)
        return vx_meta_fail(m, m->writer, "writing a row");
    return change(m, VX_PUT_META);
}
