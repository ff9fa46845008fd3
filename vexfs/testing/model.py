"""A filesystem in plain Python: what a VexFS is, written so that one can see that it is right.

``ModelFilesystem`` has the face of the compiled ``vexfs._core.fs.Filesystem`` and none of its machinery: no disk, no
cache, no transaction, one lock.  Property tests run the same steps on both and compare every answer and every errno.
The errnos are those that Linux gives to a process with all rights, in the order in which Linux checks.
"""

# ruff: noqa: D102 - vexfs/_core/fs.pyi says what each operation does

import errno
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from vexfs.errors import from_errno
from vexfs.testing.nodes import SIZE_MAX, SYMLINK_MAX, XATTR_MAX, Node, NodeStat, NodeTable
from vexfs.testing.paths import EXCHANGE, NAME_MAX, NOREPLACE, PathArg, Walk, Walker

NAMESPACES = (b"user.", b"trusted.", b"security.", b"system.")

P = ParamSpec("P")
R = TypeVar("R")


def locked(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """One operation at a time: the model is about answers, not about speed."""

    @wraps(method)
    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            if self._closed:
                raise from_errno(errno.ESHUTDOWN, "model")
            return method(self, *args, **kwargs)

    return cast("Callable[Concatenate[Any, P], R]", run)


class ModelFilesystem(Walker):
    """The oracle; see the module.  Times come from `clock` (nanoseconds since the epoch)."""

    def __init__(
        self, path: str = "model", *, read_only: bool = False, size_limit: int = 0, umask: int = 0,
        clock: Callable[[], int] = time.time_ns, **_options: Any,
    ) -> None:
        self.path, self.read_only, self.size_limit, self.umask = path, read_only, size_limit, umask
        self.uid, self.gid = os.geteuid(), os.getegid()
        self._clock, self._lock, self._closed = clock, threading.RLock(), False
        self._table = NodeTable(clock, self.uid, self.gid)

    def close(self) -> None:
        with self._lock:
            self._closed = True

    # -- by path

    @locked
    def stat(self, path: PathArg, follow_symlinks: bool = True) -> NodeStat:
        return NodeStat(self._walk(path, follow_symlinks))

    @locked
    def resolve(self, path: PathArg, follow_symlinks: bool = True) -> int:
        return self._walk(path, follow_symlinks).ino

    @locked
    def mkdir(self, path: PathArg, mode: int = 0o777) -> None:
        walk = self._vacant(path, directory=True)
        self._table.make(walk.parent, walk.name, stat.S_IFDIR | mode & 0o1777 & ~self.umask, self.uid, self.gid)

    @locked
    def mknod(self, path: PathArg, mode: int = 0o600, device: int = 0) -> None:
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        if kind == stat.S_IFDIR:
            raise from_errno(errno.EPERM, path)
        if kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
            raise from_errno(errno.EINVAL, path)
        walk = self._vacant(path)
        rdev = device if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        self._table.make(walk.parent, walk.name, kind | mode & 0o7777 & ~self.umask, self.uid, self.gid, rdev)

    @locked
    def symlink(self, target: PathArg, path: PathArg) -> None:
        raw = self._components(target)
        if len(raw) > SYMLINK_MAX:
            raise from_errno(errno.ENAMETOOLONG, target, path)
        walk = self._vacant(path)
        self._table.make(walk.parent, walk.name, stat.S_IFLNK | 0o777, self.uid, self.gid).target = raw

    @locked
    def readlink(self, path: PathArg) -> bytes:
        node = self._walk(path, follow=False)
        if not node.is_link:
            raise from_errno(errno.EINVAL, path)
        return node.target

    @locked
    def link(self, source: PathArg, path: PathArg, follow_symlinks: bool = False) -> None:
        node = self._walk(source, follow_symlinks)
        self._link(node, path)

    @locked
    def link_ino(self, ino: int, path: PathArg) -> None:
        self._link(self._table.by_ino(ino), path)

    def _link(self, node: Node, path: PathArg) -> None:
        walk = self._vacant(path)
        if node.is_dir:
            raise from_errno(errno.EPERM, path)
        if not node.nlink and not node.linkable:
            raise from_errno(errno.ENOENT, path)
        node.nlink += 1
        node.linkable = False
        now = self._clock()
        walk.parent.entries[walk.name] = node
        walk.parent.changed(now, content=True)
        node.changed(now)

    def _drop(self, parent: Node, name: bytes) -> None:
        node = parent.entries.pop(name)
        now = self._clock()
        parent.changed(now, content=True)
        if node.is_dir:
            parent.nlink -= 1
            node.nlink = 0
        else:
            node.nlink -= 1
        node.changed(now)
        self._table.reap(node)

    @locked
    def unlink(self, path: PathArg) -> None:
        walk = self._last(path, depth=[0])
        if walk.special:
            raise from_errno(errno.EISDIR, path)
        if walk.node is None:
            raise from_errno(errno.ENOENT, path)
        if walk.slash:
            raise from_errno(errno.EISDIR if walk.node.is_dir else errno.ENOTDIR, path)
        if walk.node.is_dir:
            raise from_errno(errno.EISDIR, path)
        self._writable(path)
        self._drop(walk.parent, walk.name)

    @locked
    def rmdir(self, path: PathArg) -> None:
        walk = self._last(path, depth=[0])
        if walk.special:
            code = {b"": errno.EBUSY, b".": errno.EINVAL, b"..": errno.ENOTEMPTY}[walk.name]
            raise from_errno(code, path)
        node = walk.node
        if node is None:
            raise from_errno(errno.ENOENT, path)
        if not node.is_dir:
            raise from_errno(errno.ENOTDIR, path)
        if node.entries:
            raise from_errno(errno.ENOTEMPTY, path)
        self._writable(path)
        self._drop(walk.parent, walk.name)

    @locked
    def rename(self, source: PathArg, target: PathArg, flags: int = 0) -> None:
        if flags & ~(NOREPLACE | EXCHANGE) or flags == NOREPLACE | EXCHANGE:
            raise from_errno(errno.EINVAL, source, target)
        old, new = self._last(source, depth=[0]), self._last(target, depth=[0])
        if old.special:
            raise from_errno(errno.EBUSY, source, target)
        if new.special:
            raise from_errno(errno.EEXIST if flags & NOREPLACE else errno.EBUSY, source, target)
        moved = old.node
        if moved is None:
            raise from_errno(errno.ENOENT, source, target)
        hit = new.node
        code = self._rename_fault(old, new, moved, hit, flags)
        if code:
            raise from_errno(code, source, target)
        self._writable(source)
        if moved is hit:
            return
        if flags & EXCHANGE and hit is not None:
            self._place(new, moved, old.parent)
            self._place(old, hit, new.parent)
        else:
            if hit is not None:
                self._drop(new.parent, new.name)
            del old.parent.entries[old.name]
            self._place(new, moved, old.parent)
        now = self._clock()
        for node in {old.parent, new.parent}:
            node.changed(now, content=True)
        moved.changed(now)
        if flags & EXCHANGE and hit is not None:
            hit.changed(now)

    def _place(self, walk: Walk, node: Node, previous: Node) -> None:
        walk.parent.entries[walk.name] = node
        if node.is_dir:
            node.parent = walk.parent
            previous.nlink -= 1
            walk.parent.nlink += 1

    # -- attributes

    @locked
    def chmod(self, path: PathArg, mode: int, follow_symlinks: bool = True) -> None:
        node = self._walk(path, follow_symlinks)
        self._writable(path)
        if node.is_link:
            raise from_errno(errno.EOPNOTSUPP, path)
        node.mode = stat.S_IFMT(node.mode) | mode & 0o7777
        node.changed(self._clock())

    @locked
    def chown(self, path: PathArg, uid: int, gid: int, follow_symlinks: bool = True) -> None:
        node = self._walk(path, follow_symlinks)
        self._writable(path)
        node.uid, node.gid = node.uid if uid == -1 else uid, node.gid if gid == -1 else gid
        if not node.is_dir:
            node.mode &= ~stat.S_ISUID
            if node.mode & stat.S_IXGRP:
                node.mode &= ~stat.S_ISGID
        node.changed(self._clock())

    @locked
    def utimens(
        self, path: PathArg, atime_ns: int | None, mtime_ns: int | None, follow_symlinks: bool = True
    ) -> None:
        node = self._walk(path, follow_symlinks)
        if atime_ns is None and mtime_ns is None:
            return
        self._writable(path)
        node.atime = node.atime if atime_ns is None else atime_ns
        node.mtime = node.mtime if mtime_ns is None else mtime_ns
        node.changed(self._clock())

    def _xattr_name(self, path: PathArg, name: str | bytes) -> bytes:
        raw = os.fsencode(name)
        if not raw or len(raw) > NAME_MAX:
            raise from_errno(errno.ERANGE, path)
        return raw

    def _xattr_node(self, path: PathArg, raw: bytes, follow: bool, *, change: bool) -> Node:
        node = self._walk(path, follow)
        if change:
            self._writable(path)
        if raw.startswith(b"user.") and not (node.is_file or node.is_dir):
            raise from_errno(errno.EPERM if change else errno.ENODATA, path)
        if not raw.startswith(NAMESPACES):
            raise from_errno(errno.EOPNOTSUPP, path)
        if raw in NAMESPACES:
            raise from_errno(errno.EINVAL, path)
        return node

    @locked
    def getxattr(self, path: PathArg, name: str | bytes, follow_symlinks: bool = True) -> bytes:
        raw = self._xattr_name(path, name)
        node = self._xattr_node(path, raw, follow_symlinks, change=False)
        if raw not in node.xattrs:
            raise from_errno(errno.ENODATA, path)
        return node.xattrs[raw]

    @locked
    def setxattr(
        self, path: PathArg, name: str | bytes, value: Any, flags: int = 0, follow_symlinks: bool = True
    ) -> None:
        if flags & ~(os.XATTR_CREATE | os.XATTR_REPLACE):
            raise from_errno(errno.EINVAL, path)
        raw, data = self._xattr_name(path, name), bytes(value)
        if len(data) > XATTR_MAX:
            raise from_errno(errno.E2BIG, path)
        node = self._xattr_node(path, raw, follow_symlinks, change=True)
        if flags & os.XATTR_CREATE and raw in node.xattrs:
            raise from_errno(errno.EEXIST, path)
        if flags & os.XATTR_REPLACE and raw not in node.xattrs:
            raise from_errno(errno.ENODATA, path)
        node.xattrs[raw] = data
        node.changed(self._clock())

    @locked
    def listxattr(self, path: PathArg, follow_symlinks: bool = True) -> list[bytes]:
        return sorted(self._walk(path, follow_symlinks).xattrs)

    @locked
    def removexattr(self, path: PathArg, name: str | bytes, follow_symlinks: bool = True) -> None:
        raw = self._xattr_name(path, name)
        node = self._xattr_node(path, raw, follow_symlinks, change=True)
        if raw not in node.xattrs:
            raise from_errno(errno.ENODATA, path)
        del node.xattrs[raw]
        node.changed(self._clock())

    @locked
    def scandir(self, path: PathArg) -> Iterator[tuple[bytes, int, int]]:
        node = self._walk(path)
        if not node.is_dir:
            raise from_errno(errno.ENOTDIR, path)
        return iter([(name, child.ino, stat.S_IFMT(child.mode)) for name, child in node.entries.items()])

    # -- content

    @locked
    def open(self, path: PathArg, flags: int, mode: int = 0o666) -> int:
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            return self._open_nameless(path, flags, mode)
        if writing or flags & (os.O_CREAT | os.O_TRUNC):
            self._writable(path)
        node = self._create(path, flags, mode) if flags & os.O_CREAT else self._opened(path, flags)
        if node.is_link:
            raise from_errno(errno.ELOOP, path)
        if node.is_dir and (writing or flags & os.O_CREAT):
            raise from_errno(errno.EISDIR, path)
        if flags & os.O_DIRECTORY and not node.is_dir:
            raise from_errno(errno.ENOTDIR, path)
        if flags & os.O_TRUNC and node.is_file:
            self._resize(node, 0)
        node.opens += 1
        return node.ino

    def _open_nameless(self, path: PathArg, flags: int, mode: int) -> int:
        if flags & os.O_CREAT or flags & os.O_ACCMODE == os.O_RDONLY:
            raise from_errno(errno.EINVAL, path)
        parent = self._opened(path, flags)
        if not parent.is_dir:
            raise from_errno(errno.ELOOP if parent.is_link else errno.ENOTDIR, path)
        self._writable(path)
        node = self._table.new(parent, stat.S_IFREG | mode & 0o7777 & ~self.umask, self.uid, self.gid)
        node.nlink, node.opens, node.linkable = 0, 1, not flags & os.O_EXCL
        return node.ino

    def _opened(self, path: PathArg, flags: int) -> Node:
        return self._walk(path, follow=not flags & os.O_NOFOLLOW)

    def _create(self, path: PathArg, flags: int, mode: int) -> Node:
        depth = [0]
        walk = self._last(path, depth=depth)
        for _ in itertools.count():
            if walk.slash:
                raise from_errno(errno.EISDIR, path)
            node = walk.node
            if node is None:
                self._alive(walk.parent, path)
                bits = stat.S_IFREG | mode & 0o7777 & ~self.umask
                return self._table.make(walk.parent, walk.name, bits, self.uid, self.gid)
            if flags & os.O_EXCL:
                raise from_errno(errno.EEXIST, path)
            if not node.is_link or flags & os.O_NOFOLLOW:
                return node
            walk = self._enter(path, walk.parent, node, depth)
        raise AssertionError("unreachable")

    def _resize(self, node: Node, size: int) -> None:
        if size < 0 or size >= SIZE_MAX:
            raise from_errno(errno.EINVAL if size < 0 else errno.EFBIG)
        node.content.truncate(size)
        node.changed(self._clock(), content=True)

    @locked
    def truncate(self, path: PathArg, size: int) -> None:
        if size < 0:
            raise from_errno(errno.EINVAL, path)
        node = self._walk(path)
        self._writable(path)
        if not node.is_file:
            raise from_errno(errno.EISDIR if node.is_dir else errno.EINVAL, path)
        self._resize(node, size)

    @locked
    def read_file(self, path: PathArg) -> bytes:
        node = self._walk(path)
        self._has_content(node, path)
        return node.content.read(node.size, 0)

    def _has_content(self, node: Node, path: PathArg | None = None) -> None:
        """Bytes are read from and written to regular files; what goes through a FIFO is the kernel's matter."""
        if not node.is_file:
            raise from_errno(errno.EISDIR if node.is_dir else errno.EINVAL, path)

    @locked
    def write_file(self, path: PathArg, data: Any, mode: int = 0o666) -> int:
        ino = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            return self.write(ino, data, 0)
        finally:
            self.release(ino)

    @locked
    def getattr(self, ino: int) -> NodeStat:
        return NodeStat(self._table.by_ino(ino))

    @locked
    def lookup(self, parent: int, name: bytes) -> NodeStat:
        node = self._table.by_ino(parent)
        if not node.is_dir:
            raise from_errno(errno.ENOTDIR, name)
        found = Walk(node, name, False, name).node
        if found is None:
            raise from_errno(errno.ENOENT, name)
        return NodeStat(found)

    @locked
    def path_of(self, ino: int) -> bytes:
        node = self._table.by_ino(ino)
        for path, found in self._table.named():
            if found is node:
                return path
        raise from_errno(errno.ENOENT, f"inode {ino}")

    @locked
    def read(self, ino: int, size: int, offset: int) -> bytes:
        node = self._table.by_ino(ino)
        self._has_content(node)
        if size < 0 or offset < 0:
            raise from_errno(errno.EINVAL)
        return node.content.read(size, offset)

    @locked
    def data(self, ino: int, offset: int) -> tuple[int, int] | None:
        node = self._table.by_ino(ino)
        self._has_content(node)
        return (offset, node.size) if offset < node.size else None

    @locked
    def readinto(self, ino: int, buffer: Any, offset: int) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(ino, len(view), offset)
        view[: len(data)] = data
        return len(data)

    @locked
    def write(self, ino: int, data: Any, offset: int) -> int:
        node, raw = self._table.by_ino(ino), bytes(data)
        self._writable()
        self._has_content(node)
        if offset < -1:
            raise from_errno(errno.EINVAL)
        start = node.size if offset == -1 else offset
        if start + len(raw) >= SIZE_MAX:
            raise from_errno(errno.EFBIG)
        if raw:
            node.content.write(raw, start)
            node.changed(self._clock(), content=True)
        return len(raw)

    @locked
    def truncate_ino(self, ino: int, size: int) -> None:
        node = self._table.by_ino(ino)
        self._writable()
        if not node.is_file:
            raise from_errno(errno.EISDIR if node.is_dir else errno.EINVAL)
        self._resize(node, size)

    @locked
    def fallocate(self, ino: int, mode: int, offset: int, length: int) -> None:
        node = self._table.by_ino(ino)
        self._writable()
        if not node.is_file:
            raise from_errno(errno.EISDIR if node.is_dir else errno.ENODEV)
        if node.content.allocate(mode, offset, length):
            node.changed(self._clock(), content=True)

    @locked
    def release(self, ino: int) -> None:
        node = self._table.by_ino(ino)
        node.opens -= 1
        self._table.reap(node)

    # -- the volume: nothing to sync, forget or move

    @locked
    def fsync(self, ino: int = 0, datasync: bool = False) -> None:
        if ino:
            self._table.by_ino(ino)

    @locked
    def sync(self) -> None: ...

    @locked
    def drop_caches(self) -> None: ...

    @locked
    def statvfs(self) -> tuple[int, int, int, int, int]:
        used = sum(len(node.content.pages) for node in self._table.nodes.values())
        total = (self.size_limit or 1 << 50) // 4096
        return total, max(0, total - used), max(0, total - used), len(self._table.nodes), 1 << 48
