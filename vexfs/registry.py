"""Plugins: frontends, embedders, extractors and backends, found by entry point and imported when first asked for.

A plugin that cannot be imported takes nothing else down: it is listed with what is wrong with it, and only asking for
it raises.
"""

import contextlib
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vexfs.errors import ConfigError, PluginBroken, VexfsError

GROUPS = ("vexfs.frontends", "vexfs.embedders", "vexfs.extractors", "vexfs.rerankers", "vexfs.backends")


class Registry:
    """The plugins of one entry-point group."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._lock = threading.RLock()  # a plugin may ask for others while it is imported
        self._found: dict[str, EntryPoint] | None = None
        self._loaded: dict[str, Any] = {}

    def _entries(self) -> dict[str, EntryPoint]:
        if self._found is None:
            self._found = {entry.name: entry for entry in entry_points(group=self.group)}
        return self._found

    def names(self) -> list[str]:
        """What is installed or was added, imported or not."""
        with self._lock:
            return sorted({*self._entries(), *self._loaded})

    def has(self, name: str) -> bool:
        """Whether there is one of that name, imported or not."""
        with self._lock:
            return name in self._loaded or name in self._entries()

    def add(self, name: str, plugin: Any) -> None:
        """Make `plugin` known in this process alone; it goes before an installed one of that name."""
        with self._lock:
            self._loaded[name] = plugin

    def get(self, name: str) -> Any:
        """The plugin `name`, imported now if it was not yet.

        Raises
        ------
        ConfigError
            There is none of that name; the message lists those there are.
        PluginBroken
            Its import failed; the cause is attached.
        """
        with self._lock:
            if name not in self._loaded:
                entry = self._entries().get(name)
                if entry is None:
                    known = ", ".join(sorted({*self._entries(), *self._loaded})) or "none"
                    raise ConfigError(f"no {self.group.removeprefix('vexfs.')} named {name!r}; installed: {known}")
                self._loaded[name] = self._import(entry)
            return self._loaded[name]

    def _import(self, entry: EntryPoint) -> Any:
        source = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
        with faults_of(f"{self.group} {entry.name!r}{source} ({entry.value}) cannot be imported"):
            return entry.load()

    def broken(self) -> dict[str, str]:
        """Name and fault of every plugin that cannot be imported; imports all of them."""
        return dict(self._faults())

    def _faults(self) -> Iterator[tuple[str, str]]:
        for name in self.names():
            try:
                self.get(name)
            except PluginBroken as error:
                yield name, str(error)


@contextlib.contextmanager
def faults_of(who: str, *passing: type[Exception]) -> Iterator[None]:
    """Raise as ``PluginBroken`` that names `who` whatever a plugin's code raises, but for our errors and `passing`."""
    passed: tuple[type[BaseException], ...] = (VexfsError, MemoryError, KeyboardInterrupt, *passing)
    try:
        yield
    except passed:
        raise
    except BaseException as error:  # anybody's code: it may call sys.exit, or panic in Rust, and must not end a thread
        raise PluginBroken(f"{who}: {type(error).__name__}: {error}") from error


_registries = {group: Registry(group) for group in GROUPS}


def registry(group: str) -> Registry:
    """The registry of a group: ``"frontends"`` or, in full, ``"vexfs.frontends"``."""
    full = group if group.startswith("vexfs.") else f"vexfs.{group}"
    try:
        return _registries[full]
    except KeyError:
        raise ConfigError(f"no plugin group {group!r}; there are {', '.join(GROUPS)}") from None
