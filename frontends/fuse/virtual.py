"""The names under ``.vexfs``: files, links and directories that no volume stores.

A node is registered under a name, for the root's ``.vexfs`` alone or for that of every directory; its factory is given
the inode number of the directory whose ``.vexfs`` it stands in.  ``.vexfs`` can be looked up but never shows in a
listing, so that nothing that walks a tree walks into it.

Inode numbers come from a range of their own.  A directory keeps its number as long as the kernel remembers it.  A text
file gets a fresh number, with a fresh text behind it, at every lookup: size and bytes of one open file belong
together, and the kernel's page cache of an earlier text is never shown for a later one.
"""

import errno
import stat
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import attrs

#: The name that leads into the virtual tree, reserved in every directory.
NAME = b".vexfs"
#: Inode numbers from here on are virtual.
FIRST_INO = 1 << 62


class Node(Protocol):
    """Anything under ``.vexfs``."""

    @property
    def mode(self) -> int:
        """As ``st_mode``."""


@attrs.frozen
class Text:
    """A read-only file whose text is made when it is looked up."""

    render: Callable[[], bytes]
    mode: int = stat.S_IFREG | 0o444


@attrs.frozen
class Link:
    """A symbolic link."""

    target: bytes
    mode: int = stat.S_IFLNK | 0o777


class Directory:
    """A directory of named nodes; subclasses may make their entries up as they are asked for."""

    mode = stat.S_IFDIR | 0o555

    def __init__(self, entries: dict[bytes, Node] | None = None) -> None:
        self._entries: dict[bytes, Node] = entries or {}

    def child(self, name: bytes) -> Node | None:
        """The node called `name`, or None."""
        return self._entries.get(name)

    def begin(self) -> None:
        """A listing begins; what `entries` answers stays the same until it has ended."""

    def entries(self) -> Iterable[tuple[bytes, Node]]:
        """Names and nodes in the order in which they are listed."""
        return self._entries.items()


Factory = Callable[[int], Node]


@attrs.define
class _Live:
    """A node that the kernel knows by an inode number."""

    ino: int
    node: Node
    parent: int
    name: bytes
    text: bytes = b""
    lookups: int = 0
    time_ns: int = attrs.field(factory=time.time_ns)


@attrs.frozen
class Attributes:
    """What a ``stat`` of a virtual node answers."""

    ino: int
    mode: int
    size: int
    nlink: int
    time_ns: int


class VirtualTree:
    """Every virtual node of one mount.  Thread-safe."""

    def __init__(self) -> None:
        self._root_factories: dict[bytes, Factory] = {}
        self._factories: dict[bytes, Factory] = {}
        self._live: dict[int, _Live] = {}
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._next = FIRST_INO
        self._lock = threading.RLock()

    def register(self, name: bytes, factory: Factory, *, everywhere: bool = False) -> None:
        """Put a node at ``.vexfs/NAME`` of the root, or of every directory."""
        (self._factories if everywhere else self._root_factories)[name] = factory

    def has(self, name: bytes) -> bool:
        """Whether something is registered at ``.vexfs/NAME`` of the root."""
        return name in self._root_factories or name in self._factories

    def lookup(self, parent: int, name: bytes) -> Attributes:
        """Find `name` in a virtual directory, or the ``.vexfs`` of directory `parent`; counts one lookup.

        Raises
        ------
        OSError
            ENOENT: no such name.  ENOTDIR: `parent` is virtual and no directory.
        """
        with self._lock:
            node = self._entrance(parent) if parent < FIRST_INO else self._directory(parent).child(name)
            if node is None:
                raise OSError(errno.ENOENT, "no such virtual file")
            live = self._enter(parent, name, node)
            live.lookups += 1
            return self._attributes(live)

    def attributes(self, ino: int) -> Attributes:
        """The attributes of a node that was looked up; ESTALE when it was forgotten since."""
        with self._lock:
            return self._attributes(self._known(ino))

    def list(self, ino: int, cookie: int = 0) -> list[tuple[bytes, int, int]]:
        """Entries of a directory from the place `cookie` on: name, inode number, mode; dot entries first."""
        with self._lock:
            live = self._known(ino)
            if not cookie:
                self._directory(ino).begin()
            rows = [(b".", ino, stat.S_IFDIR), (b"..", live.parent, stat.S_IFDIR)]
            for name, node in self._directory(ino).entries():
                rows.append((name, self._numbers.get((ino, name), FIRST_INO), node.mode))
            return rows[cookie:]

    def read(self, ino: int, offset: int, size: int) -> bytes:
        """Bytes of a text file, as it was when it was looked up."""
        return self._known(ino).text[offset : offset + size]

    def readlink(self, ino: int) -> bytes:
        """The target of a link; EINVAL for anything else."""
        node = self._known(ino).node
        if not isinstance(node, Link):
            raise OSError(errno.EINVAL, "not a symbolic link")
        return node.target

    def forget(self, ino: int, count: int) -> None:
        """Take back `count` lookups; a node without any is dropped."""
        with self._lock:
            live = self._live.get(ino)
            if live is None:
                return
            live.lookups -= count
            if live.lookups <= 0:
                del self._live[ino]
                self._numbers.pop((live.parent, live.name), None)

    def _entrance(self, parent: int) -> Directory | None:
        factories = {**self._factories, **(self._root_factories if parent == 1 else {})}
        return _Entrance(parent, factories) if factories else None

    def _enter(self, parent: int, name: bytes, node: Node) -> _Live:
        known = self._numbers.get((parent, name))
        if known is not None:
            return self._live[known]
        live = _Live(self._next, node, parent, name)
        self._next += 1
        if isinstance(node, Text):
            live.text = node.render()
        elif isinstance(node, Directory):
            self._numbers[parent, name] = live.ino
        self._live[live.ino] = live
        return live

    def _known(self, ino: int) -> _Live:
        try:
            return self._live[ino]
        except KeyError:
            raise OSError(errno.ESTALE, "virtual file was forgotten") from None

    def _directory(self, ino: int) -> Directory:
        node = self._known(ino).node
        if not isinstance(node, Directory):
            raise OSError(errno.ENOTDIR, "not a directory")
        return node

    @staticmethod
    def _attributes(live: _Live) -> Attributes:
        size = len(live.node.target) if isinstance(live.node, Link) else len(live.text)
        links = 2 if isinstance(live.node, Directory) else 1
        return Attributes(live.ino, live.node.mode, size, links, live.time_ns)


class _Entrance(Directory):
    """The ``.vexfs`` of one directory: what is registered, made for that directory when asked for."""

    def __init__(self, of: int, factories: dict[bytes, Factory]) -> None:
        super().__init__()
        self._of = of
        self._factories = factories

    def child(self, name: bytes) -> Node | None:
        factory = self._factories.get(name)
        return factory(self._of) if factory else None

    def entries(self) -> Iterable[tuple[bytes, Node]]:
        return ((name, factory(self._of)) for name, factory in self._factories.items())
