/* Opening, closing and describing a volume. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "vexfs/codec.h"
#include "vexfs/commit.h"
#include "vexfs/io.h"

static int say(char *message, size_t size, const char *what, const char *where, int rc)
{
    if (size)
        snprintf(message, size, "%s: %s: %s", where, what, strerror(-rc));
    return rc;
}

static void conditions(vx_fs *fs)
{
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&fs->changed, &a);
    pthread_cond_init(&fs->work, &a);
    pthread_cond_init(&fs->event, &a);
    pthread_condattr_destroy(&a);
    pthread_mutex_init(&fs->lock, NULL);
}

static char *joined(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 2;
    char *p = malloc(n);
    if (p)
        snprintf(p, n, "%s/%s", dir, name);
    return p;
}

/* -- what the metadata says ------------------------------------------------------------------------------------ */

static int load_segment(void *ctx, uint32_t seg, const void *row, size_t n)
{
    vx_fs *fs = ctx;
    uint64_t v[4];
    vx_segment_row *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    if (n != sizeof v) {
        free(s);
        return -EBADMSG;
    }
    memcpy(v, row, sizeof v);
    *s = (vx_segment_row){.raw_total = v[0], .raw_live = v[1], .used = v[2], .seg = seg};
    if (vx_hmap_put(&fs->segments, seg, (uintptr_t)s)) {
        free(s);
        return -ENOMEM;
    }
    return 0;
}

static int load_state(vx_fs *fs)
{
    int64_t next_ino = 0, epoch = 0, files = 0, used = 0;
    const void *key;
    size_t n;
    int rc = vx_meta_get_int(fs->meta, "next_ino", &next_ino);
    if (!rc)
        rc = vx_meta_get_int(fs->meta, "epoch", &epoch);
    if (!rc)
        rc = vx_meta_get_int(fs->meta, "files", &files);
    if (!rc && vx_meta_get_int(fs->meta, "used", &used))
        used = 0;
    if (!rc)
        rc = vx_meta_get_blob(fs->meta, "hash_key", &key, &n);
    if (!rc && n != sizeof fs->hash_key)
        rc = -EBADMSG;
    if (rc)
        return rc == -ENOENT ? -EBADMSG : rc;
    memcpy(fs->hash_key, key, n);
    fs->next_ino = (uint64_t)next_ino;
    fs->committed = fs->durable = (uint64_t)epoch;
    fs->epoch = (uint64_t)epoch + 1;
    fs->files = (uint64_t)files;
    fs->used_bytes = (uint64_t)used;
    return vx_meta_scan_segments(fs->meta, load_segment, fs);
}

