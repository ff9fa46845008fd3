"""``index.toml``: the index that covers a directory, as text; written, it makes an index or changes one.

What can be changed is what loses nothing: an index in which every vector comes from the content of files is dropped and
made anew from them.  One that holds vectors which somebody gave is left as it is.
"""

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs._core.origin import CONTENT
from vexfs._core.rows import FLAG_SHIFT, INO_MASK
from vexfs.errors import IndexConflict, InvalidArgument
from vexfs.search.description import Description, checked_metric
from vexfs.search.embedders import resolve
from vexfs.search.textindex import create_text_index

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.index import Index

NONE = """\
# No index covers this directory.  To make one, write to this file:
#   embedder = "default"      (text, found by meaning)
#   dim = 384                 (vectors of your own)
#   metric = "cosine"         (or "l2", "dot")
#   dtype = "f32"             (or "f16", "bf16", "i8")
#   rows_in = "memory"        (or "disk")
"""
#: Keys that say what the index is, and what their values are.
_KINDS = {int: "a whole number", str: "a text in quotes"}
KEYS: dict[str, type] = {"dim": int, "metric": str, "dtype": str, "rows_in": str, "embedder": str}
#: What is told and cannot be set.
STATE = ("files", "passages", "out_of_date", "memory_bytes")


class Incomplete(InvalidArgument):
    """The text says nothing wrong, but not yet enough to make an index."""


def index_file(catalog: "Catalog", directory: int) -> bytes:
    """The text for the directory with that inode number."""
    index = catalog.covering(directory)
    if index is None:
        return NONE.encode()
    stats = index.table.stats()
    lines = [
        f"directory = {json.dumps(index.path)}",
        *(f"{key} = {json.dumps(value)}" for key, value in _settings(index).items()),
        *([] if index.embedder else ["# embedder: none, vectors are given"]),
        "",
        "[state]",
        f"files = {stats['files']}",
        f"passages = {stats['live']}",
        f"out_of_date = {stats['stale']}",
        f"memory_bytes = {sum(index.memory().values())}",
    ]
    return ("\n".join(lines) + "\n").encode()


def _settings(index: "Index") -> dict[str, Any]:
    return {key: getattr(index, key) for key in KEYS if getattr(index, key) is not None}


def settings_of(text: bytes) -> tuple[dict[str, Any], str | None]:
    """What a text asks for, and the directory that it names.

    Raises
    ------
    InvalidArgument
        Names the line or the key, and what would be right.
    """
    try:
        told = tomllib.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidArgument.at(f"byte {error.start} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument.at(f"is no TOML: {error}") from None
    directory = told.pop("directory", None)
    state = told.pop("state", {})
    for key in state if isinstance(state, dict) else ():
        if key not in STATE:
            raise InvalidArgument.at(f"{_place(text, key)}{key} stands below [state], which only tells; write it above")
    for key, value in told.items():
        kind = KEYS.get(key)
        if kind is None:
            raise InvalidArgument.at(f"{_place(text, key)}{key} is unknown; {', '.join(KEYS)} are known")
        if type(value) is not kind:
            raise InvalidArgument.at(f"{_place(text, key)}{key} = {value!r}: {_KINDS[kind]} is wanted")
    if "metric" in told:
        told["metric"] = checked_metric(told["metric"])
    Description.make(0, 0, told.get("dim", 1), told.get("metric", "cosine"), told.get("dtype", "f32"), None,
                     told.get("rows_in", "memory"))  # fmt: skip
    return told, directory


def _place(text: bytes, key: str) -> str:
    for number, line in enumerate(text.decode().splitlines(), 1):
        if re.match(rf"\s*[\"']?{re.escape(key)}\b", line):
            return f"line {number}: "
    return ""


def put_index_file(catalog: "Catalog", directory: int, text: bytes) -> None:
    """Make the index of a directory what a text says.

    Raises
    ------
    Incomplete
        No index is there, and neither dim nor embedder is told.
    InvalidArgument
        The text is malformed.
    IndexConflict
        The index holds vectors that would be lost.
    VexfsError
        The embedder cannot be had here.
    """
    wanted, named = settings_of(text)
    own, over = catalog.of(directory), catalog.covering(directory)
    if not wanted and named is None:
        raise Incomplete.at("says nothing: dim, or embedder, is wanted")
    if over is not None and (over is own or over.path == named):
        now = _settings(over)
        if "embedder" in wanted and wanted["embedder"] != over.embedder:
            model = resolve(wanted["embedder"])
            wanted["embedder"] = model.name
            if wanted.get("dim") == over.dim:  # as it stood beside the other model
                wanted["dim"] = model.dim
        if all(now.get(key) == value for key, value in wanted.items()):
            return  # nothing changes, or the index of a directory above was saved as it was
    if own is not None:
        kept = _settings(own)
        if "embedder" in wanted:
            del kept["dim"]
        wanted = {**kept, **wanted}
    path = catalog.filesystem.path_of(directory).decode("utf-8", "surrogateescape")
    if "embedder" in wanted:
        model = resolve(wanted["embedder"])
        if wanted.get("dim", model.dim) != model.dim:
            told = f"dim = {wanted['dim']}, and the vectors of {model.name!r} have {model.dim} numbers"
            raise InvalidArgument.at(told)
    elif "dim" not in wanted:
        raise Incomplete.at("dim, or embedder, is wanted")
    if own is not None:
        refuse_loss(own)
    if "embedder" in wanted:
        create_text_index(catalog, path, instead_of=own, **wanted)
    else:
        catalog.create(path, instead_of=own, **wanted)


def refuse_loss(index: "Index") -> None:
    """Raise ``IndexConflict`` when an index has vectors that nothing makes again."""
    rows = index.table.rows()
    given = (rows["ino"] & INO_MASK != 0) & (rows["ino"] >> FLAG_SHIFT & np.uint64(CONTENT) == 0)
    if given.any():
        raise IndexConflict.at(
            f"{np.count_nonzero(given)} vectors were given to files and would be lost; if they may: vexctl index drop "
            f"{index.path}", index.path,
        )  # fmt: skip


def drop_by_file(catalog: "Catalog", directory: int) -> None:
    """Drop the directory's own index, if it has one, as its file was removed.

    Raises
    ------
    IndexConflict
        It holds vectors that would be lost.
    """
    index = catalog.of(directory)
    if index is not None:
        refuse_loss(index)
        catalog.discard(index)
