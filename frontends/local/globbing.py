"""Matching paths of a volume against patterns, with the meaning that ``pathlib`` gives them.

``*``, ``?`` and ``[...]`` match within one name, hidden names too; ``**`` matches any number of directories and does
not follow symlinks into them.  At the end of a pattern it matches files, too, from Python 3.13 on.
"""

import errno
import fnmatch
import re
import stat
import sys
from collections.abc import Iterator

from vexfs._core.fs import Filesystem

MAGIC = re.compile(r"[*?[]")
#: These say that nothing matches; what else fails (damage, a node that is gone) is told.
NOTHING_THERE = {
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EACCES, errno.EPERM
}  # fmt: skip


def listing(filesystem: Filesystem, directory: str) -> list[tuple[str, int]]:
    """Names and file types in `directory`, sorted; nothing when it is no directory, went away, or is closed to us."""
    try:
        found = [(name.decode("utf-8", "surrogateescape"), kind) for name, _, kind in filesystem.scandir(directory)]
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return []
        raise
    return sorted(found)


def join(directory: str, name: str) -> str:
    """`name` below `directory`, with no ``./`` in front."""
    if directory in ("", "."):
        return name
    return f"{directory}{name}" if directory.endswith("/") else f"{directory}/{name}"


def glob(filesystem: Filesystem, base: str, pattern: str) -> Iterator[str]:
    """Paths below `base` that match `pattern`, in sorted order within each directory, none twice."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if not parts:
        raise ValueError(f"unacceptable pattern: {pattern!r}")
    if pattern.startswith("/"):
        base = "/"
    seen: set[str] = set()
    for path in _select(filesystem, base, parts, only_directories=pattern.endswith("/")):
        if path not in seen:
            seen.add(path)
            yield path


def _select(filesystem: Filesystem, base: str, parts: list[str], only_directories: bool) -> Iterator[str]:
    head, rest = parts[0], parts[1:]
    if head == "**":
        for directory in _directories(filesystem, base):
            if rest:
                yield from _select(filesystem, directory, rest, only_directories)
                continue
            yield directory
            if sys.version_info >= (3, 13) and not only_directories:
                names = listing(filesystem, directory or ".")
                yield from (join(directory, name) for name, kind in names if kind != stat.S_IFDIR)
        return
    if not MAGIC.search(head):
        path = join(base, head)
        if rest:
            yield from _select(filesystem, path, rest, only_directories)
        elif _is(filesystem, path, only_directories):
            yield path
        return
    match = re.compile(fnmatch.translate(head)).match
    for name, _ in listing(filesystem, base):
        if match(name):
            path = join(base, name)
            if rest:
                yield from _select(filesystem, path, rest, only_directories)
            elif not only_directories or _is(filesystem, path, True):
                yield path


def _directories(filesystem: Filesystem, base: str) -> Iterator[str]:
    if not _is(filesystem, base or ".", True):
        return
    todo = [base]
    while todo:
        directory = todo.pop()
        yield directory
        below = [join(directory, name) for name, kind in listing(filesystem, directory or ".") if kind == stat.S_IFDIR]
        todo += reversed(below)


def _is(filesystem: Filesystem, path: str, directory: bool) -> bool:
    try:
        found = filesystem.stat(path, follow_symlinks=directory)
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return False
        raise
    return not directory or stat.S_ISDIR(found.st_mode)
