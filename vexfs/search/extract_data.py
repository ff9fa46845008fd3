"""Extractors of data in text: tables, JSON, notebooks.  A row or a value is a block that names its columns or keys."""

import csv
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

from vexfs.search.extract import Block, Skipped
from vexfs.search.extract_text import markdown
from vexfs.search.jsonwalk import Walk, leaves

_PART = 1 << 16


def table(text: str, name: str) -> Iterator[Block]:
    """CSV with whatever separates its columns: a block a row, its values behind the names of their columns."""
    try:
        dialect: Any = csv.Sniffer().sniff(text[:8192], delimiters=",;\t|")
    except csv.Error:
        dialect = "excel-tab" if name.lower().endswith(".tsv") else "excel"
    lines = list(io.StringIO(text, newline=""))
    starts = [0, *itertools.accumulate(map(len, lines))]
    reader = csv.reader(lines, dialect)
    head: list[str] = []
    before = 0
    try:
        for row in reader:
            start, end = starts[before], starts[reader.line_num]
            before = reader.line_num
            if not head:
                head = row
                yield Block(", ".join(row), start, end)
            elif any(row):
                pairs = itertools.zip_longest(head, row, fillvalue="")
                yield Block("; ".join(f"{key}: {value}" if key else value for key, value in pairs if value), start, end)
    except csv.Error as error:
        raise Skipped(f"line {reader.line_num} of the table: {error}") from error


def json_values(text: str, name: str) -> Iterator[Block]:
    """JSON: texts and numbers with the keys that lead to them; of JSON lines, a block a line."""
    if name.lower().endswith((".jsonl", ".ndjson")):
        at = 0
        for line in io.StringIO(text, newline="\n"):
            if line.strip():
                for part in _of_line(line):
                    yield Block(part, at, at + len(line))
            at += len(line)
        return
    walk = Walk(text)
    try:
        for key, lines in walk.top():
            for part in _in_parts(lines):
                yield Block(part, label=key)
    except (ValueError, RecursionError) as error:
        raise Skipped(f"JSON is not JSON: {error}") from error


def _of_line(line: str) -> Iterator[str]:
    """What a line of JSON says; one that is none, as the last of a log that broke off, says what stands there."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return iter([line.strip()])
    return _in_parts(leaves(value, ""))


def _in_parts(lines: Iterator[str]) -> Iterator[str]:
    """Lines joined, in parts of a size: the limits are looked at between them."""
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size > _PART:
            yield "\n".join(held)
            held, size = [], 0
    yield "\n".join(held)


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Skipped(f"{what} is not JSON: {error}") from error


def notebook(text: str, name: str) -> Iterator[Block]:
    """A Jupyter notebook: its cells in order; what they put out is left out."""
    whole = _parsed(text, "the notebook")
    cells = whole.get("cells", _cells_of_3(whole)) if isinstance(whole, dict) else None
    if not isinstance(cells, list):
        raise Skipped("a notebook without cells")
    for number, cell in enumerate(cells, 1):
        cell = cell if isinstance(cell, dict) else {}
        source = cell.get("source", cell.get("input", ""))
        body = "".join(map(str, source)) if isinstance(source, list) else str(source)
        label, kind = f"cell {number}", cell.get("cell_type")
        if kind == "markdown":
            for block in markdown(body, name):
                yield Block(block.text, level=block.level, label=label)
        elif body.strip():
            level = cell.get("level", 1) if kind == "heading" else 0
            yield Block(body.strip() if level else body, level=level if level in range(7) else 1, label=label)


def _cells_of_3(whole: dict[str, Any]) -> list[Any] | None:
    """Cells as formats 2 and 3 have them, until 2015: on sheets, headings among them, code as ``input``."""
    sheets = whole.get("worksheets")
    if not isinstance(sheets, list):
        return None
    found = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
    return [cell for cells in found if isinstance(cells, list) for cell in cells]
