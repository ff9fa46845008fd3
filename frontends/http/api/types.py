"""Types of bodies that several handlers share."""

from typing import Any

import msgspec

Scalar = str | int | float | bool | None


class FileInfo(msgspec.Struct, omit_defaults=True):
    """What is known of a file, directory or link."""

    path: str
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    etag: str
    target: str | None = None
    attributes: dict[str, Scalar] | None = None


class Entry(msgspec.Struct, omit_defaults=True):
    """One entry of a directory; ``raw`` is the name in base64 where it is not UTF-8."""

    name: str
    kind: str
    size: int
    mtime_ns: int
    raw: str | None = None


class Listing(msgspec.Struct, omit_defaults=True):
    """A page of a directory, by name; ``cursor`` asks for the next one."""

    path: str
    entries: list[Entry]
    cursor: str | None = None


class ProblemBody(msgspec.Struct, omit_defaults=True):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str | None = None
    errno: int | None = None


class Done(msgspec.Struct):
    """How many were changed."""

    count: int


class Fault(msgspec.Struct):
    """What was wrong with one record, or ended work: ``error`` and ``errno`` as in a problem."""

    error: str
    errno: int
    detail: str


class Passage(msgspec.Struct, omit_defaults=True):
    """A further passage of the same file."""

    score: float
    distance: float | None = None
    text: str | None = None
    span: tuple[int, int] | None = None
    lines: tuple[int, int] | None = None
    number: int | None = None


class HitBody(msgspec.Struct, omit_defaults=True):
    """One match, best first: ``score`` is larger for better ones, ``number`` says which of the file's vectors it is."""

    path: str
    id: str
    score: float
    distance: float | None = None
    text: str | None = None
    span: tuple[int, int] | None = None
    attributes: dict[str, Any] | None = None
    number: int | None = None
    ino: int | None = None
    lines: tuple[int, int] | None = None
    others: list[Passage] | None = None
