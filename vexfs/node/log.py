"""The node's log: to a file that rotates, or to standard error, which under systemd is the journal."""

import contextlib
import json
import logging
import logging.handlers
import os
import sys
import time
from pathlib import Path
from typing import Any

from vexfs.config import Settings
from vexfs.errors import ConfigError

FILE = "vexfs.log"
TELL_AGAIN_S = 60.0
_PRIORITY = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _Text(logging.Formatter):
    """One line a message: time, level, logger, what."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self, journal: bool) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s" if journal else
                         "%(asctime)s %(levelname)s %(name)s: %(message)s")  # fmt: skip
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", "\n  ")
        return f"{_priority(record.levelno)}{text}" if self._journal else text


class _Json(logging.Formatter):
    """One JSON object a message; what was given as ``extra`` stands in it."""

    def __init__(self, node_id: str, journal: bool) -> None:
        super().__init__()
        self._node_id = node_id
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "node": self._node_id,
            "message": record.getMessage(),
            **{k: v for k, v in vars(record).items() if k not in _OWN},
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return (_priority(record.levelno) if self._journal else "") + json.dumps(row, default=str)


def _priority(level: int) -> str:
    """What the journal reads as a line's priority."""
    return f"<{next(number for least, number in _PRIORITY if level >= least)}>"


class _Rotating(logging.handlers.RotatingFileHandler):
    """Without older files to keep, the file begins anew.

    While it cannot be written (a full disk), what matters goes to standard error, and now and then that it does.
    """

    lost = 0
    _told = float("-inf")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.lost += 1
        stream: Any = self.stream
        self.stream = None  # what it still holds is not written again and again
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.close()
        lines = [self.format(record)] if record.levelno >= logging.WARNING else []
        if (now := time.monotonic()) - self._told >= TELL_AGAIN_S:
            self._told = now
            what = f"general.log_dir: {self.baseFilename} cannot be written: {error.strerror}"
            lines.insert(0, f"{what}; warnings go here, {self.lost} messages are lost so far: make room there")
        with contextlib.suppress(OSError, ValueError):
            print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr, flush=True)

    def doRollover(self) -> None:  # noqa: N802 - the name is logging's
        super().doRollover()
        if self.backupCount == 0 and self.stream is not None:
            self.stream.truncate(0)


def _handler(settings: Settings) -> logging.Handler:
    general = settings.general
    if not general.log_dir:
        return logging.StreamHandler(sys.stderr)
    directory = Path(general.log_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.glob(f"{FILE}.*"):
            if old.suffix[1:].isdigit() and int(old.suffix[1:]) > general.log_keep:
                old.unlink(missing_ok=True)
        return _Rotating(
            directory / FILE, maxBytes=general.log_max_size, backupCount=general.log_keep, encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError as error:
        told = f"{directory / FILE} cannot be written: {error.strerror}; name a directory that the node's user may"
        raise ConfigError(f"general.log_dir: {told} write to, or leave it empty for standard error") from None


_current: logging.Handler | None = None


def configure(settings: Settings) -> None:
    """Send the log where the settings say, in the form and from the level that they say; may be called again.

    Raises
    ------
    ConfigError
        The log file cannot be opened; the log then stays where it was.
    """
    global _current
    handler = _handler(settings)
    journal = not settings.general.log_dir and "JOURNAL_STREAM" in os.environ
    json_wanted = settings.general.log_format == "json"
    handler.setFormatter(_Json(settings.general.node_id, journal) if json_wanted else _Text(journal))
    root = logging.getLogger("vexfs")
    root.setLevel(settings.general.log_level.upper())
    root.propagate = False
    root.addHandler(handler)
    if _current is not None:
        root.removeHandler(_current)
        _current.close()
    _current = handler
