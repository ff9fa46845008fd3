"""The recorder sees every change in order, and an armed fault strikes exactly the calls it names."""

import errno
import os
import struct
import subprocess
import sys
import threading

import pytest

from vexfs._core import io

HEADER = struct.Struct("<B3xIQQ")


def records(trace):
    """(kind, descriptor id, offset, data) of every record; sync, truncate and close carry a length of 0."""
    raw, at, out = trace.read_bytes(), 0, []
    while at < len(raw):
        kind, fd, off, n = HEADER.unpack_from(raw, at)
        data = raw[at + HEADER.size : at + HEADER.size + n]
        assert len(data) == n
        out.append((io.KINDS[kind], fd, off, data))
        at += HEADER.size + n
    return out


@pytest.fixture
def recorded(tmp_path):
    """(root, function that stops the recording and gives its records)."""
    root, trace = tmp_path / "volume", tmp_path / "trace"
    root.mkdir()
    io.record_start(trace, root)
    stopped = False

    def stop():
        nonlocal stopped
        stopped = True
        io.record_stop()
        return records(trace)

    yield root, stop
    if not stopped:
        io.record_stop()


@pytest.fixture(autouse=True)
def no_fault_left():
    yield
    io.clear_fault()


def test_every_call_is_recorded_in_order(recorded):
    root, stop = recorded
    (root / "sub").mkdir()
    fd = io.open(root / "sub" / "a")
    io.pwrite(fd, b"hello", 7)
    io.fdatasync(fd)
    io.ftruncate(fd, 9)
    io.record_mark(b"here")
    io.close(fd)
    io.syncdir(root / "sub")
    io.syncdir(root)
    io.rename(root / "sub" / "a", root / "b")
    again = io.open(root / "b")
    emptied = io.open(root / "b", os.O_WRONLY | os.O_TRUNC)
    io.close(emptied)
    io.close(again)
    io.unlink(root / "b")
    assert stop() == [
        ("create", 1, 0, b"sub/a"),
        ("write", 1, 7, b"hello"),
        ("sync", 1, 0, b""),
        ("truncate", 1, 9, b""),
        ("mark", 0, 0, b"here"),
        ("close", 1, 0, b""),
        ("syncdir", 0, 0, b"sub"),
        ("syncdir", 0, 0, b"."),
        ("rename", 0, 0, b"sub/a\0b"),
        ("open", 2, 0, b"b"),
        ("open", 3, 0, b"b"),
        ("truncate", 3, 0, b""),
        ("close", 3, 0, b""),
        ("close", 2, 0, b""),
        ("unlink", 0, 0, b"b"),
    ]


def test_outside_and_failed_calls_are_not_recorded(recorded, tmp_path):
    root, stop = recorded
    beside = tmp_path / "volume-not"  # a name that only begins like the root's
    fd = io.open(beside)
    io.pwrite(fd, b"x", 0)
    io.fdatasync(fd)
    io.close(fd)
    io.unlink(beside)
    with pytest.raises(FileNotFoundError):
        io.unlink(root / "absent")
    with pytest.raises(FileNotFoundError):
        io.open(root / "absent", os.O_RDWR)
    assert stop() == []


def test_paths_relative_to_the_working_directory(recorded, monkeypatch):
    root, stop = recorded
    monkeypatch.chdir(root)
    io.close(io.open("plain"))
    (root / "sub").mkdir()
    io.close(io.open("sub/../sub/deep"))
    io.syncdir("sub/..")
    assert [data for kind, _, _, data in stop() if kind != "close"] == [b"plain", b"sub/deep", b"."]


def test_descriptor_open_before_the_recording(tmp_path):
    fd = io.open(tmp_path / "early")
    outside = io.open("/dev/null", os.O_WRONLY)
    io.record_start(tmp_path / "trace", tmp_path)
    io.pwrite(fd, b"1", 0)
    io.pwrite(outside, b"1", 0)
    io.pwrite(fd, b"2", 1)
    io.record_stop()
    assert records(tmp_path / "trace") == [
        ("open", 1, 0, b"early"),
        ("write", 1, 0, b"1"),
        ("write", 1, 1, b"2"),
    ]
    io.close(fd)
    io.close(outside)


def test_one_recording_at_a_time(recorded, tmp_path):
    root, _ = recorded
    with pytest.raises(OSError) as caught:
        io.record_start(tmp_path / "second", root)
    assert caught.value.errno == errno.EBUSY
    assert not (tmp_path / "second").exists()


