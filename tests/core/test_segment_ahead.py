"""What is made ahead of appends: zeros before small synced ones, room on the disk before large ones."""

import errno
import os
import shutil

import pytest

from tests.core.test_segment import MODES, blob, takes_direct_writes
from vexfs._core import io
from vexfs._core.segment import FRAME_MAX, SegmentStore
from vexfs.testing.trace import read_trace


@pytest.fixture(params=MODES)
def mode(request):
    return MODES[request.param]


@pytest.mark.parametrize("crash", [False, True])
def test_zeros_written_ahead_of_small_syncs(tmp_path, mode, crash):
    """They spare the host's journal, show in no figure, are no frames, and go when the segment ends."""
    live, later = tmp_path / "live", tmp_path / "later"
    live.mkdir()
    with SegmentStore(live, **mode) as s:
        frames = []
        for i in range(12):
            frames += s.append([(i, 0, b"%d" % i * 100)])
            s.sync()
        path = live / "00000000.seg"
        assert path.stat().st_size >= s.stats()["active_pos"] + (1 << 19)
        assert s.stats()["disk_bytes"] == s.stats()["active_pos"] == s.size(0)
        if crash:
            shutil.copytree(live, later)
        frames += s.append([(i, 0, os.urandom(FRAME_MAX)) for i in range(30)])  # more than the zeros
        assert [f.err for f in s.scan(0)] == [0] * 42
        s.drop_cache()
        assert s.read_many(frames[:12]) == [b"%d" % i * 100 for i in range(12)]
        end = s.stats()["active_pos"]
        s.seal()
        assert path.stat().st_size == end
    if crash:
        with SegmentStore(later, **mode) as s:
            assert s.read_many(frames[:12]) == [b"%d" % i * 100 for i in range(12)]
            assert [f.err for f in s.scan(0)] == [0] * 12
            s.trim(0, frames[11].pos + frames[11].stored)
            assert s.read(frames[11]) == b"11" * 100


@pytest.mark.parametrize("crash", [False, True])
def test_room_made_ahead_of_large_appends(tmp_path, mode, crash):
    """It shows in no figure, holds no frames, and goes when the segment ends."""
    live, later = tmp_path / "live", tmp_path / "later"
    live.mkdir()
    with SegmentStore(live, **mode) as s:
        blobs = [blob(i, FRAME_MAX) for i in range(60)]
        io.record_start(tmp_path / "trace", live)
        try:
            frames = s.append([(i, 0, data) for i, data in enumerate(blobs)])
        finally:
            io.record_stop()
        s.sync()
        if takes_direct_writes(live):
            sizes = [r.offset for r in read_trace(tmp_path / "trace") if r.kind == "truncate"]
            assert sizes and min(sizes) >= 2 << 20, "no room was made before"
        path, end = live / "00000000.seg", s.stats()["active_pos"]
        assert end <= path.stat().st_size <= max(end, sum(map(len, blobs)) // 2 + (2 << 20))
        assert s.stats()["disk_bytes"] == end == s.size(0)
        if crash:
            shutil.copytree(live, later)
        frames += s.append([(99, 0, b"behind")])
        assert [f.err for f in s.scan(0)] == [0] * 61
        s.drop_cache()
        assert s.read_many(frames) == [*blobs, b"behind"]
        end = s.stats()["active_pos"]
        s.seal()
        assert path.stat().st_size == end
    if crash:
        with SegmentStore(later, **mode) as s:
            assert s.read_many(frames[:60]) == blobs
            assert [f.err for f in s.scan(0)] == [0] * 60
            s.trim(0, max(f.pos + f.stored for f in frames[:60]))
            assert s.read_many(frames[:60]) == blobs


def test_a_host_that_makes_no_room_ahead(tmp_path, mode):
    with SegmentStore(tmp_path, **mode) as s:
        s.append([(0, 0, b"first")])
        blobs = [blob(i, FRAME_MAX) for i in range(40)]
        io.fault(["truncate"], 0, errno.EOPNOTSUPP)
        try:
            frames = s.append([(i, 0, data) for i, data in enumerate(blobs)])
        finally:
            io.clear_fault()
        assert s.read_many(frames) == blobs
        end = s.stats()["active_pos"]
        assert (tmp_path / "00000000.seg").stat().st_size == end
