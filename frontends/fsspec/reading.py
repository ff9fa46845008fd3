"""Files opened for reading, with what fsspec's users ask of them beside what Python's files have."""

import contextlib
import io
import threading
from typing import Any

from fsspec.spec import AbstractBufferedFile, reopen

BLOCK_SIZE = 128 << 10


class Reading(io.BufferedReader):
    """A file with Python's own buffer, which knows its size and can be pickled."""

    def __init__(self, fs: Any, path: str, block_size: int | None) -> None:
        self.fs, self.path = fs, path
        self.blocksize = block_size if block_size and block_size > 1 else BLOCK_SIZE
        super().__init__(fs.volume.open(path, "rb", 0), self.blocksize)

    @property
    def size(self) -> int:
        """The file's size, bytes."""
        size: int = self.raw.size  # type: ignore[attr-defined]
        return size

    def __reduce__(self) -> Any:
        return reopen, (self.fs, self.path, "rb", self.blocksize, self.tell(), self.size, True, None, {})


class CachedReading(AbstractBufferedFile):
    """A file behind one of fsspec's caches, as ``cache_type=`` names it and ``blockcache::`` puts in its place."""

    def __init__(self, fs: Any, path: str, mode: str, *args: Any, **kwargs: Any) -> None:
        self._file = fs.volume.open(path, "rb")
        self._moving = threading.Lock()
        super().__init__(fs, path, mode, *args, **kwargs)

    def _fetch_range(self, start: int, end: int) -> bytes:
        with self._moving:  # some caches read ahead by threads
            self._file.seek(start)
            part: bytes = self._file.read(end - start)
            return part

    def close(self) -> None:
        """Give the file back."""
        super().close()
        with contextlib.suppress(OSError):  # nothing was written, and the node may be gone
            self._file.close()
