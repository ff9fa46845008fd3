"""``vexctl volume``: create, describe, check, compact, back up, restore a volume, and change its key."""

import argparse
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from vexfs import volume as volumes
from vexfs.cli import output, reach
from vexfs.cli.progress import Progress
from vexfs.errors import EXIT_WANTING, UsageError, VolumeBusy, VolumeNotFound
from vexfs.store import lock
from vexfs.store.check import Report
from vexfs.volume import Volume

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
KEY = ("--key-file", {"metavar": "FILE", "help": "key of an encrypted volume"})


def register(subparsers: Any) -> None:
    """Add ``volume`` and what is below it."""
    parser = subparsers.add_parser(
        "volume", help="create, check, compact, back up and restore volumes",
        description="Look after a volume as a whole.  One that is mounted or served is asked through the process that "
                    "has it open for `info`, `compact` and `backup`; the others want it closed.",
        epilog="Example: vexctl volume create notes.vex",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _register_create(actions)
    info = _add(actions, "info", info_of, "what a volume is and how full it is", "vexctl volume info notes.vex")
    _option(info, KEY)
    fsck = _add(actions, "fsck", fsck_of, "check a volume, and repair it", "vexctl volume fsck notes.vex --repair")
    _option(fsck, KEY)
    fsck.add_argument("--repair", action="store_true", help="repair what can be repaired")
    fsck.add_argument("--quick", action="store_true", help="do not read and verify the files' data")
    compact = _add(
        actions, "compact", compact_of, "free the room of what was removed", "vexctl volume compact notes.vex"
    )
    _option(compact, KEY)
    backup = _add(actions, "backup", backup_of, "copy a volume", "vexctl volume backup notes.vex /backup/notes.vex")
    backup.add_argument("target", help="a path where nothing is yet")
    _option(backup, KEY)
    restore = _add(
        actions, "restore", restore_of, "check a backup and copy it back",
        "vexctl volume restore /backup/notes.vex notes.vex",
    )  # fmt: skip
    restore.add_argument("target", help="a path where nothing is yet")
    _option(restore, KEY)
    rotate = _add(
        actions, "rotate-key", rotate_key_of, "put an encrypted volume under another key file",
        "vexctl volume rotate-key notes.vex --key-file old.key --new-key-file new.key",
    )  # fmt: skip
    rotate.add_argument("--key-file", metavar="FILE", required=True, help="the key file that opens it now")
    rotate.add_argument("--new-key-file", metavar="FILE", required=True, help="the one to come; made when absent")


def _register_create(actions: Any) -> None:
    create = _add(
        actions, "create", create_of, "make a volume",
        "vexctl volume create notes.vex --key-file notes.key --size-limit 20G",
    )  # fmt: skip
    create.add_argument("--key-file", metavar="FILE", help="encrypt under this key; made when absent: keep a copy")
    create.add_argument("--size-limit", metavar="SIZE", type=size, default=0, help="at most so much content, as 20G")
    create.add_argument(
        "--segment-size", metavar="SIZE", type=size, default=64 << 20, help="of the files with the data; 64M"
    )
    create.add_argument("--compression", choices=("lz4", "none"), default="lz4")


def _add(actions: Any, name: str, run: Any, about: str, example: str) -> Any:
    parser = actions.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".",
                                epilog=f"Example: {example}")  # fmt: skip
    parser.add_argument("volume", help="the backup's directory" if name == "restore" else "the volume's directory")
    parser.set_defaults(run=run)
    return parser


def _option(parser: Any, option: tuple[str, dict[str, str]]) -> None:
    parser.add_argument(option[0], **option[1])


def size(word: str) -> int:
    """A size as people write it: ``20G``, ``64MB``, ``4096``.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none.
    """
    text = word.strip().upper().removesuffix("IB").removesuffix("B")
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS and text[-1:] else (text, "")
    try:
        value = Decimal(number.strip()) * UNITS[unit]
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or not 0 <= value < 1 << 63 or value != int(value):
        raise argparse.ArgumentTypeError(f"{word!r} is no size in whole bytes; 20G, 64M or 4096 are")
    return int(value)


def create_of(args: argparse.Namespace) -> None:
    """Run ``volume create``."""
    made_key = args.key_file is not None and not Path(args.key_file).exists()
    with Volume.create(
        args.volume, key_file=args.key_file, size_limit=args.size_limit, segment_size=args.segment_size,
        compression=args.compression,
    ) as volume:  # fmt: skip
        about = {"path": str(volume.directory), "uuid": volume.about.uuid, "encrypted": volume.encrypted,
                 "key_file": args.key_file, "key_file_made": made_key}  # fmt: skip
    lines = [f"made {about['path']}"]
    if made_key:
        lines.append(f"made the key file {args.key_file}: keep a copy elsewhere; without it the volume cannot be read")
    output.emit(args, about, "\n".join(lines))


def info_of(args: argparse.Namespace) -> None:
    """Run ``volume info``."""
    if lock.socket_of(Path(args.volume)) is not None:
        info = _asked(args, "volume.info")
    else:
        with Volume.load(args.volume, key_file=args.key_file, read_only=True) as volume:
            info = volume.info()
    output.emit(args, info, lambda: _info_text(info))


def _asked(args: argparse.Namespace, verb: str, label: str | None = None, unit: str = "B", **sent: Any) -> Any:
    """What the process that has the volume open answers to a verb."""
    with reach.Reach(volume=args.volume, key_file=args.key_file) as owner:
        return owner.call(verb, **sent).result(label, unit)


