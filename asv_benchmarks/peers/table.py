"""The result of a comparison: figures beside figures, each with the target that it is to meet."""

import json
import platform
from pathlib import Path

import attrs


@attrs.frozen
class Row:
    """One figure of ours beside one of a peer.

    Attributes
    ----------
    figure
        What was measured, with its unit.
    ours, theirs
        Medians over interleaved rounds.
    peer
        Whose figure ``theirs`` is; "limit" for an absolute one.
    target
        What ``ours / theirs`` is to be at least, or with `lower` at most; None when the row only informs.
    lower
        Less is better.
    """

    figure: str
    ours: float
    peer: str
    theirs: float
    target: float | None = None
    lower: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.theirs else float("inf")

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.ratio <= self.target if self.lower else self.ratio >= self.target


@attrs.define
class Report:
    """All rows of one area, what could not be compared, and for some pictures (SVG) by name."""

    area: str
    rows: list[Row] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)
    pictures: dict[str, str] = attrs.field(factory=dict)

    @property
    def met(self) -> bool:
        return all(row.met is not False for row in self.rows)

    def text(self) -> str:
        """The table for people."""
        head = ("figure", "ours", "peer", "theirs", "ratio", "target", "met")
        body = [
            (
                row.figure,
                _number(row.ours),
                row.peer,
                _number(row.theirs),
                f"{row.ratio:.2f}",
                "" if row.target is None else f"{'<=' if row.lower else '>='} {row.target:g}",
                {None: "", True: "yes", False: "NO"}[row.met],
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        lines = [
            "  ".join(
                c.ljust(w) if i in (0, 2) else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in [head, *body]
        ]
        return "\n".join([*(line.rstrip() for line in lines), *(f"- {note}" for note in self.notes)])

    def save(self, path: Path) -> None:
        """The same as JSON; the pictures beside it, as ``.NAME.svg``."""
        for name, picture in self.pictures.items():
            path.with_suffix(f".{name}.svg").write_text(picture)
        rows = [{**attrs.asdict(row), "ratio": row.ratio, "met": row.met} for row in self.rows]
        machine = {"machine": platform.machine(), "system": platform.release(), "python": platform.python_version()}
        path.write_text(json.dumps({"area": self.area, **machine, "rows": rows, "notes": self.notes}, indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
