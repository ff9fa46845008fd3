"""The check of names and inodes: every name leads to an inode, every inode has its names, all hang from the root."""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from vexfs._core.codec import siphash
from vexfs._core.meta import Meta
from vexfs.errors import NotFound
from vexfs.store.rows import FILE_MAX, HAS_XATTR, ROOT_INO, SLOTS, BadRow, InodeRow, unpack_xattrs

if TYPE_CHECKING:
    from vexfs.store.check import Report

PAGE = 1000
HASH_MASK = 0x3FFFFFFFFFFFFFFC
LOST = b"lost+found"
KINDS = {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK}
Fix = Callable[[Meta], Any]


class Name(NamedTuple):
    """One entry of a directory that leads somewhere."""

    parent: int
    slot: int
    name: bytes


@attrs.define
class Tree:
    """What was read: inodes without their content, the names of each, and what each directory holds."""

    hash_key: bytes
    inodes: dict[int, InodeRow] = attrs.field(factory=dict)
    names: dict[int, list[Name]] = attrs.field(factory=dict)
    entries: dict[int, int] = attrs.field(factory=dict)
    directories: dict[int, int] = attrs.field(factory=dict)
    inline: dict[int, int] = attrs.field(factory=dict)
    changes: dict[int, dict[str, int]] = attrs.field(factory=dict)

    def change(self, ino: int, **fields: int) -> Fix:
        """A repair that sets fields of an inode's row, together with all others that are to change in it."""
        self.changes.setdefault(ino, {}).update(fields)

        def fix(meta: Meta) -> None:
            try:
                row = InodeRow.unpack(meta.get_inode(ino))
            except NotFound:  # a root that this repair makes anew
                row = self.inodes[ino]
            for name, value in self.changes[ino].items():
                setattr(row, name, value)
            meta.put_inode(ino, row.pack())

        return fix

    def is_dir(self, ino: int) -> bool:
        """Whether `ino` is a directory that was read."""
        return ino in self.inodes and stat.S_ISDIR(self.inodes[ino].mode)

    def path(self, ino: int) -> str:
        """A path of the inode for messages; from wherever its chain of names begins."""
        parts: list[bytes] = []
        seen: set[int] = set()
        while ino != ROOT_INO and ino not in seen and self.names.get(ino):
            seen.add(ino)
            entry = self.names[ino][0]
            parts.append(entry.name)
            ino = entry.parent
        start = "" if ino == ROOT_INO else f"(inode {ino})"
        return start + "/" + "/".join(os.fsdecode(part) for part in reversed(parts))


def slot_of(hash_key: bytes, name: bytes) -> int:
    """The first slot of a name."""
    return max(siphash(hash_key, name) & HASH_MASK, SLOTS)


def pages(scan: Callable[..., list[Any]], after: int = -1) -> Iterator[tuple[int, bytes]]:
    """All rows of a table that is scanned by one key."""
    while rows := scan(after, PAGE):
        yield from rows
        after = rows[-1][0]


def check_tree(meta: Meta, report: "Report") -> Tree:
    """Check inodes, names, attributes and orphans; what was read is for the messages of later checks."""
    tree = Tree(_hash_key(meta, report))
    _read_inodes(meta, tree, report)
    _read_entries(meta, tree, report)
    orphans = set(meta.scan_orphans())
    _check_orphans(tree, orphans, report)
    _check_links(tree, orphans, report)
    _check_loops(tree, report)
    _check_attributes(meta, tree, report)
    _check_numbers(meta, tree, report)
    report.inodes, report.entries = len(tree.inodes), sum(tree.entries.values())
    return tree


def _hash_key(meta: Meta, report: "Report") -> bytes:
    try:
        key = meta.get_blob("hash_key")
    except NotFound:
        key = b""
    if len(key) == 16:
        return key
    fresh = os.urandom(16)
    report.add(
        "hash-key", "meta.db", f"the key of the name hashes has {len(key)} bytes, not 16",
        fix=lambda meta: meta.put_blob("hash_key", fresh),
    )  # fmt: skip
    return fresh


# -- reading


def _fault_of(row: InodeRow) -> str:
    kind = stat.S_IFMT(row.mode)
    if kind not in KINDS:
        return f"mode {row.mode:o} names no type of file"
    if kind != stat.S_IFDIR and row.size > FILE_MAX:
        return f"size {row.size} is larger than a file can be"
    inline = len(row.inline) + row.apart_n
    if inline > row.size and kind != stat.S_IFDIR:
        return f"{inline} inline bytes in a file of {row.size}"
    return ""


def _read_inodes(meta: Meta, tree: Tree, report: "Report") -> None:
    for ino, raw in pages(meta.scan_inodes):
        try:
            row = InodeRow.unpack(raw)
            fault = _fault_of(row)
        except BadRow as error:
            fault = str(error)
        if fault:
            report.add("inode-row", f"inode {ino}", fault, fix=lambda meta, ino=ino: meta.del_inode(ino))
            continue
        if row.inline or row.apart_n:
            tree.inline[ino] = len(row.inline) + row.apart_n
            row.inline = b""
        tree.inodes[ino] = row
    if not tree.is_dir(ROOT_INO):
        root = InodeRow(stat.S_IFDIR | 0o755, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ROOT_INO, 0)
        report.add("root", "/", "there is no root directory", fix=lambda meta: meta.put_inode(ROOT_INO, root.pack()))
        tree.inodes[ROOT_INO] = root


