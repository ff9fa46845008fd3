"""Whatever stands on the disk, a row is read as what was written, or refused by name; never anything else."""

from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vexfs.errors import FormatUnknown, VolumeDamaged
from vexfs.store import rows, volumefile
from vexfs.store.rows import APART, BadRow, Extent, InodeRow, SegmentRow

U32, U64, I64 = (st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1), st.integers(-(1 << 63), (1 << 63) - 1))


@st.composite
def inode_rows(draw: st.DrawFn) -> InodeRow:
    apart = draw(st.booleans())
    return InodeRow(
        *(draw(U32) for _ in range(4)), *(draw(U64) for _ in range(4)), *(draw(I64) for _ in range(4)), draw(U64),
        draw(U64), flags=draw(st.integers(0, 255)) & ~APART | (APART if apart else 0),
        inline=b"" if apart else draw(st.binary(max_size=300)), apart_n=draw(st.integers(0, 4096)) if apart else 0,
    )  # fmt: skip


@st.composite
def maps(draw: st.DrawFn) -> list[Extent]:
    cuts = sorted(draw(st.sets(st.integers(0, rows.REGION_BYTES), max_size=12)))
    out = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        length = min(end - start, rows.FRAME_MAX)
        skip = draw(st.integers(0, rows.FRAME_MAX - length))
        out.append(Extent(start, length, draw(U32), draw(U32), draw(U32), skip))
    return out


XATTRS = st.dictionaries(st.binary(min_size=1, max_size=255), st.binary(max_size=500), max_size=5)
PARSERS = {
    "inode": InodeRow.unpack, "map": rows.unpack_map, "segment": SegmentRow.unpack, "xattrs": rows.unpack_xattrs,
    "oplog": lambda data: list(rows.unpack_oplog(data)),
}  # fmt: skip


@given(inode_rows())
def test_an_inode_row_comes_back(row: InodeRow) -> None:
    assert InodeRow.unpack(row.pack()) == row


@given(maps())
def test_a_map_comes_back(extents: list[Extent]) -> None:
    assert rows.unpack_map(rows.pack_map(extents)) == extents


@given(XATTRS)
def test_attributes_come_back(values: dict[bytes, bytes]) -> None:
    assert rows.unpack_xattrs(rows.pack_xattrs(values)) == values


@given(U64, U64, U64)
def test_a_segment_row_comes_back(total: int, live: int, used: int) -> None:
    assert SegmentRow.unpack(SegmentRow(total, live, used).pack()) == (total, live, used)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound row of some kind with bytes changed, cut off or added."""
    sound = draw(st.one_of(inode_rows().map(InodeRow.pack), maps().map(rows.pack_map), XATTRS.map(rows.pack_xattrs)))
    data = bytearray(sound)
    for at, value in draw(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4)):
        if data:
            data[at % len(data)] = value
    end = draw(st.integers(0, len(data)))
    return bytes(data[:end]) + draw(st.binary(max_size=40))


@pytest.mark.parametrize("kind", PARSERS)
@given(data=st.one_of(st.binary(max_size=400), damaged()))
@example(data=b"")
@example(data=b"\xff" * 104)
def test_nothing_but_a_bad_row_is_raised(kind: str, data: bytes) -> None:
    try:
        PARSERS[kind](data)
    except BadRow as error:
        assert str(error)


@given(data=st.one_of(st.binary(max_size=300), damaged()))
def test_what_is_read_of_an_inode_row_is_what_it_says(data: bytes) -> None:
    try:
        row = InodeRow.unpack(data)
    except BadRow:
        return
    assert row.pack() == data


@st.composite
def volume_files(draw: st.DrawFn) -> volumefile.VolumeFile:
    geometry = volumefile.checked_geometry(
        draw(st.integers(1, 1024)) << 20, draw(st.just(0) | st.integers(1 << 20, 1 << 50)),
        draw(st.sampled_from(["lz4", "none"])),
    )
    return volumefile.VolumeFile(geometry=geometry)


@given(volume_files())
def test_a_volume_file_comes_back(about: volumefile.VolumeFile) -> None:
    assert volumefile.parse(about.text().encode(), Path("volume.toml")) == about


@given(volume_files(), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), min_size=1, max_size=4),
       st.integers(0, 2000))  # fmt: skip
def test_a_volume_file_that_was_changed_is_refused(
    about: volumefile.VolumeFile, changes: list[tuple[int, bytes]], end: int
) -> None:
    data = bytearray(about.text().encode())
    whole = bytes(data)
    for at, value in changes:
        at %= len(data) or 1
        data[at : at + 1] = value
    changed = bytes(data[: end or None])
    try:
        told = volumefile.parse(changed, Path("volume.toml"))
    except (FormatUnknown, VolumeDamaged) as error:
        assert "volume.toml" in str(error) and changed != whole
        return
    assert attrs.asdict(told) == attrs.asdict(about)
