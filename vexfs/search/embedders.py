"""Embedders: what turns text into vectors.

An embedder is asked for by a word: ``static``, ``minilm``, ``sentence-transformers:NAME``, the address of an
OpenAI-style endpoint, or any name under which a package offers one as entry point of group ``vexfs.embedders``.  Such
an entry point is a callable that is given what stands behind the colon ("" when nothing does) and answers an embedder.
Name, version and dimension of the embedder are kept with an index, so that it is never asked with another one.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import attrs
import numpy as np
import numpy.typing as npt

from vexfs.errors import ConfigError, PluginBroken
from vexfs.registry import faults_of, registry

Vectors = npt.NDArray[np.float32]

#: What ``embedder="default"`` stands for; chosen by measuring, see ``docs/embedders.md``.
DEFAULT = "static"
_DIM_MOST = 65_536

_made: dict[str, "Embedder"] = {}
_making = threading.Lock()
#: Of each word, while its embedder is made: that may take long, or need another one.
_locks: dict[str, threading.RLock] = {}


@runtime_checkable
class Embedder(Protocol):
    """What turns text into vectors; thread-safe.

    Attributes
    ----------
    name : str
        What :func:`resolve` makes it from again.
    version : str
        Of the model; vectors of different versions are not compared.
    dim : int
        Numbers in a vector.
    """

    @property
    def name(self) -> str:
        """See above."""

    @property
    def version(self) -> str:
        """See above."""

    @property
    def dim(self) -> int:
        """See above."""

    def embed(self, texts: list[str]) -> Vectors:
        """Vectors of length 1: float32[len(texts), dim]; zeros for a text in which there is nothing to embed."""


@attrs.frozen
class Function:
    """An embedder made of a Python callable: a list of texts in, an (n, d) array out."""

    call: Callable[[list[str]], Any]
    name: str
    dim: int
    version: str = ""
    #: What it gave for the text that it was tried with.
    probe: Vectors = attrs.field(factory=lambda: np.empty(0, np.float32), eq=False, repr=False)

    def embed(self, texts: list[str]) -> Vectors:
        """Call it, check what comes out, and bring the vectors to length 1."""
        return normalised(self.call(texts), len(texts), self.dim, self.name)


@attrs.frozen
class Checked:
    """Somebody else's embedder: it is told apart when it fails, and what it gives is checked."""

    model: Embedder
    name: str
    version: str
    dim: int

    def embed(self, texts: list[str]) -> Vectors:
        """Ask it, check what comes out, and bring the vectors to length 1."""
        with faults_of(f"embedder {self.name}"):
            found = self.model.embed(texts)
        return normalised(found, len(texts), self.dim, self.name)


def resolve(what: "str | Embedder | Callable[[list[str]], Any]") -> Embedder:
    """The embedder that is meant by a word, a callable or an embedder itself.

    One made from a word is kept: asking again is free.

    Raises
    ------
    ConfigError
        There is none of that name, or the callable gives no vectors.
    PluginBroken
        A package that it needs is missing; the message names what to install.
    """
    if isinstance(what, str):
        return _by_name(what)
    if isinstance(what, Embedder):
        return _checked(what, "embedder")
    if callable(what):
        return _from_function(what)
    raise ConfigError(f"an embedder is a name, a callable or an object with `embed`, not {type(what).__name__}")


def remember(embedder: Embedder) -> Embedder | None:
    """Let `resolve` answer this embedder for its name, for as long as the process lives; what it answered before.

    Raises
    ------
    ConfigError
        It is a function without a name of its own, or one of that name is in use that gives other vectors.
    """
    with _making:
        known = _made.get(embedder.name)
        if isinstance(embedder, Function):
            _refuse_ambiguous(embedder, known)
        _made[embedder.name] = embedder
        return known


def refuse_ambiguous(embedder: Embedder) -> None:
    """Raise as `remember` would."""
    if isinstance(embedder, Function):
        with _making:
            _refuse_ambiguous(embedder, _made.get(embedder.name))


