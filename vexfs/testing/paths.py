"""How the model walks a path: component by component, as the manual page path_resolution(7) tells it."""

import errno
import os

from vexfs.errors import from_errno
from vexfs.testing.nodes import Node, NodeTable

PathArg = str | bytes
NAME_MAX = 255
PATH_MAX = 1 << 20
LINKS_FOLLOWED_MAX = 40
NOREPLACE, EXCHANGE = 1, 2


class Walk:
    """Where the last component of a path stands: its directory, its name and what followed it."""

    def __init__(self, parent: Node, name: bytes, slash: bool, path: PathArg) -> None:
        self.parent, self.name, self.slash, self.path = parent, name, slash, path

    @property
    def special(self) -> bool:
        """Whether the last component names no entry of its own: empty, dot or dot-dot."""
        return self.name in (b"", b".", b"..")

    @property
    def node(self) -> Node | None:
        """What stands there now; a name that is too long is refused only here, where it is looked up."""
        if len(self.name) > NAME_MAX:
            raise from_errno(errno.ENAMETOOLONG, self.path)
        if self.name in (b"", b"."):
            return self.parent
        return self.parent.parent if self.name == b".." else self.parent.entries.get(self.name)


class Walker:
    """Path resolution over a table of nodes.  `depth` counts the symlinks followed in one walk."""

    read_only: bool
    _table: NodeTable

    def _components(self, path: PathArg) -> bytes:
        raw = os.fsencode(path)
        if b"\0" in raw:
            raise from_errno(errno.EINVAL, path, message="a path cannot contain NUL")
        if not raw:
            raise from_errno(errno.ENOENT, path)
        if len(raw) >= PATH_MAX:
            raise from_errno(errno.ENAMETOOLONG, path)
        return raw

    def _last(self, path: PathArg, *, start: Node | None = None, raw: bytes | None = None, depth: list[int]) -> Walk:
        """Walk to the directory of the last component, following symlinks on the way."""
        if raw is None:
            raw = self._components(path)
        here = self._table.root if raw.startswith(b"/") or start is None else start
        parts = [part for part in raw.split(b"/") if part]
        for part in parts[:-1]:
            here = self._step(path, here, part, depth)
            if not here.is_dir:
                raise from_errno(errno.ENOTDIR, path)
        name = parts[-1] if parts else b""
        if not here.is_dir:
            raise from_errno(errno.ENOTDIR, path)
        return Walk(here, name, bool(parts) and raw.endswith(b"/"), path)

    def _step(self, path: PathArg, here: Node, part: bytes, depth: list[int]) -> Node:
        found = Walk(here, part, False, path).node
        if found is None:
            raise from_errno(errno.ENOENT, path)
        return self._follow(path, here, found, depth) if found.is_link else found

    def _follow(self, path: PathArg, here: Node, link: Node, depth: list[int]) -> Node:
        return self._found(path, self._enter(path, here, link, depth), True, depth)

    def _enter(self, path: PathArg, here: Node, link: Node, depth: list[int]) -> Walk:
        depth[0] += 1
        if depth[0] > LINKS_FOLLOWED_MAX:
            raise from_errno(errno.ELOOP, path)
        return self._last(path, start=here, raw=link.target, depth=depth)

    def _found(self, path: PathArg, walk: Walk, follow: bool, depth: list[int]) -> Node:
        node = walk.node
        if node is None:
            raise from_errno(errno.ENOENT, path)
        if node.is_link and (follow or walk.slash):
            node = self._follow(path, walk.parent, node, depth)
        if walk.slash and not node.is_dir:
            raise from_errno(errno.ENOTDIR, path)
        return node

    def _walk(self, path: PathArg, follow: bool = True) -> Node:
        depth = [0]
        return self._found(path, self._last(path, depth=depth), follow, depth)

    def _vacant(self, path: PathArg, *, directory: bool = False) -> Walk:
        """The place for a new entry: nothing there yet."""
        walk = self._last(path, depth=[0])
        if walk.special or walk.node is not None:
            raise from_errno(errno.EEXIST, path)
        if walk.slash and not directory:
            raise from_errno(errno.ENOENT, path)
        self._writable(path)
        self._alive(walk.parent, path)
        return walk

    def _writable(self, path: PathArg | None = None) -> None:
        if self.read_only:
            raise from_errno(errno.EROFS, path)

    def _alive(self, directory: Node, path: PathArg) -> None:
        if directory.nlink == 0:
            raise from_errno(errno.ENOENT, path)

    def _rename_fault(self, old: Walk, new: Walk, moved: Node, hit: Node | None, flags: int) -> int:
        """The errno that keeps the rename from happening, or 0."""
        if flags & EXCHANGE and hit is None:
            return errno.ENOENT
        if hit is not None and flags & NOREPLACE:
            return errno.EEXIST
        if not moved.is_dir and (old.slash or (new.slash and not flags & EXCHANGE)):
            return errno.ENOTDIR
        if flags & EXCHANGE and new.slash and hit is not None and not hit.is_dir:
            return errno.ENOTDIR
        if self._inside(new.parent, moved):
            return errno.EINVAL
        if hit is not None and self._inside(old.parent, hit):
            return errno.EINVAL if flags & EXCHANGE else errno.ENOTEMPTY
        if moved is hit or flags & EXCHANGE or hit is None:
            return errno.ENOENT if new.parent.nlink == 0 else 0
        if moved.is_dir and not hit.is_dir:
            return errno.ENOTDIR
        if hit.is_dir and not moved.is_dir:
            return errno.EISDIR
        return errno.ENOTEMPTY if hit.entries else 0

    def _inside(self, node: Node, ancestor: Node) -> bool:
        """Whether `node` is `ancestor` or lies below it."""
        while True:
            if node is ancestor:
                return True
            if node.parent is None or node.parent is node:
                return False
            node = node.parent
