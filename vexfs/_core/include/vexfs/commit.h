/* Between freezing an epoch and having it committed. */
#ifndef VEXFS_COMMIT_H
#define VEXFS_COMMIT_H

#include "vexfs/engine.h"

/* Kinds of oplog entries: docs/format.md. */
enum { VX_LOG_MAKE = 1, VX_LOG_LINK, VX_LOG_UNLINK, VX_LOG_RENAME, VX_LOG_SETATTR, VX_LOG_SETXATTR,
       VX_LOG_REMOVEXATTR, VX_LOG_CONTENT, VX_LOG_DELETE };

typedef struct {
    const vx_frame_put *put;
    vx_region *region;
} vx_placed;

/* Everything changed so far becomes the epoch to commit; operations go on in the next one.  Lock held. */
void vx_freeze_epoch(vx_fs *fs);
void vx_pack_map(vx_fs *fs, vx_region *r);
/* The frozen data has its places: maps take them in, the pages go.  Lock held. */
int vx_install_data(vx_fs *fs, const vx_placed *placed, size_t n);
/* The epoch is committed: what only it held in memory may go.  Lock held. */
void vx_thaw_epoch(vx_fs *fs);
/* Writes the frozen pages to segments and has them durable with the epoch, without the lock. */
int vx_place_data(vx_fs *fs);

/* fs_tail.c, without the lock; fs->committing is the caller's */
/* What was just appended is durable when the epoch is: it is synced, or goes into the log with it. */
int vx_tail_secure(vx_fs *fs, const vx_frame_put *puts, size_t n);
int vx_tail_sync(vx_fs *fs);  /* the segments alone hold what was appended to them, durably */
/* When a volume is opened or closed: no tail is left in the log.  What cannot be done is tried again by the next sync. */
int vx_tail_settle(vx_fs *fs);
/* When a volume is opened for reading: its segments are left as they are, and read with what the log has of them. */
int vx_tail_lend(vx_fs *fs);
void vx_tail_tell(vx_fs *fs, int rc); /* in the status, until they are settled; lock held */

#endif
