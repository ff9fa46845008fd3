"""A volume at a node, with the API of one that is open in this process."""

import os
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np

from vexfs.errors import InvalidArgument, NotSupported, QueryInvalid, VolumeClosed
from vexfs.frontends.local import Files
from vexfs.remote.filesystem import RemoteFilesystem
from vexfs.remote.index import Hits, RemoteIndex, hits_of
from vexfs.remote.ingest import RemoteIngest
from vexfs.remote.link import Link, quoted
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
        self.filesystem = RemoteFilesystem(link)  # type: ignore[assignment]  # has what Files asks of one
        super().__init__()

    @property
    def wire(self) -> Link:
        """The way to the node."""
        if self._wire is None:
            raise VolumeClosed.at("the connection has been closed; connect again")
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
        """Flush and close the files that are still open, and the connections."""
        if self._wire is not None:
            try:
                self.close_files()
            finally:
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
        wanted = {"dim": dim, "metric": metric, "dtype": dtype, "embedder": embedder, "rows_in": rows_in}
        body = {name: value for name, value in wanted.items() if value is not None}
        about = self.wire.ask("PUT", f"/v1/indexes/{_in_url(path)}", body, invalid=InvalidArgument)
        return self._known(about)

    def _known(self, about: Mapping[str, Any]) -> RemoteIndex:
        """One object for each index."""
        return self._indexes.setdefault(about["number"], RemoteIndex(self.wire, about))

    def indexes(self) -> list[RemoteIndex]:
        """Every index that the token may see."""
        self._needs("index")
        return [self._known(about) for about in self.wire.ask("GET", "/v1/indexes")]

    def drop_index(self, path: Any) -> None:
        """Drop a directory's index and its vectors; the files stay."""
        self._needs("index")
        self.wire.ask("DELETE", f"/v1/indexes/{_in_url(path)}")

    def search(
        self, query: Any, k: int = 10, *, under: Any = "/", where: Mapping[str, Any] | None = None,
        mode: str = "hybrid", attributes: bool = True, threshold: float | None = None, recall: float | None = None,
        rerank: str | Reranker | None = None, explain: bool = False,
    ) -> Hits:
        """The best files below a directory for words, or for a vector: see :meth:`vexfs.Volume.search`.

        A re-ranker by name runs at the node, a callable here.
        """
        self._needs("search")
        local = None if isinstance(rerank, str) else rerank
        wanted = {
            "k": min(max(4 * k, 40), 10_000) if local is not None else k, "under": os.fspath(under), "mode": mode,
            "attributes": attributes, "where": None if where is None else dict(where), "recall": recall,
            "threshold": None if local is not None else threshold, "rerank": None if local is not None else rerank,
            "explain": explain, "passages": isinstance(query, str),
        }  # fmt: skip
        body: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        if isinstance(query, str):
            body["text"] = query
        else:
            body["vector"] = np.ascontiguousarray(query, "<f4").tobytes()
        found = self.wire.ask("POST", "/v1/search", body, invalid=QueryInvalid)
        hits = hits_of(found["hits"], found.get("explanation"))
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
        attributes: bool = True,
    ) -> Hits:
        """Files like the one at `path`, nearest first, without itself."""
        self._needs("similar")
        body: dict[str, Any] = {"path": os.fspath(path), "k": k, "attributes": attributes}
        if under is not None:
            body["under"] = os.fspath(under)
        if where is not None:
            body["where"] = dict(where)
        return hits_of(self.wire.ask("POST", "/v1/similar", body, invalid=QueryInvalid)["hits"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<RemoteVolume (closed)>" if self._wire is None else f"<RemoteVolume {self._wire.url!r}>"


def _in_url(path: Any) -> str:
    return quoted(os.fsdecode(os.fspath(path)))
