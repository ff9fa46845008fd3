"""``vexfs import`` and ``vexfs export``: whole trees into a volume and out of it."""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import attrs

from vexfs.cli import output
from vexfs.cli.progress import Progress
from vexfs.errors import EXIT_WANTING, NotFound, UsageError
from vexfs.sides import HostSide, Side, VolumeSide
from vexfs.transfer import Summary, Transfer, measure
from vexfs.volume import Volume

ABOUT = """\
Modes, owners, times, extended attributes, hard links, symlinks, devices and holes are preserved.  Of what is there
already with the same size and modification time only the extended attributes are made those of the source, so after an
interruption the same command goes on.
"""
IMPORT_HELP = """\
Examples:
  vexfs import ~/papers notes.vex:/papers
  vexfs import ~/papers notes.vex:/papers --index
"""
EXPORT_HELP = """\
Examples:
  vexfs export notes.vex:/papers ./papers
  vexfs export notes.vex:/ ./everything
"""
SHOWN_MAX = 10
#: A model that does not answer is waited for so long while nothing else goes on.
_PATIENCE_S = 60.0


def register_import(subparsers: Any) -> None:
    """Add ``import``."""
    parser = subparsers.add_parser(
        "import", help="copy a tree of the host into a volume", description=ABOUT, epilog=IMPORT_HELP
    )
    parser.add_argument("source", metavar="HOSTDIR", help="a directory or file of the host")
    parser.add_argument("target", metavar="VOLUME:/PATH", help="where its content goes in the volume")
    _register_options(parser)
    parser.add_argument(
        "--index", nargs="?", const="default", metavar="EMBEDDER",
        help="index the text by meaning and wait until that is done; with the model named, else the default",
    )  # fmt: skip
    parser.set_defaults(run=import_tree)


def register_export(subparsers: Any) -> None:
    """Add ``export``."""
    parser = subparsers.add_parser(
        "export", help="copy a tree of a volume to the host", description=ABOUT, epilog=EXPORT_HELP
    )
    parser.add_argument("source", metavar="VOLUME:/PATH", help="a directory or file of the volume")
    parser.add_argument("target", metavar="HOSTDIR", help="where its content goes on the host")
    _register_options(parser)
    parser.set_defaults(run=export_tree)


def _register_options(parser: Any) -> None:
    parser.add_argument("--key-file", metavar="FILE", help="key of an encrypted volume")
    parser.add_argument("--no-owners", action="store_true", help="do not set owner and group")
    parser.add_argument(
        "--keep-attributes", action="store_true",
        help="leave extended attributes that a file has where it goes and not where it comes from",
    )  # fmt: skip


def place_of(word: str) -> tuple[str, str]:
    """``VOLUME:/PATH`` taken apart; the path may be empty for the root.

    Raises
    ------
    UsageError
        It does not have that form.
    """
    volume, colon, path = word.partition(":/")
    if not colon and word.endswith(":"):
        volume, colon = word[:-1], ":"
    if not colon or volume in ("", "http", "https"):
        raise UsageError(f"{word!r} names no place in a volume; VOLUME:/PATH does, for example notes.vex:/papers")
    return volume, f"/{path}"


def import_tree(args: argparse.Namespace) -> int:
    """Run ``vexfs import``."""
    volume, path = place_of(args.target)
    source = HostSide(os.path.realpath(args.source) if os.path.exists(args.source) else args.source)
    if args.index and not os.path.isdir(args.source):
        raise UsageError(f"{args.source}: --index wants a directory; an index belongs to one")
    if not os.path.lexists(source.root):
        raise NotFound.at("no such file or directory on the host", args.source)
    with Volume.load(volume, create=True, key_file=args.key_file) as opened:  # nobody imports into nothing by mistake
        _make_parents(opened, path)
        own = os.stat(opened.directory)
        target = VolumeSide(opened.filesystem, path)
        index = _index(opened, path, args.index) if args.index else None
        return _transfer(args, "importing", source, target, True, frozenset({(own.st_dev, own.st_ino)}), index)


def _index(volume: Volume, path: str, embedder: str) -> Any:
    """The index of `path`, made when there is none: before anything is copied, since it may be refused."""
    from vexfs.search.textindex import create_text_index

    return create_text_index(volume.catalog, path, embedder)


def _indexed(index: Any) -> dict[str, Any]:
    """Wait until all text is indexed, but for models that do not answer; how that went."""
    from vexfs.search.patience import until_indexed

    ingest, started = index.catalog.ingesting(), time.monotonic()
    with Progress("indexing", None, unit="files") as progress:
        done = ingest.status()["files"]
        for status in until_indexed(ingest, _PATIENCE_S):
            progress.note = "; ".join(f"waiting for {name}: {why}" for name, why in output.waits(status).items())
            progress(status["files"] - done, status["files"] - done + status["backlog"])
    told: dict[str, Any] = ingest.status_of(index)
    return {**told, "path": index.path, "embedder": index.embedder, "seconds": time.monotonic() - started}


