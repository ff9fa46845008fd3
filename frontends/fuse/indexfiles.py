"""``DIR/.vexfs/index.toml``: the index that covers a directory, to be read and written; and why a text was refused."""

import errno
from typing import TYPE_CHECKING

from vexfs.frontends.fuse.virtual import Editable, Text

from vexfs.errors import IndexConflict, NotPermitted, VexfsError, describe
from vexfs.search.indexfile import Incomplete, drop_by_file, index_file, put_index_file

if TYPE_CHECKING:
    from vexfs.volume import Volume


class IndexFiles:
    """The files of one mount."""

    def __init__(self, volume: "Volume") -> None:
        self._volume = volume
        self._errors: dict[int, bytes] = {}

    def text(self, directory: int) -> Editable:
        """``index.toml`` of the directory with that inode number."""
        return Editable(
            lambda: index_file(self._volume.catalog, directory),
            lambda text, more: self._put(directory, text, more), lambda: self._drop(directory),
        )  # fmt: skip

    def error(self, directory: int) -> Text | None:
        """``index.toml.error``: there while the last text was refused."""
        told = self._errors.get(directory)
        return None if told is None else Text(lambda: told)

    def _put(self, directory: int, text: bytes, more: bool) -> bool:
        try:
            put_index_file(self._volume.catalog, directory, text)
        except Incomplete as error:
            if more:
                return False
            raise self._refused(directory, error) from None
        except (VexfsError, OSError) as error:
            raise self._refused(directory, error) from None
        self._errors.pop(directory, None)
        return True

    def _refused(self, directory: int, error: Exception) -> OSError:
        self._errors[directory] = f"{describe(error)}\n".encode("utf-8", "surrogateescape")
        if isinstance(error, OSError) and not isinstance(error, VexfsError):
            return error
        return OSError(errno.EINVAL, describe(error))

    def _drop(self, directory: int) -> None:
        # Without an index of its own there is nothing to drop: a program may be about to make the file anew.
        try:
            drop_by_file(self._volume.catalog, directory)
        except IndexConflict as error:
            self._refused(directory, error)
            raise NotPermitted.at(describe(error)) from None
        self._errors.pop(directory, None)
