"""Effective settings: defaults, under the file, under the environment, under the command line; and what changed.

Everything that is wrong is found in one pass and told with its place: a file's line, a variable, an option.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from vexfs.config.kinds import Endpoint
from vexfs.config.model import (
    KEYS,
    SECTIONS,
    Api,
    Cluster,
    General,
    Key,
    Monitoring,
    Mount,
    Performance,
    Storage,
)
from vexfs.errors import ConfigError

DEFAULT_FILE = "/etc/vexfs/vexfs-performance.conf"
PREFIX = "VEXFS_"


class Faults(ConfigError):
    """Everything that is wrong with a configuration; ``faults`` has one line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@attrs.frozen
class Origin:
    """Where a value came from: ``kind`` is default, file, environment or command line; ``place`` says where exactly."""

    kind: str
    place: str = ""


@attrs.frozen
class Change:
    """A key that differs between two settings."""

    key: Key
    old: Any
    new: Any


@attrs.frozen(kw_only=True)
class Settings:
    """A node's whole configuration; immutable."""

    general: General = attrs.field(factory=General)
    mount: Mount = attrs.field(factory=Mount)
    performance_optimizations: Performance = attrs.field(factory=Performance)
    cluster: Cluster = attrs.field(factory=Cluster)
    storage: Storage = attrs.field(factory=Storage)
    api: Api = attrs.field(factory=Api)
    monitoring: Monitoring = attrs.field(factory=Monitoring)
    origins: Mapping[str, Origin] = attrs.field(factory=dict, eq=False, repr=False)

    @property
    def performance(self) -> Performance:
        """Short for ``performance_optimizations``."""
        return self.performance_optimizations

    def value(self, path: str) -> Any:
        """The value of the key ``section.name``."""
        key = KEYS[path]
        return getattr(getattr(self, key.section), key.name)

    def origin(self, path: str) -> Origin:
        """Where that value came from."""
        return self.origins.get(path, Origin("default"))

    def replaced(self, path: str, value: Any, origin: Origin) -> "Settings":
        """The same with one key changed; the value is one to work with already."""
        key = KEYS[path]
        section = attrs.evolve(getattr(self, key.section), **{key.name: value})
        return attrs.evolve(self, **{key.section: section}, origins={**self.origins, path: origin})

    def changes(self, new: "Settings") -> list[Change]:
        """What is different in `new`."""
        pairs = ((key, self.value(path), new.value(path)) for path, key in KEYS.items())
        return [Change(key, old, now) for key, old, now in pairs if old != now]

    def effective(self) -> list[dict[str, Any]]:
        """Every key with its value as TOML, where that came from, and whether a reload changes it."""
        rows = []
        for path, key in KEYS.items():
            origin = self.origin(path)
            rows.append({
                "key": path, "value": key.kind.show(self.value(path)), "origin": origin.kind, "place": origin.place,
                "default": key.kind.show(key.default), "live": key.live,
            })  # fmt: skip
        return rows


def load(
    file: str | os.PathLike[str] | None = None, *, environment: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
) -> Settings:
    """Read the configuration.

    Parameters
    ----------
    file : path, optional
        The TOML file; None: defaults under environment and command line.
    environment : mapping, optional
        Default: ``os.environ``; ``VEXFS_SECTION__KEY`` counts.
    overrides : iterable of str
        ``section.key=value``, from the command line.

    Raises
    ------
    ConfigError
        A :class:`Faults` with everything that is wrong.
    """
    reading = _Reading()
    if file is not None:
        reading.file(Path(file))
    reading.environment(os.environ if environment is None else environment)
    for word in overrides:
        reading.override(word)
    return reading.settings()


