/* Opening, closing and the words for errors of the metadata store. */
#include "vexfs/meta_impl.h"

#include "vexfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CACHE_BYTES (UINT64_C(32) << 20)

static _Thread_local char said[512]; /* what vx_meta_error last returned to this thread */

/* -- errors --------------------------------------------------------------------------------------------------------- */

int vx_meta_say(vx_meta *m, int rc, const char *format, ...)
{
    /* Not on the stack: this stands at the end of every operation's deepest chain. */
    static _Thread_local char text[sizeof m->error];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&m->error_mutex);
    snprintf(m->error, sizeof m->error, "%s", text);
    pthread_mutex_unlock(&m->error_mutex);
    return rc;
}

const char *vx_meta_error(vx_meta *m)
{
    if (m) {
        pthread_mutex_lock(&m->error_mutex);
        memcpy(said, m->error, sizeof said);
        pthread_mutex_unlock(&m->error_mutex);
    }
    return said;
}

static int errno_of(int sqlite_code, int host_errno)
{
    switch (sqlite_code & 0xff) {
    case SQLITE_FULL:
        return host_errno == EDQUOT ? EDQUOT : ENOSPC;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return EBADMSG;
    case SQLITE_NOMEM:
        return ENOMEM;
    case SQLITE_READONLY:
        return EROFS;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return EBUSY;
    case SQLITE_TOOBIG:
        return EFBIG;
    }
    if (sqlite_code == SQLITE_IOERR_DATA)
        return EBADMSG;
    if (sqlite_code == SQLITE_IOERR_NOMEM)
        return ENOMEM;
    return host_errno ? host_errno : EIO;
}

int vx_meta_fail(vx_meta *m, sqlite3 *db, const char *doing)
{
    int code = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
    vx_vfs_fault at = vx_vfs_last_fault(m->vfs, db);
    if (!at.err)
        at = vx_vfs_last_fault(m->vfs, NULL);
    int err = errno_of(code, at.err);
    if (err == ENOSPC || err == EDQUOT)
        return vx_meta_say(m, -err,
                           "%s: %s on the host while %s; the transaction was rolled back: free space and try again",
                           m->path, err == EDQUOT ? "disk quota exceeded" : "no space left", doing);
    if (err != EBADMSG)
        return vx_meta_say(m, -err, "%s: %s while %s (%s)", m->path, strerror(err), doing,
                           db ? sqlite3_errmsg(db) : "out of memory");
    if (at.where == VX_IN_WAL)
        return vx_meta_say(m, -err, "%s-wal: frame %u is damaged, found while %s; run 'vexctl volume fsck', or "
                           "restore a backup", m->path, at.number, doing);
    if (at.err)
        return vx_meta_say(m, -err, "%s: page %u is damaged, found while %s; what lies on other pages stays readable: "
                           "run 'vexctl volume fsck', or restore a backup", m->path, at.number, doing);
    return vx_meta_say(m, -err, "%s: truncated or inconsistent, found while %s (%s); run 'vexctl volume fsck', or "
                       "restore a backup", m->path, doing, sqlite3_errmsg(db));
}

/* -- connections ---------------------------------------------------------------------------------------------------- */

int vx_meta_prepare(vx_meta *m, sqlite3 *db, const char *const *sql, sqlite3_stmt **out, int count)
{
    for (int i = 0; i < count; i++)
        if (sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &out[i], NULL) != SQLITE_OK)
            return vx_meta_fail(m, db, "opening it");
    return 0;
}

