"""Has a figure got worse: two sets of samples compared by rank and by the bootstrap interval of their ratio.

One number against another says nothing on a machine that does other things as well.  A figure counts as worse only when
all three hold: the medians differ by more than the threshold, Mann-Whitney's test holds such samples for unlikely, and
the whole confidence interval of the ratio lies on the worse side.
"""

import math
import platform
from pathlib import Path
from typing import Any

from vexfs.errors import InvalidArgument
from vexfs.observe.statistics import mann_whitney, ratio_interval
from vexfs.version import __version__

FORMAT = "vexfs-baseline-1"
CONFIDENCE = 0.99
FEWEST = 5


def host() -> dict[str, Any]:
    """What figures depend on and a comparison should name when it differs."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))}
    cpus = sum(line.startswith("processor") for line in lines)
    return {"cpu": ", ".join(sorted(models)) or platform.machine(), "cpus": cpus, "kernel": platform.release()}


def baseline(found: dict[str, Any], enabled: dict[str, bool]) -> dict[str, Any]:
    """What a baseline file holds, of what :func:`vexfs.observe.performance.samples` answered."""
    return {"format": FORMAT, "version": __version__, "host": host(), "enabled": enabled, **found}


def checked(data: Any, where: str) -> dict[str, Any]:
    """`data` as a baseline.

    Raises
    ------
    InvalidArgument
        It is none, or has too few samples.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("figures"), dict):
        raise InvalidArgument.at("is no baseline; vexctl performance baseline --output FILE writes one", where)
    for name, figure in data["figures"].items():
        values = figure.get("samples") if isinstance(figure, dict) else None
        if not isinstance(values, list) or len(values) < FEWEST or not all(isinstance(v, (int, float)) for v in values):
            raise InvalidArgument.at(f"{name} has not the {FEWEST} samples that a comparison needs", where)
        if figure.get("better") not in ("higher", "lower"):
            raise InvalidArgument.at(f"{name} does not say whether higher or lower is better", where)
        if not all(math.isfinite(value) and value > 0 for value in values) or not isinstance(figure.get("unit"), str):
            raise InvalidArgument.at(f"{name} has samples that nothing can be compared with, or no unit", where)
    return data


def compare(before: dict[str, Any], now: dict[str, Any], threshold: float = 0.05) -> dict[str, Any]:
    """Compare two baselines, figure by figure.

    Returns
    -------
    dict
        ``ok``; ``regressions`` and ``improvements``, names; ``figures`` with ``change`` (positive is better), ``p``,
        and the ``interval`` of the ratio; ``notes`` about what is not comparable.
    """
    rows, notes = {}, []
    shared = [name for name in before["figures"] if name in now["figures"]]
    alpha = 0.01 / max(1, len(shared))  # one test a figure: the more tests, the more of them err
    for name in shared:
        old, new = before["figures"][name], now["figures"][name]
        ratio, low, high = ratio_interval(new["samples"], old["samples"], CONFIDENCE)
        p = mann_whitney(new["samples"], old["samples"])
        fine = old["better"] == "higher"
        change = ratio - 1 if fine else 1 - ratio
        worst_case = high < 1 if fine else low > 1
        best_case = low > 1 if fine else high < 1
        enough = len(old["samples"]) >= 8 and len(new["samples"]) >= 8
        likely = p < max(alpha, 0.001) if enough else p < 0.01
        verdict = "unchanged"
        if likely and abs(change) > threshold:
            verdict = "worse" if change < 0 and worst_case else "better" if change > 0 and best_case else "unchanged"
        rows[name] = {
            "unit": old["unit"],
            "verdict": verdict,
            "change": change,
            "p": p,
            "interval": [low, high],
            "before": _median(old["samples"]),
            "now": _median(new["samples"]),
        }
    for key in ("host", "enabled", "version"):
        if before.get(key) != now.get(key):
            notes.append(f"{key} differs: {before.get(key)} before, {now.get(key)} now")
    for name in before["figures"]:
        if name not in now["figures"]:
            reason = now.get("skipped", {}).get(name.removesuffix("_ops"), "it was not measured")
            notes.append(f"{name} is in the baseline and not in the current figures: {reason}")
    worse = [name for name, row in rows.items() if row["verdict"] == "worse"]
    better = [name for name, row in rows.items() if row["verdict"] == "better"]
    gone = [note for note in notes if "not in the current" in note]
    return {
        "ok": not worse and not gone,
        "threshold": threshold,
        "regressions": worse,
        "improvements": better,
        "figures": rows,
        "notes": notes,
    }


def _median(values: list[float]) -> float:
    ordered, n = sorted(values), len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
