"""The check of a closed volume: finds what contradicts itself, repairs what can be repaired, says what cannot.

The check reads everything and compares: names with inodes, link counts with names, extents with frames, accounting
with what it accounts for.  Every finding that can be repaired carries the change that repairs it.  One repair can lay
the next fault open (an entry without inode goes, and its directory's count is wrong), so check and repair take turns
until a check finds nothing that a repair could change.

A *note* is no fault: it is what a crash leaves and the next opening tidies away.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from vexfs._core.meta import Meta
from vexfs._core.segment import SegmentStore
from vexfs.errors import Damaged, VexfsError, describe
from vexfs.store import lock, volumefile
from vexfs.store.check_data import check_data
from vexfs.store.check_tree import check_tree
from vexfs.store.salvage import rebuild
from vexfs.store.snapshot import META, SEGMENTS, TAILS_MAX

Progress = Callable[[int, int], Any]
ROUNDS_MAX = 6
_TO_BRING = "holds what segments lack; the next opening for writing brings it there"


@attrs.define
class Problem:
    """One finding.

    Attributes
    ----------
    kind : str
        Stable, for programs: ``"entry-without-inode"``.
    where : str
        The path in the volume, or the part of the volume.
    detail : str
        What is wrong.
    note : bool
        No fault: what a crash leaves and the next opening tidies away.
    remedy : str
        What a person can do when it cannot be repaired.
    repaired : bool
    """

    kind: str
    where: str
    detail: str
    note: bool = False
    remedy: str = ""
    repaired: bool = False
    fix: Callable[[Meta], Any] | None = attrs.field(default=None, repr=False, eq=False)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return attrs.asdict(self, filter=lambda attribute, _: attribute.name != "fix")


@attrs.define
class Report:
    """What a check found."""

    problems: list[Problem] = attrs.field(factory=list)
    inodes: int = 0
    entries: int = 0
    extents: int = 0
    frames: int = 0
    segments: int = 0
    bytes_checked: int = 0

    @property
    def faults(self) -> list[Problem]:
        """The problems that are faults and are still there."""
        return [p for p in self.problems if not p.note and not p.repaired]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return not self.faults

    def add(self, kind: str, where: str, detail: str, **more: Any) -> None:
        """Note a finding."""
        self.problems.append(Problem(kind, where, detail, **more))

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        counts = attrs.asdict(self, recurse=False, filter=lambda attribute, _: attribute.name != "problems")
        return {"sound": self.sound, **counts, "problems": [problem.as_dict() for problem in self.problems]}


def check(
    directory: Path, master: bytes | None = None, *, repair: bool = False, read_data: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Check the volume in `directory`, which nobody has open.

    Parameters
    ----------
    directory : Path
    master : bytes, optional
        The master key of an encrypted volume.
    repair : bool
        Repair what can be repaired.
    read_data : bool
        Read and verify every frame; without it only their headers.
    progress : callable, optional
        Called with bytes done and bytes in all, as segments are read.

    Notes
    -----
    Takes about 250 bytes of memory a file and 100 an extent, and time in proportion to the size of the volume.
    """
    found: list[Problem] = _check_files(directory, repair)
    report = Report()
    for _ in range(ROUNDS_MAX):
        report = _round(directory, master, repair, read_data, progress)
        fixes = [problem for problem in report.problems if problem.fix is not None]
        found = _merge(found, report.problems)
        if not repair or not fixes:
            break
        _apply(directory, master, fixes)
    remaining = {(p.kind, p.where, p.detail) for p in report.problems}
    for problem in found:
        gone = (problem.kind, problem.where, problem.detail) not in remaining
        problem.repaired = problem.repaired or (repair and gone)
    report.problems = found
    return report


def _merge(before: list[Problem], now: list[Problem]) -> list[Problem]:
    known = {(p.kind, p.where, p.detail) for p in before}
    return before + [p for p in now if (p.kind, p.where, p.detail) not in known]