int vx_meta_connect(vx_meta *m, const char *path, int flags, uint64_t cache_bytes, sqlite3 **out)
{
    char sql[320];
    int rc = sqlite3_open_v2(path, out, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, vx_vfs_name(m->vfs));
    if (rc == SQLITE_OK) {
        sqlite3_extended_result_codes(*out, 1);
        sqlite3_db_config(*out, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        /* Nothing is ever spilled: a transaction reaches the log whole, when it commits, and plaintext no other file. */
        snprintf(sql, sizeof sql,
                 "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-%llu; PRAGMA cache_spill=OFF; PRAGMA mmap_size=0;"
                 "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0; PRAGMA secure_delete=OFF;"
                 "PRAGMA trusted_schema=OFF;",
                 (unsigned long long)(cache_bytes / 1024 + 1));
        rc = sqlite3_exec(*out, sql, NULL, NULL, NULL);
    }
    return rc == SQLITE_OK ? 0 : vx_meta_fail(m, *out, "opening it");
}

#define CONTENT_TABLE "CREATE TABLE content(ino INTEGER PRIMARY KEY, data BLOB NOT NULL);"
#define TAIL_TABLE "CREATE TABLE tail(place INTEGER PRIMARY KEY, data BLOB NOT NULL);"
static const char SCHEMA[] =
    "BEGIN;"
    "CREATE TABLE inode(ino INTEGER PRIMARY KEY, row BLOB NOT NULL);"
    "CREATE TABLE dentry(parent INTEGER NOT NULL, slot INTEGER NOT NULL, ino INTEGER NOT NULL, type INTEGER NOT NULL,"
    " name BLOB NOT NULL, PRIMARY KEY(parent, slot)) WITHOUT ROWID;"
    "CREATE TABLE extent(key INTEGER PRIMARY KEY, map BLOB NOT NULL);"
    "CREATE TABLE xattr(ino INTEGER PRIMARY KEY, data BLOB NOT NULL);"
    CONTENT_TABLE
    TAIL_TABLE
    "CREATE TABLE segment(seg INTEGER PRIMARY KEY, row BLOB NOT NULL);"
    "CREATE TABLE orphan(ino INTEGER PRIMARY KEY);"
    "CREATE TABLE oplog(seq INTEGER PRIMARY KEY, data BLOB NOT NULL);"
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;"
    "PRAGMA application_id=%d; PRAGMA user_version=%d;"
    "COMMIT;";

static int fill_new(vx_meta *m, const char *fresh)
{
    sqlite3 *db = NULL;
    int reserve = VX_PAGE_TRAILER;
    char *schema = sqlite3_mprintf(SCHEMA, VX_META_APPLICATION, VX_META_SCHEMA);
    int rc = schema ? vx_meta_connect(m, fresh, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, 1 << 20, &db) : -ENOMEM;
    if (!rc && (sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve) != SQLITE_OK ||
                sqlite3_exec(db, "PRAGMA page_size=4096; PRAGMA auto_vacuum=NONE; PRAGMA journal_mode=MEMORY;"
                                 "PRAGMA journal_mode=WAL", NULL, NULL, NULL) != SQLITE_OK ||
                sqlite3_exec(db, schema, NULL, NULL, NULL) != SQLITE_OK ||
                sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK))
        rc = vx_meta_fail(m, db, "creating it");
    sqlite3_close(db);
    sqlite3_free(schema);
    return rc;
}

/* A new store is made beside its place and renamed into it: a power cut leaves all of it or none. */
static int create(vx_meta *m)
{
    char *fresh = sqlite3_mprintf("%s-new", m->path), *wal = sqlite3_mprintf("%s-new-wal", m->path);
    int rc = -ENOMEM;
    if (fresh && wal) {
        (void)vx_io_unlink(fresh);
        (void)vx_io_unlink(wal);
        rc = fill_new(m, fresh);
        if (!rc) {
            rc = vx_io_rename(fresh, m->path);
            if (!rc)
                rc = vx_sync_parent(m->path);
            if (rc)
                vx_meta_say(m, rc, "%s: cannot be created: %s", m->path, strerror(-rc));
        }
        if (rc) {
            (void)vx_io_unlink(fresh);
            (void)vx_io_unlink(wal);
        }
    }
    sqlite3_free(fresh);
    sqlite3_free(wal);
    return rc;
}

/* -- what is there, before SQLite looks ------------------------------------------------------------------------------ */

static ssize_t read_first_page(vx_meta *m, uint8_t *page)
{
    int fd = vx_io_open(m->path, O_RDONLY, 0);
    ssize_t got = fd < 0 ? fd : vx_io_pread(fd, page, VX_PAGE_BYTES, 0);
    if (fd >= 0)
        vx_io_close(fd);
    return got;
}

