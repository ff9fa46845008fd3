"""What a command prints: JSON with stable keys when asked, else text and tables for people."""

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vexfs.errors import from_errno

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def emit(args: Any, data: Any, text: str | Callable[[], str] | None = None) -> None:
    """Print the result of a command.

    Parameters
    ----------
    args
        The parsed arguments; ``args.json`` decides.
    data
        What ``--json`` prints: mappings, sequences, scalars, bytes (as text, undecodable bytes as surrogates), paths.
    text : str or callable, optional
        What people read, or a function that makes it when it is wanted.  Without it a mapping is printed as fields.
    """
    if args.json:
        json.dump(data, sys.stdout, indent=2, default=_plain)
        sys.stdout.write("\n")
        return
    shown = text() if callable(text) else fields(data) if text is None else text
    if shown:
        print(shown)


def _plain(value: Any) -> Any:
    """A JSON form of what JSON does not know."""
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(os.fspath(value))
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


def write_file(path: str | os.PathLike[str], text: str, mode: int | None = None) -> None:
    """Write a file of the host whole or not at all: what was there stays when there is no room for the new text."""
    if os.path.exists(path) and not os.path.isfile(path):
        Path(path).write_text(text, encoding="utf-8")  # a terminal, a pipe
        return
    place = Path(path).resolve()
    made = place.with_name(f".{place.name}.{os.getpid()}.new")
    try:
        made.write_text(text, encoding="utf-8")
        if mode is not None:
            made.chmod(mode)
        elif place.exists():
            shutil.copymode(place, made)
        made.replace(place)
    except OSError as error:
        raise from_errno(error.errno or errno.EIO, path) from None
    finally:
        with contextlib.suppress(OSError):  # media that can only be read refuse this, too
            made.unlink()


def printable(name: str | bytes) -> str:
    r"""A file name that is safe on a terminal: control characters and undecodable bytes as ``\xNN``."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if text.isprintable():
        return text
    shown = []
    for c in text:
        if c.isprintable():
            shown.append(c)
        elif "\udc80" <= c <= "\udcff":
            shown.append(f"\\x{ord(c) - 0xDC00:02x}")
        else:
            shown.append(c.encode("unicode_escape").decode())
    return "".join(shown)


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun: ``"1 file"``, ``"1,200 files"``, ``"2 directories"``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def waits(ingest: dict[str, Any]) -> dict[str, str]:
    """The models that ingest, whose status this is, waits for, and why."""
    held = {name: " ".join(why.split()) for name, why in ingest.get("held", {}).items()}
    asked = {name: f"asked {s:.0f} s ago, it has not answered" for name, s in ingest.get("awaited", {}).items()}
    return held | asked


def size(n: float) -> str:
    """A number of bytes for people: ``1536`` is ``"1.5 KiB"``."""
    sign, n = ("-", -n) if n < 0 else ("", n)
    for unit in UNITS:
        if n < 1023.95 or unit == UNITS[-1]:
            return f"{sign}{n:.0f} {unit}" if unit == "B" else f"{sign}{n:.1f} {unit}"
        n /= 1024
    raise AssertionError("unreachable: the last unit takes every size")


def duration(seconds: float) -> str:
    """A time for people: ``"340 us"``, ``"12.3 ms"``, ``"4.56 s"``, ``"3 min 20 s"``, ``"2 h 05 min"``."""
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def fields(data: Mapping[str, Any]) -> str:
    """A mapping as aligned ``name  value`` lines; nested mappings as indented blocks."""
    return "\n".join(_field_lines(data, ""))


def _field_lines(data: Mapping[str, Any], indent: str) -> list[str]:
    width = max((len(_label(key)) for key, value in data.items() if not isinstance(value, Mapping)), default=0)
    lines = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{_label(key)}", *_field_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{_label(key):<{width}}  {_cell(value)}")
    return lines


def _label(key: str) -> str:
    return str(key).replace("_", " ")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return printable(value if isinstance(value, (str, bytes)) else str(value))


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], width: int | None = None) -> str:
    """Rows under headers, columns aligned: numbers to the right, the rest to the left.

    Parameters
    ----------
    headers : sequence of str
    rows : iterable of sequences
        One cell a header; numbers get thousands separators, names are made safe for a terminal.
    width : int, optional
        Lines are cut there, with an ellipsis.  Default: the terminal's width, or no limit when output is no terminal.
    """
    rows = [list(row) for row in rows]
    cells = [[_cell(value) for value in row] for row in rows]
    right = [
        bool(rows) and all(isinstance(row[i], (int, float)) and not isinstance(row[i], bool) for row in rows)
        for i in range(len(headers))
    ]
    widths = [max([len(header), *(len(row[i]) for row in cells)]) for i, header in enumerate(headers)]
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    lines = []
    for row in [list(headers), *cells]:
        line = "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        lines.append(line if not width or len(line) <= width else line[: width - 1] + "…")
    return "\n".join(lines)
