"""The filesystem's packed rows, read and written outside the core: for fsck and for tools.

``docs/format.md`` gives every byte.  All numbers are little-endian.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import attrs

REGION_BYTES = 1 << 20
REGION_BITS = 24
INLINE_MAX = 4096
FRAME_MAX = 128 * 1024
FILE_MAX = 1 << 44
ROOT_INO = 1
SLOTS = 4

INLINE = 1
HAS_XATTR = 2
APART = 4

_INODE = struct.Struct("<BBHIIIIIQQQQqqqqQQ")
_MAP_HEAD = struct.Struct("<B3xI")
_EXTENT = struct.Struct("<6I")
_SEGMENT = struct.Struct("<4Q")
_XATTR_HEAD = struct.Struct("<IB3x")
_OPLOG_HEAD = struct.Struct("<IHHQQQQq")

OPLOG_KINDS = (
    "", "make", "link", "unlink", "rename", "setattr", "setxattr", "removexattr", "content", "delete",
)  # fmt: skip


class BadRow(ValueError):
    """A row does not have the form that ``docs/format.md`` gives."""


@attrs.define
class InodeRow:
    """One file: the row of table ``inode``.

    Inline content is in `inline`, or, with the flag `APART`, it is `apart_n` bytes in table ``content``.
    """

    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    alloc: int
    generation: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
    parent: int
    slot: int
    flags: int = 0
    inline: bytes = b""
    apart_n: int = 0

    @classmethod
    def unpack(cls, row: bytes) -> "InodeRow":
        """Read a row; raises `BadRow`."""
        if len(row) < _INODE.size:
            raise BadRow(f"inode row of {len(row)} bytes; at least {_INODE.size} are needed")
        version, flags, header, mode, nlink, uid, gid, inline_n, *rest = _INODE.unpack_from(row)
        if version != 1 or header != _INODE.size:
            raise BadRow(f"inode row version {version} with a header of {header} bytes; version 1 is known")
        apart = inline_n if flags & APART else 0
        if inline_n > INLINE_MAX or len(row) != header + inline_n - apart:
            raise BadRow(f"inode row of {len(row)} bytes says that it holds {inline_n} inline bytes")
        return cls(mode, nlink, uid, gid, *rest, flags=flags, inline=row[header:], apart_n=apart)  # type: ignore[misc]

    def pack(self) -> bytes:
        """Write the row."""
        head = _INODE.pack(
            1, self.flags, _INODE.size, self.mode, self.nlink, self.uid, self.gid, len(self.inline) + self.apart_n,
            self.rdev, self.size, self.alloc, self.generation, self.atime_ns, self.mtime_ns, self.ctime_ns,
            self.btime_ns, self.parent, self.slot,
        )  # fmt: skip
        return head + self.inline


class Extent(NamedTuple):
    """``length`` bytes of a region from ``off`` on: decoded bytes ``skip..`` of the frame (segment, position)."""

    off: int
    length: int
    segment: int
    position: int
    stored: int
    skip: int


def unpack_map(row: bytes) -> list[Extent]:
    """Read a region's extent map; raises `BadRow` when it is malformed, unsorted or overlapping."""
    if len(row) < _MAP_HEAD.size:
        raise BadRow(f"map row of {len(row)} bytes")
    version, count = _MAP_HEAD.unpack_from(row)
    if version != 1 or len(row) != _MAP_HEAD.size + count * _EXTENT.size:
        raise BadRow(f"map row of version {version} with {count} extents has {len(row)} bytes")
    extents = [Extent(*e) for e in _EXTENT.iter_unpack(row[_MAP_HEAD.size :])]
    end = 0
    for e in extents:
        if e.off < end or not e.length or e.off + e.length > REGION_BYTES or e.skip + e.length > FRAME_MAX:
            raise BadRow(f"extent at {e.off} of {e.length} bytes overlaps or leaves its region or frame")
        end = e.off + e.length
    return extents


def pack_map(extents: list[Extent]) -> bytes:
    """Write a region's extent map."""
    return _MAP_HEAD.pack(1, len(extents)) + b"".join(_EXTENT.pack(*e) for e in extents)


class SegmentRow(NamedTuple):
    """A segment's accounting: raw bytes of its frames, how many of them are live, where its last frame ends."""

    raw_total: int
    raw_live: int
    used: int

    @classmethod
    def unpack(cls, row: bytes) -> "SegmentRow":
        """Read a row; raises `BadRow`."""
        if len(row) != _SEGMENT.size:
            raise BadRow(f"segment row of {len(row)} bytes; {_SEGMENT.size} are right")
        return cls(*_SEGMENT.unpack(row)[:3])

    def pack(self) -> bytes:
        """Write the row."""
        return _SEGMENT.pack(*self, 0)


def unpack_xattrs(row: bytes) -> dict[bytes, bytes]:
    """Read an inode's extended attributes; raises `BadRow`."""
    out: dict[bytes, bytes] = {}
    at = 0
    while at < len(row):
        if len(row) - at < _XATTR_HEAD.size:
            raise BadRow("xattr row ends within an entry")
        value_n, name_n = _XATTR_HEAD.unpack_from(row, at)
        at += _XATTR_HEAD.size
        if not name_n or value_n > 65536 or len(row) - at < name_n + value_n:
            raise BadRow("xattr entry with impossible lengths")
        out[row[at : at + name_n]] = row[at + name_n : at + name_n + value_n]
        at += name_n + value_n
    return out


def pack_xattrs(values: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write an inode's extended attributes: a mapping, or pairs of names that each come once."""
    head = _XATTR_HEAD.pack
    pairs = values.items() if isinstance(values, Mapping) else values
    return b"".join([head(len(v), len(k)) + k + v for k, v in pairs])


class Change(NamedTuple):
    """One oplog entry; ``docs/format.md`` says what ``a``, ``b``, ``c`` and the strings hold for each kind."""

    kind: str
    ino: int
    a: int
    b: int
    c: int
    time_ns: int
    first: bytes
    second: bytes


def unpack_oplog(data: bytes) -> Iterator[Change]:
    """Read one epoch's operations; raises `BadRow`."""
    at = 0
    while at < len(data):
        if len(data) - at < _OPLOG_HEAD.size:
            raise BadRow("oplog row ends within an entry")
        n, op, first_n, ino, a, b, c, time_ns = _OPLOG_HEAD.unpack_from(data, at)
        if n < _OPLOG_HEAD.size + first_n or n > len(data) - at or not 0 < op < len(OPLOG_KINDS):
            raise BadRow(f"oplog entry of kind {op} with impossible lengths")
        body = data[at + _OPLOG_HEAD.size : at + n]
        yield Change(OPLOG_KINDS[op], ino, a, b, c, time_ns, body[:first_n], body[first_n:])
        at += n
