"""A directory with an index as a LangChain ``VectorStore``: a document is a file, its id the file's name."""

import contextlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from vexfs.frontends.langchain.metadata import attributes_of, id_of, metadata_of, name_of

import vexfs
from vexfs.errors import IndexMissing, InvalidArgument, NotFound, QueryInvalid
from vexfs.search.across import told_of
from vexfs.volume import opened


class VexVectorStore(VectorStore):
    """Documents in a volume, embedded by LangChain's embeddings.

    Parameters
    ----------
    embedding : Embeddings
    volume : path or Volume
        An open volume, or where one is; it is opened, or shared if this process has it open already.
    directory : str
        The directory of the documents; it, and its index, are made by the first document.
    metric : {"cosine", "l2", "dot"}
    dtype : {"f32", "f16", "bf16", "i8"}
        What vectors are stored as.
    **options
        As for :func:`vexfs.open`: ``key_file``, ``read_only``.
    """

    def __init__(
        self, embedding: Embeddings, *, volume: Any, directory: str = "/documents", metric: str = "cosine",
        dtype: str = "f32", **options: Any,
    ) -> None:
        self._embedding, self.directory = embedding, "/" + directory.strip("/")
        self.volume: Any = volume if hasattr(volume, "indexes") else opened(volume) or vexfs.open(volume, **options)
        self._metric, self._dtype = metric, dtype

    @property
    def embeddings(self) -> Embeddings:
        """What turns text into vectors."""
        return self._embedding

    def _found(self) -> Any:
        """The index, or None while there is none; one that cannot be opened is told."""
        paths = told_of(self.volume.indexes(), lambda index: (index.path, index))
        found = dict(paths).get(self.directory)
        if found is None:
            with contextlib.suppress(NotFound, IndexMissing, QueryInvalid):
                self.volume.search(np.ones(1, np.float32), 1, under=self.directory)
        return found

    # -- putting

    def add_texts(
        self, texts: Iterable[str], metadatas: Sequence[dict[str, Any]] | None = None, *,
        ids: Sequence[str | None] | None = None, **kwargs: Any,
    ) -> list[str]:
        """Embed texts and store them; a document whose id exists is replaced.

        Parameters
        ----------
        texts : iterable of str
        metadatas : sequence of dict, optional
            Strings, numbers and booleans become attributes, which filters see.
        ids : sequence of str, optional
            Left out, or None: a new one.

        Returns
        -------
        list of str
            The ids.
        """
        contents = list(texts)
        given = list(ids) if ids is not None else [None] * len(contents)
        rows = list(metadatas) if metadatas is not None else [{} for _ in contents]
        if not len(given) == len(rows) == len(contents):
            raise InvalidArgument.at(f"{len(contents)} texts, {len(rows)} metadatas, {len(given)} ids: not one each")
        if not contents:
            return []
        chosen = [each if each is not None else uuid.uuid4().hex for each in given]
        # An id that comes twice: the last one holds, as if they had come one after the other.
        last = {name_of(each): place for place, each in enumerate(chosen)}
        places = list(last.values())
        vectors = np.asarray(self._embedding.embed_documents([contents[p] for p in places]), np.float32)
        attributes = [attributes_of(rows[p]) for p in places]
        names = list(last)
        index = self.volume.index(self.directory, dim=vectors.shape[1], metric=self._metric, dtype=self._dtype)
        stale = [
            record.id for record, new in zip(index.get(names), attributes, strict=True)
            if record is not None and set(record.attributes) - set(new)
        ]  # fmt: skip
        if stale:  # attributes are laid over those that a file has; here the old ones go
            index.delete(ids=stale)
        index.upsert(names, vectors, attributes=attributes, contents=[contents[p] for p in places])
        return chosen

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Remove documents; all of them when no ids are given.  Ids that do not exist are passed over."""
        index = self._found()
        if index is None:
            return True
        if ids is None:
            index.delete(where={"$path": "*"})
        else:
            index.delete(ids=list(dict.fromkeys(map(name_of, ids))))
        return True

    @classmethod
    def from_texts(
        cls, texts: list[str], embedding: Embeddings, metadatas: list[dict[str, Any]] | None = None, *,
        ids: list[str] | None = None, **kwargs: Any,
    ) -> "VexVectorStore":
        """A store with these texts in it; further arguments are those of the class."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    # -- reading

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents by id, in that order; those that do not exist are left out."""
        index = self._found()
        if index is None or not ids:
            return []
        records = index.get([name_of(each) for each in dict.fromkeys(ids)])
        found = [self._document(r.id, r.path, r.attributes) for r in records if r is not None]
        return [document for document in found if document is not None]

    def _document(self, name: str, path: str, attributes: Mapping[str, Any]) -> Document | None:
        try:
            content = self.volume.read_bytes(path).decode(errors="replace")  # with the ends of lines that it has
        except FileNotFoundError:  # it went since it was found
            return None
        return Document(page_content=content, metadata=metadata_of(attributes), id=id_of(name))

    def _nearest(self, vector: Any, k: int, where: Any, options: dict[str, Any]) -> list[tuple[Document, float]]:
        index = self._found()
        if index is None or k < 1:
            return []
        known = {name: value for name, value in options.items() if name in ("recall", "effort", "exact", "threshold")}
        hits = index.query(np.asarray(vector, np.float32), k, where=where, **known)
        pairs = [(self._document(hit.id, hit.path, hit.attributes), float(hit.score)) for hit in hits]
        return [(document, score) for document, score in pairs if document is not None]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The nearest documents with their scores, larger is nearer.

        Parameters
        ----------
        query : str
        k : int
        filter : mapping, optional
            On metadata, as ``{"year": {"$gte": 2020}}``.
        **kwargs
            ``recall``, ``effort``, ``exact``, ``threshold`` of a query.
        """
        return self._nearest(self._embedding.embed_query(query), k, filter, kwargs)

    def similarity_search(self, query: str, k: int = 4, filter: Any = None, **kwargs: Any) -> list[Document]:
        """The nearest documents; see :meth:`similarity_search_with_score`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **kwargs)]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """The nearest documents to a vector."""
        return [document for document, _ in self._nearest(embedding, k, filter, kwargs)]

    def _select_relevance_score_fn(self) -> Any:
        if self._metric == "cosine":
            return lambda score: min(1.0, max(0.0, score))
        if self._metric == "l2":
            return lambda score: score  # 1 / (1 + distance)
        raise InvalidArgument.at("relevance from 0 to 1 has no meaning for inner products; use similarity_search")

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Near documents that differ from each other: `k` of the `fetch_k` nearest."""
        found = [document for document, _ in self._nearest(embedding, fetch_k, filter, kwargs)]
        index = self._found()
        records = index.get([name_of(d.id or "") for d in found]) if found else []
        kept = [(d, r.vector) for d, r in zip(found, records, strict=True) if r is not None and r.vector is not None]
        if not kept:
            return []
        query = np.asarray(embedding, np.float32)
        chosen = maximal_marginal_relevance(query, [vector for _, vector in kept], lambda_mult=lambda_mult, k=k)
        return [kept[place][0] for place in chosen]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """The same for a text."""
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter, **kwargs)
