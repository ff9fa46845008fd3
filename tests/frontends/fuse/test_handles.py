"""File handles, of which servers of NFS are made, on a mounted volume."""

import ctypes
import errno
import os
import stat
import struct

import pytest

from tests.capabilities import DAC_READ_SEARCH, may


def by_handle(top, handle):
    """What a file handle leads to, as for a server of NFS: content, entries, or the name of an errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    above = os.open(top, os.O_RDONLY)
    fd = libc.open_by_handle_at(above, ctypes.create_string_buffer(handle), os.O_RDONLY)
    os.close(above)
    if fd < 0:
        return errno.errorcode[ctypes.get_errno()]
    try:
        return os.listdir(fd) if stat.S_ISDIR(os.fstat(fd).st_mode) else os.read(fd, 100)
    finally:
        os.close(fd)


def handle_of(path):
    room = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + bytes(128))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.name_to_handle_at(-100, os.fsencode(path), room, ctypes.byref(ctypes.c_int()), 0) == 0
    return room.raw


@pytest.mark.skipif(not may(DAC_READ_SEARCH), reason="file handles are opened by who may read everything alone")
def test_a_file_handle_outlives_what_the_kernel_remembers(disk):
    (disk.path / "d" / "e").mkdir(parents=True)
    (disk.path / "d" / "e" / "f").write_text("found")
    (disk.path / "gone").write_text("gone")
    files = [disk.path / "d" / "e" / "f", disk.path / "d" / "e", disk.path / "d", disk.path / "gone"]
    handles = [handle_of(path) for path in files]
    (disk.path / "gone").unlink()
    disk.unmount()
    disk.mount()
    assert [by_handle(disk.path, handle) for handle in handles] == [b"found", ["f"], ["e"], "ESTALE"]
    assert disk.status()["faults"] == "0"
