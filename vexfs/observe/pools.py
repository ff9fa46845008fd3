"""What a recorded workload says about the memory pools: a report, findings, and counts that would serve it better.

The pools sample how many buffers of a tier are in use at one acquire in 64 (the *demand*).  A count serves an acquire
if the demand, that acquire included, is no larger; so the distribution of the demand predicts what share any count
alone would serve.

>>> workload = record(pool, duration_s=60)
>>> recommend(workload, target=0.95).counts
(144, 320, 32)
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from vexfs._core.pool import TIER_BYTES, TIERS, Pool
from vexfs.errors import InvalidArgument

TARGET = 0.90
COUNT_LEAST = 8
COUNT_MOST = 1 << 19
STEP = 8
FEW_SAMPLES = 20
SLOW_NS = 1000


@attrs.frozen
class TierLoad:
    """What one tier went through while it was recorded.

    Attributes
    ----------
    count
        Buffers that the tier had.
    acquires, misses, recycled
        How often it was asked, had to take new memory, and was served by what earlier bursts had left beside it.
    high_water
        Buffers in use at most.
    demand, latency_ns
        Samples, ``{largest value of the bucket: how many}``.
    mean_bytes
        Bytes asked for, on average of the samples; 0 without any.
    """

    count: int
    acquires: int
    misses: int
    recycled: int
    high_water: int
    demand: Mapping[int, int]
    latency_ns: Mapping[int, int]
    mean_bytes: float

    @property
    def hit_rate(self) -> float:
        """Share of acquires that were served from the tier; 1.0 without any."""
        return 1 - self.misses / self.acquires if self.acquires else 1.0

    @property
    def samples(self) -> int:
        """How many acquires were sampled."""
        return sum(self.demand.values())

    @property
    def served_within(self) -> float:
        """Share of acquires that the counted buffers alone served; 1.0 without any."""
        return 1 - (self.misses + self.recycled) / self.acquires if self.acquires else 1.0

    def predicted(self, count: int) -> float:
        """What :attr:`served_within` would have been with `count` buffers; 1.0 without samples."""
        served = sum(n for demand, n in self.demand.items() if demand <= count)
        return served / self.samples if self.samples else 1.0

    def latency(self, percent: float) -> int:
        """Nanoseconds that `percent` of the sampled acquires did not exceed; 0 without samples."""
        seen = 0
        for value, n in sorted(self.latency_ns.items()):
            seen += n
            if seen >= self.samples * percent / 100:
                return value
        return 0


@attrs.frozen
class Workload:
    """A recording: how long, and what each tier went through."""

    duration_s: float
    tiers: Mapping[str, TierLoad]
    oversize: int

    @property
    def counts(self) -> tuple[int, ...]:
        """The counts while it was recorded."""
        return tuple(self.tiers[name].count for name in TIERS)

    @property
    def hit_rate(self) -> float:
        """Over all tiers."""
        asked = sum(load.acquires for load in self.tiers.values())
        return 1 - sum(load.misses for load in self.tiers.values()) / asked if asked else 1.0

    def save(self, path: Path) -> None:
        """Write it as JSON, for :meth:`load`."""
        path.write_text(json.dumps(attrs.asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recording; `InvalidArgument` names the file and what is wrong with it."""
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            message = (
                f"not a recorded pool workload ({fault!r}); record one with vexctl performance memory-pools report"
            )
            raise InvalidArgument.at(message, path) from fault

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The same from what JSON gave."""
        tiers = {}
        for name in TIERS:
            row = dict(data["tiers"][name])
            for field in ("demand", "latency_ns"):
                row[field] = {int(value): int(n) for value, n in row[field].items()}
            tiers[name] = TierLoad(**row)
        return cls(float(data["duration_s"]), tiers, int(data["oversize"]))


@attrs.frozen
class Finding:
    """Something to act on, or to know."""

    tier: str | None
    severity: str
    message: str


@attrs.frozen
class Recommendation:
    """Counts for a workload, and the hit rate that they would have had."""

    counts: tuple[int, ...]
    hit_rates: Mapping[str, float]
    size_bytes: int
    met: bool


def snapshot(stats: Mapping[str, Any], since: Mapping[str, Any] | None, duration_s: float) -> Workload:
    """The workload between two readings of :meth:`Pool.stats`; from the last reset on without `since`."""
    tiers = {}
    for name in TIERS:
        now = stats["tiers"][name]
        then = since["tiers"][name] if since else {}
        sampled = now["sampled"] - then.get("sampled", 0)
        tiers[name] = TierLoad(
            count=now["capacity"],
            acquires=now["acquires"] - then.get("acquires", 0),
            misses=now["misses"] - then.get("misses", 0),
            recycled=now["recycled"] - then.get("recycled", 0),
            high_water=now["high_water"],
            demand=_less(now["demand"], then.get("demand", {})),
            latency_ns=_less(now["latency_ns"], then.get("latency_ns", {})),
            mean_bytes=(now["sampled_bytes"] - then.get("sampled_bytes", 0)) / sampled if sampled else 0.0,
        )
    return Workload(duration_s, tiers, stats["oversize"] - (since["oversize"] if since else 0))


def _less(now: Mapping[int, int], then: Mapping[int, int]) -> dict[int, int]:
    return {value: n - then.get(value, 0) for value, n in now.items() if n > then.get(value, 0)}


def record(pool: Pool, duration_s: float, wait: Callable[[float], object] = time.sleep) -> Workload:
    """Watch `pool` for `duration_s` seconds; `wait` may end early, the recording then covers what was."""
    before, start = pool.stats(), time.monotonic()
    wait(duration_s)
    return snapshot(pool.stats(), before, time.monotonic() - start)


def analyse(workload: Workload, target: float = TARGET) -> list[Finding]:
    """What stands out in a workload, worst first; empty when all is well."""
    found = []
    for name, size in zip(TIERS, TIER_BYTES, strict=True):
        if workload.tiers[name].acquires:
            found += _findings(name, size, workload.tiers[name], target)
    asked = sum(load.acquires for load in workload.tiers.values()) + workload.oversize
    if workload.oversize > asked / 100:
        message = f"{workload.oversize} of {asked} requests were above 16 KiB, which no tier serves"
        found.append(Finding(None, "info", message))
    return sorted(found, key=lambda finding: finding.severity != "warning")


def _findings(name: str, size: int, load: TierLoad, target: float) -> list[Finding]:
    enough, quarter = load.samples >= FEW_SAMPLES, load.count // 4
    said = []
    if load.hit_rate < target:
        message = f"hit rate {load.hit_rate:.1%} is under the target of {target:.0%}"
        message += f": {load.high_water} buffers were in use at once, the tier has {load.count}"
        said.append(Finding(name, "warning", message))
    elif load.served_within < target:
        message = f"{load.recycled / load.acquires:.1%} were served by what bursts left behind, which is not reserved"
        message += f": {load.high_water} buffers were in use at once, the tier has {load.count}"
        said.append(Finding(name, "info", message))
    elif enough and load.count > COUNT_LEAST and load.predicted(quarter) >= 0.999:
        message = f"a quarter of its {load.count} buffers would have served as well"
        said.append(Finding(name, "info", f"{message}; {(load.count - quarter) * size // 1024} KiB lie idle"))
    if enough and load.latency(99) > SLOW_NS:
        said.append(Finding(name, "warning", f"one acquire in a hundred takes over {load.latency(99)} ns"))
    if not enough:
        message = f"only {load.samples} samples: record for longer to trust the demand"
        said.append(Finding(name, "info", message))
    return said


def recommend(workload: Workload, target: float = TARGET, budget_bytes: int | None = None) -> Recommendation:
    """The smallest counts that alone would have met `target` in each tier, within `budget_bytes` if given.

    Tiers that saw too few samples keep their count.  With a budget too small for the target, buffers go where they turn
    most misses into hits for their size.
    """
    if not 0 < target <= 1:
        raise ValueError(f"the target of the hit rate must be above 0 and at most 1, not {target}")
    wanted = {name: _wanted(workload.tiers[name], target) for name in TIERS}
    if budget_bytes is not None and _bytes(wanted) > budget_bytes:
        wanted = _within(workload, wanted, budget_bytes)
    rates = {name: workload.tiers[name].predicted(wanted[name]) for name in TIERS}
    met = all(rates[name] >= target for name in TIERS)
    return Recommendation(tuple(wanted[name] for name in TIERS), rates, _bytes(wanted), met)


def _wanted(load: TierLoad, target: float) -> int:
    if load.samples < FEW_SAMPLES:
        return load.count
    for demand in sorted(load.demand):
        if load.predicted(demand) >= target:
            return min(max(-(-demand // STEP) * STEP, COUNT_LEAST), COUNT_MOST)
    return min(max(load.demand), COUNT_MOST)


def _bytes(counts: Mapping[str, int]) -> int:
    return sum(counts[name] * size for name, size in zip(TIERS, TIER_BYTES, strict=True))


def _within(workload: Workload, wanted: Mapping[str, int], budget_bytes: int) -> dict[str, int]:
    """Buffers by the step, each to the tier where it gains most hits a byte."""
    counts = dict.fromkeys(TIERS, 0)
    sizes = dict(zip(TIERS, TIER_BYTES, strict=True))

    def gain(name: str) -> float:
        load = workload.tiers[name]
        more = load.predicted(counts[name] + STEP) - load.predicted(counts[name])
        return (more * load.acquires + 1e-9) / sizes[name]

    spent = 0
    open_tiers = {name for name in TIERS if wanted[name]}
    while open_tiers:
        name = max(open_tiers, key=gain)
        if counts[name] + STEP > wanted[name] or spent + STEP * sizes[name] > budget_bytes:
            open_tiers.discard(name)
            continue
        counts[name] += STEP
        spent += STEP * sizes[name]
    return counts


def rebalance(pool: Pool, workload: Workload, target: float = TARGET) -> Recommendation:
    """Give `pool` the recommended counts within the memory that it has now; answers what was set."""
    budget = sum(count * size for count, size in zip(pool.counts, TIER_BYTES, strict=True))
    advice = recommend(workload, target, budget)
    pool.resize(advice.counts)
    return advice
