"""How many nodes a load needs, and whether to add or remove some."""

import math
from typing import Any

from vexfs.errors import UsageError
from vexfs.observe.history import Rates
from vexfs.observe.parts import TARGETS

DAY_S = 86_400.0
#: The busiest hour of a day carries this many times the mean.
PEAK = 2.0

UP = {"load": 0.85, "hit_rate": 0.85, "response_ms": 100.0}
DOWN = {"load": 0.50, "hit_rate": 0.95, "response_ms": 10.0}


def plan(
    per_day: dict[str, float], headroom: float = 0.20, capacity: dict[str, float] | None = None, peak: float = PEAK
) -> dict[str, Any]:
    """How many nodes carry so many operations a day.

    Parameters
    ----------
    per_day : dict
        Operations a day by kind: ``fuse``, ``vector``, ``semantic``.
    headroom : float
        Share of a node's capacity that stays free.
    capacity : dict, optional
        Operations a second that one node does, by kind; by default what every node is held to.
    peak : float
        How many times the mean rate the busiest time has.

    Returns
    -------
    dict
        By kind the rates and the fractional nodes; ``nodes``, of which each does some of everything, and so the sum.
    """
    if not 0 <= headroom < 1:
        raise UsageError(f"headroom is {headroom}, and must be from 0 to below 100%")
    if peak < 1:
        raise UsageError(f"the peak is {peak} times the mean, and must be 1 or more")
    can = {**TARGETS, **(capacity or {})}
    kinds, total = {}, 0.0
    for kind, n in per_day.items():
        if n < 0:
            raise UsageError(f"{kind} operations a day are {n}, and must not be negative")
        if not can[kind] > 0:
            raise UsageError(f"a node's capacity for {kind} operations is {can[kind]}, and must be above 0")
        mean = n / DAY_S
        usable = can[kind] * (1 - headroom)
        nodes = mean * peak / usable
        kinds[kind] = {
            "per_day": n,
            "mean_per_s": mean,
            "peak_per_s": mean * peak,
            "node_per_s": can[kind],
            "usable_per_s": usable,
            "nodes": nodes,
        }
        total += nodes
    widest = max(kinds, key=lambda kind: kinds[kind]["nodes"], default=None)
    return {
        "kinds": kinds,
        "headroom": headroom,
        "peak_factor": peak,
        "nodes_fractional": total,
        "nodes": max(1, math.ceil(total - 1e-9)),
        "nodes_to_survive_one_failure": max(1, math.ceil(total - 1e-9)) + 1,
        "decided_by": widest,
    }


def advise(
    rates: Rates, response_ms: float | None, capacity: dict[str, float] | None = None, nodes: int = 1
) -> dict[str, Any]:
    """Scale up, down, or stay, from figures of the last window; `response_ms` is None when nothing was asked.

    Up when any of load, hit rate and response says so; down only when all of them do.
    """
    can = {**TARGETS, **(capacity or {})}
    loads = {kind: getattr(rates, kind) / can[kind] for kind in can}
    load = sum(loads.values())  # one node does all three: they share its processors
    hit_rate = rates.pool_hit_rate if rates.pool_acquires else None
    up, down = [], []
    if load > UP["load"]:
        up.append(f"the load is {load:.0%} of capacity, above {UP['load']:.0%}")
    elif load < DOWN["load"]:
        down.append(f"the load is {load:.0%} of capacity, under {DOWN['load']:.0%}")
    if hit_rate is not None and hit_rate < UP["hit_rate"]:
        up.append(f"the pools serve {hit_rate:.1%}, under {UP['hit_rate']:.0%}; first try memory-pools rebalance")
    elif hit_rate is None or hit_rate > DOWN["hit_rate"]:
        down.append(
            "the pools are not asked"
            if hit_rate is None
            else f"the pools serve {hit_rate:.1%}, above {DOWN['hit_rate']:.0%}"
        )
    if response_ms is not None and response_ms > UP["response_ms"]:
        up.append(f"operations take {response_ms:.1f} ms, above {UP['response_ms']:.0f} ms")
    elif response_ms is None or response_ms < DOWN["response_ms"]:
        down.append(
            "nothing waits for an answer"
            if response_ms is None
            else f"operations take {response_ms:.2f} ms, under {DOWN['response_ms']:.0f} ms"
        )
    advice = "up" if up else "down" if len(down) == 3 and nodes > 1 else "stay"
    if up:
        reasons = up
    elif advice == "down":
        reasons = down
    else:
        reasons = [*down, *(["one node is the least there can be"] if len(down) == 3 else [])] or ["all within bounds"]
    return {
        "advice": advice,
        "reasons": reasons,
        "load": load,
        "loads": loads,
        "hit_rate": hit_rate,
        "response_ms": response_ms,
        "nodes": nodes,
        "capacity_per_s": can,
    }
