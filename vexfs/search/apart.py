"""Extraction by somebody else's code, in a thread that is left behind when it does not end.

No thread can be ended from outside.  So one that hangs stays until the process ends, and an extractor has only so many
of them: then it is given no more files.
"""

import threading
import time
from collections.abc import Callable

from vexfs.errors import PluginBroken

_LEFT_MOST = 2
_LOOK_S = 0.1

_left: dict[str, int] = {}
_lock = threading.Lock()


class Stopped(Exception):
    """Nobody waits any more."""


def apart(kind: str, work: Callable[[], None], time_s: float, stop: threading.Event | None) -> bool:
    """Do `work` of the extractor `kind`; False: it has not ended within that time, and is left behind.

    Raises
    ------
    PluginBroken
        It has been left behind too often.
    Stopped
        `stop` was set meanwhile.
    BaseException
        What `work` raised.
    """
    if (left := _left.get(kind, 0)) >= _LEFT_MOST:
        raise PluginBroken(f"extractor {kind}: has not come back from {left} other files; it is given no more until it "
                           "has, or VexFS is started anew (then: vexctl index retry)")  # fmt: skip
    ended, raised = threading.Event(), list[BaseException]()
    abandoned = False

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        with _lock:
            ended.set()
            if abandoned:
                _left[kind] -= 1

    threading.Thread(target=run, name="vexfs-extract", daemon=True).start()
    until = time.monotonic() + time_s
    while not ended.wait(max(0.0, min(_LOOK_S, until - time.monotonic()))):
        stopped = stop is not None and stop.is_set()
        if time.monotonic() < until and not stopped:
            continue
        with _lock:
            if ended.is_set():
                break
            abandoned = True
            _left[kind] = _left.get(kind, 0) + 1
        if stopped:
            raise Stopped
        return False
    if raised:
        raise raised[0]
    return True
