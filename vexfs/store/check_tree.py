"""The check of names and inodes: every name leads to an inode, every inode has its names, all hang from the root."""

import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vexfs._core.codec import first_slot, first_slots
from vexfs._core.meta import Meta
from vexfs.errors import NotFound
from vexfs.store.check_table import ENTRY, HEAD, INODE, KEPT, PAGE, S_IFMT, Fix, Name, Table, counts, pages, places
from vexfs.store.rows import (
    APART,
    FILE_MAX,
    HAS_XATTR,
    INLINE_MAX,
    ROOT_INO,
    SLOTS,
    BadRow,
    InodeRow,
    unpack_xattrs,
)

if TYPE_CHECKING:
    from vexfs.store.check import Report

LOST = b"lost+found"
KINDS = {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK}


def slots_of(hash_key: bytes, names: list[bytes]) -> NDArray[np.uint64]:
    """The first slot of each name; 0 of what cannot be one."""
    out = np.empty(len(names), np.uint64)
    first_slots(hash_key, names, out)
    return out


def check_tree(meta: Meta, report: "Report") -> Table:
    """Check inodes, names, attributes and orphans; what was read is for later checks."""
    hash_key = _hash_key(meta, report)
    table = _read_inodes(meta, report)
    _read_entries(meta, table, hash_key, report)
    orphans = set(meta.scan_orphans())
    _check_orphans(table, orphans, report)
    _check_links(table, hash_key, orphans, report)
    _check_loops(table, report)
    _check_attributes(meta, table, report)
    _check_numbers(meta, table, report)
    report.inodes, report.entries = len(table), len(table.entries)
    return table


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


def _read_inodes(meta: Meta, report: "Report") -> Table:
    parts = [np.zeros(0, INODE)]
    for rows in pages(meta.scan_inodes):
        heads = np.frombuffer(b"".join([raw[: HEAD.itemsize].ljust(HEAD.itemsize, b"\0") for _, raw in rows]), HEAD)
        stands = np.ones(len(rows), np.bool_)
        for at in np.flatnonzero(_odd_rows(heads, np.array([len(raw) for _, raw in rows]))).tolist():
            ino, raw = rows[at]
            try:
                fault = _fault_of(InodeRow.unpack(raw))
            except BadRow as error:
                fault = str(error)
            if fault:
                stands[at] = False
                report.add("inode-row", f"inode {ino}", fault, fix=lambda meta, ino=ino: meta.del_inode(ino))
        part = np.empty(len(rows), INODE)
        part["ino"] = [ino for ino, _ in rows]
        for name in KEPT:
            part[name] = heads[name]
        parts.append(part[stands])
    inodes = np.concatenate(parts)
    at = int(places(inodes["ino"], ROOT_INO))
    if at >= 0 and stat.S_ISDIR(int(inodes["mode"][at])):
        return Table(meta, inodes, None)
    root = InodeRow(stat.S_IFDIR | 0o755, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ROOT_INO, 0)
    report.add("root", "/", "there is no root directory", fix=lambda meta: meta.put_inode(ROOT_INO, root.pack()))
    made = np.zeros(1, INODE)
    for name in ("mode", "nlink", "parent"):
        made[name] = getattr(root, name)
    made["ino"] = ROOT_INO
    rest = inodes[inodes["ino"] != ROOT_INO]
    return Table(meta, np.insert(rest, np.searchsorted(rest["ino"], ROOT_INO), made), root)


def _odd_rows(heads: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.bool_]:
    """Rows in which something may be wrong."""
    kind = heads["mode"] & S_IFMT
    apart = heads["flags"] & APART != 0
    wrong = (heads["version"] != 1) | (heads["header"] != HEAD.itemsize) | (heads["inline"] > INLINE_MAX)
    wrong |= sizes != HEAD.itemsize + np.where(apart, 0, heads["inline"].astype(np.int64))
    wrong |= ~np.isin(kind, list(KINDS))
    wrong |= (kind != stat.S_IFDIR) & ((heads["size"] > FILE_MAX) | (heads["inline"] > heads["size"]))
    return np.asarray(wrong, np.bool_)


