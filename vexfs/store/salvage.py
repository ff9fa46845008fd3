"""A new ``meta.db`` from what can still be read of a damaged one.

A damaged page takes the rows on it (or, higher in a tree, below it) out of reach, and a scan stops there.  So the scan
is taken up again behind the damage, at growing distances, until rows come again.  What is gone with the lost rows is
found and repaired by the check that follows.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vexfs._core.meta import Meta
from vexfs.errors import Damaged, NotFound
from vexfs.store.volumefile import sync_directory

KEY_MAX = (1 << 63) - 1
PAGE = 200
SIZE_MAX = 1 << 40
NUMBERS = ("next_ino", "epoch", "files", "used")


def rebuild(path: Path, master: bytes | None) -> int:
    """Replace the database at `path` by a new one with every row that can be read.

    The damaged one is kept as ``meta.db.damaged``.

    Returns
    -------
    int
        Stretches of rows that could not be read.
    """
    fresh, kept = path.with_name(path.name + ".rebuilt"), path.with_name(path.name + ".damaged")
    for leftover in _files(fresh):
        leftover.unlink()
    with _opened(path, master) as old, Meta(fresh, key=master, create=True) as new:
        new.begin()
        lost = _copy_rows(old, new)
        new.commit()
        new.sync()
        new.checkpoint(truncate=True)
    # The damaged log goes with its database: beside a new one it would be applied to it.
    for source in _files(path):
        os.rename(source, kept.with_name(kept.name + source.name.removeprefix(path.name)))
    os.rename(fresh, path)
    sync_directory(path.parent)
    return lost


@contextlib.contextmanager
def _opened(path: Path, master: bytes | None) -> Iterator[Meta]:
    """The damaged database.  One that was cut short meanwhile goes on in zeros, which are damaged pages."""
    size = grown = path.stat().st_size
    try:
        while True:
            try:
                meta = Meta(path, key=master, salvage=True)
                break
            except Damaged:
                grown *= 2
                if not 0 < grown <= SIZE_MAX:
                    raise
                os.truncate(path, grown)
        with meta:
            yield meta
    finally:
        os.truncate(path, size)


def _files(path: Path) -> list[Path]:
    """The database at `path` with its log, as far as they are there."""
    return [p for p in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")) if p.exists()]


def _copy_rows(old: Meta, new: Meta) -> int:
    lost = [0]
    for ino, row in _scan(old.scan_inodes, lost):
        new.put_inode(ino, row)
    for ino, row in _scan(old.scan_xattrs, lost):
        new.put_xattr(ino, row)
    for ino, row in _scan(old.scan_contents, lost):
        new.put_content(ino, row)
    for key, row in _scan(old.scan_all_maps, lost):
        new.put_map(key >> 24, key & 0xFFFFFF, row)
    for parent, slot, ino, kind, name in _scan_entries(old, lost):
        new.put_dentry(parent, slot, ino, kind, name)
    for place, data in _scan(old.scan_tails, lost):
        new.put_tail(place >> 32, place & 0xFFFFFFFF, data)
    _copy_small(old, new, lost)
    return lost[0]


def _copy_small(old: Meta, new: Meta, lost: list[int]) -> None:
    for name in NUMBERS:
        try:
            new.put_int(name, old.get_int(name))
        except (Damaged, NotFound):
            lost[0] += 1
    try:
        new.put_blob("hash_key", old.get_blob("hash_key"))
    except (Damaged, NotFound):
        lost[0] += 1
    try:
        for number, row in old.scan_segments():
            new.put_segment(number, row)
    except Damaged:
        lost[0] += 1
    try:
        for ino in old.scan_orphans():
            new.put_orphan(ino)
    except Damaged:
        lost[0] += 1


def _scan(scan: Callable[[int, int], list[Any]], lost: list[int]) -> Iterator[tuple[int, bytes]]:
    """Rows in order of their key, across damage."""
    after, stride, broken = -1, 1, False
    while after < KEY_MAX:
        try:
            rows = scan(after, PAGE) if not broken else scan(after, 1)
        except Damaged:
            if not broken:
                # The rows before the damage may be on the same page of answers: take them one by one.
                broken, stride = True, 1
                continue
            lost[0] += stride == 1
            after, stride = min(after + stride, KEY_MAX), stride * 2
            continue
        if not rows:
            return
        yield from rows
        after = rows[-1][0]
        if broken and stride > 1:
            broken, stride = False, 1


def _scan_entries(old: Meta, lost: list[int]) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Entries of all directories that can be read, directory by directory where there is damage."""
    try:
        parent = after = 0
        seen = []
        while rows := old.scan_dentries(parent, after, PAGE):
            seen += rows
            parent, after = rows[-1][0], rows[-1][1]
        yield from seen
        return
    except Damaged:
        pass
    for ino, _ in _scan(old.scan_inodes, [0]):

        def scan(after: int, limit: int, ino: int = ino) -> list[Any]:
            return old.scan(ino, max(after, 0), limit)

        for slot, target, kind, name in _scan(scan, lost):  # type: ignore[misc]
            yield ino, slot, target, kind, name
