/* The write-ahead log as it is written: frames gathered into few writes, syncs shared by those who wait for them.
 *
 * SQLite writes a frame as a header of 24 bytes and a page, and the frames of a transaction only when it commits; the
 * last one says so in its header.  Nothing before that frame is visible to any reader, so it is enough that the
 * gathered frames are in the file when the write of the last one returns.  An error of that write is an error of the
 * commit.
 *
 * After a sync a mark of 24 bytes is put where the next frame will go.  It makes no promise, and is not synced itself:
 * it lets the next opening tell a log that lost its unsynced end from one that was damaged. */
#include "vexfs/vfs.h"

#include "vexfs/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define GATHER 64u /* frames a write */
#define ZERO_FRAMES 256u
#define ZERO_AFTER 4u   /* small syncs */
#define SMALL_FRAMES 16u /* of a sync */

static const uint8_t MARK_MAGIC[4] = {'V', 'X', 'S', '1'};

struct vx_wal {
    vx_page_codec *codec;
    char *path;
    int fd;
    pthread_mutex_t mutex; /* of all below; also held while frames are written, never during a sync */
    pthread_cond_t synced;
    uint8_t *buffer; /* GATHER frames and one being made */
    uint32_t gathered;
    off_t start; /* where the first gathered frame belongs */
    int held;    /* a frame's header is in the buffer and its page has not come */
    uint8_t salts[8];
    uint64_t generation;       /* how often the log was begun anew */
    uint32_t committed;        /* frames of this generation up to the last commit */
    uint32_t written;          /* frames that the file may have, also of a commit that is not whole yet */
    uint32_t durable;          /* of these, on stable storage */
    uint32_t copied;           /* of these, done with by a checkpoint */
    uint64_t commits, commits_synced;
    off_t extent;         /* how long the file is known to be */
    uint32_t small_syncs; /* in a row */
    int syncing, dirty_name;
    int doubtful; /* a sync failed: what it was to cover must be written again before the next one counts */
};

static off_t frame_at(uint32_t number)
{
    return (off_t)VX_WAL_HEADER + (off_t)(number - 1) * VX_WAL_FRAME;
}

int vx_wal_new(vx_wal **out, vx_page_codec *c, const char *path, int fd, uint32_t committed)
{
    vx_wal *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->codec = c;
    w->fd = fd;
    w->path = strdup(path);
    w->buffer = malloc((GATHER + 1) * (size_t)VX_WAL_FRAME);
    if (!w->path || !w->buffer) {
        free(w->path);
        free(w->buffer);
        free(w);
        return -ENOMEM;
    }
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->synced, NULL);
    uint8_t header[VX_WAL_HEADER];
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0)
        w->extent = st.st_size;
    if (fd >= 0 && vx_io_pread(fd, header, sizeof header, 0) == (ssize_t)sizeof header) {
        memcpy(w->salts, header + 16, 8);
        /* Frames found on opening may never have been synced: whoever asks first must do it. */
        w->commits = committed > 0;
        w->committed = w->written = committed;
    }
    w->dirty_name = 1;
    *out = w;
    return 0;
}

void vx_wal_free(vx_wal *w)
{
    if (!w)
        return;
    pthread_cond_destroy(&w->synced);
    pthread_mutex_destroy(&w->mutex);
    free(w->buffer);
    free(w->path);
    free(w);
}

/* A log that grows has its new length committed through the host's journal by every sync, which costs as much as the
 * sync.  Where small syncs follow each other it is made longer by a stretch of zeros at once: no frames to any reader. */
static void zero_ahead(vx_wal *w)
{
    const size_t n = ZERO_FRAMES * (size_t)VX_WAL_FRAME;
    void *zeros = calloc(1, n);
    if (!zeros || vx_io_pwrite(w->fd, zeros, n, w->extent))
        w->small_syncs = 0; /* the frames will meet the error themselves, if it stays */
    else
        w->extent += (off_t)n;
    free(zeros);
}