def _index_told(told: dict[str, Any] | None, target: str) -> str:
    if told is None:
        return ""
    spent = output.duration(told["seconds"])
    files, passages = output.counted(told["files"], "file"), output.counted(told["passages"], "passage")
    lines = [f"\nindexed {files} in {passages} by {told['embedder']} in {spent}"]
    if told["without_text"]:
        lines.append(f"without text: {told['without_text']:,}")
    faults = [each for each in told["aside"] if each["fault"]]
    lines += [f"not indexed: {output.printable(each['path'])}: {each['reason']}" for each in faults[:SHOWN_MAX]]
    if told["failed"] > SHOWN_MAX:
        lines.append(f"not indexed: {told['failed'] - SHOWN_MAX:,} more; `vexctl index retry` tries them again")
    if left := told["backlog"]:
        lines += [f"waiting for {name}: {why}" for name, why in output.waits(told).items()]
        where = output.printable(told["path"]), "--volume", place_of(target)[0]
        lines += [
            f"not indexed yet: {output.counted(left, 'file')}; what was imported is safe, and indexed by itself when",
            "that is over, while the volume is open, mounted or served;",
            f"`{shlex.join(['vexctl', 'index', 'status', *where])}` tells how far it is",
        ]
    return "\n".join(lines)


def export_tree(args: argparse.Namespace) -> int:
    """Run ``vexfs export``."""
    volume, path = place_of(args.source)
    with Volume.load(volume, key_file=args.key_file, read_only=True) as opened:
        if Path(args.target).resolve().is_relative_to(opened.directory.resolve()):  # which it may name
            raise UsageError(f"{args.target}: lies inside the volume; an export belongs somewhere else")
        opened.filesystem.stat(path, False)
        target = HostSide(os.path.realpath(args.target) if os.path.isdir(args.target) else args.target)
        Path(args.target).absolute().parent.mkdir(parents=True, exist_ok=True)
        return _transfer(args, "exporting", VolumeSide(opened.filesystem, path), target, os.geteuid() == 0)


def _make_parents(volume: Volume, path: str) -> None:
    parts = [part for part in path.split("/") if part]
    for depth in range(1, len(parts)):
        try:
            volume.filesystem.mkdir("/".join(parts[:depth]), 0o755)
        except FileExistsError:
            continue


def _transfer(
    args: argparse.Namespace, label: str, source: Side, target: Side, owners: bool,
    exclude: frozenset[tuple[int, int]] = frozenset(), index: Any = None,
) -> int:
    started = time.monotonic()
    total = measure(source) if sys.stderr.isatty() else None
    with Progress(label, total) as progress:
        transfer = Transfer(
            source, target, owners=owners and not args.no_owners, keep_attributes=args.keep_attributes,
            progress=progress.advance, exclude=exclude,
        )  # fmt: skip
        try:
            summary = transfer.run()
        except (KeyboardInterrupt, OSError):
            print(f"{transfer.summary.done:,} are in place; the same command goes on from there", file=sys.stderr)
            raise
    seconds = time.monotonic() - started
    told = {**attrs.asdict(summary), "seconds": seconds}
    if index is not None:
        told["index"] = _indexed(index)
    output.emit(args, told, lambda: _told(summary, seconds) + _index_told(told.get("index"), args.target))
    left = index is not None and (told["index"]["backlog"] or told["index"]["failed"])
    return EXIT_WANTING if summary.errors or left else 0


def _told(summary: Summary, seconds: float) -> str:
    nouns = ("file", "files"), ("directory", "directories"), ("symlink", "symlinks"), ("hard link", "hard links")
    counts = [
        output.counted(number, one, many)
        for one, many in (*nouns, ("special", "special"), ("unchanged", "unchanged"))
        if (number := getattr(summary, many.replace(" ", "_")))
    ]
    lines = [f"{', '.join(counts) or 'nothing'}; {output.size(summary.bytes)} in {output.duration(seconds)}"]
    for title, key, found in (("left out", "why", summary.skipped), ("failed", "error", summary.errors)):
        for one in found[:SHOWN_MAX]:
            lines.append(f"{title}: {output.printable(one['path'])}: {output.printable(one[key])}")
        if len(found) > SHOWN_MAX:
            lines.append(f"{title}: {len(found) - SHOWN_MAX:,} more; --json lists all")
    return "\n".join(lines)
