"""Ids and metadata of documents, as names and attributes of files; each comes back as it was."""

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from vexfs.errors import InvalidArgument

#: Holds, as JSON, what no attribute can: lists, mappings, None, odd names.  Filters do not see into it.
REST = "langchain"
NAME_MOST = 200  # bytes of an attribute's name
_SAFE = " !#$&'()*+,:;<=>?@[]^_`{|}~-"


def name_of(document_id: str) -> str:
    """The file name of an id: the id itself, with what a name cannot hold (and ``%``) percent-encoded."""
    name = "".join(c if c.isalnum() and ord(c) > 127 else quote(c, safe=_SAFE + ".") for c in document_id)
    name = "%2E" + name[1:] if name.startswith(".") else name
    if not name or len(name.encode()) > 255:
        raise InvalidArgument.at(f"{document_id[:40]!r} cannot be the id of a document: 1 to 255 bytes are wanted")
    return name


def id_of(name: str) -> str:
    """The id of a file name; inverse of `name_of`."""
    return unquote(name)


def _is_attribute(name: str, value: Any) -> bool:
    good = isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))
    return good and 0 < len(name.encode()) <= NAME_MOST and "\0" not in name and not name.startswith(("vexfs.", REST))


def attributes_of(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata as attributes: scalars by themselves, the rest as JSON in one.

    Raises
    ------
    InvalidArgument
        A value that JSON has no form for.
    """
    metadata = metadata or {}
    out = {name: value for name, value in metadata.items() if _is_attribute(name, value)}
    rest = {name: value for name, value in metadata.items() if name not in out}
    if rest:
        try:
            # In brackets, so that it stays a string.
            out[REST] = json.dumps([rest], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidArgument.at(f"metadata must be JSON values: {error}") from None
    return out


def metadata_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that `attributes_of` was given."""
    out = {name: value for name, value in attributes.items() if name != REST}
    if REST in attributes:
        out.update(json.loads(attributes[REST])[0])
    return out
