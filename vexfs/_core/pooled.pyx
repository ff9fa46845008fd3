"""Static embeddings: a text's vector is the mean of the vectors of its tokens."""

import errno

import numpy as np

from libc.errno cimport errno as c_errno
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc


cdef class Pooled:
    """A vocabulary with a vector for each token.  Immutable; thread-safe.

    Parameters
    ----------
    tokens : sequence of bytes
        In UTF-8; a token's place is its number.
    merges : sequence of str
        The left token, a space and the right one, which become the token that they are together; the first merge goes
        first.
    rows : float[len(tokens), dim]
        The vectors; kept as float32.
    byte_token : int
        The number of the token that stands for byte 0, with those of bytes 1 to 255 behind it.

    Raises
    ------
    ValueError
        The parts do not fit each other.
    """

    def __cinit__(self, tokens, merges, rows, uint32_t byte_token):
        self.ptr = NULL
        cdef bytes text = b"".join(tokens), lines = "\n".join(merges).encode()
        cdef const uint32_t[::1] ends = np.cumsum([len(token) for token in tokens], dtype=np.uint32)
        if rows.ndim != 2 or rows.shape[0] != ends.shape[0] or not ends.shape[0] or not rows.shape[1]:
            raise ValueError(f"{ends.shape[0]} tokens, rows of shape {rows.shape}")
        cdef vx_vocabulary v
        v.text = text
        v.ends = &ends[0]
        v.count = <uint32_t>ends.shape[0]
        v.bytes = byte_token
        v.merges = lines
        v.merges_n = len(lines)
        self.dim = <uint32_t>rows.shape[1]
        self.count = v.count
        with nogil:
            self.ptr = vx_pooled_new(&v, self.dim)
        if self.ptr == NULL:
            if c_errno == errno.EINVAL:
                raise ValueError("the vocabulary contradicts itself: a merge or the byte tokens lie outside of it")
            raise MemoryError("no memory for the vocabulary")
        cdef float[:, ::1] own = <float[:self.count, :self.dim]>vx_pooled_rows(self.ptr)
        np.copyto(np.asarray(own), rows, casting="same_kind")

    def __dealloc__(self):
        vx_pooled_free(self.ptr)

    def tokens(self, str text not None):
        """The numbers of the text's tokens: uint32[n]."""
        cdef Py_ssize_t n
        cdef bytes raw = text.encode("utf-8", "replace")
        cdef const char *p = raw
        n = len(raw)
        out = np.empty(n * 2 + 1, np.uint32)  # a word adds a mark, which is a token at most
        cdef uint32_t[::1] ids = out
        cdef size_t count
        with nogil:
            count = vx_pooled_tokens(self.ptr, p, n, &ids[0], ids.shape[0])
        return out[:count].copy()

    def embed(self, list texts not None):
        """Vectors of length 1, zeros for a text without tokens: float32[len(texts), dim]."""
        cdef Py_ssize_t n = len(texts), i
        out = np.empty((n, self.dim), np.float32)
        if not n:
            return out
        cdef list raw = [(<str?>text).encode("utf-8", "replace") for text in texts]
        cdef float[:, ::1] rows = out
        cdef const char **starts = <const char **>malloc(n * sizeof(char *))
        cdef Py_ssize_t *sizes = <Py_ssize_t *>malloc(n * sizeof(Py_ssize_t))
        try:
            if starts == NULL or sizes == NULL:
                raise MemoryError()
            for i in range(n):
                starts[i] = <bytes>raw[i]
                sizes[i] = len(<bytes>raw[i])
            with nogil:
                for i in range(n):
                    vx_pooled_embed(self.ptr, starts[i], sizes[i], &rows[i, 0])
        finally:
            free(starts)
            free(sizes)
        return out
