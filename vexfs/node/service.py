"""Services: the parts of a node that face the outside, each started, watched, restarted and stopped by itself.

A frontend module offers ``service(node)`` (or, when it has several, other functions of that form), which answers a
:class:`Service`.  The node finds them through the registry of frontends, so that a frontend that is not installed, or
cannot be imported, takes nothing else down.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from vexfs.config import Settings
from vexfs.errors import ConfigError, VexfsError, describe
from vexfs.registry import registry

log = logging.getLogger("vexfs.node")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


class Service(Protocol):
    """One part of a node that faces the outside."""

    def prepare(self) -> None:
        """Take what only root may take (ports below 1024, private keys), before privileges are dropped."""

    def start(self) -> None:
        """Begin to serve; return when it does.  Raises what prevents it."""

    def stop(self, timeout_s: float) -> None:
        """Take nothing new, finish what is under way within `timeout_s`, and end."""

    def failure(self) -> str | None:
        """Why it no longer serves, although nobody stopped it; None while all is well."""

    def reload(self, settings: Settings) -> None:
        """Go on under new settings, as far as they can change while running."""

    def describe(self) -> dict[str, Any]:
        """Where it is found, and what it has to say about itself."""


@attrs.frozen
class Offer:
    """A service that a node may have: which frontend makes it, and whether the settings want it."""

    name: str
    frontend: str
    function: str
    wanted: Callable[[Settings], bool]


#: In the order of starting; stopped the other way round.
OFFERS = (
    Offer("control", "control", "service", lambda s: bool(s.general.control_socket)),
    Offer("mount", "fuse", "service", lambda s: bool(s.mount.mountpoint)),
    Offer("health", "metrics", "health_service", lambda s: s.monitoring.metrics_enabled),
    Offer("metrics", "metrics", "metrics_service",
          lambda s: s.monitoring.metrics_enabled and s.monitoring.prometheus_enabled),
    Offer("rest", "http", "rest_service", lambda s: s.api.rest_enabled),
    Offer("websocket", "http", "websocket_service", lambda s: s.api.websocket_enabled),
)  # fmt: skip


@attrs.define
class Supervised:
    """A service with its life so far."""

    name: str
    made: Callable[[], Service]
    service: Service
    state: str = "new"
    fault: str = ""
    failures: int = 0
    retry_at: float = 0.0

    def start(self) -> None:
        """Start it; raises what prevents it."""
        self.service.start()
        self.state, self.fault = "serving", ""

    def stop(self, timeout_s: float) -> None:
        """Stop it; what goes wrong then is logged."""
        if self.state in ("serving", "failed"):
            try:
                self.service.stop(timeout_s)
            except Exception as error:
                log.error("%s did not stop cleanly: %s", self.name, describe(error))
        self.state = "stopped"

    def look(self) -> None:
        """Notice that it failed; start it anew when its pause is over, which doubles with every failure."""
        if self.state == "serving":
            fault = self.service.failure()
            if fault is not None:
                self._failed(fault)
        elif self.state == "failed" and time.monotonic() >= self.retry_at:
            try:
                self.service.stop(1.0)
            except Exception as error:
                log.debug("%s, already failed, did not stop cleanly: %s", self.name, describe(error))
            try:
                self.service = self.made()
                self.service.prepare()
                self.start()
                log.warning("%s serves again, after %d failures", self.name, self.failures)
            except Exception as error:
                self._failed(describe(error))

    def _failed(self, fault: str) -> None:
        self.failures += 1
        self.state, self.fault = "failed", fault
        pause = min(_FIRST_PAUSE_S * 2 ** (self.failures - 1), _LONGEST_PAUSE_S)
        self.retry_at = time.monotonic() + pause
        log.error("%s failed: %s; it is started anew in %.0f s", self.name, fault, pause)

    def describe(self) -> dict[str, Any]:
        """State, fault, failures, and what the service tells."""
        told = self.service.describe() if self.state == "serving" else {}
        return {"state": self.state, "fault": self.fault, "failures": self.failures, **told}


def wanted(node: Any, settings: Settings) -> tuple[list[Supervised], dict[str, str]]:
    """The services that the settings want, and (by name) why one of them is not to be had here."""
    found, missing = [], {}
    for offer in OFFERS:
        if not offer.wanted(settings):
            continue
        try:
            maker = getattr(registry("frontends").get(offer.frontend), offer.function)
        except ConfigError:
            missing[offer.name] = "this version does not have it"
            continue
        except (VexfsError, AttributeError) as error:
            missing[offer.name] = str(error)
            continue

        def made(maker: Callable[[Any], Service] = maker) -> Service:
            return maker(node)

        found.append(Supervised(offer.name, made, made()))
    return found, missing
