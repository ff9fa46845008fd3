"""The host as VexFS wants it: what is looked at, what it is, what it should be, and the command that sets it."""

import os
import shutil
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs

from vexfs._core.simd import capabilities

SYS = Path("/sys")
PROC = Path("/proc")


@attrs.frozen
class Setting:
    """One thing that can be set: a file under ``/proc`` or ``/sys``.

    Attributes
    ----------
    good : callable
        Whether a value is as wanted.
    wanted : str
        What `tune` writes.
    optional : bool
        Useful, but nothing suffers much without it.
    """

    name: str
    path: str
    wanted: str
    good: Callable[[str], bool]
    why: str
    optional: bool = False

    @property
    def sysctl(self) -> str | None:
        """The name that ``sysctl`` knows it by; None for what is in ``/sys``."""
        return self.path.removeprefix("/proc/sys/").replace("/", ".") if self.path.startswith("/proc/sys/") else None

    def read(self) -> str | None:
        """The value in force; None where the host has no such setting."""
        try:
            text = Path(self.path).read_text().strip()
        except OSError:
            return None
        # Choices are shown as `always [madvise] never`.
        return text[text.index("[") + 1 : text.index("]")] if "[" in text and "]" in text else text

    @property
    def command(self) -> str:
        """What sets it."""
        return f"sysctl -w {self.sysctl}={self.wanted}" if self.sysctl else f"echo {self.wanted} > {self.path}"


def _at_least(n: int) -> Callable[[str], bool]:
    return lambda value: value.isdigit() and int(value) >= n


def _at_most(n: int) -> Callable[[str], bool]:
    return lambda value: value.isdigit() and int(value) <= n


def settings() -> list[Setting]:
    """Every setting that ``system tune`` may change."""
    return [
        Setting(
            "huge pages",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "madvise",
            lambda v: v in ("always", "madvise"),
            "pools and indexes ask for huge pages by madvise",
        ),
        Setting(
            "huge page defragmentation",
            "/sys/kernel/mm/transparent_hugepage/defrag",
            "madvise",
            lambda v: v != "always",
            "with always, any allocation may wait for memory to be compacted",
            True,
        ),
        Setting(
            "swappiness",
            "/proc/sys/vm/swappiness",
            "10",
            _at_most(30),
            "indexes are made of memory: what is swapped out costs a disk access a vector",
        ),
        Setting(
            "dirty background ratio",
            "/proc/sys/vm/dirty_background_ratio",
            "5",
            _at_most(10),
            "less dirty memory makes a sync short",
            True,
        ),
        Setting(
            "dirty ratio", "/proc/sys/vm/dirty_ratio", "15", _at_most(20), "less dirty memory makes a sync short", True
        ),
        Setting(
            "memory maps",
            "/proc/sys/vm/max_map_count",
            "262144",
            _at_least(65_530),
            "each index and each hardened buffer maps memory of its own",
        ),
        Setting(
            "open files",
            "/proc/sys/fs/file-max",
            "1048576",
            _at_least(100_000),
            "segments, clients and watchers take a descriptor each",
        ),
        Setting(
            "listen backlog",
            "/proc/sys/net/core/somaxconn",
            "4096",
            _at_least(2000),
            "2000 clients may connect at once",
        ),
        *_disks(),
    ]


def _disks() -> Iterable[Setting]:
    for queue in sorted(SYS.glob("block/*/queue")):
        disk = queue.parent.name
        if disk.startswith(("loop", "ram", "zram", "sr", "fd", "dm-", "md")):
            continue
        flash = (queue / "rotational").exists() and (queue / "rotational").read_text().strip() == "0"
        if flash and (queue / "scheduler").exists() and "none" in (queue / "scheduler").read_text():
            yield Setting(
                f"scheduler of {disk}",
                str(queue / "scheduler"),
                "none",
                lambda v: v in ("none", "mq-deadline"),
                "flash needs no sorting of requests",
                True,
            )
        if (queue / "read_ahead_kb").exists():
            yield Setting(
                f"read-ahead of {disk}",
                str(queue / "read_ahead_kb"),
                "128",
                _at_least(128),
                "compaction and backup read segments from end to end",
                True,
            )


def _row(
    name: str, ok: bool, value: str, wanted: str, why: str, remedy: str = "", optional: bool = False
) -> dict[str, Any]:
    detail = value if ok else f"{value}; wanted: {wanted}, because {why}"
    return {
        "name": name,
        "ok": ok,
        "value": value,
        "wanted": wanted,
        "why": why,
        "detail": detail,
        "remedy": "" if ok else remedy,
        "optional": optional,
    }


