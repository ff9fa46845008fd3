"""The metadata store: commits, cached and uncached reads, syncs; plain and encrypted."""

import os
import random
import tempfile

from vexfs._core.meta import Meta

KEY = bytes(range(32))
ROW = b"r" * 96


class Store:
    """A store of 100,000 inodes in 100 directories."""

    params = ("plain", "encrypted")
    param_names = ("volume",)
    number, repeat, rounds = 1, 5, 1
    timeout = 120
    count = 100_000
    cache_bytes = 64 << 20

    def setup(self, volume):
        self.dir = tempfile.TemporaryDirectory(prefix="vexfs-bench-")
        self.key = KEY if volume == "encrypted" else None
        self.path = os.path.join(self.dir.name, "meta.db")
        self.meta = Meta(self.path, key=self.key, create=True, cache_bytes=self.cache_bytes)
        rng = random.Random(1)
        self.slots = [rng.getrandbits(62) for _ in range(self.count)]
        self.next = 0
        while self.next < self.count:
            self.pairs(1000)
        self.meta.checkpoint()
        self.order = rng.sample(range(self.count), 10_000)

    def teardown(self, volume):
        self.meta.close()
        self.dir.cleanup()

    def pairs(self, n):
        """One commit of `n` inodes and their names."""
        self.meta.begin()
        for i in range(self.next, self.next + n):
            self.meta.put_inode(i + 10, ROW)
            self.meta.put_dentry(1 + i % 100, self.slots[i % self.count] ^ i // self.count, i + 10, 1, b"file%d" % i)
        self.meta.commit()
        self.next += n


class Commits(Store):
    def time_10000_creates_in_batches_of_1000(self, volume):
        for _ in range(10):
            self.pairs(1000)

    def time_1000_creates_one_a_commit(self, volume):
        for _ in range(1000):
            self.pairs(1)

    def time_100_commits_each_synced(self, volume):
        for _ in range(100):
            self.pairs(1)
            self.meta.sync()

    def time_checkpoint_after_10000_creates(self, volume):
        for _ in range(10):
            self.pairs(1000)
        self.meta.checkpoint()

    def track_log_bytes_a_create(self, volume):
        """Written to the log for a create, in batches of 1000."""
        before = self.meta.wal_bytes
        self.pairs(1000)
        return (self.meta.wal_bytes - before) / 1000


class Reads(Store):
    def time_10000_get_inode_cached(self, volume):
        for i in self.order:
            self.meta.get_inode(i + 10)

    def time_10000_lookup_cached(self, volume):
        for i in self.order:
            self.meta.lookup(1 + i % 100, self.slots[i], b"file%d" % i)

    def time_10000_misses(self, volume):
        for i in self.order:
            try:
                self.meta.lookup(1 + i % 100, self.slots[i], b"none")
            except FileNotFoundError:
                pass

    def time_scan_a_directory(self, volume):
        self.meta.scan(1, 0, 1000)

    def time_verify(self, volume):
        self.meta.verify()


class UncachedReads(Store):
    """Every read fetches, checks and opens its page."""

    cache_bytes = 1

    def time_10000_get_inode_uncached(self, volume):
        for i in self.order:
            self.meta.get_inode(i + 10)


class Opening(Store):
    def setup(self, volume):
        super().setup(volume)
        self.meta.close()

    def time_open_and_close(self, volume):
        Meta(self.path, key=self.key).close()

    def track_bytes_an_entry(self, volume):
        """Size of the database for an inode of 96 bytes and its name."""
        return os.path.getsize(self.path) / self.count
