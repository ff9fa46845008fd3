"""Damaged segments: never a crash, never a wrong byte, and whatever is whole stays readable."""

import errno
import os
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vexfs._core import codec
from vexfs._core.segment import SegmentStore

KEY = bytes(range(32))
MODES = {
    "plain": {},
    "lz4": {"compression": "lz4"},
    "lz4-aes": {"compression": "lz4", "key": KEY},
    "direct-aes": {"direct_io": True, "key": KEY},
}
BLOCK, HEADER = 4096, 64


@pytest.fixture(params=MODES)
def mode(request):
    return MODES[request.param]


def filled(directory, mode, count=6):
    """A segment of `count` frames: (path of the file, frames, their bytes)."""
    blobs = [
        (b"text %d, " % i * 200)[: 100 + 83 * i] if i % 2 else random.Random(i).randbytes(90 + 70 * i)
        for i in range(count)
    ]
    with SegmentStore(directory, **mode) as s:
        frames = s.append([(i + 1, 1000 * i, b) for i, b in enumerate(blobs)])
        s.sync()
    return directory / "00000000.seg", frames, blobs


def outcome(store, frame):
    """The bytes of a frame, or None when it is refused as damaged."""
    try:
        return store.read(frame)
    except OSError as err:
        assert err.errno == errno.EBADMSG, err
        return None


def check(directory, mode, frames, blobs):
    """Read and scan everything; the number of frames that came back.  Anything else than the truth fails."""
    with SegmentStore(directory, **mode) as s:
        got = [outcome(s, f) for f in frames]
        assert all(g in (None, b) for g, b in zip(got, blobs, strict=True))
        try:
            found = s.scan(0)
        except OSError as err:
            assert err.errno == errno.EBADMSG  # only the first block of an encrypted segment can cost all of it
            found = []
        whole = {(f.ino, f.off, f.pos, f.stored, f.raw_len) for f in found if not f.err}
        assert whole <= {(f.ino, f.off, f.pos, f.stored, f.raw_len) for f in frames}
        assert len(whole) == sum(g is not None for g in got)
        return len(whole)


def test_every_byte_flipped(tmp_path, mode):
    """A flip costs the frame it is in and no other; in the first block it costs nothing."""
    path, frames, blobs = filled(tmp_path, mode)
    raw = path.read_bytes()
    rng = random.Random(1)
    for frame in (None, *frames):
        begin, end = (0, 64) if frame is None else (frame.pos, frame.pos + frame.stored)
        places = range(begin, min(end, begin + HEADER)) if end - begin > HEADER else range(begin, end)
        for at in [*places, *(rng.randrange(begin, end) for _ in range(20))]:
            bad = bytearray(raw)
            bad[at] ^= 1 << rng.randrange(8)
            path.write_bytes(bad)
            assert check(tmp_path, mode, frames, blobs) == len(frames) - (frame is not None), at


def test_first_block_lost(tmp_path, mode):
    """Plain frames prove themselves; encrypted ones need the block for their key."""
    path, frames, blobs = filled(tmp_path, mode)
    raw = path.read_bytes()
    path.write_bytes(os.urandom(BLOCK) + raw[BLOCK:])
    assert check(tmp_path, mode, frames, blobs) == (0 if "key" in mode else len(frames))


def test_scan_reports_damage_once_and_goes_on(tmp_path, mode):
    path, frames, _ = filled(tmp_path, mode)
    raw = bytearray(path.read_bytes())
    raw[frames[1].pos] ^= 1  # the header: where the next frame begins is unknown
    raw[frames[3].pos + HEADER + 5] ^= 1  # the data
    path.write_bytes(raw)
    with SegmentStore(tmp_path, **mode) as s:
        found = s.scan(0)
        assert [(f.pos, f.err) for f in found] == [
            (f.pos, errno.EBADMSG if i in (1, 3) else 0) for i, f in enumerate(frames)
        ]
        assert found[1].pos + found[1].stored == frames[2].pos
        assert s.stats()["checksum_errors"] == 2
        if "key" not in mode:  # without the key headers alone cannot be read
            assert [f.err for f in s.scan(0, verify=False)] == [0, errno.EBADMSG, 0, 0, 0, 0]


def test_truncated_everywhere(tmp_path, mode):
    path, frames, blobs = filled(tmp_path, mode)
    raw = path.read_bytes()
    for n in [0, 1, 63, 64, 100, 2048, 4095, *range(BLOCK, len(raw), 61)]:
        path.write_bytes(raw[:n])
        kept = sum(f.pos + f.stored <= n for f in frames)
        if n >= 64 or "key" not in mode:
            assert check(tmp_path, mode, frames, blobs) == kept, n
        else:
            assert check(tmp_path, mode, frames, blobs) == 0


