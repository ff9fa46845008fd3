"""The cases, and running them."""

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from vexfs.testing.posix import attributes, content, errors, extended, names, permissions
from vexfs.testing.posix.target import Stage, Target

Case = Callable[[Stage], None]
_ROOMS = (errors, names, attributes, permissions, content, extended)
_numbers = count()


def cases() -> dict[str, Case]:
    """Every case by its name, ``room.case``."""
    found: dict[str, Case] = {}
    for room in _ROOMS:
        for name, value in vars(room).items():
            if name.startswith("case_"):
                found[f"{room.__name__.rpartition('.')[2]}.{name.removeprefix('case_')}"] = value
    return found


@dataclass
class Report:
    """What a run came to.

    Attributes
    ----------
    checks
        Assertions that held.
    passed, skipped, failures
        Names of cases; with the reason, for those skipped; with the traceback, for those failed.
    """

    checks: int = 0
    passed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def play(target: Target, name: str) -> int:
    """Run one case in a new directory below the target; the number of its checks.

    Raises
    ------
    AssertionError
        A check did not hold.
    OSError
        A call failed that should not.
    """
    umask = os.umask(0)
    stage = Stage(target, f"{name.replace('.', '-')}-{os.getpid()}-{next(_numbers)}")
    try:
        cases()[name](stage)
    finally:
        os.umask(umask)
    return stage.checks


def why_not(target: Target, name: str) -> str | None:
    """Why a case cannot run, or does not hold, on the target."""
    if name.startswith("permissions.") and os.geteuid() != 0:
        return "needs root, to act as other users"
    return target.lacks.get(name)


def run(target: Target) -> Report:
    """Run every case; the target's users are ended."""
    report = Report()
    try:
        for name in cases():
            reason = why_not(target, name)
            if reason:
                report.skipped[name] = reason
                continue
            try:
                report.checks += play(target, name)
                report.passed.append(name)
            except (AssertionError, OSError):
                report.failures[name] = traceback.format_exc()
    finally:
        target.close()
    return report
