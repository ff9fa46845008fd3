"""The making of a volume's directory, by a creation, a backup or a restore.

A directory is a volume from the moment that ``volume.toml`` is in it, which is written last.  Until then a mark is
there, locked by whoever works on it: so what a killed process left is told from a directory of somebody's files, and
from work that is still under way; doing the same again clears it away and begins anew.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vexfs.errors import VolumeBusy, VolumeExists
from vexfs.store import volumefile

#: What the making of a volume puts there before ``volume.toml``; ``meta.db`` has companions.
_OURS = frozenset({volumefile.MARK, "segments", "index", "lock", volumefile.NAME + ".new"})
_META = "meta.db"


def unfinished(directory: Path) -> bool:
    """Whether `directory` holds what a creation, a backup or a restore left that did not come to its end."""
    if directory.is_symlink() or not (directory / volumefile.MARK).is_file() or (directory / volumefile.NAME).exists():
        return False
    return all(name in _OURS or name.startswith(_META) for name in os.listdir(directory))


def vacant(directory: Path) -> bool:
    """Whether there is room for a new volume: nothing, an empty directory, or one that was not finished."""
    return not directory.exists() or (
        directory.is_dir() and (not any(directory.iterdir()) or unfinished(directory))
    )  # fmt: skip


@contextlib.contextmanager
def making(directory: Path) -> Iterator[None]:
    """Around the making of a volume in `directory`, which is vacant; what fails leaves nothing behind.

    Raises
    ------
    VolumeBusy
        Another process makes one there at this moment.
    VolumeExists
        Another process has made one there meanwhile.
    """
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    mark = os.open(directory / volumefile.MARK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VolumeBusy.at("another process is making a volume there; wait for it", directory) from None
        if not os.fstat(mark).st_nlink or not unfinished(directory):
            (directory / volumefile.MARK).unlink(missing_ok=True)
            raise VolumeExists.at("another process has made a volume there; give the new one its own path", directory)
        _clear(directory, but=volumefile.MARK)
        volumefile.sync_directory(directory)
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # what cannot be removed still has its mark
                _clear(directory, but=volumefile.MARK)
                _clear(directory)
                if made:
                    directory.rmdir()
            raise
        os.unlink(directory / volumefile.MARK)
    finally:
        os.close(mark)


def _clear(directory: Path, but: str | None = None) -> None:
    for child in directory.iterdir():
        if child.name != but:
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
