"""A volume at a node, with the API of one that is open in this process."""

import os
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self
from weakref import WeakSet, WeakValueDictionary

from vexfs.errors import InvalidArgument, NotSupported, QueryInvalid, VolumeClosed
from vexfs.frontends.local import Files
from vexfs.frontends.local.paths import text
from vexfs.remote.filesystem import RemoteFilesystem, piece_of
from vexfs.remote.index import Hit, Hits, RemoteIndex, filter_of, hits_of, sent_vectors
from vexfs.remote.ingest import RemoteIngest
from vexfs.remote.link import CLOSED, Link, quoted, texts
from vexfs.remote.reembed import reembed
from vexfs.remote.standing import RemoteStandingQuery
from vexfs.search.hits import Missing
from vexfs.search.textsearch import Reranker, reranked


def connect(
    url: str, token: str | None = None, *, timeout_s: float = 60.0, context: ssl.SSLContext | None = None
) -> "RemoteVolume":
    """Use the volume that a node serves at `url` as if it were open here.

    Parameters
    ----------
    url : str
        ``http://HOST:PORT`` or ``https://HOST:PORT``.
    token : str, optional
        As ``vexctl token create`` shows it; default: ``VEXFS_TOKEN`` of the environment.
    timeout_s : float
        How long the node may be silent.
    context : ssl.SSLContext, optional
        For ``https``: other authorities than the host's, or a client certificate.

    Raises
    ------
    Unreachable
        No node answers there.
    Refused
        The token lets nobody in.
    """
    link = Link(url, token if token is not None else os.environ.get("VEXFS_TOKEN"), timeout_s, context)
    return RemoteVolume(link)


