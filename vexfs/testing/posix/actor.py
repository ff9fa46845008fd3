"""A process that runs as another user and does there what it is asked for."""

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import IO, Any

from vexfs.testing.posix import calls

_ROOMS = {"os": os, "posix": os, "calls": calls}


def _send(pipe: IO[bytes], what: Any) -> None:
    data = pickle.dumps(what)
    pipe.write(struct.pack("<I", len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    head = pipe.read(4)
    if len(head) < 4:
        raise EOFError("the other side has ended")
    return pickle.loads(pipe.read(struct.unpack("<I", head)[0]))


class Actor:
    """Calls functions of ``os`` and of :mod:`vexfs.testing.posix.calls` as another user; umask 0.

    Calling the actor with a function and arguments answers what the function answers there, or raises its OSError.
    """

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...] = ()) -> None:
        words = [str(n) for n in (uid, gid, *groups)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from vexfs.testing.posix.actor import serve; serve()", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Have `function` called there."""
        room = function.__module__.rpartition(".")[2]
        _send(self._requests, (room, function.__name__, args, kwargs))
        code, answer = _receive(self._answers)
        if code:
            raise OSError(code, os.strerror(code), f"{function.__name__}{args}")
        return answer

    def close(self) -> None:
        """End the process."""
        self._requests.close()
        self._process.wait()
        self._answers.close()


def serve() -> None:
    """Become the user that the arguments name, then answer requests until the pipe ends."""
    uid, gid, *groups = map(int, sys.argv[1:])
    os.umask(0)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    while True:
        try:
            room, name, args, kwargs = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = (0, getattr(_ROOMS[room], name)(*args, **kwargs))
        except OSError as error:
            answer = (error.errno or 0, None)
        _send(sys.stdout.buffer, answer)
