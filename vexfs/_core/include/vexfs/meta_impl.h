/* Shared by the files of the metadata store. */
#ifndef VEXFS_META_IMPL_H
#define VEXFS_META_IMPL_H

#include <pthread.h>
#include <sqlite3.h>

#include "vexfs/meta.h"
#include "vexfs/vfs.h"

#define VX_META_APPLICATION 0x56784653 /* "VxFS" */
#define VX_META_SCHEMA 3 /* 1: without the table of contents; 2: without that of tails; opening adds them */
#define VX_META_INO_MAX (UINT64_C(1) << 39)
#define VX_META_REGION_BITS 24
#define VX_META_NUMBER_MAX (UINT64_C(1) << 63)

enum vx_meta_read {
    VX_READ_BEGIN, VX_READ_END, VX_READ_INODE, VX_READ_MAP, VX_READ_XATTR, VX_READ_CONTENT, VX_READ_LOOKUP, VX_READ_DENTRIES,
    VX_READ_MAPS, VX_READ_META, VX_READ_SEGMENTS, VX_READ_ORPHANS, VX_READ_OPLOG, VX_READ_ALL_INODES,
    VX_READ_ALL_DENTRIES, VX_READ_ALL_MAPS, VX_READ_ALL_XATTRS, VX_READ_ALL_CONTENTS, VX_READ_TAILS, VX_READ_COUNT
};

enum vx_meta_write {
    VX_WRITE_BEGIN, VX_WRITE_COMMIT, VX_WRITE_ROLLBACK, VX_PUT_INODE, VX_DEL_INODE, VX_PUT_DENTRY, VX_DEL_DENTRY,
    VX_PUT_CONTENT, VX_DEL_CONTENT, VX_PUT_MAP, VX_DEL_MAP, VX_DEL_MAPS, VX_PUT_XATTR, VX_DEL_XATTR, VX_PUT_SEGMENT, VX_DEL_SEGMENT, VX_PUT_ORPHAN,
    VX_DEL_ORPHAN, VX_PUT_OPLOG, VX_OLD_OPLOG, VX_LONG_OPLOG, VX_OPLOG_BYTES, VX_TRIM_OPLOG, VX_PUT_META, VX_PUT_TAIL, VX_DEL_TAILS, VX_CLEAR_TAILS,
    VX_WRITE_COUNT
};

struct vx_meta {
    char *path;
    vx_vfs *vfs;
    vx_wal *wal;
    uint32_t read_only;

    pthread_mutex_t reader_mutex; /* recursive: a callback may read */
    sqlite3 *reader;
    sqlite3_stmt *read[VX_READ_COUNT];
    int depth;   /* of reader calls */
    int reading; /* the reader's transaction is open */
    int stale;   /* atomic: the next reader call opens a newer one */
    uint8_t *out;
    size_t out_size;

    sqlite3 *writer;
    sqlite3_stmt *write[VX_WRITE_COUNT];
    int writing;
    uint64_t oplog_bytes; /* at least what the oplog holds; UINT64_MAX: unknown */
    int doomed; /* -errno of the failure by which SQLite ended the transaction under the caller */

    pthread_mutex_t checkpoint_mutex;
    pthread_mutex_t error_mutex;
    char error[512];
};

/* Keeps a message and returns `rc`. */
int vx_meta_say(vx_meta *m, int rc, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The -errno of the last failure on `db`, its message kept; `doing` as in "while DOING". */
int vx_meta_fail(vx_meta *m, sqlite3 *db, const char *doing);
int vx_meta_prepare(vx_meta *m, sqlite3 *db, const char *const *sql, sqlite3_stmt **out, int count);
int vx_meta_prepare_reader(vx_meta *m);
int vx_meta_prepare_writer(vx_meta *m);
int vx_meta_connect(vx_meta *m, const char *path, int flags, uint64_t cache_bytes, sqlite3 **out);
/* Ends the reader's transaction: the next reader call begins on the newest commit. */
void vx_meta_release_reader(vx_meta *m);

#endif
