"""Embedding anew at a node: started, followed until its end."""

from collections.abc import Callable
from typing import Any

from vexfs.errors import IndexConflict
from vexfs.remote.link import Link, Refused, error_of, texts

_WAIT_S = 0.5


def reembed(link: Link, path: str, embedder: str | None, progress: Callable[[int, int], Any] | None) -> str:
    """Have the text of a directory's index embedded anew; the directory's path, when that is done.

    Raises
    ------
    IndexConflict
        Somebody else has ended it.
    VexfsError
        What ended it at the node.
    """
    wish = {"index": path} if embedder is None else {"index": path, "embedder": embedder}
    told = link.ask("POST", "/v1/reembed", wish)
    place = f"/v1/reembed/{told['id']}"
    seen = None
    try:
        while told["state"] == "running":
            told = link.ask("GET", f"{place}?wait_s={_WAIT_S}")
            if progress is not None and told["total"] and seen != (told["done"], told["total"]):
                seen = told["done"], told["total"]
                progress(*seen)
    except BaseException as error:
        if not isinstance(error, (ConnectionError, Refused)):
            link.ask("DELETE", place)
        raise
    if told["state"] == "stopped":
        raise IndexConflict.at("embedding it anew was ended by somebody else; the old vectors are as they were", path)
    if told["state"] == "failed":
        raise error_of(told["fault"]) or Refused(500, told["fault"]["detail"])
    return str(texts(told["path"]))