def _read_entries(meta: Meta, table: Table, hash_key: bytes, report: "Report") -> None:
    parent = after = 0
    parts, odd_parts = [np.zeros(0, ENTRY)], [np.zeros(0, np.bool_)]
    while rows := meta.scan_dentries(parent, after, PAGE):
        parents, slots, inos, kinds, names = zip(*rows, strict=True)
        parent, after = parents[-1], slots[-1]
        part = np.empty(len(rows), ENTRY)
        part["ino"], part["parent"], part["slot"] = inos, parents, slots
        first = slots_of(hash_key, list(names))
        home, to = table.places(part["parent"]), table.places(part["ino"])
        odd = (home < 0) | ~table.is_dir[home] | (to < 0) | (part["ino"] == ROOT_INO) | (first == 0)
        odd |= (part["slot"] - first >= SLOTS) | (table.inodes["mode"][to] & S_IFMT != np.array(kinds, np.int64))
        parts.append(part)
        odd_parts.append(odd)
    entries, odd = np.concatenate(parts), np.concatenate(odd_parts)
    # Names that may stand twice, and directories that have more than one.
    near = (entries["parent"][1:] == entries["parent"][:-1]) & (entries["slot"][1:] - entries["slot"][:-1] < SLOTS)
    odd[1:] |= near
    odd[:-1] |= near
    to = table.places(entries["ino"])
    odd |= (to >= 0) & table.is_dir[to] & (counts(to[to >= 0], len(table))[to] > 1)
    stands = ~odd
    table.lead(entries[stands])
    closer = _Closer(table, hash_key, report)
    for at in np.flatnonzero(odd).tolist():
        ino, parent, slot = entries[at].tolist()
        kind, name = table.entry(parent, slot)
        stands[at] = closer.look(Name(parent, slot, name), ino, kind)
    if not stands.all() or odd.any():
        table.lead(entries[stands])


class _Closer:
    """A closer look at entries in which something may be wrong, in the order of reading."""

    def __init__(self, table: Table, hash_key: bytes, report: "Report") -> None:
        self._table, self._hash_key, self._report = table, hash_key, report
        self._near: list[Name] = []
        self._led_to: dict[int, Name] = {}

    def look(self, entry: Name, ino: int, kind: int) -> bool:
        """Check one; whether it leads somewhere in the end."""
        self._near = [o for o in self._near if o.parent == entry.parent and o.slot > entry.slot - SLOTS]
        if not self._stands(entry, ino, kind):
            return False
        self._near.append(entry)
        self._led_to.setdefault(ino, entry)
        return True

    def _stands(self, entry: Name, ino: int, kind: int) -> bool:
        table, add = self._table, self._report.add
        parent, slot, name = entry
        where = _within(table.path(parent), name)
        remove: Fix = lambda meta: meta.del_dentry(parent, slot)  # noqa: E731
        if not table.holds_dir(parent):
            add("entry-without-directory", f"inode {parent}/{os.fsdecode(name)}",
                f"the entry lies in inode {parent}, which is no directory", fix=remove)  # fmt: skip
        elif not slots_of(self._hash_key, [name])[0]:
            add("entry-name", where, f"{name!r} cannot be a name", fix=remove)
        elif ino not in table:
            add("entry-without-inode", where, f"the entry leads to inode {ino}, which is not there", fix=remove)
        elif any(other.name == name for other in self._near):
            add("entry-twice", where, "the name stands twice in its directory", fix=remove)
        elif table.holds_dir(ino) and (ino == ROOT_INO or ino in self._led_to):
            other = self._led_to.get(ino)
            path = "/" if other is None else _within(table.path(other.parent), other.name)
            add("directory-named-twice", where, f"the directory has the name {path} too", fix=remove)
        else:
            self._check_row(entry, ino, kind, where)
            return True
        return False

    def _check_row(self, entry: Name, ino: int, kind: int, where: str) -> None:
        right_kind = int(self._table.inodes["mode"][self._table.place(ino)]) & S_IFMT
        first = first_slot(self._hash_key, entry.name)
        if not first <= entry.slot < first + SLOTS:

            def move(meta: Meta) -> None:
                meta.del_dentry(entry.parent, entry.slot)
                _put_entry(meta, self._hash_key, entry.parent, entry.name, ino, right_kind)

            self._report.add("entry-slot", where, "the entry stands where its name is not looked for", fix=move)
        elif kind != right_kind:
            self._report.add(
                "entry-type", where, f"the entry says type {kind:o}, its inode {right_kind:o}",
                fix=lambda meta: meta.put_dentry(entry.parent, entry.slot, ino, right_kind, entry.name),
            )  # fmt: skip


