/* Tails: what was appended to a segment stands in the log of metadata too, until a sync of the segment covers it.
 *
 * So a small commit waits for one sync, the log's, instead of two.  A segment's places are handed out once, and a tail
 * is written to its place again as often as need be: after a power cut, when opening finds it in the log; and when a
 * sync of segments has failed, after which the host may have dropped what it still had to write. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/commit.h"

enum { TAIL_MOST = 64 << 10, TAILS_MOST = 1 << 20 };

/* Tails that a failed sync may have taken from their segments go there again.  Only they need a look at the log. */
static int mend(vx_fs *fs)
{
    if (!fs->tails_torn)
        return 0;
    vx_meta_refresh(fs->meta);
    int n = vx_meta_settle_tails(fs->meta, fs->segments_dir);
    if (n < 0)
        return n;
    fs->tails_torn = 0;
    return 0;
}

int vx_tail_sync(vx_fs *fs)
{
    int rc = vx_segstore_sync(fs->store);
    fs->tails_torn |= rc && fs->tails_bytes;
    return rc ? rc : mend(fs);
}

int vx_tail_secure(vx_fs *fs, const vx_frame_put *puts, size_t n)
{
    uint32_t pos = 0, bytes = 0;
    char *data = !fs->tails_torn && fs->tails_bytes < TAILS_MOST ? malloc(TAIL_MOST) : NULL;
    if (data)
        bytes = vx_segstore_tail(fs->store, puts, n, data, TAIL_MOST, &pos);
    int rc = bytes ? 0 : vx_tail_sync(fs);
    pthread_mutex_lock(&fs->lock);
    if (bytes)
        vx_batch_put(&fs->batch, VX_B_TAIL, puts[0].seg, pos, 0, 0, data, bytes);
    else if (!rc && fs->tails_bytes)
        vx_batch_put(&fs->batch, VX_B_TAILS_GONE, 0, 0, 0, 0, NULL, 0);
    fs->s.syncs += !bytes;
    fs->tails_bytes = bytes ? fs->tails_bytes + bytes : rc ? fs->tails_bytes : 0;
    pthread_mutex_unlock(&fs->lock);
    free(data);
    return rc;
}

int vx_tail_settle(vx_fs *fs)
{
    vx_meta_refresh(fs->meta);
    int n = vx_meta_settle_tails(fs->meta, fs->segments_dir), rc = n < 0 ? n : 0;
    if (n > 0) {
        rc = vx_meta_begin(fs->meta);
        if (!rc)
            rc = vx_meta_clear_tails(fs->meta);
        if (!rc)
            rc = vx_meta_commit(fs->meta);
        if (rc)
            vx_meta_rollback(fs->meta);
    }
    fs->tails_torn = rc != 0;
    fs->tails_bytes = rc ? TAILS_MOST : 0;
    return rc;
}

static int lend(void *ctx, uint64_t place, const void *data, size_t n)
{
    vx_fs *fs = ctx;
    return vx_segstore_lend(fs->store, (uint32_t)(place >> 32), (uint32_t)place, data, n);
}

int vx_tail_lend(vx_fs *fs)
{
    int rc = vx_meta_scan_tails(fs->meta, -1, INT32_MAX, lend, fs);
    return rc < 0 ? rc : 0;
}

void vx_tail_tell(vx_fs *fs, int rc)
{
    fs->s.last_error = -rc;
    if (rc == -EBADMSG)
        snprintf(fs->s.last_error_text, sizeof fs->s.last_error_text, "%s", vx_meta_error(fs->meta));
    else
        snprintf(fs->s.last_error_text, sizeof fs->s.last_error_text,
                 "%s; some files cannot be read until what the log has for segments is there: make it writable, or "
                 "make room, in %s", strerror(-rc), fs->segments_dir);
}
