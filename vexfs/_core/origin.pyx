"""What a file's rows were made from, and by which of its names it is known."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from vexfs._core.fs cimport Filesystem
from vexfs._core.ops cimport vx_fs
from vexfs._core.rows cimport (
    VX_ROW_AWAY,
    VX_ROW_CONTENT,
    VX_ROW_RENAMED,
    VX_ROW_STALE,
    RowTable,
    vx_fs_met,
    vx_row,
    vx_table_rows,
    vx_table_rows_of,
)

CONTENT, STALE, AWAY, RENAMED = VX_ROW_CONTENT, VX_ROW_STALE, VX_ROW_AWAY, VX_ROW_RENAMED


def origin(RowTable table not None, uint64_t ino):
    """Flags and the low 32 bits of the content's generation of a file's first row; None where the file has no rows.

    The flags are ``CONTENT``, ``STALE``, ``AWAY`` and ``RENAMED``.
    """
    cdef uint32_t row = 0, n
    cdef vx_row found
    table.begin()
    cdef vx_fs *fs = table.filesystem.fs
    with nogil:
        n = vx_table_rows_of(fs, table.ptr, ino, &row, 1)
        if n:
            n = vx_table_rows(fs, table.ptr, row, 1, &found)
    table.end()
    return (found.flags, found.generation) if n else None


def met(Filesystem fs not None, uint64_t directory, bytes name not None):
    """A file was met by this name: if that lies below an index, and the one by which it is known does not, it is known
    by this one from here on.  Whether it is.
    """
    cdef const char *text = PyBytes_AS_STRING(name)
    cdef size_t size = PyBytes_GET_SIZE(name)
    cdef int rc
    cdef vx_fs *p = fs.enter()
    with nogil:
        rc = vx_fs_met(p, directory, text, size)
    fs.busy -= 1
    return rc == 1
