"""What a forked child inherits of an open volume, besides the volume: it is told that it is the parent's."""

import os
from collections.abc import Callable
from pathlib import Path

import vexfs
from vexfs import errors
from vexfs.volume import check


def test_what_a_forked_child_inherits_does_not_reach_the_volume(tmp_path: Path) -> None:
    place = tmp_path / "v.vex"
    with vexfs.open(place) as fs:
        fs.write_bytes("f", b"1" * 10_000)
        index = fs.index("d", dim=2)
        index.upsert(["one"], [[1.0, 0.0]])
        file, attributes, entry = fs.open("g", "wb", 0), fs.attributes("f"), next(fs.scandir("d"))
        file.write(b"before")
        child = os.fork()
        if not child:
            uses: list[Callable[[], object]] = [
                lambda: file.write(b"child" * 1000), file.sync, lambda: attributes.update(year=2020), entry.stat,
                lambda: index.upsert(["two"], [[1.0, 0.0]]), lambda: index.query([1.0, 0.0], 1),
            ]  # fmt: skip
            told = []
            for use in uses:
                try:
                    use()
                except errors.VolumeClosed as error:
                    told.append("forked" in str(error))
            file.close()
            os._exit(0 if told == [True] * len(uses) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        file.write(b" and after")
        file.close()
        fs.sync()
    with vexfs.open(place) as fs:
        assert fs.read_bytes("g") == b"before and after" and not fs.attributes("f")
        assert [hit.id for hit in fs.index("d").query([1.0, 0.0], 5)] == ["one"]
    assert check(place).sound
