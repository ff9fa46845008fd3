"""Every error of VexFS: one tree, one table.

An error of the filesystem is also the built-in ``OSError`` that a program already catches: ``NotFound`` is a
``FileNotFoundError``.  Each class carries its errno, HTTP status and exit status, so that the mount, the server and
the command line all answer from the same row of ``TABLE``.

Core and frontends raise through :func:`from_errno`; what is about a volume as a whole is raised with :meth:`at`,
whose message says what is wrong and what would be right.
"""

# ruff: noqa: D101 - most classes are explained by their row in TABLE

import errno as _errno
import os
from typing import Any, ClassVar, NamedTuple, Self

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]

EXIT_WANTING = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


class VexfsError(Exception):
    """Base of everything that VexFS raises on purpose."""

    code: ClassVar[int] = _errno.EIO
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = EXIT_WANTING

    @classmethod
    def at(cls, message: str, path: PathLike | None = None, path2: PathLike | None = None) -> Self:
        """An error with a message of its own, about `path` (a host path or one in the volume)."""
        if not issubclass(cls, OSError):
            return cls(f"{os.fsdecode(path)}: {message}" if path is not None else message)
        return cls(cls.code, message, *_places(path, path2))


def _places(path: PathLike | None, path2: PathLike | None) -> tuple[str | bytes | None, ...]:
    """The file names as arguments of ``OSError``, which wants Windows' own error number between them."""
    names = [place if isinstance(place, str | bytes | None) else str(place) for place in (path, path2)]
    return () if path is None else (names[0],) if path2 is None else (names[0], None, names[1])


class FileError(VexfsError, OSError):
    """An operation on a file failed; ``errno``, ``filename`` and ``filename2`` say how and where."""


class NotFound(FileError, FileNotFoundError): ...


class Exists(FileError, FileExistsError): ...


class NotADirectory(FileError, NotADirectoryError): ...


class IsADirectory(FileError, IsADirectoryError): ...


class PermissionDenied(FileError, PermissionError): ...


class NotPermitted(FileError, PermissionError): ...


class NotEmpty(FileError): ...


class NameTooLong(FileError): ...


class SymlinkLoop(FileError): ...


class TooManyLinks(FileError): ...


class InvalidArgument(FileError, ValueError): ...


class CrossesVolumes(FileError): ...


class NoSpace(FileError): ...


class SizeLimitReached(FileError): ...


class FileTooLarge(FileError): ...


class ReadOnly(FileError): ...


class NoAttribute(FileError): ...


class ValueTooLarge(FileError): ...


class Busy(FileError): ...


class NotSupported(FileError): ...


class BadHandle(FileError): ...


class OutOfMemory(FileError, MemoryError): ...


class IoFailed(FileError): ...


class Damaged(FileError):
    """Stored bytes failed their checksum or authentication, or contradict each other."""


class VolumeError(FileError):
    """A volume cannot be opened, created or worked on as a whole."""


class VolumeNotFound(VolumeError, FileNotFoundError): ...


class VolumeExists(VolumeError, FileExistsError): ...


class VolumeBusy(VolumeError):
    """Somebody else has the volume open; the message names the owner and how to reach it."""


class VolumeClosed(VolumeError): ...


class FormatUnknown(VolumeError):
    """Not a volume, or of a format version that this VexFS does not know."""


class VolumeDamaged(Damaged, VolumeError):
    """A file that the volume needs in order to open is missing, truncated or altered."""


class HostUnsuitable(VolumeError):
    """The host filesystem cannot hold a volume safely."""


class KeyMissing(VolumeError):
    """The volume is encrypted and no key file was given, or the key file is not there."""


class KeyWrong(VolumeError):
    """The key file is sound but belongs to something else."""


class KeyFileDamaged(KeyWrong):
    """The key file is not one, is truncated or was altered."""


class ConfigError(VexfsError, ValueError):
    """A configuration or an option is not valid; the message says where and what would be."""


class UsageError(VexfsError, ValueError):
    """A command was given arguments that make no sense together."""


class SearchError(VexfsError):
    """An index, a vector or a search is not as it has to be."""


class IndexMissing(SearchError, LookupError):
    """No index covers the place that was named."""


class IndexClosed(IndexMissing, ValueError):
    """An index is worked with that was dropped, or whose volume was closed."""


