"""What is said to the kernel on ``/dev/fuse`` itself, as libfuse 2 has no word for it.

Source: ``linux/fuse.h``, and ``Documentation/filesystems/fuse.rst`` of the kernel.
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Sequence
from importlib.util import find_spec

REQUEST_MOST = 1 << 20
"""Bytes that one read may ask for, where the kernel was greeted."""
WRITE_MOST = 128 << 10
"""Bytes that one write brings where llfuse has its buffers from libfuse 2 as it is."""

_READ_AHEAD_KIB = 1024
_PAGE = 4096
_OUT = struct.Struct("=IiQ")  # fuse_out_header: length, error, the request's number; with 0 a notification
_INIT_OUT = struct.Struct("=4I2H2I2HI28x")
_INIT_UNIQUE = 2  # the first request of a connection, since Linux 4.20
_INC_EPOCH = 8
_PROTOCOL = (7, 23)  # libfuse 2 speaks 19; what came since is not asked for, but renames with flags, for direct.pyx
_DO_READDIRPLUS = 1 << 13
_ASYNC_READ, _EXPORT, _BIG_WRITES, _MAX_PAGES, _HANDLE_KILLPRIV_V2 = 1 << 0, 1 << 4, 1 << 5, 1 << 22, 1 << 28


_room: ctypes.CDLL | None = None
_taken = False


def make_room() -> None:
    """Have llfuse make its buffers large enough for writes of `REQUEST_MOST`; of use before llfuse is imported.

    ``room.c`` says how.
    """
    global _room
    spec = None if _room else find_spec("vexfs.frontends.fuse.room")
    if spec is not None and spec.origin is not None:
        with contextlib.suppress(OSError):
            _room = ctypes.CDLL(spec.origin, ctypes.RTLD_GLOBAL)
            _room.vexfs_room_for_writes.restype = ctypes.c_size_t
            _room.vexfs_take_requests.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
            _room.vexfs_take_requests.restype = None


def write_most() -> int:
    """Bytes that one write may bring: as many as a worker that has begun has room for."""
    return max(WRITE_MOST, _room.vexfs_room_for_writes() if _room else 0)


def take_requests(taker: int, context: int) -> None:
    """Have requests come to the function at the address `taker` first, for mounts that begin now; 0: all to llfuse."""
    global _taken
    _taken = taker != 0
    if _room is not None:
        _room.vexfs_take_requests(taker, context)


def ahead_of_llfuse() -> bool:
    """Whether requests come to the taker first; known when the mount has been greeted."""
    return bool(_taken and _room is not None and _room.vexfs_requests_come())


def devices() -> list[int]:
    """The descriptors of ``/dev/fuse`` that this process has."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                found.append(int(name))
    return found


def greet(connection: Sequence[int]) -> bool:
    """Answer the kernel's first request ahead of libfuse, whose own answer then comes too late and is dropped.

    Promised beyond what libfuse 2 knows: set-user-id bits are taken away when the kernel says so, by a setattr without
    a field, for which it no longer asks for ``security.capability`` before every write; a read may be `REQUEST_MOST`
    long, a write `write_most()`; a file is found by its number, as ``.`` in itself, for file handles; where
    ``direct.pyx`` has requests first, listings bring attributes along.  Called while that request is handled.  False
    where the kernel numbers requests differently: then libfuse's answer counts, and nothing but speed, renames with
    flags and file handles is lost.
    """
    flags = _ASYNC_READ | _EXPORT | _BIG_WRITES | _MAX_PAGES | _HANDLE_KILLPRIV_V2
    if ahead_of_llfuse():
        flags |= _DO_READDIRPLUS
    answer = _INIT_OUT.pack(*_PROTOCOL, REQUEST_MOST, flags, 0, 0, write_most(), 0, REQUEST_MOST // _PAGE, 0, 0)
    return _say(connection, _INIT_UNIQUE, answer)


def forget_names(connection: Sequence[int]) -> bool:
    """Have the kernel ask again about every name; False where it is too old for that."""
    return _say(connection, 0, b"", _INC_EPOCH)


def read_ahead(number: int) -> None:
    """Let the kernel read further ahead on the mount with the minor device `number`: only root may ask for that."""
    with contextlib.suppress(OSError), open(f"/sys/class/bdi/0:{number}/read_ahead_kb", "w") as setting:
        setting.write(str(_READ_AHEAD_KIB))


def _say(connection: Sequence[int], unique: int, body: bytes, error: int = 0) -> bool:
    message = _OUT.pack(_OUT.size + len(body), error, unique) + body
    for device in connection:
        with contextlib.suppress(OSError):
            return os.write(device, message) == len(message)
    return False
