/* Appending: frames are gathered into batches, encoded side by side, and each batch is one write.
 *
 * A place in a segment is handed out once and never again, also when the write to it fails: the place is the nonce. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "segstore.h"
#include "vexfs/io.h"

#define BATCH_BYTES (1u << 20)
#define BATCH_BYTES_MIN (256u << 10)
#define BATCH_FRAMES 256u
/* A batch from here on is written past the page cache: copying it there costs as much as everything else together, and
 * who reads it soon finds it in the cache of whoever wrote it. */
#define BULK_BYTES (256u << 10)
#define BATCH_PIECES 2048u /* iovecs of a batch that is written from where its bytes stand */
#define STAGING_BYTES (BATCH_BYTES + VX_FRAME_MAX + BATCH_FRAMES * 2 * VX_FRAME_HEADER + 2 * VX_SEG_BLOCK)
#define STAGING_KEPT 4

/* One call of vx_segstore_append. */
typedef struct {
    vx_segstore *store;
    pthread_mutex_t lock;
    vx_frame_put *puts;
    size_t n, next;
    uint64_t left; /* bytes that have no place yet; under append_lock */
    int compressed;
    size_t batch_bytes;
    int err;
} call;

typedef struct {
    vx_segfile *file;
    uint32_t pos, bytes;
} region;

_Static_assert(STAGING_BYTES >= BATCH_PIECES * sizeof(struct iovec) + BATCH_FRAMES * VX_FRAME_HEADER,
               "a batch written in pieces keeps its headers and iovecs in the staging memory");

static vx_staging *take_staging(vx_segstore *s)
{
    pthread_mutex_lock(&s->staging_lock);
    vx_staging *st = s->staging;
    if (st)
        s->staging = st->next;
    pthread_mutex_unlock(&s->staging_lock);
    if (st)
        return st;
    st = malloc(sizeof *st);
    if (st && !(st->bytes = aligned_alloc(VX_SEG_BLOCK, STAGING_BYTES))) {
        free(st);
        st = NULL;
    }
    return st;
}

static void put_staging(vx_segstore *s, vx_staging *st)
{
    int kept = 0;
    pthread_mutex_lock(&s->staging_lock);
    for (vx_staging *at = s->staging; at; at = at->next)
        kept++;
    if (kept < STAGING_KEPT) {
        st->next = s->staging;
        s->staging = st;
        st = NULL;
    }
    pthread_mutex_unlock(&s->staging_lock);
    if (st) {
        free(st->bytes);
        free(st);
    }
}

void vx_staging_free(vx_segstore *s)
{
    for (vx_staging *st = s->staging, *next; st; st = next) {
        next = st->next;
        free(st->bytes);
        free(st);
    }
}

/* -- places --------------------------------------------------------------------------------------------------- */

#define ZERO_AHEAD (1u << 20)
#define ZERO_AFTER 4u /* small syncs */

/* An append makes the file longer, and its sync must commit the new length through the host's journal.  Where small
 * syncs follow each other, a stretch of zeros is written ahead, and they only overwrite: half as many again in the same
 * time.  Under append_lock: no place beyond `end` has been handed out yet. */
static void zero_ahead(vx_segstore *s, vx_segfile *f)
{
    uint64_t most = s->segment_bytes & ~(uint64_t)(VX_SEG_BLOCK - 1), to = f->end + ZERO_AHEAD;
    if (to > most)
        to = most;
    vx_staging *st = to > f->end ? take_staging(s) : NULL;
    if (!st)
        return;
    memset(st->bytes, 0, to - f->end);
    int err = vx_io_pwrite(f->fd, st->bytes, to - f->end, (off_t)f->end);
    pthread_mutex_lock(&s->lock);
    f->zeroed = to; /* also after an error, which the frames will meet themselves: seal then cuts what is there */
    f->small_syncs = err ? 0 : f->small_syncs;
    pthread_mutex_unlock(&s->lock);
    put_staging(s, st);
}

/* The host's filesystem writes past its page cache side by side only where a file does not grow: who appends much has
 * room made for it before.  Rather too little than too much: what is left over has to be cut off.  Under append_lock. */
