"""A volume: one directory on the host that holds everything, opened by one process at a time.

``Volume`` is the composition root.  It checks that the directory is a volume that this process may and can open,
unwraps its key, takes the lock, and puts the compiled filesystem together; then it looks after the volume as a whole:
facts, compaction, backup, key rotation.  The files in it are reached through a frontend, of which
``vexfs.frontends.local`` is the one that ``vexfs.open`` gives out.
"""

import atexit
import contextlib
import ctypes
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import attrs

from vexfs import machinery
from vexfs._core.bridge import Bridge
from vexfs._core.fs import Filesystem
from vexfs._core.opened import CLOSED, FOREIGN
from vexfs.errors import UsageError, VolumeClosed, VolumeDamaged, VolumeExists
from vexfs.machinery import Options
from vexfs.registry import registry
from vexfs.store import host, keys, snapshot, unlock, volumefile
from vexfs.store.check import Report
from vexfs.store.check import check as run_check
from vexfs.store.lock import Lock
from vexfs.store.making import making, unfinished, vacant
from vexfs.store.snapshot import INDEX, SEGMENTS

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog

#: In the volume; what lies under ``.vexfs`` shows in no listing.
INDEX_LIST = ".vexfs/indexes.json"
Progress = Callable[[int, int], Any]
HostPath = str | os.PathLike[str]

_opened: "weakref.WeakValueDictionary[tuple[int, int], Volume]" = weakref.WeakValueDictionary()
_opening = threading.Lock()


@atexit.register
def _close_all() -> None:
    """A program that ends without closing its volumes loses nothing that it has written."""
    for volume in list(_opened.values()):
        volume.close()


def _abandon_all() -> None:
    """In a forked child: the volumes belong to the parent, whose threads did not come along."""
    for volume in list(_opened.values()):
        volume._abandon()


os.register_at_fork(after_in_child=_abandon_all)


