"""The server's side of the control socket: one thread a connection."""

import contextlib
import errno
import json
import logging
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vexfs.config import Settings
from vexfs.errors import Busy, UsageError, VexfsError, describe, row_of
from vexfs.node import Node

log = logging.getLogger("vexfs.control")

LINE_MOST = 16 << 20
CONNECTIONS_MOST = 64
_CRED = struct.Struct("3i")


class ControlService:
    """Listens on ``general.control_socket`` and does the verbs that it is asked for."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.path = Path(node.settings.general.control_socket)
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = False
        self._fault: str | None = None
        self.refused = 0

    # -- as a service

    def prepare(self) -> None:
        """Nothing that needs root: the socket's directory was made before."""

    def start(self) -> None:
        """Bind the socket, which nobody but the node's user (and root) may open."""
        self._remove_stale()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o177)
            try:
                listener.bind(str(self.path))
            finally:
                os.umask(before)
            listener.listen(CONNECTIONS_MOST)
        except OSError as error:
            listener.close()
            hint = "; a socket's path has 107 bytes at most" if "too long" in str(error) else ""
            raise VexfsError(f"control socket {self.path}: {error.strerror or error}{hint}") from None
        self._listener = listener
        self._thread = threading.Thread(target=self._accept, name="vexfs-control", daemon=True)
        self._thread.start()

    def _remove_stale(self) -> None:
        """A socket that nobody listens on is what a crash left; one that answers belongs to another node."""
        try:
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise Busy.at("is no socket; remove it, or name another control_socket", self.path)
        except FileNotFoundError:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.path))
            except OSError as error:
                if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                    raise
                self.path.unlink(missing_ok=True)
                return
        raise Busy.at("another node answers there; stop it, or name another control_socket", self.path)

    def stop(self, timeout_s: float) -> None:
        """Close the socket and all connections; what a verb is doing then is ended."""
        self._stopping = True
        if self._listener is None:
            return
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        with contextlib.suppress(OSError):
            self.path.unlink()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        # What a verb has begun (a backup) is taken back by its own thread, which ends with the process.
        until = time.monotonic() + timeout_s
        while self._connections and time.monotonic() < until:
            time.sleep(0.01)

    def failure(self) -> str | None:
        """Why it no longer listens."""
        if not self._stopping and not self.path.exists():
            return f"{self.path} was removed"
        return self._fault

    def reload(self, settings: Settings) -> None:
        """Nothing of it changes while running."""

    def describe(self) -> dict[str, Any]:
        """Where it is, and how many talk to it."""
        return {"socket": str(self.path), "connections": len(self._connections), "refused": self.refused}

    # -- connections

    def _accept(self) -> None:
        assert self._listener is not None
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping:
                    self._fault = f"accept: {error.strerror}"
                return
            if not self._welcome(connection):
                self.refused += 1
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="vexfs-control-client", daemon=True).start()

    def _welcome(self, connection: socket.socket) -> bool:
        """Root and the node's own user only, whatever became of the socket's mode."""
        pid, uid, _ = _CRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CRED.size))
        if uid not in (0, os.geteuid()):
            log.warning("refused a connection of process %d of user %d", pid, uid)
            return False
        with self._lock:
            if len(self._connections) >= CONNECTIONS_MOST:
                log.warning("refused a connection: %d are open", CONNECTIONS_MOST)
                return False
            self._connections.add(connection)
        return True

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                for line in _lines(connection):
                    self._answer(connection, line)
                    if self._stopping:
                        return
        except OSError:
            pass  # the client has gone; what it asked for was ended
        except Exception:
            log.exception("a connection of the control socket failed")
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _answer(self, connection: socket.socket, line: bytes) -> None:
        number: Any = None
        try:
            request = _request(line)
            number = request.get("id")
            verb, args = request["verb"], request["args"]
            log.debug("verb %s", verb)
            result = self._do(connection, number, verb, args)
            _send(connection, {"id": number, "result": result})
        except _Gone:
            log.info("the client went before its request was done; it was ended")
            raise ConnectionResetError from None
        except Exception as error:
            if not isinstance(error, (VexfsError, OSError, ValueError, MemoryError)):
                log.exception("a verb failed")
                told = f"the node failed at it ({type(error).__name__}); its log says more"
            else:
                told = describe(error)
            row = row_of(error)
            fault = {"type": named(row.error), "message": told, "exit": row.exit_code}
            _send(connection, {"id": number, "error": fault})

    def _do(self, connection: socket.socket, number: Any, verb: str, args: Mapping[str, Any]) -> Any:
        work = self._node.call(verb, args)
        try:
            while True:
                try:
                    step = next(work)
                except StopIteration as end:
                    return end.value
                if _has_gone(connection):
                    raise _Gone
                try:
                    _send(connection, {"id": number, "progress": step})
                except OSError:
                    raise _Gone from None
        finally:
            work.close()


def named(error: type[BaseException]) -> str:
    """The class of ``vexfs.errors`` that an error is of, by which the other side knows it."""
    return next((c.__name__ for c in error.__mro__ if c.__module__ == "vexfs.errors"), "VexfsError")


class _Gone(Exception):
    """The client closed its end."""


def _has_gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _lines(connection: socket.socket) -> Iterator[bytes]:
    with connection.makefile("rb") as stream:
        while line := stream.readline(LINE_MOST + 1):
            if len(line) > LINE_MOST:
                fault = {"type": "UsageError", "message": f"a request has {LINE_MOST} bytes at most", "exit": 2}
                _send(connection, {"id": None, "error": fault})
                return
            if line.strip():
                yield line


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError("a request is one line of JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
        raise UsageError('a request is an object {"id", "verb", "args"}; verb is a string')
    args = request.setdefault("args", {})
    if not isinstance(args, dict):
        raise UsageError("args is an object of arguments by name")
    return request


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    connection.sendall(json.dumps(message, default=_plain).encode("utf-8", "surrogateescape") + b"\n")


def _plain(value: Any) -> Any:
    """JSON forms of what verbs answer: bytes, paths, numpy, attrs."""
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(os.fspath(value))
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def service(node: Node) -> ControlService:
    """The control socket of `node`."""
    return ControlService(node)
