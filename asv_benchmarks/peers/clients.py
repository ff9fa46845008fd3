"""Processes that put work on a mounted directory: ``mount_client.c``, compiled when first needed."""

import statistics
import subprocess
from pathlib import Path

from asv_benchmarks.peers.contestants import HERE, Contestant, call


class Clients:
    """Starts clients and measures how long they take.

    Parameters
    ----------
    home
        Where the compiled client is kept.
    """

    def __init__(self, home: Path) -> None:
        self.binary = home / "mount_client"
        call("cc", "-O2", "-o", self.binary, HERE / "mount_client.c")

    def run(self, kind: str, directories: list[Path], count: int, files: int, seed: int = 1) -> tuple[float, float]:
        """One client a directory, started together.

        Returns
        -------
        seconds : float
            Until the last was done.
        first_s : float
            For ``list``: until the first entry; else 0.
        """
        processes = [
            subprocess.Popen(
                [self.binary, kind, directory, str(seed * 1000 + i), str(count), str(files)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for i, directory in enumerate(directories)
        ]  # fmt: skip
        for process in processes:
            assert process.stdout
            process.stdout.readline()
        for process in processes:
            assert process.stdin
            process.stdin.write("g")
            process.stdin.flush()
        told = []
        for process in processes:
            out, err = process.communicate()
            if process.returncode:
                raise RuntimeError(f"{kind}: {err.strip()}")
            told.append([float(word) for word in out.split()])
        return max(t[0] for t in told), statistics.median(t[1] for t in told)

    def rate(self, kind: str, directories: list[Path], count: int, files: int, seed: int = 1) -> float:
        """Operations a second of all clients together."""
        return count * len(directories) / self.run(kind, directories, count, files, seed)[0]

    def cpu_us(self, contestant: Contestant, kind: str, count: int, files: int, settle_s: float = 0.0) -> float:
        """Microseconds of the daemon's CPU for one operation, its background work included."""
        import time

        before = contestant.cpu_s()
        self.run(kind, [contestant.directory / "cpu"], count, files)
        time.sleep(settle_s)
        return (contestant.cpu_s() - before) / count * 1e6


def drop_kernel_caches(level: int) -> None:
    """Forget clean pages (1), entries and inodes (2), or both (3)."""
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text(str(level))
