"""Ids with directories in them name files below the index's own directory, and none that a symbolic link leads to."""

import stat
from collections.abc import Iterable

from vexfs._core.fs import Filesystem
from vexfs.errors import InvalidArgument


def straight(filesystem: Filesystem, base: bytes, names: Iterable[bytes]) -> None:
    """Look at the directories in `names`, which stand below `base`.

    Raises
    ------
    InvalidArgument
        One of them is a symbolic link: what lies behind it is no record of this index, and may be of nobody's concern
        who is let into this directory.
    """
    for above in {name.rpartition(b"/")[0] for name in names if b"/" in name}:
        parts = above.split(b"/")
        for k in range(1, len(parts) + 1):
            part = b"/".join(parts[:k])
            try:
                found = filesystem.stat(base + b"/" + part, False)
            except (FileNotFoundError, NotADirectoryError):
                break
            if stat.S_ISLNK(found.st_mode):
                told = "is a symbolic link; an id names a file below the index's own directory"
                raise InvalidArgument.at(told, part.decode("utf-8", "replace"))
