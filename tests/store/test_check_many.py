"""The check of many files, in bounded memory, and of volumes in which anything may have been overwritten."""

import random
import shutil
import stat
import tracemalloc
from pathlib import Path

import pytest

import vexfs
from vexfs._core.meta import Meta
from vexfs.volume import check

#: Content that is gone cannot be brought back; everything else is repaired.
LOST = {"damaged-frame", "missing-frame", "foreign-frame", "extent-outside-frame", "missing-segment"}
FILES = 20_000


def test_many_files_take_columns_not_rows(tmp_path: Path) -> None:
    with vexfs.open(tmp_path / "v.vex") as fs:
        for top in range(20):
            for k in range(FILES // 20):
                fs.write_bytes(f"{top}/{k}", b"content %d" % k)
    check(tmp_path / "v.vex")  # what is imported at the first time
    tracemalloc.start()
    try:
        report = check(tmp_path / "v.vex")
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.sound and report.inodes == FILES + 21 and report.entries == FILES + 20
    assert held < FILES * 200 + (4 << 20)  # a page of rows, and columns; as rows it was a kilobyte a file


def overwrite(meta: Meta, dice: random.Random) -> None:
    """Change or remove some row of some table."""
    inodes, entries = meta.scan_inodes(), meta.scan_dentries()
    maps, attributes, contents, segments = (
        meta.scan_all_maps(), meta.scan_xattrs(), meta.scan_contents(), meta.scan_segments()
    )  # fmt: skip

    def ino() -> int:
        return dice.choice([*(ino for ino, _ in dice.sample(inodes, min(3, len(inodes)))), 99_999, 1])

    def spoilt(raw: bytes) -> bytes:
        out = bytearray(raw)
        for _ in range(dice.choice([1, 1, 3])):
            out[dice.randrange(len(out))] = dice.choice([0, 1, 255, dice.randrange(256)])
        return bytes(out[: dice.choice([len(out), len(out), dice.randrange(len(out) + 1)])])

    kind = dice.randrange(8)
    if kind == 0 and inodes:
        number, raw = dice.choice(inodes)
        meta.put_inode(number, spoilt(raw)) if dice.random() < 0.7 else meta.del_inode(number)
    elif kind == 1 and entries:
        parent, slot, to, what, name = dice.choice(entries)
        slot = dice.choice([0, 1, slot, slot + 1, slot + 3, dice.randrange(1 << 62)])
        name = dice.choice([name, name, b"a/b", b"..", b"other"])
        meta.put_dentry(dice.choice([parent, ino()]), slot, dice.choice([to, ino()]),
                        dice.choice([what, stat.S_IFDIR]), name)  # fmt: skip
    elif kind == 2 and entries:
        parent, slot, *_ = dice.choice(entries)
        meta.del_dentry(parent, slot)
    elif kind == 3 and maps:
        key, raw = dice.choice(maps)
        meta.put_map(dice.choice([key >> 24, ino()]), dice.choice([key & 0xFFFFFF, 1]), spoilt(raw))
    elif kind == 4 and attributes:
        number, raw = dice.choice(attributes)
        meta.put_xattr(ino(), spoilt(raw)) if dice.random() < 0.6 else meta.del_xattr(number)
    elif kind == 5 and contents:
        number, raw = dice.choice(contents)
        meta.put_content(dice.choice([number, ino()]), raw[: dice.randrange(len(raw) + 1)])
    elif kind == 6:
        meta.put_orphan(ino())
    elif kind == 7 and segments:
        number, raw = dice.choice(segments)
        meta.put_segment(number, spoilt(raw))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "v.vex"
    dice = random.Random(1)
    with vexfs.open(path) as fs:
        fs.write_bytes("d/big", dice.randbytes(3 << 20))
        fs.makedirs("d/sub/deep/er")
        for k in range(20):
            fs.write_bytes(f"e/{k}", dice.randbytes(dice.choice([10, 500, 5000, 20_000])))
        fs.write_bytes("d/small", b"inline")
        fs.link("d/small", "d/sub/hard")
        fs.symlink("d/small", "soft")
        fs.attributes("d/small")["year"] = 2020
        with fs.open("d/big", "r+b") as file:
            file.seek(100_000)
            file.write(dice.randbytes(5000))
    return path


@pytest.mark.parametrize("seed", range(60))
def test_whatever_was_overwritten_is_repaired(template: Path, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    volume = Path(shutil.copytree(template, tmp_path / "v.vex"))
    with Meta(volume / "meta.db") as meta:
        meta.begin()
        for _ in range(dice.choice([1, 2, 4, 10])):
            overwrite(meta, dice)
        meta.commit()
        meta.sync()
    check(volume)
    repaired = check(volume, repair=True)
    assert {problem.kind for problem in repaired.faults} <= LOST, repaired.faults
    again = check(volume)
    assert {problem.kind for problem in again.faults} == {problem.kind for problem in repaired.faults}
    with vexfs.open(volume) as fs:
        for top, _, names in fs.walk("/"):
            for name in names:
                fs.lstat(f"{top}/{name}")
        fs.write_bytes("new/file", b"the volume works")
    assert {problem.kind for problem in check(volume).faults} <= LOST
