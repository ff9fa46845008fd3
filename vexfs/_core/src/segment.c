/* The segment store as a whole: opening, closing, the life of segments, figures. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "segstore.h"
#include "vexfs/io.h"

#define SEGMENT_BYTES (64u << 20)
#define SEGMENT_BYTES_MAX (1u << 30) /* positions are 32 bits wide */
#define IO_THREADS 8u                /* by default */

/* Whether files in `dir` take direct I/O in blocks of ours. */
static int probe_direct(const char *dir, int read_only)
{
    void *block = aligned_alloc(VX_SEG_BLOCK, VX_SEG_BLOCK);
    int ok = 0;
    if (block) {
        memset(block, 0, VX_SEG_BLOCK);
        int flags = O_RDWR | O_TMPFILE | O_CLOEXEC | O_DIRECT;
        int fd = read_only ? -1 : open(dir, flags, 0600); /* unnamed: nothing on disk changes, nothing to record */
        ok = fd >= 0 && pwrite(fd, block, VX_SEG_BLOCK, 0) == (ssize_t)VX_SEG_BLOCK &&
             pread(fd, block, VX_SEG_BLOCK, 0) == (ssize_t)VX_SEG_BLOCK;
        if (fd >= 0)
            close(fd);
    }
    free(block);
    return ok;
}

static uint32_t cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : (uint32_t)n;
}

static void init_locks(vx_segstore *s)
{
    pthread_mutex_init(&s->append_lock, NULL);
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->prefetch_lock, NULL);
    pthread_mutex_init(&s->staging_lock, NULL);
    pthread_cond_init(&s->opened, NULL);
    pthread_cond_init(&s->synced, NULL);
}

int vx_segstore_open(vx_segstore **out, const vx_segstore_options *o)
{
    *out = NULL;
    uint64_t segment_bytes = o->segment_bytes ? o->segment_bytes : SEGMENT_BYTES;
    if (segment_bytes < 4 * VX_SEG_BLOCK || segment_bytes > SEGMENT_BYTES_MAX || o->compression > 1 || !o->dir)
        return -EINVAL;
    vx_segstore *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    init_locks(s);
    s->dir = strdup(o->dir);
    s->encrypted = o->key != NULL;
    if (o->key)
        memcpy(s->key, o->key, sizeof s->key);
    s->read_only = o->read_only != 0;
    s->segment_bytes = segment_bytes;
    s->next_segment = o->next_segment;
    s->pool = o->pool;
    s->cpus = cpus();
    s->io_threads = o->io_depth ? o->io_depth : IO_THREADS;
    atomic_init(&s->compression, o->compression);
    int err = s->dir ? vx_segfiles_list(s) : -ENOMEM;
    int takes_direct = !err && probe_direct(s->dir, s->read_only);
    s->direct = o->direct_io && takes_direct;
    s->bulk = !s->direct && takes_direct;
    if (!err && !(s->cache = vx_framecache_new(o->cache_bytes)))
        err = -ENOMEM;
    if (!err && !(s->workers = vx_workers_new(s->io_threads, vx_segstore_run_prefetch, s)))
        err = -ENOMEM;
    if (err)
        vx_segstore_close(s);
    else
        *out = s;
    return err;
}

void vx_segstore_close(vx_segstore *s)
{
    if (!s)
        return;
    vx_workers_free(s->workers);
    vx_segfile_cut(s, vx_segfile_seal(s));
    vx_framecache_free(s->cache);
    vx_segfiles_free(s);
    vx_staging_free(s);
    vx_lent_free(s);
    pthread_mutex_destroy(&s->append_lock);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->prefetch_lock);
    pthread_mutex_destroy(&s->staging_lock);
    pthread_cond_destroy(&s->opened);
    pthread_cond_destroy(&s->synced);
    OPENSSL_cleanse(s->key, sizeof s->key);
    free(s->dir);
    free(s);
}

int vx_segstore_configure(vx_segstore *s, uint64_t cache_bytes, uint32_t compression)
{
    if (compression > 1)
        return -EINVAL;
    atomic_store(&s->compression, compression);
    vx_framecache_resize(s->cache, cache_bytes);
    return 0;
}

void vx_segstore_drop_cache(vx_segstore *s)
{
    vx_framecache_drop(s->cache, -1);
}

/* -- the life of a segment ------------------------------------------------------------------------------------- */

int vx_segstore_pin(vx_segstore *s, uint32_t seg)
{
    pthread_mutex_lock(&s->lock);
    vx_segfile *f = vx_segfile_find(s, seg);
    int err = !f || (f->deleted && f->pins == 0) ? -ENOENT : 0;
    if (!err)
        f->pins++;
    pthread_mutex_unlock(&s->lock);
    return err;
}

void vx_segstore_unpin(vx_segstore *s, uint32_t seg)
{
    pthread_mutex_lock(&s->lock);
    vx_segfile *f = vx_segfile_find(s, seg);
    if (f && f->pins) {
        f->pins--;
        vx_segfile_reap(s, f);
    }
    vx_segfile_leave(s);
}

