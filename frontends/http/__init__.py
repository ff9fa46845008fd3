"""A volume over HTTP: REST with the web page on one port, WebSocket on another.

=====================  ==================================================================================
:mod:`.connection`     HTTP/1.1 on an event loop: parsing, order, time, writing
:mod:`.gate`           what is let in: tokens, scopes, limits, rates; the workers behind the loop
:mod:`.message`        requests and replies; problems; paths
:mod:`.route`          which handler answers what; :mod:`.openapi` describes it
:mod:`.api`            the handlers, one noun a module
:mod:`.server`         a port, its loop, its certificates; :mod:`.rest` and :mod:`.websocket` are the services
:mod:`.feeds`          what can be subscribed to over WebSocket
=====================  ==================================================================================

The loop parses and writes and never waits for anything else; handlers run in workers, where the core releases the
interpreter's lock.  Nothing here decides what an operation means: that is the volume's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vexfs.errors import PluginBroken

if TYPE_CHECKING:
    from vexfs.frontends.http.rest import RestService
    from vexfs.frontends.http.websocket import WebSocketService

    from vexfs.node import Node

__all__ = ["rest_service", "websocket_service"]


def rest_service(node: Node) -> RestService:
    """REST and the web page of `node`."""
    try:
        from vexfs.frontends.http.rest import RestService
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("httptools", "msgspec"):
            raise
        raise PluginBroken("HTTP needs httptools and msgspec; install them: pip install 'vexfs[server]'") from None
    return RestService(node)


def websocket_service(node: Node) -> WebSocketService:
    """Subscriptions of `node`."""
    try:
        from vexfs.frontends.http.websocket import WebSocketService
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("websockets", "msgspec", "httptools"):
            raise
        what = "WebSocket needs websockets and msgspec; install them: pip install 'vexfs[server]'"
        raise PluginBroken(what) from None
    return WebSocketService(node)
