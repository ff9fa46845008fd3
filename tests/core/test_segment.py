"""Frames come back as they went in, in every mode, and the life of segments keeps its rules."""

import errno
import itertools
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vexfs._core import codec, segment
from vexfs._core.segment import FRAME_MAX, Frame, SegmentStore

KEY = bytes(range(32))
MODES = {
    "plain": {},
    "lz4": {"compression": "lz4"},
    "aes": {"key": KEY},
    "lz4-aes": {"compression": "lz4", "key": KEY},
    "direct": {"direct_io": True},
    "direct-lz4-aes": {"direct_io": True, "compression": "lz4", "key": KEY},
}
HEADER, BLOCK = 64, 4096


def blob(i: int, n: int) -> bytes:
    """`n` bytes: noise when `i` is odd, else text that compresses."""
    return os.urandom(n) if i % 2 else (b"frame %d of text, " % i * (n // 10 + 1))[:n]


@pytest.fixture(params=MODES)
def mode(request):
    return MODES[request.param]


@pytest.fixture
def store(tmp_path, mode):
    with SegmentStore(tmp_path, **mode) as s:
        yield s


SIZES = [1, 63, 64, 65, 100, 4032, 4096, 5000, 65536, FRAME_MAX - 1, FRAME_MAX]


def test_round_trip(store):
    blobs = [blob(i, n) for i, n in enumerate(SIZES + SIZES)]
    frames = store.append([(i + 1, i << 33, data) for i, data in enumerate(blobs)])
    assert [f.raw_len for f in frames] == [len(b) for b in blobs]
    assert all(f.pos % 64 == 0 for f in frames)
    for _ in range(2):  # from the file, then from the cache
        assert store.read_many(frames) == blobs
        assert [store.read(f) for f in frames] == blobs
    store.drop_cache()
    assert store.read(frames[7], 100, 300) == blobs[7][100:400]
    assert store.read(frames[7], len(blobs[7]), 0) == b""
    with pytest.raises(OSError) as caught:
        store.read(frames[7], 1, len(blobs[7]))
    assert caught.value.errno == errno.EBADMSG


def test_pieces_are_one_frame(store):
    """From one piece to more than one system call takes, and more than are written from where they stand."""
    for count in (1, 2, 3, 1000, 1500, 3000):
        pieces = [blob(i, 7 + i % 40) for i in range(count)]
        (frame,) = store.append([(1, 0, pieces)])
        assert store.read(frame) == b"".join(pieces)
    many = [(i, 0, [blob(i, 100)] * 20) for i in range(300)]
    assert store.read_many(store.append(many)) == [b"".join(pieces) for _, _, pieces in many]


def test_a_call_spans_segments(tmp_path, mode):
    with SegmentStore(tmp_path, segment_bytes=1 << 20, next_segment=7, **mode) as s:
        blobs = [os.urandom(FRAME_MAX) for _ in range(40)]
        frames = s.append([(1, i * FRAME_MAX, b) for i, b in enumerate(blobs)])
        s.sync()
        segs = sorted({f.seg for f in frames})
        assert segs == list(range(7, 7 + len(segs)))
        assert len(segs) >= 5
        assert s.read_many(frames) == blobs
        assert sorted(p.name for p in tmp_path.iterdir()) == [f"{seg:08x}.seg" for seg in segs]
        assert all((1 << 19) < size <= 1 << 20 for size in list(s.segments().values())[:-1])
        assert s.stats()["disk_bytes"] == sum(p.stat().st_size for p in tmp_path.iterdir())
    with SegmentStore(tmp_path, **mode) as s:
        assert s.read_many(frames) == blobs
        assert s.stats()["next_segment"] == segs[-1] + 1
        assert s.stats()["active_seg"] is None
        (new,) = s.append([(9, 9, b"new")])
        assert new.seg == segs[-1] + 1  # a file of an earlier life is never appended to


def test_frames_do_not_overlap(store):
    frames = store.append([(i, 0, blob(i, 50 + 37 * i)) for i in range(200)])
    frames += store.append([(i, 0, b"x") for i in range(50)])
    spans = sorted((f.seg, f.pos, f.pos + f.stored) for f in frames)
    assert spans[0][1] == BLOCK
    for (seg, _, end), (other, begin, _) in itertools.pairwise(spans):
        assert seg != other or end <= begin


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_walk_that_is_interrupted_is_not_a_walk_with_frames_missing(store, monkeypatch, error):
    (first, *_) = store.append([(i, 0, blob(i, 100)) for i in range(1, 9)])
    plain, seen = segment.ScannedFrame, []

    def arriving(*fields):
        seen.append(fields)
        if len(seen) == 3:
            raise error  # as Ctrl-C does, which comes while Python runs
        return plain(*fields)

    monkeypatch.setattr(segment, "ScannedFrame", arriving)
    with pytest.raises(error):
        store.scan(first.seg)
    assert len(seen) == 3  # and ends there
    monkeypatch.undo()
    assert len(store.scan(first.seg)) >= 8


def test_compression_only_when_it_saves_an_eighth(tmp_path):
    with SegmentStore(tmp_path, compression="lz4") as s:
        text, noise, nearly = s.append(
            [(1, 0, bytes(1000)), (1, 0, os.urandom(1000)), (1, 0, os.urandom(930) + bytes(70))]
        )
        assert text.stored < 100
        assert noise.stored == nearly.stored == HEADER + 1000
        assert s.scan(0)[1].raw_len == 1000
        s.configure(1 << 20, "none")
        (plain,) = s.append([(1, 0, bytes(1000))])
        assert plain.stored == HEADER + 1000
        assert s.read_many([text, plain]) == [bytes(1000)] * 2


def test_wrong_frames_are_refused(store):
    for data in (b"", os.urandom(FRAME_MAX + 1), []):
        with pytest.raises(OSError) as caught:
            store.append([(1, 0, b"fine"), (1, 0, data)])
        assert caught.value.errno == errno.EINVAL
    assert store.stats()["frames_written"] == 0
    assert store.append([]) == []


@pytest.mark.parametrize(
    "change",
    [{"ino": 2}, {"off": 1}, {"pos": 4096 + 64}, {"stored": 163}, {"stored": 64}, {"stored": 0}, {"stored": 2**32 - 1}],
)
@pytest.mark.parametrize("cached", [False, True])
def test_another_owner_or_place_is_refused(store, change, cached):
    frame, _ = store.append([(1, 0, b"x" * 50), (1, 50, b"y" * 50)])
    if cached:
        store.read(frame)
    with pytest.raises(OSError) as caught:
        store.read(frame._replace(**change))
    assert caught.value.errno == errno.EBADMSG
    assert store.stats()["checksum_errors"] == 1
    assert store.read(frame) == b"x" * 50


def test_missing_segment_and_directory(store, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        store.read(Frame(1, 0, 99, 4096, 100, 36))
    assert caught.value.filename.endswith("00000063.seg")
    with pytest.raises(FileNotFoundError):
        SegmentStore(tmp_path / "absent")
    for size in (1000, 2 << 30):
        with pytest.raises(OSError) as refused:
            SegmentStore(tmp_path, segment_bytes=size)
        assert refused.value.errno == errno.EINVAL


def test_foreign_names_are_left_alone(tmp_path):
    for name in ("0000000g.seg", "1.seg", "00000001.seg.bak", "00000001.SEG", "readme"):
        (tmp_path / name).write_bytes(b"mine")
    with SegmentStore(tmp_path) as s:
        assert s.segments() == {}
        assert s.append([(1, 0, b"x")])[0].seg == 0


def test_read_only(tmp_path):
    with SegmentStore(tmp_path) as s:
        (frame,) = s.append([(1, 0, b"x")])
    with SegmentStore(tmp_path, read_only=True) as s:
        assert s.read(frame) == b"x"
        for call in (lambda: s.append([(1, 0, b"y")]), lambda: s.delete(0), lambda: s.trim(0, 5000)):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EROFS


def test_closed_store_says_so(tmp_path):
    s = SegmentStore(tmp_path)
    s.close()
    s.close()
    with pytest.raises(ValueError, match="closed"):
        s.append([(1, 0, b"x")])


# -- the life of a segment ---------------------------------------------------------------------------------------


def test_seal_begins_a_new_segment(store):
    store.seal()
    (a,) = store.append([(1, 0, b"a")])
    store.seal()
    store.seal()
    (b,) = store.append([(1, 0, b"b")])
    assert (a.seg, b.seg) == (0, 1)


def test_delete(store, tmp_path):
    (a,) = store.append([(1, 0, b"a" * 100)])
    store.read(a)
    store.delete(a.seg)  # the active one too
    assert list(tmp_path.iterdir()) == []
    assert store.stats()["disk_bytes"] == 0
    with pytest.raises(FileNotFoundError):
        store.read(a)  # not from the cache either
    for call in (store.delete, store.pin, store.scan):
        with pytest.raises(FileNotFoundError):
            call(a.seg)
    assert store.append([(1, 0, b"b")])[0].seg == 1


def test_deleted_while_pinned_stays_readable(store, tmp_path):
    (a,) = store.append([(1, 0, b"a" * 100)])
    store.pin(a.seg)
    store.pin(a.seg)
    store.delete(a.seg)
    assert a.seg not in store.segments()
    store.drop_cache()
    assert store.read(a) == b"a" * 100
    store.unpin(a.seg)
    store.drop_cache()
    assert store.read(a) == b"a" * 100
    assert len(list(tmp_path.iterdir())) == 1
    store.unpin(a.seg)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        store.read(a)


def test_trim_cuts_the_tail(tmp_path, mode):
    with SegmentStore(tmp_path, **mode) as s:
        keep, lose = s.append([(1, 0, b"keep" * 50), (1, 200, b"lose" * 50)])
        with pytest.raises(OSError) as caught:
            s.trim(0, 4096)
        assert caught.value.errno == errno.EBUSY  # it may be appended to
        assert s.read(lose) == b"lose" * 50
        s.seal()
        s.trim(0, keep.pos + keep.stored)
        assert s.read(keep) == b"keep" * 50
        with pytest.raises(OSError) as caught:
            s.read(lose)
        assert caught.value.errno == errno.EBADMSG
        assert s.size(0) == s.stats()["disk_bytes"] == (tmp_path / "00000000.seg").stat().st_size
        s.trim(0, keep.pos + keep.stored)
        with pytest.raises(OSError) as caught:
            s.trim(0, lose.pos + lose.stored)  # the metadata names more than there is
        assert caught.value.errno == errno.EBADMSG


def test_more_segments_than_descriptors(tmp_path):
    """Descriptors of idle segments are closed, and opened again when needed."""
    with SegmentStore(tmp_path) as s:
        frames = []
        for i in range(330):
            frames += s.append([(i, 0, b"%d" % i)])
            s.seal()
        s.sync()
        assert s.read_many(frames) == [b"%d" % i for i in range(330)]
        s.drop_cache()
        assert s.read_many(frames) == [b"%d" % i for i in range(330)]
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        held = [os.readlink(link) for link in links if os.path.exists(link)]
        assert sum(str(tmp_path) in name for name in held) < 280


# -- scan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [False, True])
def test_scan_gives_every_frame(tmp_path, mode, verify):
    with SegmentStore(tmp_path, segment_bytes=512 << 10, **mode) as s:
        frames = []
        for i in range(40):
            frames += s.append([(i, j, blob(j, 1 + 977 * (i + j))) for j in range(3)])
        found = [(seg, f) for seg in s.segments() for f in s.scan(seg, verify)]
        assert sorted((f.ino, f.off, seg, f.pos, f.stored, f.raw_len) for seg, f in found) == sorted(frames)
        assert not any(f.err for _, f in found)


# -- encryption --------------------------------------------------------------------------------------------------


def test_nothing_in_clear(tmp_path):
    secret, ino, off = b"attack at dawn, " * 500, 0x1122334455667788, 0x0102030405060708
    with SegmentStore(tmp_path, key=KEY) as s:
        s.append([(ino, off, secret)] * 3)
        s.sync()
    raw = (tmp_path / "00000000.seg").read_bytes()
    assert secret[:16] not in raw
    assert struct.pack("<Q", ino) not in raw
    assert struct.pack("<Q", off) not in raw
    assert raw[4096 + 64 : 4096 + 164] != raw[4096 + 8064 + 64 : 4096 + 8064 + 164]  # equal frames, unequal bytes


def test_one_number_twice_gives_two_keys(tmp_path):
    """After a restore a segment number comes back: same key, number and position must not give the same stream."""
    raw = []
    for name in "ab":
        (tmp_path / name).mkdir()
        with SegmentStore(tmp_path / name, key=KEY) as s:
            s.append([(1, 0, bytes(4096))])
        raw.append((tmp_path / name / "00000000.seg").read_bytes()[4096 + 40 :])
    assert raw[0] != raw[1]
    assert sum(x == y for x, y in zip(*raw, strict=True)) < 100


def test_wrong_key(tmp_path):
    with SegmentStore(tmp_path, key=KEY) as s:
        (frame,) = s.append([(1, 0, b"x")])
    with SegmentStore(tmp_path, key=bytes(32)) as s, pytest.raises(OSError) as caught:
        s.read(frame)
    assert caught.value.errno == errno.EBADMSG
    with SegmentStore(tmp_path) as s, pytest.raises(OSError) as caught:
        s.read(frame)
    assert caught.value.errno == errno.ENOKEY
    with pytest.raises(ValueError, match="32 bytes, not 5"):
        SegmentStore(tmp_path, key=b"short")


def test_plain_segment_in_an_encrypted_store(tmp_path):
    """Whoever can write to the directory must not be able to slip a segment in."""
    with SegmentStore(tmp_path) as s:
        (frame,) = s.append([(1, 0, b"forged")])
    with SegmentStore(tmp_path, key=KEY) as s, pytest.raises(OSError) as caught:
        s.read(frame)
    assert caught.value.errno == errno.ENOKEY


def test_newer_format(tmp_path):
    with SegmentStore(tmp_path) as s:
        (frame,) = s.append([(1, 0, b"x")])
    path = tmp_path / "00000000.seg"
    raw = bytearray(path.read_bytes())
    for at in (0, 2048):
        struct.pack_into("<I", raw, at + 8, 2)
        struct.pack_into("<I", raw, at + 60, codec.crc32c(raw[at : at + 60]))
    path.write_bytes(raw)
    with SegmentStore(tmp_path) as s, pytest.raises(OSError) as caught:
        s.read(frame)
    assert caught.value.errno == errno.ENOTSUP


# -- against a model ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(MODES)),
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.lists(st.tuples(st.integers(1, 40000), st.booleans()), max_size=12)),
            st.tuples(st.sampled_from(["sync", "seal", "drop", "reopen", "check"]), st.just(None)),
            st.tuples(st.just("delete"), st.integers(0, 5)),
        ),
        max_size=25,
    ),
)
def test_model(tmp_path_factory, mode, steps):
    directory = tmp_path_factory.mktemp("model")
    options = {"segment_bytes": 64 << 10, "cache_bytes": 100_000, **MODES[mode]}
    store, known = SegmentStore(directory, **options), {}
    try:
        for what, arg in steps:
            if what == "append":
                data = [(i, n, os.urandom(n) if noisy else bytes([i]) * n) for i, (n, noisy) in enumerate(arg)]
                known.update(zip(store.append(data), (d for _, _, d in data), strict=True))
            elif what == "sync":
                store.sync()
            elif what == "seal":
                store.seal()
            elif what == "drop":
                store.drop_cache()
            elif what == "reopen":
                store.close()
                store = SegmentStore(directory, **options)
            elif what == "delete" and arg in store.segments():
                store.delete(arg)
                known = {f: d for f, d in known.items() if f.seg != arg}
            elif what == "check":
                assert store.read_many(list(known)) == list(known.values())
        assert store.read_many(list(known)) == list(known.values())
        assert store.stats()["checksum_errors"] == 0
        store.seal()
        assert store.stats()["disk_bytes"] == sum(p.stat().st_size for p in directory.iterdir())
    finally:
        store.close()


