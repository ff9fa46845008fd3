"""The process under the names that Prometheus gives them everywhere."""

import os
import resource
import threading
from pathlib import Path
from typing import Any

from vexfs.observe.exposition import Family, counter, gauge

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def figures() -> dict[str, float]:
    """CPU seconds, memory in bytes, open files, threads, and the start as Unix time."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    booted = next(float(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines()
                  if line.startswith("btime"))  # fmt: skip
    return {
        "cpu_s": (int(fields[11]) + int(fields[12])) / _TICKS,
        "resident_bytes": int(fields[21]) * _PAGE,
        "virtual_bytes": int(fields[20]),
        "open_files": len(os.listdir("/proc/self/fd")),
        "files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "threads": threading.active_count(),
        "started": booted + int(fields[19]) / _TICKS,
    }


def process(_: Any) -> list[Family]:
    """The collector of these figures."""
    now = figures()
    return [
        counter("process_cpu_seconds_total", "CPU time.").add(now["cpu_s"]),
        gauge("process_resident_memory_bytes", "Memory in use.").add(now["resident_bytes"]),
        gauge("process_virtual_memory_bytes", "Address space in use.").add(now["virtual_bytes"]),
        gauge("process_open_fds", "Open files.").add(now["open_files"]),
        gauge("process_max_fds", "The most of them.").add(now["files_limit"]),
        gauge("process_threads", "Threads that Python knows.").add(now["threads"]),
        gauge("process_start_time_seconds", "When it started, in Unix time.").add(now["started"]),
    ]
