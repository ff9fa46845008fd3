"""The ``fsspec`` frontend: a volume for dask, pandas, pyarrow, zarr and whatever else speaks fsspec.

>>> fs = fsspec.filesystem("vexfs", volume="notes.vex")
>>> pandas.read_csv("vexfs://data/t.csv", storage_options={"volume": "notes.vex"})
>>> fsspec.open("vexfs://data/t.csv::/srv/notes.vex")
>>> fsspec.open("vexfs://data/t.csv", volume="http://node:8080", token="vex_...")
"""

import contextlib
import errno
import io
import os
import stat
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem
from vexfs.frontends.fsspec.reading import CachedReading, Reading

import vexfs
from vexfs.errors import UsageError, from_errno
from vexfs.volume import opened

KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
NODES = ("http", "https")
UNCOMMITTED = ".vexfs-uncommitted-"


class VexFileSystem(AbstractFileSystem):
    """A volume as an fsspec filesystem.

    Parameters
    ----------
    volume : path or Volume
        An open volume, or where one is; it is opened, or shared if this process has it open already.  The address of
        a node (``http://...``) means the volume that it serves.
    fo : path
        The same, as chained URLs give it.
    key_file, read_only, create
        As for :func:`vexfs.open`; a volume is not made unless `create` says so.
    token : str, optional
        As for :func:`vexfs.connect`, of a node.
    """

    protocol = "vexfs"
    root_marker = ""
    async_impl = False

    def __init__(
        self, volume: Any = None, *, fo: Any = None, key_file: Any = None, read_only: bool = False,
        create: bool = False, token: str | None = None, target_protocol: str | None = None,
        target_options: Any = None, **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        place = volume if volume is not None else fo
        if place is None:
            raise UsageError("no volume given; pass volume=, or chain it as vexfs://path::/where/is/notes.vex")
        if target_protocol not in (None, "file", "local"):
            raise UsageError(f"a volume is a directory of the host, not of {target_protocol}")
        self._place, self._token = place, token
        self._options = {"key_file": key_file, "read_only": read_only, "create": create}
        self._opening = threading.Lock()
        self._given = hasattr(place, "filesystem")
        self._owned = False
        self._volume: Any = place if self._given else self._opened()

    def _opened(self) -> Any:
        place = self._place
        if isinstance(place, str) and place.partition("://")[0] in NODES:
            self._owned = True
            return vexfs.connect(place, self._token)
        found = opened(place)
        self._owned = found is None
        return found or vexfs.open(place, **self._options)

    @property
    def volume(self) -> Any:
        """The volume.  One that was closed is opened anew: fsspec keeps this object and gives it out again."""
        if not self._given and self._volume.closed:
            with self._opening:
                if self._volume.closed:
                    self._volume = self._opened()
        return self._volume

    def close(self) -> None:
        """Close the volume if this opened it."""
        if self._owned:
            self._volume.close()

    @property
    def fsid(self) -> str:
        """The volume's identity."""
        return f"vexfs_{getattr(self.volume.about, 'uuid', None) or self.volume.url}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        path = fsspec.utils.stringify_path(path).removeprefix("vexfs://")
        return path.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return {}

    # -- looking

    def _about(self, path: str, found: Any) -> dict[str, Any]:
        kind = stat.S_IFMT(found.st_mode)
        about = {
            "name": path, "size": found.st_size if kind == stat.S_IFREG else 0, "type": KINDS.get(kind, "other"),
            "created": found.st_birthtime, "mtime": found.st_mtime, "ino": found.st_ino, "mode": found.st_mode,
            "uid": found.st_uid, "gid": found.st_gid, "nlink": found.st_nlink, "islink": kind == stat.S_IFLNK,
            "generation": found.generation,
        }  # fmt: skip
        if kind == stat.S_IFLNK:
            about["destination"] = self.volume.readlink(path)
            try:
                there = self.volume.stat(path)
            except OSError:
                return about
            about["type"] = KINDS.get(stat.S_IFMT(there.st_mode), "other")
            about["size"] = there.st_size if about["type"] == "file" else 0
        return about

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """What there is to know of a file; of a symlink, type and size are those of what it leads to."""
        path = self._strip_protocol(path)
        return self._about(path, self.volume.lstat(path))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """The entries of a directory, or the file itself."""
        path = self._strip_protocol(path)
        found = [self.info(path)]
        if found[0]["type"] == "directory":
            prefix, found = f"{path}/" if path else "", []
            for name in sorted(self.volume.listdir(path)):
                with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                    found.append(self.info(prefix + name))
        return found if detail else [one["name"] for one in found]

    def lexists(self, path: str, **kwargs: Any) -> bool:
        """Whether there is something, be it a dangling symlink."""
        return bool(self.volume.exists(self._strip_protocol(path), follow_symlinks=False))

    def created(self, path: str) -> datetime:
        """When the file was made."""
        return datetime.fromtimestamp(self.info(path)["created"], tz=UTC)

    def modified(self, path: str) -> datetime:
        """When the content last changed."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=UTC)

    def ukey(self, path: str) -> str:
        """A key that changes whenever the content does."""
        about = self.info(path)
        return f"{self.fsid}-{about['ino']}-{about['generation']}-{about['mtime']}"  # a crash takes numbers back

    # -- changing

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Make a directory."""
        path = self._strip_protocol(path)
        if self.volume.exists(path):
            raise from_errno(errno.EEXIST, path)
        if create_parents:
            self.volume.makedirs(path)
        else:
            self.volume.mkdir(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and those above it."""
        path = self._strip_protocol(path)
        if path or not exist_ok:
            self.volume.makedirs(path or "/", exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self.volume.rmdir(self._strip_protocol(path))

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        self.volume.remove(self._strip_protocol(path))

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files; directories with all below them when `recursive`."""
        if maxdepth is not None or any(fsspec.core.has_magic(one) for one in _listed(path)):
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for one in _listed(path):
            where = self._strip_protocol(one)
            if not self.volume.isdir(where) or self.volume.islink(where):
                self.volume.remove(where)
            elif not recursive:
                raise from_errno(errno.EISDIR, where, message="is a directory; pass recursive=True")
            elif where:
                self.volume.rmtree(where)
            else:
                self.rm([entry["name"] for entry in self.ls("")], recursive=True)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file, or make the directory that `path1` is."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.volume.isdir(source):
            self.makedirs(target, exist_ok=True)
        else:
            self.makedirs(self._parent(target), exist_ok=True)
            self.volume.copy(source, target)

    def mv(self, path1: str, path2: str, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Move a file or directory in one step; patterns as the base class does."""
        if any(fsspec.core.has_magic(one) for one in (*_listed(path1), *_listed(path2))) or isinstance(path1, list):
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)
            return
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if str(path2).endswith("/") or (self.volume.isdir(target) and not self.volume.isdir(source)):
            target = f"{target}/{source.rsplit('/', 1)[-1]}"
        self.makedirs(self._parent(target), exist_ok=True)
        self.volume.rename(source, target)

    mv_file = mv

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file; one that is there is emptied, or with truncate=False gets new times."""
        path = self._strip_protocol(path)
        if truncate or not self.volume.exists(path):
            self.volume.write_bytes(path, b"")
        else:
            self.volume.touch(path)

    # -- content

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, autocommit: bool = True,
        cache_options: Any = None, cache_type: str | None = None, **kwargs: Any,
    ) -> Any:
        if mode == "rb" and cache_type is None:
            return Reading(self, path, block_size)
        if mode == "rb":
            return CachedReading(self, path, mode, block_size, autocommit, cache_type, cache_options, **kwargs)
        if "r" not in mode:
            self.makedirs(self._parent(path), exist_ok=True)
        buffering = block_size if block_size and block_size > 1 else -1
        if "r" in mode or autocommit:
            return self.volume.open(path, mode, buffering)
        return Uncommitted(self.volume, path, mode)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """A file's content, or the part from `start` to `end`; negative counts from the end."""
        path = self._strip_protocol(path)
        if start is None and end is None:
            content: bytes = self.volume.read_bytes(path)
            return content
        with self.volume.open(path, "rb", 0) as file:
            begin, stop, _ = slice(start, end).indices(file.seek(0, 2))
            file.seek(begin)
            part: bytes = file.read(max(0, stop - begin))
            return part

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        """Put `value` into a file; mode "create" refuses to replace one."""
        path = self._strip_protocol(path)
        if mode == "create":
            self.makedirs(self._parent(path), exist_ok=True)
            with self.volume.open(path, "xb") as file:
                file.write(value)
        else:
            self.volume.write_bytes(path, value)


class Uncommitted(io.BufferedWriter):
    """A file written within a transaction: it takes its place only when the transaction is committed."""

    def __init__(self, volume: Any, path: str, mode: str) -> None:
        directory = os.path.dirname(path)
        self._volume, self.path = volume, path
        self._temporary = os.path.join(directory, f"{UNCOMMITTED}{os.getpid()}-{id(self):x}")
        if "x" in mode and volume.exists(path):
            raise from_errno(errno.EEXIST, path)
        if "a" in mode and volume.exists(path):
            volume.copy(path, self._temporary)
        super().__init__(volume.open(self._temporary, mode.replace("x", "w"), 0))

    def commit(self) -> None:
        """Take the place of whatever is at the path."""
        self.close()
        self._volume.rename(self._temporary, self.path)

    def discard(self) -> None:
        """Leave no trace."""
        self.close()
        self._volume.remove(self._temporary)


def _listed(path: Any) -> Iterable[str]:
    return [str(one) for one in path] if isinstance(path, list | tuple | set) else [str(path)]
