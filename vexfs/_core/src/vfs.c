/* The VFS: SQLite's files over `vx_io`, every page sealed on its way to the disk and checked on its way back. */
#include "vexfs/vfs_impl.h"

#include "vexfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* -- faults ------------------------------------------------------------------------------------------------------- */

/* SQLite passes on a code; the errno and the place are kept here for the message. */
static int fault(vx_vfs_file *f, int rc, int sqlite_code, uint32_t number)
{
    if (rc >= 0)
        return SQLITE_OK;
    f->fault = (vx_vfs_fault){.err = -rc, .where = f->node->where, .number = number};
    if (rc == -ENOSPC || rc == -EDQUOT)
        return SQLITE_FULL;
    if (rc == -EBADMSG || rc == -EKEYREJECTED)
        return SQLITE_IOERR_DATA;
    return rc == -ENOMEM ? SQLITE_IOERR_NOMEM : sqlite_code;
}

static vx_vfs_fault take(vx_vfs_fault *from)
{
    vx_vfs_fault last = *from;
    *from = (vx_vfs_fault){0};
    return last;
}

vx_vfs_fault vx_vfs_last_fault(vx_vfs *v, sqlite3 *db)
{
    if (!db)
        return take(&v->open_fault);
    vx_vfs_fault last = {0};
    for (int op = SQLITE_FCNTL_FILE_POINTER; !last.err; op = SQLITE_FCNTL_JOURNAL_POINTER) {
        vx_vfs_file *f = NULL;
        if (sqlite3_file_control(db, "main", op, &f) == SQLITE_OK && f && f->base.pMethods)
            last = take(&f->fault);
        if (op == SQLITE_FCNTL_JOURNAL_POINTER)
            break;
    }
    return last;
}

/* -- reading ------------------------------------------------------------------------------------------------------ */

static int read_page(vx_vfs_file *f, uint8_t *out, int n, off_t off)
{
    uint32_t number = (uint32_t)(off / VX_PAGE_BYTES) + 1;
    off_t inner = off % (off_t)VX_PAGE_BYTES;
    if (inner + n > (off_t)VX_PAGE_BYTES)
        return fault(f, -EIO, SQLITE_IOERR_READ, number);
    uint8_t *page = n == (int)VX_PAGE_BYTES ? out : f->scratch;
    ssize_t got = vx_io_pread(f->node->fd, page, VX_PAGE_BYTES, off - inner);
    if (got < 0)
        return fault(f, (int)got, SQLITE_IOERR_READ, number);
    if (got == 0 && number == 1) { /* a file that is just being made */
        memset(out, 0, (size_t)n);
        return SQLITE_IOERR_SHORT_READ;
    }
    if (got < (ssize_t)VX_PAGE_BYTES) /* SQLite would go on with zeros */
        return fault(f, -EBADMSG, SQLITE_IOERR_READ, number);
    int rc = vx_page_open(&f->vfs->codec, number, page);
    if (rc && number == 1 && n < (int)VX_PAGE_BYTES) {
        /* SQLite asks for the geometry before it looks at the log.  A power cut in a checkpoint may have torn page 1,
         * and the log then has it whole; the geometry is the same in every meta.db. */
        memset(page, 0, VX_PAGE_BYTES);
        memcpy(page, VX_PAGE_PLAIN, 16);
        page[16] = (uint8_t)(VX_PAGE_BYTES >> 8);
        page[18] = page[19] = 2;
        page[20] = VX_PAGE_TRAILER;
        page[21] = 64;
        page[22] = page[23] = 32;
        rc = 0;
    }
    if (!rc && page != out)
        memcpy(out, page + inner, (size_t)n);
    return fault(f, rc, SQLITE_IOERR_READ, number);
}

