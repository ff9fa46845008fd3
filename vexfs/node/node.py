"""One node: the process that owns a volume, and everything that serves it.

A node is *open* (volume and mechanisms, as configured; verbs work) or also *running* (with its services: control
socket, mount, HTTP ...).  ``vexctl --volume`` opens one in its own process; ``vexfs serve`` runs one.
"""

import functools
import logging
import os
import secrets
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vexfs import machinery
from vexfs._core.bridge import Bridge
from vexfs._core.frame import Frames
from vexfs._core.pool import Pool
from vexfs._core.simd import Simd
from vexfs.config import Change, Origin, Settings, load
from vexfs.config.model import KEYS
from vexfs.config.settings import Faults, contradictions
from vexfs.errors import ConfigError, UsageError, VexfsError, VolumeBusy, VolumeClosed, describe
from vexfs.node import log as node_log
from vexfs.node import privileges, service, tokens, tuning, uploads, verb
from vexfs.node.notify import Notifier
from vexfs.node.tokens import Tokens
from vexfs.observe import health
from vexfs.registry import registry
from vexfs.store import lock, volumefile
from vexfs.volume import Volume

log = logging.getLogger("vexfs.node")

VOLUME = "volume.vex"
_TICK_S = 0.5


def alone(settings: Settings) -> str:
    """What a node that is told to join a cluster does not do, since this version has none."""
    cluster = settings.cluster
    seeds = ", ".join(str(each) for each in cluster.seed_nodes) or "nobody (seed_nodes is empty)"
    return (
        f"cluster.enabled is true, but this version has no cluster: the node works alone; it does not listen on "
        f"{cluster.bind_address}, tells nobody to find it at {cluster.advertise_address or cluster.bind_address}, does "
        f"not ask {seeds}, and keeps every change once, not {cluster.replication_factor} times"
    )


