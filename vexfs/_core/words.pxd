"""C declarations of keyword search, and the object that owns an index."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "vexfs/words.h" nogil:
    enum:
        VX_WORDS_ANALYSER
        VX_WORDS_UNITS

    ctypedef struct vx_words:
        pass

    ctypedef struct vx_words_options:
        uint32_t k
        int prefix_last
        const uint64_t *mask
        size_t mask_rows
        const uint32_t *rows
        size_t rows_n

    ctypedef struct vx_words_clause:
        char[72] text
        int kind
        int sign
        uint64_t df
        double weight

    ctypedef struct vx_words_stats:
        uint64_t rows
        uint64_t terms
        uint64_t postings
        uint64_t tokens
        uint64_t parts
        uint64_t removed
        uint64_t memory
        double average_length

    ctypedef int (*vx_words_write)(void *ctx, const void *data, size_t n) noexcept nogil
    ctypedef int (*vx_words_read)(void *ctx, void *data, size_t n) noexcept nogil

    vx_words *vx_words_new(int simd)
    void vx_words_free(vx_words *w)
    int vx_words_encode(const uint8_t *text, size_t n, uint8_t **out, size_t *out_n)
    int vx_words_put(vx_words *w, uint32_t row, const uint8_t *record, size_t n)
    int vx_words_remove(vx_words *w, uint32_t row)
    int vx_words_has(vx_words *w, uint32_t row)
    uint64_t vx_words_count(vx_words *w)
    int64_t vx_words_search(vx_words *w, const char *query, size_t n, const vx_words_options *o, uint32_t *rows,
                            float *scores)
    int64_t vx_words_explain(vx_words *w, const char *query, size_t n, int prefix_last, vx_words_clause *out)
    void vx_words_read_stats(vx_words *w, vx_words_stats *out)
    uint32_t vx_words_term(vx_words *w, uint32_t number, char *out, uint64_t *df)
    int vx_words_maintain(vx_words *w, double budget_ms)
    int vx_words_dump(vx_words *w, vx_words_write write, void *ctx)
    int vx_words_restore(vx_words *w, vx_words_read read, void *ctx)


cdef class WordIndex:
    cdef vx_words *ptr
    cdef list _clauses(self, const vx_words_clause *clauses, int64_t n)
    cdef tuple _term(self, uint32_t number)
