"""Faults that a check has to find, and what plants them: changes of the metadata behind the filesystem's back."""

import stat
from collections.abc import Callable
from pathlib import Path

import attrs

import vexfs
from vexfs._core.codec import first_slot
from vexfs._core.meta import Meta
from vexfs.store.rows import Extent, InodeRow, SegmentRow, pack_map, unpack_map


class Edit:
    """Changes of the metadata behind the filesystem's back."""

    def __init__(self, volume: Path) -> None:
        with vexfs.open(volume, read_only=True) as fs:
            paths = [path for path in (fs.path("/"), *fs.path().rglob("*")) if path.exists()]
            self.ino = {str(path): path.stat().st_ino for path in paths}
        self.meta = Meta(volume / "meta.db")
        self.hash_key = self.meta.get_blob("hash_key")
        self.meta.begin()

    def done(self) -> None:
        self.meta.commit()
        self.meta.sync()
        self.meta.close()

    def entry(self, parent: str, name: bytes) -> tuple[int, int, int]:
        """Slot, inode and type of an entry."""
        for slot, ino, kind, found in self.meta.scan(self.ino[parent]):
            if found == name:
                return slot, ino, kind
        raise AssertionError(name)

    def put(self, parent: int, name: bytes, ino: int, kind: int) -> None:
        self.meta.put_dentry(parent, first_slot(self.hash_key, name), ino, kind, name)

    def remove(self, parent: str, name: bytes) -> None:
        self.meta.del_dentry(self.ino[parent], self.entry(parent, name)[0])

    def change(self, name: str, **fields: int) -> None:
        row = InodeRow.unpack(self.meta.get_inode(self.ino[name]))
        self.meta.put_inode(self.ino[name], attrs.evolve(row, **fields).pack())

    def extents(self, name: str, region: int = 0) -> list[Extent]:
        return unpack_map(self.meta.get_map(self.ino[name], region))

    def put_extents(self, name: str, extents: list[Extent], region: int = 0) -> None:
        self.meta.put_map(self.ino[name], region, pack_map(extents))

    def segment(self) -> tuple[int, SegmentRow]:
        number, raw = self.meta.scan_segments()[0]
        return number, SegmentRow.unpack(raw)


Plant = Callable[[Edit], None]
REPAIRABLE: dict[str, tuple[str, Plant]] = {}


def plant(kind: str) -> Callable[[Plant], Plant]:
    def add(function: Plant) -> Plant:
        REPAIRABLE[function.__name__] = (kind, function)
        return function

    return add


@plant("entry-without-inode")
def entry_to_nowhere(e: Edit) -> None:
    e.put(e.ino["d"], b"ghost", 9999, stat.S_IFREG)


@plant("entry-without-directory")
def entry_in_no_directory(e: Edit) -> None:
    e.put(9998, b"x", e.ino["d/small"], stat.S_IFREG)


@plant("entry-without-directory")
def entry_in_a_file(e: Edit) -> None:
    e.put(e.ino["d/small"], b"x", e.ino["d/big"], stat.S_IFREG)


@plant("entry-name")
def entry_with_a_slash(e: Edit) -> None:
    e.put(e.ino["d"], b"a/b", e.ino["d/small"], stat.S_IFREG)


@plant("entry-type")
def entry_of_wrong_type(e: Edit) -> None:
    slot, ino, _ = e.entry("d", b"small")
    e.meta.put_dentry(e.ino["d"], slot, ino, stat.S_IFDIR, b"small")


@plant("entry-slot")
def entry_where_nobody_looks(e: Edit) -> None:
    slot, ino, kind = e.entry("d", b"small")
    e.meta.del_dentry(e.ino["d"], slot)
    e.meta.put_dentry(e.ino["d"], slot + 400, ino, kind, b"small")


@plant("entry-twice")
def name_twice(e: Edit) -> None:
    slot, ino, kind = e.entry("d", b"small")
    e.meta.put_dentry(e.ino["d"], slot + 1, ino, kind, b"small")


@plant("directory-named-twice")
def second_name_of_a_directory(e: Edit) -> None:
    e.put(e.ino["/"], b"again", e.ino["d/sub"], stat.S_IFDIR)


@plant("directory-loop")
def loop_of_directories(e: Edit) -> None:
    e.remove("d", b"sub")
    e.put(e.ino["d/sub/deep"], b"sub", e.ino["d/sub"], stat.S_IFDIR)


@plant("directory-loop")
def directory_within_itself(e: Edit) -> None:
    e.remove("d", b"sub")
    e.put(e.ino["d/sub"], b"sub", e.ino["d/sub"], stat.S_IFDIR)


@plant("inode-without-name")
def nameless_file(e: Edit) -> None:
    e.remove("d", b"big")


@plant("inode-without-name")
def nameless_directory(e: Edit) -> None:
    e.remove("d", b"sub")


@plant("inode-leaked")
def removed_but_kept(e: Edit) -> None:
    e.remove("d", b"other")
    e.change("d/other", nlink=0)


@plant("link-count")
def wrong_link_count(e: Edit) -> None:
    e.change("d/small", nlink=7)


