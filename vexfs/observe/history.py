"""Rates of real operations: the counters read at an interval, and what lies between two readings."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from vexfs.errors import VexfsError
from vexfs.observe.parts import Parts

WINDOW_S = 5.0
KEPT = 900


@attrs.frozen
class Reading:
    """The counters at one moment.  Only differences mean anything."""

    time_s: float
    fuse: int = 0
    vector: int = 0
    semantic: int = 0
    filesystem: int = 0
    pool_acquires: int = 0
    pool_misses: int = 0
    bridge_items: int = 0
    bridge_depth: int = 0
    lock_wait_ns: int = 0
    commits: int = 0
    violations: int = 0
    errors: int = 0
    cpu_s: float = 0.0


def read(parts: Parts) -> Reading:
    """Read the counters of `parts`; no lock of the hot path is held for longer than a copy."""
    status = parts.filesystem.status()
    pool, frames, bridge, mount = parts.pool, parts.frames, parts.bridge, parts.mount
    tiers = pool.stats()["tiers"].values() if pool is not None else ()
    moved = bridge.stats() if bridge is not None else {"handled": 0, "depth": 0}
    requests = mount.requests() if mount is not None else {}
    return Reading(
        time_s=time.monotonic(),
        fuse=sum(n for kind, n in requests.items() if kind != "forget"),
        vector=parts.tally.total("vector"),
        semantic=parts.tally.total("semantic"),
        filesystem=sum(status["operations"].values()),
        pool_acquires=sum(tier["acquires"] for tier in tiers),
        pool_misses=sum(tier["misses"] for tier in tiers),
        bridge_items=moved["handled"],
        bridge_depth=moved["depth"],
        lock_wait_ns=status["time_ns"]["lock_wait"],
        commits=status["commits"],
        violations=frames.stats()["violations"] if frames is not None else 0,
        errors=status["commit_errors"],
        cpu_s=time.process_time(),
    )


@attrs.frozen
class Rates:
    """What happened between two readings, a second.  A hit rate without requests is that of no misses: 1.0."""

    seconds: float = 0.0
    fuse: float = 0.0
    vector: float = 0.0
    semantic: float = 0.0
    filesystem: float = 0.0
    pool_hit_rate: float = 1.0
    pool_acquires: float = 0.0
    bridge_items: float = 0.0
    bridge_depth: int = 0
    lock_wait_share: float = 0.0
    commits: float = 0.0
    cpu_share: float = 0.0

    @classmethod
    def between(cls, then: Reading, now: Reading, without: Iterable[tuple[Reading, Reading]] = ()) -> "Rates":
        """The rates from `then` to `now`; counters that were reset between them count as nothing.

        Stretches `without` are left out: their time, and what was counted in it.
        """
        left_out = list(without)
        seconds = now.time_s - then.time_s - sum(end.time_s - begin.time_s for begin, end in left_out)
        if seconds <= 0:
            return cls()

        def grown(name: str) -> float:
            more: float = getattr(now, name) - getattr(then, name)
            own: float = sum(getattr(end, name) - getattr(begin, name) for begin, end in left_out)
            return max(0.0, more - own)

        acquires, misses = grown("pool_acquires"), grown("pool_misses")
        return cls(
            seconds=seconds,
            fuse=grown("fuse") / seconds,
            vector=grown("vector") / seconds,
            semantic=grown("semantic") / seconds,
            filesystem=grown("filesystem") / seconds,
            pool_hit_rate=1 - min(misses, acquires) / acquires if acquires else 1.0,
            pool_acquires=acquires / seconds,
            bridge_items=grown("bridge_items") / seconds,
            bridge_depth=now.bridge_depth,
            lock_wait_share=grown("lock_wait_ns") / 1e9 / seconds,
            commits=grown("commits") / seconds,
            cpu_share=grown("cpu_s") / seconds,
        )


def _time(reading: Reading) -> float:
    return reading.time_s


class History:
    """Readings at an interval, by a thread of its own between :meth:`start` and :meth:`stop`.

    Parameters
    ----------
    parts : Parts
    interval_s : float
        Between readings; can be set while it runs.
    window_s : float
        What :meth:`rates` looks back, at least; two intervals when these are longer.
    """

    def __init__(self, parts: Parts, interval_s: float = 1.0, window_s: float = WINDOW_S) -> None:
        self.parts = parts
        self._interval_s = interval_s
        self.window_s = window_s
        self.enabled = True
        self._readings: deque[Reading] = deque(maxlen=KEPT)
        self._walls: deque[float] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._ended = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def interval_s(self) -> float:
        """Between readings; a new one counts at once."""
        return self._interval_s

    @interval_s.setter
    def interval_s(self, interval_s: float) -> None:
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._wake.set()

    def start(self) -> None:
        """Begin to read."""
        self._ended = False
        self._wake.clear()
        self._thread = threading.Thread(target=self._run, name="vexfs-history", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was read stays."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._ended:
            # A volume that is being closed has no counters; the thread ends with the node.
            with contextlib.suppress(VexfsError, ValueError):
                if self.enabled:
                    self.take()
            self._wake.wait(self._interval_s)
            self._wake.clear()

    def take(self) -> Reading:
        """Read now, and keep the reading."""
        reading = read(self.parts)
        with self._lock:
            self._readings.append(reading)
            self._walls.append(time.time())
        return reading

    def rates(self, window_s: float | None = None, *, of_clients: bool = False) -> Rates:
        """The rates over the last window, up to this very moment; zeros while switched off.

        `of_clients` leaves out stretches of load that VexFS drove itself; ``seconds`` is what remains, 0: nothing.
        """
        if not self.enabled:
            return Rates(pool_hit_rate=0.0)
        now = read(self.parts)
        window = max(self.window_s, 2 * self.interval_s) if window_s is None else window_s
        with self._lock:
            then = next((r for r in self._readings if now.time_s - r.time_s <= window), None)
            if then is None and self._readings:
                then = self._readings[-1]
        if then is None:
            return Rates()
        return Rates.between(then, now, self._driven(then, now) if of_clients else ())

    def _driven(self, then: Reading, now: Reading) -> Iterator[tuple[Reading, Reading]]:
        """The parts of stretches that lie between two readings; none overlaps another."""
        for begin, *end in sorted(self.parts.driven, key=lambda stretch: stretch[0].time_s):
            first, last = max(begin, then, key=_time), min(end[0] if end else now, now, key=_time)
            if last.time_s > first.time_s:
                yield first, last
                then = last

    def series(self, last_s: float | None = None) -> list[dict[str, Any]]:
        """The rates between each two readings, oldest first: ``time`` (Unix) and the fields of :class:`Rates`."""
        with self._lock:
            readings, walls = list(self._readings), list(self._walls)
        since = readings[-1].time_s - last_s if readings and last_s is not None else float("-inf")
        return [
            {"time": wall, **attrs.asdict(Rates.between(then, now))}
            for then, now, wall in zip(readings, readings[1:], walls[1:], strict=False)
            if now.time_s >= since
        ]
