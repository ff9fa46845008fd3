"""Waiting for ingest, but not for models that do not answer."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vexfs.search.ingest import Ingest

_LOOK_S = 0.2


def until_indexed(ingest: "Ingest", patience_s: float) -> Iterator[dict[str, Any]]:
    """Wait until everything that has changed so far is indexed or set aside, or nothing has gone on for `patience_s`
    seconds but waiting for models.

    Parameters
    ----------
    ingest : Ingest
    patience_s : float
        Seconds; each look at how it stands may find that something has gone on.

    Yields
    ------
    dict
        `Ingest.status`, five times a second.
    """
    until = time.monotonic() + patience_s
    while not ingest.wait(_LOOK_S):
        status = ingest.status()
        yield status
        if status["state"] != "waiting for a model":
            until = time.monotonic() + patience_s
        elif time.monotonic() >= until:
            return