def takes_direct_writes(directory) -> bool:
    """Whether the host has files there that are written past its page cache."""
    try:
        os.close(os.open(directory / "probe", os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError:
        return False
    finally:
        (directory / "probe").unlink(missing_ok=True)
    return True


def bulk_descriptors(directory) -> int:
    """Descriptors of this process that write to segments in `directory` past the page cache."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith(os.fspath(directory)):
                info = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
                flags = next(line for line in info if line.startswith("flags:"))
                found += bool(int(flags.split()[1], 8) & os.O_DIRECT)
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize("mode", ["plain", "lz4", "lz4-aes"])
def test_large_batches_between_small_ones(tmp_path, mode):
    """Those past the page cache and those through it: nothing overlaps, a scan meets all, every byte is there."""
    wanted: list[tuple[Frame, bytes]] = []
    with SegmentStore(tmp_path, segment_bytes=4 << 20, **MODES[mode]) as store:
        for turn in range(12):
            sizes = [FRAME_MAX] * (1 + 5 * (turn % 3)) + [700 + turn]
            blobs = [blob(2 * turn + 1, n) for n in sizes]
            frames = store.append([(turn + 1, i << 20, data) for i, data in enumerate(blobs)])
            wanted += zip(frames, blobs, strict=True)
            store.drop_cache()
            assert [store.read(f) for f, _ in wanted[-9:]] == [data for _, data in wanted[-9:]]
        assert bulk_descriptors(tmp_path) == takes_direct_writes(tmp_path), "the active segment's, and no other one's"
        store.sync()
        assert len({f.seg for f, _ in wanted}) > 2
    assert bulk_descriptors(tmp_path) == 0
    with SegmentStore(tmp_path, read_only=True, **MODES[mode]) as store:
        assert [store.read(f) for f, _ in wanted] == [data for _, data in wanted]
        for seg in {f.seg for f, _ in wanted}:
            scanned = {frame.pos for frame in store.scan(seg, True) if not frame.err}
            assert scanned == {f.pos for f, _ in wanted if f.seg == seg}