def test_a_frame_in_another_place_is_damage(tmp_path, mode):
    """Moved within the segment, or the whole file renamed: checksums and tags belong to the place."""
    path, frames, blobs = filled(tmp_path, mode)
    raw = bytearray(path.read_bytes())
    a, b = frames[2], frames[4]
    raw[b.pos : b.pos + a.stored] = raw[a.pos : a.pos + a.stored]
    path.write_bytes(raw)
    with SegmentStore(tmp_path, **mode) as s:
        assert outcome(s, a._replace(pos=b.pos)) is None
        assert outcome(s, a) == blobs[2]
    os.rename(path, tmp_path / "00000005.seg")
    with SegmentStore(tmp_path, **mode) as s:
        assert [outcome(s, f._replace(seg=5)) for f in frames] == [None] * len(frames)


def test_zeroed_stretch(tmp_path, mode):
    """Lost writes leave zeros: no frame, and nothing that would stop the scan."""
    path, frames, _ = filled(tmp_path, mode)
    raw = bytearray(path.read_bytes())
    raw[frames[1].pos : frames[4].pos] = bytes(frames[4].pos - frames[1].pos)
    path.write_bytes(raw)
    with SegmentStore(tmp_path, **mode) as s:
        assert [f.ino for f in s.scan(0) if not f.err] == [1, 5, 6]
        assert [outcome(s, f) is None for f in frames] == [False, True, True, True, False, False]


def forged(ino, off, raw_len, compression, data, pos=BLOCK, seg=0, flags=0):
    """A plain frame with right checksums and whatever in it: what a hostile or buggy writer could produce."""
    place = codec.crc32c(struct.pack("<II", seg, pos))
    inner = struct.pack("<QQII", ino, off, raw_len, compression) + data
    outer = struct.pack("<III4x16x", 40 + len(inner), codec.crc32c(inner, place), flags)
    return b"VXFR" + struct.pack("<I", codec.crc32c(outer, place)) + outer + inner


@pytest.mark.parametrize(
    ("args", "good"),
    [
        ((1, 0, 5, 0, b"hello"), True),
        ((1, 0, 500, 1, codec.lz4(bytes(500))), True),
        ((1, 0, 6, 0, b"hello"), False),
        ((1, 0, 4, 0, b"hello"), False),
        ((1, 0, 0, 0, b""), False),
        ((1, 0, 501, 1, codec.lz4(bytes(500))), False),
        ((1, 0, 499, 1, codec.lz4(bytes(500))), False),
        ((1, 0, 2**32 - 1, 1, codec.lz4(bytes(500))), False),
        ((1, 0, 500, 1, b"\xff" * 100), False),
        ((1, 0, 5, 2, b"hello"), False),
    ],
)
def test_right_checksums_with_wrong_content(tmp_path, args, good):
    path, frames, _ = filled(tmp_path, {}, 1)
    frame = forged(*args)
    path.write_bytes(path.read_bytes()[:BLOCK] + frame)
    want = frames[0]._replace(ino=1, off=0, pos=BLOCK, stored=len(frame), raw_len=min(args[2], 1000))
    with SegmentStore(tmp_path) as s:
        got = outcome(s, want)
        assert got == ((bytes(500) if args[3] else b"hello") if good else None)
        if args[3] == 0:
            assert [f.err for f in s.scan(0)] == [0 if good else errno.EBADMSG]


@pytest.mark.parametrize("flags", [1, 2, 4, 0x80000000])
def test_flags_that_cannot_be(tmp_path, flags):
    path, frames, _ = filled(tmp_path, {}, 1)
    frame = forged(1, 0, 5, 0, b"hello", flags=flags)
    path.write_bytes(path.read_bytes()[:BLOCK] + frame)
    with SegmentStore(tmp_path) as s:
        assert outcome(s, frames[0]._replace(ino=1, off=0, pos=BLOCK, stored=len(frame), raw_len=5)) is None
        s.scan(0)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(MODES)),
    st.lists(
        st.one_of(
            st.tuples(st.just("flip"), st.integers(0, 2**20), st.integers(1, 255)),
            st.tuples(st.just("write"), st.integers(0, 2**20), st.binary(min_size=1, max_size=200)),
            st.tuples(st.just("cut"), st.integers(0, 2**20), st.none()),
            st.tuples(st.just("remove"), st.integers(0, 2**20), st.integers(1, 300)),
            st.tuples(st.just("copy"), st.integers(0, 2**20), st.integers(0, 2**20)),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_random_damage(tmp_path_factory, mode, blows):
    directory = tmp_path_factory.mktemp("damage")
    path, frames, blobs = filled(directory, MODES[mode])
    raw = bytearray(path.read_bytes())
    for what, where, arg in blows:
        at = where % max(len(raw), 1)
        if what == "flip" and raw:
            raw[at] ^= arg
        elif what == "write":
            raw[at : at + len(arg)] = arg
        elif what == "cut":
            del raw[at:]
        elif what == "remove":
            del raw[at : at + arg]
        elif what == "copy":
            source = arg % max(len(raw), 1)
            raw[at : at + 300] = raw[source : source + 300]
    path.write_bytes(raw)
    check(directory, MODES[mode], frames, blobs)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(MODES)), st.binary(max_size=9000))
def test_random_files(tmp_path_factory, mode, raw):
    directory = tmp_path_factory.mktemp("random")
    (directory / "00000000.seg").write_bytes(raw)
    check(directory, MODES[mode], [], [])
