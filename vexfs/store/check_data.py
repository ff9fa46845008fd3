"""The check of content: extent maps against inodes, extents against frames, accounting against both."""

import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from vexfs._core.meta import Meta
from vexfs._core.segment import SegmentStore
from vexfs.errors import NotFound
from vexfs.store.check_table import S_IFMT, Table, counts, pages, places
from vexfs.store.rows import (
    APART,
    FRAME_MAX,
    INLINE,
    INLINE_MAX,
    REGION_BITS,
    REGION_BYTES,
    BadRow,
    Extent,
    SegmentRow,
    pack_map,
    unpack_map,
)

if TYPE_CHECKING:
    from vexfs.store.check import Report

REGION_MASK = (1 << REGION_BITS) - 1
EXTENT_BYTES = 24
HEAD_BYTES = 8
#: Frames begin at multiples of this: what is missing to the next one is padding.
ALIGN = 64
#: A large batch is padded up to the end of a block.
BLOCK = 4096
RESTORE = "restore the file from a backup, or remove it"
OF_AN_INDEX = "restore the volume from a backup, or drop the index (vexctl index list, index drop) and make it anew"


EXTENT = np.dtype([(name, "<u4") for name in Extent._fields])
#: A stretch of a file that lies in a frame: as `Use`, and the segment.
USE = np.dtype([
    ("ino", "<u8"), ("offset", "<u8"), ("length", "<u4"), ("position", "<u4"), ("stored", "<u4"), ("skip", "<u4"),
    ("segment", "<u4"),
])  # fmt: skip
FRAME = np.dtype([
    ("ino", "<u8"), ("off", "<u8"), ("pos", "<u4"), ("stored", "<u4"), ("raw_len", "<u4"), ("err", "<i4"),
])  # fmt: skip


class Use(NamedTuple):
    """A stretch of a file that lies in a frame."""

    ino: int
    offset: int
    length: int
    position: int
    stored: int
    skip: int


@attrs.define
class Content:
    """What the extent maps say, as `USE`, by segment, and what cannot be read."""

    uses: NDArray[Any] = attrs.field(factory=lambda: np.zeros(0, USE))
    lost: dict[tuple[str, int], list[tuple[int, int, str]]] = attrs.field(factory=dict)

    def of(self, segment: int) -> NDArray[Any]:
        """The uses of one segment."""
        first, end = (int(np.searchsorted(self.uses["segment"], np.uint32(segment), s)) for s in ("left", "right"))
        return self.uses[first:end]

    def lose(self, kind: str, use: Use, why: str) -> None:
        """Remember a stretch that cannot be read; told once a file, however many stretches it has."""
        self.lost.setdefault((kind, use.ino), []).append((use.offset, use.length, why))


def check_data(
    meta: Meta, store: SegmentStore, table: Table, report: "Report", read_data: bool,
    progress: Callable[[int, int], Any] | None,
) -> None:
    """Check maps, segments, frames and the counts of bytes."""
    _check_apart(meta, table, report)
    content = _read_maps(meta, table, report)
    _check_allocation(meta, table, content, report)
    _check_segments(meta, store, content, report, read_data, progress)
    for (kind, ino), stretches in sorted(content.lost.items()):
        told = ", ".join(f"{offset}..{offset + length} ({why})" for offset, length, why in sorted(stretches)[:8])
        more = f" and {len(stretches) - 8} more stretches" if len(stretches) > 8 else ""
        where = table.path(ino)
        remedy = OF_AN_INDEX if where.startswith("/.vexfs/index-") else RESTORE
        report.add(kind, where, f"cannot be read at bytes {told}{more}", remedy=remedy)


# -- small files


def _check_apart(meta: Meta, table: Table, report: "Report") -> None:
    """Content of small files beside their rows: each row of it has its file, each file its row, and of equal length."""
    is_apart = table.inodes["flags"] & APART != 0
    having = np.zeros(len(table), np.bool_)
    for rows in pages(meta.scan_contents):
        where = table.places([ino for ino, _ in rows])
        theirs = (where >= 0) & is_apart[where]
        having[where[theirs]] = True
        odd = ~theirs | (table.inodes["inline"][where] != np.array([len(data) for _, data in rows]))
        for at in np.flatnonzero(odd).tolist():
            _closer_apart(table, *rows[at], report)
    for ino in table.numbers[is_apart & ~having].tolist():
        length = table.row(ino).apart_n
        report.add(
            "content-lost", table.path(ino), f"its {length} bytes of content are lost, zeros take their place",
            fix=partial(_set_content, ino, bytes(length), None),
        )  # fmt: skip


