"""What each path answers."""

import json
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from vexfs.errors import VexfsError, row_of
from vexfs.observe import exposition, health
from vexfs.observe.exposition import counter, gauge
from vexfs.observe.history import History
from vexfs.observe.metrics import collect

JSON = "application/json"


@attrs.frozen
class Answer:
    """Status, content type and body of a response."""

    status: int
    body: bytes
    content_type: str = JSON

    @classmethod
    def of(cls, data: object, status: int = 200) -> "Answer":
        """A JSON answer."""
        return cls(status, json.dumps(data, default=str).encode() + b"\n")


Query = Mapping[str, Sequence[str]]
Route = Callable[[Query], Answer]


class Endpoints:
    """The answers about one node.

    Parameters
    ----------
    history : History
        Of the node; it should run.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._scrapes = 0
        self._spent_s = 0.0

    def metrics(self) -> dict[str, Route]:
        """Paths of the metrics port."""
        return {"/metrics": self._metrics, "/": self._metrics_index}

    def health(self) -> dict[str, Route]:
        """Paths of the health port."""
        return {"/health": self._health, "/ready": self._ready, "/detailed-metrics": self._detailed}

    def _metrics(self, query: Query) -> Answer:
        began = time.thread_time()
        unknown = set(query) - {"collect[]"}
        if unknown:
            return Answer.of({"error": f"unknown parameter {sorted(unknown)[0]}; collect[] is known"}, 400)
        wanted = query.get("collect[]", ())
        try:
            families = collect(self._history, wanted)
        except VexfsError as error:
            return Answer.of({"error": str(error)}, row_of(error).http_status)
        if not wanted:
            families += [
                counter("vexfs_scrapes_total", "Answers to scrapes before this one.").add(self._scrapes),
                counter("vexfs_scrape_cpu_seconds_total", "CPU time that they took.").add(self._spent_s),
                gauge("vexfs_scrape_samples", "Samples in this answer.").add(sum(len(f.samples) for f in families)),
            ]
        answer = Answer(200, exposition.render(families).encode(), exposition.CONTENT_TYPE)
        self._scrapes += 1
        self._spent_s += time.thread_time() - began
        return answer

    def _metrics_index(self, _: Query) -> Answer:
        page = "<!doctype html><title>VexFS metrics</title><h1>VexFS</h1><a href='/metrics'>metrics</a>\n"
        return Answer(200, page.encode(), "text/html; charset=utf-8")

    def _health(self, _: Query) -> Answer:
        return Answer.of(health.alive(self._history.parts))

    def _ready(self, _: Query) -> Answer:
        found = health.ready(self._history.parts)
        return Answer.of(found, 200 if found["ready"] else 503)

    def _detailed(self, query: Query) -> Answer:
        text = query.get("last", ["60"])[-1]
        try:
            last_s = float(text.removesuffix("s"))
        except ValueError:
            return Answer.of({"error": f"last={text} is no time in seconds; last=60 is"}, 400)
        if not 0 < last_s <= 3600:
            return Answer.of({"error": "last= is above 0 and at most 3600 seconds"}, 400)
        try:
            return Answer.of(health.detailed(self._history, last_s))
        except VexfsError as error:
            return Answer.of({"error": str(error)}, row_of(error).http_status)
