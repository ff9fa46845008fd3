"""Path objects in a volume, which behave as ``pathlib.Path`` does on the host.

Each volume has a class of its own made by :func:`bind`, so that whatever ``pathlib`` derives from a path (parents,
joins, new suffixes) stays in that volume, on every version of Python.
"""

import errno
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from pathlib import PurePath, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self

from vexfs._core.fs import Stat
from vexfs.errors import NotPermitted, NotSupported, from_errno

if TYPE_CHECKING:
    from vexfs.frontends.local.attributes import Attributes
    from vexfs.frontends.local.files import Files

AnyPath = str | bytes | PurePath | os.PathLike[str] | os.PathLike[bytes]


#: What is below such a name shows in no listing.
OWN = ".vexfs"


def text(path: AnyPath) -> str:
    """A path as a ``str``; the empty path is the root, as ``Path("")`` is ``.``.

    Raises
    ------
    NotPermitted
        It leads into ``.vexfs``, where a volume keeps what is its own.
    """
    found = plain_text(path)
    if OWN in found and is_own(found):
        raise NotPermitted.at("names under .vexfs are the volume's own", found)
    return found


def is_own(path: str) -> bool:
    """Whether a path leads into ``.vexfs``."""
    return OWN in path.split("/")


def plain_text(path: AnyPath) -> str:
    """As `text`, of any path."""
    if isinstance(path, str):
        return path or "."
    if isinstance(path, PurePath):
        return str(path)
    return os.fsdecode(path) or "."


def bind(files: "Files") -> type["VolumePath"]:
    """The path class of one volume."""
    return type("VolumePath", (VolumePath,), {"_files": files, "__slots__": (), "__module__": __name__})