def _closer_apart(table: Table, ino: int, data: bytes, report: "Report") -> None:
    row = table.row(ino) if ino in table else None
    if row is None or not row.flags & APART:
        what = "a file that is not there" if row is None else "a file that has it elsewhere"
        report.add("content-without-file", table.path(ino), f"a row of content of {what}",
                   fix=lambda meta: meta.del_content(ino))  # fmt: skip
    else:
        right = min(len(data), row.size, INLINE_MAX)
        report.add(
            "content-length", table.path(ino), f"says {row.apart_n} bytes of content, has {len(data)}",
            fix=partial(_set_content, ino, data[:right], table.change(ino, apart_n=right)),
        )  # fmt: skip


def _set_content(ino: int, data: bytes, change: Callable[[Meta], Any] | None, meta: Meta) -> None:
    meta.put_content(ino, data)
    if change is not None:
        change(meta)


# -- maps


def _read_maps(meta: Meta, table: Table, report: "Report") -> Content:
    parts = [np.zeros(0, USE)]
    for rows in pages(meta.scan_all_maps):
        keys = np.array([key for key, _ in rows], np.uint64)
        sizes = np.array([len(raw) for _, raw in rows])
        where = table.places(keys >> np.uint64(REGION_BITS))
        held = np.maximum(sizes - HEAD_BYTES, 0) // EXTENT_BYTES
        heads = np.frombuffer(b"".join([raw[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0") for _, raw in rows]), "<u4")
        odd = (sizes != HEAD_BYTES + held * EXTENT_BYTES) | (heads[::2] & 255 != 1) | (heads[1::2] != held)
        odd |= (where < 0) | (table.inodes["mode"][where] & S_IFMT != stat.S_IFREG)
        odd |= (table.inodes["flags"][where] & INLINE != 0) & (table.inodes["inline"][where] > 0)
        part, row = _uses_of(rows, held, keys)
        odd[row[_odd_uses(part, row, table.inodes["size"][where])]] = True
        parts.append(part[~odd[row]])
        for at in np.flatnonzero(odd).tolist():
            parts.append(np.array(list(_closer_map(table, *rows[at], report)), USE))
    uses = np.concatenate(parts)
    report.extents = len(uses)
    return Content(uses[np.argsort(uses["segment"], kind="stable")])


def _uses_of(
    rows: list[tuple[int, bytes]], held: NDArray[np.int64], keys: NDArray[np.uint64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The extents of some maps, as `USE`, and the row that each comes from."""
    ends = (HEAD_BYTES + held * EXTENT_BYTES).tolist()
    raw = b"".join([raw[HEAD_BYTES:end] for (_, raw), end in zip(rows, ends, strict=True)])
    extents, row = np.frombuffer(raw, EXTENT), np.repeat(np.arange(len(rows)), held)
    uses = np.empty(len(extents), USE)
    for name in ("length", "position", "stored", "skip", "segment"):
        uses[name] = extents[name]
    uses["ino"] = keys[row] >> np.uint64(REGION_BITS)
    uses["offset"] = (keys[row] & np.uint64(REGION_MASK)) * np.uint64(REGION_BYTES) + extents["off"]
    return uses, row


def _odd_uses(uses: NDArray[Any], row: NDArray[np.int64], sizes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Uses in which something may be wrong: malformed, out of their region or file, or over the one before."""
    length, skip = uses["length"].astype(np.int64), uses["skip"].astype(np.int64)
    off = (uses["offset"] % np.uint64(REGION_BYTES)).astype(np.int64)
    odd = (length == 0) | (off + length > REGION_BYTES) | (skip + length > FRAME_MAX) | (uses["offset"] >= sizes[row])
    odd[1:] |= (row[1:] == row[:-1]) & (off[1:] < (off + length)[:-1])
    return np.asarray(odd, np.bool_)


def _closer_map(table: Table, key: int, raw: bytes, report: "Report") -> Iterator[tuple[int, ...]]:
    """A closer look at one map; the extents that stand, as `USE`."""
    ino, region = key >> REGION_BITS, key & REGION_MASK
    row, where = table.row(ino) if ino in table else None, table.path(ino)
    remove = lambda meta: meta.del_map(ino, region)  # noqa: E731
    if row is None or not stat.S_ISREG(row.mode):
        what = "a file that is not there" if row is None else "what is no regular file"
        report.add("map-without-file", where, f"an extent map of {what}", fix=remove)
        return
    if row.flags & INLINE and (row.inline or row.apart_n):
        report.add("map-of-inline", where, "the content is inline, and has an extent map too", fix=remove)
        return
    try:
        extents = unpack_map(raw)
    except BadRow as error:
        extents = salvage(raw)
        report.add(
            "map-row", where, f"region {region}: {error}; {len(extents)} extents can be kept, the rest is lost",
            fix=_put_map(ino, region, extents),
        )  # fmt: skip
    start = region * REGION_BYTES
    inside = [e for e in extents if start + e.off < row.size]
    if len(inside) != len(extents):
        report.add(
            "extent-outside-file", where,
            f"extents reach to {start + extents[-1].off + extents[-1].length}, the file ends at {row.size}",
            fix=_put_map(ino, region, inside),
        )  # fmt: skip
    for e in inside:
        yield ino, start + e.off, e.length, e.position, e.stored, e.skip, e.segment


def _put_map(ino: int, region: int, extents: list[Extent]) -> Callable[[Meta], Any]:
    if not extents:
        return lambda meta: meta.del_map(ino, region)
    return lambda meta: meta.put_map(ino, region, pack_map(extents))


def salvage(raw: bytes) -> list[Extent]:
    """The extents of a malformed map that make sense and do not overlap, each as far as it is whole."""
    found: list[Extent] = []
    end = 0
    for extent in sorted(_whole_extents(raw)):
        sane = extent.length and extent.off + extent.length <= REGION_BYTES and extent.skip + extent.length <= FRAME_MAX
        if sane and extent.off >= end:
            found.append(extent)
            end = extent.off + extent.length
    return found


def _whole_extents(raw: bytes) -> Iterator[Extent]:
    for at in range(HEAD_BYTES, len(raw) - EXTENT_BYTES + 1, EXTENT_BYTES):
        yield Extent(*(int.from_bytes(raw[at + i : at + i + 4], "little") for i in range(0, EXTENT_BYTES, 4)))


def _check_allocation(meta: Meta, table: Table, content: Content, report: "Report") -> None:
    held = counts(table.places(content.uses["ino"]), len(table), content.uses["length"])
    for at in np.flatnonzero(table.inodes["alloc"] != held.astype(np.uint64)).tolist():
        ino, right = int(table.numbers[at]), int(held[at])
        said = int(table.inodes["alloc"][at])
        report.add(
            "allocation", table.path(ino), f"says {said} bytes in extents, has {right}",
            fix=table.change(ino, alloc=right),
        )  # fmt: skip
    used = int(held.sum()) + int(table.inodes["inline"].sum(dtype=np.int64))
    try:
        said = meta.get_int("used")
    except NotFound:
        said = -1
    if said != used:
        report.add(
            "used-bytes", "meta.db", f"says {said} bytes of content, there are {used}", note=True,
            fix=lambda meta: meta.put_int("used", used),
        )  # fmt: skip


# -- segments


def _check_segments(
    meta: Meta, store: SegmentStore, content: Content, report: "Report", read_data: bool,
    progress: Callable[[int, int], Any] | None,
) -> None:
    rows = dict(meta.scan_segments())
    sizes = store.segments()
    report.segments = len(sizes)
    total, done = sum(sizes.values()), 0
    for number in sorted({*rows, *sizes, *np.unique(content.uses["segment"]).tolist()}):
        uses = content.of(number)
        where = f"segments/{number:08x}.seg"
        if number not in sizes:
            _without_file(number, where, number in rows, uses, content, report)
        elif number not in rows and not len(uses):
            report.add("leftover-segment", where, f"{sizes[number]} bytes that nothing names; opening removes it",
                       note=True)  # fmt: skip
        else:
            frames = _scan(store, number, where, read_data, report)
            _check_uses(frames, number, uses, content)
            _check_row(rows.get(number), number, where, sizes[number], frames, uses, report)
        done += sizes.get(number, 0)
        report.bytes_checked += sizes.get(number, 0)
        if progress is not None:
            progress(done, total)


def _listed(uses: NDArray[Any]) -> Iterator[Use]:
    return (Use(*fields[:-1]) for fields in uses.tolist())


def _without_file(
    number: int, where: str, has_row: bool, uses: NDArray[Any], content: Content, report: "Report"
) -> None:
    for use in _listed(uses):
        content.lose("missing-segment", use, f"{where} is missing")
    if not len(uses) and has_row:
        report.add("segment-without-file", where, "nothing uses it and its file is gone; opening forgets it", note=True,
                   fix=lambda meta: meta.del_segment(number))  # fmt: skip


def _scan(store: SegmentStore, number: int, where: str, read_data: bool, report: "Report") -> NDArray[Any]:
    """The frames of a segment, as `FRAME`, by position."""
    try:
        found = store.scan(number, read_data)
    except OSError as error:
        report.add("segment", where, error.strerror or str(error), remedy="restore it from a backup")
        found = []
    report.frames += len(found)
    frames = np.array([(f.ino, f.off, f.pos, f.stored, f.raw_len, f.err) for f in found], FRAME)
    return frames[np.argsort(frames["pos"], kind="stable")]


def _check_uses(frames: NDArray[Any], number: int, uses: NDArray[Any], content: Content) -> None:
    at = places(frames["pos"], uses["position"])
    odd = at < 0
    if len(frames):
        its = frames[at]
        ends = uses["skip"].astype(np.int64) + uses["length"]
        odd |= (its["err"] != 0) | (its["ino"] != uses["ino"]) | (its["off"] != uses["offset"] - uses["skip"])
        odd |= (its["stored"] != uses["stored"]) | (ends > its["raw_len"])
    for use, place in zip(_listed(uses[odd]), at[odd].tolist(), strict=True):
        frame = frames[place] if place >= 0 else None
        if frame is None:
            content.lose("missing-frame", use, f"segment {number} has no frame at {use.position}")
        elif frame["err"]:
            content.lose("damaged-frame", use, f"the frame at {use.position} of segment {number} is damaged")
        elif use.skip + use.length > frame["raw_len"] and _is_of(frame, use):
            content.lose("extent-outside-frame", use, f"the frame at {use.position} of segment {number} is shorter")
        else:
            content.lose("foreign-frame", use, f"the frame at {use.position} of segment {number} is another file's")


def _is_of(frame: Any, use: Use) -> bool:
    return (int(frame["ino"]), int(frame["off"]), int(frame["stored"])) == (use.ino, use.offset - use.skip, use.stored)


def _check_row(
    raw: bytes | None, number: int, where: str, size: int, frames: NDArray[Any], uses: NDArray[Any], report: "Report"
) -> None:
    live = int(uses["length"].sum(dtype=np.int64))
    ends = uses["position"].astype(np.int64) + uses["stored"]
    end = int(ends[ends <= size].max(initial=0))
    whole = int(frames["raw_len"][frames["err"] == 0].sum(dtype=np.int64))
    cut = False
    try:
        row = SegmentRow.unpack(raw) if raw is not None else None
        fault = "is not accounted for" if row is None else ""
    except BadRow as error:
        row, fault = None, str(error)
    if row is None:
        right = SegmentRow(max(whole, live), live, max(end, size))
    else:
        cut = bool(((ends > size) & (ends <= row.used)).any())
        used = row.used if cut else min(row.used, size)  # nothing was in what is missing
        right = SegmentRow(max(row.raw_total, live), live, max(used, end))
        if row.raw_live != live:
            fault = f"says {row.raw_live} live bytes, has {live}"
        elif right != row:
            fault = f"says that it ends at {row.used} with {row.raw_total} bytes, which cannot be"
    if fault:
        report.add("segment-row", where, fault, fix=lambda meta: meta.put_segment(number, right.pack()))
    if row is not None and cut:
        report.add("truncated-segment", where, f"has {size} bytes, {row.used} belong to the volume",
                   remedy="restore it from a backup; the files named with it cannot be read in part")  # fmt: skip
    elif row is not None and size > -(-row.used // ALIGN) * ALIGN and size != -(-row.used // BLOCK) * BLOCK:
        report.add("tail", where, f"{size - row.used} bytes that nothing names; opening cuts them off", note=True)