def report() -> list[dict[str, Any]]:
    """Every check: ``name``, ``ok``, ``value``, ``wanted``, ``why``, ``remedy``, ``optional``."""
    rows = [_cpu(), _memory(), *_fuse(), _limits(), *_tools()]
    for setting in settings():
        value = setting.read()
        if value is not None:
            rows.append(
                _row(
                    setting.name,
                    setting.good(value),
                    value,
                    setting.wanted,
                    setting.why,
                    setting.command,
                    setting.optional,
                )
            )
    return rows


def _cpu() -> dict[str, Any]:
    offered = [name for name, on in capabilities().items() if on]
    vector = bool({"avx2", "neon"} & set(offered))
    return _row(
        "processor",
        vector,
        f"{os.cpu_count()} CPUs, {', '.join(offered) or 'no vector instructions'}",
        "AVX2 or NEON",
        "distances take scalar code otherwise",
        "choose a machine type with AVX2",
    )


def _memory() -> dict[str, Any]:
    fields = dict(line.split(":", 1) for line in (PROC / "meminfo").read_text().splitlines())
    total, free = (int(fields[key].split()[0]) >> 10 for key in ("MemTotal", "MemAvailable"))
    return _row(
        "memory",
        free >= 512,
        f"{free} MiB of {total} MiB are available",
        "512 MiB",
        "caches and indexes live in it",
        "give the host more memory, or lower storage.cache_size",
    )


def _fuse() -> list[dict[str, Any]]:
    device = Path("/dev/fuse")
    usable = os.access(device, os.R_OK | os.W_OK)
    state = "usable" if usable else "not usable by this user" if device.exists() else "absent"
    rows = [
        _row(
            "FUSE",
            usable,
            f"/dev/fuse is {state}",
            "/dev/fuse, readable and writable",
            "a volume cannot be mounted without",
            "modprobe fuse; in a container: --device /dev/fuse",
        )
    ]
    if os.geteuid():
        rows.append(
            _row(
                "fusermount",
                bool(shutil.which("fusermount")),
                str(shutil.which("fusermount")),
                "fusermount",
                "users other than root mount through it",
                "apt-get install fuse",
            )
        )
    return rows


def _limits() -> dict[str, Any]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _row(
        "descriptors of a process",
        hard >= 8192 or hard == resource.RLIM_INFINITY,
        f"{soft}, at most {hard}",
        "8192",
        "each client takes one",
        "LimitNOFILE=65536 in the unit, or ulimit -n 65536",
    )


def _tools() -> list[dict[str, Any]]:
    if find_spec("llfuse") is None:
        return [
            _row(
                "llfuse", False, "not installed", "llfuse", "the mount is made through it", "pip install 'vexfs[fuse]'"
            )
        ]
    return []


@attrs.frozen
class Change:
    """One setting to change: what it is, and what it shall be."""

    name: str
    path: str
    before: str
    after: str
    command: str


def changes() -> list[Change]:
    """What ``system tune`` would change."""
    found = []
    for setting in settings():
        value = setting.read()
        if value is not None and not setting.good(value):
            found.append(Change(setting.name, setting.path, value, setting.wanted, setting.command))
    return found


def apply(wanted: Iterable[Change], undo: Path) -> tuple[list[Change], list[tuple[Change, str]]]:
    """Make changes; first of all, a script that takes them back is written to `undo`.

    Returns
    -------
    tuple
        What was done, and what failed with the reason.
    """
    wanted = list(wanted)
    lines = ["#!/bin/sh", "# Sets back what `vexctl system tune --apply` changed, and goes.", "failed=0"]
    lines += [f"echo '{change.before}' > {change.path} || failed=1" for change in reversed(wanted)]
    lines += ['[ "$failed" = 1 ] || rm -f "$0"', 'exit "$failed"']
    undo.parent.mkdir(parents=True, exist_ok=True)
    with undo.open("x", encoding="utf-8") as script:  # never through a link that somebody has laid there
        script.write("\n".join(lines) + "\n")
    undo.chmod(0o755)
    done, failed = [], []
    for change in wanted:
        try:
            Path(change.path).write_text(f"{change.after}\n")
            done.append(change)
        except OSError as error:
            failed.append((change, error.strerror or str(error)))
    return done, failed
