"""The core's mechanisms as volumes use them: one pool, one account of stack use and one set of kernels for the
process, a bridge for each volume.

A volume that is opened with ``pool=None``, ``frames=None`` or ``bridge=None`` does without: plain aligned allocation,
no accounting, and each operation wakes the committer itself.
"""

import functools
from collections.abc import Mapping
from numbers import Integral
from typing import Any, TypedDict

from vexfs._core.bridge import Bridge
from vexfs._core.frame import Frames
from vexfs._core.pool import Pool
from vexfs._core.simd import Simd
from vexfs.errors import UsageError


class Options(TypedDict, total=False):
    """How an open volume works; what it *is* stands in its geometry.  Sizes in bytes."""

    cache_size: int
    prefetch_size: int
    io_queue_depth: int
    direct_io: bool
    dirty_limit: int
    commit_ops: int
    commit_delay_ms: int
    inode_cache: int
    log_limit: int
    atime: str
    owner: tuple[int, int]
    pool: Any
    bridge: Any
    frames: Any


@functools.cache
def pool() -> Pool:
    """The memory pools of this process."""
    return Pool()


@functools.cache
def frames() -> Frames:
    """The stack account of this process."""
    return Frames()


@functools.cache
def simd() -> Simd:
    """The distance kernels of this process: every index asks these, so that one setting rules them all."""
    return Simd()


#: Numbers among the options, and the least and the most that each may be.
_BOUNDS = {
    "cache_size": (0, 1 << 62), "prefetch_size": (0, 1 << 62), "dirty_limit": (1, 1 << 62), "inode_cache": (1, 1 << 32),
    "log_limit": (4096, 1 << 62), "io_queue_depth": (1, 4096), "commit_ops": (1, (1 << 32) - 1),
    "commit_delay_ms": (0, (1 << 32) - 1),
}  # fmt: skip


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that are none (``TypeError``), and numbers that are none or out of bounds (``UsageError``)."""
    for name, value in options.items():
        if name not in Options.__annotations__:
            raise TypeError(f"no option is called {name!r}; {', '.join(Options.__annotations__)} are known")
        if name in _BOUNDS:
            least, most = _BOUNDS[name]
            if not isinstance(value, Integral) or not least <= int(value) <= most:
                raise UsageError(f"{name}={value!r}: a whole number from {least} to {most} is wanted")


def equip(options: dict[str, Any]) -> Bridge | None:
    """Fill in what `options` leave open; answers the bridge made for it, which its volume has to close."""
    options.setdefault("pool", pool())
    options.setdefault("frames", frames())
    if "bridge" in options:
        return None
    # Woken for each mutation, the bridge's thread would cost a mounted volume as much as the mutation itself.
    bridge = Bridge(lazy_sync=True)
    bridge.start()
    options["bridge"] = bridge
    return bridge
