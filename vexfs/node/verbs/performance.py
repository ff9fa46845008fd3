"""``performance.*``: loads, validation, comparison, diagnosis; and the verbs of each part."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from vexfs.config.edit import with_values
from vexfs.config.settings import load
from vexfs.errors import NotPermitted, UsageError
from vexfs.node.node import Node
from vexfs.node.verbs import bridge, kernels, pools, stack  # noqa: F401 - they register verbs of this noun
from vexfs.node.verbs.terms import Steps, all_timed, number, parts_of, seconds, waiting
from vexfs.node.watch import history_of
from vexfs.observe import bottleneck, diagnosis, performance, regression, tuning, workload
from vexfs.observe.pools import snapshot
from vexfs.observe.statistics import ratio_interval

IDLE_PER_S = 50.0


@Node.verb("performance.validate")
def validate(node: Node, quick: bool = False, comprehensive: bool = False, post_update: bool = False) -> Steps:
    """Real loads on the live volume, held against the targets; `post_update` also checks every kernel's results."""
    if quick and comprehensive:
        raise UsageError("quick and comprehensive exclude each other")
    mode = "quick" if quick else "comprehensive" if comprehensive else "normal"
    target = node.settings.performance.pool_hit_rate_target
    told: dict[str, Any] = yield from performance.validate(parts_of(node), mode, target)
    if post_update:
        checked = kernels.verify(node)
        told["post_update"] = {"kernels": checked["ok"], "settings_waiting": [c.key.path for c in node.waiting]}
        told["reasons"] += [f"post_update: {reason}" for reason in checked["reasons"]]
        told["reasons"] += [
            f"post_update: {path} waits for a restart" for path in told["post_update"]["settings_waiting"]
        ]
        told["overall_success"] = not told["reasons"]
    return told


@Node.verb("performance.baseline")
def baseline(node: Node, rounds: int = 9) -> Steps:
    """Several samples of every figure, for :mod:`vexfs.observe.regression`."""
    n = int(number(rounds, "rounds", regression.FEWEST, 200))
    found = yield from performance.samples(parts_of(node), n)
    return regression.baseline(found, parts_of(node).enabled())


@Node.verb("performance.diagnose")
def diagnose(node: Node, comprehensive: bool = False) -> Steps:
    """What stands out, worst first; `comprehensive` also looks at the host, and at the node under load."""
    history = history_of(node)
    load: dict[str, Any] | None = None
    if comprehensive:
        target = node.settings.performance.pool_hit_rate_target
        load = yield from performance.validate(parts_of(node), "quick", target)
    found = diagnosis.findings(history, node.settings.performance.pool_hit_rate_target)
    if comprehensive:
        found += diagnosis.host_findings()
        assert load is not None
        seen = {row["part"] for row in found}
        for reason in load["reasons"]:
            name, _, message = reason.partition(": ")
            if name.removesuffix("_enabled").removeprefix("health_") not in seen:
                found.append({"part": name, "severity": "warning", "message": message, "remedy": ""})
        found.sort(key=lambda row: diagnosis.ORDER.index(row["severity"]))
    told = diagnosis.summary(found)
    if load is not None:
        told["load"] = load["loads"]
    return told


@Node.verb("performance.bottleneck")
def bottleneck_analysis(node: Node, duration: float = 10.0, detailed: bool = False) -> Steps:
    """Where time goes, over `duration` of the work at hand; a node that idles is given files to work on."""
    parts, wanted_s = parts_of(node), seconds(duration)
    idle = history_of(node).rates(2.0).filesystem < IDLE_PER_S
    with all_timed(node):
        then, began, client = bottleneck.read(parts), time.monotonic(), None
        if idle:
            yield {"done": 0, "total": wanted_s, "text": "driving a load"}
            with workload.mounted(parts):
                then = bottleneck.read(parts)
                load = workload.fuse(parts, wanted_s)
                now = bottleneck.read(parts)
            if load.reason:
                raise UsageError(f"the node is idle, and could not be given work: {load.reason}")
            client = {"spent_s": load.seconds * load.detail["clients"] - load.detail["client_user_s"]}
        else:
            yield from waiting(wanted_s)
            now = bottleneck.read(parts)
    told = bottleneck.analyse(then, now, time.monotonic() - began, client)
    told["driven"] = idle
    if not detailed:
        told["by_operation"] = dict(list(told["by_operation"].items())[:5])
    return told


