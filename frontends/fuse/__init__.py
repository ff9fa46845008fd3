"""Volumes as disks of the host, through FUSE.

========================  ==========================================================================================
:mod:`.options`           what may stand behind ``-o``
:mod:`.mountpoint`        the place in the host's tree: is it fit, what is mounted there, unmounting
:mod:`.virtual`           the names under ``.vexfs``
:mod:`.indexfiles`        ``.vexfs/index.toml``, read and written
:mod:`.searching`         searches as directories of symlinks, under ``.vexfs/search`` and ``.vexfs/similar``
:mod:`.adapter`           requests of the kernel, translated; compiled, knows no FUSE library
:mod:`.operations`        llfuse's handlers: llfuse's types in, the adapter asked, llfuse's types out; compiled
:mod:`.session`           one mount from its first request to its last
:mod:`.service`           the mount of a node
========================  ==========================================================================================

The kernel answers from its own caches for minutes, as it is told of every change made by anybody else
(``fs_events_*``).  Requests that can be refused once and for all are: closing a file is not announced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs
from vexfs.frontends.fuse.device import make_room
from vexfs.frontends.fuse.figures import Figures
from vexfs.frontends.fuse.options import MountOptions, parse
from vexfs.frontends.fuse.searching import Kept, Likes, Searches
from vexfs.frontends.fuse.virtual import Text, VirtualTree

from vexfs.errors import PluginBroken
from vexfs.version import __version__

if TYPE_CHECKING:
    from vexfs.frontends.fuse.serving import MountService
    from vexfs.frontends.fuse.session import Mount

    from vexfs.config import Settings
    from vexfs.node import Node
    from vexfs.volume import Volume

__all__ = ["MountOptions", "mount", "parse", "service"]

#: Status and metrics that were looked up are the same files for so long, until they are read.
KEPT_S = 1.0

make_room()  # before a module of this package imports llfuse


def mount(
    volume: Volume,
    mountpoint: str | os.PathLike[str],
    options: str | Iterable[str] | MountOptions = (),
    *,
    tree: VirtualTree | None = None,
    closes_with_mount: bool = False,
) -> Mount:
    """Mount an open volume and return when the mount answers.

    Requests are answered by threads of this process, so a program that keeps the interpreter busy slows its mount
    down; ``vexfs mount`` runs it in a process of its own.  A process has one mount at a time.

    Parameters
    ----------
    volume
        Must stay open until the mount has ended.
    mountpoint
        An existing, empty directory.
    options
        As behind ``-o``: ``"ro,allow_other"``, or several such strings, or parsed already.  Those that say how a
        volume is opened have no say any more.
    tree
        What stands under ``.vexfs`` beside ``config.toml``, ``metrics``, ``status`` and ``version``.
    closes_with_mount
        The process ends with the mount: ``vexfs umount`` then waits for that.

    Returns
    -------
    Mount
        ``unmount()`` it, or use it as a context manager.

    Raises
    ------
    ConfigError
        An option is unknown or has a bad value.
    Busy, NotFound, NotADirectory, NotEmpty, NotPermitted, NotSupported
        The directory or the host is not fit; the message names the remedy.
    """
    try:
        from vexfs.frontends.fuse.session import Mount
    except ModuleNotFoundError as error:
        if error.name != "llfuse":
            raise
        raise PluginBroken("mounting needs llfuse; install it: pip install 'vexfs[fuse]'") from None
    if not isinstance(options, MountOptions):
        options = parse([options] if isinstance(options, str) else options)
    if volume.read_only:
        options = options.made_read_only()
    from vexfs.frontends.fuse.indexfiles import IndexFiles

    tree = tree or VirtualTree()
    tree.stat_of = volume.filesystem.getattr
    made = Mount(
        volume.filesystem, os.fspath(mountpoint), options, str(volume.directory), tree,
        lambda: volume.announce(mountpoint=None),
    )  # fmt: skip
    tree.register(b"version", lambda _: Text(lambda: f"{__version__}\n".encode()))
    tree.register(b"status", lambda _: Text(lambda: _status(made, closes_with_mount), keep_s=KEPT_S))
    if not tree.has(b"metrics"):
        figures = Figures(volume)
        tree.register(b"metrics", lambda _: Text(figures.text, keep_s=KEPT_S))
    if not tree.has(b"config.toml"):
        tree.register(b"config.toml", lambda _: Text(lambda: _config(made, options)))
    kept = Kept()
    tree.register(b"search", lambda ino: Searches(volume, ino, kept), everywhere=True)
    tree.register(b"similar", lambda ino: Likes(volume, ino, kept), everywhere=True)
    files = IndexFiles(volume)
    tree.register(b"index.toml", files.text, everywhere=True)
    tree.register(b"index.toml.error", files.error, everywhere=True)
    made.start()
    volume.announce(mountpoint=made.mountpoint, closes_with_mount="yes" if closes_with_mount else None)
    volume.mounted = made
    return made


def volume_options(settings: Settings) -> dict[str, Any]:
    """How ``mount.options`` of a node want the volume opened."""
    from vexfs.frontends.fuse.serving import options_of

    return options_of(settings).volume


def service(node: Node) -> MountService:
    """The mount of `node`."""
    from vexfs.frontends.fuse.serving import MountService

    return MountService(node)


def _status(made: Mount, closes_with_mount: bool) -> bytes:
    rows = {"version": __version__, "pid": os.getpid(), "closes_with_mount": closes_with_mount, **made.status()}
    return "".join(f"{key}: {_word(value)}\n" for key, value in rows.items()).encode("utf-8", "surrogateescape")


def _config(made: Mount, options: MountOptions) -> bytes:
    """How it is mounted, in TOML; a node's mount shows the node's configuration instead."""
    rows = {"volume": made.status()["source"], "mountpoint": made.mountpoint, "kernel": sorted(options.kernel)}
    rows |= {name: value for name, value in attrs.asdict(options).items() if name not in ("kernel", "volume")}
    told = {"mount": rows, "volume": options.volume}
    lines = [f"[{head}]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in part.items() if v is not None)
             for head, part in told.items()]  # fmt: skip
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _toml(value: object) -> str:
    """A string of JSON is one of TOML; so are numbers, booleans and lists of them."""
    return json.dumps(value, ensure_ascii=False)


def _word(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items())
    return value
