/* The metadata store: SQLite behind a page-encrypting, recorded VFS.
 *
 * Two connections: the reader serves the filesystem's cache misses (calls under the filesystem's lock) and sees the
 * last commit; the writer belongs to the commit thread.  Neither waits for the other.  Rows are opaque blobs here; the
 * filesystem packs and unpacks them.  0 or -errno: -ENOENT no such row, -EIO or -EBADMSG damaged, -ENOSPC full.
 * Opening also answers -ENOKEY (encrypted, no key), -EKEYREJECTED (another key), -EPROTONOSUPPORT (a newer format).
 *
 * Inode numbers are below 2^39, regions below 2^24, slots and other numbers below 2^63: -EINVAL otherwise. */
#ifndef VEXFS_META_H
#define VEXFS_META_H

#include <stddef.h>
#include <stdint.h>

typedef struct vx_meta vx_meta;

typedef struct {
    const char *path;      /* of meta.db */
    const uint8_t *key;    /* 32 bytes or NULL */
    uint64_t cache_bytes;  /* SQLite page cache, both connections together; 0 = 32 MiB */
    uint32_t create, read_only; /* create: when there is none */
    uint32_t salvage; /* open although the log is damaged, and lose the commits after the damage */
} vx_meta_options;

int vx_meta_open(vx_meta **out, const vx_meta_options *o);
void vx_meta_close(vx_meta *m);
/* The last error in words, naming the file; valid until this thread's next call.  NULL: why vx_meta_open failed. */
const char *vx_meta_error(vx_meta *m);

/* -- reader ------------------------------------------------------------------------------------------------- */
void vx_meta_refresh(vx_meta *m); /* later reads see the newest commit */
/* Blobs: *data is valid until the next reader call on `m`. */
int vx_meta_get_inode(vx_meta *m, uint64_t ino, const void **data, size_t *n);
int vx_meta_get_map(vx_meta *m, uint64_t ino, uint32_t region, const void **data, size_t *n);
int vx_meta_get_xattr(vx_meta *m, uint64_t ino, const void **data, size_t *n);
int vx_meta_get_content(vx_meta *m, uint64_t ino, const void **data, size_t *n); /* of a small file, whole */
/* Dentries have the key (parent, slot); slot is the name's hash or one of the 3 after it.  Finds the row among
 * slots hash..hash+3 whose name matches. */
int vx_meta_lookup(vx_meta *m, uint64_t parent, uint64_t hash, const char *name, size_t name_n, uint64_t *ino,
                   uint32_t *type, uint64_t *slot);
typedef struct {
    uint64_t slot, ino;
    uint32_t type, name_n;
    const char *name; /* valid during the callback */
} vx_dentry_row;
typedef int (*vx_dentry_fn)(void *ctx, const vx_dentry_row *row); /* non-zero stops */
/* Rows with slot > after, in order of slot, at most limit.  Returns the number of rows or -errno. */
int vx_meta_scan(vx_meta *m, uint64_t parent, uint64_t after, uint32_t limit, vx_dentry_fn fn, void *ctx);
/* Regions of one inode's extent maps with region >= from, in order. */
typedef int (*vx_map_fn)(void *ctx, uint32_t region, const void *data, size_t n);
int vx_meta_scan_maps(vx_meta *m, uint64_t ino, uint32_t from, vx_map_fn fn, void *ctx);
int vx_meta_get_int(vx_meta *m, const char *name, int64_t *out);
int vx_meta_get_blob(vx_meta *m, const char *name, const void **data, size_t *n);
typedef int (*vx_segment_fn)(void *ctx, uint32_t seg, const void *row, size_t n);
int vx_meta_scan_segments(vx_meta *m, vx_segment_fn fn, void *ctx);
typedef int (*vx_ino_fn)(void *ctx, uint64_t ino);
int vx_meta_scan_orphans(vx_meta *m, vx_ino_fn fn, void *ctx);
/* Brings the tails to the segments in `dir`, where they belong already unless a power cut kept them from there, and
 * makes them durable.  Their number, or -errno of the first that could not be brought there; the others were. */
int vx_meta_settle_tails(vx_meta *m, const char *dir);
typedef int (*vx_oplog_fn)(void *ctx, uint64_t seq, const void *data, size_t n);
int vx_meta_scan_oplog(vx_meta *m, uint64_t after, uint32_t limit, vx_oplog_fn fn, void *ctx);

/* Whole tables, for the check of a volume: rows with a key > after (-1: from the start), at most limit.  Returns the
 * number of rows or -errno.  The key of a map is ino << 24 | region. */