class Volume:
    """An open volume.  Made by :meth:`load` and :meth:`create`; a context manager that closes itself.

    Attributes
    ----------
    directory : Path
        Where the volume is.
    filesystem : vexfs._core.fs.Filesystem
        Its compiled operations; thread-safe.
    mounted : Mount or None
        The mount of this process, once there was one.
    """

    def __init__(
        self, directory: Path, about: volumefile.VolumeFile, filesystem: Filesystem, lock: Lock, master: bytes | None,
        bridge: Bridge | None,
    ) -> None:
        self._bridge = bridge
        self.directory, self.about, self._master = directory, about, master
        self.read_only = lock.shared
        self._filesystem: Filesystem | None = filesystem
        self._lock = lock
        self._closing = threading.Lock()
        self.mounted: Any = None
        self._catalog: Catalog | None = None
        self._indexing = threading.Lock()
        if _has_indexes(filesystem):
            _ = self.catalog  # what files mean for rows is to be seen from the first operation on

    # -- making and opening

    @classmethod
    def create(
        cls, path: HostPath, *, key_file: HostPath | None = None, size_limit: int = 0,
        segment_size: int = volumefile.SEGMENT_SIZE, compression: str = "lz4", **options: Unpack[Options],
    ) -> Self:
        """Make a volume in the directory `path`, which is absent or empty, and open it.

        Parameters
        ----------
        path : path
            On a local disk of the host.
        key_file : path, optional
            Encrypt everything under this key; a file that does not exist is made, readable by its owner alone.
        size_limit : int
            Bytes that the volume may take on the host; 0 is no limit.
        segment_size : int
            Bytes at which a segment of file data is sealed; 1 MiB to 1 GiB.
        compression : {"lz4", "none"}

        Raises
        ------
        VolumeExists
            There is something at `path` already.
        HostUnsuitable
            `path` lies on a network filesystem or FUSE.
        """
        machinery.check(options)
        geometry = volumefile.checked_geometry(segment_size, size_limit, compression)
        directory = Path(path).absolute()
        if directory.is_dir() and not vacant(directory):
            is_volume = (directory / volumefile.NAME).exists()
            what = "is a volume already" if is_volume else "is a directory with files in it"
            raise VolumeExists.at(f"{what}; give the new volume a path of its own", directory)
        if directory.exists() and not directory.is_dir():
            raise VolumeExists.at("is a file; a volume is a directory of its own", directory)
        host.refuse_unsuitable(host.existing(directory))
        with making(directory):
            return cls._create(directory, geometry, key_file, options)

    @classmethod
    def _create(
        cls, directory: Path, geometry: volumefile.Geometry, key_file: HostPath | None, options: Any
    ) -> Self:
        lock = Lock(directory)
        bridge, filesystem = machinery.equip(options), None
        try:
            about, master = volumefile.VolumeFile(geometry=geometry), None
            if key_file is not None:
                master = keys.new_master_key()
                about = attrs.evolve(about, wrapped_key=keys.wrap(master, unlock.key_in(key_file), volume=about.uuid))
            for name in (SEGMENTS, INDEX):
                (directory / name).mkdir()
            filesystem = Filesystem(
                str(directory), meta_key=master, data_key=master, create=True, **attrs.asdict(geometry), **options
            )
            # Last, because a directory is a volume from the moment that this file is in it.
            about.save(directory)
            return cls._opened(directory, about, filesystem, lock, master, bridge)
        except BaseException:
            _give_up(filesystem, bridge, lock)
            raise

    @classmethod
    def load(
        cls, path: HostPath, *, create: bool = False, read_only: bool = False, key_file: HostPath | None = None,
        compression: str | None = None, **options: Unpack[Options],
    ) -> Self:
        """Open the volume at `path`.

        Parameters
        ----------
        path : path
        create : bool
            Make the volume when there is nothing at `path` yet.
        read_only : bool
            Change nothing.  Several processes may have a volume open read-only at once.
        key_file : path, optional
            Of an encrypted volume.
        compression : {"lz4", "none"}, optional
            Of what is written while it is open; by default as the volume was made.
        **options
            See :class:`Options`.

        Raises
        ------
        VolumeNotFound, FormatUnknown, VolumeDamaged
            There is no volume that can be opened.
        VolumeBusy
            Another process has it; the message says which and how to reach it.
        KeyMissing, KeyWrong
            The key does not fit.
        UsageError
            An option is out of bounds.
        """
        directory = Path(path).absolute()
        if create and not read_only and vacant(directory):
            return cls.create(directory, key_file=key_file, compression=compression or "lz4", **options)
        machinery.check(options)
        about = volumefile.load(directory)
        host.refuse_unsuitable(directory)
        master = unlock.master_key(directory, about, key_file)
        snapshot.refuse_incomplete(directory)
        lock = Lock(directory, shared=read_only)
        if not read_only:
            volumefile.tidy(directory, about)
        parts: Any = {**options, "compression": compression or about.geometry.compression}
        bridge, filesystem = machinery.equip(parts), None
        try:
            filesystem = Filesystem(
                str(directory), meta_key=master, data_key=master, read_only=read_only,
                **{**attrs.asdict(about.geometry), **parts},
            )  # fmt: skip
            return cls._opened(directory, about, filesystem, lock, master, bridge)
        except BaseException:
            _give_up(filesystem, bridge, lock)
            raise

    @classmethod
    def _opened(cls, directory: Path, *parts: Any) -> Self:
        volume = cls(directory, *parts)
        with _opening:
            _opened[_identity(directory)] = volume
        return volume

    # -- the volume as a whole

    @property
    def filesystem(self) -> Filesystem:
        """The compiled operations; raises ``VolumeClosed`` after :meth:`close`."""
        if self._filesystem is None:
            raise VolumeClosed.at(FOREIGN if self._lock.foreign else CLOSED, self.directory)
        return self._filesystem

    @property
    def catalog(self) -> "Catalog":
        """The indexes of the volume."""
        with self._indexing:
            if self._catalog is None:
                from vexfs.search.catalog import Catalog

                self._catalog = Catalog(
                    self.filesystem, simd=machinery.simd(), pool=machinery.pool(), bridge=self._bridge,
                    read_only=self.read_only,
                )  # fmt: skip
            return self._catalog

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._filesystem is None

    @property
    def encrypted(self) -> bool:
        """Whether content, names and attributes are encrypted on the host."""
        return self.about.wrapped_key is not None

    def announce(self, **reach: str | None) -> None:
        """Tell others how to reach this process while it owns the volume: ``mountpoint=``, ``socket=``."""
        self._lock.announce(**reach)

    def info(self) -> dict[str, Any]:
        """What the volume is and how it stands: identity, geometry, and the filesystem's own status."""
        total, free, available, used_inodes, free_inodes = self.filesystem.statvfs()
        return {
            "path": str(self.directory),
            "uuid": self.about.uuid,
            "format": self.about.format,
            "created": self.about.created,
            "encrypted": self.encrypted,
            "read_only": self.read_only,
            **attrs.asdict(self.about.geometry),
            "total_bytes": total * 4096,
            "free_bytes": free * 4096,
            "available_bytes": available * 4096,
            "inodes_used": used_inodes,
            "inodes_free": free_inodes,
            "status": self.filesystem.status(),
        }

    def mount(self, mountpoint: HostPath, options: str = "") -> Any:
        """Show the volume as a disk of the host, too; what this process changes is seen there at once, and back.

        Parameters
        ----------
        mountpoint : path
            An existing, empty directory.
        options : str
            As behind ``vexfs mount -o``; those about opening the volume have no say any more.

        Returns
        -------
        vexfs.frontends.fuse.session.Mount
            Its ``unmount()``, or :meth:`close`, ends it.

        Raises
        ------
        Busy
            This process has a mount already; it can have one.
        PluginBroken
            llfuse is not installed.
        """
        return registry("frontends").get("fuse").mount(self, mountpoint, options)

    def sync(self) -> None:
        """Wait until everything done so far is on stable storage."""
        self.filesystem.sync()

    def compact(self, progress: Progress | None = None) -> dict[str, int]:
        """Copy live data out of segments with dead bytes and free them; answers what was gained.

        `segments_left` are those that the host has no room to copy.
        """
        return self.filesystem.compact(progress)

    def backup(self, target: HostPath, progress: Progress | None = None) -> Path:
        """Copy a consistent snapshot of the volume, while it works, into the new directory `target`.

        The copy is a volume like any other, under the same key.  An interrupted backup leaves nothing behind; what a
        killed one leaves is cleared away by doing it again.

        Raises
        ------
        VolumeExists
            `target` exists; a backup overwrites nothing.
        """
        place = Path(target).absolute()
        if (place.exists() or place.is_symlink()) and not unfinished(place):
            raise VolumeExists.at("exists; a backup overwrites nothing: give it a path of its own", place)
        if place.is_relative_to(self.directory):
            raise UsageError(f"{place}: lies inside the volume; a backup belongs somewhere else")
        with making(place):
            snapshot.take(self.filesystem, self.directory, place, self._master, progress)
            self.about.save(place)
            volumefile.sync_directory(place.parent)
        return place

    def close(self) -> None:
        """Write everything out and give the volume up.  Harmless when it is closed already."""
        with self._closing:
            if self._filesystem is not None and self.mounted is not None:
                self.mounted.unmount(force=True)
            filesystem = None
            while self._filesystem is not None:
                if (catalog := self._catalog) is not None:
                    catalog.close()
                with self._indexing:
                    if self._catalog is catalog:  # else one came meanwhile
                        filesystem, self._filesystem, self._catalog = self._filesystem, None, None
            if filesystem is None:
                return
            try:
                filesystem.close()
            finally:
                _stop(self._bridge)
                self._lock.release()

    def _abandon(self) -> None:
        """Let go without closing: the parent process has it open, and goes on with it."""
        for part in (self._filesystem, self._bridge, self.mounted, self._catalog):
            # Their destructors would write to the volume and wait for threads that are not there: they must never run.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
        if self._filesystem is not None:  # file objects and indexes that came along have it, too
            self._filesystem.abandon()
        self._filesystem, self._bridge, self.mounted, self._catalog = None, None, None, None
        self._closing, self._indexing = threading.Lock(), threading.Lock()
        self._lock.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        filesystem = getattr(self, "_filesystem", None)
        if filesystem is not None and not filesystem.closed:
            warnings.warn(f"volume {self.directory} was not closed", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.directory)!r}{' (closed)' if self.closed else ''}>"


