"""Moving content and attributes between two files of one volume, and removing whole trees."""

import os
import stat
from collections.abc import Callable
from typing import Any

from vexfs.frontends.local.globbing import join

from vexfs._core.fs import Filesystem
from vexfs.errors import InvalidArgument

CHUNK = 1 << 20
_ZEROS = bytes(CHUNK)


def copy_content(filesystem: Filesystem, source: str, target: str) -> None:
    """Copy a file's bytes; stretches of zeros become holes."""
    reading = filesystem.open(source, os.O_RDONLY)
    try:
        found = filesystem.getattr(reading)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(21, os.strerror(21), source)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidArgument.at("is a FIFO, a socket or a device: it has no content to copy", source)
        writing = filesystem.open(target, os.O_WRONLY | os.O_CREAT, stat.S_IMODE(found.st_mode) & 0o777)
        try:
            if writing == reading:
                raise InvalidArgument.at("source and target are the same file", source, target)
            filesystem.truncate_ino(writing, 0)
            offset = 0
            while piece := filesystem.read(reading, CHUNK, offset):
                if piece != _ZEROS[: len(piece)]:
                    filesystem.write(writing, piece, offset)
                offset += len(piece)
            filesystem.truncate_ino(writing, offset)
        finally:
            filesystem.release(writing)
    finally:
        filesystem.release(reading)


def copy_metadata(filesystem: Filesystem, source: str, target: str, follow_symlinks: bool = True) -> None:
    """Copy xattrs, mode and times (not the owner, as ``shutil.copystat``)."""
    for name in filesystem.listxattr(source, follow_symlinks):
        filesystem.setxattr(target, name, filesystem.getxattr(source, name, follow_symlinks), 0, follow_symlinks)
    found = filesystem.stat(source, follow_symlinks)
    if not stat.S_ISLNK(found.st_mode):
        filesystem.chmod(target, stat.S_IMODE(found.st_mode))
    filesystem.utimens(target, found.st_atime_ns, found.st_mtime_ns, follow_symlinks)


def remove_tree(filesystem: Filesystem, top: str, onerror: Callable[[OSError], Any] | None) -> None:
    """Remove `top` and all below it.  With `onerror`, what cannot be removed is told to it and left."""

    def attempt(step: Callable[[str], Any], path: str) -> Any:
        try:
            return step(path)
        except OSError as error:
            if onerror is None:
                raise
            onerror(error)
            return None

    # An explicit stack: a tree may be deeper than Python's recursion limit.  Directories are visited twice.
    todo = [(top, False)]
    while todo:
        directory, emptied = todo.pop()
        if emptied:
            attempt(filesystem.rmdir, directory)
            continue
        todo.append((directory, True))
        for name, _, kind in attempt(lambda path: list(filesystem.scandir(path)), directory) or ():
            path = join(directory, os.fsdecode(name))
            if kind == stat.S_IFDIR:
                todo.append((path, False))
            else:
                attempt(filesystem.unlink, path)