static void allocate_ahead(vx_segstore *s, vx_segfile *f, uint64_t from, uint64_t bytes)
{
    uint64_t most = s->segment_bytes - BATCH_BYTES, to = (from + bytes) & ~(uint64_t)(VX_SEG_BLOCK - 1);
    if (s->segment_bytes < 2 * BATCH_BYTES)
        return;
    to = to < most ? to : most;
    if (to > from && !vx_io_allocate(f->fd, (off_t)from, (off_t)to)) {
        pthread_mutex_lock(&s->lock);
        f->allocated = to;
        pthread_mutex_unlock(&s->lock);
    }
}

/* What a batch takes that has to end with a block. */
static uint32_t padded(const vx_segfile *f, uint32_t bytes, int whole)
{
    return whole ? bytes + (uint32_t)((VX_SEG_BLOCK - (f->end + bytes) % VX_SEG_BLOCK) % VX_SEG_BLOCK) : bytes;
}

/* A place for a batch, in which `raw` bytes of the call became `bytes`; `whole` ones: up to the end of a block,
 * out->bytes says how many. */
static int reserve(call *c, uint64_t raw, uint32_t bytes, int whole, region *out)
{
    vx_segstore *s = c->store;
    int err = 0, zeros = 0, room = 0;
    vx_segfile *ended = NULL;
    pthread_mutex_lock(&s->append_lock);
    c->left -= raw;
    uint64_t ahead = c->compressed ? c->left / 2 : c->left;
    pthread_mutex_lock(&s->lock);
    vx_segfile *f = s->active;
    int full = !f || (f->end > VX_SEG_BLOCK && f->end + padded(f, bytes, whole) > s->segment_bytes);
    if (full) {
        ended = vx_segfile_seal(s);
        pthread_mutex_unlock(&s->lock);
        err = vx_segfile_create(s);
        pthread_mutex_lock(&s->lock);
        f = s->active;
    }
    if (!err) {
        bytes = padded(f, bytes, whole);
        *out = (region){.file = f, .pos = (uint32_t)f->end, .bytes = bytes};
        f->end += bytes;
        f->refs++;
        f->writers++;
        zeros = f->small_syncs >= ZERO_AFTER && bytes <= VX_SMALL_BYTES && f->end > f->zeroed;
        room = whole && ahead >= BATCH_BYTES && f->end > f->allocated;
    }
    pthread_mutex_unlock(&s->lock);
    if (room)
        allocate_ahead(s, f, out->pos, bytes + ahead);
    if (zeros)
        zero_ahead(s, f);
    pthread_mutex_unlock(&s->append_lock);
    vx_segfile_cut(s, ended);
    return err;
}

/* A failed write may have left half a batch behind: nothing more is written to that file, and it is cut back. */
static void cut_broken(vx_segfile *f)
{
    if (f->good == VX_SEG_BLOCK)
        f->deleted = 1; /* by the last reference; nothing names it */
    else
        vx_io_ftruncate(f->fd, (off_t)f->good); /* when it fails the rest is dead bytes, cut at the next open */
    f->zeroed = f->allocated = 0;
}

static void settle(vx_segstore *s, const region *r, int err)
{
    vx_segfile *f = r->file;
    pthread_mutex_lock(&s->lock);
    f->writers--;
    if (err) {
        f->broken = 1;
        if (s->active == f)
            s->active = NULL; /* cut back when the last of its writers is done */
    } else {
        uint64_t end = (uint64_t)r->pos + r->bytes;
        if (end > f->good) {
            s->disk_bytes += end - f->good;
            f->good = end;
        }
        vx_segfile_mark_dirty(s, f);
        s->append_gen++;
    }
    if (f->broken && f->writers == 0)
        cut_broken(f);
    vx_segfile_end_bulk(s, f);
    vx_segfile_drop(s, f);
    vx_segfile_leave(s);
}

/* -- encoding ------------------------------------------------------------------------------------------------- */

static void gather(const vx_frame_put *p, uint8_t *to)
{
    for (uint32_t i = 0; i < p->iovcnt; i++) {
        memcpy(to, p->iov[i].iov_base, p->iov[i].iov_len);
        to += p->iov[i].iov_len;
    }
}