def _read_entries(meta: Meta, tree: Tree, report: "Report") -> None:
    parent = after = 0
    near: list[Name] = []
    while rows := meta.scan_dentries(parent, after, PAGE):
        for parent, after, ino, kind, name in rows:
            entry = Name(parent, after, name)
            near = [other for other in near if other.parent == parent and other.slot > after - SLOTS]
            if _entry_stands(tree, report, entry, ino, kind, near):
                tree.names.setdefault(ino, []).append(entry)
                tree.entries[parent] = tree.entries.get(parent, 0) + 1
                if tree.is_dir(ino):
                    tree.directories[parent] = tree.directories.get(parent, 0) + 1
                near.append(entry)


def _entry_stands(tree: Tree, report: "Report", entry: Name, ino: int, kind: int, near: list[Name]) -> bool:
    """Check one entry; whether it leads somewhere in the end."""
    parent, slot, name = entry
    where = f"{tree.path(parent).rstrip('/')}/{os.fsdecode(name)}"
    remove: Fix = lambda meta: meta.del_dentry(parent, slot)  # noqa: E731
    if not tree.is_dir(parent):
        report.add("entry-without-directory", f"inode {parent}/{os.fsdecode(name)}",
                   f"the entry lies in inode {parent}, which is no directory", fix=remove)  # fmt: skip
    elif not 0 < len(name) <= 255 or b"/" in name or b"\0" in name or name in (b".", b".."):
        report.add("entry-name", where, f"{name!r} cannot be a name", fix=remove)
    elif ino not in tree.inodes:
        report.add("entry-without-inode", where, f"the entry leads to inode {ino}, which is not there", fix=remove)
    elif any(other.name == name for other in near):
        report.add("entry-twice", where, "the name stands twice in its directory", fix=remove)
    elif tree.is_dir(ino) and (ino == ROOT_INO or tree.names.get(ino)):
        report.add("directory-named-twice", where, f"the directory has the name {tree.path(ino)} too", fix=remove)
    else:
        _check_entry_row(tree, report, entry, ino, kind, where)
        return True
    return False


def _check_entry_row(tree: Tree, report: "Report", entry: Name, ino: int, kind: int, where: str) -> None:
    right_kind = stat.S_IFMT(tree.inodes[ino].mode)
    first = slot_of(tree.hash_key, entry.name)
    if not first <= entry.slot < first + SLOTS:

        def move(meta: Meta) -> None:
            meta.del_dentry(entry.parent, entry.slot)
            _put_entry(meta, tree.hash_key, entry.parent, entry.name, ino, right_kind)

        report.add("entry-slot", where, "the entry stands where its name is not looked for", fix=move)
    elif kind != right_kind:
        report.add(
            "entry-type", where, f"the entry says type {kind:o}, its inode {right_kind:o}",
            fix=lambda meta: meta.put_dentry(entry.parent, entry.slot, ino, right_kind, entry.name),
        )  # fmt: skip


def _put_entry(meta: Meta, hash_key: bytes, parent: int, name: bytes, ino: int, kind: int) -> int:
    """Put an entry into the first free slot of its name."""
    first = slot_of(hash_key, name)
    taken = {slot for slot, *_ in meta.scan(parent, first - 1, SLOTS)}
    slot = next((slot for slot in range(first, first + SLOTS) if slot not in taken), first)
    meta.put_dentry(parent, slot, ino, kind, name)
    return slot


# -- comparing


def _check_orphans(tree: Tree, orphans: set[int], report: "Report") -> None:
    for ino in sorted(orphans):
        forget = partial(_forget_orphan, ino)
        if ino not in tree.inodes:
            report.add("orphan-without-inode", f"inode {ino}", "is listed as removed, and is not there", fix=forget)
        elif tree.names.get(ino):
            report.add("orphan-with-name", tree.path(ino), "is listed as removed, and has a name", fix=forget)
        else:
            report.add("orphan", f"inode {ino}", "was removed while open; opening the volume removes it", note=True)


def _forget_orphan(ino: int, meta: Meta) -> None:
    meta.del_orphan(ino)


def _remove_attributes(ino: int, meta: Meta) -> None:
    meta.del_xattr(ino)