typedef int (*vx_row_fn)(void *ctx, uint64_t key, const void *data, size_t n);
typedef int (*vx_entry_fn)(void *ctx, uint64_t parent, const vx_dentry_row *row);
int vx_meta_scan_inodes(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx);
int vx_meta_scan_all_maps(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx);
int vx_meta_scan_xattrs(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx);
int vx_meta_scan_contents(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx);
int vx_meta_scan_dentries(vx_meta *m, uint64_t parent, uint64_t after, uint32_t limit, vx_entry_fn fn, void *ctx);
/* What was appended to segments and no sync of theirs has covered; the key is segment << 32 | position. */
int vx_meta_scan_tails(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx);

/* -- writer: one thread --------------------------------------------------------------------------------------- */
int vx_meta_begin(vx_meta *m);
int vx_meta_put_inode(vx_meta *m, uint64_t ino, const void *data, size_t n);
/* The inode's row, and its rows in the tables that `parts` names. */
enum { VX_PART_XATTR = 1, VX_PART_CONTENT = 2, VX_PART_ORPHAN = 4, VX_PART_MAPS = 8, VX_PART_ALL = 15 };
int vx_meta_del_inode(vx_meta *m, uint64_t ino, uint32_t parts);
int vx_meta_put_dentry(vx_meta *m, uint64_t parent, uint64_t slot, uint64_t ino, uint32_t type, const char *name,
                       size_t name_n);
int vx_meta_del_dentry(vx_meta *m, uint64_t parent, uint64_t slot);
int vx_meta_put_map(vx_meta *m, uint64_t ino, uint32_t region, const void *data, size_t n);
int vx_meta_del_map(vx_meta *m, uint64_t ino, uint32_t region);
int vx_meta_del_maps(vx_meta *m, uint64_t ino, uint32_t from_region);
int vx_meta_put_xattr(vx_meta *m, uint64_t ino, const void *data, size_t n);
int vx_meta_del_xattr(vx_meta *m, uint64_t ino);
int vx_meta_put_content(vx_meta *m, uint64_t ino, const void *data, size_t n);
int vx_meta_del_content(vx_meta *m, uint64_t ino);
int vx_meta_put_segment(vx_meta *m, uint32_t seg, const void *row, size_t n);
int vx_meta_del_segment(vx_meta *m, uint32_t seg); /* with its tails: the number may be given out again */
int vx_meta_put_orphan(vx_meta *m, uint64_t ino);
int vx_meta_del_orphan(vx_meta *m, uint64_t ino);
int vx_meta_put_oplog(vx_meta *m, uint64_t seq, const void *data, size_t n);
/* What is older than `upto`, or than so many bytes; `*last` becomes the number of the last that went, if any did. */
int vx_meta_trim_oplog(vx_meta *m, uint64_t upto, uint64_t most_bytes, uint64_t *last);
int vx_meta_put_tail(vx_meta *m, uint32_t seg, uint32_t pos, const void *data, size_t n);
int vx_meta_clear_tails(vx_meta *m);
int vx_meta_put_int(vx_meta *m, const char *name, int64_t value);
int vx_meta_put_blob(vx_meta *m, const char *name, const void *data, size_t n);
int vx_meta_commit(vx_meta *m);   /* atomic and ordered, not yet durable */
int vx_meta_rollback(vx_meta *m);
int vx_meta_sync(vx_meta *m);     /* every commit so far is on stable storage on return; any thread */
/* Copies the write-ahead log into the database and syncs it; truncate = 1 also empties the log file.  While a backup
 * runs, commits that it does not contain stay in the log: truncate then answers -EBUSY, and vx_meta_wal_bytes counts
 * them again when the backup ends. */
int vx_meta_checkpoint(vx_meta *m, int truncate);
uint64_t vx_meta_wal_bytes(vx_meta *m);
/* Online copy of the last commit to `path` (plain pages re-encrypted with the same key); progress may be NULL and may
 * return non-zero to cancel. */
typedef int (*vx_progress_fn)(void *ctx, int done, int total); /* pages */
int vx_meta_backup(vx_meta *m, const char *path, vx_progress_fn progress, void *ctx);
/* Checks every page of the database file; err 0, -EBADMSG damaged, -EKEYREJECTED sound but out of place.  After a
 * checkpoint with truncate = 1 that is the whole store.  Stops when fn returns non-zero and returns that. */
typedef int (*vx_page_fn)(void *ctx, uint32_t page, uint32_t total, int err);
int vx_meta_verify(vx_meta *m, vx_page_fn fn, void *ctx);
#endif
