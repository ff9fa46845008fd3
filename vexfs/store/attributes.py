"""How an attribute's value stands in its xattr: a JSON scalar keeps its type, anything else is a string.

``user.year`` holding ``2020`` is the number 2020, holding ``"2020"`` (with the quotes) or ``second edition`` a string.
So ``setfattr -n user.year -v 2020`` and ``attributes["year"] = 2020`` write the same.
"""

import json
import math
from typing import Any

PREFIX = b"user."
#: Below this prefix xattrs are VexFS's own (vectors and the like), no attributes.
RESERVED = b"user.vexfs."

Scalar = str | int | float | bool | None


def _refuse(token: str) -> Any:
    raise ValueError(f"{token} is no JSON")


def decode(raw: bytes) -> Scalar:
    """The value that an xattr's bytes stand for; bytes that are not UTF-8 become a string with surrogates."""
    text = raw.decode("utf-8", "surrogateescape")
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    return value if isinstance(value, Scalar) else text


def encode(value: Any) -> bytes:
    """The bytes of a scalar, such that `decode` gives it back.

    Raises
    ------
    TypeError
        The value is no string, number, boolean or None.
    ValueError
        It is a number that JSON has no form for.
    """
    if hasattr(value, "item") and not isinstance(value, Scalar):
        value = value.item()  # a numpy scalar
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogateescape")
        return raw if decode(raw) == value and isinstance(decode(raw), str) else json.dumps(value).encode()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"an attribute cannot be {value}: JSON has no such number")
    if not isinstance(value, Scalar):
        raise TypeError(f"an attribute is a string, number, boolean or None, not {type(value).__name__}")
    return json.dumps(value).encode()
