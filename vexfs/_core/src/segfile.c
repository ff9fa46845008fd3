/* The files of the segment store: found at open, opened when first needed, created, pinned, removed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segstore.h"
#include "vexfs/io.h"

char *vx_segfile_path(const vx_segstore *s, uint32_t seg)
{
    char *path = NULL;
    return asprintf(&path, "%s/%08x.seg", s->dir, seg) < 0 ? NULL : path;
}

vx_segfile *vx_segfile_find(vx_segstore *s, uint32_t seg)
{
    vx_segfile *f = s->buckets[seg % VX_SEG_BUCKETS];
    while (f && f->seg != seg)
        f = f->chain;
    return f;
}

static vx_segfile *enter(vx_segstore *s, uint32_t seg, uint64_t size)
{
    vx_segfile *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->seg = seg;
    f->fd = f->bulk_fd = -1;
    f->end = f->good = size;
    f->chain = s->buckets[seg % VX_SEG_BUCKETS];
    s->buckets[seg % VX_SEG_BUCKETS] = f;
    s->files++;
    s->disk_bytes += size;
    return f;
}

/* The number in "%08x.seg", or -1 for any other name. */
static int64_t number_of(const char *name)
{
    static const char digits[] = "0123456789abcdef";
    int64_t n = 0;
    for (int i = 0; i < 8; i++) {
        const char *d = name[i] ? strchr(digits, name[i]) : NULL;
        if (!d)
            return -1;
        n = n << 4 | (d - digits);
    }
    return strcmp(name + 8, ".seg") == 0 ? n : -1;
}

int vx_segfiles_list(vx_segstore *s)
{
    DIR *d = opendir(s->dir);
    struct dirent *entry;
    int err = 0;
    if (!d)
        return -errno;
    while (!err && (errno = 0, entry = readdir(d)) != NULL) {
        struct stat st;
        int64_t seg = number_of(entry->d_name);
        if (seg < 0)
            continue;
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            err = -errno;
        else if (S_ISREG(st.st_mode) && !enter(s, (uint32_t)seg, (uint64_t)st.st_size))
            err = -ENOMEM;
        if ((uint64_t)seg >= s->next_segment)
            s->next_segment = (uint64_t)seg + 1;
    }
    if (!err && errno)
        err = -errno;
    closedir(d);
    return err;
}

static void close_file(vx_segstore *s, vx_segfile *f)
{
    if (f->fd >= 0) {
        vx_io_close(f->fd);
        f->fd = -1;
        s->open_files--;
    }
}

void vx_segfile_end_bulk(vx_segstore *s, vx_segfile *f)
{
    if (f->bulk_fd >= 0 && f != s->active && !f->writers) {
        vx_io_close(f->bulk_fd);
        f->bulk_fd = -1;
    }
}

static void free_file(vx_segfile *f)
{
    if (f->bulk_fd >= 0)
        vx_io_close(f->bulk_fd);
    vx_aead_free(f->aead);
    free(f->path);
    free(f);
}

void vx_segfiles_free(vx_segstore *s)
{
    for (uint32_t b = 0; b < VX_SEG_BUCKETS; b++)
        for (vx_segfile *f = s->buckets[b], *next; f; f = next) {
            next = f->chain;
            close_file(s, f);
            free_file(f);
        }
}

/* Out of the table: vx_segfile_leave unlinks it. */
static void forget(vx_segstore *s, vx_segfile *f)
{
    f->path = vx_segfile_path(s, f->seg);
    vx_segfile **at = &s->buckets[f->seg % VX_SEG_BUCKETS];
    while (*at != f)
        at = &(*at)->chain;
    *at = f->chain;
    for (at = &s->dirty; *at; at = &(*at)->dirty_next)
        if (*at == f) {
            *at = f->dirty_next;
            break;
        }
    if (f->sync_err)
        s->lost--;
    s->files--;
    s->disk_bytes -= f->good;
    close_file(s, f);
    vx_framecache_drop(s->cache, f->seg);
    f->chain = s->gone;
    s->gone = f;
}

