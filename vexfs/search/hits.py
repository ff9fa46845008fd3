"""What a search answers."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from vexfs._core.hits import Found
from vexfs._core.record import unpack
from vexfs.errors import IndexClosed
from vexfs.store.attributes import Scalar


class Hit(Found):
    """One file that was found, best passage first.

    Attributes
    ----------
    score : float
        Larger is nearer: cosine similarity, inner product, ``1 / (1 + distance)`` for euclidean indexes; of a search by
        text what its mode says.  Means the same from call to call.
    distance : float
        As the index's metric has it; smaller is nearer.
    path : str
        In the volume, from the root, with a leading slash.
    ino : int
        Inode number.
    row : int
        Row of the index.
    span : (int, int) or None
        First byte and the one behind the last, of the passage within the file; None: the file as a whole.
    others : list of Hit
        Further passages of the same file.
    packed : bytes
        The file's extended attributes as the filesystem keeps them.
    """

    __slots__ = ()

    @property
    def text(self) -> str:
        """The passage, read when it is first asked for; "" where the file was not indexed by its text."""
        if self.kept_text is None:
            from vexfs.search.snippet import passage_text

            told = self.index is not None and self.index.embedder is not None
            self.kept_text = passage_text(self.index, self.ino, self.row, self.span) if told else ""
        return self.kept_text

    @property
    def lines(self) -> tuple[int, int] | None:
        """First and last line of the passage, from 1, where it has any."""
        if self.index is None or self.span is None:
            return None
        from vexfs.search.snippet import lines_of

        return lines_of(self.index, self.ino, self.span)

    @property
    def number(self) -> int:
        """Which of the file's vectors it is, from 0: row of an array, place of a passage; -1 when it is gone."""
        try:
            found = [] if self.index is None else self.index.table.rows_of(self.ino).tolist()
        except IndexClosed:  # another one took its place
            return -1
        return found.index(self.row) if self.row in found else -1

    @property
    def id(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]

    @property
    def attributes(self) -> dict[str, Scalar]:
        """The file's attributes, as they were when it was found."""
        return unpack(self.packed)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with stable keys."""
        out: dict[str, Any] = {
            "path": self.path, "id": self.id, "score": self.score,
            "distance": None if self.distance != self.distance else self.distance,
            "attributes": self.attributes,
        }  # fmt: skip
        if self.span is not None:
            out["span"] = list(self.span)
        if self.span is not None or self.others:
            out["number"] = self.number
        if self.text:
            out["text"] = self.text
        if self.others:
            out["others"] = [
                {"span": list(o.span or ()), "number": o.number, "score": o.score, "text": o.text} for o in self.others
            ]
        return out

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {name: getattr(self, name) for name in ("score", "distance", "path", "ino", "row", "span", "packed")}
        told = {"kept_text": self.text, "lines": self.lines, "number": self.number, "others": self.others}
        return _Apart, (), {**plain, **told}

    def __repr__(self) -> str:
        return f"Hit({self.score:.4f}, {self.path!r})"


class _Apart(Hit):
    """A hit that was pickled or copied: it has no index, but what only that could tell."""

    __slots__ = ("lines", "number", "others")
    lines: tuple[int, int] | None
    number: int
    others: list[Hit]

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class Missing(NamedTuple):
    """An index that a search should have asked and could not, or holds a part only: its directory's path, and why."""

    path: str
    reason: str


class Hits(list[Hit]):
    """Hits, best first.

    Attributes
    ----------
    explanation : dict or None
        How the search was done, when it was asked to explain.
    missing : tuple of Missing
        Indexes below the directory that could not be searched, or hold a part only: what should be found there is not
        among the hits, or not all of it.
    """

    explanation: dict[str, Any] | None = None
    missing: tuple[Missing, ...] = ()

    def __init__(self, hits: Iterable[Hit] = (), explanation: dict[str, Any] | None = None) -> None:
        super().__init__(hits)
        self.explanation = explanation

    @property
    def paths(self) -> list[str]:
        """The paths alone."""
        return [hit.path for hit in self]

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table``: path, id, score, distance, start, end, text, and a column for each attribute.

        Raises
        ------
        PluginBroken
            pyarrow is not installed: ``pip install vexfs[arrow]``.
        """
        from vexfs.search.arrow import table_of

        return table_of(self)
