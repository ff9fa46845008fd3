"""Verbs: what a node can be told to do, by name, over the control socket or in process.

A verb is a function ``function(node, **args)``.  Long work is a generator: it yields progress (mappings such as
``{"done": 3, "total": 10, "text": "copying"}``) and returns its result; it is closed when whoever asked has gone.

Verbs are named ``noun.action``.  The module with a noun's verbs is imported when one of them is first asked for, so
``MODULES`` is the list of nouns.
"""

import importlib
import inspect
import threading
from collections.abc import Callable, Generator, Mapping
from typing import Any

from vexfs.errors import UsageError

Function = Callable[..., Any]

#: Where the verbs of each noun are.
MODULES: dict[str, str] = {
    "node": "vexfs.node.verbs.node",
    "config": "vexfs.node.verbs.config",
    "token": "vexfs.node.verbs.token",
    "volume": "vexfs.node.verbs.volume",
    "performance": "vexfs.node.verbs.performance",
    "security": "vexfs.node.verbs.security",
    "capacity": "vexfs.node.verbs.capacity",
    "cluster": "vexfs.node.verbs.cluster",
    "search": "vexfs.node.verbs.search",
    "index": "vexfs.node.verbs.index",
}

_functions: dict[str, Function] = {}
_importing = threading.RLock()


def verb(name: str) -> Callable[[Function], Function]:
    """Register the decorated function under `name`."""

    def register(function: Function) -> Function:
        _functions[name] = function
        return function

    return register


def names() -> list[str]:
    """Every verb there is; imports them all."""
    with _importing:
        for module in MODULES.values():
            importlib.import_module(module)
    return sorted(_functions)


def find(name: str) -> Function:
    """The verb `name`.

    Raises
    ------
    UsageError
        There is none; the message lists those of its noun, or the nouns.
    """
    noun = name.partition(".")[0]
    with _importing:
        if name not in _functions and noun in MODULES:
            importlib.import_module(MODULES[noun])
    if name in _functions:
        return _functions[name]
    near = sorted(each for each in _functions if each.startswith(f"{noun}."))
    known = ", ".join(near) if near else f"nouns are {', '.join(sorted(MODULES))}"
    raise UsageError(f"no verb is named {name!r}; {known}")


def run(node: Any, name: str, args: Mapping[str, Any]) -> Generator[Mapping[str, Any], None, Any]:
    """Do `name`: a generator of progress whose return value is the result.

    Raises
    ------
    UsageError
        No such verb, or arguments that it does not take.
    """
    function = find(name)
    try:
        inspect.signature(function).bind(node, **args)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from None
    found = function(node, **args)
    if inspect.isgenerator(found):
        return (yield from found)
    return found
