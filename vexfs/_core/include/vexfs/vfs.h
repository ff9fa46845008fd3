/* The SQLite VFS under the metadata store.
 *
 * It serves one process that owns the volume: file locks and the WAL index live in heap memory shared by the
 * connections of one `vx_vfs`.  Every page that reaches the disk, in the database or in the write-ahead log, carries a
 * trailer with a checksum, and in encrypted volumes a nonce and a tag.  Only databases and their logs can be opened:
 * journals and temporary files, which would hold plaintext, are refused.  docs/format-metadata.md has every byte. */
#ifndef VEXFS_VFS_H
#define VEXFS_VFS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vexfs/codec.h"

struct sqlite3;

#define VX_PAGE_BYTES 4096u
#define VX_PAGE_TRAILER 40u
#define VX_PAGE_BODY (VX_PAGE_BYTES - VX_PAGE_TRAILER)
#define VX_WAL_HEADER 32u
#define VX_FRAME_HEADER 24u
#define VX_WAL_FRAME (VX_FRAME_HEADER + VX_PAGE_BYTES)
#define VX_PAGE_MAGIC "VexFS metadata 1" /* the first 16 bytes of an encrypted database */
#define VX_PAGE_PLAIN "SQLite format 3"  /* with its zero: the first 16 bytes of a plain one */

/* -- pages and frames (vfs_page.c) ------------------------------------------------------------------------------ */

typedef struct {
    vx_aead *aead; /* NULL: checksums only */
    pthread_mutex_t mutex;
    uint8_t prefix[8]; /* of the nonces: random, new every 2^32 of them */
    uint32_t count;
} vx_page_codec;

int vx_page_codec_init(vx_page_codec *c, const uint8_t *key); /* key NULL: plain */
void vx_page_codec_clear(vx_page_codec *c);
/* `page` is sealed or opened in place.  Opening answers -EBADMSG on a wrong checksum, -EKEYREJECTED when the checksum is
 * right and the tag is not, and leaves the trailer zero, as SQLite expects it. */
int vx_page_seal(vx_page_codec *c, uint32_t number, uint8_t page[VX_PAGE_BYTES]);
int vx_page_open(vx_page_codec *c, uint32_t number, uint8_t page[VX_PAGE_BYTES]);
/* A frame of the log, header and page.  `durable`: frames known to be on stable storage when this one is written. */
int vx_walframe_seal(vx_page_codec *c, uint32_t number, uint32_t durable, uint8_t frame[VX_WAL_FRAME]);
int vx_walframe_open(vx_page_codec *c, uint32_t number, uint8_t frame[VX_WAL_FRAME]);
/* Checksum only: 0 or -EBADMSG; *durable as it was given to vx_walframe_seal. */
int vx_frame_check(const uint8_t frame[VX_WAL_FRAME], uint32_t *durable);
uint32_t vx_get_le32(const uint8_t *p);
uint32_t vx_get_be32(const uint8_t *p);
void vx_put_le32(uint8_t *p, uint32_t v);

/* -- the write-ahead log (vfs_wal.c) ---------------------------------------------------------------------------- */

typedef struct vx_wal vx_wal;

/* What a log on disk holds, from checksums alone. */
typedef struct {
    uint64_t bytes;
    uint32_t frames;    /* whole frames that the file has room for */
    uint32_t valid;     /* frames of the current generation from the start on, all right */
    uint32_t committed; /* of these, up to the last commit */
    uint32_t durable;   /* frames that were on stable storage, as far as the log itself tells */
    int header_bad;     /* the header is damaged, though frames of this store follow it */
    int wrong_key;
} vx_wal_report;

int vx_wal_inspect(vx_page_codec *c, const char *path, vx_wal_report *out);
/* Sets held[n - 1] for each page n, of `pages`, that a committed frame of the log holds. */
int vx_wal_pages(vx_page_codec *c, const char *path, uint8_t *held, uint32_t pages);

int vx_wal_new(vx_wal **out, vx_page_codec *c, const char *path, int fd, uint32_t committed);
void vx_wal_free(vx_wal *w);
int vx_wal_write(vx_wal *w, const void *data, size_t n, off_t off); /* as SQLite writes: header, frame header, page */
int vx_wal_flush(vx_wal *w);
int vx_wal_truncate(vx_wal *w, off_t size);
off_t vx_wal_buffered_from(vx_wal *w); /* offset of the first byte not yet in the file, or the largest off_t */
/* force = 0: returns when every commit written before the call is durable; concurrent callers share one sync. */
int vx_wal_sync(vx_wal *w, int force);
/* Committed bytes that wait for a checkpoint; `set_pending` says that none or (1) all that the log holds do. */
uint64_t vx_wal_pending(vx_wal *w);
void vx_wal_set_pending(vx_wal *w, int all);

/* -- the VFS (vfs.c, vfs_lock.c) ---------------------------------------------------------------------------------- */

typedef struct vx_vfs vx_vfs;

enum vx_vfs_where { VX_IN_NOTHING, VX_IN_DATABASE, VX_IN_WAL };

typedef struct {
    int err;         /* positive errno of the last failed call */
    int where;       /* enum vx_vfs_where */
    uint32_t number; /* page, or frame of the log */
} vx_vfs_fault;

int vx_vfs_new(vx_vfs **out, const uint8_t *key, int read_only);
void vx_vfs_free(vx_vfs *v); /* after the last connection is closed */
const char *vx_vfs_name(vx_vfs *v); /* for sqlite3_open_v2 */
vx_page_codec *vx_vfs_codec(vx_vfs *v);
/* What last failed on the connection `db` (NULL: while opening), and forgets it. */
vx_vfs_fault vx_vfs_last_fault(vx_vfs *v, struct sqlite3 *db);
/* The log of the database at `path`, or NULL while none is open. */
vx_wal *vx_vfs_wal(vx_vfs *v, const char *path);
/* Syncs the directory of `path`, so that its name is durable. */
int vx_sync_parent(const char *path);
/* Before the log is opened: the committed frames that vx_wal_inspect found in it. */
void vx_vfs_recovered(vx_vfs *v, uint32_t committed);

#endif