int vx_segfile_leave(vx_segstore *s)
{
    vx_segfile *gone = s->gone;
    int err = 0;
    s->gone = NULL;
    pthread_mutex_unlock(&s->lock);
    while (gone) { /* one that stays is listed, unnamed by the metadata, at the next open */
        vx_segfile *f = gone;
        int failed = f->path ? vx_io_unlink(f->path) : -ENOMEM;
        err = err ? err : failed;
        gone = f->chain;
        free_file(f);
    }
    return err;
}

void vx_segfile_reap(vx_segstore *s, vx_segfile *f)
{
    if (f->deleted && f->refs == 0 && f->pins == 0)
        forget(s, f);
}

void vx_segfile_drop(vx_segstore *s, vx_segfile *f)
{
    f->refs--;
    vx_segfile_reap(s, f);
}

void vx_segfile_mark_dirty(vx_segstore *s, vx_segfile *f)
{
    if (!f->dirty) {
        f->dirty = 1;
        f->dirty_next = s->dirty;
        s->dirty = f;
    }
}

vx_segfile *vx_segfile_seal(vx_segstore *s)
{
    vx_segfile *f = s->active;
    s->active = NULL;
    if (!f)
        return NULL;
    vx_segfile_end_bulk(s, f);
    if (f->zeroed <= f->end && f->allocated <= f->end)
        return NULL;
    f->refs++;
    return f;
}

void vx_segfile_cut(vx_segstore *s, vx_segfile *f)
{
    if (!f)
        return;
    vx_io_ftruncate(f->fd, (off_t)f->end); /* when it fails, zeros stay: no frame, no harm */
    pthread_mutex_lock(&s->lock);
    vx_segfile_mark_dirty(s, f);
    vx_segfile_drop(s, f);
    vx_segfile_leave(s);
}

void vx_segfiles_close_idle(vx_segstore *s)
{
    for (uint32_t i = 0; i < VX_SEG_BUCKETS && s->open_files > VX_SEG_OPEN_MAX; i++) {
        s->close_hand = (s->close_hand + 1) % VX_SEG_BUCKETS;
        for (vx_segfile *f = s->buckets[s->close_hand]; f; f = f->chain)
            if (f->fd >= 0 && f->refs == 0 && !f->dirty && f != s->active)
                close_file(s, f);
    }
}

static int open_flags(const vx_segstore *s)
{
    return (s->read_only ? O_RDONLY : O_RDWR) | (s->direct ? O_DIRECT : 0);
}

/* Opens and checks the first block; without the lock. */
static int open_file(vx_segstore *s, vx_segfile *f)
{
    uint8_t *block = aligned_alloc(VX_SEG_BLOCK, VX_SEG_BLOCK);
    char *path = vx_segfile_path(s, f->seg);
    int err = block && path ? 0 : -ENOMEM, fd = -1;
    if (!err && (fd = vx_io_open(path, open_flags(s), 0)) < 0)
        err = fd;
    if (!err) {
        ssize_t got = vx_io_pread(fd, block, VX_SEG_BLOCK, 0);
        err = got < 0 ? (int)got : vx_segblock_check(block, (size_t)got, f->seg, s->encrypted, f->id);
        if (err == -EBADMSG) {
            vx_count(&s->count.checksum_errors, 1);
            if (!s->encrypted) /* plain frames prove themselves: they stay readable without the first block */
                err = 0;
        }
    }
    if (!err && s->encrypted && !f->aead && !(f->aead = vx_segblock_key(s->key, f->seg, f->id)))
        err = -ENOMEM;
    if (err && fd >= 0)
        vx_io_close(fd);
    free(block);
    free(path);
    if (!err)
        f->fd = fd;
    return err;
}