static int flush_locked(vx_wal *w)
{
    if (w->gathered == 0)
        return 0;
    uint32_t n = w->gathered;
    w->gathered = 0;
    uint32_t before = (uint32_t)((w->start - VX_WAL_HEADER) / VX_WAL_FRAME);
    if (before == w->committed || before + n > w->written) /* what a commit that failed has left is written over */
        w->written = before + n;
    int rc = vx_io_pwrite(w->fd, w->buffer, n * (size_t)VX_WAL_FRAME, w->start);
    off_t end = w->start + (off_t)n * VX_WAL_FRAME;
    if (!rc && end > w->extent) {
        w->extent = end;
        if (w->small_syncs >= ZERO_AFTER && n <= SMALL_FRAMES)
            zero_ahead(w);
    }
    return rc;
}

int vx_wal_flush(vx_wal *w)
{
    pthread_mutex_lock(&w->mutex);
    int rc = flush_locked(w);
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

off_t vx_wal_buffered_from(vx_wal *w)
{
    pthread_mutex_lock(&w->mutex);
    off_t from = w->gathered ? w->start : (off_t)INT64_MAX;
    pthread_mutex_unlock(&w->mutex);
    return from;
}

static int write_header(vx_wal *w, const uint8_t *data)
{
    w->gathered = 0;
    w->held = 0;
    int rc = vx_io_pwrite(w->fd, data, VX_WAL_HEADER, 0);
    if (rc)
        return rc;
    memcpy(w->salts, data + 16, 8);
    w->generation++;
    w->committed = w->written = w->durable = w->copied = 0;
    w->doubtful = 0;
    return 0;
}

static int hold_frame_header(vx_wal *w, const uint8_t *data, off_t off)
{
    int rc = 0;
    if (w->gathered && off != w->start + (off_t)w->gathered * VX_WAL_FRAME)
        rc = flush_locked(w);
    if (w->gathered == 0)
        w->start = off;
    memcpy(w->buffer + w->gathered * (size_t)VX_WAL_FRAME, data, VX_FRAME_HEADER);
    w->held = 1;
    return rc;
}

static int is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return 0;
    return 1;
}

static int write_page(vx_wal *w, const uint8_t *page, off_t off)
{
    off_t at = w->start + (off_t)w->gathered * VX_WAL_FRAME;
    if (!w->held || off != at + (off_t)VX_FRAME_HEADER)
        return -EIO;
    /* SQLite's own checksum in the header covers the trailer as SQLite sees it, and reading gives it back as zero. */
    if (!is_zero(page + VX_PAGE_BODY, VX_PAGE_TRAILER))
        return -EIO;
    uint8_t *frame = w->buffer + w->gathered * (size_t)VX_WAL_FRAME;
    uint32_t number = (uint32_t)((at - VX_WAL_HEADER) / VX_WAL_FRAME) + 1;
    int last = vx_get_be32(frame + 4) != 0;
    w->held = 0;
    if (w->durable >= number)
        w->durable = number - 1;
    memcpy(frame + VX_FRAME_HEADER, page, VX_PAGE_BYTES);
    int rc = vx_walframe_seal(w->codec, number, w->durable, frame);
    if (rc)
        return rc;
    w->gathered++;
    if (!last && w->gathered < GATHER)
        return 0;
    rc = flush_locked(w);
    if (!rc && last) {
        w->committed = number;
        w->commits++;
    }
    return rc;
}

