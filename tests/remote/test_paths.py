"""What a node sees otherwise than a volume in this process does: ``..``, odd arguments, a closed connection."""

import errno

import pytest

import vexfs
from tests.remote.conftest import Served
from vexfs import errors


def test_two_dots_lead_where_they_lead_in_process(served, fs, tmp_path):
    with vexfs.open(tmp_path / "v.vex") as here:
        for volume in (fs, here):
            volume.makedirs("/a/b/c")
            volume.write_text("/a/f", "above")
            volume.symlink("/a/b/c", "/link")
            volume.symlink("loop", "/loop")
        cases = [
            lambda v: v.read_text("a/b/../f"), lambda v: v.read_text("link/../../f"), lambda v: v.listdir("link/.."),
            lambda v: v.stat("../../a/b/..").st_ino == v.stat("a").st_ino, lambda v: v.exists("a/.."),
            lambda v: v.exists("a/f/.."), lambda v: v.exists("none/../a"), lambda v: v.read_text("a/f/../f"),
            lambda v: v.read_text("loop/../a/f"), lambda v: v.mkdir("a/.."), lambda v: v.rename("a/b/..", "z"),
            lambda v: v.rename("link/../../f", "a/b/../g"), lambda v: v.read_text("a/g"),
            lambda v: v.write_text("a/b/../made/deep", "1"), lambda v: v.read_text("a/made/deep"),
            lambda v: v.symlink("../a/g", "a/b/up"), lambda v: v.readlink("a/b/up"), lambda v: v.rmdir("a/b/.."),
            lambda v: [str(p) for p in v.path("a/b").glob("../g")],
        ]  # fmt: skip

        def outcome(case, volume):
            try:
                return case(volume)
            except OSError as error:
                return error.errno

        assert [outcome(case, fs) for case in cases] == [outcome(case, here) for case in cases]


def test_no_dots_lead_out_of_what_a_token_is_for(served, fs):
    fs.makedirs("/r/d")
    fs.write_text("/secret", "1")
    fs.symlink("/", "/r/out")
    token = served.node.tokens.create("dots", ["read", "write"], ["/r"])[0]
    with vexfs.connect(served.url, token) as other:
        assert other.listdir("/r/d/..") == fs.listdir("/r")
        for path in ("/r/../secret", "/r/d/../../secret", "/r/out/r/../secret"):
            with pytest.raises(PermissionError):
                other.read_text(path)


def test_what_a_node_does_not_take_is_an_error_of_the_operation(fs):
    fs.write_text("f", "1")
    assert not fs.exists("a\0b") and not fs.path("a\0b").is_dir()
    for wrong in (lambda: fs.stat("a\0b"), lambda: fs.truncate("f", -1), lambda: fs.open("f", "r+b", 0).truncate(-1)):
        with pytest.raises(OSError) as caught:
            wrong()
        assert caught.value.errno == errno.EINVAL


def test_a_node_that_is_gone_is_no_empty_volume(tmp_path):
    served = Served(tmp_path)
    volume = vexfs.connect(served.url, served.token)
    volume.write_text("d/f", "1")
    walk = volume.walk("/")
    assert next(walk)[1] == ["d"]
    served.stop()
    looks = [
        lambda: volume.glob("*"), lambda: volume.glob("d/f"), lambda: list(volume.path("/").rglob("f")),
        lambda: list(volume.walk("/")), lambda: next(walk),
    ]  # fmt: skip
    for look in looks:
        with pytest.raises(errors.Unreachable):
            look()
    told = []
    assert list(volume.walk("/", onerror=told.append)) == [] and isinstance(told[0], errors.Unreachable)
    volume.close()
    for look in looks[:-1]:
        with pytest.raises(errors.VolumeClosed):
            look()


def test_nothing_goes_through_a_closed_connection(served):
    with vexfs.connect(served.url, served.token) as volume:
        volume.write_text("f", "1")
        entry, attributes, index = next(volume.scandir("/")), volume.attributes("f"), volume.index("d", dim=2)
        file = volume.open("f", "rb", 0)
        raw = volume.filesystem.open("f", 0)
    for use in (
        lambda: volume.read_text("f"), lambda: volume.exists("f"), lambda: volume.write_text("g", "1"), entry.stat,
        lambda: attributes.update(a=1), lambda: index.query([1.0, 2.0], 1), lambda: volume.filesystem.read(raw, 1, 0),
    ):  # fmt: skip
        with pytest.raises(errors.VolumeClosed, match="connect again"):
            use()
    volume.filesystem.release(raw)
    assert file.closed