int vx_segfile_get(vx_segstore *s, uint32_t seg, vx_segfile **out)
{
    int err = 0;
    pthread_mutex_lock(&s->lock);
    vx_segfile *f = vx_segfile_find(s, seg);
    if (!f || (f->deleted && f->pins == 0)) {
        err = -ENOENT;
    } else {
        f->refs++;
        while (f->opening)
            pthread_cond_wait(&s->opened, &s->lock);
        if (f->fd < 0) {
            f->opening = 1;
            pthread_mutex_unlock(&s->lock);
            err = open_file(s, f);
            pthread_mutex_lock(&s->lock);
            f->opening = 0;
            if (!err) {
                s->open_files++;
                vx_segfiles_close_idle(s);
            }
            pthread_cond_broadcast(&s->opened);
        }
        if (err)
            vx_segfile_drop(s, f);
    }
    vx_segfile_leave(s);
    *out = err ? NULL : f;
    return err;
}

void vx_segfile_put(vx_segstore *s, vx_segfile *f)
{
    pthread_mutex_lock(&s->lock);
    vx_segfile_drop(s, f);
    vx_segfile_leave(s);
}

/* A new file with its first block written, not yet in the table. */
static int make_file(vx_segstore *s, uint32_t seg, const char *path, uint8_t id[VX_SEG_ID], int *fd)
{
    uint8_t *block = aligned_alloc(VX_SEG_BLOCK, VX_SEG_BLOCK);
    int err = block ? vx_random(id, VX_SEG_ID) : -ENOMEM;
    *fd = -1;
    if (!err) {
        *fd = vx_io_open(path, open_flags(s) | O_CREAT | O_EXCL, 0600);
        err = *fd < 0 ? *fd : 0;
    }
    if (!err) {
        vx_segblock_make(block, seg, s->encrypted, id);
        err = vx_io_pwrite(*fd, block, VX_SEG_BLOCK, 0);
        if (err) { /* the number stays free: nothing was ever stored under it */
            vx_io_close(*fd);
            vx_io_unlink(path);
        }
    }
    free(block);
    return err;
}

static int create_next(vx_segstore *s)
{
    uint8_t id[VX_SEG_ID];
    int fd;
    uint32_t seg = (uint32_t)s->next_segment;
    char *path = vx_segfile_path(s, seg);
    int err = path ? make_file(s, seg, path, id, &fd) : -ENOMEM;
    vx_aead *aead = !err && s->encrypted ? vx_segblock_key(s->key, seg, id) : NULL;
    int bulk_fd = !err && s->bulk ? vx_io_open(path, O_WRONLY | O_DIRECT, 0) : -1; /* failing, it goes without */
    pthread_mutex_lock(&s->lock);
    vx_segfile *f = NULL;
    if (!err && ((s->encrypted && !aead) || !(f = enter(s, seg, VX_SEG_BLOCK)))) {
        err = -ENOMEM;
        vx_io_close(fd);
        if (bulk_fd >= 0)
            vx_io_close(bulk_fd);
        vx_io_unlink(path);
        vx_aead_free(aead);
    }
    if (!err) {
        f->fd = fd;
        f->bulk_fd = bulk_fd;
        f->aead = aead;
        memcpy(f->id, id, sizeof id);
        s->next_segment++;
        s->open_files++;
        s->dir_dirty = 1;
        s->active = f;
        vx_segfiles_close_idle(s);
    }
    pthread_mutex_unlock(&s->lock);
    free(path);
    return err;
}

int vx_segfile_create(vx_segstore *s)
{
    int err = -EEXIST;
    while (err == -EEXIST && s->next_segment <= UINT32_MAX) {
        err = create_next(s);
        if (err == -EEXIST) /* left by a creation that failed and could not be undone; the next open removes it */
            s->next_segment++;
    }
    return err == -EEXIST ? -ENOSPC : err;
}
