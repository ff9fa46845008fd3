/* Walking a segment from one end to the other, past damage.
 *
 * The walk reads the file through the page cache with a descriptor of its own, in a window that slides along. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "segstore.h"
#include "vexfs/io.h"

#define WINDOW_BYTES (1u << 20)

typedef struct {
    vx_segstore *store;
    vx_segfile *file;
    int fd, verify;
    uint64_t size;          /* of the file when the walk began */
    uint8_t *window, *frame;
    uint64_t start, filled; /* what of the file stands in the window */
    vx_frame_fn fn;
    void *ctx;
} walk;

/* At least `n` bytes from `pos` on, or as many as the file has: their address and number. */
static int look(walk *w, uint64_t pos, uint64_t n, uint8_t **at, uint64_t *got)
{
    *at = NULL;
    *got = 0;
    if (n > w->size - pos)
        n = w->size - pos;
    if (pos < w->start || pos + n > w->start + w->filled) {
        uint64_t want = w->size - pos < WINDOW_BYTES ? w->size - pos : WINDOW_BYTES;
        ssize_t r = vx_io_pread(w->fd, w->window, want, (off_t)pos);
        if (r < 0)
            return (int)r;
        w->start = pos;
        w->filled = vx_lent_lay(w->store, w->file->seg, pos, w->window, (size_t)r, want);
        if (n > w->filled)
            n = w->filled;
    }
    *at = w->window + (pos - w->start);
    *got = n;
    return 0;
}

static int all_zero(const uint8_t *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (p[i])
            return 0;
    return 1;
}

/* From a place without a frame to the next one: its position, and whether anything but zeros was passed. */
static int resync(walk *w, uint64_t pos, uint64_t *next, int *dirty)
{
    *dirty = 0;
    for (;;) {
        uint8_t *at;
        uint64_t got;
        vx_frame_head h;
        int err = look(w, pos, VX_FRAME_HEADER, &at, &got);
        if (err)
            return err;
        if (got == VX_FRAME_HEADER && vx_frame_peek(at, w->file->seg, (uint32_t)pos, &h) == 0)
            break;
        *dirty |= !all_zero(at, got);
        if (got < VX_FRAME_ALIGN) {
            pos = w->size;
            break;
        }
        pos += VX_FRAME_ALIGN;
    }
    *next = pos;
    return 0;
}

/* Reports the frame at `pos`, whose outer header is good; without the key or a reason to verify, data stays unread. */
static int report(walk *w, uint64_t pos, const vx_frame_head *outer, int *stop)
{
    vx_frame_info info = {.pos = (uint32_t)pos, .stored = outer->stored};
    uint8_t *at;
    uint64_t got;
    vx_frame_head h;
    int err = look(w, pos, outer->stored, &at, &got);
    if (err)
        return err;
    if (w->verify || w->file->aead) {
        if (got)
            memcpy(w->frame, at, got); /* opening decrypts in place; the window must stay as the file is */
        info.err = vx_frame_open(w->frame, got, w->file->aead, w->file->seg, (uint32_t)pos, &h);
    } else {
        info.err = got < outer->stored ? -EBADMSG : vx_frame_inner(at, &h);
    }
    if (info.err) {
        vx_count(&w->store->count.checksum_errors, 1);
    } else {
        info.ino = h.ino;
        info.off = h.off;
        info.raw_len = h.raw_len;
    }
    *stop = w->fn(w->ctx, &info);
    return 0;
}

static int run(walk *w)
{
    uint64_t pos = VX_SEG_BLOCK;
    int stop = 0;
    while (pos < w->size && !stop) {
        uint8_t *at;
        uint64_t got, next;
        vx_frame_head h;
        int err = look(w, pos, VX_FRAME_HEADER, &at, &got), dirty;
        if (err)
            return err;
        if (got == VX_FRAME_HEADER && vx_frame_peek(at, w->file->seg, (uint32_t)pos, &h) == 0) {
            if (!(h.flags & VX_FRAME_PADDING))
                err = report(w, pos, &h, &stop);
            next = vx_frame_aligned(pos + h.stored);
        } else {
            err = resync(w, pos, &next, &dirty);
            if (!err && dirty) {
                vx_frame_info info = {.pos = (uint32_t)pos, .stored = (uint32_t)(next - pos), .err = -EBADMSG};
                vx_count(&w->store->count.checksum_errors, 1);
                stop = w->fn(w->ctx, &info);
            }
        }
        if (err)
            return err;
        pos = next;
    }
    return stop;
}

int vx_segstore_scan(vx_segstore *s, uint32_t seg, int verify, vx_frame_fn fn, void *ctx)
{
    walk w = {.store = s, .verify = verify, .fn = fn, .ctx = ctx};
    int err = vx_segfile_get(s, seg, &w.file);
    if (err)
        return err;
    char *path = vx_segfile_path(s, seg);
    w.window = malloc(WINDOW_BYTES + VX_FRAME_STORED_MAX);
    w.frame = w.window ? w.window + WINDOW_BYTES : NULL;
    w.fd = path && w.window ? vx_io_open(path, O_RDONLY, 0) : -ENOMEM;
    err = w.fd < 0 ? w.fd : 0;
    if (!err) {
        w.size = vx_segstore_size(s, seg);
        err = run(&w);
        vx_io_close(w.fd);
    }
    free(w.window);
    free(path);
    vx_segfile_put(s, w.file);
    return err;
}
