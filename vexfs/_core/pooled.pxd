"""C declarations of static embeddings."""

from libc.stdint cimport uint32_t


cdef extern from "vexfs/pooled.h" nogil:
    ctypedef struct vx_pooled:
        pass

    ctypedef struct vx_vocabulary:
        const char *text
        const uint32_t *ends
        uint32_t count
        uint32_t bytes
        const char *merges
        size_t merges_n

    vx_pooled *vx_pooled_new(const vx_vocabulary *v, uint32_t dim)
    float *vx_pooled_rows(vx_pooled *p)
    void vx_pooled_free(vx_pooled *p)
    size_t vx_pooled_tokens(vx_pooled *p, const char *text, size_t n, uint32_t *ids, size_t cap)
    size_t vx_pooled_embed(vx_pooled *p, const char *text, size_t n, float *out)


cdef class Pooled:
    cdef vx_pooled *ptr
    cdef readonly uint32_t dim
    cdef readonly uint32_t count