class RemoteVolume(Files):
    """Files, indexes and searches of a volume at a node.  Thread-safe; a context manager that closes itself."""

    def __init__(self, link: Link) -> None:
        self._wire: Link | None = link
        self.about: dict[str, Any] = link.ask("GET", "/v1/node")
        self._indexes: WeakValueDictionary[int, RemoteIndex] = WeakValueDictionary()
        self._standing: WeakSet[RemoteStandingQuery] = WeakSet()
        piece = piece_of(self.about.get("max_body_size", 64 << 20))
        self.filesystem = RemoteFilesystem(link, piece)  # type: ignore[assignment]  # has what Files asks of one
        super().__init__()

    @property
    def wire(self) -> Link:
        """The way to the node."""
        if self._wire is None:
            raise VolumeClosed.at(CLOSED)
        return self._wire

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._wire is None

    @property
    def url(self) -> str:
        """Of the node."""
        return self.wire.url

    def sync(self) -> None:
        """Wait until everything done so far is on stable storage."""
        self.filesystem.sync()

    def close(self) -> None:
        """Flush and close the files that are still open, end standing queries, and close the connections."""
        if self._wire is not None:
            try:
                self.close_files()
            finally:
                for each in list(self._standing):
                    each.close()
                self._wire.close()
                self._wire = None

    # -- finding

    def _needs(self, feature: str) -> None:
        _ = self.wire
        if feature not in self.about["features"]:
            raise NotSupported.at(f"the node's version ({self.about['version']}) has no {feature}")

    def index(
        self, path: Any = "/", *, dim: int | None = None, metric: str | None = None, dtype: str | None = None,
        embedder: str | None = None, rows_in: str | None = None,
    ) -> RemoteIndex:
        """The index of a directory, which is made, with the directory, when there is none."""
        self._needs("index")
        _refuse_callable(embedder, path)
        wanted = {"dim": dim, "metric": metric, "dtype": dtype, "embedder": embedder, "rows_in": rows_in}
        body = {name: value for name, value in wanted.items() if value is not None}
        about = self.wire.ask("PUT", f"/v1/indexes/{_in_url(path)}", body, invalid=InvalidArgument, changes=True)
        return self._known(about)

    def _known(self, about: Mapping[str, Any]) -> RemoteIndex:
        """One object for each index."""
        return self._indexes.setdefault(about["number"], RemoteIndex(self.wire, texts(about)))

    def indexes(self) -> list[RemoteIndex]:
        """Every index that the token may see."""
        self._needs("index")
        return [self._known(about) for about in self.wire.ask("GET", "/v1/indexes")]

    def drop_index(self, path: Any) -> None:
        """Drop a directory's index and its vectors; the files stay."""
        self._needs("index")
        self.wire.ask("DELETE", f"/v1/indexes/{_in_url(path)}", changes=True)

    def search(
        self, query: Any, k: int = 10, *, under: Any = "/", where: Mapping[str, Any] | None = None,
        mode: str | None = None, attributes: bool = True, threshold: float | None = None, recall: float | None = None,
        effort: int | None = None, exact: bool | None = None, rerank: str | Reranker | None = None,
        explain: bool = False,
    ) -> Hits:
        """The best files below a directory for words, or for a vector: see :meth:`vexfs.Volume.search`.

        A re-ranker by name runs at the node, a callable here.
        """
        self._needs("search")
        local = None if isinstance(rerank, str) else rerank
        wanted = {
            "k": min(max(4 * k, 40), 10_000) if local is not None else k, "under": text(under), "mode": mode,
            "attributes": attributes, "where": filter_of(where), "recall": recall,
            "threshold": None if local is not None else threshold, "rerank": None if local is not None else rerank,
            "explain": explain, "passages": isinstance(query, str), "effort": effort, "exact": exact,
        }  # fmt: skip
        body: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        if isinstance(query, str):
            body["text"] = query
        else:
            body["vector"] = sent_vectors(query).tobytes()
        found = self.wire.ask("POST", "/v1/search", body, invalid=QueryInvalid, again=True)
        hits = hits_of(found["hits"], found.get("explanation"))
        hits.missing = tuple(Missing(**each) for each in texts(found.get("missing", [])))
        if local is not None:
            hits = reranked(str(query), hits, local)
            hits[:] = [hit for hit in hits if threshold is None or hit.score >= threshold][:k]
        return hits

    @property
    def ingest(self) -> RemoteIngest:
        """What turns text into vectors at the node: ``status()``, ``wait(timeout)``, ``retry(index)``."""
        self._needs("ingest")
        return RemoteIngest(self.wire)

    def similar(
        self, path: Any, k: int = 10, *, under: Any = None, where: Mapping[str, Any] | None = None,
        attributes: bool = True, threshold: float | None = None, recall: float | None = None,
        effort: int | None = None, exact: bool | None = None, explain: bool = False,
    ) -> Hits:
        """Files like the one at `path`, nearest first, without itself."""
        self._needs("similar")
        wanted = {
            "path": text(path), "k": k, "under": None if under is None else text(under),
            "where": filter_of(where), "attributes": attributes, "threshold": threshold,
            "recall": recall, "effort": effort, "exact": exact, "explain": explain,
        }  # fmt: skip
        body = {name: value for name, value in wanted.items() if value is not None}
        found = self.wire.ask("POST", "/v1/similar", body, invalid=QueryInvalid, again=True)
        return hits_of(found["hits"], found.get("explanation"))

    def watch(
        self, query: Any, *, threshold: float = 0.5, under: Any = "/", where: Mapping[str, Any] | None = None,
        call: Callable[[Hit], Any] | None = None, attributes: bool = True,
    ) -> RemoteStandingQuery:
        """A standing query: told when a file that is new, or has changed, matches: see :meth:`vexfs.Volume.watch`.

        `call` is called by a thread of this process.  The node is asked over its WebSocket port.

        Raises
        ------
        NotSupported
            The node serves no WebSocket.
        Unreachable
            Its port cannot be reached from here.
        """
        self._needs("watch")
        port = self.wire.ask("GET", "/v1/node")["websocket_port"]
        if port is None:
            raise NotSupported.at("the node serves no subscriptions; its setting api.websocket_enabled is off")
        made = RemoteStandingQuery(
            self.wire, port, query, threshold, under=text(under), where=where, call=call, attributes=attributes
        )
        self._standing.add(made)
        return made

    def reembed(
        self, path: Any, embedder: str | None = None, *, progress: Callable[[int, int], Any] | None = None
    ) -> RemoteIndex:
        """Embed the text below a directory anew, at the node: see :meth:`vexfs.Volume.reembed`.

        Returns when that is done.  What `progress` raises, and Ctrl-C, ends the work, and nothing has changed; when the
        connection breaks, the work goes on.
        """
        self._needs("reembed")
        _refuse_callable(embedder, path)
        where = reembed(self.wire, text(path), embedder, progress)
        return self._known(self.wire.ask("GET", f"/v1/indexes/{_in_url(where)}"))

    # -- the volume as a whole

    def info(self) -> dict[str, Any]:
        """What the volume is and how it stands: see :meth:`vexfs.volume.Volume.info`; for tokens with scope `admin`."""
        found: dict[str, Any] = self.wire.ask("POST", "/v1/verbs/volume.info", {"args": {}})
        return found

    @property
    def encrypted(self) -> bool:
        """Whether content, names and attributes are encrypted at the node; for tokens with scope `admin`."""
        return bool(self.info()["encrypted"])

    def compact(self, *_: Any, **__: Any) -> NoReturn:
        """Is done at the node: ``vexctl volume compact``."""
        raise _only_there("compact", "`vexctl volume compact` does it there")

    def backup(self, *_: Any, **__: Any) -> NoReturn:
        """Is done at the node: ``vexctl volume backup``."""
        raise _only_there("backup", "`vexctl volume backup` does it there")

    def mount(self, *_: Any, **__: Any) -> NoReturn:
        """Is done at the node: ``general.mountpoint`` of its configuration."""
        raise _only_there("mount", "its configuration says where it is mounted there; `vexfs mount` mounts a local one")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<RemoteVolume (closed)>" if self._wire is None else f"<RemoteVolume {self._wire.url!r}>"


def _refuse_callable(embedder: Any, path: Any) -> None:
    if embedder is not None and not isinstance(embedder, str):
        raise InvalidArgument.at(
            "an embedder at a node is named by a word, as 'static' or an address; a callable or an object of this "
            "program cannot run there", os.fspath(path),
        )  # fmt: skip


def _only_there(what: str, instead: str) -> NotSupported:
    return NotSupported.at(f"{what} works on the host of the node alone: {instead}")


def _in_url(path: Any) -> str:
    return quoted(text(path))