class Node:
    """A volume with its mechanisms under one configuration; a context manager that closes itself.

    Parameters
    ----------
    settings : Settings
    volume : path, optional
        The volume to open instead of the one in ``general.data_dir``; it must exist.
    key_file : path, optional
        Of that volume.
    source : path, optional
        The configuration file, read again by :meth:`reload`; `overrides` are those of the command line.

    Attributes
    ----------
    settings : Settings
        What is in force.
    started : float
        When the node was opened, by ``time.time``.
    services : dict of str to Supervised
        What faces the outside, by name; empty while the node is not running.
    missing : dict of str to str
        Services that are wanted and cannot be had here, with the reason.
    waiting : list of Change
        What the last reload could not change while running.
    ready : threading.Event
        Set while everything serves that was to be started.
    extras : dict
        What services and verbs keep with the node, by their own names.
    """

    verb = staticmethod(verb.verb)

    def __init__(
        self, settings: Settings, *, volume: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None, source: str | os.PathLike[str] | None = None,
        overrides: tuple[str, ...] = (),
    ) -> None:
        self.settings = settings
        self.source = Path(source) if source is not None else None
        self.started, self._since = time.time(), time.monotonic()
        #: Another one each time that a node is started: clients see by it that what was not synced may be lost.
        self.run_id = secrets.token_urlsafe(6)
        self.services: dict[str, service.Supervised] = {}
        self.missing: dict[str, str] = {}
        self.waiting: list[Change] = []
        self.ready = threading.Event()
        self.extras: dict[str, Any] = {}
        self._overrides = overrides
        self._place = Path(volume) if volume is not None else None
        self._key_file = key_file
        self._volume: Volume | None = None
        self._bridge: Bridge | None = None
        self._changing = threading.RLock()
        self._end = threading.Event()
        self._reload_asked = threading.Event()
        self._notifier = Notifier()

    # -- parts

    @property
    def volume(self) -> Any:
        """The open volume: a :class:`vexfs.frontends.local.LocalVolume`."""
        if self._volume is None:
            raise VolumeClosed.at("the node has no open volume")
        return self._volume

    @property
    def pool(self) -> Pool:
        """The memory pools."""
        return machinery.pool()

    @property
    def frames(self) -> Frames:
        """The stack account."""
        return machinery.frames()

    @property
    def simd(self) -> Simd:
        """The distance kernels."""
        return machinery.simd()

    @property
    def bridge(self) -> Bridge | None:
        """The bridge, None when it is switched off."""
        return self._bridge

    @property
    def data_dir(self) -> Path:
        """Where the node keeps what belongs to it: beside its volume."""
        return self._place.parent if self._place is not None else Path(self.settings.general.data_dir)

    @property
    def place(self) -> Path:
        """The directory of its volume, also before that is open or made."""
        return (self._place if self._place is not None else self.data_dir / VOLUME).absolute()

    @functools.cached_property
    def tokens(self) -> Tokens:
        """The tokens that open its API."""
        return Tokens(self.data_dir / tokens.NAME)

    @property
    def running(self) -> bool:
        """Whether its services were started."""
        return bool(self.services)

    # -- opening and closing

    def open(self, *, read_only: bool = False) -> Self:
        """Open the volume; a node makes its own when there is none, one that is named must be there."""
        tuning.tune(self.settings)
        self._bridge = None if read_only else tuning.new_bridge(self.settings)
        storage = self.settings.storage
        options: dict[str, Any] = {**tuning.volume_options(self.settings), "bridge": self._bridge}
        if self.settings.mount.mountpoint:
            options |= registry("frontends").get("fuse").volume_options(self.settings)
        kind: type[Volume] = registry("frontends").get("local").LocalVolume
        key_file = self._key_file or storage.encryption_key_file or None
        try:
            if self._place is not None:
                self._volume = kind.load(self._place, read_only=read_only, key_file=key_file, **options)
            else:
                self._volume = self._own_volume(kind, key_file, options)
            if not read_only and (left := uploads.sweep(self._volume.filesystem)):
                log.info("removed %d uploads that were never finished", left)
        except BaseException:
            self.close()
            raise
        return self

    def _own_volume(self, kind: type[Volume], key_file: Any, options: dict[str, Any]) -> Volume:
        place, storage = self.data_dir / VOLUME, self.settings.storage
        if not place.exists():
            log.info("making the volume %s", place)
            return kind.create(place, key_file=key_file, compression=storage.compression, **options)
        if storage.encryption and volumefile.load(place).wrapped_key is None:
            raise ConfigError(f"storage.encryption is true, but {place} was made without; encryption is decided when "
                              "a volume is made: set it to false, or move the files to a new volume")  # fmt: skip
        return kind.load(place, key_file=key_file, compression=storage.compression, **options)

    def close(self) -> None:
        """Write everything out and give the volume up; harmless when that was done."""
        volume, self._volume = self._volume, None
        bridge, self._bridge = self._bridge, None
        if (history := self.extras.pop("history", None)) is not None:
            history.stop()
        try:
            if volume is not None:
                volume.close()
        finally:
            if bridge is not None:
                bridge.close()

    def __enter__(self) -> Self:
        return self if self._volume is not None else self.open()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- verbs

    def call(self, name: str, args: Mapping[str, Any]) -> Generator[Mapping[str, Any], None, Any]:
        """Do a verb: a generator of progress; its return value is the result."""
        return verb.run(self, name, args)

    # -- settings

    def reload(self) -> dict[str, list[str]]:
        """Read the configuration file again; what can change while running does.

        Returns
        -------
        dict
            ``applied`` and ``needs_restart``: paths of keys; ``read_again``: other files, whatever they say now.

        Raises
        ------
        ConfigError
            The file is not valid; everything stays as it was.
        """
        if self.source is None:
            raise UsageError("the node was started without a configuration file; there is nothing to reload")
        told = self._adopt(load(self.source, overrides=self._overrides))
        api = self.settings.api
        files = (api.tls_cert_file, api.tls_key_file, api.tls_client_ca_file) if api.tls_enabled else ()
        return {**told, "read_again": [str(file) for file in files if file]}

    def change(self, values: Mapping[str, Any], origin: str = "control") -> dict[str, list[str]]:
        """Set keys (``section.name``) while running, until the next reload; values as the file would have them.

        Raises
        ------
        ConfigError
            A key is unknown, a value not valid, or it cannot change while running; nothing is changed then.
        """
        new = self.settings
        for path, value in values.items():
            key = KEYS.get(path)
            if key is None:
                raise ConfigError(f"there is no key {path}")
            if not key.live:
                raise ConfigError(f"{path} cannot change while the node runs; set it in the file and restart")
            try:
                new = new.replaced(path, key.kind.read(value), Origin(origin))
            except ValueError as error:
                raise ConfigError(f"{path} is {value!r}, and must be {error}") from None
        return self._adopt(new)

    def _adopt(self, wanted: Settings) -> dict[str, list[str]]:
        faults = [what for _, what in contradictions(wanted)]
        if faults:
            raise Faults(faults)
        with self._changing:
            before = self.settings
            changes = before.changes(wanted)
            later = [change for change in changes if not change.key.live]
            now = wanted
            for change in later:
                now = now.replaced(change.key.path, change.old, before.origin(change.key.path))
            self._apply(before, now)
            self.waiting = later
            applied = [change.key.path for change in changes if change.key.live]
        if applied:
            log.info("settings changed: %s", ", ".join(applied))
        if later:
            log.warning("settings wait for a restart: %s", ", ".join(change.key.path for change in later))
        return {"applied": applied, "needs_restart": [change.key.path for change in later]}

    def _apply(self, before: Settings, now: Settings) -> None:
        try:
            self._set(now)
        except BaseException:
            self._set(before)
            raise

    def _set(self, settings: Settings) -> None:
        if self.running:
            node_log.configure(settings)
        tuning.tune(settings)
        if self._bridge is not None:
            self._bridge.configure(**tuning.bridge_options(settings))
        self.settings = settings
        for each in self.services.values():
            each.service.reload(settings)

    # -- running

    def run(self) -> None:
        """Serve until :meth:`stop`; then end everything within ``general.stop_timeout``.

        Raises what prevents a start; a service that fails later is started anew, again and again.
        """
        node_log.configure(self.settings)
        if self._volume is None and lock.owned(self.place):  # before anything of its owner, as the mount, is in the way
            raise VolumeBusy.at(lock.busy_message(self.place), self.place)
        who = privileges.identity(self.settings.general.run_as)
        try:
            self._make_places(who)
            self.services, self.missing = {}, {}
            found, self.missing = service.wanted(self, self.settings)
            for each in found:
                each.service.prepare()
            privileges.drop(who)
            if self._volume is None:
                self.open()
            for each in found:
                self.services[each.name] = each
                each.start()
            self._started()
            verb.load_all()
            self._watch()
        finally:
            self._stop_all()

    def _make_places(self, who: privileges.Identity | None) -> None:
        general = self.settings.general
        places = {"data_dir": self.data_dir} if self._place is None else {}
        places |= {"log_dir": Path(general.log_dir)} if general.log_dir else {}
        places |= {"control_socket": Path(general.control_socket).parent} if general.control_socket else {}
        for key, place in places.items():
            try:
                if not place.exists():
                    place.mkdir(parents=True, mode=0o755)
                    privileges.own(place, who)
            except OSError as error:
                raise ConfigError(f"general.{key}: {place} cannot be made: {error.strerror}; start the node as root, "
                                  "or name a place that its user may write to") from None  # fmt: skip

    def _started(self) -> None:
        for name, why in self.missing.items():
            log.warning("%s is switched on and not served: %s", name, why)
        if self.settings.cluster.enabled:
            log.warning(alone(self.settings))
        if self.settings.general.control_socket:
            self.volume.announce(socket=self.settings.general.control_socket)
        log.info("node %s serves %s: %s", self.settings.general.node_id, self.volume.directory,
                 ", ".join(self.services) or "nothing but the volume")  # fmt: skip
        self.ready.set()
        self._notifier.ready(self.summary())

    def summary(self) -> str:
        """One line: what serves and what does not."""
        bad = [f"{name} failed" for name, each in self.services.items() if each.state == "failed"]
        good = [name for name, each in self.services.items() if each.state == "serving"]
        return ", ".join([f"serving {' '.join(good)}" if good else "serving nothing", *bad])

    def hindrance(self) -> str | None:
        """What keeps the node from serving requests, for whoever sends it clients.

        Other services may fail without that: a standby with older files would be no gain.
        """
        if self.services and not self.ready.is_set():
            return "the node is stopping" if self._end.is_set() else "the node is starting"
        rest = self.services.get("rest")
        return f"rest failed: {rest.fault}" if rest is not None and rest.state == "failed" else None

    def _watch(self) -> None:
        told, alive_at, failing = self.summary(), 0.0, False
        watchdog_s = self._notifier.watchdog_s
        while not self._end.wait(_TICK_S):
            if self._reload_asked.is_set():
                self._reload_asked.clear()
                self._reload_by_signal()
            for each in self.services.values():
                each.look()
            failing = health.tell_of_writes(self.volume.filesystem, failing)
            if (now := self.summary()) != told:
                told = now
                self._notifier.status(told)
            if watchdog_s and time.monotonic() - alive_at > watchdog_s / 3:
                self.volume.filesystem.statvfs()  # a filesystem that hangs is no life
                self._notifier.alive()
                alive_at = time.monotonic()

    def _reload_by_signal(self) -> None:
        self._notifier.reloading()
        try:
            self.reload()
        except VexfsError as error:
            log.error("the configuration was not reloaded, all stays as it was: %s", describe(error))
        self._notifier.ready(self.summary())

    def ask_reload(self) -> None:
        """Have the running node read its configuration again; for signal handlers."""
        self._reload_asked.set()

    def stop(self) -> None:
        """Have :meth:`run` end; returns at once, for signal handlers and verbs."""
        self._end.set()

    def _stop_all(self) -> None:
        self._end.set()
        self.ready.clear()
        self._notifier.stopping()
        if self.services:
            log.info("node %s is stopping; what is under way may take %g s", self.settings.general.node_id,
                     self.settings.general.stop_timeout)  # fmt: skip
        deadline = time.monotonic() + self.settings.general.stop_timeout
        for each in reversed(list(self.services.values())):
            each.stop(max(0.1, deadline - time.monotonic()))
        self.services = {}
        self.close()
        log.info("node %s has stopped", self.settings.general.node_id)

    # -- about itself

    def describe(self) -> dict[str, Any]:
        """Who the node is and how its parts are."""
        general = self.settings.general
        return {
            "node_id": general.node_id,
            "cluster_name": general.cluster_name,
            "pid": os.getpid(),
            "started": self.started,
            "uptime_s": time.monotonic() - self._since,
            "volume": str(self.volume.directory),
            "services": {name: each.describe() for name, each in self.services.items()},
            "not_served": dict(self.missing),
            "cluster": alone(self.settings) if self.settings.cluster.enabled else "not asked for",
            "settings_waiting": [change.key.path for change in self.waiting],
        }
