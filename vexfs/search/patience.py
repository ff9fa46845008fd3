"""Waiting for what models do, but not for models that do not answer."""

import queue
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from vexfs.errors import Unreachable

if TYPE_CHECKING:
    from vexfs.search.ingest import Ingest

T = TypeVar("T")

_LOOK_S = 0.2
_END = object()


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


def until_answered(answers: Iterable[T], patience_s: float, told: str) -> Generator[None, None, list[T]]:
    """What a model answers, computed in a thread of its own; closed before its end, or when it gives up, that thread is
    left behind with the one answer that it is at.

    Yields
    ------
    None
        Five times a second, while there is nothing.

    Raises
    ------
    Unreachable
        Nothing came for `patience_s` seconds; with the text `told`.
    BaseException
        What computing them raised.
    """
    came: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    left = threading.Event()

    def compute() -> None:
        try:
            for each in answers:
                came.put((each, None))
                if left.is_set():
                    return
            came.put((_END, None))
        except BaseException as error:  # raised where it is waited for
            came.put((_END, error))

    threading.Thread(target=compute, name="vexfs-answers", daemon=True).start()
    found: list[T] = []
    until = time.monotonic() + patience_s
    try:
        while True:
            try:
                answer, error = came.get(timeout=_LOOK_S)
            except queue.Empty:
                if time.monotonic() >= until:
                    raise Unreachable(told) from None
                yield
                continue
            if error is not None:
                raise error
            if answer is _END:
                return found
            found.append(answer)
            until = time.monotonic() + patience_s
    finally:
        left.set()