def test_stop_and_mark_without_a_recording(tmp_path):
    for call in (io.record_stop, lambda: io.record_mark(b"x")):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(FileNotFoundError):
        io.record_start(tmp_path / "trace", tmp_path / "absent")


def test_a_trace_that_cannot_be_written_says_so(tmp_path):
    io.record_start("/dev/full", tmp_path)
    fd = io.open(tmp_path / "a")
    io.pwrite(fd, bytes(100_000), 0)
    io.close(fd)
    with pytest.raises(OSError) as caught:
        io.record_stop()
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "a").stat().st_size == 100_000


def test_records_of_threads_do_not_mix(recorded):
    root, stop = recorded

    def work(name: str) -> None:
        fd = io.open(root / name)
        for i in range(50):
            io.pwrite(fd, name.encode() * 100, 100 * i)
            io.fdatasync(fd)
        io.close(fd)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = stop()
    names = {fd: data.decode() for kind, fd, _, data in found if kind == "create"}
    assert sorted(names.values()) == list("abcd")
    for fd, name in names.items():
        own = [(kind, off, data) for kind, f, off, data in found if f == fd]
        want = [("create", 0, name.encode())]
        for i in range(50):
            want += [("write", 100 * i, name.encode() * 100), ("sync", 0, b"")]
        assert own == [*want, ("close", 0, b"")]


CALLS = {
    "read": lambda d, fd: io.pread(fd, 1, 0),
    "create": lambda d, fd: io.close(io.open(d / "new")),
    "open": lambda d, fd: io.close(io.open(d / "file")),
    "write": lambda d, fd: io.pwrite(fd, b"x", 0),
    "truncate": lambda d, fd: io.ftruncate(fd, 1),
    "sync": lambda d, fd: io.fdatasync(fd),
    "unlink": lambda d, fd: io.unlink(d / "file"),
    "rename": lambda d, fd: io.rename(d / "file", d / "other"),
    "syncdir": lambda d, fd: io.syncdir(d),
}


@pytest.mark.parametrize("kind", CALLS)
def test_fault_strikes_its_kind_only(tmp_path, kind):
    def prepared() -> None:
        (tmp_path / "file").write_bytes(b"old")
        (tmp_path / "new").unlink(missing_ok=True)

    prepared()
    fd = io.open(tmp_path / "file")
    io.fault(set(io.KINDS) - {kind, "close"}, err=errno.ENOSPC)
    CALLS[kind](tmp_path, fd)
    prepared()
    io.fault(kind, after=1, err=errno.EDQUOT)
    CALLS[kind](tmp_path, fd)
    prepared()
    for _ in range(2):  # until it is cleared
        with pytest.raises(OSError) as caught:
            CALLS[kind](tmp_path, fd)
        assert caught.value.errno == errno.EDQUOT
    assert (tmp_path / "file").read_bytes() == b"old"
    io.clear_fault()
    CALLS[kind](tmp_path, fd)
    io.close(fd)


def test_failing_close_closes(tmp_path):
    fd = io.open(tmp_path / "file")
    io.fault("close", err=errno.EIO)
    with pytest.raises(OSError):
        io.close(fd)
    with pytest.raises(OSError) as caught:
        os.fstat(fd)
    assert caught.value.errno == errno.EBADF


def test_fault_refuses_nonsense():
    with pytest.raises(ValueError, match="no such kind of system call: 'sneeze'"):
        io.fault("sneeze")
    with pytest.raises(ValueError, match="errno"):
        io.fault("write", err=0)


def test_short_write_at_a_size_limit(tmp_path):
    """A write that stops half way reports the error, and the trace holds what reached the file."""
    script = f"""
import errno, resource, signal
from vexfs._core import io
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
io.record_start({str(tmp_path / "trace")!r}, {str(tmp_path)!r})
fd = io.open({str(tmp_path / "file")!r})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
try:
    io.pwrite(fd, b"a" * 9000, 0)
except OSError as err:
    assert err.errno == errno.EFBIG, err
else:
    raise SystemExit("no error")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # the trace is longer than that
io.record_stop()
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "file").read_bytes() == b"a" * 5000
    assert records(tmp_path / "trace")[-1] == ("write", 1, 0, b"a" * 5000)


def test_pread_stops_at_the_end(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    fd = io.open(tmp_path / "file")
    assert io.pread(fd, 10, 1) == b"bc"
    assert io.pread(fd, 10, 3) == b""
    io.close(fd)
