"""Threads behind an event loop, in lanes: who waits in one of them holds up nobody in another."""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any

Job = tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any], None] | None]


class Raised:
    """What a job raised, on its way to who waits for it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Workers:
    """At most so many threads, made as jobs come.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        Calls of everything here come from it, and outcomes go to it.
    name : str
        Of the threads.
    most : int
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, most: int) -> None:
        self._loop, self._name, self._most = loop, name, most
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = 0

    def put(self, call: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any], None] | None = None) -> None:
        """Have a thread call `call`; `done` gets on the loop what it answers, or :class:`Raised`."""
        self._jobs.put((call, args, done))
        if self._threads < self._most:
            threading.Thread(target=self._toil, name=f"vexfs-{self._name}-{self._threads}", daemon=True).start()
            self._threads += 1

    def work(self, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Have a thread call `call`; raises what it raises."""
        future = self._loop.create_future()

        def done(outcome: Any) -> None:
            if future.cancelled():
                return
            if isinstance(outcome, Raised):
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome)

        self.put(call, args, done)
        return future

    def end(self) -> None:
        """Let every thread end when it is done with what waits."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _toil(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, args, done = job
            try:
                outcome = call(*args)
            except BaseException as error:
                outcome = Raised(error)
            if done is not None:
                try:
                    self._loop.call_soon_threadsafe(done, outcome)
                except RuntimeError:
                    return  # the loop is closed: the node has stopped
