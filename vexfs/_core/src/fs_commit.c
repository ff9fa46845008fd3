/* Commits: who runs them, who waits for them, and what happens when one fails.
 *
 * Whoever needs a commit runs it, unless somebody is running one: then he waits, and all who waited share the next.
 * A commit that fails (a full disk, say) is kept whole in memory and tried again; operations that need room are
 * refused meanwhile, and nothing acknowledged is lost while the process lives. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vexfs/commit.h"

enum { SYNC_EVERY_S = 5, TRIM_AFTER_S = 2, OPLOG_KEEP = 1024, OPLOG_BYTES = 256 << 20 };

static int64_t monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void vx_lock_contended(vx_fs *fs)
{
    int64_t from = monotonic();
    pthread_mutex_lock(&fs->lock);
    fs->s.lock_waits++;
    fs->s.lock_wait_ns += (uint64_t)(monotonic() - from);
}

static int anything_dirty(const vx_fs *fs)
{
    return fs->batch_pending || fs->dirty_inodes || fs->dirty_dentries;
}

void vx_wake_committer(vx_fs *fs)
{
    pthread_cond_signal(&fs->work);
}

static int much_dirty(const vx_fs *fs)
{
    return fs->dirty_bytes + fs->dirty_inline > fs->o.dirty_limit / 2;
}

void vx_mutated(vx_fs *fs, uint64_t ino)
{
    fs->dirty_ops++;
    int first = !fs->first_dirty_ns;
    if (first)
        fs->first_dirty_ns = monotonic();
    if (fs->o.bridge) {
        vx_item item = {.key = ino, .arg = fs->epoch, .kind = VX_KIND_MUTATION, .cls = VX_CLASS_HIGH};
        if (!vx_bridge_enqueue(fs->o.bridge, &item, 0))
            return; /* the bridge wakes the committer; a full bridge means that it is awake already */
    }
    if (first || fs->dirty_ops == fs->o.commit_ops || much_dirty(fs))
        vx_wake_committer(fs);
}

void vx_fs_on_mutations(void *ctx, const vx_item *items, size_t n)
{
    vx_fs *fs = ctx;
    (void)items;
    (void)n;
    pthread_mutex_lock(&fs->lock);
    if (fs->dirty_ops && (!fs->armed || fs->dirty_ops >= fs->o.commit_ops || much_dirty(fs)))
        vx_wake_committer(fs);
    pthread_mutex_unlock(&fs->lock);
}

void vx_throttle(vx_fs *fs)
{
    int waited = 0;
    while (!fs->commit_err && !fs->stopping && (vx_many_bytes(fs) || vx_many_ops(fs))) {
        fs->s.throttled += !waited;
        waited = 1;
        fs->want_commit = 1;
        vx_wake_committer(fs);
        pthread_cond_wait(&fs->changed, &fs->lock);
    }
}

static int apply(vx_fs *fs)
{
    vx_meta *m = fs->meta;
    uint64_t epoch = fs->batch_epoch, gone = fs->forgotten;
    if (fs->batch.failed || fs->frozen_oplog.failed)
        return -ENOMEM; /* memory ran out while the epoch was frozen: never half of it, however often it is tried */
    int rc = vx_meta_begin(m);
    if (rc)
        return rc;
    rc = vx_batch_apply(fs, &fs->batch);
    if (!rc && fs->frozen_oplog.n)
        rc = vx_meta_put_oplog(m, epoch, fs->frozen_oplog.data, fs->frozen_oplog.n);
    if (!rc && epoch % 16 == 0)
        rc = vx_meta_trim_oplog(m, epoch > OPLOG_KEEP ? epoch - OPLOG_KEEP : 0, OPLOG_BYTES, &gone);
    __atomic_store_n(&fs->forgotten, gone, __ATOMIC_SEQ_CST); /* before readers can see that they are gone */
    if (!rc)
        rc = vx_meta_put_int(m, "epoch", (int64_t)epoch);
    if (!rc)
        rc = vx_meta_commit(m);
    if (rc)
        vx_meta_rollback(m);
    return rc;
}

static void note_failure(vx_fs *fs, int rc, const char *what)
{
    fs->commit_err = rc;
    fs->s.commit_errors++;
    fs->s.last_error = -rc;
    snprintf(fs->s.last_error_text, sizeof fs->s.last_error_text, "%s: %s (%s); kept in memory, tried again", what,
             strerror(-rc), what[0] == 'm' ? vx_meta_error(fs->meta) : fs->segments_dir);
}

