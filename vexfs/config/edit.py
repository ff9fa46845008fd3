"""Setting keys in a configuration file without touching anything else in it: comments, order, spacing."""

import re
from collections.abc import Mapping
from typing import Any

_SECTION = re.compile(r"^\s*\[\s*([\w.-]+)\s*\]")


def literal(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """`text` with ``section.name`` set to values; what is not there is added at the end of its section.

    A value that goes on over several lines (an array) is not replaced: none of the keys that are set this way has one.
    """
    # TOML knows two ends of lines; `splitlines` would cut at U+2028 in a comment, too.
    lines = re.split("\r?\n", text.removeprefix("\ufeff"))
    if not lines[-1]:
        lines.pop()
    for path, value in values.items():
        section, name = path.split(".")
        at, end = _find(lines, section, name)
        line = f"{name} = {literal(value)}"
        if at is not None:
            comment = re.search(r"\s+#.*$", lines[at])
            lines[at] = line + (comment.group() if comment else "")
        elif end is not None:
            lines.insert(end, line)
        else:
            lines += [*([""] if lines else []), f"[{section}]", line]
    return "\n".join(lines) + "\n"


def _find(lines: list[str], section: str, name: str) -> tuple[int | None, int | None]:
    """The line of the key, and where a new one of its section goes; None where there is none."""
    key = re.compile(rf"^\s*{re.escape(name)}\s*=")
    inside, end = False, None
    for i, line in enumerate(lines):
        if match := _SECTION.match(line):
            inside = match.group(1) == section
            end = i + 1 if inside else end
        elif inside:
            if key.match(line):
                return i, end
            if line.strip():
                end = i + 1
    return None, end