@plant("link-count")
def wrong_link_count_of_a_directory(e: Edit) -> None:
    e.change("d", nlink=2)


@plant("entry-count")
def wrong_entry_count(e: Edit) -> None:
    e.change("d", size=40)


@plant("parent")
def wrong_parent(e: Edit) -> None:
    e.change("d/sub", parent=1, slot=12)


@plant("inode-row")
def inode_row_cut_short(e: Edit) -> None:
    e.meta.put_inode(e.ino["d/other"], e.meta.get_inode(e.ino["d/other"])[:50])


@plant("inode-row")
def inode_of_no_type(e: Edit) -> None:
    e.change("d/other", mode=0o644)


@plant("inode-row")
def inode_too_large(e: Edit) -> None:
    e.change("d/other", size=1 << 60)


@plant("root")
def no_root(e: Edit) -> None:
    e.meta.del_inode(1)


@plant("orphan-without-inode")
def orphan_of_nothing(e: Edit) -> None:
    e.meta.put_orphan(7777)


@plant("orphan-with-name")
def orphan_that_has_a_name(e: Edit) -> None:
    e.meta.put_orphan(e.ino["d/small"])


@plant("attributes-without-inode")
def attributes_of_nothing(e: Edit) -> None:
    e.meta.put_xattr(8888, e.meta.get_xattr(e.ino["d/small"]))


@plant("attributes-row")
def attributes_row_cut_short(e: Edit) -> None:
    e.meta.put_xattr(e.ino["d/small"], e.meta.get_xattr(e.ino["d/small"])[:-1])


@plant("attributes-flag")
def attributes_that_are_not_there(e: Edit) -> None:
    e.meta.del_xattr(e.ino["d/small"])


@plant("content-without-file")
def content_of_nothing(e: Edit) -> None:
    e.meta.put_content(6666, b"whose?")


@plant("content-without-file")
def content_beside_the_row(e: Edit) -> None:
    e.meta.put_content(e.ino["d/small"], b"inline")


@plant("content-length")
def content_cut_short(e: Edit) -> None:
    e.meta.put_content(e.ino["d/medium"], b"medium" * 100)


@plant("content-length")
def content_too_long(e: Edit) -> None:
    e.meta.put_content(e.ino["d/medium"], b"medium" * 1000)


@plant("content-lost")
def content_that_is_not_there(e: Edit) -> None:
    e.meta.del_content(e.ino["d/medium"])


@plant("map-without-file")
def map_of_nothing(e: Edit) -> None:
    e.meta.put_map(6666, 0, e.meta.get_map(e.ino["d/big"], 0))


@plant("map-without-file")
def map_of_a_directory(e: Edit) -> None:
    e.meta.put_map(e.ino["d"], 0, e.meta.get_map(e.ino["d/big"], 0))


@plant("map-of-inline")
def map_of_an_inline_file(e: Edit) -> None:
    e.meta.put_map(e.ino["d/small"], 0, e.meta.get_map(e.ino["d/big"], 0))


@plant("map-row")
def overlapping_extents(e: Edit) -> None:
    first, second, *rest = e.extents("d/big")
    e.meta.put_map(e.ino["d/big"], 0, pack_map([first, second._replace(off=first.off + 5), *rest]))


@plant("map-row")
def map_row_cut_short(e: Edit) -> None:
    e.meta.put_map(e.ino["d/big"], 0, e.meta.get_map(e.ino["d/big"], 0)[:-3])


@plant("extent-outside-file")
def extents_behind_the_end(e: Edit) -> None:
    e.meta.put_map(e.ino["d/big"], 9, e.meta.get_map(e.ino["d/other"], 0))


@plant("allocation")
def wrong_allocation(e: Edit) -> None:
    e.change("d/big", alloc=5)


@plant("segment-row")
def wrong_live_bytes(e: Edit) -> None:
    number, row = e.segment()
    e.meta.put_segment(number, row._replace(raw_live=row.raw_live - 1).pack())


@plant("segment-row")
def wrong_end_of_segment(e: Edit) -> None:
    number, row = e.segment()
    e.meta.put_segment(number, row._replace(used=100).pack())


@plant("segment-row")
def no_segment_row(e: Edit) -> None:
    e.meta.del_segment(e.segment()[0])


@plant("segment-row")
def segment_row_cut_short(e: Edit) -> None:
    number, row = e.segment()
    e.meta.put_segment(number, row.pack()[:-4])


@plant("tail")
def tail_in_the_head_of_a_segment(e: Edit) -> None:
    e.meta.put_tail(e.segment()[0], 17, b"no frame stands there")


@plant("number")
def next_inode_is_taken(e: Edit) -> None:
    e.meta.put_int("next_ino", 3)


@plant("hash-key")
def no_hash_key(e: Edit) -> None:
    e.meta.put_blob("hash_key", b"short")


@plant("inode-row")
def inode_row_of_the_root_too_long(e: Edit) -> None:
    e.meta.put_inode(e.ino["/"], e.meta.get_inode(e.ino["/"]) + bytes(22))