/* One commit.  Lock held, released inside; fs->committing is ours. */
static int commit_once(vx_fs *fs)
{
    if (!fs->batch_pending) {
        int rc = vx_rows_freeze(fs);
        if (rc == -ENOMEM) {
            note_failure(fs, rc, "rows of an index");
            return rc;
        }
        fs->s.commit_errors += rc != 0; /* what cannot be reached of an index keeps no file from its commit */
        vx_freeze_epoch(fs);
    }
    pthread_mutex_unlock(&fs->lock);
    const char *what = "data";
    int64_t from = monotonic();
    int rc = fs->batch_data_done ? 0 : vx_place_data(fs);
    int64_t placed = monotonic();
    if (!rc) {
        what = "metadata";
        rc = apply(fs);
    }
    int64_t applied = monotonic();
    pthread_mutex_lock(&fs->lock);
    fs->s.place_ns += (uint64_t)(placed - from);
    fs->s.apply_ns += (uint64_t)(applied - placed);
    if (rc) {
        note_failure(fs, rc, what);
    } else {
        fs->commit_err = 0;
        vx_thaw_epoch(fs);
    }
    return rc;
}

static int sync_log(vx_fs *fs)
{
    uint64_t upto = fs->committed;
    if (fs->durable >= upto)
        return 0;
    pthread_mutex_unlock(&fs->lock);
    int64_t from = monotonic();
    int rc = vx_meta_sync(fs->meta);
    pthread_mutex_lock(&fs->lock);
    fs->s.syncs++;
    fs->synced_ns = monotonic();
    fs->s.sync_ns += (uint64_t)(fs->synced_ns - from);
    if (!rc && upto > fs->durable)
        fs->durable = upto;
    if (!rc && !fs->batch_pending)
        fs->commit_err = 0; /* the failure was a sync's, and this one has made up for it */
    if (rc)
        note_failure(fs, rc, "metadata");
    return rc;
}

/* Where room is short the log takes no more than is kept for it, and what it had is given back.  Lock held. */
static int log_is_long(vx_fs *fs)
{
    uint64_t bytes = vx_meta_wal_bytes(fs->meta);
    if (bytes > VX_LOG_ROOM && bytes <= fs->o.log_limit && vx_space_short(fs))
        vx_space_look(fs);
    return bytes > fs->o.log_limit || (bytes > VX_LOG_ROOM && vx_space_short(fs));
}

int vx_commit_until(vx_fs *fs, uint64_t epoch, int durable)
{
    int rc = 0;
    if (epoch == fs->epoch && !fs->dirty_inodes && !fs->dirty_dentries && !fs->gone_segments)
        epoch--; /* nothing of the running epoch exists yet */
    while (!rc && fs->committed < epoch) {
        if (fs->committing) {
            pthread_cond_wait(&fs->changed, &fs->lock);
            continue;
        }
        fs->committing = 1;
        rc = commit_once(fs);
        fs->committing = 0;
        pthread_cond_broadcast(&fs->changed);
        if (log_is_long(fs))
            vx_wake_committer(fs);
    }
    if (!rc && durable && fs->durable < epoch)
        rc = sync_log(fs);
    return rc;
}

int vx_fs_flush(vx_fs *fs, uint64_t ino)
{
    /* Room was reserved when the bytes were written: closing a file has nothing left to fail on. */
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_FLUSH);
    vx_inode *i;
    return vx_op_leave(fs, &f, vx_inode_get(fs, ino, &i));
}

int vx_fs_fsync(vx_fs *fs, uint64_t ino, int datasync)
{
    (void)datasync; /* the size and the map are needed to find the data: both kinds cost the same here */
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_FSYNC);
    vx_inode *i = NULL;
    int rc = ino ? vx_inode_get(fs, ino, &i) : 0;
    if (!rc && !fs->read_only) {
        /* An inode that was evicted and loaded again no longer knows when it changed: all that is committed counts. */
        uint64_t epoch = !i ? fs->epoch : i->pin_epoch > fs->committed ? i->pin_epoch : fs->committed;
        rc = vx_commit_until(fs, epoch, 1);
    }
    return vx_op_leave(fs, &f, rc);
}