static int read_wal(vx_vfs_file *f, uint8_t *out, int n, off_t off)
{
    vx_vfs_node *node = f->node;
    off_t at = off - (off_t)VX_WAL_HEADER, inner = at % (off_t)VX_WAL_FRAME;
    memset(out, 0, (size_t)n);
    if (node->fd < 0)
        return SQLITE_IOERR_SHORT_READ;
    if (off + n > vx_wal_buffered_from(node->wal)) {
        int rc = vx_wal_flush(node->wal);
        if (rc)
            return fault(f, rc, SQLITE_IOERR_READ, 0);
    }
    if (off < (off_t)VX_WAL_HEADER) {
        ssize_t got = vx_io_pread(node->fd, out, (size_t)n, off);
        return got == n ? SQLITE_OK : got < 0 ? fault(f, (int)got, SQLITE_IOERR_READ, 0) : SQLITE_IOERR_SHORT_READ;
    }
    uint32_t number = (uint32_t)(at / VX_WAL_FRAME) + 1;
    if (inner + n > (off_t)VX_WAL_FRAME)
        return fault(f, -EIO, SQLITE_IOERR_READ, number);
    ssize_t got = vx_io_pread(node->fd, f->scratch, VX_WAL_FRAME, off - inner);
    if (got < (ssize_t)VX_WAL_FRAME)
        return got < 0 ? fault(f, (int)got, SQLITE_IOERR_READ, number) : SQLITE_IOERR_SHORT_READ;
    int rc = vx_walframe_open(&f->vfs->codec, number, f->scratch);
    /* A whole frame is read only while the log is recovered: there a bad one is the torn end, and zeros say so. */
    if (rc && n == (int)VX_WAL_FRAME)
        return SQLITE_OK;
    if (!rc)
        memcpy(out, f->scratch + inner, (size_t)n);
    return fault(f, rc, SQLITE_IOERR_READ, number);
}

static int file_read(sqlite3_file *file, void *out, int n, sqlite3_int64 off)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    return f->node->where == VX_IN_WAL ? read_wal(f, out, n, off) : read_page(f, out, n, off);
}

/* -- writing ------------------------------------------------------------------------------------------------------ */

static int file_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 off)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    if (f->node->where == VX_IN_WAL)
        return fault(f, vx_wal_write(f->node->wal, data, (size_t)n, off), SQLITE_IOERR_WRITE, 0);
    uint32_t number = (uint32_t)(off / VX_PAGE_BYTES) + 1;
    if (n != (int)VX_PAGE_BYTES || off % (off_t)VX_PAGE_BYTES)
        return fault(f, -EIO, SQLITE_IOERR_WRITE, number);
    memcpy(f->scratch, data, VX_PAGE_BYTES);
    int rc = vx_page_seal(&f->vfs->codec, number, f->scratch);
    if (!rc)
        rc = vx_io_pwrite(f->node->fd, f->scratch, VX_PAGE_BYTES, off);
    return fault(f, rc, SQLITE_IOERR_WRITE, number);
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    int rc = f->node->wal ? vx_wal_truncate(f->node->wal, size) : vx_io_ftruncate(f->node->fd, size);
    return fault(f, rc, SQLITE_IOERR_TRUNCATE, 0);
}

static int file_sync(sqlite3_file *file, int flags)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    (void)flags;
    if (f->node->fd < 0)
        return SQLITE_OK;
    int rc = f->node->wal ? vx_wal_sync(f->node->wal, 1) : vx_io_fdatasync(f->node->fd);
    return fault(f, rc, SQLITE_IOERR_FSYNC, 0);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *out)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    struct stat st;
    *out = 0;
    if (f->node->fd < 0)
        return SQLITE_OK;
    if (fstat(f->node->fd, &st) != 0)
        return fault(f, -errno, SQLITE_IOERR_FSTAT, 0);
    *out = st.st_size;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int file_sector_size(sqlite3_file *file)
{
    (void)file;
    return (int)VX_PAGE_BYTES;
}

static int file_characteristics(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE | SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN;
}

/* -- opening and closing -------------------------------------------------------------------------------------------- */

