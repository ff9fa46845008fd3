"""The tour behind ``make demo``: a volume is created, filled, mounted, worked on by ordinary programs, and checked.

Every step is a command that you could type; it is printed with what it answered and how long it took.  Everything
happens in one temporary directory, which is removed at the end.  Exit status 0 when every step did what it should.
"""

import argparse
import hashlib
import os
import shlex
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

BIN = Path(sys.executable).parent
TREES = ("/usr/share/doc", "/usr/share/man", os.path.dirname(os.__file__))
ENOUGH = 2 << 20
GIT_SETTINGS = "[user]\nname = Demo\nemail = demo@example.org\n[init]\ndefaultBranch = main\n[safe]\ndirectory = *\n"


class Failed(Exception):
    """A step did not do what it should; the message says what it did."""


class Tour:
    """Prints and times the steps, and keeps what has to be undone."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.mounted: Path | None = None
        settings = base / "gitconfig"
        settings.write_text(GIT_SETTINGS)
        self.environment = {
            **os.environ, "PATH": f"{BIN}:{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": str(settings), "GIT_CONFIG_NOSYSTEM": "1",
        }  # fmt: skip

    def chapter(self, title: str) -> None:
        """Start a part of the tour."""
        print(f"\n== {title}", flush=True)

    def say(self, text: str, since: float | None = None) -> None:
        """One line about what happened, and how long it took."""
        took = f"  ({time.perf_counter() - since:.2f} s)" if since is not None else ""
        print(f"   {text}{took}", flush=True)

    def run(self, *command: str | Path, show: int = 6, cwd: Path | None = None) -> str:
        """Run a command, show it, its time and the first `show` lines of its output; answer all of that output."""
        words = [str(word) for word in command]
        print(f"$ {self.short(shlex.join(words))}", flush=True)
        start = time.perf_counter()
        result = subprocess.run(words, capture_output=True, text=True, errors="replace", cwd=cwd, env=self.environment)
        took = time.perf_counter() - start
        lines = result.stdout.splitlines()
        for line in lines[:show]:
            print(textwrap.indent(self.short(line), "   "))
        if len(lines) > show > 0:
            print(f"   ... {len(lines) - show} more lines")
        print(f"   ({took:.2f} s)", flush=True)
        if result.returncode:
            told = self.short(result.stderr.strip() or result.stdout[-2000:])
            raise Failed(f"exit status {result.returncode}: {told}")
        return result.stdout

    def short(self, text: str) -> str:
        """Paths as they would be typed in the demo's directory."""
        return text.replace(f"{self.base}/", "")


