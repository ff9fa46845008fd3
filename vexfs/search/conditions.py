"""Filters as people type them: ``year>=2020``, ``lang=en,de``, ``draft!=true``, ``author``, ``path=*.md``."""

import json
import re
from collections.abc import Iterable
from typing import Any

from vexfs.errors import QueryInvalid

_CONDITION = re.compile(r"(?P<name>[^<>=!]+?)\s*(?:(?P<op>>=|<=|!=|==|=|>|<)\s*(?P<value>.*))?", re.DOTALL)
_OPERATORS = {"=": "$eq", "==": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}


def where_of(conditions: Iterable[str]) -> dict[str, Any] | None:
    """Conditions, which all have to hold, as a filter; None when there are none.

    A value that is JSON has its type, anything else is text; several between commas: any of them.  ``path`` is the path
    below the index's directory, with ``*`` and ``?``.  A name alone: the attribute exists.  A condition that begins
    with a brace is a filter in JSON.

    Raises
    ------
    QueryInvalid
        A condition is none.
    """
    parts = [_parsed(each) for each in conditions]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else {"$and": parts}


def _parsed(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise QueryInvalid(f"{text!r} is no filter in JSON: {error}") from None
        if isinstance(found, dict):
            return found
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise QueryInvalid(f"{text!r} is no condition; NAME>=VALUE is one, with = != > >= < <=, or a NAME alone")
    name, op, value = match["name"].strip(), match["op"], match["value"]
    if op is None:
        return {name: {"$exists": True}}
    if value.startswith(("<", ">", "=", "!")):
        told = f"{op}{value[0]} compares nothing; a text that begins with {value[0]} stands in double quotes"
        raise QueryInvalid(f"{text!r}: {told}")
    if name in ("path", "$path"):
        if op not in ("=", "=="):
            raise QueryInvalid(f"{text!r}: a path is compared with = and a pattern, as path=*.md")
        return {"$path": value}
    values = [_value(each.strip()) for each in value.split(",")]
    if len(values) == 1:
        return {name: {_OPERATORS[op]: values[0]}}
    if op not in ("=", "==", "!="):
        raise QueryInvalid(f"{text!r}: several values can only be compared with = and !=")
    return {name: {"$nin" if op == "!=" else "$in": values}}


def _value(text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, str | int | float | bool) else text