def _refuse_ambiguous(function: Function, known: Embedder | None) -> None:
    """The name of a function is all that an index knows of it."""
    told = f"embedder {function.name}"
    if function.name.endswith((".<lambda>", ":functools.partial")):
        raise ConfigError(f"{told}: has no name that tells it from others; give a function that is made with def")
    if not isinstance(known, Function) or known.call is function.call or known.version != function.version:
        return
    if known.probe.shape != function.probe.shape or not np.allclose(known.probe, function.probe, rtol=0.01, atol=1e-6):
        raise ConfigError(
            f"{told}: another one of that name is in use in this process and gives other vectors; call it from a "
            "function with a name of its own (def), or give it an attribute `version`"
        )


def _by_name(word: str) -> Embedder:
    word = DEFAULT if word == "default" else word
    with _making:
        if word in _made:
            return _made[word]
        lock = _locks.setdefault(word, threading.RLock())
    with lock:
        with _making:
            if word in _made:
                return _made[word]
        made = _new(word)
        with _making:
            return _made.setdefault(word, made)


def _new(word: str) -> Embedder:
    kind, _, rest = word.partition(":")
    if kind == "python":
        way = f"give it again: fs.index(..., embedder={rest})"
        raise PluginBroken(f"embedder {rest} is a function of a program; {way}")
    if kind in ("http", "https"):
        kind, rest = "http", word
    factory: Any = registry("embedders").get(kind)
    with faults_of(f"embedder {word!r}"):
        made = factory(rest)
    if not isinstance(made, Embedder):
        raise ConfigError(f"embedder {word!r} has no name, version, dim and embed(); it is {type(made).__name__}")
    made = _checked(made, f"embedder {word!r}")
    if made.name != word and made.name.partition(":")[0] != kind:
        told = f"embedder {word!r}: calls itself {made.name!r}, by which it would not be found again"
        raise ConfigError(f"{told}; its name must be {word!r}, or begin with {kind!r} and a colon")
    return made


def _checked(model: Embedder, who: str) -> Embedder:
    """The model itself if it is ours, else one that takes care of it."""
    if type(model).__module__.partition(".")[0] == "vexfs":
        return model
    name, version, dim = model.name, model.version, model.dim
    if not isinstance(name, str) or not name or not isinstance(version, str | int):
        raise ConfigError(f"{who}: name {name!r} and version {version!r}; strings are wanted")
    if not isinstance(dim, int | np.integer) or not 1 <= dim <= _DIM_MOST:
        raise ConfigError(f"{who}: dim is {dim!r}; a whole number from 1 to {_DIM_MOST} is wanted")
    return Checked(model, name, version, int(dim))


def _from_function(call: Callable[[list[str]], Any]) -> Function:
    name = f"python:{getattr(call, '__module__', '')}.{getattr(call, '__qualname__', type(call).__name__)}"
    found = call(["a text to see how long the vectors are"])
    try:
        probe = np.asarray(found, np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"embedder {name}: gave no array of numbers: {error}") from None
    if probe.ndim != 2 or probe.shape[0] != 1 or not probe.shape[1]:
        raise ConfigError(f"embedder {name}: one text gave an array of shape {probe.shape}; (1, d) is right")
    return Function(call, name, int(probe.shape[1]), str(getattr(call, "version", "")), probe[0])


def normalised(found: Any, count: int, dim: int, name: str) -> Vectors:
    """What a model gave, checked for shape and finite numbers, at length 1; zeros stay zeros.

    Raises
    ------
    ConfigError
        The shape is not (count, dim), or a number is not finite.
    """
    try:
        rows = np.array(found, np.float32, ndmin=2)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"embedder {name}: gave no array of numbers: {error}") from None
    if rows.shape != (count, dim):
        what = f"{count} texts gave an array of shape {rows.shape}"
        raise ConfigError(f"embedder {name}: {what}; ({count}, {dim}) is right")
    if not np.isfinite(rows).all():
        raise ConfigError(f"embedder {name}: gave a number that is not finite")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, lengths, out=rows, where=lengths > 0)
    return rows


def names() -> Sequence[str]:
    """The embedders that can be asked for by name."""
    return ["default", *registry("embedders").names()]