class VolumePath(PurePosixPath):
    """A path in a volume.  Made by ``volume.path("a/b")``; the methods are those of ``pathlib.Path``.

    It is no path on the host, so ``os`` and the built-in ``open`` refuse it: use its own methods, or mount the volume.
    """

    __slots__ = ()
    _files: "Files"

    def __fspath__(self) -> NoReturn:
        raise TypeError(f"{str(self)!r} lies in a volume, not on the host: use its .open(), or mount the volume")

    def __bytes__(self) -> bytes:
        return os.fsencode(str(self))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, VolumePath) and other._files is not self._files:
            return False
        return super().__eq__(other)

    def __hash__(self) -> int:
        return super().__hash__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a path of an open volume cannot be pickled: pickle str(path)")

    @property
    def _fs(self) -> Any:
        return self._files.filesystem

    # -- looking

    def stat(self, *, follow_symlinks: bool = True) -> Stat:
        """As ``Path.stat``."""
        return self._files.stat(self, follow_symlinks)

    def lstat(self) -> Stat:
        """As ``Path.lstat``."""
        return self._files.stat(self, False)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is something here."""
        return self._files.exists(self, follow_symlinks)

    def _is(self, kind: int) -> bool:
        return self._files._kind(self) == kind

    def is_dir(self) -> bool:
        """Whether this is, or leads to, a directory."""
        return self._is(stat.S_IFDIR)

    def is_file(self) -> bool:
        """Whether this is, or leads to, a regular file."""
        return self._is(stat.S_IFREG)

    def is_symlink(self) -> bool:
        """Whether this is a symlink."""
        return self._files.islink(self)

    def is_fifo(self) -> bool:
        """Whether this is a FIFO."""
        return self._is(stat.S_IFIFO)

    def is_socket(self) -> bool:
        """Whether this is a socket."""
        return self._is(stat.S_IFSOCK)

    def is_block_device(self) -> bool:
        """Whether this is a block device."""
        return self._is(stat.S_IFBLK)

    def is_char_device(self) -> bool:
        """Whether this is a character device."""
        return self._is(stat.S_IFCHR)

    def is_mount(self) -> bool:
        """Whether this is the root of the volume."""
        return self.is_dir() and self.stat().st_ino == self._fs.resolve("/")

    def samefile(self, other: AnyPath) -> bool:
        """Whether both lead to one file."""
        if isinstance(other, VolumePath) and other._files is not self._files:
            return False
        return self.stat().st_ino == self._files.stat(other).st_ino

    def owner(self) -> str:
        """The owner's name on this host."""
        return pwd.getpwuid(self.stat().st_uid).pw_name

    def group(self) -> str:
        """The group's name on this host."""
        import grp

        return grp.getgrgid(self.stat().st_gid).gr_name

    def iterdir(self) -> Iterator[Self]:
        """The paths in this directory, in no order."""
        return iter([self / name for name in self._files.listdir(self)])

    def glob(self, pattern: str) -> Iterator[Self]:
        """The paths below that match."""
        return (type(self)(found) for found in self._files.glob(pattern, self))

    def rglob(self, pattern: str) -> Iterator[Self]:
        """The paths at any depth below that match."""
        return self.glob(f"**/{pattern}")

    def walk(
        self, top_down: bool = True, on_error: Callable[[OSError], Any] | None = None, follow_symlinks: bool = False
    ) -> Iterator[tuple[Self, list[str], list[str]]]:
        """As ``Path.walk``."""
        for directory, directories, others in self._files.walk(self, top_down, on_error, follow_symlinks):
            yield type(self)(directory), directories, others

    def absolute(self) -> Self:
        """The path from the volume's root, not looked at."""
        return self if self.is_absolute() else type(self)("/", self)

    def resolve(self, strict: bool = False) -> Self:
        """The path from the volume's root without symlinks and ``..``."""
        return type(self)(self._resolved(str(self.absolute()), strict))

    def _resolved(self, path: str, strict: bool) -> str:
        done, todo, links = "/", [part for part in path.split("/") if part][::-1], 0
        while todo:
            part = todo.pop()
            if part in (".", ".."):
                done = done if part == "." else os.path.dirname(done)
                continue
            here = os.path.join(done, part)
            kind = self._files._kind(here, False)
            if kind == 0 and strict:
                raise from_errno(errno.ENOENT, str(self))
            if kind == stat.S_IFLNK:
                links += 1
                if links > 40:
                    raise from_errno(errno.ELOOP, str(self))
                target = self._files.readlink(here)
                done = "/" if target.startswith("/") else done
                todo += [part for part in target.split("/") if part][::-1]
            else:
                done = here
        return done

    def readlink(self) -> Self:
        """What this symlink says."""
        return type(self)(self._files.readlink(self))

    # -- content

    def open(
        self, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """As ``Path.open``; text is UTF-8 by default."""
        return self._files.open(self, mode, buffering, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        """The content."""
        return self._files.read_bytes(self)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The content as text."""
        return self._files.read_text(self, encoding, errors)

    def write_bytes(self, data: Any) -> int:
        """Create or replace the content; the directory must be there, as for ``Path.write_bytes``."""
        return self._files._write_file(str(self), data)

    def write_text(
        self, data: str, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None
    ) -> int:
        """Create or replace the content with text; the directory must be there."""
        with self.open("w", encoding=encoding, errors=errors, newline=newline) as file:
            return file.write(data)

    @property
    def attributes(self) -> "Attributes":
        """The attributes as a mapping with JSON types."""
        return self._files.attributes(self)

    # -- changing

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """As ``Path.mkdir``."""
        if parents:
            self._files.makedirs(self, mode, exist_ok)
            return
        try:
            self._files.mkdir(self, mode)
        except FileExistsError:
            if not exist_ok or not self.is_dir():
                raise

    def rmdir(self) -> None:
        """Remove this empty directory."""
        self._files.rmdir(self)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove this file's name."""
        try:
            self._files.remove(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: AnyPath) -> Self:
        """Move to `target`, and answer its path."""
        self._files.rename(self, target)
        return type(self)(text(target))

    replace = rename

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file, or set the times to now."""
        self._files.touch(self, mode, exist_ok)

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Set the permission bits."""
        self._files.chmod(self, mode, follow_symlinks)

    def lchmod(self, mode: int) -> None:
        """Set the permission bits of this itself; a symlink has none."""
        self._files.chmod(self, mode, False)

    def symlink_to(self, target: AnyPath, target_is_directory: bool = False) -> None:
        """Make this a symlink that says `target`."""
        self._files.symlink(target, self)

    def hardlink_to(self, target: AnyPath) -> None:
        """Make this a second name of the file `target`."""
        self._files.link(target, self)

    def expanduser(self) -> NoReturn:
        """Refused: a volume has no home directories."""
        raise NotSupported.at("a volume has no home directories", str(self))

    def as_uri(self) -> NoReturn:
        """Refused: ``file://`` would lead to a file of the host."""
        raise NotSupported.at("lies in a volume, file:// does not reach it; fsspec has vexfs://PATH::VOLUME", str(self))
