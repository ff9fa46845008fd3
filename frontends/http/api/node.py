"""``/v1/node``, ``/v1/config``, ``/v1/verbs``: the node itself, for those who operate it."""

from typing import Any

import msgspec
from vexfs.frontends.http.message import Problem, Reply, Request
from vexfs.frontends.http.route import ADMIN, READ, WAIT, Answer, Route

from vexfs.node import Node, verb
from vexfs.version import __version__


class About(msgspec.Struct):
    """Who answers here, and what it can do."""

    node_id: str
    cluster_name: str
    version: str
    scopes: list[str]
    prefixes: list[str]
    features: list[str]
    websocket_port: int | None
    targets: dict[str, float]
    max_body_size: int


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """Keys of the configuration, as ``section.name``, with their new values."""

    values: dict[str, Any]


class VerbCall(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of a verb, by name."""

    args: dict[str, Any] = msgspec.field(default_factory=dict)


def features(node: Node) -> list[str]:
    """What this node's volume can do beyond files."""
    kind = type(node.volume)
    return [name for name in ("index", "search", "similar", "ingest", "reembed", "watch") if hasattr(kind, name)]


def about(request: Request) -> Reply:
    """GET /v1/node."""
    general, token = request.node.settings.general, request.token
    performance = request.node.settings.performance
    targets = {
        "pool_hit_rate": performance.pool_hit_rate_target, "stack_limit_bytes": performance.fuse_stack_limit,
        "bridge_latency_ns": performance.target_latency_ns,
    }  # fmt: skip
    return request.reply(About(
        general.node_id, general.cluster_name, __version__, list(token.scopes), list(token.prefixes),
        features(request.node), _port(request.node), targets, request.node.settings.api.max_body_size,
    ))  # fmt: skip


def _port(node: Node) -> int | None:
    """Where subscriptions are to be had."""
    found = node.services.get("websocket")
    return int(found.service.describe()["url"].rpartition(":")[2]) if found and found.state == "serving" else None


def run(request: Request, name: str, args: dict[str, Any]) -> Any:
    """The result of a verb; its progress goes nowhere."""
    work = request.node.call(name, args)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def status(request: Request) -> Reply:
    """GET /v1/status."""
    return request.reply(run(request, "node.status", {}))


def show(request: Request) -> Reply:
    """GET /v1/config."""
    return request.reply(run(request, "config.show", {}))


def change(request: Request) -> Reply:
    """PATCH /v1/config."""
    return request.reply(request.node.change(request.decoded(Change).values, "REST"))


def verbs(request: Request) -> Reply:
    """GET /v1/verbs."""
    return request.reply(verb.names())


def call(request: Request) -> Reply:
    """POST /v1/verbs/NAME."""
    name = request.path.strip("/")
    if name not in verb.names():
        raise Problem(404, f"there is no verb {name!r}; GET /v1/verbs lists them")
    args = request.decoded(VerbCall).args if request.body else {}
    return request.reply(_plain(run(request, name, args)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value


def routes(node: Node) -> list[Route]:
    """Of the node."""
    anything = Answer(about="Its result", kind=Any)
    mapping = Answer(about="By name", kind=dict[str, Any])
    changed = Answer(about="What is changed, and what waits for a restart", kind=dict[str, list[str]])
    return [
        Route(method="GET", path="/v1/node", about="Who answers, and what the token may", handle=about, scope=READ,
              answers={200: Answer(about="The node", kind=About)}, tag="node"),
        Route(method="GET", path="/v1/status", about="The node and its services", handle=status, scope=ADMIN,
              answers={200: mapping}, tag="node"),
        Route(method="GET", path="/v1/config", about="The configuration in force", handle=show, scope=ADMIN,
              answers={200: mapping}, tag="node"),
        Route(method="PATCH", path="/v1/config", about="Change keys until the next reload", handle=change, scope=ADMIN,
              body=Change, answers={200: changed}, tag="node"),
        Route(method="GET", path="/v1/verbs", about="What the node can be told to do", handle=verbs, scope=ADMIN,
              answers={200: Answer(about="Names", kind=list[str])}, tag="node"),
        Route(method="POST", path="/v1/verbs/{verb}", about="Tell the node to do something", handle=call, scope=ADMIN,
              body=VerbCall, answers={200: anything}, tag="node", tail_about="As `vexctl` calls it: volume.sync.",
              lane=WAIT),
    ]  # fmt: skip
