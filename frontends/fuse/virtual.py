"""The names under ``.vexfs``: files, links and directories that no volume stores.

Some files can be written: an `Editable` hands each new text on.  Beside it programs may keep files of their own for a
moment, in memory alone, as editors do that write a new file and rename it.

A node is registered under a name, for the root's ``.vexfs`` alone or for that of every directory; its factory is given
the inode number of the directory whose ``.vexfs`` it stands in.  ``.vexfs`` can be looked up but never shows in a
listing, so that nothing that walks a tree walks into it.

Inode numbers come from a range of their own.  A directory keeps its number as long as the kernel remembers it.  A text
file is made anew at every lookup, and gets a fresh number when its text is another one: size and bytes of one open file
belong together, and the kernel's page cache of an earlier text is never shown for a later one.
"""

import errno
import stat
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

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
    """A read-only file whose text is made when it is looked up.

    Attributes
    ----------
    keep_s : float
        So long a text that nobody has read is the one that is found: a program that looks, opens and looks again (`cp`)
        meets one file.
    """

    render: Callable[[], bytes]
    mode: int = stat.S_IFREG | 0o444
    keep_s: float = 0.0


@attrs.frozen
class Editable:
    """A file that can be written.

    Attributes
    ----------
    put : callable
        Called with the whole text after each write, and whether more may come; False: it waits for more.  What it
        raises answers the request.
    remove : callable
        Called when the file is removed.
    """

    render: Callable[[], bytes]
    put: Callable[[bytes, bool], bool]
    remove: Callable[[], None]
    mode: int = stat.S_IFREG | 0o444


class Scratch:
    """A file that a program keeps beside an editable one, in memory."""

    mode = stat.S_IFREG | 0o444

    def __init__(self, text: bytes = b"") -> None:
        self.text = text

    def render(self) -> bytes:
        """What was written."""
        return self.text

    def put(self, text: bytes, more: bool) -> bool:
        """Written to."""
        self.text = text
        return True


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


#: None: there is no such node now.
Factory = Callable[[int], Node | None]
#: Bytes of a text that is written, and files that programs may keep.
TEXT_MOST, SCRATCH_MOST = 64 << 10, 64
#: So long an editable file is gone for the program that removed it: it may be about to make it anew.
HIDDEN_S = 5.0


@attrs.define
class _Live:
    """A node that the kernel knows by an inode number."""

    ino: int
    node: Node
    parent: int
    name: bytes
    text: bytes = b""
    lookups: int = 0
    written: bool = False  # and not handed on yet
    read: bool = False
    time_ns: int = attrs.field(factory=time.time_ns)


@attrs.frozen
class Attributes:
    """What a ``stat`` of a virtual node answers."""

    ino: int
    mode: int
    size: int
    nlink: int
    time_ns: int
    uid: int = 0
    gid: int = 0


