from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "vexfs/meta.h" nogil:
    ctypedef struct vx_meta:
        pass

    ctypedef struct vx_meta_options:
        const char *path
        const uint8_t *key
        uint64_t cache_bytes
        uint32_t create, read_only, salvage

    ctypedef struct vx_dentry_row:
        uint64_t slot, ino
        uint32_t type, name_n
        const char *name

    ctypedef int (*vx_dentry_fn)(void *ctx, const vx_dentry_row *row) noexcept
    ctypedef int (*vx_map_fn)(void *ctx, uint32_t region, const void *data, size_t n) noexcept
    ctypedef int (*vx_segment_fn)(void *ctx, uint32_t seg, const void *row, size_t n) noexcept
    ctypedef int (*vx_ino_fn)(void *ctx, uint64_t ino) noexcept
    ctypedef int (*vx_row_fn)(void *ctx, uint64_t key, const void *data, size_t n) noexcept
    ctypedef int (*vx_entry_fn)(void *ctx, uint64_t parent, const vx_dentry_row *row) noexcept
    ctypedef int (*vx_progress_fn)(void *ctx, int done, int total) noexcept
    ctypedef int (*vx_page_fn)(void *ctx, uint32_t page, uint32_t total, int err) noexcept

    int vx_meta_open(vx_meta **out, const vx_meta_options *o)
    void vx_meta_close(vx_meta *m)
    const char *vx_meta_error(vx_meta *m)

    void vx_meta_refresh(vx_meta *m)
    int vx_meta_get_inode(vx_meta *m, uint64_t ino, const void **data, size_t *n)
    int vx_meta_get_map(vx_meta *m, uint64_t ino, uint32_t region, const void **data, size_t *n)
    int vx_meta_get_xattr(vx_meta *m, uint64_t ino, const void **data, size_t *n)
    int vx_meta_get_content(vx_meta *m, uint64_t ino, const void **data, size_t *n)
    int vx_meta_lookup(vx_meta *m, uint64_t parent, uint64_t hash, const char *name, size_t name_n, uint64_t *ino,
                       uint32_t *type, uint64_t *slot)
    int vx_meta_scan(vx_meta *m, uint64_t parent, uint64_t after, uint32_t limit, vx_dentry_fn fn, void *ctx)
    int vx_meta_scan_maps(vx_meta *m, uint64_t ino, uint32_t first, vx_map_fn fn, void *ctx)
    int vx_meta_get_int(vx_meta *m, const char *name, int64_t *out)
    int vx_meta_get_blob(vx_meta *m, const char *name, const void **data, size_t *n)
    int vx_meta_scan_segments(vx_meta *m, vx_segment_fn fn, void *ctx)
    int vx_meta_scan_tails(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
    int vx_meta_scan_orphans(vx_meta *m, vx_ino_fn fn, void *ctx)
    int vx_meta_scan_oplog(vx_meta *m, uint64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
    int vx_meta_scan_inodes(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
    int vx_meta_scan_all_maps(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
    int vx_meta_scan_xattrs(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
    int vx_meta_scan_contents(vx_meta *m, int64_t after, uint32_t limit, vx_row_fn fn, void *ctx)
    int vx_meta_scan_dentries(vx_meta *m, uint64_t parent, uint64_t after, uint32_t limit, vx_entry_fn fn, void *ctx)

    int vx_meta_begin(vx_meta *m)
    int vx_meta_put_inode(vx_meta *m, uint64_t ino, const void *data, size_t n)
    enum:
        VX_PART_ALL
    int vx_meta_del_inode(vx_meta *m, uint64_t ino, uint32_t parts)
    int vx_meta_put_dentry(vx_meta *m, uint64_t parent, uint64_t slot, uint64_t ino, uint32_t type, const char *name,
                           size_t name_n)
    int vx_meta_del_dentry(vx_meta *m, uint64_t parent, uint64_t slot)
    int vx_meta_put_map(vx_meta *m, uint64_t ino, uint32_t region, const void *data, size_t n)
    int vx_meta_del_map(vx_meta *m, uint64_t ino, uint32_t region)
    int vx_meta_del_maps(vx_meta *m, uint64_t ino, uint32_t from_region)
    int vx_meta_put_xattr(vx_meta *m, uint64_t ino, const void *data, size_t n)
    int vx_meta_del_xattr(vx_meta *m, uint64_t ino)
    int vx_meta_put_content(vx_meta *m, uint64_t ino, const void *data, size_t n)
    int vx_meta_del_content(vx_meta *m, uint64_t ino)
    int vx_meta_put_segment(vx_meta *m, uint32_t seg, const void *row, size_t n)
    int vx_meta_del_segment(vx_meta *m, uint32_t seg)
    int vx_meta_settle_tails(vx_meta *m, const char *dir)
    int vx_meta_put_tail(vx_meta *m, uint32_t seg, uint32_t pos, const void *data, size_t n)
    int vx_meta_clear_tails(vx_meta *m)
    int vx_meta_put_orphan(vx_meta *m, uint64_t ino)
    int vx_meta_del_orphan(vx_meta *m, uint64_t ino)
    int vx_meta_put_oplog(vx_meta *m, uint64_t seq, const void *data, size_t n)
    int vx_meta_trim_oplog(vx_meta *m, uint64_t upto, uint64_t most_bytes, uint64_t *last)
    int vx_meta_put_int(vx_meta *m, const char *name, int64_t value)
    int vx_meta_put_blob(vx_meta *m, const char *name, const void *data, size_t n)
    int vx_meta_commit(vx_meta *m)
    int vx_meta_rollback(vx_meta *m)
    int vx_meta_sync(vx_meta *m)
    int vx_meta_checkpoint(vx_meta *m, int truncate)
    uint64_t vx_meta_wal_bytes(vx_meta *m)
    int vx_meta_backup(vx_meta *m, const char *path, vx_progress_fn progress, void *ctx)
    int vx_meta_verify(vx_meta *m, vx_page_fn fn, void *ctx)


cdef class Meta:
    cdef vx_meta *m
    cdef readonly str path
    cdef int check(self, int rc) except -1
    cdef int closed(self) except -1