def _round(
    directory: Path, master: bytes | None, repair: bool, read_data: bool, progress: Progress | None
) -> Report:
    """One whole check, without changes but for a rebuild of a damaged ``meta.db``, without which nothing is seen."""
    report = Report()
    if _damaged_pages(directory, master, report) and repair:
        try:
            lost = rebuild(directory / META, master)
        except Damaged:
            report.add("metadata", META, "nothing of it can be read", remedy="restore the volume from a backup")
            return report
        for problem in report.problems:
            problem.repaired = True
            problem.detail += f"; rebuilt from what could be read, {lost} stretches of rows are lost"
    try:
        with Meta(directory / META, key=master, read_only=not repair) as meta:
            settled = _settle(meta, directory, report)
            with SegmentStore(directory / SEGMENTS, key=master, read_only=True) as store:
                for place, data in [] if settled else meta.scan_tails(limit=TAILS_MAX):
                    store.lend(place >> 32, place & 0xFFFFFFFF, data)
                check_data(meta, store, check_tree(meta, report), report, read_data, progress)
    except Damaged as error:
        told = _found(error, directory / META)
        report.add("metadata", META, told, remedy="run with --repair, or restore the volume from a backup")
    return report


def _settle(meta: Meta, directory: Path, report: Report) -> bool:
    """What a power cut kept from segments stands in the log: it is brought there, as opening the volume would.

    False where the volume can only be read: segments are checked with it laid over them, then.  Where else it cannot be
    done, frames are told that are missing.
    """
    try:
        meta.settle_tails(directory / SEGMENTS)
    except Damaged as error:
        report.add("tail", META, _found(error, directory / META), fix=Meta.clear_tails)
    except OSError as error:
        if error.errno in lock.READ_ONLY:
            report.add("tail", META, _TO_BRING, note=True)
            return False
        report.add("tail", META, describe(error), remedy="mend that, and check again")
    return True


def _found(error: Damaged, path: Path) -> str:
    """What is wrong with a file that is named already, without the advice to run this check."""
    return describe(error).removeprefix(f"{path}: ").partition("; run 'vexctl volume fsck'")[0]


def _damaged_pages(directory: Path, master: bytes | None, report: Report) -> bool:
    """Check ``meta.db`` page by page; whether it has to be rebuilt."""
    path = directory / META
    try:
        with Meta(path, key=master, read_only=True) as meta:
            pages, damaged = meta.verify()
    except Damaged as error:
        report.add("metadata-log", META, _found(error, path), remedy="run with --repair, or restore from a backup")
        return True
    except VexfsError as error:
        report.add("metadata", META, describe(error), remedy="restore the volume from a backup")
        return False
    for number, _ in damaged:
        report.add("metadata-page", META, f"page {number} of {pages} is damaged", remedy="run with --repair")
    return bool(damaged)


def _apply(directory: Path, master: bytes | None, fixes: list[Problem]) -> None:
    """Make the changes of one round, all of them or none."""
    with Meta(directory / META, key=master) as meta:
        meta.begin()
        try:
            for problem in fixes:
                assert problem.fix is not None
                problem.fix(meta)
            meta.commit()
        except BaseException:
            meta.rollback()
            raise
        meta.sync()
        meta.refresh()


def _check_files(directory: Path, repair: bool) -> list[Problem]:
    """The files of the volume beside its metadata and segments."""
    return list(_file_problems(directory, repair))


def _file_problems(directory: Path, repair: bool) -> Iterator[Problem]:
    main, spare = _sound(directory / volumefile.NAME), volumefile.sound_spare(directory)
    if main is None and spare is not None:
        if repair:
            spare.save(directory)
        what = "is missing or damaged; the spare copy is sound"
        yield Problem("volume-file", volumefile.NAME, what, remedy="run with --repair", repaired=repair)
    elif main is not None and spare != main:
        if repair:
            main.save(directory)
        what = "is missing, damaged or out of date"
        yield Problem("volume-spare", volumefile.SPARE, what, remedy="run with --repair", repaired=repair)
    known = {volumefile.NAME, volumefile.SPARE, META, f"{META}-wal", f"{META}-shm", SEGMENTS, "index"}
    known |= {lock.NAME, lock.SOCKET}
    for path in sorted(directory.iterdir()):
        if path.name.endswith(".new"):
            if repair:
                path.unlink()
            yield Problem("leftover", path.name, "an unfinished write", note=True, repaired=repair)
        elif path.name not in known and not path.name.startswith(META):
            yield Problem("stranger", path.name, "is no part of the volume", note=True)


def _sound(path: Path) -> volumefile.VolumeFile | None:
    try:
        return volumefile.parse(path.read_bytes(), path)
    except OSError:
        return None
