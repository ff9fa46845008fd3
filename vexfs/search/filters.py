"""Filters on attributes: ``{"year": {"$gte": 2020}, "lang": "en"}``.

A filter is compiled once, which finds everything that is wrong with it, and then evaluated over the columns of an
index, all rows at once.  A number compares with numbers, a string with strings, a boolean with booleans; a row without
the attribute, or with one of another type, matches ``$ne``, ``$nin``, ``$not`` and ``{"$exists": False}`` only.
"""

import fnmatch
import json
import marshal
import math
import re
from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from vexfs._core.columns import ABSENT, FALSE, NONE, ORDERS, TRUE, Column, Columns, packed
from vexfs.errors import FilterInvalid

Bools = NDArray[np.bool_]
Bits = NDArray[np.uint64]
COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists")
JUNCTIONS = ("$and", "$or")
DEPTH_MAX = 32
#: Compiled filters that are kept.
KNOWN_MAX = 256


def refuse_empty(where: Any) -> None:
    """Raise ``FilterInvalid`` for a filter that asks for nothing, where it would remove everything."""
    if isinstance(where, Mapping) and not where:
        raise FilterInvalid('where={} matches every record; to remove them all say so: where={"$path": "*"}')


@attrs.frozen
class Table:
    """What a filter is evaluated over: the columns, the number of rows, and the paths of rows when asked for."""

    columns: Columns
    rows: int
    paths: Callable[[Bits], dict[int, str]]

    def none(self) -> Bits:
        """No row."""
        return np.zeros((self.rows + 63) // 64, np.uint64)


#: Rows as bits, of which those beyond the last row may be set.
Test = Callable[[Table, Bits], Bits]


@attrs.frozen
class Filter:
    """A compiled filter.

    Attributes
    ----------
    key : str or bytes
        Equal for filters that mean the same in the same words.
    names : frozenset of str
        The attributes that it looks at.
    """

    key: str | bytes
    names: frozenset[str]
    test: Test

    def bits(self, table: Table, among: Bits) -> Bits:
        """Those of `among` that match, uint64 (ceil(rows / 64),), the lowest bit first."""
        return among & self.test(table, among)

    def rows(self, table: Table, among: Bools) -> Bools:
        """Those of `among` that match, bool (rows,)."""
        found = self.bits(table, packed(among))
        return np.unpackbits(found.view(np.uint8), count=len(among), bitorder="little").view(np.bool_)


def compile_filter(where: Mapping[str, Any]) -> Filter:
    """Compile a filter.

    Raises
    ------
    FilterInvalid
        Names the part that cannot be and what would be right.
    """
    words = b""
    if _is_plain(where):
        words = marshal.dumps(where, 2)  # type: ignore[arg-type]  # the quickest way to know a filter again
        known = _KNOWN.get(words)
        if known is not None:
            return known
    names: set[str] = set()
    test = _all_of(where, names, "where", 0)
    made = Filter(words or _KEY.encode(where), frozenset(names), test)
    if words:
        if len(_KNOWN) >= KNOWN_MAX:
            _KNOWN.clear()
        _KNOWN[words] = made
    return made


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a filter holds what JSON has and nothing else: an array and a scalar of numpy may have the same bytes."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if depth > DEPTH_MAX:
        return False
    if kind is dict:
        return all(type(k) is str and _is_plain(v, depth + 1) for k, v in value.items())
    return kind is list and all(_is_plain(v, depth + 1) for v in value)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset | tuple):
        return sorted(value, key=repr)
    raise FilterInvalid(f"a filter cannot hold {value!r}, a {type(value).__name__}")


_SCALARS = frozenset((str, int, float, bool, type(None)))
_KNOWN: dict[bytes, Filter] = {}
_KEY = json.JSONEncoder(sort_keys=True, default=_plain)


def _all_of(where: Any, names: set[str], at: str, depth: int) -> Test:
    if not isinstance(where, Mapping):
        raise FilterInvalid(f"{at}: a filter is a mapping such as {{'year': {{'$gte': 2020}}}}, not {where!r}")
    if depth > DEPTH_MAX:
        raise FilterInvalid(f"{at}: filters nest at most {DEPTH_MAX} deep")
    tests = [_part(name, value, names, f"{at}.{name}", depth) for name, value in where.items()]
    return _junction(tests, every=True)


def _junction(tests: list[Test], *, every: bool) -> Test:
    if len(tests) == 1:
        return tests[0]

    def test(table: Table, among: Bits) -> Bits:
        found = among if every else table.none()
        for each in tests:
            found = found & each(table, found) if every else found | each(table, among & ~found)
        return found

    return test


def _part(name: Any, value: Any, names: set[str], at: str, depth: int) -> Test:
    if not isinstance(name, str) or not name:
        raise FilterInvalid(f"{at}: an attribute's name is a string, not {name!r}")
    if name in JUNCTIONS:
        if not isinstance(value, list | tuple) or not value:
            raise FilterInvalid(f"{at}: {name} takes a list of filters, not {value!r}")
        parts = [_all_of(v, names, f"{at}[{k}]", depth + 1) for k, v in enumerate(value)]
        return _junction(parts, every=name == "$and")
    if name == "$not":
        inner = _all_of(value, names, at, depth + 1)
        return lambda table, among: among & ~inner(table, among)
    if name == "$path":
        return _path(value, at)
    if name.startswith("$"):
        known, within = ", ".join((*JUNCTIONS, "$not", "$path")), ", ".join(COMPARISONS)
        raise FilterInvalid(f"{at}: unknown operator; {known} are known here, and {within} within a name")
    names.add(name)
    if not isinstance(value, Mapping):
        return _comparison(name, "$eq", value, at)
    if not value:
        raise FilterInvalid(f"{at}: no comparison; one of {', '.join(COMPARISONS)} is wanted")
    tests = []
    for operator, operand in value.items():
        if operator == "$not":
            inner = _part(name, operand, names, f"{at}.$not", depth + 1)
            tests.append(_negated(inner))
        elif operator in COMPARISONS:
            tests.append(_comparison(name, operator, operand, f"{at}.{operator}"))
        else:
            raise FilterInvalid(f"{at}: unknown comparison {operator!r}; {', '.join(COMPARISONS)} are known")
    return _junction(tests, every=True)


