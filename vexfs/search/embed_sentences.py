"""Embedders of the sentence-transformers library: ``sentence-transformers:NAME``, where a name may be a directory."""

from typing import Any

from vexfs.errors import ConfigError, PluginBroken
from vexfs.search.embedders import Vectors, normalised


class SentenceTransformerEmbedder:
    """A model of the library; made by :func:`load`."""

    def __init__(self, name: str, model: Any) -> None:
        self.name = f"sentence-transformers:{name}"
        self.version = str(getattr(getattr(model, "model_card_data", None), "base_model_revision", None) or "")
        # Newer versions of the library have renamed it, and warn of the older name.
        length = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        self.dim = int(length())
        self._model = model

    def embed(self, texts: list[str]) -> Vectors:
        """See :class:`vexfs.search.embedders.Embedder`."""
        found = self._model.encode(texts, convert_to_numpy=True, show_progress_bar=False)
        return normalised(found, len(texts), self.dim, self.name)


def load(argument: str) -> SentenceTransformerEmbedder:
    """The entry point, given the model's name.

    Raises
    ------
    PluginBroken
        The library is missing, or has no such model.
    """
    if not argument:
        raise ConfigError("which model? sentence-transformers:NAME, for example sentence-transformers:all-MiniLM-L6-v2")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise PluginBroken("sentence-transformers is missing; pip install 'vexfs[sentence-transformers]'") from None
    try:
        return SentenceTransformerEmbedder(argument, SentenceTransformer(argument))
    except (OSError, ValueError) as error:
        raise PluginBroken(f"sentence-transformers has no model {argument!r}: {error}") from error
