"""Work in a thread of the lowest priority, until somebody waits for it.

A thread that has gone down may not come up again without CAP_SYS_NICE: then another one, of the priority of whoever
waits, takes its place as soon as it is done with what it is at.
"""

import contextlib
import os
import threading
from collections.abc import Callable

_LOWEST = 19


class Relay:
    """One thread at a time.

    Parameters
    ----------
    name : str
        Of the thread.
    work : callable
        What the thread does; it ends when `goes_on`, which it asks between its steps, is False.
    hurry : callable
        Whether somebody waits.
    """

    def __init__(self, name: str, work: Callable[[], None], hurry: Callable[[], bool]) -> None:
        self._name, self._work, self._hurry = name, work, hurry
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._low = False

    @property
    def begun(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    def start(self) -> None:
        """Begin, with the priority of the calling thread."""
        with self._lock:
            self._begin(None)

    def _begin(self, before: threading.Thread | None) -> None:
        def run() -> None:
            if before is not None:
                before.join()
            self._work()

        thread = threading.Thread(target=run, name=self._name, daemon=True)
        thread.start()
        self._thread, self._low = thread, False

    def goes_on(self) -> bool:
        """For the thread itself: whether it still has the work; goes down when nobody waits."""
        with self._lock:
            if threading.current_thread() is not self._thread:
                return False
            if not self._low and not self._hurry():
                self._low = True
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, 0, _LOWEST)
            return True

    def urge(self) -> None:
        """Give the work the priority of the calling thread, when it has a lower one; `hurry` is true by now."""
        with self._lock:
            thread = self._thread
            if thread is None or not thread.is_alive():
                return
            tid = thread.native_id or 0
            wanted = os.getpriority(os.PRIO_PROCESS, 0)
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                if os.getpriority(os.PRIO_PROCESS, tid) <= wanted:
                    return
                try:
                    os.setpriority(os.PRIO_PROCESS, tid, wanted)
                    self._low = False
                except PermissionError:
                    self._begin(thread)

    def join(self, timeout_s: float) -> None:
        """Wait for the end; not in a thread of its own."""
        if self._thread is not None and threading.current_thread().name != self._name:
            self._thread.join(timeout_s)
