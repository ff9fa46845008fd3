"""A LangChain retriever over what a volume finds by text: passages of files, hybrid by default."""

import logging
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

log = logging.getLogger("vexfs.langchain")


class VexRetriever(BaseRetriever):
    """The best passages below a directory, found by ``fs.search``.

    An index that could not be searched beside others is a warning in the log ``vexfs.langchain``.

    Attributes
    ----------
    volume : Volume
        An open volume, or what ``vexfs.connect`` gives.
    k : int
        Files.
    under : str
    where : dict, optional
        A filter on attributes.
    mode : {"hybrid", "semantic", "keyword"}
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    volume: Any
    k: int = 5
    under: str = "/"
    where: dict[str, Any] | None = None
    mode: str = "hybrid"

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        wanted = {"k": self.k, "under": self.under, "where": self.where, "mode": self.mode, **kwargs}
        hits = self.volume.search(query, **wanted)
        for each in hits.missing:
            log.warning("not everything below %s was searched: %s", each.path, each.reason)
        return [_document(hit) for hit in hits]


def _document(hit: Any) -> Document:
    metadata = {**hit.attributes, "source": hit.path, "score": float(hit.score)}
    if hit.span is not None:
        metadata["span"] = list(hit.span)
    return Document(page_content=hit.text, metadata=metadata, id=hit.path)
