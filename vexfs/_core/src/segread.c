/* Reading: through the cache of decoded frames; what is missing is loaded side by side, by one reader for all. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "segstore.h"
#include "vexfs/io.h"

#define AT_ONCE 32u          /* frames of one call whose entries are held at the same time */
#define POOLED_MAX (16u << 10) /* stored bytes are read into pool memory up to here */

typedef struct {
    uint8_t *bytes; /* the allocation */
    uint8_t *frame; /* in it */
    size_t size;
    int pooled;
} raw_frame;

static void drop_raw(vx_segstore *s, raw_frame *r)
{
    if (r->pooled)
        vx_pool_release(s->pool, r->bytes, r->size);
    else
        free(r->bytes);
    r->bytes = NULL;
}

int vx_segstore_lend(vx_segstore *s, uint32_t seg, uint32_t pos, const void *data, size_t n)
{
    vx_lent *l = n <= UINT32_MAX - pos ? malloc(sizeof *l + n) : NULL;
    if (!l)
        return -ENOMEM;
    *l = (vx_lent){.next = s->lent, .seg = seg, .pos = pos, .n = (uint32_t)n};
    memcpy(l->bytes, data, n);
    s->lent = l;
    vx_segfile *f = vx_segfile_find(s, seg);
    if (f && f->good < pos + (uint64_t)n)
        f->good = f->end = pos + (uint64_t)n;
    return 0;
}

void vx_lent_free(vx_segstore *s)
{
    for (vx_lent *l = s->lent, *next; l; l = next) {
        next = l->next;
        free(l);
    }
}

size_t vx_lent_lay(const vx_segstore *s, uint32_t seg, uint64_t from, uint8_t *bytes, size_t got, size_t n)
{
    for (const vx_lent *l = s->lent; l; l = l->next) {
        uint64_t end = (uint64_t)l->pos + l->n, a = l->pos > from ? l->pos : from, b = end < from + n ? end : from + n;
        if (l->seg != seg || a >= b)
            continue;
        if (got < n)
            memset(bytes + got, 0, n - got);
        memcpy(bytes + (a - from), l->bytes + (a - l->pos), b - a);
        got = n;
    }
    return got;
}

/* The stored bytes of a frame; direct I/O reads the blocks around it. */
static int read_raw(vx_segstore *s, int fd, const vx_frame_get *g, raw_frame *r)
{
    uint64_t unit = s->direct ? VX_SEG_BLOCK : VX_FRAME_ALIGN;
    uint64_t from = s->direct ? g->pos & ~(uint64_t)(VX_SEG_BLOCK - 1) : g->pos;
    uint64_t need = (uint64_t)g->pos + g->stored - from;
    r->size = (size_t)((need + unit - 1) & ~(unit - 1));
    r->pooled = s->pool && !s->direct && r->size <= POOLED_MAX;
    r->bytes = r->pooled ? vx_pool_acquire(s->pool, r->size, VX_TAG_FRAME) : aligned_alloc(unit, r->size);
    if (!r->bytes)
        return -ENOMEM;
    r->frame = r->bytes + (g->pos - from);
    ssize_t got = vx_io_pread(fd, r->bytes, s->direct ? r->size : need, (off_t)from);
    if (got >= 0)
        got = (ssize_t)vx_lent_lay(s, g->seg, from, r->bytes, (size_t)got, need);
    int err = got < 0 ? (int)got : (uint64_t)got < need ? -EBADMSG : 0;
    if (err)
        drop_raw(s, r);
    return err;
}

/* Gives the decoded data to the entry: unpacked, copied out of pool memory, or with the very buffer it was read to. */
static int hand_over(vx_segstore *s, raw_frame *r, const vx_frame_head *h, vx_cached *e)
{
    const uint8_t *data = r->frame + VX_FRAME_HEADER;
    int err = 0;
    if (h->compression || r->pooled) {
        size_t size = (size_t)vx_frame_aligned(h->raw_len);
        uint8_t *to = aligned_alloc(VX_FRAME_ALIGN, size);
        if (!to)
            err = -ENOMEM;
        else if (h->compression)
            err = vx_unlz4(data, h->stored - VX_FRAME_HEADER, to, h->raw_len);
        else
            memcpy(to, data, h->raw_len);
        drop_raw(s, r);
        if (err) {
            free(to);
            return err;
        }
        e->base = to;
        e->base_n = size;
        e->data = to;
    } else {
        e->base = r->bytes;
        e->base_n = r->size;
        e->data = data;
    }
    return 0;
}

static int load_from(vx_segstore *s, vx_segfile *f, const vx_frame_get *g, vx_cached *e)
{
    raw_frame r;
    vx_frame_head h;
    int err = read_raw(s, f->fd, g, &r);
    if (err)
        return err;
    err = vx_frame_open(r.frame, g->stored, f->aead, g->seg, g->pos, &h);
    if (!err && (h.ino != g->ino || h.off != g->off))
        err = -EBADMSG;
    if (err) {
        drop_raw(s, &r);
        return err;
    }
    e->ino = h.ino;
    e->off = h.off;
    e->stored = h.stored;
    e->raw_len = h.raw_len;
    return hand_over(s, &r, &h, e);
}

