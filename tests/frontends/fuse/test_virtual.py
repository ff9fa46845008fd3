"""The tree under ``.vexfs``, without a mount."""

import errno
import stat

import pytest
from vexfs.frontends.fuse.virtual import FIRST_INO, NAME, Directory, Link, Text, VirtualTree


@pytest.fixture
def tree():
    made = VirtualTree()
    made.register(b"version", lambda _: Text(lambda: b"1\n"))
    made.register(b"index", lambda ino: Text(lambda: b"of %d\n" % ino), everywhere=True)
    made.register(b"links", lambda _: Directory({b"a": Link(b"../b"), b"t": Text(lambda: b"t")}), everywhere=True)
    return made


def errno_of(call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    return caught.value.errno


def test_numbers_are_out_of_the_way_of_the_volume(tree):
    assert tree.lookup(1, NAME).ino >= FIRST_INO


def test_a_directory_keeps_its_number_while_it_is_known(tree):
    first, second = tree.lookup(1, NAME), tree.lookup(1, NAME)
    assert first == second
    tree.forget(first.ino, 1)
    assert tree.lookup(1, NAME).ino == first.ino
    tree.forget(first.ino, 2)
    assert errno_of(tree.attributes, first.ino) == errno.ESTALE
    assert tree.lookup(1, NAME).ino != first.ino


def test_a_text_is_made_once_a_lookup_and_never_changes_under_its_number():
    count = iter(range(100))
    tree = VirtualTree()
    tree.register(b"n", lambda _: Text(lambda: b"%d" % next(count)))
    home = tree.lookup(1, NAME).ino
    first, second = tree.lookup(home, b"n"), tree.lookup(home, b"n")
    assert first.ino != second.ino
    assert [tree.read(first.ino, 0, 10), tree.read(second.ino, 0, 10), tree.read(first.ino, 0, 10)] == [
        b"0",
        b"1",
        b"0",
    ]
    assert first.size == 1


def test_a_text_that_is_kept_is_found_again_until_it_was_read():
    count = iter(range(100))
    tree = VirtualTree()
    tree.register(b"n", lambda _: Text(lambda: b"%d" % next(count), keep_s=60.0))
    home = tree.lookup(1, NAME).ino
    first, second = tree.lookup(home, b"n"), tree.lookup(home, b"n")
    assert first == second
    assert tree.read(first.ino, 0, 10) == b"0"
    assert tree.read(tree.lookup(home, b"n").ino, 0, 10) == b"1"


def test_forgotten_texts_are_let_go(tree):
    home = tree.lookup(1, NAME).ino
    for _ in range(100):
        tree.forget(tree.lookup(home, b"version").ino, 1)
    assert len(tree._live) == 1
    assert len(tree._numbers) == 1


def test_what_stands_where(tree):
    root, other = tree.lookup(1, NAME).ino, tree.lookup(77, NAME).ino
    assert [name for name, _, _ in tree.list(root)] == [b".", b"..", b"index", b"links", b"version"]
    assert [name for name, _, _ in tree.list(other)] == [b".", b"..", b"index", b"links"]
    assert tree.read(tree.lookup(other, b"index").ino, 0, 99) == b"of 77\n"
    assert errno_of(tree.lookup, other, b"version") == errno.ENOENT


def test_nothing_registered_for_a_directory_is_no_directory():
    tree = VirtualTree()
    tree.register(b"version", lambda _: Text(lambda: b""))
    assert errno_of(tree.lookup, 77, NAME) == errno.ENOENT
    assert stat.S_ISDIR(tree.lookup(1, NAME).mode)


def test_links(tree):
    home = tree.lookup(1, NAME).ino
    links = tree.lookup(home, b"links").ino
    link = tree.lookup(links, b"a")
    assert stat.S_ISLNK(link.mode)
    assert link.size == 4
    assert tree.readlink(link.ino) == b"../b"
    assert errno_of(tree.readlink, links) == errno.EINVAL


def test_a_file_is_no_directory(tree):
    home = tree.lookup(1, NAME).ino
    file = tree.lookup(home, b"version").ino
    assert errno_of(tree.lookup, file, b"x") == errno.ENOTDIR
    assert errno_of(tree.list, file) == errno.ENOTDIR


def test_reads_are_cut_at_the_end(tree):
    home = tree.lookup(1, NAME).ino
    file = tree.lookup(home, b"version").ino
    assert tree.read(file, 0, 1) == b"1"
    assert tree.read(file, 1, 100) == b"\n"
    assert tree.read(file, 5, 100) == b""
