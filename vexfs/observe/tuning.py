"""Trying a change under load: measured before and after by turns, kept if it helps, taken back if it does not."""

from collections.abc import Callable, Generator, Mapping
from typing import Any

import attrs

from vexfs._core.pool import TIERS
from vexfs.observe import pools, workload
from vexfs.observe.parts import Parts
from vexfs.observe.statistics import ratio_interval

Steps = Generator[dict[str, Any], None, Any]
SECTION = "performance_optimizations"
TURNS = 6
SECONDS = 0.5
#: A change that costs more than this is taken back even when it was made for another reason.
HARM = 0.05


@attrs.frozen
class Trial:
    """A change to try: keys with values, and what it is made for."""

    name: str
    values: Mapping[str, Any]
    why: str
    serves: str = "speed"


def trials(parts: Parts, load: pools.Workload, now: Mapping[str, Any], target: float) -> list[Trial]:
    """What is worth trying after a workload was recorded; `now` has the values in force by key."""
    found = []
    if parts.pool is not None and "off" not in parts.pool.options:
        advice = pools.recommend(load, target)
        counts = {f"{SECTION}.{tier}_buffer_count": n for tier, n in zip(TIERS, advice.counts, strict=True)}
        changed = {key: n for key, n in counts.items() if n != now[key]}
        if (changed and load.hit_rate < 1) or any(n > now[key] for key, n in changed.items()):
            found.append(
                Trial("pool counts", changed, "the tiers would serve the recorded demand themselves", "hit_rate")
            )
    batch = now[f"{SECTION}.batch_size"]
    for size in {min(4096, batch * 4), max(1, batch // 4)} - {batch}:
        found.append(
            Trial(f"batch size {size}", {f"{SECTION}.batch_size": size}, "larger or smaller batches in the bridge")
        )
    if not now[f"{SECTION}.lazy_sync"]:
        found.append(Trial("lazy sync", {f"{SECTION}.lazy_sync": True}, "batches may wait to fill"))
    return found


def attempt(parts: Parts, trial: Trial, before: Mapping[str, Any], change: Callable[[Mapping[str, Any]], Any]) -> Steps:
    """Measure without and with the change, turn by turn; leave it in force only if it is worth it.

    Parameters
    ----------
    before : dict
        The values to go back to.
    change : callable
        Sets values by key.

    Returns
    -------
    dict
        ``kept``, ``reason``, ``ratio`` of operations a second with its ``interval``.
    """
    old = {key: before[key] for key in trial.values}
    with_it: list[float] = []
    without: list[float] = []
    kept = False
    try:
        for turn in range(TURNS):
            yield {"done": turn, "total": TURNS, "text": trial.name}
            # The order changes by turns, so that what drifts helps neither side.
            for new in (turn % 2 == 0, turn % 2 != 0):
                change(trial.values if new else old)
                done = workload.fuse(parts, SECONDS)
                if done.reason:
                    return {"kept": False, "reason": done.reason, **attrs.asdict(trial)}
                (with_it if new else without).append(done.per_s)
        ratio, low, high = ratio_interval(with_it, without, 0.95)
        kept = low > 1 or (trial.serves != "speed" and high > 1 - HARM and ratio > 1 - HARM)
        if kept:
            reason = f"{ratio - 1:+.1%} operations a second" + (
                "" if low > 1 else f", and better for the {trial.serves}"
            )
        else:
            reason = f"{ratio - 1:+.1%} operations a second is no gain beyond chance"
        return {"kept": kept, "reason": reason, "ratio": ratio, "interval": [low, high], **attrs.asdict(trial)}
    finally:
        change(trial.values if kept else old)
