"""The check of content: extent maps against inodes, extents against frames, accounting against both."""

import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from vexfs._core.meta import Meta
from vexfs._core.segment import ScannedFrame, SegmentStore
from vexfs.errors import NotFound
from vexfs.store.check_tree import Tree, pages
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
    """What the extent maps say: uses by segment, and bytes by file."""

    uses: dict[int, list[Use]] = attrs.field(factory=dict)
    allocated: dict[int, int] = attrs.field(factory=dict)
    lost: dict[tuple[str, int], list[tuple[int, int, str]]] = attrs.field(factory=dict)

    def lose(self, kind: str, use: Use, why: str) -> None:
        """Remember a stretch that cannot be read; told once a file, however many stretches it has."""
        self.lost.setdefault((kind, use.ino), []).append((use.offset, use.length, why))


def check_data(
    meta: Meta, store: SegmentStore, tree: Tree, report: "Report", read_data: bool,
    progress: Callable[[int, int], Any] | None,
) -> None:
    """Check maps, segments, frames and the counts of bytes."""
    content = Content()
    _check_apart(meta, tree, report)
    _read_maps(meta, tree, content, report)
    _check_allocation(meta, tree, content, report)
    _check_segments(meta, store, content, report, read_data, progress)
    for (kind, ino), stretches in sorted(content.lost.items()):
        told = ", ".join(f"{offset}..{offset + length} ({why})" for offset, length, why in sorted(stretches)[:8])
        more = f" and {len(stretches) - 8} more stretches" if len(stretches) > 8 else ""
        where = tree.path(ino)
        remedy = OF_AN_INDEX if where.startswith("/.vexfs/index-") else RESTORE
        report.add(kind, where, f"cannot be read at bytes {told}{more}", remedy=remedy)


# -- small files


def _check_apart(meta: Meta, tree: Tree, report: "Report") -> None:
    """Content of small files beside their rows: each row of it has its file, each file its row, and of equal length."""
    having: set[int] = set()
    for ino, data in pages(meta.scan_contents):
        row = tree.inodes.get(ino)
        if row is None or not row.flags & APART:
            what = "a file that is not there" if row is None else "a file that has it elsewhere"
            report.add("content-without-file", tree.path(ino), f"a row of content of {what}",
                       fix=lambda meta, ino=ino: meta.del_content(ino))  # fmt: skip
            continue
        having.add(ino)
        if len(data) != row.apart_n:
            right = min(len(data), row.size, INLINE_MAX)
            report.add(
                "content-length", tree.path(ino), f"says {row.apart_n} bytes of content, has {len(data)}",
                fix=partial(_set_content, ino, data[:right], tree.change(ino, apart_n=right)),
            )  # fmt: skip
    for ino, row in tree.inodes.items():
        if row.flags & APART and ino not in having:
            report.add(
                "content-lost", tree.path(ino), f"its {row.apart_n} bytes of content are lost, zeros take their place",
                fix=partial(_set_content, ino, bytes(row.apart_n), None),
            )  # fmt: skip


def _set_content(ino: int, data: bytes, change: Callable[[Meta], Any] | None, meta: Meta) -> None:
    meta.put_content(ino, data)
    if change is not None:
        change(meta)


# -- maps


def _read_maps(meta: Meta, tree: Tree, content: Content, report: "Report") -> None:
    for key, raw in pages(meta.scan_all_maps):
        ino, region = key >> REGION_BITS, key & REGION_MASK
        remove = lambda meta, ino=ino, region=region: meta.del_map(ino, region)  # noqa: E731
        row = tree.inodes.get(ino)
        where = tree.path(ino)
        if row is None or not stat.S_ISREG(row.mode):
            what = "a file that is not there" if row is None else "what is no regular file"
            report.add("map-without-file", where, f"an extent map of {what}", fix=remove)
            continue
        if row.flags & INLINE and tree.inline.get(ino):
            report.add("map-of-inline", where, "the content is inline, and has an extent map too", fix=remove)
            continue
        try:
            extents = unpack_map(raw)
        except BadRow as error:
            extents = salvage(raw)
            report.add(
                "map-row", where, f"region {region}: {error}; {len(extents)} extents can be kept, the rest is lost",
                fix=_put_map(ino, region, extents),
            )  # fmt: skip
        _check_region(tree, content, report, ino, region, extents)


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


