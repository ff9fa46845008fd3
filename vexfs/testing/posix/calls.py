"""Small sequences of system calls under one name, so that another user's process can be asked for them."""

import ctypes
import os
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _AT_SYMLINK_FOLLOW = -100, 0x400


def create(path: str, mode: int = 0o644, content: bytes = b"", flags: int = os.O_CREAT | os.O_RDWR) -> None:
    """Open (by default making the file), write, close."""
    fd = os.open(path, flags, mode)
    try:
        if content:
            os.write(fd, content)
    finally:
        os.close(fd)


def opens(path: str, flags: int = os.O_RDONLY) -> None:
    """Open and close."""
    os.close(os.open(path, flags))


def read(path: str) -> bytes:
    """The whole content."""
    fd = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def overwrite(path: str, content: bytes, offset: int = 0) -> int:
    """Write into a file that exists."""
    fd = os.open(path, os.O_WRONLY)
    try:
        return os.pwrite(fd, content, offset)
    finally:
        os.close(fd)


def ftruncate(path: str, size: int, flags: int = os.O_RDWR) -> None:
    """Open, cut or extend, close."""
    fd = os.open(path, flags)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)


#: Flags of `fallocate`.
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE = 1, 2, 8, 16


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """As fallocate(2)."""
    if _LIBC.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def touch_now(path: str) -> None:
    """Set both times to now, as ``utimensat`` does without times."""
    os.utime(path)


def permits(path: str, mode: int) -> bool:
    """``access`` with the effective ids."""
    return os.access(path, mode, effective_ids=True)


def attributes(path: str) -> dict[str, Any]:
    """What ``lstat`` tells, in a form that travels."""
    found = os.lstat(path)
    return {name: getattr(found, name) for name in ("st_mode", "st_uid", "st_gid", "st_size", "st_nlink")}


def link_followed(source: str, target: str) -> None:
    """``linkat`` with AT_SYMLINK_FOLLOW, which ``os.link`` leaves out on Linux."""
    if _LIBC.linkat(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _AT_SYMLINK_FOLLOW):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, target)
