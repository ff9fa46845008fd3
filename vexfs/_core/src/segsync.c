/* Making appended data durable.
 *
 * Batches are counted; a sync covers all that were counted when it began.  Who comes while one runs waits for the next,
 * and that one serves everybody who waits.  After a failed fdatasync the kernel may have dropped the data and call the
 * pages clean, so a second one would prove nothing: the file is sealed and marked, and every later sync fails until its
 * data has been appended anew (absolve, or deletion of the file) or the store is opened again. */
#include "segstore.h"
#include "vexfs/io.h"

/* A file whose name and head are durable, and none of whose syncs failed. */
static int settled(const vx_segstore *s, const vx_segfile *f)
{
    return f && f->synced && !f->sync_err && !f->broken && !s->lost && !s->dir_dirty && !s->syncing;
}

uint32_t vx_segstore_tail(vx_segstore *s, const vx_frame_put *puts, size_t n, void *dst, uint32_t cap, uint32_t *pos)
{
    uint32_t from = puts[0].pos, to = from;
    for (size_t i = 0; i < n; i++) {
        if (puts[i].seg != puts[0].seg)
            return 0;
        from = puts[i].pos < from ? puts[i].pos : from;
        to = puts[i].pos + puts[i].stored > to ? puts[i].pos + puts[i].stored : to;
    }
    if (s->direct || to - from > cap)
        return 0;
    pthread_mutex_lock(&s->lock);
    vx_segfile *f = vx_segfile_find(s, puts[0].seg);
    int known = settled(s, f);
    pthread_mutex_unlock(&s->lock);
    if (!known || vx_segfile_get(s, puts[0].seg, &f))
        return 0;
    ssize_t got = vx_io_pread(f->fd, dst, to - from, from);
    vx_segfile_put(s, f);
    *pos = from;
    return got == (ssize_t)(to - from) ? to - from : 0;
}

/* Takes the files with unsynced data, each with a reference; under the lock. */
static vx_segfile *take_dirty(vx_segstore *s)
{
    vx_segfile *list = NULL;
    for (vx_segfile *f = s->dirty; f; f = f->dirty_next) {
        f->small_syncs = f->good - f->synced <= VX_SMALL_BYTES ? f->small_syncs + 1 : 0;
        f->synced = f->good;
        f->dirty = 0;
        f->refs++;
        f->sync_next = list;
        list = f;
    }
    s->dirty = NULL;
    return list;
}

/* What is to be cut of it, or NULL. */
static vx_segfile *mark_lost(vx_segstore *s, vx_segfile *f, int err)
{
    if (!f->sync_err)
        s->lost++;
    f->sync_err = err;
    s->lost_err = err;
    return s->active == f ? vx_segfile_seal(s) : NULL;
}

/* One sync of everything that is dirty; enters and returns under the lock. */
static void sync_all(vx_segstore *s)
{
    uint64_t gen = s->append_gen;
    int dir = s->dir_dirty, err = 0;
    vx_segfile *list = take_dirty(s), *ended = NULL, *next;
    s->dir_dirty = 0;
    s->syncing = 1;
    pthread_mutex_unlock(&s->lock);
    for (vx_segfile *f = list; f; f = f->sync_next) {
        int failed = vx_io_fdatasync(f->fd);
        if (failed) {
            pthread_mutex_lock(&s->lock);
            vx_segfile *ended = mark_lost(s, f, failed);
            pthread_mutex_unlock(&s->lock);
            vx_segfile_cut(s, ended);
        }
    }
    if (dir)
        err = vx_io_syncdir(s->dir);
    vx_count(&s->count.syncs, 1);
    pthread_mutex_lock(&s->lock);
    for (vx_segfile *f = list; f; f = next) {
        next = f->sync_next;
        vx_segfile *lost = err ? mark_lost(s, f, err) : NULL; /* any of them may be one whose name is not durable */
        ended = lost ? lost : ended;
        vx_segfile_drop(s, f);
    }
    vx_segfiles_close_idle(s);
    s->synced_gen = gen;
    s->syncing = 0;
    pthread_cond_broadcast(&s->synced);
    vx_segfile_leave(s);
    vx_segfile_cut(s, ended);
    pthread_mutex_lock(&s->lock);
}

int vx_segstore_sync(vx_segstore *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t target = s->append_gen;
    while (s->synced_gen < target) {
        if (s->syncing) {
            vx_count(&s->count.sync_waits, 1);
            pthread_cond_wait(&s->synced, &s->lock);
        } else {
            sync_all(s);
        }
    }
    int err = s->lost ? s->lost_err : 0;
    pthread_mutex_unlock(&s->lock);
    return err;
}

void vx_segstore_absolve(vx_segstore *s)
{
    pthread_mutex_lock(&s->lock);
    for (size_t b = 0; s->lost && b < VX_SEG_BUCKETS; b++)
        for (vx_segfile *f = s->buckets[b]; f; f = f->chain)
            f->sync_err = 0;
    s->lost = 0;
    pthread_mutex_unlock(&s->lock);
}
