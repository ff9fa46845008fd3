"""The mount as one service of a node."""

import logging
from typing import Any

from vexfs.frontends import fuse
from vexfs.frontends.fuse import mountpoint as place
from vexfs.frontends.fuse.figures import text_of
from vexfs.frontends.fuse.options import split
from vexfs.frontends.fuse.virtual import Text, VirtualTree

from vexfs.config import Settings
from vexfs.errors import ConfigError
from vexfs.node import Node
from vexfs.node.watch import history_of

log = logging.getLogger("vexfs.node")


#: Options of a mount by itself that a node's volume has keys for.
_OF_STORAGE = {
    "cache_size": "cache_size", "prefetch_size": "prefetch_size", "io_queue_depth": "io_queue_depth",
    "direct_io": "enable_direct_io", "key_file": "encryption_key_file",
}  # fmt: skip


def options_of(settings: Settings) -> fuse.MountOptions:
    """``mount.options``, read; raises ``ConfigError``, which names the key."""
    try:
        options = fuse.parse([_guarded(settings.mount.options)])
    except ConfigError as error:
        raise ConfigError(f"mount.options: {error}") from None
    for name in _OF_STORAGE.keys() & options.volume.keys():
        raise ConfigError(f"mount.options: {name} of a node's volume is storage.{_OF_STORAGE[name]}; set it there")
    return options


def _guarded(options: str) -> str:
    """Who may write over HTTP makes files of root's on this host: programs that run as root, and devices, on demand."""
    words = split([options])
    return ",".join([*words, *(f"no{word}" for word in ("suid", "dev") if word not in words)])


class MountService:
    """The node's volume mounted on ``mount.mountpoint``; ``.vexfs/config.toml`` shows what is in force."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._mountpoint = node.settings.mount.mountpoint
        self._options = options_of(node.settings)
        self._mount: Any = None

    def prepare(self) -> None:
        """Look at the mountpoint before anything is started; clear away what a node that was killed left there."""
        while (here := place.find(self._mountpoint)) is not None and self._left_over(here):
            log.warning("%s: a mount of this volume, whose process has died, is cleared away", self._mountpoint)
            place.unmount(self._mountpoint, lazy=True)
        place.check(self._mountpoint, nonempty="nonempty" in self._options.kernel)

    def _left_over(self, here: place.Mounted) -> bool:
        ours = here.fs_type == place.FS_TYPE and here.source == str(self._node.place)
        return ours and place.is_stale(self._mountpoint)

    def start(self) -> None:
        """Mount."""
        tree = VirtualTree()
        tree.register(b"config.toml", lambda _: Text(self._config))
        tree.register(b"metrics", lambda _: Text(lambda: text_of(history_of(self._node)), keep_s=fuse.KEPT_S))
        self._mount = fuse.mount(self._node.volume, self._mountpoint, self._options, tree=tree, closes_with_mount=False)

    def _config(self) -> bytes:
        lines: list[str] = []
        section = ""
        for row in self._node.settings.effective():
            head, name = row["key"].split(".")
            if head != section:
                section = head
                lines.append(f"{chr(10) if lines else ''}[{section}]")
            origin = row["place"] or row["origin"]
            lines.append(f"{name} = {row['value']}" + (f"  # {origin}" if row["origin"] != "default" else ""))
        return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")

    def stop(self, timeout_s: float) -> None:
        """Unmount, also under programs that have files open: what they wrote is kept."""
        if self._mount is not None:
            self._mount.unmount(force=True)

    def failure(self) -> str | None:
        """Whether somebody unmounted it, or its loop ended."""
        return "the mount has ended" if self._mount is not None and self._mount.ended.is_set() else None

    def reload(self, settings: Settings) -> None:
        """Nothing of it changes while running."""

    def describe(self) -> dict[str, Any]:
        """Where it is."""
        status = self._mount.status()
        return {"mountpoint": self._mountpoint, "workers": status["workers"], "faults": status["faults"]}
