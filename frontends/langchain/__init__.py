"""The LangChain frontend: documents as files of a volume, found by LangChain's own embeddings or by VexFS's search.

>>> store = VexVectorStore(embeddings, volume="notes.vex", directory="/documents")
>>> store.add_texts(["Light roasts keep acidity."], [{"year": 2024}])
>>> store.similarity_search("sour coffee", k=3, filter={"year": {"$gte": 2020}})

Needs ``pip install vexfs[langchain]``.
"""

from vexfs.errors import PluginBroken

try:
    import langchain_core  # noqa: F401
except ImportError as error:
    raise PluginBroken("LangChain is not installed: pip install 'vexfs[langchain]'") from error

from vexfs.frontends.langchain.retriever import VexRetriever
from vexfs.frontends.langchain.store import VexVectorStore

__all__ = ["VexRetriever", "VexVectorStore"]
