"""What verbs that observe have in common: checked arguments, waiting with progress, the node's parts."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from vexfs.errors import NotSupported, UsageError
from vexfs.node.node import Node
from vexfs.node.watch import history_of
from vexfs.observe.parts import Parts

Steps = Generator[dict[str, Any], None, Any]
LONGEST_S = 24 * 3600.0
_UNITS = (("h", 3600.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def number(value: Any, what: str, least: float, most: float) -> float:
    """`value` as a number within bounds; `UsageError` names `what` it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise UsageError(f"{what} is {value!r}, and must be a number from {least:g} to {most:g}")
    return float(value)


def whole(value: Any, what: str, least: int, most: int) -> int:
    """`value` as a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(f"{what} is {value!r}, and must be a whole number from {least} to {most}")
    return value


def seconds(value: Any, what: str = "duration") -> float:
    """`value` as a time in seconds."""
    return time_s(value, what, 0.001, LONGEST_S)


def time_s(value: Any, what: str, least: float, most: float) -> float:
    """`value` as a time in seconds within bounds; `UsageError` tells both with their units."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        given = _time(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else repr(value)
        raise UsageError(f"{what} is {given}, and must be a time from {_time(least)} to {_time(most)}")
    return float(value)


def _time(value: float) -> str:
    unit, size = next(((u, s) for u, s in _UNITS if value >= s), _UNITS[-1])
    return f"{value / size:g}{unit}"


def parts_of(node: Node) -> Parts:
    """The node as it is observed."""
    return history_of(node).parts


def needed(part: Any, name: str, key: str) -> Any:
    """`part`, which is there.

    Raises
    ------
    NotSupported
        It is switched off; the message names the key.
    """
    if part is None:
        raise NotSupported.at(f"{name} is switched off; set performance_optimizations.{key} = true")
    return part


def waiting(duration_s: float, step_s: float = 0.5) -> Steps:
    """Wait, yielding how much of the time has gone."""
    began = time.monotonic()
    while (gone := time.monotonic() - began) < duration_s:
        yield {"done": gone, "total": duration_s, "text": "measuring"}
        time.sleep(min(step_s, duration_s - gone))


@contextmanager
def all_timed(node: Node) -> Iterator[None]:
    """Every operation is timed meanwhile, not one in 64."""
    before = node.frames.time_every
    node.frames.time(1)
    try:
        yield
    finally:
        node.frames.time(before)
