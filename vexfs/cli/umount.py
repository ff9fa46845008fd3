"""``vexfs umount``: returns when everything is on disk."""

import argparse
import contextlib
import errno
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vexfs.cli import output
from vexfs.errors import InvalidArgument, from_errno
from vexfs.frontends.fuse import mountpoint as place
from vexfs.store import lock

#: Before it is told that the volume is still open, and where.
PATIENCE_S = 5
HELP = """\
Example: vexfs umount /mnt/notes

Returns when everything is on disk and the volume is closed.  A mount whose process has died is removed, too.
"""


def register(subparsers: Any) -> None:
    """Add ``umount``."""
    parser = subparsers.add_parser("umount", help="unmount a volume and wait until it is closed", epilog=HELP)
    parser.add_argument("mountpoint")
    parser.add_argument("-l", "--lazy", action="store_true", help="detach now, though programs still use it")
    parser.set_defaults(run=umount)


def umount(args: argparse.Namespace) -> int:
    """Unmount a volume and wait until its process has closed it."""
    directory = place.resolve(args.mountpoint)
    here = place.find(directory)
    if here is None:
        raise InvalidArgument.at("nothing is mounted there", directory)
    if here.fs_type != place.FS_TYPE:
        raise InvalidArgument.at(f"has a {here.fs_type} filesystem mounted, not a volume; use umount", directory)
    _leave(directory)
    stale = place.is_stale(directory)
    if not stale and not args.lazy:
        _written(directory)
    with _process_of(here) as process:
        place.unmount(directory, lazy=stale or args.lazy)
        closed = stale
        if others := place.also_at(here.device):
            print(f"vexfs: {directory}: unmounted; the volume is mounted at {others[0]} still", file=sys.stderr)
        elif process is not None and not args.lazy:
            closed = bool(select.select([process], [], [], PATIENCE_S)[0])
            if not closed and (elsewhere := place.elsewhere(here.device)):
                who = ", ".join(map(str, elsewhere))
                told = f"vexfs: {directory}: unmounted here; waiting for other mount namespaces (containers) that have "
                print(f"{told}it still: those of process {who}; end these", file=sys.stderr, flush=True)
            closed = closed or bool(select.select([process], [], [])[0])
    text = f"removed the stale mount of {here.source}" if stale else ""
    output.emit(args, {"volume": here.source, "mountpoint": directory, "stale": stale, "closed": closed}, text)
    return 0


def _leave(directory: str) -> None:
    """Be no user of the mount oneself: the shell that started us there is named, if it stays."""
    try:
        here = os.getcwd()
    except OSError:  # behind a stale mount, or removed
        here = directory
    if f"{here}/".startswith(f"{directory.rstrip('/')}/"):
        os.chdir("/")


def _written(directory: str) -> None:
    """Have everything written while the mount can still say that it cannot be, and nothing is lost yet.

    Raises
    ------
    FileError
        The host refuses to take it.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # not ours to look into, as root's way to a mount of somebody else
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            return
        raise from_errno(
            error.errno, directory,
            message=f"is still mounted, because not everything can be written: {error.strerror}; "
                    "mend that (make room on the host), or lose what was not written with --lazy",
        ) from None  # fmt: skip
    finally:
        os.close(fd)


@contextlib.contextmanager
def _process_of(here: place.Mounted) -> Iterator[int | None]:
    """A descriptor, readable when the process behind a mount has ended; None if that lives on or is not known."""
    try:
        with open(os.path.join(here.path, ".vexfs", "status"), encoding="utf-8", errors="replace") as status:
            told = dict(line.rstrip("\n").split(": ", 1) for line in status if ": " in line)
    except OSError:  # not ours to look into
        told = lock.owner(Path(here.source)) or {}
        told = told if told.get("mountpoint") == here.path else {}
    process = None
    if told.get("closes_with_mount") == "yes":
        with contextlib.suppress(OSError, ValueError):
            process = os.pidfd_open(int(told["pid"]))
    try:
        yield process
    finally:
        if process is not None:
            os.close(process)
