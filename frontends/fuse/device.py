"""What is said to the kernel on ``/dev/fuse`` itself, as libfuse 2 has no word for it.

Source: ``linux/fuse.h``, and ``Documentation/filesystems/fuse.rst`` of the kernel.
"""

import contextlib
import os
import struct
from collections.abc import Sequence

REQUEST_MOST = 1 << 20
"""Bytes that one read may ask for, where the kernel was greeted."""
WRITE_MOST = 128 << 10
"""Bytes that one write brings: as many as libfuse 2 has room for."""

_READ_AHEAD_KIB = 512
_PAGE = 4096
_OUT = struct.Struct("=IiQ")  # fuse_out_header: length, error, the request's number; with 0 a notification
_INIT_OUT = struct.Struct("=4I2H2I2HI28x")
_INIT_UNIQUE = 2  # the first request of a connection, since Linux 4.20
_INC_EPOCH = 8
_PROTOCOL = (7, 19)  # what libfuse 2 speaks
_ASYNC_READ, _BIG_WRITES, _MAX_PAGES, _HANDLE_KILLPRIV_V2 = 1 << 0, 1 << 5, 1 << 22, 1 << 28


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
    a field, for which it no longer asks for ``security.capability`` before every write; and a read may be
    `REQUEST_MOST` long.  Called while that request is handled.  False where the kernel numbers requests differently:
    then libfuse's answer counts, and nothing but speed is lost.
    """
    flags = _ASYNC_READ | _BIG_WRITES | _MAX_PAGES | _HANDLE_KILLPRIV_V2
    answer = _INIT_OUT.pack(*_PROTOCOL, REQUEST_MOST, flags, 0, 0, WRITE_MOST, 0, REQUEST_MOST // _PAGE, 0, 0)
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
