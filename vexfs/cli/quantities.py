"""Quantities as operators write them, for argparse: ``300s``, ``1h``, ``5%``, ``2.5x``, ``high:3,medium:2,low:1``."""

import argparse
import re

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z%]*)")


def _split(word: str, what: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(word.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{word!r} is no {what}")
    return float(match.group(1)), match.group(2)


def duration(word: str) -> float:
    """Seconds of ``300s``, ``1h``, ``5ms``, or a plain number of seconds; above 0."""
    value, unit = _split(word, "time; 300s, 5ms and 1h are")
    if unit not in _SECONDS or value <= 0:
        raise argparse.ArgumentTypeError(f"{word!r} is no time above 0; 300s, 5ms and 1h are")
    return value * _SECONDS[unit]


def share(word: str) -> float:
    """``5%`` or ``0.05`` as 0.05; more than 1 is meant only when it says ``%``."""
    value, unit = _split(word, "share; 5% and 0.05 are")
    if unit not in ("", "%"):
        raise argparse.ArgumentTypeError(f"{word!r} is no share; 5% and 0.05 are")
    if not unit and value > 1:
        raise argparse.ArgumentTypeError(f"{word!r} would be {value:.0%}; write {value:g}% if you mean that")
    return value / 100 if unit == "%" else value


def factor(word: str) -> float:
    """``2.5x`` or ``2.5`` as 2.5; above 0."""
    value, unit = _split(word, "factor; 2.5x is")
    if unit not in ("", "x") or value <= 0:
        raise argparse.ArgumentTypeError(f"{word!r} is no factor above 0; 2.5x is")
    return value


def count(word: str) -> int:
    """A whole number, also as ``10k`` or ``5M``."""
    value, unit = _split(word, "number; 1000, 10k and 5m are")
    times = {"": 1, "k": 1000, "m": 1_000_000, "g": 1_000_000_000}.get(unit)
    if times is None or value * times != int(value * times):
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number; 1000, 10k and 5m are")
    return int(value * times)


def switch(word: str) -> bool:
    """``true`` or ``false``, and what else people say for them."""
    known = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if word.lower() not in known:
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return known[word.lower()]


def percents(word: str) -> list[float]:
    """``50,95,99`` as numbers above 0 and at most 100."""
    try:
        values = [float(part.strip().removesuffix("%")) for part in word.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value <= 100 for value in values):
        raise argparse.ArgumentTypeError(f"{word!r} are no percentiles; 50,95,99 are")
    return values


def weights(word: str) -> dict[str, int]:
    """``high:3,medium:2,low:1`` as weights by priority, each 1 to 1000."""
    pairs = [part.partition(":") for part in word.split(",")]
    found = {name.strip(): int(n) for name, colon, n in pairs if colon and n.strip().isdigit()}
    if len(found) != len(pairs) or not all(1 <= n <= 1000 for n in found.values()):
        raise argparse.ArgumentTypeError(f"{word!r} are no weights; high:3,medium:2,low:1 are")
    if set(found) - {"high", "medium", "low"}:
        raise argparse.ArgumentTypeError("priorities are high, medium and low")
    return found