/* The data of a frame to where it will stand; what it was compressed with. */
static uint32_t place_data(const vx_segstore *s, const vx_frame_put *p, uint8_t *data, uint8_t *scratch,
                           uint32_t *data_n)
{
    uint32_t raw = p->raw_len;
    *data_n = raw;
    if (atomic_load_explicit(&s->compression, memory_order_relaxed) && raw >= 64) {
        const uint8_t *from = p->iovcnt == 1 ? p->iov[0].iov_base : scratch;
        if (from == scratch)
            gather(p, scratch);
        size_t packed = vx_lz4(from, raw, data, raw - raw / 8);
        if (packed) {
            *data_n = (uint32_t)packed;
            return 1;
        }
        memcpy(data, from, raw);
    } else {
        gather(p, data);
    }
    return 0;
}

/* Puts the batch together in memory, asks for a place, seals the frames for it and writes it. */
static int write_staged(call *c, vx_frame_put *puts, size_t n, uint64_t raw, vx_staging *st)
{
    vx_segstore *s = c->store;
    uint8_t compression[BATCH_FRAMES];
    uint8_t *scratch = st->bytes + STAGING_BYTES - VX_FRAME_MAX;
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t data_n;
        compression[i] = (uint8_t)place_data(s, &puts[i], st->bytes + at + VX_FRAME_HEADER, scratch, &data_n);
        puts[i].stored = VX_FRAME_HEADER + data_n;
        puts[i].pos = at;
        uint32_t end = at + puts[i].stored;
        at = (uint32_t)vx_frame_aligned(end);
        memset(st->bytes + end, 0, at - end);
    }
    int bulk = s->bulk && at >= BULK_BYTES;
    region r;
    int err = reserve(c, raw, at, s->direct || bulk, &r);
    if (err)
        return err;
    for (size_t i = 0; i < n && !err; i++) {
        vx_frame_head h = {.ino = puts[i].ino, .off = puts[i].off, .raw_len = puts[i].raw_len,
                           .compression = compression[i], .stored = puts[i].stored,
                           .flags = s->encrypted ? VX_FRAME_ENCRYPTED : 0};
        uint8_t *frame = st->bytes + puts[i].pos;
        puts[i].seg = r.file->seg;
        puts[i].pos += r.pos;
        err = vx_frame_seal(frame, r.file->aead, r.file->seg, puts[i].pos, &h);
    }
    if (r.bytes > at)
        vx_frame_pad(st->bytes + at, r.file->seg, r.pos + at, r.bytes - at);
    /* Behind small frames a batch does not begin with a block: it goes the other way, and ends with one for the next. */
    int fd = bulk && r.file->bulk_fd >= 0 && r.pos % VX_SEG_BLOCK == 0 ? r.file->bulk_fd : r.file->fd;
    if (!err)
        err = vx_io_pwrite(fd, st->bytes, r.bytes, r.pos);
    settle(s, &r, err);
    return err;
}

/* Writes plain frames from where their bytes stand. */
static int write_pieces(call *c, vx_frame_put *puts, size_t n, uint64_t raw, vx_staging *st)
{
    vx_segstore *s = c->store;
    static const uint8_t zeros[VX_FRAME_ALIGN];
    uint8_t *headers = st->bytes;
    struct iovec *iov = (struct iovec *)(st->bytes + BATCH_FRAMES * VX_FRAME_HEADER);
    uint64_t total = 0;
    int pieces = 0;
    for (size_t i = 0; i < n; i++)
        total += vx_frame_aligned(VX_FRAME_HEADER + (uint64_t)puts[i].raw_len);
    region r;
    int err = reserve(c, raw, (uint32_t)total, 0, &r);
    if (err)
        return err;
    uint32_t pos = r.pos;
    for (size_t i = 0; i < n; i++) {
        vx_frame_put *p = &puts[i];
        uint8_t *header = headers + i * VX_FRAME_HEADER;
        p->seg = r.file->seg;
        p->pos = pos;
        p->stored = VX_FRAME_HEADER + p->raw_len;
        vx_frame_head h = {.ino = p->ino, .off = p->off, .raw_len = p->raw_len, .stored = p->stored};
        vx_frame_seal_pieces(header, p->seg, pos, &h, p->iov, p->iovcnt);
        iov[pieces++] = (struct iovec){header, VX_FRAME_HEADER};
        memcpy(iov + pieces, p->iov, p->iovcnt * sizeof *iov);
        pieces += (int)p->iovcnt;
        uint32_t next = (uint32_t)vx_frame_aligned((uint64_t)pos + p->stored), gap = next - pos - p->stored;
        if (gap)
            iov[pieces++] = (struct iovec){(void *)(uintptr_t)zeros, gap};
        pos = next;
    }
    err = vx_io_pwritev(r.file->fd, iov, pieces, r.pos);
    settle(s, &r, err);
    return err;
}

