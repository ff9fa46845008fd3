"""What changed, gathered without making anybody wait."""

import errno

import pytest

import vexfs
from vexfs._core.watch import Watch


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as made:
        yield made


def test_contents_and_names_since_the_last_look(fs):
    watch = Watch(fs.filesystem)
    assert watch.take() == (set(), set())
    fs.write_text("a", "x")
    ino, root = fs.stat("a").st_ino, fs.stat("/").st_ino
    assert watch.take() == ({ino}, {(root, b"a")})
    for _ in range(50):
        fs.write_text("a", "y")
    fs.rename("a", "b")
    assert watch.take() == ({ino}, {(root, b"a"), (root, b"b")})
    fs.attributes("b")["year"] = 3
    fs.remove("b")
    contents, names = watch.take()
    assert names == {(root, b"b")} and contents <= {ino}
    watch.close()
    watch.close()


def test_more_than_can_be_remembered_is_told(fs):
    watch = Watch(fs.filesystem)
    for n in range(3000):
        fs.write_text(f"d/{n}", "x")
    assert watch.take() is None
    fs.write_text("a", "x")
    assert watch.take()[0] == {fs.stat("a").st_ino}
    watch.close()


def test_what_is_not_wanted_or_repeated_takes_no_place(fs):
    fs.write_text("a", "x")
    watch = Watch(fs.filesystem)
    for n in range(5000):
        fs.attributes("a")["year"] = n
    assert watch.take() == (set(), set())
    with fs.open("a", "wb", buffering=0) as file:
        watch.take()
        for _ in range(5000):
            file.write(b"piece")
    assert watch.take()[0] == {fs.stat("a").st_ino}
    watch.close()


def test_places_are_few_and_are_given_back(fs):
    held = []
    with pytest.raises(OSError) as caught:
        for _ in range(100):
            held.append(Watch(fs.filesystem))
    assert caught.value.errno == errno.EMFILE and len(held) >= 2
    held.pop().close()
    Watch(fs.filesystem).close()
    for each in held:
        each.close()