/* The first bytes tell an encrypted store from a plain one, and both from other files. */
static int check_kind(vx_meta *m, const uint8_t *key, const uint8_t *page, ssize_t got)
{
    if (got < 0)
        return vx_meta_say(m, (int)got, "%s: cannot be read: %s", m->path, strerror((int)-got));
    if (memcmp(page, VX_PAGE_MAGIC, 15) == 0 && page[15] != VX_PAGE_MAGIC[15])
        return vx_meta_say(m, -EPROTONOSUPPORT, "%s: written by a newer VexFS (page format '%c'; this one knows '%c'): "
                           "install a newer VexFS", m->path, page[15], VX_PAGE_MAGIC[15]);
    int encrypted = memcmp(page, VX_PAGE_MAGIC, 16) == 0;
    if (!encrypted && memcmp(page, VX_PAGE_PLAIN, 16) != 0)
        return vx_meta_say(m, -EBADMSG, "%s: does not begin as a VexFS metadata file does: damaged, or another file; "
                           "restore a backup", m->path);
    if (encrypted && !key)
        return vx_meta_say(m, -ENOKEY, "%s: encrypted; give the volume's key file", m->path);
    if (!encrypted && key)
        return vx_meta_say(m, -EINVAL, "%s: not encrypted; open the volume without a key file", m->path);
    if (got < (ssize_t)VX_PAGE_BYTES)
        return vx_meta_say(m, -EBADMSG, "%s: truncated to %zd bytes; restore a backup", m->path, got);
    return 0;
}

/* A power cut in a checkpoint may have torn page 1; then the log has it, and SQLite takes it from there. */
static int check_first_page(vx_meta *m, uint8_t *page, int in_log)
{
    int rc = vx_page_open(vx_vfs_codec(m->vfs), 1, page);
    if (rc == -EKEYREJECTED)
        return vx_meta_say(m, rc, "%s: the key does not open it; give the key file that the volume was made with",
                           m->path);
    if (rc == -EBADMSG && !in_log)
        return vx_meta_say(m, rc, "%s: page 1 is damaged; restore a backup", m->path);
    return rc == -EBADMSG ? 0 : rc;
}

static int check_log(vx_meta *m, const vx_meta_options *o, vx_wal_report *r)
{
    char *path = sqlite3_mprintf("%s-wal", m->path);
    int rc = path ? vx_wal_inspect(vx_vfs_codec(m->vfs), path, r) : -ENOMEM;
    if (rc)
        vx_meta_say(m, rc, "%s-wal: cannot be read: %s", m->path, strerror(-rc));
    else if (r->wrong_key)
        rc = vx_meta_say(m, -EKEYREJECTED, "%s: the key does not open it; give the key file that the volume was made "
                         "with", path);
    else if (r->header_bad && !o->salvage)
        rc = vx_meta_say(m, -EBADMSG, "%s: its header is damaged: the last commits cannot be read; 'vexctl volume fsck "
                         "--repair' opens the volume without them", path);
    else if (r->durable > r->valid && !o->salvage)
        rc = vx_meta_say(m, -EBADMSG, "%s: frame %u of %u is damaged: the commits from there on cannot be read; "
                         "'vexctl volume fsck --repair' opens the volume without them", path, r->valid + 1, r->durable);
    sqlite3_free(path);
    return rc;
}

static int pragma_int(vx_meta *m, const char *sql, int *out)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(m->reader, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
        *out = sqlite3_column_int(stmt, 0);
    rc = sqlite3_finalize(stmt);
    return rc == SQLITE_OK ? 0 : vx_meta_fail(m, m->reader, "opening it");
}

static int check_schema(vx_meta *m, int *schema)
{
    int application = 0, version = 0;
    int rc = pragma_int(m, "PRAGMA application_id", &application);
    if (!rc)
        rc = pragma_int(m, "PRAGMA user_version", &version);
    *schema = version;
    if (!rc && application != VX_META_APPLICATION)
        rc = vx_meta_say(m, -EBADMSG, "%s: a database, but not of VexFS; restore a backup", m->path);
    if (!rc && version > VX_META_SCHEMA)
        rc = vx_meta_say(m, -EPROTONOSUPPORT, "%s: written by a newer VexFS (schema %d; this one knows %d): install a "
                         "newer VexFS", m->path, version, VX_META_SCHEMA);
    if (!rc && version < VX_META_SCHEMA && m->read_only)
        rc = vx_meta_say(m, -EPROTONOSUPPORT, "%s: written by an older VexFS (schema %d; this one reads %d): open the "
                         "volume once for writing, which brings it up to date", m->path, version, VX_META_SCHEMA);
    return rc;
}