class IndexConflict(SearchError, ValueError):
    """An index exists and is not the one that was asked for."""


class VectorInvalid(SearchError, ValueError):
    """A vector cannot be in this index: dimension, values, or what its type can hold."""


class FilterInvalid(SearchError, ValueError):
    """A filter is malformed; the message names the part and what would be right."""


class QueryInvalid(SearchError, ValueError):
    """A search asks for something that cannot be."""


class ModelChanged(SearchError, ValueError):
    """The index was made with another embedding model, or version of it."""


class Unreachable(VexfsError, ConnectionError):
    """No node answers at the given socket or address, or no service; ``again_s``: seconds after which it asked to be
    asked again, 0 where it did not.
    """

    again_s: float = 0.0


class PluginBroken(VexfsError, ImportError):
    """An installed plugin cannot be imported, or failed; the rest of VexFS works without it."""


class Row(NamedTuple):
    """One class and what stands for it in each frontend."""

    error: type[VexfsError]
    errno: int
    http_status: int
    exit_code: int


#: The table.  The first row of an errno is the class that :func:`from_errno` raises.
TABLE: tuple[Row, ...] = (
    Row(NotFound, _errno.ENOENT, 404, EXIT_WANTING),
    Row(Exists, _errno.EEXIST, 409, EXIT_WANTING),
    Row(NotADirectory, _errno.ENOTDIR, 409, EXIT_WANTING),
    Row(IsADirectory, _errno.EISDIR, 409, EXIT_WANTING),
    Row(PermissionDenied, _errno.EACCES, 403, EXIT_WANTING),
    Row(NotPermitted, _errno.EPERM, 403, EXIT_WANTING),
    Row(NotEmpty, _errno.ENOTEMPTY, 409, EXIT_WANTING),
    Row(NameTooLong, _errno.ENAMETOOLONG, 400, EXIT_WANTING),
    Row(SymlinkLoop, _errno.ELOOP, 400, EXIT_WANTING),
    Row(TooManyLinks, _errno.EMLINK, 409, EXIT_WANTING),
    Row(InvalidArgument, _errno.EINVAL, 400, EXIT_USAGE),
    Row(CrossesVolumes, _errno.EXDEV, 400, EXIT_WANTING),
    Row(NoSpace, _errno.ENOSPC, 507, EXIT_WANTING),
    Row(SizeLimitReached, _errno.EDQUOT, 507, EXIT_WANTING),
    Row(FileTooLarge, _errno.EFBIG, 413, EXIT_WANTING),
    Row(ReadOnly, _errno.EROFS, 403, EXIT_WANTING),
    Row(NoAttribute, _errno.ENODATA, 404, EXIT_WANTING),
    Row(ValueTooLarge, _errno.ERANGE, 413, EXIT_WANTING),
    Row(ValueTooLarge, _errno.E2BIG, 413, EXIT_WANTING),
    Row(Busy, _errno.EBUSY, 409, EXIT_WANTING),
    Row(NotSupported, _errno.EOPNOTSUPP, 501, EXIT_WANTING),
    Row(NotSupported, _errno.ENOSYS, 501, EXIT_WANTING),
    Row(BadHandle, _errno.EBADF, 400, EXIT_WANTING),
    Row(OutOfMemory, _errno.ENOMEM, 503, EXIT_WANTING),
    Row(Damaged, _errno.EBADMSG, 500, EXIT_WANTING),
    Row(Damaged, _errno.EUCLEAN, 500, EXIT_WANTING),
    Row(IoFailed, _errno.EIO, 500, EXIT_WANTING),
    Row(VolumeClosed, _errno.ESHUTDOWN, 503, EXIT_UNREACHABLE),
    Row(VolumeNotFound, _errno.ENOENT, 404, EXIT_UNREACHABLE),
    Row(VolumeExists, _errno.EEXIST, 409, EXIT_WANTING),
    Row(VolumeBusy, _errno.EBUSY, 423, EXIT_UNREACHABLE),
    Row(FormatUnknown, _errno.EINVAL, 500, EXIT_WANTING),
    Row(FormatUnknown, _errno.EPROTONOSUPPORT, 500, EXIT_WANTING),
    Row(VolumeDamaged, _errno.EUCLEAN, 500, EXIT_WANTING),
    Row(HostUnsuitable, _errno.EOPNOTSUPP, 500, EXIT_WANTING),
    Row(KeyMissing, _errno.ENOKEY, 500, EXIT_WANTING),
    Row(KeyWrong, _errno.EKEYREJECTED, 500, EXIT_WANTING),
    Row(KeyFileDamaged, _errno.EKEYREJECTED, 500, EXIT_WANTING),
    Row(VolumeError, _errno.EIO, 500, EXIT_WANTING),
    Row(FileError, _errno.EIO, 500, EXIT_WANTING),
    Row(ConfigError, _errno.EINVAL, 400, EXIT_USAGE),
    Row(UsageError, _errno.EINVAL, 400, EXIT_USAGE),
    Row(IndexMissing, _errno.ENOENT, 404, EXIT_WANTING),
    Row(IndexClosed, _errno.ENOENT, 404, EXIT_WANTING),
    Row(IndexConflict, _errno.EEXIST, 409, EXIT_WANTING),
    Row(VectorInvalid, _errno.EINVAL, 422, EXIT_USAGE),
    Row(FilterInvalid, _errno.EINVAL, 400, EXIT_USAGE),
    Row(QueryInvalid, _errno.EINVAL, 400, EXIT_USAGE),
    Row(ModelChanged, _errno.EINVAL, 409, EXIT_WANTING),
    Row(SearchError, _errno.EINVAL, 400, EXIT_WANTING),
    Row(Unreachable, _errno.ECONNREFUSED, 502, EXIT_UNREACHABLE),
    Row(PluginBroken, _errno.ELIBACC, 500, EXIT_WANTING),
    Row(VexfsError, _errno.EIO, 500, EXIT_WANTING),
)