def _negated(inner: Test) -> Test:
    return lambda table, among: among & ~inner(table, among)


def _path(value: Any, at: str) -> Test:
    if not isinstance(value, str) or not value:
        raise FilterInvalid(f"{at}: $path takes a pattern such as '*.md', not {value!r}")
    matches = re.compile(fnmatch.translate(value)).match

    def test(table: Table, among: Bits) -> Bits:
        found = np.zeros(table.rows, np.bool_)
        for row, path in table.paths(among).items():
            found[row] = matches(path) is not None
        return packed(found)

    return test


def _scalar(value: Any, at: str) -> Any:
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        raise FilterInvalid(f"{at}: nothing compares with NaN")
    if value is not None and not isinstance(value, str | int | float | bool):
        raise FilterInvalid(f"{at}: compares with a string, number, boolean or None, not with {value!r}")
    return value


def _comparison(name: str, operator: str, operand: Any, at: str) -> Test:
    if operator == "$exists":
        if not isinstance(operand, bool):
            raise FilterInvalid(f"{at}: takes true or false, not {operand!r}")
        return _of_column(name, lambda c, n: packed((c.kind[:n] != ABSENT) == operand), missing=not operand)
    if operator in ("$in", "$nin"):
        if isinstance(operand, str) or not hasattr(operand, "__iter__"):
            raise FilterInvalid(f"{at}: takes a list of values, not {operand!r}")
        values = [_scalar(v, at) for v in operand]
        outside = operator == "$nin"
        return _of_column(name, lambda c, n: _but(_any_equal(c, n, values), outside), missing=outside)
    value = _scalar(operand, at)
    if operator in ("$eq", "$ne"):
        other = operator == "$ne"
        return _of_column(name, lambda c, n: _but(_equal(c, n, value), other), missing=other)
    if value is None or isinstance(value, bool):
        raise FilterInvalid(f"{at}: {value!r} has no order; numbers and strings have")
    return _of_column(name, lambda c, n: _ordered(c, n, operator, value), missing=False)


def _but(found: Bits, inverted: bool) -> Bits:
    return ~found if inverted else found


def _of_column(name: str, test: Callable[[Column, int], Bits], *, missing: bool) -> Test:
    def over(table: Table, among: Bits) -> Bits:
        column = table.columns.get(name)
        if column is None:
            return among if missing else table.none()
        return test(column, table.rows)

    return over


def _equal(column: Column, rows: int, value: Any) -> Bits:
    if value is None:
        return packed(column.kind[:rows] == NONE)
    if isinstance(value, bool):
        return packed(column.code[:rows] == (TRUE if value else FALSE))
    if isinstance(value, str):
        return packed(column.code[:rows] == column.codes.get(value, _NO_CODE))
    near = _float(value)
    # Nothing equals NaN.
    found = column.select(ORDERS["$eq"], near if near == value else math.nan, rows)
    return _compare_exactly(column, rows, found, lambda exact: exact == value)


def _compare_exactly(column: Column, rows: int, found: Bits, matches: Callable[[int], bool]) -> Bits:
    """Integers that a float64 does not tell apart."""
    for row, exact in column.exact.items():
        if row < rows:
            bit = np.uint64(1 << row % 64)
            found[row // 64] = found[row // 64] & ~bit | (bit if matches(exact) else np.uint64(0))
    return found


def _any_equal(column: Column, rows: int, values: list[Any]) -> Bits:
    codes = [column.codes[v] for v in values if isinstance(v, str) and v in column.codes]
    found = packed(np.isin(column.code[:rows], codes))
    for value in values:
        if not isinstance(value, str):
            found |= _equal(column, rows, value)
    return found


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}
#: Comparisons of float64 with a whole number, as ones with the nearest float64 above it, and below it.
_ABOVE, _BELOW = {"$gt": "$gte", "$lte": "$lt"}, {"$gte": "$gt", "$lt": "$lte"}
_NO_CODE = -4
_NOT_STRINGS = [False, False, False]  # the codes -3, -2 and -1


def _ordered(column: Column, rows: int, comparison: str, value: Any) -> Bits:
    compare = _COMPARE[comparison]
    if isinstance(value, str):
        of_code = np.array([*(compare(s, value) for s in column.strings), *_NOT_STRINGS], np.bool_)
        return packed(of_code[column.code[:rows]])
    near = _float(value)
    # No float64 lies between a whole number and the nearest one.
    rounded = _ABOVE if near > value else _BELOW if near < value else {}
    found = column.select(ORDERS[rounded.get(comparison, comparison)], near, rows)
    return _compare_exactly(column, rows, found, lambda exact: compare(exact, value))
