"""The mount under single kinds of requests, and under the mix of small files: rates, and the daemon's CPU."""

import os
import tempfile
from pathlib import Path

from asv_benchmarks.peers.clients import Clients
from asv_benchmarks.peers.contestants import VexFS


class Mounted:
    """A volume mounted by a process of its own; skipped where that cannot be."""

    number, repeat, rounds = 1, 3, 1
    timeout = 180
    files = 1000

    def setup(self, *_):
        if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise NotImplementedError("needs root and /dev/fuse")
        self.home = tempfile.TemporaryDirectory(prefix="vexfs-bench-")
        self.disk = VexFS(Path(self.home.name))
        try:
            self.disk.mount()
            self.clients = Clients(Path(self.home.name))
            for k in range(4):
                self.clients.run("prepare", [self.disk.directory / f"c{k}"], 0, self.files)
        except BaseException:
            self.teardown()
            raise

    def teardown(self, *_):
        self.disk.unmount()
        self.home.cleanup()


class Mixed(Mounted):
    """40 % read, 20 % stat, 20 % overwrite, 10 % create, 10 % unlink of files of 4 KiB."""

    params = (1, 2, 4)
    param_names = ("clients",)
    unit = "operations/s"

    def track_rate(self, clients):
        directories = [self.disk.directory / f"c{k}" for k in range(clients)]
        return self.clients.rate("mixed", directories, 8000 // clients, self.files)


class Requests(Mounted):
    """Microseconds of the daemon's CPU for one operation."""

    params = ("getattr", "read", "write", "create")
    param_names = ("kind",)
    unit = "us"

    def track_cpu(self, kind):
        (self.disk.directory / "c0").rename(self.disk.directory / "cpu")
        return self.clients.cpu_us(self.disk, kind, 5000, self.files)


class Sequential(Mounted):
    """A file of 128 MiB."""

    unit = "MiB/s"

    def track_write(self):
        return 128 / self.clients.run("write_big", [self.disk.directory], 128, 0)[0]

    def track_read(self):
        self.clients.run("write_big", [self.disk.directory], 128, 0)
        self.disk.unmount()
        self.disk.mount()
        return 128 / self.clients.run("read_big", [self.disk.directory], 128, 0)[0]