def _info_text(info: dict[str, Any]) -> str:
    status = info["status"]
    shown = {
        **{key: info[key] for key in ("path", "uuid", "format", "created", "encrypted", "compression")},
        "segment_size": output.size(info["segment_size"]),
        "size_limit": output.size(info["size_limit"]) if info["size_limit"] else "none",
        "files": status["files"],
        "content": output.size(status["used_bytes"]),
        "live_in_segments": output.size(status["live_bytes"]),
        "dead_in_segments": output.size(status["dead_bytes"]),
        "segments": status["segments"],
        "on_disk": output.size(status["disk_bytes"]),
        "available": output.size(info["available_bytes"]),
    }
    return output.fields(shown)


def fsck_of(args: argparse.Namespace) -> int:
    """Run ``volume fsck``; 1 when there are faults left."""
    started = time.monotonic()
    if lock.socket_of(Path(args.volume)) is not None:
        raise VolumeBusy.at(
            f"{lock.busy_message(Path(args.volume))}; "
            "to check it meanwhile, `vexctl volume backup` it and check the copy",
            Path(args.volume).absolute(),
        )
    with Progress("checking") as progress:
        report = volumes.check(
            args.volume, key_file=args.key_file, repair=args.repair, read_data=not args.quick, progress=progress
        )
    data = {**report.as_dict(), "path": str(Path(args.volume).absolute()), "seconds": time.monotonic() - started}
    output.emit(args, data, lambda: _report_text(report, args.repair))
    return 0 if report.sound else EXIT_WANTING


def _report_text(report: Report, repair: bool) -> str:
    lines = []
    for problem in report.problems:
        mark = "repaired" if problem.repaired else "note" if problem.note else "FAULT"
        where, detail = output.printable(problem.where), output.printable(problem.detail)
        lines.append(f"{mark:<8}  {problem.kind}: {where}: {detail}")
        if problem.remedy and not problem.repaired and not problem.note:
            lines.append(f"          {problem.remedy}")
    faults = len(report.faults)
    mended = sum(p.repaired and not p.note for p in report.problems)
    state = "sound" if not faults else output.counted(faults, "fault")
    counts = ((report.inodes, "inode"), (report.entries, "name"), (report.extents, "extent"))
    lines.append(
        f"{state}{f', {mended} repaired' if mended else ''}: "
        f"{', '.join(output.counted(number, noun) for number, noun in counts)}, "
        f"{output.size(report.bytes_checked)} in {output.counted(report.segments, 'segment')}"
    )
    if not repair and any(fault.fix is not None or "--repair" in fault.remedy for fault in report.faults):
        lines.append("run again with --repair to repair what can be repaired; take a backup first")
    return "\n".join(lines)


def compact_of(args: argparse.Namespace) -> int:
    """Run ``volume compact``; 1 when some segments could not be copied for want of room."""
    if lock.socket_of(Path(args.volume)) is not None:
        gained = _asked(args, "volume.compact", "compacting", "segments")
    else:
        with Volume.load(args.volume, key_file=args.key_file) as volume:
            with Progress("compacting", unit="segments") as progress:
                gained = volume.compact(progress)
    freed, left = gained["disk_bytes_before"] - gained["disk_bytes_after"], gained["segments_left"]
    text = f"freed {output.size(freed)} in {output.counted(gained['segments_freed'], 'segment')}"
    if left:
        text += f"; not {output.counted(left, 'segment')}, for want of room to copy what lives there: make room first"
    output.emit(args, {**gained, "freed_bytes": freed}, text)
    return EXIT_WANTING if left else 0


def backup_of(args: argparse.Namespace) -> None:
    """Run ``volume backup``."""
    started = time.monotonic()
    if lock.socket_of(Path(args.volume)) is not None:
        where = Path(_asked(args, "volume.backup", "copying", target=str(Path(args.target).absolute()))["path"])
    else:
        with _to_read(args) as volume, Progress("copying") as progress:
            where = volume.backup(args.target, progress)
    _emit_copy(args, where, started, "backed up to")


def _to_read(args: argparse.Namespace) -> Volume:
    try:
        return Volume.load(args.volume, key_file=args.key_file)
    except OSError as error:
        if not lock.read_beside(error, Path(args.volume)):
            raise
        return Volume.load(args.volume, key_file=args.key_file, read_only=True)


def restore_of(args: argparse.Namespace) -> None:
    """Run ``volume restore``."""
    started = time.monotonic()
    if not Path(args.volume).exists():
        raise VolumeNotFound.at(
            "no such backup; the directory that `vexctl volume backup` wrote is wanted", Path(args.volume).absolute()
        )
    with Progress("restoring") as progress:
        volumes.restore(args.volume, args.target, key_file=args.key_file, progress=progress)
    _emit_copy(args, Path(args.target).absolute(), started, "checked and restored to")


def _emit_copy(args: argparse.Namespace, where: Path, started: float, what: str) -> None:
    total = sum(path.stat().st_size for path in where.rglob("*") if path.is_file())
    seconds = time.monotonic() - started
    data = {"path": str(where), "bytes": total, "seconds": seconds}
    output.emit(args, data, f"{what} {where}: {output.size(total)} in {output.duration(seconds)}")


def rotate_key_of(args: argparse.Namespace) -> None:
    """Run ``volume rotate-key``."""
    if Path(args.key_file).absolute() == Path(args.new_key_file).absolute():
        raise UsageError("--new-key-file is the same file as --key-file; give the new key a file of its own")
    made = not Path(args.new_key_file).exists()
    volumes.rotate_key(args.volume, args.key_file, args.new_key_file)
    output.emit(
        args, {"path": str(Path(args.volume).absolute()), "new_key_file": args.new_key_file, "key_file_made": made},
        f"{args.volume} opens with {args.new_key_file} now; the old key file still opens older backups",
    )  # fmt: skip
