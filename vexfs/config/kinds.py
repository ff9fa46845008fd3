"""Kinds of values: what a key may hold, how it is read, and how it is written back.

Each kind reads what TOML gives (or a word of the environment or the command line), answers the value the program
works with, and otherwise raises ``ValueError`` with what would be valid.
"""

import ipaddress
import re
from typing import Any, Protocol

import attrs

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGT]i?B?)?", re.IGNORECASE)
_POWER = {"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min|m|h|d)")
_NANOSECONDS = {
    "ns": 1, "us": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}  # fmt: skip
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")


class Kind(Protocol):
    """What a key may hold."""

    @property
    def wanted(self) -> str:
        """What is valid, to follow "must be"."""

    def read(self, value: Any) -> Any:
        """The value to work with; ``ValueError`` when `value` is not valid."""

    def show(self, value: Any) -> str:
        """The value in TOML, as a person would write it."""


def quoted(text: str) -> str:
    """A string as TOML writes it."""
    escaped = "".join(
        f"\\{c}" if c in '"\\' else f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c for c in text
    )
    return f'"{escaped}"'


@attrs.frozen
class Switch:
    """``true`` or ``false``."""

    wanted: str = "true or false"

    def read(self, value: Any) -> bool:
        """As TOML has it."""
        if not isinstance(value, bool):
            raise ValueError(self.wanted)
        return value

    def show(self, value: Any) -> str:
        """As TOML has it."""
        return "true" if value else "false"


@attrs.frozen
class Whole:
    """A whole number between two bounds, both allowed."""

    least: int
    most: int
    unit: str = ""

    @property
    def wanted(self) -> str:
        """Both bounds."""
        unit = f" {self.unit}" if self.unit else ""
        return f"a whole number from {self.least} to {self.most}{unit}"

    def read(self, value: Any) -> int:
        """The number; no fractions, no quotes."""
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            raise ValueError(self.wanted)
        return value

    def show(self, value: Any) -> str:
        """Its digits."""
        return str(value)


@attrs.frozen
class Share:
    """A share between 0 and 1, or a percentage in quotes: ``0.9`` or ``"90%"``."""

    wanted: str = 'a share from 0.0 to 1.0, such as 0.9, or a percentage, such as "90%"'

    def read(self, value: Any) -> float:
        """The share."""
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?\s*%", value):
            value = float(value.rstrip("% ")) / 100
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
            raise ValueError(self.wanted)
        return float(value)

    def show(self, value: Any) -> str:
        """The share as a number."""
        return repr(float(value))


@attrs.frozen
class Size:
    """Bytes: ``"24GB"``, ``"64MB"``, or a number.  K, M, G, T are powers of 1024, with or without ``i`` and ``B``."""

    least: int = 0
    most: int = 1 << 50

    @property
    def wanted(self) -> str:
        """Both bounds, with an example."""
        return f'a size from {_size(self.least)} to {_size(self.most)}, such as "64MB", or a number of bytes'

    def read(self, value: Any) -> int:
        """The bytes."""
        found = value
        if isinstance(value, str):
            match = _SIZE.fullmatch(value.strip())
            if not match:
                raise ValueError(self.wanted)
            scaled = float(match[1]) * (1 << _POWER[(match[2] or "")[:1].upper()])
            if scaled != int(scaled):
                raise ValueError(self.wanted)
            found = int(scaled)
        if not isinstance(found, int) or isinstance(found, bool) or not self.least <= found <= self.most:
            raise ValueError(self.wanted)
        return found

    def show(self, value: Any) -> str:
        """With the largest unit that leaves it whole."""
        return quoted(_size(value)) if value else "0"


def _size(n: int) -> str:
    for unit in "TGMK":
        if n and n % (1 << _POWER[unit]) == 0:
            return f"{n >> _POWER[unit]}{unit}B"
    return f"{n}B"