static int make_root(vx_fs *fs)
{
    vx_inode *i;
    fs->epoch = 1;
    fs->next_ino = VX_ROOT_INO + 1;
    fs->files = 1;
    int rc = vx_random(fs->hash_key, sizeof fs->hash_key);
    if (!rc)
        rc = vx_meta_begin(fs->meta);
    if (!rc)
        rc = vx_meta_put_blob(fs->meta, "hash_key", fs->hash_key, sizeof fs->hash_key);
    if (!rc)
        rc = vx_meta_commit(fs->meta);
    if (!rc)
        rc = vx_inode_new(fs, VX_ROOT_INO, &i);
    if (rc)
        return rc;
    i->a.mode = S_IFDIR | 0755;
    i->a.nlink = 2;
    i->a.uid = fs->o.root_uid;
    i->a.gid = fs->o.root_gid;
    i->a.atime_ns = i->a.mtime_ns = i->a.ctime_ns = i->a.btime_ns = vx_now();
    i->parent = VX_ROOT_INO;
    i->flags = VX_I_NEW;
    vx_inode_dirty(fs, i);
    pthread_mutex_lock(&fs->lock);
    rc = vx_commit_until(fs, fs->epoch, 1);
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

/* Segment files that no commit names are left over from a crash; tails behind the last named frame too. */
static int tidy_segments(vx_fs *fs, uint32_t *next)
{
    DIR *d = opendir(fs->segments_dir);
    if (!d)
        return -errno;
    struct dirent *e;
    while ((e = readdir(d))) {
        unsigned seg;
        int end = 0;
        if (sscanf(e->d_name, "%8x.seg%n", &seg, &end) != 1 || end != (int)strlen(e->d_name) || end != 12)
            continue;
        if (seg >= *next)
            *next = seg + 1;
        if (fs->read_only)
            continue;
        vx_segment_row *s = (vx_segment_row *)vx_hmap_get(&fs->segments, seg);
        if (!s) {
            char *path = joined(fs->segments_dir, e->d_name);
            if (path)
                (void)vx_io_unlink(path);
            free(path);
        }
    }
    closedir(d);
    for (size_t k = 0; k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        if (s && s->seg >= *next)
            *next = s->seg + 1;
    }
    return 0;
}

static void trim_segments(vx_fs *fs)
{
    for (size_t k = 0; k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        uint64_t size = s ? vx_segstore_size(fs->store, s->seg) : 0;
        if (s && size > s->used)
            (void)vx_segstore_trim(fs->store, s->seg, s->used); /* a tail that stays costs space, nothing else */
    }
}

typedef struct {
    uint64_t *ino;
    size_t n, cap;
} inos_t;

static int take_ino(void *ctx, uint64_t ino)
{
    inos_t *a = ctx;
    if (a->n == a->cap) {
        size_t cap = a->cap * 2 + 64;
        uint64_t *p = realloc(a->ino, cap * sizeof *p);
        if (!p)
            return -ENOMEM;
        a->ino = p;
        a->cap = cap;
    }
    a->ino[a->n++] = ino;
    return 0;
}

/* Files that were unlinked but open when the volume was last used. */
static int reap_orphans(vx_fs *fs)
{
    inos_t a = {NULL, 0, 0};
    int rc = vx_meta_scan_orphans(fs->meta, take_ino, &a);
    pthread_mutex_lock(&fs->lock);
    for (size_t k = 0; k < a.n && rc >= 0; k++) {
        vx_inode *i;
        if (!vx_inode_get(fs, a.ino[k], &i)) {
            vx_inode_maybe_delete(fs, i);
            vx_mutated(fs, a.ino[k]);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    free(a.ino);
    return rc < 0 ? rc : 0;
}

/* -- open and close -------------------------------------------------------------------------------------------- */

static int open_store(vx_fs *fs, const vx_fs_options *o)
{
    uint32_t next = 1;
    int rc = tidy_segments(fs, &next);
    if (rc)
        return rc;
    vx_segstore_options so = {.dir = fs->segments_dir, .key = o->data_key, .segment_bytes = fs->o.segment_bytes,
                              .cache_bytes = o->cache_bytes, .compression = o->compression,
                              .direct_io = o->direct_io, .io_depth = o->io_depth, .read_only = o->read_only,
                              .next_segment = next, .pool = o->pool};
    rc = vx_segstore_open(&fs->store, &so);
    if (!rc && !fs->read_only)
        trim_segments(fs);
    return rc;
}

static void destroy(vx_fs *fs)
{
    vx_cache_free(fs);
    if (fs->store)
        vx_segstore_close(fs->store);
    if (fs->meta)
        vx_meta_close(fs->meta);
    for (int k = 0; k < VX_WATCHERS; k++)
        free(fs->watchers[k].ring);
    free(fs->batch.data);
    free(fs->oplog.data);
    free(fs->frozen_oplog.data);
    free(fs->dir);
    free(fs->segments_dir);
    pthread_cond_destroy(&fs->changed);
    pthread_cond_destroy(&fs->work);
    pthread_cond_destroy(&fs->event);
    pthread_mutex_destroy(&fs->lock);
    free(fs);
}

static int open_parts(vx_fs *fs, const vx_fs_options *o, char *message, size_t size)
{
    char *db = joined(fs->dir, "meta.db");
    if (!db || vx_cache_init(fs)) {
        free(db);
        return say(message, size, "out of memory", fs->dir, -ENOMEM);
    }
    vx_meta_options mo = {.path = db, .key = o->meta_key, .create = o->create, .read_only = o->read_only};
    int rc = vx_meta_open(&fs->meta, &mo);
    if (rc) {
        const char *why = vx_meta_error(fs->meta);
        if (*why)
            snprintf(message, size, "%s", why);
        else
            say(message, size, "cannot be opened", db, rc);
    }
    free(db);
    if (rc)
        return rc;
    if (!o->create) {
        rc = load_state(fs);
        if (rc)
            return say(message, size, "meta.db lacks the volume's state; run fsck --repair or restore a backup",
                       fs->dir, rc);
        /* What a killed process committed may not be on stable storage yet, and is called durable from here on. */
        rc = vx_meta_sync(fs->meta);
        if (rc)
            return say(message, size, vx_meta_error(fs->meta), fs->dir, rc);
        rc = fs->read_only ? 0 : vx_tail_settle(fs);
        if (rc)
            vx_tail_tell(fs, rc); /* it opens all the same: to remove something may be what makes room */
    }
    rc = open_store(fs, o);
    if (rc)
        return say(message, size, "segments cannot be opened", fs->segments_dir, rc);
    if (fs->read_only && (rc = vx_tail_lend(fs)))
        return say(message, size, vx_meta_error(fs->meta), fs->dir, rc);
    if (o->create) {
        rc = make_root(fs);
        if (rc)
            return say(message, size, "the root directory cannot be written", fs->dir, rc);
    }
    return 0;
}

int vx_fs_open_volume(vx_fs **out, const vx_fs_options *o, char *message, size_t size)
{
    vx_fs *fs = calloc(1, sizeof *fs);
    if (!fs)
        return say(message, size, "out of memory", o->dir, -ENOMEM);
    fs->o = *o;
    fs->o.meta_key = fs->o.data_key = NULL;
    fs->read_only = o->read_only != 0;
    if (!fs->o.dirty_limit)
        fs->o.dirty_limit = 64u << 20;
    if (fs->o.cache_bytes && fs->o.prefetch_bytes > fs->o.cache_bytes / 4) /* further ahead it is gone when it is wanted */
        fs->o.prefetch_bytes = fs->o.cache_bytes / 4;
    if (!fs->o.log_limit)
        fs->o.log_limit = 32u << 20;
    if (!fs->o.commit_ops)
        fs->o.commit_ops = 10000;
    if (!fs->o.commit_delay_ms)
        fs->o.commit_delay_ms = 1000;
    if (fs->o.inode_cache < 256)
        fs->o.inode_cache = 256;
    fs->dir = strdup(o->dir);
    if (fs->dir)
        vx_space_begin(fs);
    fs->segments_dir = joined(o->dir, "segments");
    conditions(fs);
    int rc = fs->dir && fs->segments_dir ? open_parts(fs, o, message, size)
                                         : say(message, size, "out of memory", o->dir, -ENOMEM);
    if (!rc && !fs->read_only) {
        rc = reap_orphans(fs);
        if (!rc)
            rc = -pthread_create(&fs->committer, NULL, vx_committer, fs);
        fs->committer_runs = !rc;
        if (rc)
            say(message, size, "cannot start", fs->dir, rc);
    }
    if (!rc && o->bridge)
        rc = vx_bridge_handler(o->bridge, VX_KIND_MUTATION, vx_fs_on_mutations, fs);
    if (rc) {
        if (fs->committer_runs)
            (void)vx_fs_close_volume(fs);
        else
            destroy(fs);
        return rc;
    }
    *out = fs;
    return 0;
}

int vx_fs_close_volume(vx_fs *fs)
{
    int rc = 0;
    pthread_mutex_lock(&fs->lock);
    fs->stopping = 1;
    pthread_cond_broadcast(&fs->work);
    pthread_cond_broadcast(&fs->changed);
    pthread_mutex_unlock(&fs->lock);
    if (fs->committer_runs)
        pthread_join(fs->committer, NULL);
    if (fs->o.bridge)
        (void)vx_bridge_handler(fs->o.bridge, VX_KIND_MUTATION, NULL, NULL);
    pthread_mutex_lock(&fs->lock);
    if (!fs->read_only) {
        for (vx_inode *i = fs->inode_head, *next; i; i = next) {
            next = i->lnext;
            i->opens = 0;
            vx_hmap_del(&fs->lookups, i->a.ino);
            vx_inode_maybe_delete(fs, i);
        }
        rc = vx_commit_until(fs, fs->epoch, 1);
        while (!rc && vx_reclaim_empty(fs, UINT32_MAX))
            rc = vx_commit_until(fs, fs->epoch, 1);
        if (!rc) {
            if (fs->tails_bytes)
                (void)vx_tail_settle(fs); /* or the log keeps them, for whoever opens the volume next */
            vx_meta_refresh(fs->meta);
            rc = vx_meta_checkpoint(fs->meta, 1);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    destroy(fs);
    return rc;
}

/* -- describing ------------------------------------------------------------------------------------------------ */

int vx_fs_statfs(vx_fs *fs, vx_statfs *out)
{
    vx_frame f;
    struct statvfs v;
    if (statvfs(fs->dir, &v))
        return -errno;
    vx_op_enter(fs, &f, VX_OP_STATFS);
    uint64_t used = fs->used_bytes - fs->going_bytes + fs->dirty_bytes + fs->frozen_bytes;
    uint64_t host = (uint64_t)v.f_bavail * v.f_frsize, kept = vx_space_kept(fs);
    uint64_t room = host, open = host > kept ? host - kept : 0, limit = fs->o.size_limit;
    if (limit && limit < used + room)
        room = limit > used ? limit - used : 0;
    out->blocks = (limit ? limit : used + host) / VX_PAGE;
    out->bfree = room / VX_PAGE;
    out->bavail = (open < room ? open : room) / VX_PAGE; /* what is kept for reclaim can be written by nobody */
    out->files = fs->files + room / VX_PAGE;
    out->ffree = room / VX_PAGE;
    return vx_op_leave(fs, &f, 0);
}

void vx_fs_read_status(vx_fs *fs, vx_fs_status *out)
{
    vx_segstore_stats st;
    struct statvfs v;
    vx_segstore_read_stats(fs->store, &st);
    uint64_t host = statvfs(fs->dir, &v) ? 0 : (uint64_t)v.f_bavail * v.f_frsize;
    pthread_mutex_lock(&fs->lock);
    *out = fs->s;
    out->files = fs->files;
    out->inodes_cached = fs->inodes.used;
    out->dentries_cached = fs->dentries;
    out->regions_cached = fs->nregions;
    out->used_bytes = fs->used_bytes - fs->going_bytes;
    out->limit_bytes = fs->o.size_limit;
    out->free_bytes = host;
    out->disk_bytes = st.disk_bytes;
    out->data_hits = st.cache_hits;
    out->data_misses = st.cache_misses;
    out->cached_bytes = st.cache_bytes;
    out->prefetches = st.prefetches;
    out->direct_io = st.direct_io;
    for (size_t k = 0; k <= fs->segments.mask; k++) {
        vx_segment_row *s = (vx_segment_row *)fs->segments.cells[k].value;
        if (!s || s->gone)
            continue;
        out->live_bytes += s->raw_live;
        out->dead_bytes += s->raw_total - s->raw_live;
        out->segments++;
    }
    out->dirty_bytes = fs->dirty_bytes;
    out->frozen_bytes = fs->frozen_bytes;
    out->dirty_ops = fs->dirty_ops;
    out->epoch = fs->epoch;
    out->committed = fs->committed;
    out->forgotten = __atomic_load_n(&fs->forgotten, __ATOMIC_SEQ_CST);
    out->durable = fs->durable;
    if (!fs->commit_err && !fs->tails_torn) {
        out->last_error = 0;
        out->last_error_text[0] = 0;
    }
    pthread_mutex_unlock(&fs->lock);
}

void vx_fs_drop_caches(vx_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    vx_cache_drop(fs);
    pthread_mutex_unlock(&fs->lock);
    vx_segstore_drop_cache(fs->store);
}

int vx_fs_hold(vx_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    fs->held++;
    int rc = fs->read_only ? 0 : vx_commit_until(fs, fs->epoch, 1);
    if (rc)
        fs->held--;
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

void vx_fs_unhold(vx_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    fs->held--;
    vx_wake_committer(fs);
    pthread_mutex_unlock(&fs->lock);
}

int vx_fs_backup_meta(vx_fs *fs, const char *path, int (*progress)(void *ctx, int done, int total), void *ctx)
{
    return vx_meta_backup(fs->meta, path, progress, ctx);
}

int vx_fs_changes(vx_fs *fs, uint64_t since, uint32_t limit, vx_change_fn fn, void *ctx)
{
    pthread_mutex_lock(&fs->lock);
    int rc = fs->read_only ? 0 : vx_commit_until(fs, fs->epoch, 0);
    if (!rc) {
        vx_meta_refresh(fs->meta);
        fs->meta_stale = 0;
        rc = vx_meta_scan_oplog(fs->meta, since, limit, fn, ctx);
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}
