"""``/v1/ingest``: how the text of indexes gets in: how it stands, waiting for it, trying again."""

import os
from typing import Annotated, Any

import msgspec
from vexfs.frontends.http.api.types import Done
from vexfs.frontends.http.fence import fenced
from vexfs.frontends.http.message import JSON, MSGPACK, Reply, Request, normal
from vexfs.frontends.http.route import WAIT, WRITE, Answer, Route

from vexfs.node import Node


class Patience(msgspec.Struct, forbid_unknown_fields=True):
    """How long to wait."""

    timeout_s: Annotated[float, msgspec.Meta(ge=0, le=20)] = 5.0


class Settled(msgspec.Struct):
    """Whether everything that had changed is indexed or set aside."""

    settled: bool


class Again(msgspec.Struct, forbid_unknown_fields=True):
    """An index whose files that were set aside are tried again."""

    index: Annotated[str, msgspec.Meta(min_length=1)]


def show(request: Request) -> Reply:
    """GET /v1/ingest."""
    return request.reply(request.node.volume.ingest.status())


def wait(request: Request) -> Reply:
    """POST /v1/ingest/wait."""
    left_s = request.left_of(request.decoded(Patience).timeout_s)
    return request.reply(Settled(request.node.volume.ingest.wait(left_s)))


@fenced
def retry(request: Request) -> Reply:
    """POST /v1/ingest/retry."""
    wanted = request.decoded(Again)
    volume = request.node.volume
    index = volume.catalog.at(request.allow(normal(wanted.index)))
    request.allow(normal(os.fsdecode(index.path)))  # it may be that of a directory above
    return request.reply(Done(volume.ingest.retry(index)))


def routes(node: Node) -> list[Route]:
    """Where the volume has text to be indexed."""
    if not hasattr(type(node.volume), "ingest"):
        return []
    both: dict[str, Any] = {"media": (JSON, MSGPACK), "tag": "search"}
    return [
        Route(method="GET", path="/v1/ingest", about="How the text of indexes gets in", handle=show, tag="search",
              answers={200: Answer(about="State, backlog, rates", kind=dict[str, Any])}),
        Route(method="POST", path="/v1/ingest/wait", about="Wait for what has changed to be indexed", handle=wait,
              body=Patience, answers={200: Answer(about="Whether it is", kind=Settled)}, lane=WAIT, **both),
        Route(method="POST", path="/v1/ingest/retry", about="Try files that were set aside again", handle=retry,
              scope=WRITE, body=Again, answers={200: Answer(about="How many", kind=Done)}, **both),
    ]  # fmt: skip
