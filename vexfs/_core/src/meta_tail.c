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
    uint64_t odd; /* a place that cannot be */
    uint32_t seg;
    int fd, tails, writable;
    int rc; /* the first failure: what comes after it is brought to its place all the same */
} settling;

static void failed(settling *s, int rc, const char *where)
{
    if (!s->rc)
        s->rc = vx_meta_say(s->m, rc, "%s: %s%s", s->path, strerror(-rc), where);
}

/* What was written before, by whomever, becomes durable too. */
static void end_segment(settling *s)
{
    int rc = s->fd >= 0 ? vx_io_fdatasync(s->fd) : 0;
    if (rc)
        failed(s, rc, " while syncing");
    if (s->fd >= 0)
        vx_io_close(s->fd);
    s->fd = -1;
    s->seg = 0;
}

static void begin_segment(settling *s, uint32_t seg)
{
    end_segment(s);
    snprintf(s->path, strlen(s->dir) + 16, "%s/%08x.seg", s->dir, seg);
    s->seg = seg;
    s->fd = vx_io_open(s->path, O_RDWR, 0);
    s->writable = s->fd >= 0;
    if (s->fd == -EROFS || s->fd == -EACCES || s->fd == -EPERM)
        s->fd = vx_io_open(s->path, O_RDONLY, 0); /* enough where nothing is missing */
    if (s->fd < 0 && s->fd != -ENOENT) /* a segment may have been emptied and removed since */
        failed(s, s->fd, "");
}

/* Whether a tail stands in its place.  A store that is open for writing drops tails afterwards: it writes them without
 * looking, for after a sync that failed the host shows what it does not have on its disk, and writes it no more. */
static int stands(settling *s, uint32_t pos, const void *data, size_t n)
{
    if (s->writable && !s->m->read_only)
        return 0;
    if (s->room < n) {
        uint8_t *more = realloc(s->there, n);
        if (!more)
            return -ENOMEM;
        s->there = more;
        s->room = n;
    }
    ssize_t got = vx_io_pread(s->fd, s->there, n, pos);
    return got < 0 ? (int)got : got == (ssize_t)n && memcmp(s->there, data, n) == 0;
}

static void settle(settling *s, uint32_t pos, const void *data, size_t n)
{
    int rc = stands(s, pos, data, n);
    if (rc == 0)
        rc = s->writable ? vx_io_pwrite(s->fd, data, n, pos) : -EROFS;
    if (rc < 0)
        failed(s, rc, ", where the log has what is missing");
}

static int settle_row(void *ctx, uint64_t place, const void *data, size_t n)
{
    settling *s = ctx;
    uint32_t seg = (uint32_t)(place >> 32), pos = (uint32_t)place;
    s->tails++;
    if (!seg || pos < VX_SEG_BLOCK || pos + (uint64_t)n > UINT32_MAX) {
        s->odd = place ? place : 1;
        return 0;
    }
    if (s->seg != seg)
        begin_segment(s, seg);
    if (s->fd >= 0)
        settle(s, pos, data, n);
    return 0;
}

int vx_meta_settle_tails(vx_meta *m, const char *dir)
{
    settling s = {.m = m, .dir = dir, .path = malloc(strlen(dir) + 16), .fd = -1};
    int rc = s.path ? vx_meta_scan_tails(m, -1, INT32_MAX, settle_row, &s) : -ENOMEM;
    end_segment(&s);
    free(s.path);
    free(s.there);
    if (s.rc || rc < 0)
        return s.rc ? s.rc : rc;
    if (s.odd)
        return vx_meta_say(m, -EBADMSG, "%s: a tail of segment %u at byte %u cannot be; run 'vexctl volume fsck "
                           "--repair'", m->path, (uint32_t)(s.odd >> 32), (uint32_t)s.odd);
    return s.tails;
}