def _check_region(
    tree: Tree, content: Content, report: "Report", ino: int, region: int, extents: list[Extent]
) -> None:
    start, size = region * REGION_BYTES, tree.inodes[ino].size
    inside = [e for e in extents if start + e.off < size]
    if len(inside) != len(extents):
        report.add(
            "extent-outside-file", tree.path(ino),
            f"extents reach to {start + extents[-1].off + extents[-1].length}, the file ends at {size}",
            fix=_put_map(ino, region, inside),
        )  # fmt: skip
    for e in inside:
        use = Use(ino, start + e.off, e.length, e.position, e.stored, e.skip)
        content.uses.setdefault(e.segment, []).append(use)
        content.allocated[ino] = content.allocated.get(ino, 0) + e.length
        report.extents += 1


def _check_allocation(meta: Meta, tree: Tree, content: Content, report: "Report") -> None:
    for ino, row in tree.inodes.items():
        bytes_held = content.allocated.get(ino, 0)
        if row.alloc != bytes_held:
            report.add(
                "allocation", tree.path(ino), f"says {row.alloc} bytes in extents, has {bytes_held}",
                fix=tree.change(ino, alloc=bytes_held),
            )  # fmt: skip
    used = sum(content.allocated.values()) + sum(tree.inline.values())
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
    for number in sorted({*rows, *sizes, *content.uses}):
        uses = content.uses.get(number, [])
        where = f"segments/{number:08x}.seg"
        if number not in sizes:
            _without_file(number, where, number in rows, uses, content, report)
        elif number not in rows and not uses:
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


def _without_file(
    number: int, where: str, has_row: bool, uses: list[Use], content: Content, report: "Report"
) -> None:
    for use in uses:
        content.lose("missing-segment", use, f"{where} is missing")
    if not uses and has_row:
        report.add("segment-without-file", where, "nothing uses it and its file is gone; opening forgets it", note=True,
                   fix=lambda meta: meta.del_segment(number))  # fmt: skip


def _scan(
    store: SegmentStore, number: int, where: str, read_data: bool, report: "Report"
) -> dict[int, ScannedFrame]:
    try:
        frames = store.scan(number, read_data)
    except OSError as error:
        report.add("segment", where, error.strerror or str(error), remedy="restore it from a backup")
        return {}
    report.frames += len(frames)
    return {frame.pos: frame for frame in frames}


def _check_uses(frames: dict[int, ScannedFrame], number: int, uses: list[Use], content: Content) -> None:
    for use in uses:
        frame = frames.get(use.position)
        if frame is None:
            content.lose("missing-frame", use, f"segment {number} has no frame at {use.position}")
        elif frame.err:
            content.lose("damaged-frame", use, f"the frame at {use.position} of segment {number} is damaged")
        elif frame.ino != use.ino or frame.off != use.offset - use.skip or frame.stored != use.stored:
            content.lose("foreign-frame", use, f"the frame at {use.position} of segment {number} is another file's")
        elif use.skip + use.length > frame.raw_len:
            content.lose("extent-outside-frame", use, f"the frame at {use.position} of segment {number} is shorter")


def _check_row(
    raw: bytes | None, number: int, where: str, size: int, frames: dict[int, ScannedFrame], uses: list[Use],
    report: "Report",
) -> None:
    live = sum(use.length for use in uses)
    end = max((use.position + use.stored for use in uses), default=0)
    whole = sum(frame.raw_len for frame in frames.values() if not frame.err)
    try:
        row = SegmentRow.unpack(raw) if raw is not None else None
        fault = "is not accounted for" if row is None else ""
    except BadRow as error:
        row, fault = None, str(error)
    if row is None:
        right = SegmentRow(max(whole, live), live, max(end, size))
    else:
        right = SegmentRow(max(row.raw_total, live), live, max(row.used, end))
        if row.raw_live != live:
            fault = f"says {row.raw_live} live bytes, has {live}"
        elif right != row:
            fault = f"says that it ends at {row.used} with {row.raw_total} bytes, which cannot be"
    if fault:
        report.add("segment-row", where, fault, fix=lambda meta: meta.put_segment(number, right.pack()))
    if row is not None and size < row.used:
        report.add("truncated-segment", where, f"has {size} bytes, {row.used} belong to the volume",
                   remedy="restore it from a backup; the files named with it cannot be read in part")  # fmt: skip
    elif row is not None and size > -(-row.used // ALIGN) * ALIGN and size != -(-row.used // BLOCK) * BLOCK:
        report.add("tail", where, f"{size - row.used} bytes that nothing names; opening cuts them off", note=True)
