"""The segment store: appending, syncing and reading, beside the same work done with plain system calls."""

import os
import shutil
import tempfile
import threading

from vexfs._core import codec
from vexfs._core.segment import FRAME_MAX, SegmentStore

KEY = bytes(range(32))
MODES = {
    "plain": {},
    "direct": {"direct_io": True},
    "lz4": {"compression": "lz4"},
    "aes": {"key": KEY},
    "lz4-aes": {"compression": "lz4", "key": KEY},
}
MIB = 1 << 20


def text(n: int) -> bytes:
    """Bytes that lz4 halves."""
    return b"".join(os.urandom(40) + b"forty bytes that come back time and again"[:40] for _ in range(n // 80 + 1))[:n]


class Checksum:
    """crc32c of one frame, and of a small one."""

    params = ([64, 4096, FRAME_MAX],)
    param_names = ("size_bytes",)

    def setup(self, size_bytes):
        """Make the bytes."""
        self.data = os.urandom(size_bytes)

    def time_crc32c(self, size_bytes):
        """With the CPU's instruction where there is one."""
        codec.crc32c(self.data)

    def time_crc32c_table(self, size_bytes):
        """By tables."""
        codec.crc32c_table(self.data)


class _InDirectory:
    timeout = 120

    def setup(self, *params):
        """Make an empty directory on the disk that holds the temporary files."""
        self.directory = tempfile.mkdtemp(prefix="vexfs-bench-")

    def teardown(self, *params):
        """Remove it."""
        shutil.rmtree(self.directory)


class Sequential(_InDirectory):
    """256 MiB appended in calls of 8 MiB, with one sync at the end, and read back frame by frame."""

    params = ([*MODES, "host"], ["text", "noise"])
    param_names = ("mode", "content")
    number, rounds, repeat, warmup_time = 1, 1, 3, 0
    total = 256 * MIB

    def setup(self, mode, content):
        """Write once, so that there is something to read."""
        super().setup()
        self.data = text(8 * MIB) if content == "text" else os.urandom(8 * MIB)
        self.time_write(mode, content)

    def time_write(self, mode, content):
        """Append and sync."""
        if mode == "host":
            fd = os.open(os.path.join(self.directory, "host"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            for _ in range(self.total // len(self.data)):
                os.write(fd, self.data)
            os.fdatasync(fd)
            os.close(fd)
            return
        whole = memoryview(self.data)
        pieces = [(1, at, whole[at : at + FRAME_MAX]) for at in range(0, len(whole), FRAME_MAX)]
        self.frames = []
        with SegmentStore(self.directory, **MODES[mode]) as s:
            for seg in s.segments():
                s.delete(seg)
            for _ in range(self.total // len(self.data)):
                self.frames += s.append(pieces)
            s.sync()

    def time_read(self, mode, content):
        """Read everything back, verified; the host's page cache is warm."""
        out = bytearray(FRAME_MAX)
        if mode == "host":
            fd = os.open(os.path.join(self.directory, "host"), os.O_RDONLY)
            while os.readv(fd, [out]):
                pass
            os.close(fd)
            return
        with SegmentStore(self.directory, cache_bytes=8 * MIB, **MODES[mode]) as s:
            for frame in self.frames:
                s.read_into(frame, out)

    def track_stored_ratio(self, mode, content):
        """Bytes on disk for each byte given."""
        return sum(e.stat().st_size for e in os.scandir(self.directory)) / self.total


class SmallSyncs(_InDirectory):
    """4 KiB appended and synced, one after the other and by eight threads."""

    params = (["plain", "lz4-aes", "host"], [1, 8])
    param_names = ("mode", "threads")
    number, rounds, repeat, warmup_time = 1, 1, 3, 0
    each = 100

    def time_append_sync(self, mode, threads):
        """`each` times, by every thread."""
        data = os.urandom(4096)
        store = None if mode == "host" else SegmentStore(self.directory, **MODES[mode])

        def work(i):
            fd = os.open(os.path.join(self.directory, f"host{i}"), os.O_RDWR | os.O_CREAT) if store is None else -1
            for at in range(self.each):
                if store is None:
                    os.pwrite(fd, data, at * 4096)
                    os.fdatasync(fd)
                else:
                    store.append([(i, at * 4096, data)])
                    store.sync()
            if store is None:
                os.close(fd)

        workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        if store is not None:
            self.syncs = store.stats()["syncs"]
            store.close()

    def track_appends_per_sync(self, mode, threads):
        """How many callers one fdatasync serves."""
        self.syncs = self.each * threads
        self.time_append_sync(mode, threads)
        return self.each * threads / self.syncs


class Cached:
    """4 KiB out of a frame that stands in the cache."""

    def setup(self):
        """One frame, read once."""
        self.directory = tempfile.mkdtemp(prefix="vexfs-bench-")
        self.store = SegmentStore(self.directory)
        (self.frame,) = self.store.append([(1, 0, os.urandom(FRAME_MAX))])
        self.out = bytearray(4096)
        self.store.read(self.frame)

    def teardown(self):
        """Remove it."""
        self.store.close()
        shutil.rmtree(self.directory)

    def time_read_4k(self):
        """A hit."""
        self.store.read_into(self.frame, self.out, 8192)