def _has_indexes(filesystem: Filesystem) -> bool:
    with contextlib.suppress(OSError):
        return filesystem.stat(INDEX_LIST) is not None
    return False


def _stop(bridge: Bridge | None) -> None:
    if bridge is not None:
        bridge.close()


def _give_up(filesystem: Filesystem | None, bridge: Bridge | None, lock: Lock) -> None:
    """A volume could not be opened to the end; its filesystem, which works with the bridge, goes before that."""
    try:
        if filesystem is not None:
            with contextlib.suppress(OSError):  # what kept it from being opened is told
                filesystem.close()
    finally:
        _stop(bridge)
        lock.release()


def opened(path: HostPath) -> Volume | None:
    """The volume at `path` if this process has it open."""
    try:
        where = _identity(Path(path))
    except OSError:
        return None
    with _opening:
        volume = _opened.get(where)
    return None if volume is None or volume.closed else volume


def check(
    path: HostPath, *, key_file: HostPath | None = None, repair: bool = False, read_data: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Check the volume at `path`, which nobody has open, and repair it when asked.

    Raises
    ------
    VolumeBusy
        Somebody has it open.
    """
    directory = Path(path).absolute()
    try:
        about = volumefile.load(directory)
    except VolumeDamaged:
        spare = volumefile.sound_spare(directory)
        if spare is None:
            raise
        about = spare
    master = unlock.master_key(directory, about, key_file)
    snapshot.refuse_incomplete(directory)
    lock = Lock(directory) if repair else Lock.for_checking(directory)
    try:
        return run_check(directory, master, repair=repair, read_data=read_data, progress=progress)
    finally:
        lock.release()


def restore(
    backup: HostPath, target: HostPath, *, key_file: HostPath | None = None, progress: Progress | None = None
) -> Report:
    """Copy the backup at `backup` to the new volume `target`, after checking that it is sound.

    Raises
    ------
    VolumeExists
        There is something at `target`; nothing is overwritten.
    VolumeDamaged
        The backup is not sound; the message says what is wrong first.
    """
    source, place = Path(backup).absolute(), Path(target).absolute()
    if (place.exists() or place.is_symlink()) and not unfinished(place):
        raise VolumeExists.at("exists; restore to a path of its own, and move it into place then", place)
    host.refuse_unsuitable(host.existing(place))
    report = check(source, key_file=key_file)
    if not report.sound:
        first = report.faults[0]
        raise VolumeDamaged.at(
            f"the backup has {len(report.faults)} fault{'s'[: len(report.faults) > 1]}, "
            f"the first: {first.where}: {first.detail}; "
            "run `vexctl volume fsck` on a copy of it",
            source,
        )
    about = volumefile.load(source)
    master = unlock.master_key(source, about, key_file)
    lock = Lock.for_checking(source)
    try:
        with making(place):
            snapshot.copy_closed(source, place, master, progress)
            about.save(place)
            volumefile.sync_directory(place.parent)
    finally:
        lock.release()
    return report


def rotate_key(path: HostPath, key_file: HostPath, new_key_file: HostPath) -> None:
    """Put the volume at `path` under another key file; refused (``VolumeBusy``) when somebody has it open for seconds.

    Only the wrapped master key is rewritten, so this takes no longer for a large volume.  A `new_key_file` that does
    not exist is made.  Afterwards the old key file opens nothing but older backups.
    """
    directory = Path(path).absolute()
    about = volumefile.load(directory)
    if about.wrapped_key is None:
        raise UsageError(f"{directory}: is not encrypted; there is no key to rotate")
    lock = Lock.when_free(directory)
    try:
        about = volumefile.load(directory)  # another rotation may have come first
        master = unlock.unwrapped(directory, about.wrapped_key or "", about.uuid, key_file)
        wrapped = keys.wrap(master, unlock.key_in(new_key_file), volume=about.uuid)
        attrs.evolve(about, wrapped_key=wrapped).save(directory)
    finally:
        lock.release()


def _identity(directory: Path) -> tuple[int, int]:
    found = directory.stat()
    return found.st_dev, found.st_ino
