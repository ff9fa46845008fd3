"""``/v1/openapi.json``: the description of what this node serves."""

from vexfs.frontends.http import openapi
from vexfs.frontends.http.message import Reply, Request
from vexfs.frontends.http.route import Answer, Route

from vexfs.node import Node


def describe(request: Request) -> Reply:
    """GET."""
    return Reply(200, openapi.document(request.app.router.routes), headers={"Cache-Control": "no-cache"})


def routes(node: Node) -> list[Route]:
    """Of the description."""
    return [
        Route(method="GET", path="/v1/openapi.json", about="This description", handle=describe, scope=None, tag="node",
              answers={200: Answer(about="OpenAPI 3.1", kind=dict)}),
    ]  # fmt: skip
