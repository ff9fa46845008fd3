"""``token.*``: the tokens that open the node's API."""

from typing import Any

from vexfs.node.node import Node


@Node.verb("token.create")
def create(
    node: Node, name: str, scopes: list[str] | None = None, prefixes: list[str] | None = None,
    lifetime_s: float | None = None,
) -> dict[str, Any]:
    """Make a token; the answer is the only place where it stands in full."""
    text, token = node.tokens.create(name, scopes, prefixes, lifetime_s)
    return {"token": text, **token.shown()}


@Node.verb("token.list")
def listing(node: Node) -> list[dict[str, Any]]:
    """Every token, without secrets and hashes."""
    return [token.shown() for token in node.tokens.all()]


@Node.verb("token.revoke")
def revoke(node: Node, token: str) -> list[dict[str, Any]]:
    """Revoke the token of that id, or all of that name."""
    return [gone.shown() for gone in node.tokens.revoke(token)]
