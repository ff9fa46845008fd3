"""``.vexfs/index.toml`` on a real mount: made, changed and removed by the shell and by the ways of editors."""

import errno
import os
import shutil
import subprocess
import tomllib

import numpy as np
import pytest
from vexfs.frontends.fuse import virtual

from tests.waiting import until


@pytest.fixture
def box(inside):
    volume, mnt, _ = inside
    (mnt / "box").mkdir()
    return volume, mnt / "box"


def shell(line, cwd, status=0):
    done = subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True)
    assert (done.returncode != 0) == (status != 0), done.stderr
    return done.stderr


def index_of(volume, path):
    return volume.catalog.of(volume.filesystem.resolve(path))


def told(here):
    return tomllib.loads((here / ".vexfs/index.toml").read_text())


def error(here):
    return (here / ".vexfs/index.toml.error").read_text()


def test_a_line_of_shell_makes_an_index(box):
    volume, here = box
    shell("echo 'dim = 4' > .vexfs/index.toml", here)
    assert (index_of(volume, "box").dim, index_of(volume, "box").metric) == (4, "cosine")
    shell("setfattr -n user.vexfs.vector -v 1,2,3,4 a || touch a", here)
    assert told(here)["dim"] == 4 and told(here)["directory"] == "/box"
    assert not (here / ".vexfs/index.toml.error").exists()


def test_programs_that_copy_access_lists_are_content(box):
    volume, here = box
    shell("echo 'dim = 4' > .vexfs/index.toml && mkdir b && echo 'dim = 5' > b/.vexfs/index.toml", here)
    assert shell("sed -i 's/cosine/l2/' .vexfs/index.toml", here) == ""
    assert shell("cp -p .vexfs/index.toml b/.vexfs/index.toml", here) == ""
    assert (index_of(volume, "box/b").dim, index_of(volume, "box/b").metric) == (4, "l2")
    with pytest.raises(OSError) as caught:
        os.setxattr(here / ".vexfs/index.toml", "user.x", b"1")
    assert caught.value.errno == errno.EOPNOTSUPP


def test_lines_one_by_one_no_newline_and_copies(box, tmp_path):
    volume, here = box
    shell("{ echo 'metric = \"l2\"'; echo 'dtype = \"f16\"'; echo 'dim = 8'; } > .vexfs/index.toml", here)
    assert repr(index_of(volume, "box")).endswith("dim=8 l2 f16>")
    os.mkdir(here / "b")
    shell("printf 'dim = 16' > b/.vexfs/index.toml", here)
    assert index_of(volume, "box/b").dim == 16
    (tmp_path / "mine.toml").write_text('dim = 32\nmetric = "euclidean"\n')
    os.mkdir(here / "c")
    shell(f"cp {tmp_path}/mine.toml c/.vexfs/index.toml", here)
    assert (index_of(volume, "box/c").dim, index_of(volume, "box/c").metric) == (32, "l2")
    os.mkdir(here / "d")
    shell("cp c/.vexfs/index.toml d/.vexfs/index.toml", here)  # another directory's, as it is read
    assert (index_of(volume, "box/d").dim, index_of(volume, "box/d").metric) == (32, "l2")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("dim = 0\n", "from 1 to 65536"),
        ("dim = 70000\n", "from 1 to 65536"),
        ("dim = '8'\n", "line 1: dim = '8': a whole number is wanted"),
        ("dim = 8\nmetrik = 'l2'\n", "line 2: metrik is unknown; dim, metric, dtype, rows_in, embedder"),
        ("dim = 8\nmetric = 'l3'\n", "'l3' is unknown; cosine, l2, dot"),
        ("dim = 8\ndtype = 'f64'\n", "'f64' is unknown; f32"),
        ("dim = \n", "is no TOML"),
        ("embedder = 'nobody'\n", "nobody"),
        ("embedder = 'static'\ndim = 3\n", "dim = 3, and the vectors of 'static' have 256"),
        ("dim = 8\n[state]\nmetric = 'l2'\n", "line 3: metric stands below [state]"),
    ],
)
def test_what_makes_no_sense_is_told_and_leaves_the_old_one(box, text, why):
    volume, here = box
    for had in (None, 8):
        if had:
            (here / ".vexfs/index.toml").write_text("dim = 8\n")
        with pytest.raises(OSError) as refused, open(here / ".vexfs/index.toml", "w") as file:
            file.write(text)
            file.flush()
        assert refused.value.errno == errno.EINVAL
        assert why in error(here) and "index.toml.error" in os.listdir(here / ".vexfs")
        assert (index_of(volume, "box") is None) if not had else (index_of(volume, "box").dim == had)
    (here / ".vexfs/index.toml").write_text("dim = 8\n")
    assert not (here / ".vexfs/index.toml.error").exists()


