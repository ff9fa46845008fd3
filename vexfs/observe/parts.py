"""What is observed: an open volume, the mechanisms that it works with, its mount, and which of them are switched on."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from vexfs._core.bridge import Bridge
from vexfs._core.frame import Frames
from vexfs._core.fs import Filesystem
from vexfs._core.pool import Pool
from vexfs._core.simd import Simd
from vexfs.observe.tally import Tally

#: Operations a second that the operators hold a node to.
TARGETS = {"fuse": 4125.0, "vector": 2120.0, "semantic": 648.0}


@attrs.define
class Parts:
    """A volume at work, as metrics, health and the performance commands see it.

    Parameters
    ----------
    volume : Volume
        Open.
    simd : Simd, optional
        The distance kernels of the process.
    switches : callable, optional
        Answers what a configuration switched on or off, ``{"tiered_memory_pools": False}``; what it does not name is
        on when the volume has it.
    node_id : str
        Names the node in answers.
    hindrance : callable, optional
        Answers what keeps the node around the volume from serving, None while it serves.
    """

    volume: Any
    simd: Simd | None = None
    switches: Callable[[], Mapping[str, bool]] = dict
    node_id: str = "vexfs"
    hindrance: Callable[[], str | None] = lambda: None
    started: float = attrs.field(factory=time.monotonic)
    #: Stretches of load that VexFS drove itself, to measure: readings at their begin and, when over, at their end.
    driven: deque[list[Any]] = attrs.field(factory=lambda: deque(maxlen=1000))

    @property
    def filesystem(self) -> Filesystem:
        """The compiled operations; raises ``VolumeClosed`` when the volume is closed."""
        filesystem: Filesystem = self.volume.filesystem
        return filesystem

    @property
    def pool(self) -> Pool | None:
        """The memory pools, or None when the volume does without."""
        return self.filesystem.equipment[0]

    @property
    def frames(self) -> Frames | None:
        """The stack account, or None."""
        return self.filesystem.equipment[1]

    @property
    def bridge(self) -> Bridge | None:
        """The bridge, or None."""
        return self.filesystem.equipment[2]

    @property
    def tally(self) -> Tally:
        """Vector and semantic operations."""
        tally: Tally = self.volume.catalog.tally
        return tally

    @property
    def mount(self) -> Any:
        """The mount that answers now, or None."""
        mount = getattr(self.volume, "mounted", None)
        return None if mount is None or mount.ended.is_set() else mount

    def enabled(self) -> dict[str, bool]:
        """Which of the four optimisations work now, and whether any vector instructions do."""
        said = self.switches()
        pool, frames, bridge, simd = self.pool, self.frames, self.bridge, self.simd
        level = simd.level if simd is not None else "scalar"
        pooled = pool is not None and "off" not in pool.options
        return {
            "tiered_memory_pools": pooled and said.get("tiered_memory_pools", True),
            "avx2_acceleration": level.startswith("avx") and said.get("avx2_acceleration", True),
            "stack_optimization": frames is not None and frames.enabled and said.get("stack_optimization", True),
            "enhanced_bridge": bridge is not None and bridge.running and said.get("enhanced_bridge", True),
            "simd_acceleration": level != "scalar",
        }