static void release_node(vx_vfs *v, vx_vfs_node *node)
{
    pthread_mutex_lock(&v->mutex);
    if (--node->refs == 0) {
        vx_vfs_node **at = &v->nodes;
        while (*at != node)
            at = &(*at)->next;
        *at = node->next;
        vx_wal_free(node->wal);
        if (node->fd >= 0)
            vx_io_close(node->fd);
        free(node->path);
        free(node);
    }
    pthread_mutex_unlock(&v->mutex);
}

static int file_close(sqlite3_file *file)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    if (f->node) {
        vx_vfs_shm_unmap(file, 0);
        vx_vfs_unlock(file, SQLITE_LOCK_NONE);
        release_node(f->vfs, f->node);
    }
    free(f->scratch);
    f->node = NULL;
    f->scratch = NULL;
    return SQLITE_OK;
}

static const sqlite3_io_methods METHODS = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = vx_vfs_lock,
    .xUnlock = vx_vfs_unlock,
    .xCheckReservedLock = vx_vfs_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = vx_vfs_shm_map,
    .xShmLock = vx_vfs_shm_lock,
    .xShmBarrier = vx_vfs_shm_barrier,
    .xShmUnmap = vx_vfs_shm_unmap,
};

static int make_node(vx_vfs *v, const char *path, int where, int flags, vx_vfs_node **out)
{
    vx_vfs_node *node = calloc(1, sizeof *node);
    if (!node || !(node->path = strdup(path))) {
        free(node);
        return -ENOMEM;
    }
    node->where = where;
    node->fd = vx_io_open(path, flags, 0600);
    int rc = node->fd < 0 ? node->fd : 0;
    if (rc == -ENOENT && v->read_only && where == VX_IN_WAL)
        rc = 0;
    if (!rc && where == VX_IN_WAL)
        rc = vx_wal_new(&node->wal, &v->codec, path, node->fd, v->recovered);
    if (rc) {
        if (node->fd >= 0)
            vx_io_close(node->fd);
        free(node->path);
        free(node);
        return rc;
    }
    node->next = v->nodes;
    v->nodes = node;
    *out = node;
    return 0;
}

static vx_vfs_node *find_node(vx_vfs *v, const char *path)
{
    vx_vfs_node *node = v->nodes;
    while (node && strcmp(node->path, path) != 0)
        node = node->next;
    return node;
}

static int vfs_open(sqlite3_vfs *base, const char *path, sqlite3_file *file, int flags, int *out_flags)
{
    vx_vfs *v = base->pAppData;
    vx_vfs_file *f = (vx_vfs_file *)file;
    int where = flags & SQLITE_OPEN_MAIN_DB ? VX_IN_DATABASE : flags & SQLITE_OPEN_WAL ? VX_IN_WAL : VX_IN_NOTHING;
    /* SQLite wants to write every log; a read-only store still makes a backup, which is another database. */
    int read_only = where == VX_IN_WAL ? v->read_only : (flags & SQLITE_OPEN_READONLY) != 0;
    memset(f, 0, sizeof *f);
    if (!path || where == VX_IN_NOTHING)
        return SQLITE_CANTOPEN;
    if (!(f->scratch = malloc(VX_WAL_FRAME)))
        return SQLITE_IOERR_NOMEM;
    pthread_mutex_lock(&v->mutex);
    f->vfs = v;
    f->node = find_node(v, path);
    int how = read_only ? O_RDONLY : O_RDWR | (flags & SQLITE_OPEN_CREATE ? O_CREAT : 0);
    int rc = f->node ? 0 : make_node(v, path, where, how, &f->node);
    if (!rc)
        f->node->refs++;
    else
        v->open_fault = (vx_vfs_fault){.err = -rc, .where = where};
    pthread_mutex_unlock(&v->mutex);
    if (rc) {
        free(f->scratch);
        return rc == -ENOMEM ? SQLITE_IOERR_NOMEM : SQLITE_CANTOPEN;
    }
    if (out_flags)
        *out_flags = read_only ? (flags & ~SQLITE_OPEN_READWRITE) | SQLITE_OPEN_READONLY : flags;
    f->base.pMethods = &METHODS;
    return SQLITE_OK;
}