/* -- the committer --------------------------------------------------------------------------------------------- */

static int due(const vx_fs *fs, int64_t now)
{
    if (!anything_dirty(fs))
        return 0;
    if (fs->commit_err)
        return now >= fs->retry_ns;
    return fs->want_commit || fs->dirty_ops >= fs->o.commit_ops || much_dirty(fs) ||
           (fs->first_dirty_ns && now - fs->first_dirty_ns >= (int64_t)fs->o.commit_delay_ms * 1000000) ||
           (fs->batch_pending && !fs->committing);
}

/* What a burst of writes took is kept for the next one for as long as writes follow each other. */
static void wait_idle(vx_fs *fs, int64_t now)
{
    if (!fs->untrimmed) {
        pthread_cond_wait(&fs->work, &fs->lock);
        return;
    }
    struct timespec t = {.tv_sec = now / 1000000000 + TRIM_AFTER_S, .tv_nsec = now % 1000000000};
    if (pthread_cond_timedwait(&fs->work, &fs->lock, &t) == ETIMEDOUT) {
        if (fs->o.pool)
            vx_pool_trim(fs->o.pool);
        fs->untrimmed = 0;
    }
}

static void wait_for_work(vx_fs *fs, int64_t now)
{
    if (!anything_dirty(fs) && fs->durable >= fs->committed && !fs->tails_torn && !vx_reclaim_wanted(fs)) {
        wait_idle(fs, now);
        return;
    }
    int64_t delay = (int64_t)fs->o.commit_delay_ms * 1000000;
    int64_t until = fs->commit_err || fs->tails_torn ? fs->retry_ns : fs->first_dirty_ns ? fs->first_dirty_ns + delay : now + delay;
    if (until < now + 1000000)
        until = now + 1000000;
    struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    fs->armed = fs->first_dirty_ns != 0;
    pthread_cond_timedwait(&fs->work, &fs->lock, &t);
    fs->armed = 0;
}

static void checkpoint(vx_fs *fs)
{
    while (fs->committing)
        pthread_cond_wait(&fs->changed, &fs->lock);
    fs->committing = 1;
    vx_meta_refresh(fs->meta); /* the reader lets go of its old view of the log */
    vx_space_look(fs);
    int shorten = vx_space_short(fs);
    pthread_mutex_unlock(&fs->lock);
    int rc = vx_meta_checkpoint(fs->meta, shorten);
    pthread_mutex_lock(&fs->lock);
    vx_space_look(fs);
    if (rc && rc != -EBUSY) /* a backup reads the log: it stays as long as it is */
        note_failure(fs, rc, "metadata");
    fs->committing = 0;
    pthread_cond_broadcast(&fs->changed);
}

/* What opening or a failed sync kept from its segments goes there also when no commit comes that would bring it. */
static void mend_tails(vx_fs *fs)
{
    while (fs->committing)
        pthread_cond_wait(&fs->changed, &fs->lock);
    fs->committing = 1;
    pthread_mutex_unlock(&fs->lock);
    int rc = vx_tail_sync(fs);
    pthread_mutex_lock(&fs->lock);
    if (rc)
        vx_tail_tell(fs, rc);
    fs->retry_ns = monotonic() + SYNC_EVERY_S * 1000000000ll;
    fs->committing = 0;
    pthread_cond_broadcast(&fs->changed);
}

void *vx_committer(void *ctx)
{
    vx_fs *fs = ctx;
    pthread_mutex_lock(&fs->lock);
    while (!fs->stopping) {
        int64_t now = monotonic();
        if (due(fs, now)) {
            fs->want_commit = 0;
            if (vx_commit_until(fs, fs->batch_pending && !fs->committing ? fs->batch_epoch : fs->epoch, 0))
                fs->retry_ns = monotonic() + 1000000000;
        } else if (!fs->commit_err && log_is_long(fs)) {
            checkpoint(fs);
        } else if (fs->durable < fs->committed &&
                   ((vx_space_short(fs) && !fs->commit_err) || now - fs->synced_ns > SYNC_EVERY_S * 1000000000ll)) {
            (void)sync_log(fs);
        } else if (fs->tails_torn && now >= fs->retry_ns) {
            mend_tails(fs);
        } else if (!vx_reclaim_step(fs)) {
            wait_for_work(fs, now);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}
