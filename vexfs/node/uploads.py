"""Where files are gathered that are not yet whole: in the hidden directory, which no listing and no index sees.

A file is renamed to its place when all of it is there.  What a killed node left behind is removed by the next one:
a volume has one owner, so that nobody else can be writing there.
"""

import contextlib
import os
import secrets

from vexfs._core import rows
from vexfs._core.fs import Filesystem

DIRECTORY = ".vexfs/uploads"


def begin(filesystem: Filesystem) -> tuple[str, int]:
    """A new file: its path, and its inode number, which is open for writing."""
    rows.hidden(filesystem)
    path = f"{DIRECTORY}/{secrets.token_hex(8)}"
    with contextlib.suppress(FileExistsError):
        filesystem.mkdir(DIRECTORY, 0o700)  # so that nobody else gets at files of whatever mode
    return path, filesystem.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)


def sweep(filesystem: Filesystem) -> int:
    """Remove what is there; how many files.  Only for who has just opened the volume."""
    try:
        names = [name for name, _, _ in filesystem.scandir(DIRECTORY)]
    except FileNotFoundError:
        return 0
    for name in names:
        filesystem.unlink(f"{DIRECTORY}/".encode() + name)
    return len(names)
