"""The attributes of one file as a mapping: its ``user.`` xattrs with the types of their JSON scalars."""

import errno
import os
from collections.abc import Iterator, MutableMapping
from typing import Any

from vexfs._core.fs import Filesystem
from vexfs.store.attributes import PREFIX, RESERVED, Scalar, decode, encode


class Attributes(MutableMapping[str, Scalar]):
    """A live view: reads and writes go to the file at once.

    ``fs.attributes("a.txt")["year"] = 2020`` is what filters see as ``{"year": 2020}``.
    """

    def __init__(self, filesystem: Filesystem, path: str) -> None:
        self._filesystem, self._path = filesystem, path

    @staticmethod
    def _raw(name: str) -> bytes:
        if not isinstance(name, str) or not name:
            raise KeyError(name)
        raw = PREFIX + os.fsencode(name)
        if raw.startswith(RESERVED):
            raise KeyError(f"{name}: names that begin with 'vexfs.' are VexFS's own")
        return raw

    def __getitem__(self, name: str) -> Scalar:
        try:
            return decode(self._filesystem.getxattr(self._path, self._raw(name)))
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ERANGE):
                raise KeyError(name) from None
            raise

    def __setitem__(self, name: str, value: Any) -> None:
        self._filesystem.setxattr(self._path, self._raw(name), encode(value))

    def __delitem__(self, name: str) -> None:
        try:
            self._filesystem.removexattr(self._path, self._raw(name))
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ERANGE):
                raise KeyError(name) from None
            raise

    def __iter__(self) -> Iterator[str]:
        for raw in self._filesystem.listxattr(self._path):
            if raw.startswith(PREFIX) and not raw.startswith(RESERVED):
                yield os.fsdecode(raw[len(PREFIX) :])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Attributes({dict(self)!r})"
