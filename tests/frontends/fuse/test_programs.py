"""Programs that people run, on a mounted volume."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from vexfs.volume import check


def run(*command, cwd=None, env=None, timeout=280):
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=env, capture_output=True, timeout=timeout, check=False, text=True,
        errors="surrogateescape",
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def plant(top: Path, seed: int = 0) -> None:
    """A tree with what trees have: depth, sizes, modes, links, times, odd names, holes."""
    for i in range(60):
        path = top / f"d{i % 5}" / f"e{i % 3}" / f"file {i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hashlib.sha256(b"%d %d" % (seed, i)).digest() * (i * i))
        os.utime(path, ns=(10**18 + i, 10**18 + 7 * i))
        os.chmod(path, 0o600 + i % 8)
    os.symlink("d0/e0", top / "link")
    os.symlink("nowhere", top / "dangling")
    os.link(top / "d1" / "e1" / "file 1.txt", top / "hard")
    (top / "empty dir").mkdir()
    (top / os.fsdecode(b"\xff not utf-8")).touch()
    with open(top / "sparse", "wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"island")
    (top / "big").write_bytes(os.urandom(3 << 20))


def fingerprint(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that a copy is to keep."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = Path(folder, name)
            info = path.lstat()
            if path.is_symlink():
                content: object = os.readlink(path)
            else:
                content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
            times = None if path.is_symlink() or path.is_dir() else info.st_mtime_ns
            links = info.st_nlink if path.is_file() and not path.is_symlink() else 0
            found[str(path.relative_to(top))] = (
                oct(info.st_mode),
                info.st_size if content else 0,
                links,
                times,
                content,
            )
    return found


@needs("git")
def test_git(disk, tmp_path):
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    # Or a commit may leave a process behind that is at the repository for a while.
    env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "maintenance.auto", "GIT_CONFIG_VALUE_0": "false"}
    env |= {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    repo = disk.path / "repo"
    run("git", "init", "-q", repo, env=env)
    plant(repo / "tree")
    for step in range(5):
        (repo / f"step{step}").write_text(f"{step}\n" * 1000)
        run("git", "add", "-A", cwd=repo, env=env)
        run("git", "commit", "-q", "-m", f"step {step}", cwd=repo, env=env)
    run("git", "gc", "-q", cwd=repo, env=env)
    run("git", "fsck", "--full", "--strict", cwd=repo, env=env)
    run("git", "clone", "-q", repo, disk.path / "clone", env=env)
    run("git", "clone", "-q", repo, tmp_path / "outside", env=env)
    assert run("git", "status", "--porcelain", cwd=disk.path / "clone", env=env) == ""
    disk.unmount()
    disk.mount()
    run("git", "fsck", "--full", "--strict", cwd=repo, env=env)
    assert run("git", "rev-parse", "HEAD", cwd=repo, env=env) == run(
        "git", "rev-parse", "HEAD", cwd=tmp_path / "outside", env=env
    )


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_sqlite(disk, journal):
    path = disk.path / "db"
    with sqlite3.connect(path, isolation_level=None) as db:
        assert db.execute(f"PRAGMA journal_mode={journal}").fetchone()[0] == journal.lower()
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
        for batch in range(20):
            db.execute("BEGIN")
            db.executemany("INSERT INTO t (body) VALUES (?)", [(os.urandom(500 + i),) for i in range(100)])
            if batch % 4 == 3:
                db.execute("ROLLBACK")
            else:
                db.execute("COMMIT")
        db.execute("UPDATE t SET body = zeroblob(10) WHERE id % 3 = 0")
        db.execute("DELETE FROM t WHERE id % 5 = 0")
        expected = db.execute("SELECT count(*), sum(length(body)) FROM t").fetchone()
        if journal == "DELETE":
            db.execute("VACUUM")
    db.close()
    disk.unmount()
    disk.mount()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert db.execute("SELECT count(*), sum(length(body)) FROM t").fetchone() == expected
    db.close()


def test_sqlite_with_two_writers(disk):
    path = disk.path / "db"
    sqlite3.connect(path).execute("PRAGMA journal_mode=DELETE").connection.execute(
        "CREATE TABLE t (a)"
    ).connection.close()
    script = "import sqlite3,sys\ndb=sqlite3.connect(sys.argv[1],timeout=120,isolation_level=None)\n"
    script += "for i in range(30): db.execute('INSERT INTO t VALUES (?)',(i,))"
    writers = [subprocess.Popen([sys.executable, "-c", script, path]) for _ in range(2)]
    assert [w.wait(240) for w in writers] == [0, 0]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (60,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_tar(disk, tmp_path):
    (tmp_path / "source").mkdir()
    plant(tmp_path / "source")
    run("tar", "-C", tmp_path / "source", "--format=posix", "-cf", tmp_path / "one.tar", ".")
    (disk.path / "copy").mkdir()
    run("tar", "-C", disk.path / "copy", "-xf", tmp_path / "one.tar")
    assert fingerprint(disk.path / "copy") == fingerprint(tmp_path / "source")
    disk.unmount()
    disk.mount()
    run("tar", "-C", disk.path / "copy", "--format=posix", "-cf", disk.path / "two.tar", ".")
    (tmp_path / "back").mkdir()
    run("tar", "-C", tmp_path / "back", "-xf", disk.path / "two.tar")
    assert fingerprint(tmp_path / "back") == fingerprint(tmp_path / "source")


@needs("rsync")
def test_rsync(disk, tmp_path):
    (tmp_path / "source").mkdir()
    plant(tmp_path / "source")
    run("rsync", "-aHX", f"{tmp_path}/source/", disk.path / "copy")
    assert fingerprint(disk.path / "copy") == fingerprint(tmp_path / "source")
    assert run("rsync", "-aHXni", "--checksum", "--delete", f"{tmp_path}/source/", disk.path / "copy") == ""
    shutil.rmtree(tmp_path / "source" / "d1")
    (tmp_path / "source" / "big").write_bytes(os.urandom((3 << 20) + 1))  # by size: rsync compares times by seconds
    run("rsync", "-aHX", "--delete", "--inplace", f"{tmp_path}/source/", disk.path / "copy")
    assert fingerprint(disk.path / "copy") == fingerprint(tmp_path / "source")


def test_walking_tools_do_not_see_the_virtual_tree(disk, tmp_path):
    plant(disk.path / "tree")
    run("cp", "-a", disk.path, tmp_path / "copy")
    assert ".vexfs" not in os.listdir(tmp_path / "copy")
    assert ".vexfs" not in run("find", disk.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="overlays are mounted by root")
def test_an_overlay_above_the_volume(disk):
    """Both layers on the volume: names that go are whiteouts, what is written goes above."""
    for name in ("lower", "upper", "work", "seen"):
        (disk.path / name).mkdir()
    plant(disk.path / "lower")
    before = fingerprint(disk.path / "lower")
    layers = ",".join(f"{what}dir={disk.path / what}" for what in ("lower", "upper", "work"))
    if subprocess.run(["grep", "-q", "overlay", "/proc/filesystems"], check=False).returncode:
        pytest.skip("the kernel has no overlays")
    seen = disk.path / "seen"
    run("mount", "-t", "overlay", "none", seen, "-o", layers)
    try:
        shutil.rmtree(seen / "d0")
        (seen / "hard").unlink()
        (seen / "big").rename(seen / "bigger")
        (seen / "d1" / "e1" / "file 1.txt").write_text("changed")
        (seen / "d0").mkdir()
        names = sorted(os.listdir(seen))
    finally:
        run("umount", seen)
    assert fingerprint(disk.path / "lower") == before
    assert (disk.path / "upper" / "hard").is_char_device()
    disk.unmount()
    disk.mount()
    run("mount", "-t", "overlay", "none", seen, "-o", layers)
    try:
        assert sorted(os.listdir(seen)) == names
        assert "bigger" in names and not {"big", "hard"} & set(names)
        assert os.listdir(seen / "d0") == []
        assert (seen / "d1" / "e1" / "file 1.txt").read_text() == "changed"
    finally:
        run("umount", seen)
    disk.unmount()
    assert check(disk.volume).sound


@needs("gcc")
def test_a_c_compiler(disk):
    for i in range(20):
        (disk.path / f"part{i}.c").write_text(f"int part{i}(int x) {{ return x + {i}; }}\n")
    calls = " + ".join(f"part{i}({i})" for i in range(20))
    heads = "".join(f"int part{i}(int);" for i in range(20))
    (disk.path / "main.c").write_text(f'#include <stdio.h>\n{heads}\nint main(void) {{ printf("%d\\n", {calls}); }}\n')
    sources = [f"part{i}.c" for i in range(20)] + ["main.c"]
    run("gcc", "-O1", "-c", *sources, cwd=disk.path)
    run("gcc", "-o", "program", *(s.replace(".c", ".o") for s in sources), cwd=disk.path)
    assert run(disk.path / "program") == "380\n"  # runs from the mount: mapped executable


@pytest.mark.parametrize("pip", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["bare", "with pip"])
def test_a_python_environment(disk, pip):
    run(sys.executable, "-m", "venv", *([] if pip else ["--without-pip"]), disk.path / "venv")
    python = disk.path / "venv" / "bin" / "python"
    assert run(python, "-c", "import sys; print(sys.prefix)").strip() == str(disk.path / "venv")
    if pip:
        run(python, "-m", "pip", "--version")


def test_a_sparse_file_of_5_gib(disk):
    path = disk.path / "sparse"
    with open(path, "wb") as file:
        for gib in range(6):
            file.seek((gib << 30) - (gib > 0) * 10)
            file.write(b"%d" % gib * 20)
    size = path.stat().st_size
    assert size == (5 << 30) + 10
    assert path.stat().st_blocks * 512 < 10 << 20
    disk.unmount()
    disk.mount()
    with open(path, "rb") as file:
        for gib in range(6):
            file.seek((gib << 30) - (gib > 0) * 10)
            assert file.read(20) == b"%d" % gib * 20
        file.seek(123_456_789)
        assert file.read(1 << 20) == b"\0" * (1 << 20)


@pytest.mark.slow
def test_100_000_files_in_a_directory(disk):
    top = disk.path / "many"
    top.mkdir()
    for i in range(100_000):
        os.close(os.open(top / f"file {i:06}", os.O_CREAT | os.O_WRONLY))
    disk.unmount()
    disk.mount()
    names = set()
    with os.scandir(top) as entries:
        for entry in entries:
            assert entry.stat().st_size == 0
            names.add(entry.name)
    assert names == {f"file {i:06}" for i in range(100_000)}
    run("rm", "-r", top)
    assert os.listdir(disk.path) == []
