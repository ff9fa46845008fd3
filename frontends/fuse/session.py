"""One mount from its first request to its last: threads, readiness, changes made elsewhere, the end.

llfuse keeps its session in globals, so a process has one mount at a time.  Each worker is a thread in
``llfuse.main(workers=1)``.  One worker answers fastest, as handlers share the interpreter's lock; more are started when
all are about to wait for the disk, so that what waits together is synced together; those stay.
"""

import atexit
import contextlib
import ctypes
import errno
import logging
import os
import threading
import time
from collections.abc import Callable

import llfuse
from vexfs.frontends.fuse import device
from vexfs.frontends.fuse import mountpoint as place
from vexfs.frontends.fuse.adapter import Adapter
from vexfs.frontends.fuse.direct import taker
from vexfs.frontends.fuse.handler import RetireWorker
from vexfs.frontends.fuse.operations import Operations
from vexfs.frontends.fuse.options import MountOptions
from vexfs.frontends.fuse.virtual import VirtualTree

from vexfs._core.fs import Filesystem
from vexfs.errors import Busy, IoFailed

log = logging.getLogger("vexfs.fuse")

_READY_TIMEOUT_S = 10.0
_QUIET_S = 2.0
_slot = threading.Lock()
_holder: "Mount | None" = None


class Mount:
    """A volume mounted on a directory of the host; also a context manager that unmounts.

    Parameters
    ----------
    filesystem
        The open filesystem; it must stay open until the mount has ended.
    mountpoint
        An existing directory.
    options
        What :func:`vexfs.frontends.fuse.options.parse` answers.
    source
        What the host's table of mounts shows: the volume's path.
    tree
        What stands under ``.vexfs``.
    on_end
        Called when the mount has ended.

    Attributes
    ----------
    mountpoint : str
        The absolute path.
    ended : threading.Event
        Set when the last request is answered and the kernel has let go.
    """

    def __init__(
        self,
        filesystem: Filesystem,
        mountpoint: str,
        options: MountOptions,
        source: str,
        tree: VirtualTree,
        on_end: Callable[[], None],
    ) -> None:
        self.mountpoint = mountpoint
        self.ended = threading.Event()
        self._filesystem = filesystem
        self._options = options
        self._source = source
        self._tree = tree
        self._on_end = on_end
        self._ready = threading.Event()
        self._crowded = -1
        self._lock = threading.Lock()
        self._workers: set[threading.Thread] = set()
        self._began = False
        self._stopping = False
        self._connection = 0
        self._failure: BaseException | None = None
        self._devices: list[int] = []
        self._watchers: list[threading.Thread] = []
        self.operations: Operations

    def start(self) -> None:
        """Mount and return when the mount answers.

        Raises
        ------
        Busy
            This process has a mount already, or something is mounted there.
        OSError
            The directory is not fit to be mounted on, or the kernel refuses; the message names the remedy.
        """
        global _holder
        self.mountpoint = place.check(self.mountpoint, nonempty="nonempty" in self._options.kernel)
        place.check_apart(self.mountpoint, self._source)
        place.check_allow_other(self._options.kernel)
        if not _slot.acquire(blocking=False):
            where = _holder.mountpoint if _holder else "elsewhere"
            raise Busy.at(f"this process has a mount already, at {where}; unmount it, or mount from another process",
                          self.mountpoint)  # fmt: skip
        _holder = self
        try:
            self._mount()
        except BaseException:
            _holder = None
            _slot.release()
            raise
        atexit.register(self._at_exit)

    def _mount(self) -> None:
        adapter = Adapter(self._filesystem, self._tree, self._options)
        self._crowded = os.eventfd(0)
        crowd = self._crowded if self._options.workers > 1 else -1
        self.operations = Operations(adapter, self._options, self._greet, crowd)
        words = {w for w in self._options.kernel if w != "rw"}
        words |= {"default_permissions", "big_writes", "no_splice_read"}
        words |= {f"max_write={device.WRITE_MOST}", f"max_read={device.REQUEST_MOST}"}
        words |= {f"fsname={_escaped(self._source)}", "subtype=vexfs"}
        if os.geteuid() == 0:
            # What root mounts is a disk like any other, unless asked otherwise; libfuse would forbid both.
            words |= {w for w in ("dev", "suid") if f"no{w}" not in words}
        before = device.devices()
        try:
            llfuse.init(self.operations, self.mountpoint, words)
        except RuntimeError as error:
            adapter.detach()
            adapter.wait_event()
            os.close(self._crowded)
            message = f"could not be mounted on ({error}); the line before this one says why"
            raise IoFailed.at(message, self.mountpoint) from None
        self._devices = [fd for fd in device.devices() if fd not in before]
        device.take_requests(taker(), id(self.operations))
        self._watchers = [self._spawn("changes", self._forward_changes), self._spawn("crowd", self._watch_crowd)]
        self._add_worker()
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not self._ready.wait(0.05):
            if self.ended.is_set() or time.monotonic() > deadline:
                self.unmount(force=True)
                raise IoFailed.at(f"the kernel did not greet the mount: {self._failure or 'no answer'}",
                                  self.mountpoint)  # fmt: skip
        self._connection = os.minor(os.stat(self.mountpoint).st_dev)
        device.read_ahead(self._connection)

    def _greet(self) -> None:
        if not device.greet(self._devices):
            log.info("this kernel is answered by libfuse: it asks once more before every write")
        self._ready.set()

    def status(self) -> dict[str, object]:
        """What ``.vexfs/status`` tells: the mount, then the filesystem's counters."""
        return {
            "mountpoint": self.mountpoint,
            "source": self._source,
            "workers": self.operations.workers,
            "faults": self.operations.adapter.faults,
            **self._filesystem.status(),
            **self._pools(),
        }

    def _pools(self) -> dict[str, object]:
        pool = self._filesystem.equipment[0]
        if pool is None:
            return {}
        told = pool.stats()
        misses = sum(tier["misses"] for tier in told["tiers"].values())
        return {"pools": {"hit_rate": round(told["hit_rate"], 4), "misses": misses, "oversize": told["oversize"]}}

    def requests(self) -> dict[str, int]:
        """Requests of the kernel so far, by kind."""
        return self.operations.counted()

    # -- workers

    def _spawn(self, name: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name=f"vexfs-fuse-{name}", daemon=True)
        thread.start()
        return thread

    def _add_worker(self) -> None:
        with self._lock:
            if self._began and not self._workers:
                return  # the last one has just ended the mount
            self._began = True
            thread = threading.Thread(target=self._work, name=f"vexfs-fuse-{len(self._workers)}", daemon=True)
            self._workers.add(thread)
            self.operations.workers = len(self._workers)
            thread.start()

    def _work(self) -> None:
        try:
            llfuse.main(workers=1, handle_signals=False)
        except RetireWorker:
            pass
        except BaseException as error:
            self._failure = error
            log.error("the mount's request loop failed: %s", error, exc_info=error)
            self._stopping = True
        with self._lock:
            self._workers.discard(threading.current_thread())
            self.operations.workers = max(1, len(self._workers))
            last = not self._workers
        if last:
            self._finish()

    def _watch_crowd(self) -> None:
        """Start workers while all wait for the disk.

        They stay: to end one loop means to raise the session's exit flag, and libfuse 2 then drops a request that
        another loop has just read, whose caller would wait for ever.
        """
        while os.eventfd_read(self._crowded) and not self._stopping:
            if len(self._workers) < self._options.workers and self.operations.waiting >= len(self._workers):
                self._add_worker()

    # -- changes made by other users of the filesystem

    def _forward_changes(self) -> None:
        adapter = self.operations.adapter
        while (change := adapter.wait_event()) is not None:
            ino, content, name = change
            try:
                if name is not None:
                    llfuse.invalidate_entry(ino, name)
                elif ino:
                    llfuse.invalidate_inode(ino, attr_only=not content)
                else:
                    self._invalidate_all()
            except Exception:
                log.exception("a change could not be told to the kernel; it may show stale data for a while")

    def _invalidate_all(self) -> None:
        """Have the kernel ask again about every name; where it is too old for that, about those it is sure to use."""
        if device.forget_names(self._devices):
            return
        for name, _, _ in self._filesystem.scandir("/"):
            llfuse.invalidate_entry(1, name)

    # -- the end

    def unmount(self, *, lazy: bool = False, force: bool = False, timeout_s: float | None = None) -> None:
        """Unmount and wait until the kernel has let go of it.

        Parameters
        ----------
        lazy
            Detach from the tree at once and let programs that have files open finish.
        force
            Detach and end at once, also for programs that have files open: what they wrote is kept, what they do next
            fails.
        timeout_s
            Wait no longer than this.

        Raises
        ------
        Busy
            Neither `lazy` nor `force` was given and the mount is in use; the message names the processes.
        """
        if self.ended.is_set():
            return
        here = place.find(self.mountpoint)
        ours = here is not None and here.fs_type == place.FS_TYPE
        if force:
            self._force() if ours else self._abort()
            return
        if ours:
            place.unmount(self.mountpoint, lazy=lazy)
        if not self.ended.wait(timeout_s):
            raise Busy.at("was detached, but programs still have files of it open", self.mountpoint)

    def _force(self) -> None:
        root = os.open(self.mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(OSError):
                _sync_mapped(root)
            with contextlib.suppress(OSError):
                place.unmount(self.mountpoint, lazy=True)
            self._stopping = True
            while not self.ended.wait(0.01):
                # Each answer ends one worker; the descriptor reaches the detached tree.
                self.operations.retire = True
                with contextlib.suppress(OSError):
                    os.fstatvfs(root)
        finally:
            os.close(root)

    def _abort(self) -> None:
        """End a mount that somebody else detached while programs have files of it open: only the kernel can."""
        if self.ended.wait(0.5):
            return
        try:
            with open(f"/sys/fs/fuse/connections/{self._connection}/abort", "w") as control:
                control.write("1")
        except OSError as error:
            raise Busy.at(f"was detached, and is still used by programs that cannot be found ({error})",
                          self.mountpoint) from None  # fmt: skip
        self.ended.wait()

    def _finish(self) -> None:
        """Run by the last worker: let go of the session in the order that llfuse needs."""
        global _holder
        self._stopping = True
        os.eventfd_write(self._crowded, 1)
        self.operations.adapter.detach()
        # A notice may wait in the kernel for an answer that nobody gives any more: closing the device ends that.
        for thread in [*self._watchers, *(t for t in threading.enumerate() if "_notify_loop" in t.name)]:
            thread.join(_QUIET_S)
        os.close(self._crowded)
        device.take_requests(0, 0)
        here = place.find(self.mountpoint)
        try:
            llfuse.close(unmount=here is not None and here.fs_type == place.FS_TYPE)
        except BaseException as error:
            log.error("the mount was not closed cleanly: %s", error, exc_info=error)
        _holder = None
        _slot.release()
        atexit.unregister(self._at_exit)
        try:
            self._on_end()
        finally:
            self.ended.set()

    def _at_exit(self) -> None:
        with contextlib.suppress(Exception):
            self.unmount(force=True)

    def __enter__(self) -> "Mount":
        return self

    def __exit__(self, *exc: object) -> None:
        self.unmount(force=True)


def _escaped(source: str) -> str:
    """As libfuse reads it back: llfuse takes nothing but ASCII."""
    plain = set(range(33, 127)) - set(b",\\")
    return "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in os.fsencode(source))


def _sync_mapped(root: int) -> None:
    """Write out pages that programs changed through mappings; everything else is at the daemon already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(root):
        raise OSError(ctypes.get_errno() or errno.EIO, "syncfs failed")