def _within(path: str, name: bytes) -> str:
    return f"{path.rstrip('/')}/{os.fsdecode(name)}"


def _put_entry(meta: Meta, hash_key: bytes, parent: int, name: bytes, ino: int, kind: int) -> int:
    """Put an entry into the first free slot of its name."""
    first = first_slot(hash_key, name)
    taken = {slot for slot, *_ in meta.scan(parent, first - 1, SLOTS)}
    slot = next((slot for slot in range(first, first + SLOTS) if slot not in taken), first)
    meta.put_dentry(parent, slot, ino, kind, name)
    return slot


# -- comparing


def _check_orphans(table: Table, orphans: set[int], report: "Report") -> None:
    for ino in sorted(orphans):
        forget = partial(_forget_orphan, ino)
        if ino not in table:
            report.add("orphan-without-inode", f"inode {ino}", "is listed as removed, and is not there", fix=forget)
        elif table.names(ino, 1):
            report.add("orphan-with-name", table.path(ino), "is listed as removed, and has a name", fix=forget)
        else:
            report.add("orphan", f"inode {ino}", "was removed while open; opening the volume removes it", note=True)


def _forget_orphan(ino: int, meta: Meta) -> None:
    meta.del_orphan(ino)


def _remove_attributes(ino: int, meta: Meta) -> None:
    meta.del_xattr(ino)


def _check_links(table: Table, hash_key: bytes, orphans: set[int], report: "Report") -> None:
    inodes, n = table.inodes, len(table)
    to, home = table.places(table.entries["ino"]), table.places(table.entries["parent"])
    named, held = counts(to, n), counts(home, n)
    links = np.where(table.is_dir, 2 + counts(home[table.is_dir[to]], n), named)
    at_home = (inodes["parent"][to] == table.entries["parent"]) & (inodes["slot"][to] == table.entries["slot"])
    says_home = (inodes["parent"] != 0) | table.is_dir
    odd = (named == 0) | (inodes["nlink"] != links) | (table.is_dir & (inodes["size"] != held.astype(np.uint64)))
    odd |= says_home & (counts(to[at_home], n) == 0)
    for at in np.flatnonzero(odd).tolist():
        ino = int(inodes["ino"][at])
        row, names = table.row(ino), table.names(ino)
        if not names and ino != ROOT_INO:
            if ino not in orphans:
                _add_nameless(table, hash_key, report, ino, row)
            continue
        where, right, entries = table.path(ino), int(links[at]), int(held[at])
        if row.nlink != right:
            report.add("link-count", where, f"says {row.nlink} links, has {right}", fix=table.change(ino, nlink=right))
        if table.is_dir[at] and row.size != entries:
            fix = table.change(ino, size=entries)
            report.add("entry-count", where, f"says {row.size} entries, has {entries}", fix=fix)
        lies = names[0] if names else Name(ROOT_INO, 0, b"")
        if says_home[at] and not any((row.parent, row.slot) == (n.parent, n.slot) for n in names or [lies]):
            report.add(
                "parent", where, f"says that it lies in inode {row.parent}, lies in inode {lies.parent}",
                fix=table.change(ino, parent=lies.parent, slot=lies.slot),
            )  # fmt: skip


def _add_nameless(table: Table, hash_key: bytes, report: "Report", ino: int, row: InodeRow) -> None:
    if row.nlink == 0:
        report.add("inode-leaked", f"inode {ino}", "was removed and still takes room",
                   fix=lambda meta: meta.put_orphan(ino))  # fmt: skip
    else:
        report.add("inode-without-name", f"inode {ino}", "no directory leads to it; goes to /lost+found",
                   fix=lambda meta: _rescue(meta, table, hash_key, ino, row))  # fmt: skip


