"""``/v1/tokens``: who may use the API."""

from typing import Annotated, Any

import msgspec
from vexfs.frontends.http.message import Reply, Request
from vexfs.frontends.http.route import ADMIN, Answer, Route

from vexfs.node import Node

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    """A token to make."""

    name: Text
    scopes: list[str] = msgspec.field(default_factory=lambda: ["read"])
    prefixes: list[str] = msgspec.field(default_factory=lambda: ["/"])
    lifetime_s: Annotated[float, msgspec.Meta(gt=0, le=3.2e8)] | None = None


def listing(request: Request) -> Reply:
    """GET."""
    return request.reply([token.shown() for token in request.node.tokens.all()])


def create(request: Request) -> Reply:
    """POST."""
    wanted = request.decoded(NewToken)
    text, token = request.node.tokens.create(wanted.name, wanted.scopes, wanted.prefixes, wanted.lifetime_s)
    return request.reply({"token": text, **token.shown()}, 201)


def revoke(request: Request) -> Reply:
    """DELETE."""
    return request.reply([token.shown() for token in request.node.tokens.revoke(request.path.strip("/"))])


def routes(node: Node) -> list[Route]:
    """Of tokens."""
    token: Any = dict[str, Any]
    return [
        Route(method="GET", path="/v1/tokens", about="All tokens, without secrets", handle=listing, scope=ADMIN,
              answers={200: Answer(about="Tokens", kind=list[token])}, tag="tokens"),
        Route(method="POST", path="/v1/tokens", about="Make a token", handle=create, scope=ADMIN, body=NewToken,
              answers={201: Answer(about="The token, shown this once", kind=token)}, tag="tokens"),
        Route(method="DELETE", path="/v1/tokens/{token}", about="Revoke a token", handle=revoke, scope=ADMIN,
              answers={200: Answer(about="Those revoked", kind=list[token])}, tag="tokens",
              tail_about="Its id, or the name of all that are meant."),
    ]  # fmt: skip
