/* The tails of segments: from the log to where they belong. */
#include "vexfs/meta_impl.h"

#include "vexfs/io.h"
#include "vexfs/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    vx_meta *m;
    const char *dir;
    char *path; /* of the segment that is open, or is not there */
    uint8_t *there;
    size_t room;
    uint32_t seg;
    int fd, tails;
} settling;

/* What was written before, by whomever, becomes durable too. */
static int end_segment(settling *s)
{
    int rc = s->fd >= 0 ? vx_io_fdatasync(s->fd) : 0;
    if (s->fd >= 0)
        vx_io_close(s->fd);
    if (rc)
        vx_meta_say(s->m, rc, "%s: %s while syncing", s->path, strerror(-rc));
    s->fd = -1;
    s->seg = 0;
    return rc;
}

static int begin_segment(settling *s, uint32_t seg)
{
    int rc = end_segment(s);
    if (rc)
        return rc;
    snprintf(s->path, strlen(s->dir) + 16, "%s/%08x.seg", s->dir, seg);
    s->seg = seg;
    s->fd = vx_io_open(s->path, O_RDWR, 0);
    if (s->fd == -EROFS || s->fd == -EACCES)
        s->fd = vx_io_open(s->path, O_RDONLY, 0); /* enough where nothing is missing */
    if (s->fd < 0 && s->fd != -ENOENT) /* a segment may have been emptied and removed since */
        return vx_meta_say(s->m, s->fd, "%s: %s", s->path, strerror(-s->fd));
    return 0;
}

static int settle(settling *s, uint32_t pos, const void *data, size_t n)
{
    if (s->room < n) {
        uint8_t *more = realloc(s->there, n);
        if (!more)
            return -ENOMEM;
        s->there = more;
        s->room = n;
    }
    ssize_t got = vx_io_pread(s->fd, s->there, n, pos);
    if (got == (ssize_t)n && memcmp(s->there, data, n) == 0)
        return 0;
    int rc = got < 0 ? (int)got : vx_io_pwrite(s->fd, data, n, pos);
    return rc ? vx_meta_say(s->m, rc, "%s: %s at byte %u, where the log has what belongs there", s->path, strerror(-rc),
                            pos) : 0;
}

static int settle_row(void *ctx, uint64_t place, const void *data, size_t n)
{
    settling *s = ctx;
    uint32_t seg = (uint32_t)(place >> 32), pos = (uint32_t)place;
    if (!seg || pos < VX_SEG_BLOCK || pos + (uint64_t)n > UINT32_MAX)
        return vx_meta_say(s->m, -EBADMSG, "%s: a tail of segment %u at byte %u cannot be; run 'vexctl volume fsck "
                           "--repair'", s->m->path, seg, pos);
    int rc = s->seg == seg ? 0 : begin_segment(s, seg);
    s->tails++;
    return rc || s->fd < 0 ? rc : settle(s, pos, data, n);
}

int vx_meta_settle_tails(vx_meta *m, const char *dir)
{
    settling s = {.m = m, .dir = dir, .path = malloc(strlen(dir) + 16), .fd = -1};
    int rc = s.path ? vx_meta_scan_tails(m, settle_row, &s) : -ENOMEM;
    int synced = end_segment(&s);
    free(s.path);
    free(s.there);
    return rc ? rc : synced ? synced : s.tails;
}