def _rescue(meta: Meta, table: Table, hash_key: bytes, ino: int, row: InodeRow) -> None:
    """Give an inode without a name the name ``#NUMBER`` in ``/lost+found``."""
    meta.refresh()
    home = _lost_and_found(meta, table, hash_key, row.ctime_ns)
    name = f"#{ino}".encode()
    if not any(found == name for _, _, _, found in meta.scan(home, first_slot(hash_key, name) - 1, SLOTS)):
        _put_entry(meta, hash_key, home, name, ino, stat.S_IFMT(row.mode))


def _lost_and_found(meta: Meta, table: Table, hash_key: bytes, now: int) -> int:
    """The directory of that name in the root; made, as old as what comes into it first, where there is none."""
    for _, ino, kind, name in meta.scan(ROOT_INO, first_slot(hash_key, LOST) - 1, SLOTS):
        if name == LOST and kind == stat.S_IFDIR:
            return ino
    ino = int(table.numbers[-1]) + 1
    slot = _put_entry(meta, hash_key, ROOT_INO, LOST, ino, stat.S_IFDIR)
    row = InodeRow(stat.S_IFDIR | 0o700, 2, 0, 0, 0, 0, 0, 0, now, now, now, now, ROOT_INO, slot)
    meta.put_inode(ino, row.pack())
    return ino


def _check_loops(table: Table, report: "Report") -> None:
    """Directories that lead up to themselves instead of to the root."""
    numbers = table.numbers[table.is_dir]
    entries = table.entries[table.is_dir[table.places(table.entries["ino"])]]
    named = places(numbers, entries["ino"])
    up, ends = np.arange(len(numbers)), np.ones(len(numbers), np.bool_)
    up[named], ends[named] = places(numbers, entries["parent"]), False
    for _ in range(len(up).bit_length()):
        up = up[up]
    fine: set[int] = set()
    for start in numbers[~ends[up]].tolist():
        chain: list[int] = []
        on_chain: set[int] = set()
        here = start
        while here not in fine and here not in on_chain and (names := table.names(here, 1)):
            chain.append(here)
            on_chain.add(here)
            here = names[0].parent
        if here in on_chain:
            cut = table.names(here, 1)[0]
            report.add(
                "directory-loop", f"inode {here}", "the directory lies within itself; goes to /lost+found",
                fix=lambda meta, cut=cut: meta.del_dentry(cut.parent, cut.slot),
            )  # fmt: skip
        fine.update(chain)


def _check_attributes(meta: Meta, table: Table, report: "Report") -> None:
    having = np.zeros(len(table), np.bool_)
    for rows in pages(meta.scan_xattrs):
        for (ino, raw), at in zip(rows, table.places([ino for ino, _ in rows]).tolist(), strict=True):
            remove = partial(_remove_attributes, ino)
            if at < 0:
                where = f"inode {ino}"
                report.add("attributes-without-inode", where, "attributes of a file that is not there", fix=remove)
                continue
            try:
                unpack_xattrs(raw)
            except BadRow as error:
                what = f"{error}; the file's attributes are lost"
                report.add("attributes-row", table.path(ino), what, fix=remove)
                continue
            having[at] = True
    for at in np.flatnonzero(having != (table.inodes["flags"] & HAS_XATTR != 0)).tolist():
        ino, flags = int(table.numbers[at]), int(table.inodes["flags"][at]) ^ HAS_XATTR
        said = "none" if having[at] else "some"
        report.add("attributes-flag", table.path(ino), f"says that it has {said}", fix=table.change(ino, flags=flags))


def _check_numbers(meta: Meta, table: Table, report: "Report") -> None:
    files, highest = len(table), int(table.numbers[-1])
    for name, least in (("next_ino", highest + 1), ("epoch", 0), ("files", 0)):
        try:
            value = meta.get_int(name)
        except NotFound:
            value = -1
        if value < least:
            said = value if value >= 0 else "missing"
            report.add("number", "meta.db", f"{name} is {said}, at least {least} is right",
                       fix=lambda meta, name=name, least=least: meta.put_int(name, least))  # fmt: skip
        elif name == "files" and value != files:
            report.add("number", "meta.db", f"files is {value}, there are {files}", note=True,
                       fix=lambda meta: meta.put_int("files", files))  # fmt: skip