#: Where the system's own words would mislead.
#: Of one file; ``ENOSPC`` as elsewhere, though the disk has room.
TOO_MANY_ATTRIBUTES = "the attributes of a file are too many: 1 MiB in all, and 64 KiB of names, at most"
_TEXTS = {_errno.E2BIG: "the value of an attribute is too large: 64 KiB at most"}

_BY_ERRNO: dict[int, type[VexfsError]] = {}
for _row in reversed(TABLE):
    _row.error.code, _row.error.http_status, _row.error.exit_code = _row.errno, _row.http_status, _row.exit_code
    _BY_ERRNO[_row.errno] = _row.error


def from_errno(
    code: int, path: PathLike | None = None, path2: PathLike | None = None, message: str | None = None
) -> OSError:
    """The error for `code` (positive or negative), ready to raise.

    An errno that has no row becomes a ``FileError`` that keeps it.
    """
    code = abs(code)
    cls: Any = _BY_ERRNO.get(code, FileError)
    if not issubclass(cls, OSError):
        cls = FileError
    text = message or _TEXTS.get(code) or os.strerror(code)
    error: OSError = cls(code, text, *_places(path, path2))
    return error


def row_of(error: BaseException) -> Row:
    """The table's answer for any exception: of its class, else of its errno, else that of ``VexfsError``."""
    if isinstance(error, VexfsError):
        errno = error.errno if isinstance(error, OSError) and error.errno else error.code
        return Row(type(error), errno, error.http_status, error.exit_code)
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        cls = _BY_ERRNO[error.errno]
        return Row(cls, error.errno, cls.http_status, cls.exit_code)
    return TABLE[-1]


#: What to do about errors that the system alone words.
_REMEDIES = {
    _errno.ENOSPC: "; make room on the disk that holds the volume, or what is written beside it, and do it again",
    _errno.EDQUOT: "; the volume has reached its size limit: remove something from it",
}


def describe(error: BaseException) -> str:
    """One line for people: the file first, then what is wrong, and what to do where the system's words do not say."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0, "")
    if remedy and error.strerror == os.strerror(error.errno or 0):
        return _placed(error) + remedy
    return _placed(error)


def _placed(error: OSError) -> str:
    assert error.strerror is not None
    places = [os.fsdecode(p) for p in (error.filename, error.filename2) if isinstance(p, str | bytes | os.PathLike)]
    if len(places) == 1 and error.strerror.startswith(places[0]):
        return error.strerror  # it names the very file within
    return ": ".join([" -> ".join(places), error.strerror]) if places else error.strerror