@attrs.frozen
class Duration:
    """A time with its unit: ``"30s"``, ``"5ms"``, ``"1h"``.

    Attributes
    ----------
    least, most : str
        Bounds, both allowed.
    bare : str, optional
        The unit of a number without one; without it such a number is refused.
    as_ns : bool
        The program works with whole nanoseconds, not seconds.
    """

    least: str
    most: str
    bare: str = ""
    as_ns: bool = False

    @property
    def wanted(self) -> str:
        """Both bounds, with the units."""
        bare = f", or a number of {self.bare}" if self.bare else ""
        return f'a time from {self.least} to {self.most} with its unit (ns, us, ms, s, min, h, d){bare}'

    def _nanoseconds(self, value: Any) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.bare:
            return value * _NANOSECONDS[self.bare]
        match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
        if not match:
            raise ValueError(self.wanted)
        return float(match[1]) * _NANOSECONDS[match[2]]

    def read(self, value: Any) -> float:
        """The time: seconds, or nanoseconds where the key has them."""
        found = self._nanoseconds(value)
        if not self._nanoseconds(self.least) <= found <= self._nanoseconds(self.most):
            raise ValueError(self.wanted)
        return round(found) if self.as_ns else found / 10**9

    def show(self, value: Any) -> str:
        """With the largest unit that leaves it whole."""
        ns = value if self.as_ns else value * 10**9
        if self.as_ns and self.bare == "ns":
            return str(value)
        for unit in ("d", "h", "min", "s", "ms", "us"):
            if ns and ns % _NANOSECONDS[unit] == 0:
                return quoted(f"{int(ns // _NANOSECONDS[unit])}{unit}")
        return quoted(f"{ns:g}ns") if ns else quoted("0s")


@attrs.frozen
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def wanted(self) -> str:
        """All of them."""
        quotes = [f'"{word}"' for word in self.words]
        return f"{', '.join(quotes[:-1])} or {quotes[-1]}" if len(quotes) > 1 else quotes[0]

    def read(self, value: Any) -> str:
        """The word as it stands here, whatever its case was."""
        lowered = value.lower() if isinstance(value, str) else None
        if lowered not in self.words:
            raise ValueError(self.wanted)
        return str(lowered)

    def show(self, value: Any) -> str:
        """In quotes."""
        return quoted(value)


@attrs.frozen
class Text:
    """A string that matches `pattern` as a whole; `meaning` says so in words."""

    meaning: str
    pattern: str = r"[^\x00-\x1f\x7f]*"

    @property
    def wanted(self) -> str:
        """In words."""
        return self.meaning

    def read(self, value: Any) -> str:
        """The string."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError(self.wanted)
        return value

    def show(self, value: Any) -> str:
        """In quotes."""
        return quoted(value)


@attrs.frozen
class Place:
    """An absolute path of the host; empty where that says "none"."""

    empty: str = ""

    @property
    def wanted(self) -> str:
        """With what an empty one says."""
        return f'an absolute path{f", or empty for {self.empty}" if self.empty else ""}'

    def read(self, value: Any) -> str:
        """The path."""
        if value == "" and self.empty:
            return ""
        if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
            raise ValueError(self.wanted)
        return value.rstrip("/") or "/"

    def show(self, value: Any) -> str:
        """In quotes."""
        return quoted(value)


@attrs.frozen(str=False)
class Endpoint:
    """Where a service listens or is found: a host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@attrs.frozen
class Bind:
    """``"HOST:PORT"``: an IP address or name, and a port; 0 takes any free one."""

    empty: str = ""
    wanted: str = 'an address and a port, such as "127.0.0.1:8080", "0.0.0.0:8080" or "[::1]:8080" (ports 0 to 65535)'

    def read(self, value: Any) -> Endpoint | None:
        """The address."""
        if value == "" and self.empty:
            return None
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):(\d{1,5})", value) if isinstance(value, str) else None
        if not match or int(match[2]) > 65535 or not _host(match[1]):
            raise ValueError(self.wanted + (f", or empty for {self.empty}" if self.empty else ""))
        return Endpoint(match[1].strip("[]"), int(match[2]))

    def show(self, value: Any) -> str:
        """In quotes."""
        return quoted("" if value is None else str(value))


def _host(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
        return True
    except ValueError:
        numbers = re.fullmatch(r"[\d.]+", host)  # 300.1.2.3 is no name of a host
        return not numbers and len(host) <= 253 and bool(_HOST.fullmatch(host))


@attrs.frozen
class Listing:
    """A list of values of one kind; a word of the environment separates them by commas."""

    of: Kind

    @property
    def wanted(self) -> str:
        """A list, and of what."""
        return f"a list, each of it {self.of.wanted}"

    def read(self, value: Any) -> tuple[Any, ...]:
        """The values."""
        if isinstance(value, str):
            value = [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, list):
            raise ValueError(self.wanted)
        try:
            return tuple(self.of.read(each) for each in value)
        except ValueError:
            raise ValueError(self.wanted) from None

    def show(self, value: Any) -> str:
        """In brackets."""
        return f"[{', '.join(self.of.show(each) for each in value)}]"
