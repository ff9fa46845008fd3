"""What the check holds in memory of inodes and names: columns, about a hundred bytes a file, no name and no content.

Whole columns are compared at once, which tells which rows deserve a closer look; what these say, and the names in what
is told, are read again.  Nearly all rows of nearly all volumes are sound: the time of a check is that of the columns.
"""

import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vexfs._core.meta import Meta
from vexfs.errors import NotFound
from vexfs.store.rows import ROOT_INO, BadRow, InodeRow

PAGE = 4000
HEAD = np.dtype([
    ("version", "u1"), ("flags", "u1"), ("header", "<u2"), ("mode", "<u4"), ("nlink", "<u4"), ("uid", "<u4"),
    ("gid", "<u4"), ("inline", "<u4"), ("rdev", "<u8"), ("size", "<u8"), ("alloc", "<u8"), ("generation", "<u8"),
    ("atime", "<i8"), ("mtime", "<i8"), ("ctime", "<i8"), ("btime", "<i8"), ("parent", "<u8"), ("slot", "<u8"),
])  # fmt: skip
#: What is kept of a row; `inline` counts content in the row or in a row of its own.
KEPT = {
    "size": "<u8", "alloc": "<u8", "parent": "<u8", "slot": "<u8", "mode": "<u4", "nlink": "<u4", "inline": "<u2",
    "flags": "u1",
}  # fmt: skip
INODE = np.dtype([("ino", "<u8"), *KEPT.items()])
ENTRY = np.dtype([("ino", "<u8"), ("parent", "<u8"), ("slot", "<u8")])
S_IFMT = 0o170000
SLOT_MAX = (1 << 63) - 1
Fix = Callable[[Meta], Any]
Places = NDArray[np.int64]


class Name(NamedTuple):
    """One entry of a directory that leads somewhere."""

    parent: int
    slot: int
    name: bytes


def pages(scan: Callable[..., list[Any]], after: int = -1) -> Iterator[list[tuple[int, bytes]]]:
    """All rows of a table that is scanned by one key, some thousands at a time."""
    while rows := scan(after, PAGE):
        yield rows
        after = rows[-1][0]


def places(keys: NDArray[np.uint64], wanted: Any) -> Places:
    """Where each of `wanted` stands in the sorted `keys`; -1 where it does not."""
    wanted = np.asarray(wanted, np.uint64)
    if not len(keys):
        return np.full(wanted.shape, -1, np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def counts(at: Places, n: int, weights: NDArray[Any] | None = None) -> NDArray[np.int64]:
    """How often each of the places below `n` comes, or the sums of their weights, whole numbers below 2^53."""
    return np.bincount(at, weights, minlength=n).astype(np.int64)


class Table:
    """The inodes of a volume and the entries that lead to them.

    Parameters
    ----------
    meta : Meta
        Where rows and names are read again.
    inodes : numpy.ndarray
        As `INODE`, sorted by number.
    root : InodeRow or None
        The root that a repair makes, where there is none.

    Attributes
    ----------
    is_dir : numpy.ndarray
        Whether each inode is a directory, bool.
    entries : numpy.ndarray
        As `ENTRY`, those that stand, by the inode that they lead to, then in the order of reading.
    """

    def __init__(self, meta: Meta, inodes: NDArray[Any], root: InodeRow | None) -> None:
        self.inodes = inodes
        self.numbers = np.ascontiguousarray(inodes["ino"])
        self.is_dir = (inodes["mode"] & S_IFMT) == stat.S_IFDIR
        self.entries, self._leads_to = np.zeros(0, ENTRY), np.zeros(0, np.uint64)
        self._meta, self._root = meta, root
        self._changes: dict[int, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self.inodes)

    def __contains__(self, ino: int) -> bool:
        return self.place(ino) >= 0

    def places(self, inos: Any) -> Places:
        """Where inodes stand in the columns; -1 where they do not."""
        return places(self.numbers, inos)

    def place(self, ino: int) -> int:
        """As `places`, of one."""
        return int(places(self.numbers, ino))

    def holds_dir(self, ino: int) -> bool:
        """Whether `ino` is a directory that was read."""
        at = self.place(ino)
        return at >= 0 and bool(self.is_dir[at])

    def row(self, ino: int) -> InodeRow:
        """The row of an inode that was read."""
        if ino == ROOT_INO and self._root is not None:
            return self._root
        return InodeRow.unpack(self._meta.get_inode(ino))

    def lead(self, entries: NDArray[Any]) -> None:
        """Take over the entries that stand, as `ENTRY`, in the order of reading."""
        self.entries = entries[np.argsort(entries["ino"], kind="stable")]
        self._leads_to = np.ascontiguousarray(self.entries["ino"])

    def names(self, ino: int, most: int | None = None) -> list[Name]:
        """The entries that lead to an inode, at most so many."""
        first, end = (int(np.searchsorted(self._leads_to, np.uint64(ino), side)) for side in ("left", "right"))
        end = end if most is None else min(end, first + most)
        return [Name(p, slot, self.entry(p, slot)[1]) for _, p, slot in self.entries[first:end].tolist()]

    def entry(self, parent: int, slot: int) -> tuple[int, bytes]:
        """Type and name of an entry that was read."""
        before = (parent, slot - 1) if slot else (parent - 1, SLOT_MAX)
        return self._meta.scan_dentries(*before, 1)[0][3:]

    def path(self, ino: int) -> str:
        """A path of the inode for messages; from wherever its chain of names begins."""
        parts: list[bytes] = []
        seen: set[int] = set()
        while ino != ROOT_INO and ino not in seen and (names := self.names(ino, 1)):
            seen.add(ino)
            parts.append(names[0].name)
            ino = names[0].parent
        start = "" if ino == ROOT_INO else f"(inode {ino})"
        return start + "/" + "/".join(os.fsdecode(part) for part in reversed(parts))

    def change(self, ino: int, **fields: int) -> Fix:
        """A repair that sets fields of an inode's row, together with all others that are to change in it."""
        self._changes.setdefault(ino, {}).update(fields)

        def fix(meta: Meta) -> None:
            try:
                row = InodeRow.unpack(meta.get_inode(ino))
            except (NotFound, BadRow):  # a root that this repair makes anew
                row = self.row(ino)
            for name, value in self._changes[ino].items():
                setattr(row, name, value)
            meta.put_inode(ino, row.pack())

        return fix