class _Reading:
    """Gathers values, where they came from, and faults."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}
        self.faults: list[str] = []

    def file(self, path: Path) -> None:
        try:
            text = path.read_bytes().decode("utf-8-sig")  # some editors put a mark before it
        except UnicodeDecodeError as error:
            raise Faults([f"{path}: is not UTF-8 (byte {error.start}); TOML is"]) from None
        except OSError as error:
            hint = "; `vexctl config init` writes one" if isinstance(error, FileNotFoundError) else ""
            raise Faults([f"{path}: {error.strerror}{hint}"]) from None
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            what, line = str(error), re.search(r"\(at line (\d+), column (\d+)\)", str(error))
            place = f"{path}:{line[1]}:{line[2]}" if line else f"{path}:{len(text.splitlines()) or 1}"
            raise Faults([f"{place}: is not TOML: {what.split(' (at line')[0]}"]) from None
        lines = _lines(text)
        for section, table in tables.items():
            place = f"{path}:{lines.get(section, 1)}"
            if section not in SECTIONS:
                self.faults.append(f"{place}: {_unknown_section(section, isinstance(table, dict))}")
            elif not isinstance(table, dict):
                self.faults.append(f"{place}: {section} is a section; write [{section}]")
            else:
                for name, value in table.items():
                    where = f"{path}:{lines.get(f'{section}.{name}', lines.get(section, 1))}"
                    self.take(section, name, value, Origin("file", where), where)

    def environment(self, variables: Mapping[str, str]) -> None:
        for variable in sorted(variables):
            if variable.startswith(PREFIX) and "__" in variable:
                section, _, name = variable[len(PREFIX) :].lower().partition("__")
                if section not in SECTIONS:
                    self.faults.append(f"{variable}: {_unknown_section(section)}")
                else:
                    value = _word(variables[variable])
                    self.take(section, name, value, Origin("environment", variable), variable)

    def override(self, word: str) -> None:
        path, given, text = word.partition("=")
        section, dot, name = path.strip().partition(".")
        where = f"--set {word}"
        if not given or not dot:
            self.faults.append(f"{where}: write --set section.key=value")
        elif section not in SECTIONS:
            self.faults.append(f"{where}: {_unknown_section(section)}")
        else:
            self.take(section, name, _word(text), Origin("command line", where), where)

    def take(self, section: str, name: str, value: Any, origin: Origin, where: str) -> None:
        key = KEYS.get(f"{section}.{name}")
        if key is None:
            self.faults.append(f"{where}: {_unknown_key(section, name)}")
            return
        try:
            self.values[key.path] = _read(key, value, origin)
            self.origins[key.path] = origin
        except ValueError as error:
            self.faults.append(f"{where}: {key.path} is {_shown(value)}, and must be {error}")

    def settings(self) -> Settings:
        sections = {
            section: cls(**{p.split(".")[1]: v for p, v in self.values.items() if p.split(".")[0] == section})
            for section, cls in SECTIONS.items()
        }
        settings = Settings(**sections, origins=self.origins)
        if not self.faults:
            self.faults = [self._placed(paths, what) for paths, what in contradictions(settings)]
        if self.faults:
            raise Faults(self.faults)
        return settings

    def _placed(self, paths: tuple[str, ...], what: str) -> str:
        given = next((self.origins[path].place for path in paths if path in self.origins), None)
        return f"{given or 'configuration'}: {what}"


def _read(key: Key, value: Any, origin: Origin) -> Any:
    """Read a value; a word of the environment that TOML took for a number may be meant as a string."""
    try:
        return key.kind.read(value)
    except ValueError:
        if origin.kind == "file" or isinstance(value, str):
            raise
        return key.kind.read(str(value))


def _word(text: str) -> Any:
    """What a word of the environment or the command line stands for: TOML where it is, else the string itself."""
    try:
        return tomllib.loads(f"x = {text.strip()}\n")["x"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        return text


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_section(section: str, table: bool = True) -> str:
    owners = [path for path in KEYS if path.split(".")[1] == section]
    if not table and owners:
        return f"{section} stands outside its section; write it under [{owners[0].split('.')[0]}]"
    near = difflib.get_close_matches(section, SECTIONS, n=1, cutoff=0.5)
    hint = f"did you mean [{near[0]}]?" if near else f"there are {', '.join(f'[{s}]' for s in SECTIONS)}"
    return f"there is no section [{section}]; {hint}"


def _unknown_key(section: str, name: str) -> str:
    elsewhere = [path for path in KEYS if path.split(".")[1] == name]
    if elsewhere:
        return f"{name} is no key of [{section}]; it belongs to [{elsewhere[0].split('.')[0]}]"
    mine = [path.split(".")[1] for path in KEYS if path.split(".")[0] == section]
    near = difflib.get_close_matches(name, mine, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(mine)}"
    return f"{name} is no key of [{section}]; {hint}"


_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_-]+))(?:\s*\.\s*([A-Za-z0-9_-]+))?\s*=""")