int vx_sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int rc = dir ? vx_io_syncdir(dir) : -ENOMEM;
    free(dir);
    return rc;
}

static int vfs_delete(sqlite3_vfs *base, const char *path, int sync_dir)
{
    (void)base;
    int rc = vx_io_unlink(path);
    if (rc == -ENOENT)
        return SQLITE_IOERR_DELETE_NOENT;
    if (!rc && sync_dir)
        rc = vx_sync_parent(path);
    return rc ? SQLITE_IOERR_DELETE : SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *base, const char *path, int flags, int *out)
{
    (void)base;
    struct stat st;
    size_t n = strlen(path);
    if (n > 8 && strcmp(path + n - 8, "-journal") == 0)
        *out = 0; /* this store never leaves one: whatever is there is not ours to replay */
    else if (flags == SQLITE_ACCESS_READWRITE)
        *out = access(path, R_OK | W_OK) == 0;
    else
        *out = stat(path, &st) == 0 && st.st_size > 0; /* an empty log is no log */
    return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *base, const char *path, int n, char *out)
{
    (void)base;
    size_t length = strlen(path);
    if (length + 1 > (size_t)n)
        return SQLITE_CANTOPEN;
    memcpy(out, path, length + 1);
    return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *base, int n, char *out)
{
    (void)base;
    return vx_random(out, (size_t)n) ? 0 : n;
}

static int vfs_sleep(sqlite3_vfs *base, int us)
{
    (void)base;
    struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L};
    nanosleep(&t, NULL);
    return us;
}

static int vfs_time(sqlite3_vfs *base, sqlite3_int64 *out)
{
    (void)base;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    *out = 210866760000000LL + (sqlite3_int64)t.tv_sec * 1000 + t.tv_nsec / 1000000; /* julian day, ms */
    return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *base, int n, char *out)
{
    vx_vfs *v = base->pAppData;
    (void)n;
    (void)out;
    return v->open_fault.err;
}

int vx_vfs_new(vx_vfs **out, const uint8_t *key, int read_only)
{
    vx_vfs *v = calloc(1, sizeof *v);
    if (!v)
        return -ENOMEM;
    int rc = vx_page_codec_init(&v->codec, key);
    if (rc) {
        free(v);
        return rc;
    }
    pthread_mutex_init(&v->mutex, NULL);
    v->read_only = read_only;
    snprintf(v->name, sizeof v->name, "vexfs-%p", (void *)v); /* the name is unique while the object lives */
    v->base = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = (int)sizeof(vx_vfs_file),
        .mxPathname = PATH_MAX,
        .zName = v->name,
        .pAppData = v,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_path,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_time,
    };
    v->registered = sqlite3_vfs_register(&v->base, 0) == SQLITE_OK;
    if (!v->registered) {
        vx_vfs_free(v);
        return -ENOMEM;
    }
    *out = v;
    return 0;
}

void vx_vfs_free(vx_vfs *v)
{
    if (!v)
        return;
    if (v->registered)
        sqlite3_vfs_unregister(&v->base);
    vx_page_codec_clear(&v->codec);
    pthread_mutex_destroy(&v->mutex);
    free(v);
}

const char *vx_vfs_name(vx_vfs *v)
{
    return v->name;
}

vx_page_codec *vx_vfs_codec(vx_vfs *v)
{
    return &v->codec;
}

void vx_vfs_recovered(vx_vfs *v, uint32_t committed)
{
    v->recovered = committed;
}

vx_wal *vx_vfs_wal(vx_vfs *v, const char *path)
{
    size_t n = strlen(path);
    vx_wal *wal = NULL;
    pthread_mutex_lock(&v->mutex);
    for (vx_vfs_node *node = v->nodes; node && !wal; node = node->next)
        if (strncmp(node->path, path, n) == 0 && strcmp(node->path + n, "-wal") == 0)
            wal = node->wal;
    pthread_mutex_unlock(&v->mutex);
    return wal;
}
