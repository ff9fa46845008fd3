"""What the tests of the metadata store share: stores with known content, and looks at the files behind them."""

import struct
from pathlib import Path

from vexfs._core.meta import Meta

KEY = bytes(range(32))
PAGE, FRAME, WAL_HEADER = 4096, 4120, 32


def inode_row(ino: int, generation: int = 0) -> bytes:
    """A row that tells whose it is, of a length that varies, sometimes over several pages."""
    return (b"inode %d generation %d " % (ino, generation)) * (1 + ino % 7 + 300 * (ino % 50 == 0))


def fill(meta: Meta, first: int, count: int, generation: int = 0) -> None:
    """One commit with `count` inodes and their names in directory 1."""
    meta.begin()
    for ino in range(first, first + count):
        meta.put_inode(ino, inode_row(ino, generation))
        meta.put_dentry(1, ino * 8, ino, 1, b"name of %d" % ino)
    meta.commit()


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def frame_offset(number: int) -> int:
    return WAL_HEADER + (number - 1) * FRAME


def frames(path: Path) -> list[tuple[int, int]]:
    """(page, database size if a commit) of the frames of the log's present generation."""
    raw = wal_of(path).read_bytes()
    out = []
    for at in range(WAL_HEADER, len(raw) - FRAME + 1, FRAME):
        page, commit = struct.unpack_from(">II", raw, at)
        if raw[at + 8 : at + 16] != raw[16:24]:
            break
        out.append((page, commit))
    return out


def crash_copy(path: Path, to: Path) -> Path:
    """The store as a killed process leaves it: its files, copied while it is open."""
    to.mkdir(exist_ok=True)
    copy = to / path.name
    for file in (path, wal_of(path)):
        target = copy if file == path else wal_of(copy)
        target.unlink(missing_ok=True)
        if file.exists():
            target.write_bytes(file.read_bytes())
    return copy


def flip(path: Path, at: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
