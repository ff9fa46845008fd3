from vexfs.frontends.fuse.answer cimport Asked
from vexfs.frontends.fuse.handler cimport Handler

cdef int getattr(Handler handler, const Asked *asked) noexcept nogil
cdef int statx_(Handler handler, const Asked *asked) noexcept nogil
cdef int setattr(Handler handler, const Asked *asked) noexcept nogil
