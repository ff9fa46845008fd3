/* The segment store: append-only files of frames.
 *
 * A frame is at most 128 KiB of one file: compressed if that saves an eighth, then encrypted, then checksummed.  It is
 * named by (segment, position, stored length); its header repeats the owner (inode, byte offset), and reads check it.
 * Sealed segments never change; names are never reused.  Thread-safe.  0 or -errno everywhere. */
#ifndef VEXFS_SEGMENT_H
#define VEXFS_SEGMENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vexfs/pool.h"

#define VX_FRAME_MAX (128u * 1024)
#define VX_SEG_BLOCK 4096u /* of the header of a segment, where frames begin; and the unit of direct I/O */

typedef struct vx_segstore vx_segstore;

typedef struct {
    const char *dir;          /* the segments' directory, existing */
    const uint8_t *key;       /* 32 bytes: segment keys are derived from it; NULL = no encryption */
    uint64_t segment_bytes;   /* size at which a segment is sealed; 0 = 64 MiB */
    uint64_t cache_bytes;     /* decoded frames kept */
    uint32_t compression;     /* 0 none, 1 lz4 */
    uint32_t direct_io;       /* 1: O_DIRECT where the host allows it */
    uint32_t io_depth;        /* worker threads for encode and frame I/O: so many at once; 0 = 8 */
    uint32_t read_only;
    uint64_t next_segment;    /* the first unused segment number; from the metadata */
    vx_pool *pool;
} vx_segstore_options;

/* A frame to append.  The bytes come from iov (contiguous in the file from `off` on).  Out: where it went. */
typedef struct {
    uint64_t ino, off;
    const struct iovec *iov;
    uint32_t iovcnt, raw_len;
    uint32_t seg, pos, stored; /* out */
    int32_t err;               /* out: 0 or -errno for this frame */
} vx_frame_put;

/* A frame to read: `len` decoded bytes from `skip` on, into dst. */
typedef struct {
    uint64_t ino, off;         /* owner, as it was appended; checked */
    uint32_t seg, pos, stored;
    uint32_t skip, len;
    void *dst;
    int32_t err;               /* out */
} vx_frame_get;

int vx_segstore_open(vx_segstore **out, const vx_segstore_options *o);
void vx_segstore_close(vx_segstore *s);

/* Encodes in parallel and writes with few large writes; the frames of one call may span segments.  Not yet durable.
 * On failure (ENOSPC, EIO) every frame has err set and nothing that was appended before is harmed. */
int vx_segstore_append(vx_segstore *s, vx_frame_put *puts, size_t n);
/* Everything appended before the call (and the segments' directory entries) is on stable storage on return.
 * Concurrent callers share one sync. */
int vx_segstore_sync(vx_segstore *s);
/* What one call has appended, as it stands in its file, so that it can be kept elsewhere until a later sync covers it.
 * Its length, 0 where it has to be synced: it is more than `cap` bytes, or its file is not known to be durable. */
uint32_t vx_segstore_tail(vx_segstore *s, const vx_frame_put *puts, size_t n, void *dst, uint32_t cap, uint32_t *pos);
/* Bytes of a segment that its file may lack: whoever reads frames there finds them.  Before the first read. */
int vx_segstore_lend(vx_segstore *s, uint32_t seg, uint32_t pos, const void *data, size_t n);
/* The caller still holds everything that was appended since the last sync that succeeded and will append it again:
 * failed syncs no longer count.  The files that they hit were sealed. */
void vx_segstore_absolve(vx_segstore *s);
/* Reads through the frame cache; several frames in parallel.  First error in the return value, each in its err. */
int vx_segstore_read(vx_segstore *s, vx_frame_get *gets, size_t n);
/* Starts reading frames into the cache and returns at once (dst, skip, len ignored). */
void vx_segstore_prefetch(vx_segstore *s, const vx_frame_get *gets, size_t n);
void vx_segstore_drop_cache(vx_segstore *s);

/* While pinned a deleted segment stays readable; it is unlinked on the last unpin. */
int vx_segstore_pin(vx_segstore *s, uint32_t seg);
void vx_segstore_unpin(vx_segstore *s, uint32_t seg);
int vx_segstore_delete(vx_segstore *s, uint32_t seg);
/* Seals the active segment, so that the next append opens a new one. */
int vx_segstore_seal(vx_segstore *s);
/* After a crash: cut `seg` to `used` bytes (the end of the last frame that the metadata names). */
int vx_segstore_trim(vx_segstore *s, uint32_t seg, uint64_t used);

typedef struct {
    uint64_t ino, off;
    uint32_t pos, stored, raw_len;
    int32_t err; /* 0, or -EBADMSG: checksum, tag or header wrong (the walk goes on where it can) */
} vx_frame_info;
/* Walks the frames of a segment in order; stops when fn returns non-zero and returns that. */
typedef int (*vx_frame_fn)(void *ctx, const vx_frame_info *f);
int vx_segstore_scan(vx_segstore *s, uint32_t seg, int verify, vx_frame_fn fn, void *ctx);

/* Every segment file that is there, in no order; stops when fn returns non-zero and returns that.  At open it shows
 * files that no metadata names: appended but never committed before a crash, to be deleted. */
typedef int (*vx_segment_list_fn)(void *ctx, uint32_t seg, uint64_t bytes);
int vx_segstore_list(vx_segstore *s, vx_segment_list_fn fn, void *ctx);
/* Changes what can change while running. */
int vx_segstore_configure(vx_segstore *s, uint64_t cache_bytes, uint32_t compression);

typedef struct {
    uint64_t cache_bytes, cache_hits, cache_misses, frames_written, frames_read, bytes_written, bytes_stored,
        bytes_read, syncs, sync_waits, checksum_errors, evictions, prefetches;
    uint32_t segments, active_seg, next_segment, direct_io; /* active_seg: UINT32_MAX when there is none */
    uint64_t active_pos, disk_bytes;
} vx_segstore_stats;
void vx_segstore_read_stats(vx_segstore *s, vx_segstore_stats *out);
uint64_t vx_segstore_size(vx_segstore *s, uint32_t seg); /* bytes of a segment file, 0 if absent */
#endif