class VirtualTree:
    """Every virtual node of one mount.  Thread-safe.

    Attributes
    ----------
    stat_of : callable or None
        Answers the ``stat`` of a directory of the volume: who may write to it may write to what is editable in its
        ``.vexfs``.
    """

    def __init__(self) -> None:
        self.stat_of: Callable[[int], Any] | None = None
        self._scratch: dict[tuple[int, bytes], Scratch] = {}
        #: Directory (virtual) and name of what a program removed: which one, and until when it does not see it.
        self._hidden: dict[tuple[int, bytes], tuple[int, float]] = {}
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
        live = self._known(ino)
        live.read = True
        return live.text[offset : offset + size]

    # -- writing

    def create(self, parent: int, name: bytes) -> Attributes:
        """A file of a program's own beside an editable one, or the editable one itself; counts one lookup."""
        with self._lock:
            home = self._entrance_at(parent)
            if home.child(name) is None:
                if len(self._scratch) >= SCRATCH_MOST:
                    raise OSError(errno.ENOSPC, f"{SCRATCH_MOST} files are kept here at most")
                self._scratch[home.of, name] = Scratch()
            if self._hidden.pop((parent, name), None) is None:
                return self.lookup(parent, name)
            self._numbers.pop((parent, name), None)
            shown = self.lookup(parent, name)
            self._live[shown.ino].text = b""  # that of what was removed is not the beginning of the new one
            return self.attributes(shown.ino)

    def hide(self, parent: int, name: bytes, process: int) -> None:
        """A process removed an editable file: for a moment it is not there for it, but for everybody else."""
        now = time.monotonic()
        with self._lock:
            self._hidden = {place: each for place, each in self._hidden.items() if each[1] > now}
            self._hidden[parent, name] = process, now + HIDDEN_S

    def hides(self, parent: int, name: bytes, process: int) -> bool:
        """Whether a name is not there for a process, which removed it a moment ago."""
        by, until = self._hidden.get((parent, name), (None, 0.0))
        return by == process and time.monotonic() < until

    def writable(self, ino: int) -> bool:
        """Whether a node can be written."""
        return isinstance(self._known(ino).node, Editable | Scratch)

    def write(self, ino: int, offset: int, data: bytes) -> int:
        """Change the text of a node, and hand it on."""
        live = self._writable(ino)
        if offset + len(data) > TEXT_MOST:
            raise OSError(errno.EFBIG, f"{TEXT_MOST} bytes at most")
        text = live.text[:offset].ljust(offset, b"\0") + data + live.text[offset + len(data) :]
        live.text, live.written = text, True
        self._hand_on(live, more=True)
        return len(data)

    def truncate(self, ino: int, size: int) -> Attributes:
        """Change the length of a text, which is handed on with the next write or at the end."""
        live = self._writable(ino)
        if size > TEXT_MOST:
            raise OSError(errno.EFBIG, f"{TEXT_MOST} bytes at most")
        live.text, live.written = live.text[:size].ljust(size, b"\0"), True
        return self._attributes(live)

    def finish(self, ino: int) -> None:
        """No more is written for now."""
        live = self._live.get(ino)
        if live is not None and live.written:
            self._hand_on(live, more=False)

    def _writable(self, ino: int) -> _Live:
        live = self._known(ino)
        if not isinstance(live.node, Editable | Scratch):
            raise OSError(errno.EPERM, "cannot be written")
        return live

    def _hand_on(self, live: _Live, more: bool) -> None:
        assert isinstance(live.node, Editable | Scratch)
        live.written = False
        live.written = not live.node.put(live.text, more)

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove an editable file, which may mean something, or a program's own."""
        with self._lock:
            home = self._entrance_at(parent)
            node = home.child(name)
            if isinstance(node, Scratch):
                del self._scratch[home.of, name]
                return
        if not isinstance(node, Editable):
            raise OSError(errno.ENOENT if node is None else errno.EPERM, "cannot be removed")
        node.remove()

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        """A program's own file takes the place of an editable one; the text of that can be kept aside before."""
        home = self._entrance_at(parent)
        if parent != new_parent:
            raise OSError(errno.EXDEV, "belongs to one directory")
        node, over = home.child(name), home.child(new_name)
        if node is None:
            raise OSError(errno.ENOENT, "no such virtual file")
        if isinstance(node, Scratch) and isinstance(over, Editable):
            over.put(node.text, False)
            del self._scratch[home.of, name]
            self._hidden.pop((parent, new_name), None)
        elif isinstance(node, Editable | Scratch) and (over is None or isinstance(over, Scratch)):
            self._scratch[home.of, new_name] = Scratch(node.render())
            self._scratch.pop((home.of, name), None)
            self._hidden.pop((parent, new_name), None)
        else:
            raise OSError(errno.EPERM, "cannot be renamed")

    def replace(self, parent: int, name: bytes, text: bytes) -> None:
        """A new text takes the place of an editable file's."""
        node = self._entrance_at(parent).child(name)
        if not isinstance(node, Editable):
            raise OSError(errno.EPERM, "nothing of a volume can be moved here")
        if len(text) > TEXT_MOST:
            raise OSError(errno.EFBIG, f"{TEXT_MOST} bytes at most")
        node.put(text, False)
        self._hidden.pop((parent, name), None)

    def _entrance_at(self, ino: int) -> "_Entrance":
        node = self._known(ino).node
        if not isinstance(node, _Entrance):
            raise OSError(errno.EPERM, "nothing can be made here")
        return node

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
                if self._numbers.get((live.parent, live.name)) == ino:
                    del self._numbers[live.parent, live.name]

    def _entrance(self, parent: int) -> Directory | None:
        factories = {**self._factories, **(self._root_factories if parent == 1 else {})}
        return _Entrance(parent, factories, self._scratch) if factories else None

    def _enter(self, parent: int, name: bytes, node: Node) -> _Live:
        known = self._live.get(self._numbers.get((parent, name), 0))
        kept_ns = node.keep_s * 1e9 if isinstance(node, Text) else 0
        if kept_ns and known is not None and not known.read and 0 <= time.time_ns() - known.time_ns < kept_ns:
            return known
        text = node.render() if isinstance(node, Text | Editable | Scratch) else b""
        if known is not None and type(known.node) is type(node) and known.text == text:
            return known
        live = _Live(self._next, node, parent, name, text)
        self._next += 1
        if not isinstance(node, Link):
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

    def _attributes(self, live: _Live) -> Attributes:
        size = len(live.node.target) if isinstance(live.node, Link) else len(live.text)
        links = 2 if isinstance(live.node, Directory) else 1
        shown = Attributes(live.ino, live.node.mode, size, links, live.time_ns)
        if self.stat_of is None or not isinstance(live.node, _Entrance | Editable | Scratch):
            return shown
        of = live.node.of if isinstance(live.node, _Entrance) else self._entrance_at(live.parent).of
        about = self.stat_of(of)
        return attrs.evolve(shown, mode=shown.mode | (about.st_mode & 0o222), uid=about.st_uid, gid=about.st_gid)


class _Entrance(Directory):
    """The ``.vexfs`` of one directory: what is registered, made for that directory when asked for."""

    def __init__(self, of: int, factories: dict[bytes, Factory], scratch: dict[tuple[int, bytes], Scratch]) -> None:
        super().__init__()
        self.of = of
        self._factories, self._scratch = factories, scratch

    def child(self, name: bytes) -> Node | None:
        factory = self._factories.get(name)
        return factory(self.of) if factory else self._scratch.get((self.of, name))

    def entries(self) -> Iterable[tuple[bytes, Node]]:
        made = [(name, factory(self.of)) for name, factory in self._factories.items()]
        kept = [(name, node) for (of, name), node in list(self._scratch.items()) if of == self.of]
        return [*((name, node) for name, node in made if node is not None), *kept]
