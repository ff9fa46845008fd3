"""The place in the host's tree, without mounting a volume."""

import os
import subprocess
from pathlib import Path

import pytest
from vexfs.frontends.fuse import mountpoint as place

import vexfs
from tests.capabilities import SYS_ADMIN, may
from tests.frontends.fuse.conftest import NO_MOUNTS
from tests.waiting import until
from vexfs.errors import InvalidArgument, NotADirectory, NotEmpty, NotFound, NotPermitted

root_only = pytest.mark.skipif(not may(SYS_ADMIN), reason="needs root, to mount something")


def test_the_table_of_mounts():
    found = {m.path: m for m in place.mounts()}
    assert found["/proc"].fs_type == "proc"
    assert place.find("/proc/") == found["/proc"]
    assert place.find("/proc/self") is None


@pytest.mark.parametrize("name", ["plain", "with space", "tab\tand\nline", "back\\slash", "ü", "\udcff\udcfe"])
@root_only
def test_escaped_names_are_found_again(tmp_path, name):
    path = tmp_path / name
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    try:
        found = place.find(str(path))
        assert found is not None
        assert found.path == str(path)
        assert found.fs_type == "tmpfs"
    finally:
        place.unmount(str(path))
    assert place.find(str(path)) is None


@pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS or "")
@pytest.mark.parametrize("name", ["ü", "日本 a", "tab\tand\nline", "comma,back\\slash", "\udcff\udcfe", "oct\\040al"])
def test_a_volume_is_mounted_whatever_its_path_has(tmp_path, name):
    top = tmp_path / name
    (top / "mnt").mkdir(parents=True)
    with vexfs.open(top / "v.vex") as fs, fs.mount(top / "mnt"):
        fs.write_text("a", "x")
        found = place.find(str(top / "mnt"))
        assert found is not None and found.source == str(top / "v.vex")
        assert (top / "mnt/a").read_text() == "x"


def test_symlinks_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    assert place.resolve(str(tmp_path / "link")) == str(tmp_path / "real")
    assert place.resolve("/") == "/"


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no FUSE here")
def test_what_is_fit(tmp_path):
    assert place.check(str(tmp_path), nonempty=False) == str(tmp_path)
    with pytest.raises(NotFound, match="mkdir -p"):
        place.check(str(tmp_path / "no"), nonempty=False)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectory):
        place.check(str(tmp_path / "file"), nonempty=False)
    with pytest.raises(NotEmpty, match="nonempty"):
        place.check(str(tmp_path), nonempty=False)
    assert place.check(str(tmp_path), nonempty=True) == str(tmp_path)


def test_who_uses_a_directory(tmp_path):
    own = Path("/proc/self/comm").read_text().strip()
    (tmp_path / "f").touch()
    assert place.users(str(tmp_path)) == []
    user = subprocess.Popen(["sleep", "600"], cwd=tmp_path)
    try:
        until(lambda: place.users(str(tmp_path)) != [(user.pid, own)])  # it gets its name when it is told to be begun
        assert place.users(str(tmp_path)) == [(user.pid, "sleep")]
        assert place.users(str(tmp_path)[:-1]) == []
        with open(tmp_path / "f"):
            assert {pid for pid, _ in place.users(str(tmp_path))} == {user.pid, os.getpid()}
    finally:
        user.kill()
        user.wait()


def test_unmounting_nothing(tmp_path):
    with pytest.raises(InvalidArgument, match="nothing is mounted"):
        place.unmount(str(tmp_path))


def test_allow_other_without_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    place.check_allow_other(frozenset({"ro"}))
    with open("/etc/fuse.conf") if os.path.exists("/etc/fuse.conf") else open(os.devnull) as conf:
        allowed = "user_allow_other" in [line.strip() for line in conf]
    if not allowed:
        with pytest.raises(NotPermitted, match="user_allow_other"):
            place.check_allow_other(frozenset({"ro", "allow_other"}))


@root_only
def test_a_live_filesystem_is_not_stale(tmp_path):
    assert not place.is_stale("/proc")
    assert not place.is_stale(str(tmp_path / "missing"))
