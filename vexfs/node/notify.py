"""Telling systemd how the node is, over the socket that it names in the environment; elsewhere nothing happens."""

import logging
import os
import socket
import time

log = logging.getLogger("vexfs.node")


class Notifier:
    """``sd_notify``: readiness, status, reloads, the end, and signs of life for the watchdog.

    Attributes
    ----------
    watchdog_s : float or None
        systemd ends the service when it hears nothing for so long.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        usec = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if usec.isdigit() and mine else None

    def _send(self, *words: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto("\n".join(words).encode(), address)
        except OSError as error:
            log.warning("systemd could not be told %s: %s", words[0], error.strerror)

    def ready(self, status: str) -> None:
        """All that was to be started is; also after a reload."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read; `ready` ends that."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")
