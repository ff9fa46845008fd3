"""What the host filesystem under a volume is, and whether it can be trusted with one.

``meta.db`` lives by file locks, shared memory and syncs that mean what they say.  Network filesystems and FUSE give
them only in part, and the result is a corrupt database long after; so a volume there is refused when it is opened.
"""

import ctypes
import errno
import os
import sys
from pathlib import Path

from vexfs.errors import HostUnsuitable, from_errno

#: ``statfs(2)`` types on which no volume is opened.
UNSUITABLE = {
    0x6969: "NFS",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x517B: "SMB",
    0x65735546: "FUSE",
    0x5346414F: "AFS",
    0x73757245: "Coda",
    0x564C: "NCP",
}
STATFS_ROOM = 512


def filesystem_type(path: str | os.PathLike[str]) -> int:
    """``f_type`` of the host filesystem that holds `path`."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(STATFS_ROOM)
    while libc.statfs(os.fsencode(path), answer):
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise from_errno(code, path)
    word = ctypes.sizeof(ctypes.c_long)
    return int.from_bytes(answer.raw[:word], sys.byteorder) & 0xFFFFFFFF


def refuse_unsuitable(directory: Path) -> None:
    """Raise ``HostUnsuitable`` when a volume in `directory` could not be kept safe."""
    kind = UNSUITABLE.get(filesystem_type(directory))
    if kind is not None:
        raise HostUnsuitable.at(
            f"lies on a {kind} filesystem, which cannot keep a volume safe; move the volume to a local disk "
            "(ext4, xfs, btrfs, zfs) and share it from there with `vexfs serve`",
            directory,
        )


def existing(path: Path) -> Path:
    """The nearest directory above `path` that is there."""
    while not path.exists():
        path = path.parent
    return path
