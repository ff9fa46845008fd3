"""C declarations of row tables, and the object that owns one."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from vexfs._core.fs cimport Filesystem
from vexfs._core.ops cimport vx_cred, vx_fs


cdef extern from "vexfs/rows.h" nogil:
    enum:
        VX_ROW_NONE
        VX_ROW_CONTENT
        VX_ROW_STALE
        VX_ROW_AWAY
        VX_ROW_RENAMED
        VX_PUT_CREATE
        VX_PUT_EXCL
        VX_PUT_CONTENT
        VX_PUT_KEEP_ROWS
        VX_PUT_APPEND
        VX_PUT_MAX
        VX_HIT_PATH
        VX_HIT_XATTRS

    ctypedef struct vx_row:
        uint64_t ino
        uint64_t flags
        uint64_t dir
        uint64_t version
        uint32_t generation
        uint32_t start
        uint32_t length
        uint32_t next

    ctypedef struct vx_table:
        pass

    ctypedef void (*vx_row_gone_fn)(void *ctx, uint32_t row) noexcept nogil

    ctypedef struct vx_table_options:
        uint64_t dir
        uint64_t rows
        uint64_t vectors
        uint64_t words
        uint32_t row_bytes

    ctypedef struct vx_table_stats:
        uint64_t changes
        uint64_t tree
        uint32_t rows
        uint32_t live
        uint32_t files
        uint32_t free_rows
        uint32_t away
        uint32_t stale
        uint32_t moved
        uint32_t moment

    ctypedef struct vx_record:
        uint64_t ino
        uint64_t parent
        const char *name
        const char *xattrs
        const char *content
        uint64_t generation
        uint32_t name_n
        uint32_t xattrs_n
        uint32_t content_n
        uint32_t nrows
        int32_t status

    ctypedef struct vx_span:
        uint32_t start
        uint32_t length

    ctypedef struct vx_hit:
        uint64_t ino
        uint64_t dir
        uint64_t generation
        uint32_t row
        uint32_t start
        uint32_t length
        uint32_t path_n
        uint32_t xattrs_n
        uint32_t at

    ctypedef int (*vx_hit_fn)(void *ctx, const vx_hit *hit, const char *path, const void *xattrs) noexcept nogil

    int vx_fs_hidden(vx_fs *fs, uint64_t *ino)
    int vx_table_open(vx_fs *fs, const vx_table_options *o, vx_table **out)
    void vx_table_close(vx_fs *fs, vx_table *t)
    int VX_TABLE_WATCHERS
    void vx_table_watch(vx_fs *fs, vx_table *t, uint32_t place, vx_row_gone_fn gone, void *ctx)
    void vx_table_read(vx_fs *fs, vx_table *t, vx_table_stats *out)
    uint32_t vx_table_rows(vx_fs *fs, vx_table *t, uint32_t first, uint32_t n, vx_row *out)
    uint32_t vx_table_versions(vx_fs *fs, vx_table *t, uint32_t *out, uint32_t cap)
    uint32_t vx_table_rows_of(vx_fs *fs, vx_table *t, uint64_t ino, uint32_t *out, uint32_t cap)
    vx_table *vx_table_over(vx_fs *fs, uint64_t ino)
    uint64_t vx_table_dir(const vx_table *t)
    int64_t vx_table_scope(vx_fs *fs, vx_table *t, uint64_t dir, uint64_t *bits, uint32_t rows)
    int64_t vx_table_touched(vx_fs *fs, vx_table *t, uint32_t *out, uint32_t cap)
    uint32_t vx_fs_moved(vx_fs *fs, uint64_t *out, uint32_t cap)
    int vx_fs_find_names(vx_fs *fs, const uint64_t *inos, uint32_t n)
    int vx_fs_met(vx_fs *fs, uint64_t parent, const char *name, size_t n)
    int vx_table_return(vx_fs *fs, vx_table *t, uint64_t ino)
    int vx_fs_put_records(vx_fs *fs, const vx_cred *c, vx_table *t, vx_record *r, size_t n, const vx_span *spans,
                          const void *stored, const char *words, const uint32_t *words_n, uint32_t flags,
                          uint32_t *rows_out)
    void vx_table_confirm(vx_fs *fs, vx_table *t, const uint32_t *rows, const uint64_t *inos, size_t n)
    int vx_table_words(vx_fs *fs, vx_table *t, uint64_t ino)
    int vx_table_skip(vx_fs *fs, vx_table *t, uint32_t n)
    int vx_table_drop(vx_fs *fs, vx_table *t, uint64_t ino)
    ctypedef struct vx_vector_hooks:
        int64_t (*get)(void *ctx, uint64_t ino, void *value, size_t cap) noexcept nogil
        int (*set)(void *ctx, uint64_t ino, const void *value, size_t n) noexcept nogil
        void *ctx

    void vx_fs_vector_hooks(vx_fs *fs, const vx_vector_hooks *hooks)
    int vx_table_hits(vx_fs *fs, vx_table *t, const uint32_t *rows, size_t n, uint32_t since, uint32_t what,
                      vx_hit_fn fn, void *ctx)


# Where an index reads stored vectors.
ctypedef struct source:
    vx_fs *fs
    uint64_t vectors
    size_t row_bytes


cdef class RowTable:
    cdef readonly Filesystem filesystem
    cdef vx_table *ptr
    cdef source source
    cdef dict watchers  # by their place
    cdef readonly uint64_t directory
    cdef readonly uint32_t row_bytes
    cdef int calls      # under way
    cdef bint closing
    cdef vx_fs *begin(self) except NULL
    cdef void end(self)
    cdef vx_table_stats read(self) except *
    cdef int _put(self, vx_record *r, size_t n, const uint32_t *spans, const unsigned char *stored, const char *words,
                  const uint32_t *words_n, uint32_t flags, out) except? -1
