"""``/v1/reembed``: embedding the text of an index anew: started, watched, waited for, ended.

The work goes on in a thread of the node's, whoever has started it; what became of it can be asked for afterwards.
"""

import contextlib
import itertools
import logging
import secrets
import threading
import time
from typing import Annotated, Any, Literal

import msgspec
from vexfs.frontends.http.api.types import Fault
from vexfs.frontends.http.message import JSON, MSGPACK, Problem, Reply, Request, fault_of, normal
from vexfs.frontends.http.route import WAIT, WRITE, Answer, Route

from vexfs.node import Node
from vexfs.search.catalog import Catalog
from vexfs.search.reembed import renewable, steps

log = logging.getLogger("vexfs.http")

#: So many that have ended can still be asked for.
KEPT = 64
STOP_S = 10.0


class Reembed(msgspec.Struct, forbid_unknown_fields=True):
    """The directory of an index with an embedder, and the model that is to take over: default, its own as it is now."""

    index: Annotated[str, msgspec.Meta(min_length=1)]
    embedder: Annotated[str, msgspec.Meta(min_length=1)] | None = None


class Patience(msgspec.Struct, forbid_unknown_fields=True):
    """How long to wait for the end before answering."""

    wait_s: Annotated[float, msgspec.Meta(ge=0, le=20)] = 0.0


class Renewal(msgspec.Struct, omit_defaults=True):
    """How it stands: files ``done`` of ``total``; why it failed."""

    id: str
    path: str
    state: Literal["running", "done", "failed", "stopped"]
    done: int
    total: int
    seconds: float
    embedder: str | None = None
    fault: Fault | None = None


class Work:
    """One index that is embedded anew, in a thread."""

    def __init__(self, catalog: Catalog, path: str, embedder: str | None) -> None:
        self.id = secrets.token_hex(8)
        self.path = path
        self._catalog, self._embedder = catalog, embedder
        self._began, self._ended_at = time.monotonic(), 0.0
        self._state: Literal["running", "done", "failed", "stopped"] = "running"
        self._files = 0, 0
        self._fault: Fault | None = None
        self._stop, self._over = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="vexfs-reembed", daemon=True).start()

    def _run(self) -> None:
        try:
            with contextlib.closing(steps(self._catalog, self.path, self._embedder)) as work:
                self._state = self._through(work)
        except Exception as error:
            told = fault_of(error)
            if told["status"] == 500:
                log.exception("embedding %s anew failed", self.path)
            self._fault = Fault(told.get("error", "VexfsError"), told.get("errno", 0), told["detail"])
            self._state = "failed"
        finally:
            self._ended_at = time.monotonic()
            self._over.set()

    def _through(self, work: Any) -> Literal["done", "stopped"]:
        for files in work:
            self._files = files
            if self._stop.is_set():
                return "stopped"
        return "done"

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over.is_set()

    def wait(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._over.wait(timeout_s)

    def stop(self) -> None:
        """End it; when it has not come to its end by then, nothing has changed."""
        self._stop.set()

    def told(self) -> Renewal:
        """How it stands."""
        seconds = (self._ended_at if self.over else time.monotonic()) - self._began
        done, total = self._files
        state = self._state if self.over else "running"
        return Renewal(self.id, self.path, state, done, total, round(seconds, 3), self._embedder, self._fault)


class Renewals:
    """What a node's clients have started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Work] = {}

    def start(self, catalog: Catalog, path: str, embedder: str | None) -> Work:
        """Begin one."""
        with self._lock:
            over = [number for number, each in self._all.items() if each.over]
            for number in itertools.islice(over, max(0, len(over) - KEPT + 1)):
                del self._all[number]
            work = Work(catalog, path, embedder)
            self._all[work.id] = work
        return work

    def find(self, number: str) -> Work:
        """The one of that id."""
        found = self._all.get(number)
        if found is None:
            raise Problem(404, f"there is no re-embedding {number!r}; the node keeps the last {KEPT} until it stops")
        return found

    def stop_all(self) -> None:
        """The node stops: the old vectors stay where the new ones are not complete."""
        with self._lock:
            running = [each for each in self._all.values() if not each.over]
        for each in running:
            each.stop()
        until = time.monotonic() + STOP_S
        for each in running:
            each.wait(max(0.0, until - time.monotonic()))


def renewals(node: Node) -> Renewals:
    """Those of a node."""
    found: Renewals = node.extras.setdefault("http.renewals", Renewals())
    return found


def _found(request: Request) -> Work:
    work = renewals(request.node).find(request.path.strip("/"))
    request.allow(work.path)
    return work


def start(request: Request) -> Reply:
    """POST /v1/reembed."""
    wanted = request.decoded(Reembed)
    catalog = request.node.volume.catalog
    path = request.allow(normal(wanted.index))
    renewable(catalog, path)
    return request.reply(renewals(request.node).start(catalog, path, wanted.embedder).told(), 202)


def show(request: Request) -> Reply:
    """GET /v1/reembed/ID."""
    patience = request.query(Patience)
    work = _found(request)
    work.wait(request.left_of(patience.wait_s))
    return request.reply(work.told())


def stop(request: Request) -> Reply:
    """DELETE /v1/reembed/ID."""
    work = _found(request)
    work.stop()
    work.wait(STOP_S)
    return request.reply(work.told())


def routes(node: Node) -> list[Route]:
    """Where the volume has text to be indexed."""
    if not hasattr(type(node.volume), "reembed"):
        return []
    shared: dict[str, Any] = {
        "path": "/v1/reembed/{id}", "tag": "search", "tail_about": "As POST /v1/reembed gave it.", "lane": WAIT,
    }  # fmt: skip
    stands = {200: Answer(about="How it stands", kind=Renewal)}
    return [
        Route(method="POST", path="/v1/reembed", about="Embed the text of an index anew; until then the old vectors "
              "answer", handle=start, scope=WRITE, body=Reembed, tag="search", media=(JSON, MSGPACK),
              answers={202: Answer(about="It has begun", kind=Renewal)}),
        Route(method="GET", about="How far that is", handle=show, query=Patience, answers=stands, **shared),
        Route(method="DELETE", about="End it; the old vectors stay", handle=stop, scope=WRITE, answers=stands,
              **shared),
    ]  # fmt: skip
