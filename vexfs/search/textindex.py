"""Indexes of text: a directory, and the model that turns the text below it into vectors."""

import contextlib
from typing import TYPE_CHECKING, Any

from vexfs.errors import IndexConflict, InvalidArgument
from vexfs.search.description import UNFINISHED
from vexfs.search.embedders import Embedder, remember, resolve

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog
    from vexfs.search.filling import Filling
    from vexfs.search.index import Index

#: Key of an index's state: the version of the model that made its vectors.
VERSION = "embedder_version"


def create_text_index(
    catalog: "Catalog", path: str, embedder: Any, dim: int | None = None, metric: str | None = None,
    dtype: str | None = None, rows_in: str | None = None, instead_of: "Index | None" = None,
    filled: "Filling | None" = None,
) -> "Index":
    """The index of a directory whose text is embedded by itself, made when there is none.

    Parameters
    ----------
    catalog : Catalog
    path : str
    embedder : str, callable or Embedder
        See :func:`vexfs.search.embedders.resolve`.
    dim, metric, dtype, rows_in : optional
        As of any index; the dimension is the model's.
    instead_of : Index, optional
        The directory's index, which the new one replaces.
    filled : Filling, optional
        What the new one holds when it takes that place.

    Raises
    ------
    IndexConflict
        The directory has another index, or one by another model or version; the message says how to re-embed.
    InvalidArgument
        `dim` is not the model's.
    """
    model = resolve(embedder)
    if dim is not None and dim != model.dim:
        raise InvalidArgument.at(f"dim={dim}; the vectors of embedder {model.name!r} have {model.dim} numbers", path)
    if instead_of is None:
        refuse_other_model(catalog, path, model)
    before = remember(model)
    state: dict[str, Any] = {VERSION: model.version}
    if filled is not None:
        state[UNFINISHED] = True
    # Ingest, which runs where an index is replaced, is not taken for having looked through it before it was told to.
    with contextlib.nullcontext() if filled is None else catalog.lock:
        try:
            index = catalog.create(
                path, dim=model.dim, metric=metric, dtype=dtype, embedder=model.name, rows_in=rows_in,
                instead_of=instead_of, filled=filled, state=state,
            )  # fmt: skip
        except BaseException:
            if before is not None:  # the index that there is goes on with it
                remember(before)
            raise
        catalog.ingesting().look_through(index)
        if (filled is not None and filled.failure is None) or VERSION not in index.state:
            index.keep(**{VERSION: model.version})
    if filled is not None and filled.failure is not None:
        raise filled.failure
    return index


def refuse_other_model(catalog: "Catalog", path: str, model: Embedder) -> None:
    """Raise when the directory's own index was made by another model."""
    try:
        index = catalog.of(catalog.filesystem.resolve(path or "/"))
    except FileNotFoundError:
        return
    if index is None:
        return
    mine = (index.embedder, index.state.get(VERSION, model.version), index.dim)
    theirs = (model.name, model.version, model.dim)
    if index.embedder is not None and mine != theirs:
        raise IndexConflict.at(
            f"its vectors were made by {_told(*mine)}, not by {_told(*theirs)}; "
            f"to embed everything anew: fs.reembed({path!r}, {model.name!r}), or drop the index", path,
        )  # fmt: skip


def _told(name: str | None, version: object, dim: int) -> str:
    return f"{name} (version {version}, dimension {dim})"


def embedder_of(index: "Index") -> Embedder:
    """The model of an index.

    Raises
    ------
    InvalidArgument
        The index has none.
    ConfigError, PluginBroken, Unreachable
        The model cannot be had here.
    IndexConflict
        It is of another version than the one that made the vectors.
    """
    if index.embedder is None:
        raise InvalidArgument.at("its index has no embedder: its vectors came from a program; search it by vector",
                                 index.path)  # fmt: skip
    model = resolve(index.embedder)
    version = index.state.get(VERSION, model.version)
    if version != model.version or model.dim != index.dim:
        raise IndexConflict.at(
            f"its vectors were made by {_told(model.name, version, index.dim)}, and here is "
            f"{_told(model.name, model.version, model.dim)}; to embed everything anew: fs.reembed({index.path!r})",
            index.path,
        )  # fmt: skip
    return model