/* Loads a claimed entry and publishes it. */
static int load(vx_segstore *s, const vx_frame_get *g, vx_cached *e)
{
    vx_segfile *f;
    int err = g->stored < VX_FRAME_HEADER || g->stored > VX_FRAME_STORED_MAX ? -EBADMSG : 0;
    if (!err && !(err = vx_segfile_get(s, g->seg, &f))) {
        err = load_from(s, f, g, e);
        vx_segfile_put(s, f);
    }
    if (err == -EBADMSG)
        vx_count(&s->count.checksum_errors, 1);
    if (!err) {
        vx_count(&s->count.frames_read, 1);
        vx_count(&s->count.bytes_read, e->raw_len);
    }
    vx_framecache_publish(s->cache, e, err);
    return err;
}

/* From a published entry to the reader. */
static int copy_out(vx_segstore *s, const vx_frame_get *g, const vx_cached *e)
{
    if (e->ino != g->ino || e->off != g->off || e->stored != g->stored ||
        (uint64_t)g->skip + g->len > e->raw_len) {
        vx_count(&s->count.checksum_errors, 1);
        return -EBADMSG; /* the frame is whole, but not the one that was asked for */
    }
    memcpy(g->dst, e->data + g->skip, g->len);
    return 0;
}

/* The frames of one call that are missing. */
typedef struct {
    vx_segstore *store;
    vx_frame_get *gets;
    vx_cached *entries[AT_ONCE];
    uint8_t missing[AT_ONCE], found[AT_ONCE];
} group;

static void load_missing(void *ctx, uint32_t part)
{
    group *g = ctx;
    uint32_t i = g->missing[part];
    vx_frame_get *get = &g->gets[i];
    get->err = load(g->store, get, g->entries[i]);
    if (!get->err)
        get->err = copy_out(g->store, get, g->entries[i]);
    vx_framecache_release(g->store->cache, g->entries[i]);
}

static void read_group(vx_segstore *s, vx_frame_get *gets, uint32_t n)
{
    group g = {.store = s, .gets = gets};
    uint32_t missing = 0, loading = 0;
    for (uint32_t i = 0; i < n; i++) {
        g.found[i] = (uint8_t)vx_framecache_find(s->cache, gets[i].seg, gets[i].pos, &g.entries[i]);
        gets[i].err = 0;
        if (g.found[i] == VX_FOUND_READY) {
            vx_count(&s->count.cache_hits, 1);
            gets[i].err = copy_out(s, &gets[i], g.entries[i]);
            vx_framecache_release(s->cache, g.entries[i]);
            continue;
        }
        vx_count(&s->count.cache_misses, 1);
        if (g.found[i] == VX_FOUND_CLAIMED)
            g.missing[missing++] = (uint8_t)i;
        else if (g.found[i] == VX_FOUND_LOADING)
            loading++;
        else
            gets[i].err = -ENOMEM;
    }
    if (missing)
        vx_workers_share(s->workers, load_missing, &g, missing, s->io_threads);
    /* Last, for a frame that this call claimed twice is loaded by now. */
    for (uint32_t i = 0; i < n && loading; i++) {
        if (g.found[i] != VX_FOUND_LOADING)
            continue;
        gets[i].err = vx_framecache_wait(s->cache, g.entries[i]);
        if (!gets[i].err)
            gets[i].err = copy_out(s, &gets[i], g.entries[i]);
        vx_framecache_release(s->cache, g.entries[i]);
        loading--;
    }
}

int vx_segstore_read(vx_segstore *s, vx_frame_get *gets, size_t n)
{
    int err = 0;
    for (size_t at = 0; at < n; at += AT_ONCE)
        read_group(s, gets + at, n - at < AT_ONCE ? (uint32_t)(n - at) : AT_ONCE);
    for (size_t i = 0; i < n && !err; i++)
        err = gets[i].err;
    return err;
}

/* -- ahead of the reader -------------------------------------------------------------------------------------- */

void vx_segstore_prefetch(vx_segstore *s, const vx_frame_get *gets, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pthread_mutex_lock(&s->prefetch_lock);
        int queued = s->prefetch_n < VX_PREFETCH_MAX; /* a hint that finds the queue full is dropped */
        if (queued)
            s->prefetch[(s->prefetch_head + s->prefetch_n++) % VX_PREFETCH_MAX] = gets[i];
        pthread_mutex_unlock(&s->prefetch_lock);
        if (!queued)
            return;
        vx_workers_nudge(s->workers);
    }
}

void vx_segstore_run_prefetch(void *store)
{
    vx_segstore *s = store;
    vx_frame_get g;
    vx_cached *e;
    pthread_mutex_lock(&s->prefetch_lock);
    int any = s->prefetch_n > 0;
    if (any) {
        g = s->prefetch[s->prefetch_head];
        s->prefetch_head = (s->prefetch_head + 1) % VX_PREFETCH_MAX;
        s->prefetch_n--;
    }
    pthread_mutex_unlock(&s->prefetch_lock);
    if (!any)
        return;
    enum vx_found found = vx_framecache_find_ahead(s->cache, g.seg, g.pos, &e);
    if (found == VX_FOUND_NOMEM)
        return;
    if (found == VX_FOUND_CLAIMED) {
        vx_count(&s->count.prefetches, 1);
        load(s, &g, e); /* a reader who wants it meets the error himself */
    }
    vx_framecache_release(s->cache, e);
}