def _check_links(tree: Tree, orphans: set[int], report: "Report") -> None:
    for ino, row in tree.inodes.items():
        names = tree.names.get(ino, [])
        if not names and ino != ROOT_INO:
            if ino not in orphans:
                _add_nameless(tree, report, ino, row)
            continue
        is_dir = stat.S_ISDIR(row.mode)
        links = 2 + tree.directories.get(ino, 0) if is_dir else len(names)
        where = tree.path(ino)
        if row.nlink != links:
            report.add("link-count", where, f"says {row.nlink} links, has {links}", fix=tree.change(ino, nlink=links))
        entries = tree.entries.get(ino, 0)
        if is_dir and row.size != entries:
            fix = tree.change(ino, size=entries)
            report.add("entry-count", where, f"says {row.size} entries, has {entries}", fix=fix)
        home = names[0] if names else Name(ROOT_INO, 0, b"")
        if (row.parent or is_dir) and not any((row.parent, row.slot) == (n.parent, n.slot) for n in names or [home]):
            report.add(
                "parent", where, f"says that it lies in inode {row.parent}, lies in inode {home.parent}",
                fix=tree.change(ino, parent=home.parent, slot=home.slot),
            )  # fmt: skip


def _add_nameless(tree: Tree, report: "Report", ino: int, row: InodeRow) -> None:
    if row.nlink == 0:
        report.add("inode-leaked", f"inode {ino}", "was removed and still takes room",
                   fix=lambda meta: meta.put_orphan(ino))  # fmt: skip
    else:
        report.add("inode-without-name", f"inode {ino}", "no directory leads to it; goes to /lost+found",
                   fix=lambda meta: _rescue(meta, tree, ino, row))  # fmt: skip


def _rescue(meta: Meta, tree: Tree, ino: int, row: InodeRow) -> None:
    """Give an inode without a name the name ``#NUMBER`` in ``/lost+found``."""
    meta.refresh()
    home = _lost_and_found(meta, tree)
    name = f"#{ino}".encode()
    if not any(found == name for _, _, _, found in meta.scan(home, slot_of(tree.hash_key, name) - 1, SLOTS)):
        _put_entry(meta, tree.hash_key, home, name, ino, stat.S_IFMT(row.mode))


def _lost_and_found(meta: Meta, tree: Tree) -> int:
    for ino, names in tree.names.items():
        if any(n.parent == ROOT_INO and n.name == LOST for n in names) and tree.is_dir(ino):
            return ino
    ino = max(tree.inodes, default=ROOT_INO) + 1
    now = max((row.ctime_ns for row in tree.inodes.values()), default=0)
    slot = _put_entry(meta, tree.hash_key, ROOT_INO, LOST, ino, stat.S_IFDIR)
    row = InodeRow(stat.S_IFDIR | 0o700, 2, 0, 0, 0, 0, 0, 0, now, now, now, now, ROOT_INO, slot)
    meta.put_inode(ino, row.pack())
    tree.inodes[ino] = row
    tree.names[ino] = [Name(ROOT_INO, slot, LOST)]
    return ino


def _check_loops(tree: Tree, report: "Report") -> None:
    """Directories that lead up to themselves instead of to the root."""
    fine: set[int] = {ROOT_INO}
    for start in list(tree.inodes):
        chain: list[int] = []
        on_chain: set[int] = set()
        here = start
        while here not in fine and here not in on_chain and tree.names.get(here):
            chain.append(here)
            on_chain.add(here)
            here = tree.names[here][0].parent
        if here in on_chain:
            cut = tree.names[here][0]
            report.add(
                "directory-loop", f"inode {here}", "the directory lies within itself; goes to /lost+found",
                fix=lambda meta, cut=cut: meta.del_dentry(cut.parent, cut.slot),
            )  # fmt: skip
        fine.update(chain)


def _check_attributes(meta: Meta, tree: Tree, report: "Report") -> None:
    having: set[int] = set()
    for ino, raw in pages(meta.scan_xattrs):
        remove = partial(_remove_attributes, ino)
        if ino not in tree.inodes:
            report.add("attributes-without-inode", f"inode {ino}", "attributes of a file that is not there", fix=remove)
            continue
        try:
            unpack_xattrs(raw)
        except BadRow as error:
            report.add("attributes-row", tree.path(ino), f"{error}; the file's attributes are lost", fix=remove)
            continue
        having.add(ino)
    for ino, row in tree.inodes.items():
        if (ino in having) != bool(row.flags & HAS_XATTR):
            flags = row.flags ^ HAS_XATTR
            said = "none" if ino in having else "some"
            report.add("attributes-flag", tree.path(ino), f"says that it has {said}", fix=tree.change(ino, flags=flags))


def _check_numbers(meta: Meta, tree: Tree, report: "Report") -> None:
    highest = max(tree.inodes, default=ROOT_INO)
    for name, least in (("next_ino", highest + 1), ("epoch", 0), ("files", 0)):
        try:
            value = meta.get_int(name)
        except NotFound:
            value = -1
        if value < least:
            said = value if value >= 0 else "missing"
            report.add("number", "meta.db", f"{name} is {said}, at least {least} is right",
                       fix=lambda meta, name=name, least=least: meta.put_int(name, least))  # fmt: skip
        elif name == "files" and value != len(tree.inodes):
            report.add("number", "meta.db", f"files is {value}, there are {len(tree.inodes)}", note=True,
                       fix=lambda meta: meta.put_int("files", len(tree.inodes)))  # fmt: skip
