/* Durability and copies: syncs, checkpoints, backups, and the check of every page. */
#include "vexfs/meta_impl.h"

#include "vexfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BACKUP_STEP 64 /* pages between two calls of progress */

int vx_meta_sync(vx_meta *m)
{
    if (m->read_only)
        return 0;
    int rc = vx_wal_sync(m->wal, 0);
    if (rc)
        vx_meta_say(m, rc, "%s-wal: %s while syncing; the last commits are not durable, syncing again may help", m->path,
                    strerror(-rc));
    return rc;
}

uint64_t vx_meta_wal_bytes(vx_meta *m)
{
    return m->wal ? vx_wal_pending(m->wal) : 0;
}

/* The log can be begun anew only when no reader uses it, and copied whole only when no reader needs an older commit.
 * So the reader's transaction is ended before: the next one begins on the newest commit and does not stand in the way;
 * and after: the next one then reads the database alone. */
static int checkpoint_locked(vx_meta *m, int truncate)
{
    int log = 0, copied = 0;
    vx_meta_release_reader(m);
    int rc = sqlite3_wal_checkpoint_v2(m->writer, "main", SQLITE_CHECKPOINT_PASSIVE, &log, &copied);
    if (rc != SQLITE_OK)
        return vx_meta_fail(m, m->writer, "copying the log into the database");
    /* What a backup still reads is put off until it ends; to try again before would change nothing. */
    vx_wal_set_pending(m->wal, 0);
    if (copied < log)
        return truncate ? vx_meta_say(m, -EBUSY, "%s: the log cannot be emptied while a backup reads it", m->path) : 0;
    if (!truncate) {
        vx_meta_release_reader(m);
        return 0;
    }
    pthread_mutex_lock(&m->reader_mutex);
    vx_meta_release_reader(m);
    rc = sqlite3_wal_checkpoint_v2(m->writer, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    pthread_mutex_unlock(&m->reader_mutex);
    return rc == SQLITE_OK ? 0 : vx_meta_fail(m, m->writer, "emptying the log");
}

int vx_meta_checkpoint(vx_meta *m, int truncate)
{
    if (m->read_only)
        return vx_meta_say(m, -EROFS, "%s: open for reading only", m->path);
    if (m->writing)
        return vx_meta_say(m, -EBUSY, "%s: a checkpoint cannot run inside a transaction", m->path);
    pthread_mutex_lock(&m->checkpoint_mutex);
    int rc = checkpoint_locked(m, truncate);
    pthread_mutex_unlock(&m->checkpoint_mutex);
    return rc;
}

/* -- backup ------------------------------------------------------------------------------------------------------------ */

static int copy_pages(vx_meta *m, sqlite3 *from, sqlite3 *to, vx_progress_fn progress, void *ctx)
{
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    if (!b)
        return vx_meta_fail(m, to, "beginning a backup");
    int code = SQLITE_OK, cancelled = 0;
    while (code == SQLITE_OK && !cancelled) {
        code = sqlite3_backup_step(b, BACKUP_STEP);
        int total = sqlite3_backup_pagecount(b);
        if (progress && (code == SQLITE_OK || code == SQLITE_DONE))
            cancelled = progress(ctx, total - sqlite3_backup_remaining(b), total) != 0;
    }
    int failed = sqlite3_backup_finish(b) != SQLITE_OK;
    if (code == SQLITE_DONE && !cancelled)
        return 0;
    if (cancelled)
        return vx_meta_say(m, -ECANCELED, "%s: the backup was cancelled", m->path);
    /* A page that cannot be read fails the source, a full disk the copy. */
    return vx_meta_fail(m, failed && sqlite3_errcode(to) != SQLITE_OK && code != SQLITE_IOERR_DATA ? to : from,
                        "copying it");
}

static int backup_to(vx_meta *m, const char *fresh, vx_progress_fn progress, void *ctx)
{
    sqlite3 *from = NULL, *to = NULL;
    int reserve = VX_PAGE_TRAILER;
    int rc = vx_meta_connect(m, m->path, m->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, 1 << 20, &from);
    if (!rc)
        rc = vx_meta_connect(m, fresh, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, 1 << 20, &to);
    /* The copy is made beside its place, so a journal would have nothing to hold; what it spills is sealed like any page. */
    if (!rc && (sqlite3_file_control(to, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve) != SQLITE_OK ||
                sqlite3_exec(to, "PRAGMA page_size=4096; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;"
                                 "PRAGMA cache_spill=ON", NULL, NULL, NULL) != SQLITE_OK))
        rc = vx_meta_fail(m, to, "beginning a backup");
    /* An open transaction: one commit is copied, however many follow meanwhile. */
    if (!rc && sqlite3_exec(from, "BEGIN; SELECT count(*) FROM orphan", NULL, NULL, NULL) != SQLITE_OK)
        rc = vx_meta_fail(m, from, "beginning a backup");
    if (!rc)
        rc = copy_pages(m, from, to, progress, ctx);
    sqlite3_close(to);
    sqlite3_close(from);
    return rc;
}

static int sync_file(const char *path)
{
    int fd = vx_io_open(path, O_RDWR, 0);
    if (fd < 0)
        return fd;
    int rc = vx_io_fdatasync(fd);
    vx_io_close(fd);
    return rc;
}

int vx_meta_backup(vx_meta *m, const char *path, vx_progress_fn progress, void *ctx)
{
    struct stat st;
    if (stat(path, &st) == 0)
        return vx_meta_say(m, -EEXIST, "%s: already there; a backup is written to a new file", path);
    char *fresh = sqlite3_mprintf("%s-new", path);
    if (!fresh)
        return -ENOMEM;
    (void)vx_io_unlink(fresh);
    int rc = backup_to(m, fresh, progress, ctx);
    if (!rc) {
        rc = sync_file(fresh);
        if (!rc)
            rc = vx_io_rename(fresh, path);
        if (!rc)
            rc = vx_sync_parent(path);
        if (rc)
            vx_meta_say(m, rc, "%s: cannot be written: %s", path, strerror(-rc));
    }
    if (rc)
        (void)vx_io_unlink(fresh);
    if (m->wal)
        vx_wal_set_pending(m->wal, 1);
    sqlite3_free(fresh);
    return rc;
}

/* -- check ------------------------------------------------------------------------------------------------------------- */

/* The pages of the database that the log holds anew: whatever a cut left of them there is never read. */
static int pages_in_log(vx_meta *m, uint8_t **held, uint32_t total)
{
    char *log = sqlite3_mprintf("%s-wal", m->path);
    *held = calloc(total + 1, 1);
    int rc = log && *held ? vx_wal_pages(vx_vfs_codec(m->vfs), log, *held, total) : -ENOMEM;
    sqlite3_free(log);
    return rc;
}

int vx_meta_verify(vx_meta *m, vx_page_fn fn, void *ctx)
{
    uint8_t *page = malloc(VX_PAGE_BYTES);
    int fd = vx_io_open(m->path, O_RDONLY, 0), stop = 0;
    struct stat st = {0};
    int rc = !page ? -ENOMEM : fd < 0 ? fd : fstat(fd, &st) ? -errno : 0;
    uint32_t total = (uint32_t)((st.st_size + VX_PAGE_BYTES - 1) / VX_PAGE_BYTES);
    /* A checkpoint rewrites pages in place: seen halfway they would look damaged. */
    pthread_mutex_lock(&m->checkpoint_mutex);
    uint8_t *held = NULL;
    if (!rc)
        rc = pages_in_log(m, &held, total);
    for (uint32_t i = 1; !rc && !stop && i <= total; i++) {
        ssize_t got = vx_io_pread(fd, page, VX_PAGE_BYTES, (off_t)(i - 1) * VX_PAGE_BYTES);
        int err = got < 0 ? (int)got : got < (ssize_t)VX_PAGE_BYTES ? -EBADMSG : 0;
        if (!err)
            err = vx_page_open(vx_vfs_codec(m->vfs), i, page);
        if (err && got >= 0 && held[i - 1])
            err = 0;
        /* SQLite leaves the page that holds its lock byte, at 1 GiB, unwritten. */
        if (i == (1u << 30) / VX_PAGE_BYTES + 1)
            err = 0;
        stop = fn(ctx, i, total, err);
    }
    pthread_mutex_unlock(&m->checkpoint_mutex);
    if (fd >= 0)
        vx_io_close(fd);
    free(page);
    free(held);
    return rc ? vx_meta_say(m, rc, "%s: cannot be read: %s", m->path, strerror(-rc)) : stop;
}