/* Rows mean what they meant: only tables are missing. */
static int upgrade(vx_meta *m, int schema)
{
    int rc = sqlite3_exec(m->writer, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (rc == SQLITE_OK && schema < 2)
        rc = sqlite3_exec(m->writer, CONTENT_TABLE, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(m->writer, TAIL_TABLE "PRAGMA user_version=3; COMMIT", NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : vx_meta_fail(m, m->writer, "bringing it up to date");
}

/* -- opening and closing ---------------------------------------------------------------------------------------------- */

static int check_files(vx_meta *m, const vx_meta_options *o)
{
    vx_wal_report log;
    uint8_t *page = calloc(1, VX_PAGE_BYTES);
    if (!page)
        return vx_meta_say(m, -ENOMEM, "%s: out of memory", m->path);
    ssize_t got = read_first_page(m, page);
    int make = got == -ENOENT && o->create && !o->read_only;
    int rc = make ? 0 : check_kind(m, o->key, page, got);
    if (!rc)
        rc = check_log(m, o, &log);
    if (!rc && make) {
        rc = log.frames ? vx_meta_say(m, -EBADMSG, "%s: missing, though its log %s-wal is there; restore it from a "
                                      "backup", m->path, m->path)
                        : create(m);
        got = rc ? 0 : read_first_page(m, page);
        rc = rc ? rc : check_kind(m, o->key, page, got);
    }
    if (!rc)
        rc = check_first_page(m, page, log.committed > 0);
    if (!rc)
        vx_vfs_recovered(m->vfs, log.committed);
    free(page);
    return rc;
}

static int open_store(vx_meta *m, const vx_meta_options *o)
{
    uint64_t cache = o->cache_bytes ? o->cache_bytes : DEFAULT_CACHE_BYTES;
    int flags = o->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    int rc = vx_vfs_new(&m->vfs, o->key, o->read_only);
    if (rc)
        return vx_meta_say(m, rc, "%s: %s", m->path, strerror(-rc));
    rc = check_files(m, o);
    if (rc)
        return rc;
    int schema = 0;
    rc = vx_meta_connect(m, m->path, flags, o->read_only ? cache : cache / 2, &m->reader);
    if (!rc)
        rc = check_schema(m, &schema);
    if (!rc && !o->read_only) {
        rc = vx_meta_connect(m, m->path, flags, cache / 2, &m->writer);
        if (!rc && schema < VX_META_SCHEMA)
            rc = upgrade(m, schema);
    }
    if (!rc)
        rc = vx_meta_prepare_reader(m);
    if (rc || o->read_only)
        return rc;
    rc = vx_meta_prepare_writer(m);
    m->wal = vx_vfs_wal(m->vfs, m->path);
    return rc;
}

int vx_meta_open(vx_meta **out, const vx_meta_options *o)
{
    *out = NULL;
    vx_meta *m = calloc(1, sizeof *m);
    if (m)
        m->path = strdup(o->path);
    if (!m || !m->path) {
        free(m);
        snprintf(said, sizeof said, "%s: out of memory", o->path);
        return -ENOMEM;
    }
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&m->reader_mutex, &recursive);
    pthread_mutexattr_destroy(&recursive);
    pthread_mutex_init(&m->checkpoint_mutex, NULL);
    pthread_mutex_init(&m->error_mutex, NULL);
    m->read_only = o->read_only;
    int rc = open_store(m, o);
    if (rc) {
        memcpy(said, m->error, sizeof said);
        vx_meta_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

void vx_meta_close(vx_meta *m)
{
    if (!m)
        return;
    if (m->writing)
        vx_meta_rollback(m);
    for (int i = 0; i < VX_READ_COUNT; i++)
        sqlite3_finalize(m->read[i]);
    for (int i = 0; i < VX_WRITE_COUNT; i++)
        sqlite3_finalize(m->write[i]);
    /* The last connection to close copies the log into the database and removes it. */
    sqlite3_close(m->reader);
    sqlite3_close(m->writer);
    vx_vfs_free(m->vfs);
    pthread_mutex_destroy(&m->reader_mutex);
    pthread_mutex_destroy(&m->checkpoint_mutex);
    pthread_mutex_destroy(&m->error_mutex);
    free(m->out);
    free(m->path);
    free(m);
}
