"""The error tree and its table agree with each other and with the built-in errors."""

import errno
import pickle

import pytest

from vexfs import errors


def every_class() -> list[type[errors.VexfsError]]:
    found, todo = [], [errors.VexfsError]
    while todo:
        cls = todo.pop()
        found.append(cls)
        todo += cls.__subclasses__()
    return [cls for cls in found if cls.__module__ == "vexfs.errors"]


def test_every_class_has_a_row() -> None:
    assert set(every_class()) == {row.error for row in errors.TABLE}


@pytest.mark.parametrize("row", errors.TABLE, ids=lambda row: f"{row.error.__name__}-{row.errno}")
def test_row_is_sensible(row: errors.Row) -> None:
    assert row.errno in errno.errorcode
    assert 400 <= row.http_status < 600
    assert row.exit_code in (1, 2, 3)


@pytest.mark.parametrize(
    ("code", "builtin"),
    [
        (errno.ENOENT, FileNotFoundError),
        (errno.EEXIST, FileExistsError),
        (errno.ENOTDIR, NotADirectoryError),
        (errno.EISDIR, IsADirectoryError),
        (errno.EACCES, PermissionError),
        (errno.EPERM, PermissionError),
        (errno.EINVAL, ValueError),
    ],
)
def test_errors_are_the_builtin_ones_too(code: int, builtin: type[Exception]) -> None:
    error = errors.from_errno(-code, "a/b", "c")
    assert isinstance(error, builtin) and isinstance(error, errors.VexfsError)
    assert (error.errno, error.filename, error.filename2) == (code, "a/b", "c")


def test_an_errno_without_a_row_is_kept() -> None:
    error = errors.from_errno(errno.ETXTBSY, b"x")
    assert isinstance(error, errors.FileError)
    assert error.errno == errno.ETXTBSY and error.filename == b"x"


def test_errors_survive_pickling() -> None:
    error = errors.from_errno(errno.ENOENT, "a", "b")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and again.filename == "a" and again.filename2 == "b"


def test_describe_names_the_file_and_the_fault() -> None:
    busy = errors.VolumeBusy.at("is open in process 7", "/srv/a.vex")
    assert errors.describe(busy) == "/srv/a.vex: is open in process 7"
    assert errors.describe(errors.from_errno(errno.EEXIST, "a", "b")) == "a -> b: File exists"
    assert errors.describe(errors.ConfigError("no such key")) == "no such key"
    assert errors.row_of(busy)[1:] == (errno.EBUSY, 423, 3)


def test_a_builtin_error_is_answered_from_its_errno() -> None:
    row = errors.row_of(PermissionError(errno.EACCES, "no"))
    assert (row.http_status, row.exit_code) == (403, 1)


def test_a_message_that_names_the_file_within_is_not_given_the_place_again() -> None:
    within = errors.VolumeDamaged.at("/v.vex/meta.db: truncated", "/v.vex")
    assert errors.describe(within) == "/v.vex/meta.db: truncated"
    assert errors.describe(errors.VolumeDamaged.at("truncated", "/v.vex")) == "/v.vex: truncated"
