"""Families of metrics, and the text that Prometheus reads."""

from collections.abc import Iterable, Mapping

import attrs

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@attrs.frozen
class Family:
    """One metric with its samples.

    Attributes
    ----------
    name : str
        With its unit, and ``_total`` behind a counter's.
    kind : {"counter", "gauge", "histogram", "summary"}
    about : str
        The help line.
    samples : list
        ``(suffix, labels, value)``: ``("_bucket", {"le": "0.1"}, 3)``; a counter and a gauge have no suffix.
    """

    name: str
    kind: str
    about: str
    samples: list[tuple[str, Mapping[str, str], float]] = attrs.field(factory=list)

    def add(self, value: float, **labels: str) -> "Family":
        """Add a sample; answers the family."""
        self.samples.append(("", labels, value))
        return self

    def add_histogram(self, buckets: Iterable[tuple[float, int]], total: float, **labels: str) -> "Family":
        """Add a histogram: ``(limit, samples up to it)`` by growing limit, and the sum of all values.

        The last count is that of all samples; its limit is written as ``+Inf``.
        """
        rows, count = list(buckets), 0
        for i, (limit, within) in enumerate(rows):
            le = "+Inf" if i == len(rows) - 1 else format(limit, ".9g")
            self.samples.append(("_bucket", {**labels, "le": le}, within))
            count = within
        self.samples.append(("_sum", labels, total))
        self.samples.append(("_count", labels, count))
        return self


def gauge(name: str, about: str) -> Family:
    """A value that goes up and down."""
    return Family(name, "gauge", about)


def counter(name: str, about: str) -> Family:
    """A value that only grows; its name ends in ``_total``."""
    return Family(name, "counter", about)


def histogram(name: str, about: str) -> Family:
    """Values by size."""
    return Family(name, "histogram", about)


def of_each(label: str, rows: Mapping[str, Mapping[str, float]], families: Mapping[str, Family]) -> list[Family]:
    """A family for each column of a table: `rows` by the value of `label`, `families` by their column."""
    for name, row in rows.items():
        for column, family in families.items():
            family.add(row[column], **{label: name})
    return list(families.values())


def render(families: Iterable[Family]) -> str:
    """The text form 0.0.4 of `families`."""
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escaped(family.about)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for suffix, labels, value in family.samples:
            said = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels.items())
            where = f"{{{said}}}" if said else ""
            lines.append(f"{family.name}{suffix}{where} {_number(value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) and not value.is_integer() else str(int(value))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")
