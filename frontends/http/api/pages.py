"""The web page: plain files that ship with the package, open to everybody; what they show needs a token."""

from functools import cache
from importlib import resources

from vexfs.frontends.http.message import Reply, Request
from vexfs.frontends.http.route import Answer, Route

from vexfs.node import Node

_FILES = {
    "/": ("index.html", "text/html"), "/app.js": ("app.js", "text/javascript"), "/style.css": ("style.css", "text/css"),
}  # fmt: skip
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self' ws: wss:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


@cache
def _bytes(name: str) -> bytes:
    return (resources.files("vexfs.frontends.http") / "static" / name).read_bytes()


def page(request: Request) -> Reply:
    """GET."""
    name, media = _FILES[request.raw_path.decode("ascii")]
    return Reply(200, _bytes(name), f"{media}; charset=utf-8", dict(_HEADERS))


def routes(node: Node) -> list[Route]:
    """Of the page's files."""
    found = {200: Answer(about="The page", media=("text/html",))}
    return [Route(method="GET", path=path, about="The page", handle=page, scope=None, answers=found) for path in _FILES]