static int write_batch(call *c, vx_frame_put *puts, size_t n)
{
    vx_segstore *s = c->store;
    uint64_t pieces = 2 * n, raw = 0, stored = 0;
    vx_staging *st = take_staging(s);
    int err = st ? 0 : -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        pieces += puts[i].iovcnt;
        raw += puts[i].raw_len;
    }
    if (!err) {
        int as_it_stands = !s->direct && !s->encrypted && pieces <= BATCH_PIECES && !(s->bulk && raw >= BULK_BYTES) &&
                           !c->compressed;
        err = as_it_stands ? write_pieces(c, puts, n, raw, st) : write_staged(c, puts, n, raw, st);
        put_staging(s, st);
    }
    for (size_t i = 0; i < n; i++) {
        puts[i].err = err;
        stored += puts[i].stored;
    }
    if (!err) {
        vx_count(&s->count.frames_written, n);
        vx_count(&s->count.bytes_written, raw);
        vx_count(&s->count.bytes_stored, stored);
    }
    return err;
}

/* -- the call ------------------------------------------------------------------------------------------------- */

/* The end of the batch that begins at `from`. */
static size_t batch_end(const call *c, size_t from)
{
    size_t to = from, bytes = 0;
    while (to < c->n && to - from < BATCH_FRAMES && (to == from || bytes + c->puts[to].raw_len <= c->batch_bytes))
        bytes += c->puts[to++].raw_len;
    return to;
}

static void write_next(void *ctx, uint32_t part)
{
    call *c = ctx;
    (void)part; /* batches are taken in order, whoever takes them */
    pthread_mutex_lock(&c->lock);
    size_t from = c->next, to = c->next = batch_end(c, from);
    int err = c->err;
    pthread_mutex_unlock(&c->lock);
    if (err) {
        while (from < to)
            c->puts[from++].err = err;
        return;
    }
    err = write_batch(c, c->puts + from, to - from);
    if (err) {
        pthread_mutex_lock(&c->lock);
        if (!c->err)
            c->err = err;
        pthread_mutex_unlock(&c->lock);
    }
}

static int valid(const vx_frame_put *p)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < p->iovcnt; i++) {
        if (p->iov[i].iov_len > VX_FRAME_MAX)
            return 0;
        sum += p->iov[i].iov_len;
    }
    return p->raw_len > 0 && p->raw_len <= VX_FRAME_MAX && sum == p->raw_len;
}

int vx_segstore_append(vx_segstore *s, vx_frame_put *puts, size_t n)
{
    call c = {.store = s, .puts = puts, .n = n};
    uint64_t raw = 0;
    uint32_t parts = 0;
    for (size_t i = 0; i < n; i++) {
        raw += puts[i].raw_len;
        if (!c.err && !valid(&puts[i]))
            c.err = -EINVAL;
    }
    if (s->read_only)
        c.err = -EROFS;
    if (c.err) {
        for (size_t i = 0; i < n; i++)
            puts[i].err = c.err;
        return c.err;
    }
    c.left = raw;
    c.compressed = atomic_load_explicit(&s->compression, memory_order_relaxed) != 0;
    int coded = s->encrypted || c.compressed;
    uint32_t helpers = coded ? s->cpus - 1 : 0;
    if (s->direct || (s->bulk && raw >= 2 * BULK_BYTES))
        helpers++; /* one encodes while another waits for the disk */
    if (helpers > s->io_threads)
        helpers = s->io_threads;
    uint64_t even = raw / (2 * (helpers + 1)); /* two batches for each, so that none idles for long at the end */
    c.batch_bytes = even < BATCH_BYTES_MIN ? BATCH_BYTES_MIN : even > BATCH_BYTES ? BATCH_BYTES : (size_t)even;
    if (c.batch_bytes > s->segment_bytes / 4)
        c.batch_bytes = s->segment_bytes / 4;
    for (size_t at = 0; at < n; at = batch_end(&c, at))
        parts++;
    pthread_mutex_init(&c.lock, NULL);
    vx_workers_share(s->workers, write_next, &c, parts, helpers);
    pthread_mutex_destroy(&c.lock);
    return c.err;
}