def _lines(text: str) -> dict[str, int]:
    """The line of every section and ``section.key``."""
    found: dict[str, int] = {}
    section, inside = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        header, assignment = _HEADER.match(line), _ASSIGNMENT.match(line)
        if header:
            section = header[1].strip().strip("\"'")
            found.setdefault(section, number)
        elif assignment:
            name = assignment[1] or assignment[2] or assignment[3]
            path = f"{name}.{assignment[4]}" if assignment[4] and not section else name
            found.setdefault(f"{section}.{path}" if section else path, number)
            if "." in path and not section:
                found.setdefault(name, number)
        inside = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), "")
    return found


def contradictions(settings: Settings) -> Iterable[tuple[tuple[str, ...], str]]:
    """What no key says by itself but several together: the keys, and what is wrong and would be right."""
    p, api, storage = settings.performance, settings.api, settings.storage
    if p.heap_threshold > p.fuse_stack_limit:
        yield (
            ("performance_optimizations.heap_threshold", "performance_optimizations.fuse_stack_limit"),
            f"heap_threshold ({p.heap_threshold}) is above fuse_stack_limit ({p.fuse_stack_limit}); lower it, or 0",
        )
    if p.force_avx2 and not p.enable_avx2_acceleration:
        yield (
            ("performance_optimizations.force_avx2",),
            "force_avx2 contradicts enable_avx2_acceleration = false; set one of them",
        )
    if api.tls_enabled:
        for name in ("tls_cert_file", "tls_key_file"):
            if not getattr(api, name):
                yield ("api.tls_enabled",), f"tls_enabled needs {name}; give its path"
    if api.tls_client_ca_file and not api.tls_enabled:
        yield ("api.tls_client_ca_file",), "client certificates need tls_enabled = true"
    if storage.encryption and not storage.encryption_key_file:
        yield ("storage.encryption",), "encryption needs encryption_key_file; give its path, it is made when absent"
    if storage.encryption_key_file and not storage.encryption:
        yield ("storage.encryption_key_file",), "encryption_key_file needs encryption = true"
    yield from _addresses(settings)


def _addresses(settings: Settings) -> Iterable[tuple[tuple[str, ...], str]]:
    api, monitoring = settings.api, settings.monitoring
    binds: list[tuple[str, Endpoint]] = []
    if api.rest_enabled:
        binds.append(("api.rest_bind", api.rest_bind))
    if api.websocket_enabled:
        binds.append(("api.websocket_bind", api.websocket_bind))
    if not api.auth_required:
        for path, bind in binds:
            if not bind.loopback:
                what = f"auth_required = false would open {path} = {str(bind)!r} to the network"
                yield ("api.auth_required", path), f"{what}; bind it to 127.0.0.1, or require tokens"
    if monitoring.metrics_enabled:
        binds += [
            ("monitoring.metrics_bind", monitoring.metrics_bind),
            ("monitoring.health_check_bind", monitoring.health_check_bind),
        ]
    if settings.cluster.enabled:
        binds.append(("cluster.bind_address", settings.cluster.bind_address))
    taken: dict[str, str] = {}
    for path, bind in binds:
        if bind.port and str(bind) in taken:
            yield (path, taken[str(bind)]), f"{path} and {taken[str(bind)]} are both {bind}; give each its own port"
        taken[str(bind)] = path
