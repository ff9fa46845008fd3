"""``volume.*``: what can be done with the volume while it is served."""

import os
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

from vexfs.errors import UsageError
from vexfs.node.node import Node

Steps = Generator[dict[str, Any], None, Any]


class Cancelled(Exception):
    """Whoever asked has gone."""


def with_progress(work: Callable[[Callable[[int, int], None]], Any], text: str) -> Steps:
    """Run `work(progress)` in a thread; yield what it reports, return what it answers.  Ends it when closed."""
    steps: queue.Queue[tuple[int, int] | None] = queue.Queue()
    outcome: list[Any] = []
    failure: list[BaseException] = []
    cancelled = threading.Event()

    def report(done: int, total: int) -> None:
        if cancelled.is_set():
            raise Cancelled
        steps.put((done, total))

    def run() -> None:
        try:
            outcome.append(work(report))
        except BaseException as error:  # handed over to whoever waits
            failure.append(error)
        steps.put(None)

    thread = threading.Thread(target=run, name="vexfs-verb", daemon=True)
    thread.start()
    try:
        while (step := steps.get()) is not None:
            yield {"done": step[0], "total": step[1], "text": text}
    finally:
        cancelled.set()
        thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@Node.verb("volume.info")
def info(node: Node) -> dict[str, Any]:
    """What the volume is and how it stands."""
    found: dict[str, Any] = node.volume.info()
    return found


@Node.verb("volume.sync")
def sync(node: Node) -> dict[str, Any]:
    """Wait until everything done so far is on stable storage."""
    node.volume.sync()
    return {"synced": True}


@Node.verb("volume.compact")
def compact(node: Node) -> Steps:
    """Free the room of what was removed."""
    return (yield from with_progress(node.volume.compact, "compacting"))


@Node.verb("volume.backup")
def backup(node: Node, target: str) -> Steps:
    """Copy a consistent snapshot into the new directory `target` of the node's host, an absolute path."""
    if not os.path.isabs(target):
        raise UsageError(f"target is {target!r}, and must be an absolute path: the node has a directory of its own")
    where = yield from with_progress(lambda progress: node.volume.backup(target, progress), "copying")
    return {"path": str(where)}
