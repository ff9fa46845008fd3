"""A progress bar on standard error, drawn only when that is a terminal."""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import IO, TypeVar

from vexfs.cli.output import duration, size

T = TypeVar("T")
REDRAW_S = 0.1


class Progress:
    """Shows how far long work has come: a bar, the amount, the rate and the time left.

    Use it as a context manager; the line is removed at the end, so that only the command's result stays.  An instance
    is also a callback ``progress(done, total)``, as the long operations of a volume take one.

    Parameters
    ----------
    label : str
        What is being done: ``"importing"``.
    total : float, optional
        The amount that is the whole; without it no bar is drawn, only the amount and the rate.
    unit : str
        ``"B"`` prints sizes; anything else follows a plain number.
    stream : file, optional
        Default: standard error.

    Attributes
    ----------
    note : str
        What is waited for: shown in place of bar, rate and time left.
    """

    def __init__(self, label: str, total: float | None = None, unit: str = "B", stream: IO[str] | None = None) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0.0
        self.note = ""
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, done: float, total: float | None = None) -> None:
        """The work stands at `done`, of `total` when that is known by now."""
        self.done = done
        if total is not None:
            self.total = total
        now = time.monotonic()
        if self._shown and now - self._drawn >= REDRAW_S:
            self._drawn = now
            self._stream.write("\r\x1b[K" + self.line(now - self._started)[: shutil.get_terminal_size().columns - 1])
            self._stream.flush()

    def advance(self, amount: float = 1) -> None:
        """`amount` more is done."""
        self(self.done + amount)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield `items`, advancing by one after each."""
        for item in items:
            yield item
            self.advance()

    def line(self, elapsed_s: float) -> str:
        """The line as it is drawn after `elapsed_s` seconds."""
        rate = self.done / elapsed_s if elapsed_s > 0 else 0.0
        timed = self.unit == "s"  # what is done is the time itself
        parts = [self.label]
        if self.note:
            return "  ".join([*parts, f"{self._amount(self.done)} of {self._amount(self.total or 0)}", self.note])
        if self.total:
            share = min(1.0, self.done / self.total)
            filled = int(share * 24)
            parts.append(f"[{'#' * filled}{'.' * (24 - filled)}] {share:4.0%}")
            parts.append(f"{self._amount(self.done)} of {self._amount(self.total)}")
        else:
            parts.append(self._amount(self.done))
        if not timed:
            parts.append(f"{self._amount(rate)}/s")
        if self.total and rate and self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return "  ".join(parts)

    def _amount(self, n: float) -> str:
        if self.unit == "s":
            return duration(n)
        return size(n) if self.unit == "B" else f"{n:,.0f} {self.unit}"