def test_too_little_is_refused_at_the_end(box):
    volume, here = box
    with open(here / ".vexfs/index.toml", "w") as file:
        file.write('metric = "dot"\n')
        file.flush()
        with pytest.raises(OSError) as refused:
            os.fsync(file.fileno())
    assert refused.value.errno == errno.EINVAL and "dim, or embedder, is wanted" in error(here)
    (here / ".vexfs/index.toml").write_text("dim = 3\n")
    shell(": > .vexfs/index.toml", here)  # an empty text drops nothing
    until((here / ".vexfs/index.toml.error").exists)
    assert "says nothing" in error(here) and index_of(volume, "box").dim == 3
    with pytest.raises(OSError) as refused:
        (here / ".vexfs/index.toml").write_bytes(b"#" * 70_000)
    assert refused.value.errno in (errno.EFBIG, errno.EINVAL)


def test_what_can_be_changed_and_what_would_lose_vectors(box, tmp_path_factory):
    volume, here = box
    (here / ".vexfs/index.toml").write_text("dim = 4\n")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    np.save(elsewhere / "a.npy", np.float32([1, 2, 3, 4]))
    shutil.move(elsewhere / "a.npy", here / "a.npy")
    assert len(index_of(volume, "box")) == 1
    (here / ".vexfs/index.toml").write_text('metric = "l2"\n')  # the rest stays as it is
    index = index_of(volume, "box")
    assert (index.dim, index.metric, len(index)) == (4, "l2", 1)
    index.upsert(["b"], np.ones((1, 4)))
    with pytest.raises(OSError):
        (here / ".vexfs/index.toml").write_text('metric = "dot"\n')
    assert "1 vectors were given to files and would be lost" in error(here)
    assert index_of(volume, "box") is index and len(index) == 2
    shell(f"cat .vexfs/index.toml > {elsewhere}/same.toml; cat {elsewhere}/same.toml > .vexfs/index.toml", here)
    assert index_of(volume, "box") is index


def test_text_is_indexed_anew(box):
    volume, here = box
    (here / "a.md").write_text("bright and sour beans\n")
    (here / ".vexfs/index.toml").write_text('embedder = "default"\n')
    assert volume.catalog.ingesting().wait(120) and len(index_of(volume, "box")) == 1
    (here / ".vexfs/index.toml").write_text('embedder = "static"\nmetric = "dot"\n')
    assert index_of(volume, "box").metric == "dot" and index_of(volume, "box").embedder == "static"
    assert volume.catalog.ingesting().wait(120) and len(index_of(volume, "box")) == 1


def test_an_inherited_one_saved_as_it_is_makes_no_other(box):
    volume, here = box
    (here / "below").mkdir()
    (here / ".vexfs/index.toml").write_text("dim = 4\n")
    text = (here / "below/.vexfs/index.toml").read_text()
    (here / "below/.vexfs/index.toml").write_text(text)
    assert len(volume.catalog) == 1
    (here / "below/.vexfs/index.toml").write_text(text.replace("dim = 4", "dim = 5"))
    assert index_of(volume, "box/below").dim == 5 and index_of(volume, "box").dim == 4


def test_as_editors_write(box):
    volume, here = box
    home = here / ".vexfs"
    (home / ".index.toml.swp").write_bytes(b"swap" * 100)
    (home / "new").write_text("dim = 6\n")
    assert (home / "new").read_text() == "dim = 6\n" and "new" in os.listdir(home)
    os.chmod(home / "new", 0o600)
    os.utime(home / "new")
    os.rename(home / "new", home / "index.toml")  # a new file over the old one
    assert index_of(volume, "box").dim == 6 and not (home / "new").exists()
    shell("sed -i 's/dim = 6/dim = 7/' .vexfs/index.toml", here)
    assert index_of(volume, "box").dim == 7
    os.rename(home / "index.toml", home / "index.toml~")  # the old one aside, then a new one in its place
    (home / "index.toml").write_text((home / "index.toml~").read_text().replace("dim = 7", "dim = 9"))
    os.remove(home / "index.toml~")
    assert index_of(volume, "box").dim == 9
    (home / "bad").write_text("dim = x\n")
    with pytest.raises(OSError) as refused:
        os.rename(home / "bad", home / "index.toml")
    assert refused.value.errno == errno.EINVAL and index_of(volume, "box").dim == 9
    os.remove(home / "bad")
    os.remove(home / ".index.toml.swp")
    (here / "own.toml").write_text("dim = 10\n")
    shell("mv own.toml .vexfs/index.toml", here)
    assert index_of(volume, "box").dim == 10 and not (here / "own.toml").exists()
    (here / "big.toml").touch()
    os.truncate(here / "big.toml", 1 << 40)
    with pytest.raises(OSError) as refused:
        os.rename(here / "big.toml", home / "index.toml")
    assert refused.value.errno == errno.EFBIG and index_of(volume, "box").dim == 10
    os.remove(here / "big.toml")
    with pytest.raises(PermissionError):
        (here.parent / ".vexfs/version").write_text("x")
    assert sorted(os.listdir(here)) == []


