"""Verbs: what a node can be told to do, by name, over the control socket or in process.

A verb is a function ``function(node, **args)``.  Long work is a generator: it yields progress (mappings such as
``{"done": 3, "total": 10, "text": "copying"}``) and returns its result; it is closed when whoever asked has gone.

Verbs are named ``noun.action``.  The module with a noun's verbs is imported when one of them is first asked for, so
``MODULES`` is the list of nouns.
"""

import contextlib
import functools
import importlib
import inspect
import numbers
import os
import pkgutil
import threading
import types
import typing
from collections.abc import Callable, Generator, Mapping
from typing import Any

from vexfs.errors import PluginBroken, UsageError, VexfsError

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


#: Packages whose modules a node has in memory from its start, also those that only few requests need.
PACKAGES = ("vexfs.node.verbs", "vexfs.observe", "vexfs.search", "vexfs.store")


def load_all() -> None:
    """Import what requests may need: an upgrade changes the files of a running node, and old and new do not fit."""
    for package in PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            with contextlib.suppress(ImportError):  # a plugin whose own packages are not there
                importlib.import_module(module.name)
    names()


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
    try:
        return (yield from _run(node, name, args))
    except PluginBroken:
        raise
    except ImportError as error:
        raise VexfsError(f"{name}: {error}; if VexFS was upgraded since this started, restart it") from error


def _run(node: Any, name: str, args: Mapping[str, Any]) -> Generator[Mapping[str, Any], None, Any]:
    function = find(name)
    try:
        inspect.signature(function).bind(node, **args)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from None
    kinds = _wanted(function)
    for argument, value in args.items():
        wanted = kinds.get(argument, kinds.get("**"))
        if wanted and not _fits(value, wanted):
            raise UsageError(f"{name}: {argument} is {repr(value)[:100]}, and must be {_named(wanted)}")
        if isinstance(value, str) and "\0" in value:
            raise UsageError(f"{name}: {argument} is {repr(value)[:100]}, and has a NUL character")
    found = function(node, **args)
    if inspect.isgenerator(found):
        return (yield from found)
    return found


@functools.cache
def _wanted(function: Function) -> dict[str, tuple[Any, ...]]:
    """What each argument of a verb may be, as its annotation says; ``**`` stands for those that have no name there.

    Annotations that are not plain types are left to the verb.
    """
    hints, found = typing.get_type_hints(function), {}
    for argument in list(inspect.signature(function).parameters.values())[1:]:
        hint = hints.get(argument.name, Any)
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        plain = tuple(typing.get_origin(kind) or kind for kind in kinds)
        if set(plain) <= set(_KINDS):
            found["**" if argument.kind is argument.VAR_KEYWORD else argument.name] = plain
    return found


def _fits(value: Any, wanted: tuple[Any, ...]) -> bool:
    return any(
        isinstance(value, _KINDS[kind][1]) and (kind is bool or not isinstance(value, bool)) for kind in wanted
    )


def _named(wanted: tuple[Any, ...]) -> str:
    return " or ".join(_KINDS[kind][0] for kind in wanted)


#: Types of arguments: in words, and what is taken for one.
_KINDS: dict[Any, tuple[str, Any]] = {
    str: ("a string", (str, os.PathLike)),
    int: ("a whole number", numbers.Integral),
    float: ("a number", numbers.Real),
    bool: ("true or false", bool),
    list: ("a list", (list, tuple)),
    dict: ("an object", Mapping),
    types.NoneType: ("null", types.NoneType),
}
