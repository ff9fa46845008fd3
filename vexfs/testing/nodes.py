"""The matter of the model filesystem: sparse content and inodes, as plain as they can be.

Content is a map of 4 KiB pages, so that a model file of many terabytes costs what was written to it.
"""

import errno
import itertools
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from vexfs.errors import from_errno

PAGE = 4096
SIZE_MAX = 1 << 63
#: Of fallocate(2).
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
SYMLINK_MAX = 4095
XATTR_MAX = 65536


class SparseBytes:
    """Bytes with holes: what was never written reads as zeros and takes no room."""

    def __init__(self) -> None:
        self.size = 0
        self.pages: dict[int, bytearray] = {}

    def read(self, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`; fewer only at the end."""
        end = min(self.size, offset + size)
        if offset >= end:
            return b""
        out = bytearray(end - offset)
        for number in range(offset // PAGE, (end - 1) // PAGE + 1):
            page = self.pages.get(number)
            if page is None:
                continue
            start, stop = max(offset, number * PAGE), min(end, (number + 1) * PAGE)
            out[start - offset : stop - offset] = page[start - number * PAGE : stop - number * PAGE]
        return bytes(out)

    def write(self, data: bytes, offset: int) -> None:
        """Put `data` at `offset`, growing the file when it reaches past the end."""
        done = 0
        while done < len(data):
            number, skip = divmod(offset + done, PAGE)
            piece = data[done : done + PAGE - skip]
            self.pages.setdefault(number, bytearray(PAGE))[skip : skip + len(piece)] = piece
            done += len(piece)
        if data:
            self.size = max(self.size, offset + len(data))

    def allocate(self, mode: int, offset: int, length: int) -> bool:
        """As fallocate(2), where there is room for anything; whether it changed something."""
        if mode not in (0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE):
            raise from_errno(errno.EOPNOTSUPP)
        if not length:
            raise from_errno(errno.EINVAL)
        if offset + length >= SIZE_MAX:
            raise from_errno(errno.EFBIG)
        clears, end = mode & ~KEEP_SIZE and offset < self.size, offset + length
        for number in [n for n in self.pages if clears and offset // PAGE <= n <= end // PAGE]:
            start, stop = max(offset, number * PAGE), min(end, (number + 1) * PAGE)
            self.pages[number][start - number * PAGE : stop - number * PAGE] = bytes(max(0, stop - start))
        grows = not mode & KEEP_SIZE and end > self.size
        if grows:
            self.size = end
        return bool(clears or grows)

    def truncate(self, size: int) -> None:
        """Cut or extend; what is cut reads as zeros when the file grows again."""
        if size < self.size:
            last, skip = divmod(size, PAGE)
            for number in [n for n in self.pages if n > last or (n == last and skip == 0)]:
                del self.pages[number]
            if last in self.pages:
                self.pages[last][skip:] = bytes(PAGE - skip)
        self.size = size


@dataclass(eq=False)
class Node:
    """One inode."""

    ino: int
    mode: int
    uid: int
    gid: int
    now: int
    rdev: int = 0
    nlink: int = 1
    opens: int = 0
    linkable: bool = False  # it never had a name, and may be given one
    generation: int = 0
    target: bytes = b""
    parent: "Node | None" = None
    content: SparseBytes = field(default_factory=SparseBytes)
    entries: dict[bytes, "Node"] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.atime = self.mtime = self.ctime = self.btime = self.now

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def size(self) -> int:
        """Length in bytes: of the content, or of a link's target."""
        return len(self.target) if self.is_link else self.content.size

    def changed(self, now: int, *, content: bool = False) -> None:
        """The attributes (and with `content` the bytes or entries) have just changed."""
        self.ctime = now
        if content:
            self.mtime = now
            self.generation += 1


class NodeStat:
    """Attributes of a node under the names of ``os.stat_result``."""

    st_dev = 0
    st_blksize = PAGE

    def __init__(self, node: Node) -> None:
        self.st_mode, self.st_ino, self.st_nlink = node.mode, node.ino, node.nlink
        self.st_uid, self.st_gid, self.st_rdev = node.uid, node.gid, node.rdev
        self.st_size = node.size
        self.st_blocks = len(node.content.pages) * (PAGE // 512)
        self.st_atime_ns, self.st_mtime_ns, self.st_ctime_ns = node.atime, node.mtime, node.ctime
        self.st_atime, self.st_mtime, self.st_ctime = node.atime / 1e9, node.mtime / 1e9, node.ctime / 1e9
        self.st_birthtime = node.btime / 1e9
        self.generation = node.generation

    def __repr__(self) -> str:
        return f"NodeStat(ino={self.st_ino}, mode={self.st_mode:o}, nlink={self.st_nlink}, size={self.st_size})"


class NodeTable:
    """Inodes by number; a node lives while it has a name, an open count or is the root."""

    def __init__(self, clock: Callable[[], int], uid: int, gid: int) -> None:
        self.clock = clock
        self.numbers = itertools.count(2)
        self.root = Node(1, stat.S_IFDIR | 0o755, uid, gid, clock(), nlink=2)
        self.root.parent = self.root
        self.nodes: dict[int, Node] = {1: self.root}

    def new(self, parent: Node, mode: int, uid: int, gid: int, rdev: int = 0) -> Node:
        """A new node without a name, with the group that a setgid directory hands down."""
        if parent.mode & stat.S_ISGID:
            gid = parent.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        node = Node(next(self.numbers), mode, uid, gid, self.clock(), rdev=rdev)
        self.nodes[node.ino] = node
        return node

    def make(self, parent: Node, name: bytes, mode: int, uid: int, gid: int, rdev: int = 0) -> Node:
        """A new node under `name`."""
        node = self.new(parent, mode, uid, gid, rdev)
        if node.is_dir:
            node.nlink, node.parent = 2, parent
            parent.nlink += 1
        parent.entries[name] = node
        parent.changed(node.ctime, content=True)
        return node

    def reap(self, node: Node) -> None:
        """Forget a node that nothing leads to any more."""
        if node.nlink == 0 and node.opens == 0:
            self.nodes.pop(node.ino, None)

    def by_ino(self, ino: int) -> Node:
        """The node, or ENOENT."""
        try:
            return self.nodes[ino]
        except KeyError:
            raise from_errno(errno.ENOENT, f"inode {ino}") from None

    def named(self) -> Iterator[tuple[bytes, Node]]:
        """Every path and the node there, directories before what is in them."""
        todo = [(b"/", self.root)]
        while todo:
            path, node = todo.pop()
            yield path, node
            todo += [(path.rstrip(b"/") + b"/" + name, child) for name, child in node.entries.items()]