int vx_segstore_delete(vx_segstore *s, uint32_t seg)
{
    if (s->read_only)
        return -EROFS;
    pthread_mutex_lock(&s->lock);
    vx_segfile *f = vx_segfile_find(s, seg);
    int err = f && !f->deleted ? 0 : -ENOENT;
    if (!err) {
        f->deleted = 1;
        if (s->active == f)
            s->active = NULL;
        vx_segfile_end_bulk(s, f);
        vx_segfile_reap(s, f); /* else whoever drops it last removes it */
    }
    int failed = vx_segfile_leave(s);
    return err ? err : failed;
}

int vx_segstore_seal(vx_segstore *s)
{
    vx_segfile *ended = NULL;
    pthread_mutex_lock(&s->append_lock);
    pthread_mutex_lock(&s->lock);
    if (s->active && s->active->end > VX_SEG_BLOCK) /* an empty one may as well go on */
        ended = vx_segfile_seal(s);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->append_lock);
    vx_segfile_cut(s, ended);
    return 0;
}

int vx_segstore_trim(vx_segstore *s, uint32_t seg, uint64_t used)
{
    if (s->read_only)
        return -EROFS;
    if (used < VX_SEG_BLOCK)
        used = VX_SEG_BLOCK;
    pthread_mutex_lock(&s->lock);
    vx_segfile *f = vx_segfile_find(s, seg);
    int err = !f || f->deleted ? -ENOENT : f == s->active || f->writers ? -EBUSY : used > f->good ? -EBADMSG : 0;
    if (!err && used < f->good) {
        char *path = vx_segfile_path(s, seg);
        int fd = path ? vx_io_open(path, O_WRONLY, 0) : -ENOMEM;
        err = fd < 0 ? fd : vx_io_ftruncate(fd, (off_t)used);
        if (fd >= 0)
            vx_io_close(fd);
        free(path);
        if (!err) {
            s->disk_bytes -= f->good - used;
            f->good = f->end = used;
            vx_framecache_drop(s->cache, seg);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return err;
}

int vx_segstore_list(vx_segstore *s, vx_segment_list_fn fn, void *ctx)
{
    uint32_t n = 0, made = 0;
    int result = 0;
    pthread_mutex_lock(&s->lock);
    struct { uint32_t seg; uint64_t bytes; } *all = malloc((s->files + 1) * sizeof *all);
    made = all != NULL;
    for (uint32_t b = 0; made && b < VX_SEG_BUCKETS; b++)
        for (vx_segfile *f = s->buckets[b]; f; f = f->chain)
            if (!f->deleted) {
                all[n].seg = f->seg;
                all[n++].bytes = f->good;
            }
    pthread_mutex_unlock(&s->lock);
    for (uint32_t i = 0; i < n && !result; i++)
        result = fn(ctx, all[i].seg, all[i].bytes);
    free(all);
    return made ? result : -ENOMEM;
}

/* -- figures -------------------------------------------------------------------------------------------------- */

uint64_t vx_segstore_size(vx_segstore *s, uint32_t seg)
{
    pthread_mutex_lock(&s->lock);
    vx_segfile *f = vx_segfile_find(s, seg);
    uint64_t size = f ? f->good : 0;
    pthread_mutex_unlock(&s->lock);
    return size;
}

void vx_segstore_read_stats(vx_segstore *s, vx_segstore_stats *out)
{
    vx_segcounters *c = &s->count;
    memset(out, 0, sizeof *out);
    out->cache_bytes = vx_framecache_bytes(s->cache);
    out->evictions = vx_framecache_evictions(s->cache);
    out->cache_hits = atomic_load(&c->cache_hits);
    out->cache_misses = atomic_load(&c->cache_misses);
    out->frames_written = atomic_load(&c->frames_written);
    out->frames_read = atomic_load(&c->frames_read);
    out->bytes_written = atomic_load(&c->bytes_written);
    out->bytes_stored = atomic_load(&c->bytes_stored);
    out->bytes_read = atomic_load(&c->bytes_read);
    out->syncs = atomic_load(&c->syncs);
    out->sync_waits = atomic_load(&c->sync_waits);
    out->checksum_errors = atomic_load(&c->checksum_errors);
    out->prefetches = atomic_load(&c->prefetches);
    out->direct_io = (uint32_t)s->direct;
    pthread_mutex_lock(&s->lock);
    out->segments = s->files;
    out->active_seg = s->active ? s->active->seg : UINT32_MAX;
    out->active_pos = s->active ? s->active->end : 0;
    out->next_segment = s->next_segment > UINT32_MAX ? UINT32_MAX : (uint32_t)s->next_segment;
    out->disk_bytes = s->disk_bytes;
    pthread_mutex_unlock(&s->lock);
}