WAYS = ["install -m 644 new.toml {}", "mv new.toml {}", "cp --remove-destination new.toml {}"]


@pytest.fixture
def long_hidden(monkeypatch):
    """What a process removes is not there for it, for as long as the process may take."""
    monkeypatch.setattr(virtual, "HIDDEN_S", 120.0)


@pytest.mark.usefixtures("long_hidden")
@pytest.mark.parametrize("line", WAYS)
def test_programs_that_remove_what_they_replace(box, tmp_path, line):
    """From another filesystem: the old text is removed, and a file is made that must not be there."""
    volume, here = box
    home = here / ".vexfs/index.toml"
    for dim, name in ((4, "none before"), (5, "one before"), (6, "one above")):
        (tmp_path / "new.toml").write_text(f"dim = {dim}\n")
        place = here / "below/.vexfs/index.toml" if name == "one above" else home
        place.parent.parent.mkdir(exist_ok=True)
        shell(line.format(place), tmp_path)
        assert index_of(volume, place.parent.parent.relative_to(here.parent)).dim == dim, name
        assert tomllib.loads(place.read_text())["dim"] == dim
    assert len(volume.catalog) == 2
    index_of(volume, "box").upsert(["a"], np.ones((1, 5)))
    (tmp_path / "new.toml").write_text("dim = 7\n")
    assert "Operation not permitted" in shell(line.format(home), tmp_path, status=1)
    assert len(index_of(volume, "box")) == 1 and (tmp_path / "new.toml").exists()


@pytest.mark.usefixtures("long_hidden")
def test_a_new_text_is_seen_by_who_removed_the_old_one(box, tmp_path):
    volume, here = box
    home = here / ".vexfs"
    for dim in (4, 5):
        (home / "index.toml").unlink()
        assert not (home / "index.toml").exists()  # for who removed it
        assert "No index" in subprocess.run(["cat", home / "index.toml"], capture_output=True, text=True).stdout
        new = home / "new" if dim == 4 else here / "new"
        new.write_text(f"dim = {dim}\n")
        new.rename(home / "index.toml")
        assert told(here)["dim"] == index_of(volume, "box").dim == dim


def test_removed_it_drops_the_index(box):
    volume, here = box
    (here / "below").mkdir()
    (here / ".vexfs/index.toml").write_text("dim = 4\n")
    shell("rm below/.vexfs/index.toml", here)  # it has none of its own: nothing is dropped
    assert len(volume.catalog) == 1 and tomllib.loads((here / "below/.vexfs/index.toml").read_text())["dim"] == 4
    shell("rm .vexfs/index.toml", here)
    assert len(volume.catalog) == 0 and (here / ".vexfs/index.toml").read_text().startswith("# No index")
    shell("rm .vexfs/index.toml", here)
    assert (here / ".vexfs/index.toml").read_text().startswith("# No index")
    (here / ".vexfs/index.toml").write_text("dim = 4\n")
    index_of(volume, "box").upsert(["a"], np.ones((1, 4)))
    with pytest.raises(PermissionError):
        os.remove(here / ".vexfs/index.toml")
    assert "vexctl index drop /box" in error(here) and len(index_of(volume, "box")) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_only_who_may_write_to_the_directory(shared_disk):
    here = shared_disk.path / "mine"
    here.mkdir()
    os.chown(here, 1234, 1234)
    assert (here / ".vexfs/index.toml").stat().st_uid == 1234
    as_user = ["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups", "sh", "-c"]
    line = "echo 'dim = 4' > .vexfs/index.toml"
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    assert subprocess.run([*as_user, line], cwd=here).returncode == 0 and told(here)["dim"] == 4
    (here / "secret").write_text("dim = 5\n")
    os.chmod(here / "secret", 0o600)
    done = subprocess.run([*as_user, "mv secret .vexfs/index.toml"], cwd=here, capture_output=True)
    assert done.returncode and told(here)["dim"] == 4 and (here / "secret").exists()
    os.remove(here / "secret")
    other = [word.replace("1234", "4321") for word in as_user]
    assert subprocess.run([*other, line], cwd=here, capture_output=True).returncode