def fingerprint(top: Path) -> dict[str, tuple[object, ...]]:
    """What every file below `top` is: kind, permissions, time of change, and a checksum of the content or target."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, subdirectories, names in os.walk(top):
        for name in [*subdirectories, *names]:
            path = Path(directory, name)
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            else:
                content = ""
            found[str(path.relative_to(top))] = (stat.filemode(status.st_mode), status.st_mtime_ns, content)
    return found


def compare(tour: Tour, wanted: dict[str, tuple[object, ...]], top: Path) -> None:
    """Say that the tree at `top` is the wanted one, or raise with the first differences."""
    start = time.perf_counter()
    got = fingerprint(top)
    wrong = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
    if wrong:
        shown = "\n".join(f"{name}: was {wanted.get(name)}, is {got.get(name)}" for name in wrong[:5])
        raise Failed(f"{len(wrong)} of {len(wanted)} files differ:\n{shown}")
    tour.say(f"{len(got)} names, modes, times and SHA-256 checksums are those of the original", start)


def size_of(tree: str) -> int:
    """Bytes of the regular files below `tree`."""
    paths = (Path(directory, name) for directory, _, names in os.walk(tree) for name in names)
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())


def choose_tree() -> str:
    """The first directory of documents on this machine that is worth importing."""
    for tree in TREES:
        if size_of(tree) >= ENOUGH:
            return tree
    return TREES[-1]


def why_no_mount() -> str:
    """Why nothing can be mounted here; empty when it can."""
    if not os.path.exists("/dev/fuse"):
        return "this machine has no /dev/fuse"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened by this user"
    if not shutil.which("fusermount") and not shutil.which("fusermount3"):
        return "fusermount is not installed (Debian: apt-get install fuse)"
    try:
        import llfuse  # noqa: F401
    except ImportError:
        return "llfuse is not installed in this environment (pip install 'vexfs[fuse]')"
    return ""


def work_on_the_mount(tour: Tour, top: Path) -> None:
    """What a person does with a directory: look, search, copy, pack, keep under version control, keep a database."""
    tour.run("ls", "-l", top / "docs", show=4)
    tour.run("df", "-h", top)
    tour.run("grep", "-rlis", "filesystem", top / "docs", show=3)
    tour.run("cp", "-a", top / "docs", top / "copy")
    tour.run("diff", "-r", "--no-dereference", top / "docs", top / "copy")
    tour.run("tar", "-C", top, "-czf", top / "copy.tar.gz", "copy")
    tour.run("mkdir", top / "unpacked")
    tour.run("tar", "-C", top / "unpacked", "-xzf", top / "copy.tar.gz")
    tour.run("diff", "-r", "--no-dereference", top / "docs", top / "unpacked" / "copy")
    if shutil.which("git"):
        repository = top / "unpacked"
        tour.run("git", "init", "-q", repository)
        tour.run("git", "-C", repository, "add", "-A")
        tour.run("git", "-C", repository, "commit", "-qm", "All documents")
        tour.run("git", "-C", repository, "fsck", "--full", "--no-progress")
    else:
        tour.say("git is not installed: skipped")
    use_database(tour, top / "catalogue.db", top / "docs")
    tour.run("rm", "-r", top / "copy", top / "unpacked", top / "copy.tar.gz")


def use_database(tour: Tour, path: Path, docs: Path) -> None:
    """A SQLite database with a write-ahead log, on the mount."""
    start = time.perf_counter()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE file (name TEXT PRIMARY KEY, size INTEGER)")
        rows = ((str(p.relative_to(docs)), p.lstat().st_size) for p in docs.rglob("*"))
        database.executemany("INSERT INTO file VALUES (?, ?)", rows)
    (count,) = database.execute("SELECT count(*) FROM file").fetchone()
    (sound,) = database.execute("PRAGMA integrity_check").fetchone()
    database.close()
    if sound != "ok":
        raise Failed(f"sqlite3 found the database damaged: {sound}")
    tour.say(f"sqlite3: {count} rows in a database on the mount, WAL journal, integrity_check {sound}", start)


def work_in_process(tour: Tour, volume: Path) -> None:
    """The same volume from Python, without a mount."""
    import vexfs

    start = time.perf_counter()
    with vexfs.open(volume) as fs:
        fs.write_text("notes/hello.txt", "Light roasts keep acidity.\n")
        with fs.open("notes/log.txt", "a") as log:
            log.write("one line\n")
            log.write("and another\n")
        fs.rename("notes/hello.txt", "notes/roasts.txt")
        names = sorted(path.name for path in fs.path("notes").iterdir())
        text = fs.read_text("notes/roasts.txt")
    if names != ["log.txt", "roasts.txt"] or not text.startswith("Light roasts"):
        raise Failed(f"found {names} and {text!r} in notes/")
    tour.say(f"vexfs.open: wrote, appended, renamed and listed {names}", start)


def search(tour: Tour, volume: Path, tree: str) -> None:
    """Some of the documents indexed and searched, from the shell and from Python."""
    import numpy as np

    import vexfs

    some = sorted((d for d in Path(tree).iterdir() if d.is_dir() and not d.is_symlink()), key=lambda d: d.name)[:60]
    place = tour.base / "some"
    place.mkdir()
    for each in some:
        shutil.copytree(each, place / each.name, symlinks=True, ignore_dangling_symlinks=True)
    tour.run("vexfs", "import", place, f"{volume}:/found", "--index")
    shutil.rmtree(place)
    tour.run("vexctl", "search", "permission to use, copy and distribute this software", "--k", "3", "--volume", volume,
             show=8)  # fmt: skip
    start = time.perf_counter()
    with vexfs.open(volume) as fs:
        x = np.random.default_rng(1).standard_normal((5000, 128)).astype(np.float32)
        papers = fs.index("papers", dim=128)
        papers.upsert([f"p{k:04d}" for k in range(5000)], x, {"year": [1990 + k % 30 for k in range(5000)]})
        hit = papers.query(x[17], k=1, where={"year": 1990 + 17})[0]
        fs.drop_index("found")
        fs.rmtree("found")
        fs.rmtree("papers")
    if hit.id != "p0017":
        raise Failed(f"{hit} was found for the vector of p0017")
    tour.say("5,000 records with vectors of 128 numbers put and searched with a filter: the right one is first", start)


def mount_and_work(tour: Tour, volume: Path, original: dict[str, tuple[object, ...]]) -> None:
    """Mount the volume, compare the tree, work, unmount."""
    top = tour.base / "mnt"
    top.mkdir()
    tour.chapter("Mount it, and work on it with ordinary programs")
    tour.run("vexfs", "mount", volume, top)
    tour.mounted = top
    compare(tour, original, top / "docs")
    work_on_the_mount(tour, top)
    compare(tour, original, top / "docs")
    tour.run("vexfs", "umount", top)
    tour.mounted = None


def tour_of(base: Path, tree: str, obstacle: str) -> None:
    """All of it, in `base`; the mount unless there is an obstacle to it."""
    tour = Tour(base)
    volume = base / "demo.vex"
    try:
        tour.chapter("Create a volume: one directory that holds everything")
        tour.run("vexctl", "volume", "create", volume)

        tour.chapter("Import a tree of documents")
        start = time.perf_counter()
        original = fingerprint(Path(tree))
        tour.say(f"{tree}: {len(original)} files and directories, {size_of(tree) >> 20} MiB; checksums taken", start)
        tour.run("vexfs", "import", tree, f"{volume}:/docs")

        tour.chapter("Find files by what they say, and by vectors")
        search(tour, volume, tree)

        if obstacle:
            tour.chapter("Mount it")
            tour.say(f"Not here: {obstacle}.  Going on in process.")
        else:
            mount_and_work(tour, volume, original)

        tour.chapter("Work on it from Python, without a mount")
        work_in_process(tour, volume)

        tour.chapter("Check it, open it again, and compare every byte with the original")
        tour.run("vexctl", "volume", "fsck", volume)
        tour.run("vexctl", "volume", "info", volume, show=30)
        tour.run("vexfs", "export", f"{volume}:/docs", base / "exported")
        compare(tour, original, base / "exported")
    finally:
        if tour.mounted:
            subprocess.run([BIN / "vexfs", "umount", tour.mounted], capture_output=True)


def main() -> int:
    """Entry point of ``make demo``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", help="the documents to import (default: the documentation on this machine)")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="work in DIR, which must not exist, and leave it")
    parser.add_argument("--no-mount", action="store_true", help="stay in process, as where nothing can be mounted")
    args = parser.parse_args()
    start = time.perf_counter()
    if args.keep:
        args.keep.mkdir(parents=True)
    base = (args.keep or Path(tempfile.mkdtemp(prefix="vexfs-demo-"))).resolve()
    print(f"A tour of VexFS, in {base}")
    try:
        obstacle = "it was not asked for" if args.no_mount else why_no_mount()
        tour_of(base, args.tree or choose_tree(), obstacle)
    except Failed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    finally:
        if not args.keep and not os.path.ismount(base / "mnt"):
            shutil.rmtree(base, ignore_errors=True)
    print(f"\nAll of it worked, in {time.perf_counter() - start:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
