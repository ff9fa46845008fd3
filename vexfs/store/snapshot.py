"""Copies of a volume's files: a consistent snapshot while it works, and back again.

A segment only grows, and what the metadata names in it never changes.  So with the segments held, the metadata copied
first says exactly which bytes of which segments belong to the snapshot, however much is written meanwhile.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vexfs._core.fs import Filesystem
from vexfs._core.meta import Meta
from vexfs.errors import VolumeDamaged, from_errno
from vexfs.store.rows import SegmentRow
from vexfs.store.volumefile import sync_directory

Progress = Callable[[int, int], Any]
META = "meta.db"
SEGMENTS = "segments"
INDEX = "index"
PIECE = 8 << 20
TAILS_MAX = 2**31 - 1


def refuse_incomplete(directory: Path) -> None:
    """A part that is missing is named before an engine fails on it, or worse, makes an empty one."""
    for name in (META, SEGMENTS):
        if not (directory / name).exists():
            raise VolumeDamaged.at("is missing; restore the volume from a backup", directory / name)



def segment_path(directory: Path, number: int) -> Path:
    """Where segment `number` of the volume in `directory` is."""
    return directory / SEGMENTS / f"{number:08x}.seg"


def take(
    filesystem: Filesystem, source: Path, target: Path, master: bytes | None, progress: Progress | None = None
) -> None:
    """Copy the running volume in `source` as it is now into the empty directory `target`.

    Durable when this returns, but for the volume file, which the caller writes last.
    """
    for name in (SEGMENTS, INDEX):
        (target / name).mkdir()
    filesystem.hold()
    try:
        with _room_at(target):
            filesystem.backup_meta(str(target / META))
            copy_segments(source, target, master, progress)
    finally:
        filesystem.unhold()


def copy_segments(source: Path, target: Path, master: bytes | None, progress: Progress | None = None) -> None:
    """Copy the segments that ``meta.db`` in `target` names, each up to where its last frame ends."""
    with Meta(target / META, key=master, read_only=True) as meta:
        wanted = [(number, SegmentRow.unpack(row).used) for number, row in meta.scan_segments()]
        logged = _logged(meta)
    total, done = sum(used for _, used in wanted), 0
    for number, used in wanted:
        if not used:
            continue
        for step in _copy(segment_path(source, number), segment_path(target, number), used, logged.get(number, used)):
            done += step
            if progress is not None:
                progress(done, total)
    sync_directory(target / SEGMENTS)
    sync_directory(target)


def _logged(meta: Meta) -> dict[int, int]:
    """From which byte of a segment on the log of metadata has what is written: a power cut may have left it shorter."""
    found: dict[int, int] = {}
    for place, _ in meta.scan_tails(limit=TAILS_MAX):
        found.setdefault(place >> 32, place & 0xFFFFFFFF)
    return found


def copy_closed(source: Path, target: Path, master: bytes | None, progress: Progress | None = None) -> None:
    """Copy a volume that nobody has open into the empty directory `target`."""
    for name in (SEGMENTS, INDEX):
        (target / name).mkdir()
    # Through SQLite's own copy, so that a log that was not checkpointed comes with it.
    with _room_at(target):
        with Meta(source / META, key=master, read_only=not os.access(source / META, os.W_OK)) as meta:
            meta.backup(target / META)
        copy_segments(source, target, master, progress)


@contextlib.contextmanager
def _room_at(target: Path) -> Iterator[None]:
    """Around what writes to the copy alone: whichever file met it, a full disk is the copy's."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = f"{os.strerror(error.errno)}; nothing was left there: make room on the disk of the copy, and do it again"
        raise from_errno(error.errno, target, message=told) from None


def _copy(source: Path, target: Path, size: int, logged: int) -> Any:
    """Copy `size` bytes, of which those from `logged` on may be missing; yields each step.

    On the same disk they are not read where it can share them.
    """
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            done = 0
            while done < size:
                step = _copy_piece(reading, writing, min(PIECE, size - done), done)
                if not step and done >= logged:
                    os.ftruncate(writing, size)
                    break
                if not step:
                    raise VolumeDamaged.at(
                        f"ends at {done} bytes where {size} belong to the volume; run `vexctl volume fsck`", source
                    )
                done += step
                yield step
            os.fsync(writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_piece(reading: int, writing: int, size: int, offset: int) -> int:
    try:
        return os.copy_file_range(reading, writing, size, offset, offset)
    except OSError:
        # Across filesystems, or on one that has no such call.
        return os.pwrite(writing, os.pread(reading, size, offset), offset)
