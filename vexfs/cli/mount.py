"""``vexfs mount``, and ``mount.vexfs`` for ``/etc/fstab``."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from vexfs.cli import daemon, output, start
from vexfs.errors import EXIT_USAGE, InvalidArgument, VexfsError, describe, row_of
from vexfs.frontends import fuse
from vexfs.frontends.fuse import mountpoint as place
from vexfs.frontends.fuse.options import ATIME_WORDS, KERNEL_WORDS, MountOptions, split
from vexfs.node.attendance import attended
from vexfs.observe.health import tell_of_writes
from vexfs.volume import Volume

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_S = 0.5
#: What the kernel changes about a mount that is there.
_CHANGEABLE = KERNEL_WORDS - {"allow_other", "allow_root", "nonempty"}

MOUNT_HELP = """\
Examples:
  vexfs mount notes.vex /mnt/notes
  vexfs mount notes.vex /mnt/notes -o ro,allow_other
  vexfs mount notes.vex /mnt/notes --foreground      (Ctrl-C unmounts)

  vexfs mount notes.vex /mnt/notes -o remount,ro     (as mount -o remount,ro /mnt/notes)

In /etc/fstab:
  /srv/notes.vex  /mnt/notes  fuse.vexfs  allow_other,nofail  0  0
"""


def register(subparsers: Any) -> None:
    """Add ``mount``."""
    parser = subparsers.add_parser("mount", help="mount a volume on a directory", epilog=MOUNT_HELP)
    parser.add_argument("volume", help="the volume's directory")
    parser.add_argument("mountpoint", help="an existing, empty directory")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPTION,...", help="mount options")
    parser.add_argument("-f", "--foreground", action="store_true", help="stay in the foreground until unmounted")
    parser.add_argument("--log", metavar="FILE", help="log there instead of to syslog")
    parser.set_defaults(run=mount)


def mount(args: argparse.Namespace) -> int:
    """Mount a volume; return when the mount is ready, or, in the foreground, when it has ended."""
    again, words = _remount_asked(args.options)
    options = fuse.parse(words)
    volume, directory = os.path.abspath(args.volume), place.resolve(args.mountpoint)
    if again:
        _remount(volume, directory, options, words)
        output.emit(args, {"volume": volume, "mountpoint": directory, "remounted": True}, "")
        return 0
    log_file = os.path.abspath(args.log) if args.log else None
    if args.foreground:
        daemon.log_to(log_file, terminal=True)
        shown = {"volume": volume, "mountpoint": directory, "pid": os.getpid()}
        text = f"{volume} is mounted at {directory}; Ctrl-C unmounts it"
        return _serve(volume, directory, options, lambda _: _say(args, shown, text))
    told = daemon.detach(lambda ready: _serve(volume, directory, options, ready), log_file)
    output.emit(args, {"volume": volume, "mountpoint": directory, **told}, "")
    return 0


def _remount_asked(options: list[str]) -> tuple[bool, list[str]]:
    """Whether ``remount`` is among the options, and the others, one by one."""
    words = split(options)
    others = [word for word in words if word != "remount"]
    return len(others) < len(words), others


def _remount(volume: str, directory: str, options: MountOptions, words: list[str]) -> None:
    """Change the kernel's flags of a mount; mount(8) repeats the options that it was made with, and they stay."""
    here = place.find(directory)
    if here is not None and here.fs_type == place.FS_TYPE and os.path.abspath(here.source) != volume:
        raise InvalidArgument.at(f"has {here.source} mounted, not {volume}", directory)
    place.remount(directory, (options.kernel & _CHANGEABLE) | (ATIME_WORDS & set(words)))


def _say(args: argparse.Namespace, data: dict[str, Any], text: str) -> None:
    output.emit(args, data, text)
    sys.stdout.flush()


class _Stopped(BaseException):
    """A signal asked the mount to end."""


class _Stop:
    """Raises ``_Stopped`` at the first signal; while held, as soon as it is released."""

    def __init__(self) -> None:
        self.held = self._asked = False

    def release(self) -> None:
        self.held = False
        if self._asked:
            raise _Stopped

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._asked = True
        if not self.held:
            raise _Stopped


@contextlib.contextmanager
def _stoppable() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield stop
    except _Stopped:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve(volume: str, directory: str, options: MountOptions, ready: Callable[[dict[str, Any]], None]) -> int:
    """Open, mount, and stay until somebody unmounts or a signal comes; then everything is on disk."""
    place.check(directory, nonempty="nonempty" in options.kernel)
    with _stoppable() as stop, Volume.load(volume, read_only=options.read_only, **options.volume) as opened:
        stop.held = True  # in the middle it would leave a mount that nobody knows of, over a volume that closes
        mounted = fuse.mount(opened, directory, options, closes_with_mount=True)
        try:
            with attended(opened):
                stop.release()
                ready({})
                failing = False
                while not mounted.ended.wait(_LOOK_S):  # a signal that comes just before a wait begins does not end it
                    failing = tell_of_writes(opened.filesystem, failing)
        finally:
            mounted.unmount(force=True)
    return 0


def helper(arguments: list[str] | None = None) -> int:
    """``mount.vexfs SOURCE DIRECTORY [-fnrsvw] [-o OPTIONS] [-t TYPE]``, as mount(8) and mount.fuse call it."""
    parser = argparse.ArgumentParser("mount.vexfs", description="Mounts a VexFS volume for mount(8).")
    parser.add_argument("volume")
    parser.add_argument("mountpoint")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPTION,...")
    parser.add_argument("-f", dest="fake", action="store_true", help="check everything, mount nothing")
    parser.add_argument("-r", dest="options", action="append_const", const="ro", help="as -o ro")
    for ignored in "nsvw":
        parser.add_argument(f"-{ignored}", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-t", "-N", dest="ignored", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.foreground, args.log, args.json = False, None, False
    try:
        start.begun()
        again, words = _remount_asked(args.options)
        if not args.fake:
            return mount(args)
        options = fuse.parse(words)
        if again:
            return 0
        place.check(args.mountpoint, nonempty="nonempty" in options.kernel)
        return 0
    except KeyboardInterrupt:
        print("mount.vexfs: interrupted", file=sys.stderr)
        return 8  # as mount(8) has it
    except (VexfsError, OSError) as error:
        print(f"mount.vexfs: {output.printable(' '.join(describe(error).split()))}", file=sys.stderr)
        # mount(8) gives its own meaning to a helper's status: 1 wrong use, 32 the mount failed
        return 1 if row_of(error).exit_code == EXIT_USAGE else 32


def mount_vexfs() -> None:
    """Run ``mount.vexfs``."""
    sys.exit(helper())
