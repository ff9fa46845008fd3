"""Going into the background, and telling the caller only then how it went."""

import json
import logging
import logging.handlers
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from vexfs.errors import VexfsError, describe, row_of

Work = Callable[[Callable[[dict[str, Any]], None]], int]


class StartFailed(VexfsError):
    """The process in the background could not start its work; the message is its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # of this failure, not of the class


def detach(work: Work, log_file: str | None) -> dict[str, Any]:
    """Run `work` in a process of its own session; return when it reports to be ready.

    Parameters
    ----------
    work
        Called in the new process with a function to call once, with what to tell the caller, when it is ready.
        Answers the new process's exit status.
    log_file
        Where the new process logs; None: to syslog where there is one.

    Returns
    -------
    dict
        What `work` reported.

    Raises
    ------
    StartFailed
        It ended before it was ready; message and exit status are its own.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(work, writer, log_file)
    os.close(writer)
    with os.fdopen(reader, "rb") as report:
        told = report.read()
    if told:
        answer: dict[str, Any] = json.loads(told)
        if "failure" not in answer:
            return {"pid": child, **answer}
        os.waitpid(child, 0)
        raise StartFailed(answer["failure"], answer["status"])
    _, status = os.waitpid(child, 0)
    raise StartFailed(f"the process in the background ended with status {status} before it was ready", 1)


def _child(work: Work, writer: int, log_file: str | None) -> NoReturn:
    status = 1
    try:
        os.chdir("/")
        log_to(log_file)

        def ready(report: dict[str, Any]) -> None:
            os.setsid()  # not before: an automount lets only the process group that mounts it in
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            os.close(null)
            os.write(writer, json.dumps(report).encode())
            os.close(writer)

        status = work(ready)
    except BaseException as error:
        status = row_of(error).exit_code
        expected = isinstance(error, (VexfsError, OSError, ValueError))
        message = " ".join(describe(error).split()) if expected else f"{type(error).__name__}: {error}"
        logging.getLogger("vexfs").error("ended: %s", message, exc_info=not expected)
        try:
            os.write(writer, json.dumps({"failure": message, "status": status}).encode())
        except OSError:
            pass  # the caller has its answer already; the log has this one
    finally:
        logging.shutdown()
        os._exit(status)


def log_to(log_file: str | None, *, terminal: bool = False) -> None:
    """Send log lines to a file, to the terminal's standard error, or to syslog where there is one."""
    handler: logging.Handler
    if log_file:
        handler = logging.handlers.WatchedFileHandler(log_file)
    elif terminal:
        handler = logging.StreamHandler()
    elif os.path.exists("/dev/log"):
        handler = logging.handlers.SysLogHandler("/dev/log")
        handler.ident = "vexfs: "
    else:
        handler = logging.NullHandler()  # else Python would write to a standard error that nobody reads
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("vexfs")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
