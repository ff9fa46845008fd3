"""How an attribute's value stands in its xattr: a JSON scalar keeps its type, anything else is a string.

``user.year`` holding ``2020`` is the number 2020, holding ``"2020"`` (with the quotes) or ``second edition`` a string.
So ``setfattr -n user.year -v 2020`` and ``attributes["year"] = 2020`` write the same.
"""

from vexfs._core.record import decode, encode

__all__ = ["PREFIX", "RESERVED", "Scalar", "decode", "encode"]

PREFIX = b"user."
#: Below this prefix xattrs are VexFS's own (vectors and the like), no attributes.
RESERVED = b"user.vexfs."

Scalar = str | int | float | bool | None
