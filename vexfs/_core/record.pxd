"""What the bytes of an xattr stand for, for other compiled modules."""

cdef enum:
    TEXT = 0        # a string, as it stands
    WHOLE = 1       # an integer of at most 15 digits
    REAL = 2        # a number with a fraction or an exponent
    OTHER = 3       # json has to look at it
    NAME_MAX = 255

cdef int kind_of(const char *p, size_t n) noexcept nogil
cdef bint is_attribute(const char *name, size_t n) noexcept nogil
cdef int fit(const float *x, size_t n, bint any_length) noexcept nogil
cdef object decode_at(const char *p, Py_ssize_t n)
