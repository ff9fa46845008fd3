"""Reaching a node: over its control socket, or by opening a volume in this process; the same verbs either way.

>>> with Reach(socket="/run/vexfs/control.sock") as node:
...     status = node.call("node.status").result()
...     for step in (backup := node.call("volume.backup", target="/backup/notes.vex")):
...         print(step["done"], step["total"])
...     print(backup.result()["path"])
"""

import argparse
import errno
import json
import os
import socket as sockets
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vexfs import errors
from vexfs.cli.progress import Progress
from vexfs.config import Settings, load
from vexfs.errors import Unreachable, UsageError, VexfsError
from vexfs.store import lock

DEFAULT_SOCKET = "/run/vexfs/control.sock"
ENVIRONMENT = "VEXFS_SOCKET"


def add_options(parser: Any) -> None:
    """Give a command ``--socket``, ``--volume`` and ``--key-file``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="PATH", help=f"control socket of the node; default: ${ENVIRONMENT}, "
                       f"else {DEFAULT_SOCKET}")  # fmt: skip
    where.add_argument("--volume", metavar="DIR", help="work on this volume, or ask who has it mounted or serves it")
    parser.add_argument("--key-file", metavar="FILE", help="key of an encrypted --volume")


def of(args: argparse.Namespace) -> "Reach":
    """What the options of :func:`add_options` say."""
    return Reach(socket=args.socket, volume=args.volume, key_file=args.key_file)


class Call:
    """A verb under way: iterate for its progress, then ask for its result."""

    def __init__(self, work: Generator[Mapping[str, Any], None, Any]) -> None:
        self._work = work
        self._result: Any = None
        self._done = False

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        try:
            while True:
                try:
                    step = next(self._work)
                except StopIteration as end:
                    self._result, self._done = end.value, True
                    return
                yield step
        finally:
            self._work.close()

    def result(self, label: str | None = None, unit: str = "B") -> Any:
        """The result, when it is there; meanwhile, given a `label`, progress is drawn on a terminal."""
        if not self._done:
            if label is None:
                for _ in self:
                    pass
            else:
                with Progress(label, unit=unit) as bar:
                    for step in self:
                        bar(step.get("done", 0), step.get("total"))
        return self._result


class Reach:
    """A node that verbs can be sent to; a context manager.

    Parameters
    ----------
    socket : path, optional
        Its control socket; default ``VEXFS_SOCKET``, else the socket of a node with the default configuration.
    volume : path, optional
        Open this volume here instead; or, when a node or a mount has it open that says where its socket is, ask that.
    key_file : path, optional
        Of `volume`.
    settings : Settings, optional
        How `volume` is worked with.

    Raises
    ------
    Unreachable
        No node answers at the socket.
    """

    def __init__(
        self, *, socket: str | os.PathLike[str] | None = None, volume: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None, settings: Settings | None = None,
    ) -> None:
        if socket is not None and volume is not None:
            raise UsageError("give a socket or a volume, not both")
        self._stream: Any = None
        self._connection: sockets.socket | None = None
        self._node: Any = None
        self._number = 0
        self._hindrance: OSError | None = None  # why the volume here can only be read
        if volume is None:
            self._connect(os.fspath(socket or os.environ.get(ENVIRONMENT) or DEFAULT_SOCKET))
            return
        if (served := lock.socket_of(Path(volume))) is not None:
            self._connect(served)
            return
        from vexfs.node import Node

        settings = settings or load(environment={})
        try:
            self._node = Node(settings, volume=volume, key_file=key_file).open()
        except OSError as error:
            if not lock.read_beside(error, Path(volume)):
                raise
            # What only reads works there all the same; what would write says why it cannot.
            self._hindrance = error
            self._node = Node(settings, volume=volume, key_file=key_file).open(read_only=True)

    @property
    def here(self) -> bool:
        """Whether the volume is open in this process."""
        return self._node is not None

    def _connect(self, path: str) -> None:
        connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            connection.connect(path)
        except OSError as error:
            connection.close()
            raise Unreachable(f"{path}: no node answers there ({error.strerror or error}); start one with "
                              "`vexfs serve`, give --socket, or --volume to open a volume here") from None  # fmt: skip
        self._connection = connection
        self._stream = connection.makefile("rb")

    def _beside_readers(self, work: Generator[Mapping[str, Any], None, Any]) -> Generator[Mapping[str, Any], None, Any]:
        try:
            return (yield from work)
        except OSError as error:
            if self._hindrance and error.errno == errno.EROFS:
                raise self._hindrance from None
            raise

    def call(self, verb: str, /, **args: Any) -> Call:
        """Do a verb.

        Returns
        -------
        Call
            Iterate it for progress; its ``result()`` raises what the verb raised.
        """
        if self._node is not None:
            return Call(self._beside_readers(self._node.call(verb, args)))
        return Call(self._exchange(verb, args))

    def _exchange(self, verb: str, args: Mapping[str, Any]) -> Generator[Mapping[str, Any], None, Any]:
        if self._connection is None:
            raise Unreachable("the connection to the node is closed")
        self._number += 1
        request = {"id": self._number, "verb": verb, "args": args}
        finished = False
        try:
            self._connection.sendall(json.dumps(request, default=os.fspath).encode() + b"\n")
            while line := self._stream.readline():
                answer = json.loads(line)
                if "progress" in answer:
                    yield answer["progress"]
                    continue
                finished = True
                if "error" in answer:
                    raise _remote(answer["error"])
                return answer["result"]
            raise Unreachable("the node ended before it answered; its log says why")
        except OSError as error:
            if isinstance(error, VexfsError):
                raise
            raise Unreachable(f"the connection to the node broke: {error.strerror or error}") from None
        finally:
            if not finished:
                self.close()  # the node ends what nobody waits for

    def close(self) -> None:
        """Let go of the node, or close the volume."""
        if self._node is not None:
            self._node.close()
        if self._connection is not None:
            self._stream.close()
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Refused(VexfsError):
    """A verb failed in the node with an error that this side has no class for."""


def _remote(told: Mapping[str, Any]) -> VexfsError:
    """The error that the node told of: of the same class where that is one of ours."""
    kind = getattr(errors, str(told.get("type")), None)
    message = str(told.get("message", "the node told no reason"))
    if isinstance(kind, type) and issubclass(kind, VexfsError):
        return kind.at(message)
    error = Refused(message)
    error.exit_code = int(told.get("exit", errors.EXIT_WANTING))  # type: ignore[misc]  # of this one, not of the class
    return error
