from vexfs.frontends.fuse.answer cimport Asked
from vexfs.frontends.fuse.handler cimport Handler

cdef int readdir(Handler handler, const Asked *asked, bint room_for_attributes) noexcept nogil