int vx_wal_write(vx_wal *w, const void *data, size_t n, off_t off)
{
    off_t inner = (off - (off_t)VX_WAL_HEADER) % (off_t)VX_WAL_FRAME;
    int rc = -EIO;
    pthread_mutex_lock(&w->mutex);
    if (off == 0 && n == VX_WAL_HEADER)
        rc = write_header(w, data);
    else if (inner == 0 && n == VX_FRAME_HEADER)
        rc = hold_frame_header(w, data, off);
    else if (inner == VX_FRAME_HEADER && n == VX_PAGE_BYTES)
        rc = write_page(w, data, off);
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

int vx_wal_truncate(vx_wal *w, off_t size)
{
    pthread_mutex_lock(&w->mutex);
    w->gathered = 0;
    w->held = 0;
    int rc = vx_io_ftruncate(w->fd, size);
    if (!rc)
        w->extent = size;
    if (!rc && size == 0) {
        w->generation++;
        w->committed = w->written = w->durable = w->copied = 0;
        w->doubtful = 0;
    }
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

uint64_t vx_wal_pending(vx_wal *w)
{
    pthread_mutex_lock(&w->mutex);
    uint64_t n = (uint64_t)(w->committed - w->copied) * VX_WAL_FRAME;
    pthread_mutex_unlock(&w->mutex);
    return n;
}

void vx_wal_set_pending(vx_wal *w, int all)
{
    pthread_mutex_lock(&w->mutex);
    w->copied = all ? 0 : w->committed;
    pthread_mutex_unlock(&w->mutex);
}

/* A failed sync may leave the kernel's pages clean though they never reached the disk; a second sync would then succeed
 * and mean nothing.  The frames are read back, checked and written once more. */
static int write_again(vx_wal *w, uint32_t first, uint32_t last)
{
    uint8_t *frame = malloc(VX_WAL_FRAME);
    int rc = frame ? 0 : -ENOMEM;
    if (!rc && first == 1) {
        ssize_t got = vx_io_pread(w->fd, frame, VX_WAL_HEADER, 0);
        rc = got == (ssize_t)VX_WAL_HEADER ? vx_io_pwrite(w->fd, frame, VX_WAL_HEADER, 0) : -EIO;
    }
    for (uint32_t i = first; !rc && i <= last; i++) {
        uint32_t durable;
        ssize_t got = vx_io_pread(w->fd, frame, VX_WAL_FRAME, frame_at(i));
        if (got != (ssize_t)VX_WAL_FRAME || vx_frame_check(frame, &durable))
            rc = got < 0 ? (int)got : -EIO;
        else
            rc = vx_io_pwrite(w->fd, frame, VX_WAL_FRAME, frame_at(i));
    }
    free(frame);
    return rc;
}

static void put_mark(vx_wal *w)
{
    uint8_t mark[VX_FRAME_HEADER] = {0};
    memcpy(mark + 4, MARK_MAGIC, 4);
    memcpy(mark + 8, w->salts, 8);
    vx_put_le32(mark + 16, w->durable);
    vx_put_le32(mark + 20, vx_crc32c(0, mark, 20));
    /* Only a hint: a full disk must not fail a sync that has been done. */
    (void)vx_io_pwrite(w->fd, mark, sizeof mark, frame_at(w->durable + 1));
}

/* Called and left with the mutex held; not held while the disk works. */
static int sync_once(vx_wal *w)
{
    uint64_t generation = w->generation, commits = w->commits;
    uint32_t committed = w->committed, first = w->durable + 1;
    int again = w->doubtful, name = w->dirty_name;
    w->syncing = 1;
    pthread_mutex_unlock(&w->mutex);
    int rc = again ? write_again(w, first, committed) : 0;
    if (!rc)
        rc = vx_io_fdatasync(w->fd);
    if (!rc && name)
        rc = vx_sync_parent(w->path);
    pthread_mutex_lock(&w->mutex);
    w->syncing = 0;
    pthread_cond_broadcast(&w->synced);
    int same = generation == w->generation;
    if (rc) {
        w->doubtful |= same;
        return rc;
    }
    w->dirty_name = 0;
    if (commits > w->commits_synced)
        w->commits_synced = commits;
    if (same) {
        w->small_syncs = committed - w->durable <= SMALL_FRAMES ? w->small_syncs + 1 : 0;
        w->doubtful = 0;
        if (committed > w->durable)
            w->durable = committed;
        /* Between two writes of a long commit nothing is gathered, but frames stand where the mark would go. */
        if (w->durable > 0 && w->written == w->durable && w->gathered == 0 && !w->held)
            put_mark(w);
    }
    return 0;
}

int vx_wal_sync(vx_wal *w, int force)
{
    int rc = 0;
    pthread_mutex_lock(&w->mutex);
    uint64_t want = w->commits;
    if (force)
        rc = flush_locked(w);
    while (!rc && (force || w->commits_synced < want)) {
        if (w->syncing) {
            pthread_cond_wait(&w->synced, &w->mutex);
            continue;
        }
        rc = sync_once(w);
        force = 0;
    }
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

/* -- what a log found on opening has to say ----------------------------------------------------------------------- */

static void add_evidence(vx_wal_report *r, uint32_t durable)
{
    if (durable > r->durable)
        r->durable = durable;
}

static int is_mark(const uint8_t *p, const uint8_t *salts)
{
    return vx_get_be32(p) == 0 && memcmp(p + 4, MARK_MAGIC, 4) == 0 && memcmp(p + 8, salts, 8) == 0 &&
           vx_get_le32(p + 20) == vx_crc32c(0, p, 20);
}

/* SQLite's checksum of the log's header: two sums over its first 24 bytes, in the byte order that its magic names. */
static int header_is_right(const uint8_t *h)
{
    uint32_t magic = vx_get_be32(h), a = 0, b = 0;
    if ((magic & 0xfffffffeu) != 0x377f0682u)
        return 0;
    for (int i = 0; i < 24; i += 8) {
        a += (magic & 1 ? vx_get_be32(h + i) : vx_get_le32(h + i)) + b;
        b += (magic & 1 ? vx_get_be32(h + i + 4) : vx_get_le32(h + i + 4)) + a;
    }
    return a == vx_get_be32(h + 24) && b == vx_get_be32(h + 28);
}

static int inspect_frames(vx_page_codec *c, int fd, const uint8_t *header, uint8_t *frame, vx_wal_report *r)
{
    int whole = 1;
    for (uint32_t i = 1;; i++) {
        uint32_t durable;
        ssize_t got = vx_io_pread(fd, frame, VX_WAL_FRAME, frame_at(i));
        if (got < (ssize_t)VX_FRAME_HEADER)
            return got < 0 ? (int)got : 0;
        if (is_mark(frame, header + 16))
            add_evidence(r, vx_get_le32(frame + 16));
        if (got < (ssize_t)VX_WAL_FRAME)
            return 0;
        r->frames = i;
        int right = vx_frame_check(frame, &durable) == 0;
        int current = memcmp(frame + 8, header + 16, 8) == 0;
        if (r->header_bad < 0 && right)
            r->header_bad = 1;
        if (right && current)
            add_evidence(r, durable);
        whole = whole && right && current;
        if (!whole)
            continue;
        r->valid = i;
        if (vx_get_be32(frame + 4))
            r->committed = i;
        if (i == 1 && vx_walframe_open(c, 1, frame) == -EKEYREJECTED)
            r->wrong_key = 1;
    }
}

int vx_wal_inspect(vx_page_codec *c, const char *path, vx_wal_report *out)
{
    memset(out, 0, sizeof *out);
    int fd = vx_io_open(path, 0, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    uint8_t header[VX_WAL_HEADER];
    uint8_t *frame = malloc(VX_WAL_FRAME);
    ssize_t got = vx_io_pread(fd, header, sizeof header, 0);
    int rc = frame ? 0 : -ENOMEM;
    if (!rc && got == (ssize_t)sizeof header) {
        /* A header is synced before the first frame is written: damaged before sound frames, it was not torn. */
        out->header_bad = header_is_right(header) ? 0 : -1;
        rc = inspect_frames(c, fd, header, frame, out);
        if (out->header_bad < 0)
            out->header_bad = 0;
        out->bytes = VX_WAL_HEADER + (uint64_t)out->frames * VX_WAL_FRAME;
    } else if (!rc && got < 0) {
        rc = (int)got;
    }
    free(frame);
    vx_io_close(fd);
    return rc;
}

int vx_wal_pages(vx_page_codec *c, const char *path, uint8_t *held, uint32_t pages)
{
    vx_wal_report r;
    int rc = vx_wal_inspect(c, path, &r);
    int fd = rc || !r.committed ? -1 : vx_io_open(path, 0, 0);
    if (rc || !r.committed || fd < 0)
        return rc ? rc : r.committed ? fd : 0;
    for (uint32_t i = 1; !rc && i <= r.committed; i++) {
        uint8_t number[4];
        ssize_t got = vx_io_pread(fd, number, sizeof number, frame_at(i));
        uint32_t page = got == (ssize_t)sizeof number ? vx_get_be32(number) : 0;
        rc = got < 0 ? (int)got : 0;
        if (page > 0 && page <= pages)
            held[page - 1] = 1;
    }
    vx_io_close(fd);
    return rc;
}