@Node.verb("performance.update_config")
def update_config(
    node: Node,
    auto_tune: bool = False,
    workload_analysis: bool = False,
    backup_current: bool = False,
    duration: float = 5.0,
) -> Steps:
    """Record the workload, and try what it suggests; without `auto_tune`, only tell what would be tried.

    A change is measured against its absence by turns, and taken back unless it helps.  What is kept goes into the
    configuration file, of which a copy is made first (`backup_current`, and whenever the file is written).
    """
    if auto_tune and node.source is not None and not os.access(node.source.parent, os.W_OK):
        told_why = "the node cannot write there what --auto-tune keeps; let its user write it"
        raise NotPermitted.at(told_why, node.source.parent)
    parts = parts_of(node)
    target = node.settings.performance.pool_hit_rate_target
    recorded = None
    if workload_analysis or auto_tune:
        pool = parts.pool
        before = pool.stats() if pool is not None else None
        if history_of(node).rates(2.0).filesystem < IDLE_PER_S:
            yield {"done": 0, "total": duration, "text": "driving a load"}
            workload.fuse(parts, seconds(duration))
        else:
            yield from waiting(seconds(duration))
        recorded = snapshot(pool.stats(), before, duration) if pool is not None else None
    backup = _backup(node.source) if backup_current and node.source else None
    now = {
        f"{tuning.SECTION}.{key}": getattr(node.settings.performance, key)
        for key in ("small_buffer_count", "medium_buffer_count", "large_buffer_count", "batch_size", "lazy_sync")
    }
    proposed = tuning.trials(parts, recorded, now, target) if recorded is not None else []
    told: dict[str, Any] = {
        "before": now,
        "backup": backup,
        "proposed": [t.name for t in proposed],
        "trials": [],
        "kept": {},
        "written": None,
    }
    if not auto_tune:
        return told
    try:
        yield from _tuned(node, proposed, now, told)
        if told["kept"] and node.source is not None:
            told["backup"] = told["backup"] or _backup(node.source)
            told["written"] = _write(node.source, told["kept"])
    except BaseException:  # somebody ended it, or the file could not be written: what is in no file does not stay
        node.change(now)
        raise
    return told


def _tuned(node: Node, proposed: list[tuning.Trial], now: dict[str, Any], told: dict[str, Any]) -> Steps:
    """Make the trials; `told` gets what came of them."""
    parts = parts_of(node)
    with workload.mounted(parts):
        start = [workload.fuse(parts, tuning.SECONDS).per_s for _ in range(tuning.TURNS)]
        for trial in proposed:
            outcome = yield from tuning.attempt(parts, trial, {**now, **told["kept"]}, lambda v: node.change(v))
            told["trials"].append(outcome)
            if outcome["kept"]:
                told["kept"] |= trial.values
        end = [workload.fuse(parts, tuning.SECONDS).per_s for _ in range(tuning.TURNS)]
    ratio, low, high = ratio_interval(end, start, 0.95)
    told["overall"] = {"ratio": ratio, "interval": [low, high]}
    if high < 1 - tuning.HARM:
        node.change(now)
        told |= {"kept": {}, "rolled_back": f"all together they cost {1 - ratio:.1%}"}


def _backup(source: Path) -> str:
    target = source.with_name(f"{source.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
    shutil.copy2(source, target)
    return str(target)


def _write(source: Path, values: dict[str, Any]) -> str:
    """Set values in the file, if the result is valid."""
    made = source.with_name(f".{source.name}.new")
    made.write_text(with_values(source.read_text(), values))
    try:
        load(made, environment={})
        shutil.copymode(source, made)
        made.replace(source)
    finally:
        made.unlink(missing_ok=True)
    return str(source)
