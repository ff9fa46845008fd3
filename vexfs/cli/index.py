"""``vexctl index``: create, list, describe, mend and drop indexes."""

import argparse
import time
from typing import Any

from vexfs.cli import output, reach
from vexfs.cli.progress import Progress
from vexfs.errors import EXIT_WANTING, UsageError

METRICS = ("cosine", "l2", "euclidean", "dot")
_LOOK_S = 0.5
DTYPES = ("f32", "f16", "bf16", "i8")


def register(subparsers: Any) -> None:
    """Add ``index`` and what is below it."""
    parser = subparsers.add_parser(
        "index", help="create, list, describe and drop indexes",
        description="An index belongs to a directory and covers what is below it.",
        epilog="Example: vexctl index create /papers --dim 384 --volume notes.vex",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = _add(actions, "create", create_of, "make a directory searchable",
                  "vexctl index create /notes --embedder default --volume notes.vex")  # fmt: skip
    create.add_argument("path", metavar="DIR", help="a directory of the volume; made when there is none")
    create.add_argument("--dim", type=int, metavar="N", help="dimension of the vectors, 1 to 65536")
    create.add_argument("--metric", choices=METRICS, help="default: cosine")
    create.add_argument("--dtype", choices=DTYPES, help="what vectors are stored as; default: f32")
    create.add_argument("--rows-in", choices=("memory", "disk"), help="where vectors stay; default: memory")
    create.add_argument("--embedder", metavar="NAME", help="the model for text: default, static, minilm, a URL")
    _add(actions, "list", list_of, "every index of the volume", "vexctl index list --volume notes.vex")
    status = _add(actions, "status", status_of, "one index: counts, memory, upkeep, text not indexed yet",
                  "vexctl index status /notes --volume notes.vex")  # fmt: skip
    status.add_argument("path", metavar="DIR", nargs="?", default="/", help="any path that it covers; default: /")
    reembed = _add(actions, "reembed", reembed_of, "embed the text of an index anew, by another model; until then, and "
                   "when it is interrupted, the old vectors answer",
                   "vexctl index reembed /notes --embedder minilm --volume notes.vex")  # fmt: skip
    reembed.add_argument("path", metavar="DIR", help="the directory that it belongs to")
    reembed.add_argument("--embedder", metavar="NAME", help="default: the model that it has, as it is now")
    reembed.add_argument("--follow", action="store_true", help="begin nothing: stay until what is under way has ended")
    retry = _add(actions, "retry", retry_of, "try the files again that were set aside: those without text, and those "
                 "on which something failed", "vexctl index retry /notes --volume notes.vex")  # fmt: skip
    retry.add_argument("path", metavar="DIR", nargs="?", default="/", help="any path that it covers; default: /")
    drop = _add(actions, "drop", drop_of, "drop an index and its vectors; the files stay",
                "vexctl index drop /papers --volume notes.vex")  # fmt: skip
    drop.add_argument("path", metavar="DIR", help="the directory that it belongs to")


def _add(actions: Any, name: str, run: Any, about: str, example: str) -> Any:
    parser = actions.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".",
                                epilog=f"Example: {example}")  # fmt: skip
    reach.add_options(parser)
    parser.set_defaults(run=run)
    return parser


def create_of(args: argparse.Namespace) -> int:
    """Run ``vexctl index create``."""
    with reach.of(args) as node:
        told = node.call(
            "index.create", path=args.path, dim=args.dim, metric=args.metric, dtype=args.dtype, embedder=args.embedder,
            rows_in=args.rows_in,
        ).result()
    output.emit(args, told, lambda: _line(told))
    return 0


def list_of(args: argparse.Namespace) -> int:
    """Run ``vexctl index list``."""
    with reach.of(args) as node:
        told = node.call("index.list").result()
    rows = [
        (i["path"], i["dim"], i["metric"], i["dtype"], i["embedder"] or "-",
         *(("-", f"cannot be opened: {i['error']}") if "error" in i
           else (f"{i['files']:,}", output.size(i["memory_bytes"]))))
        for i in told
    ]  # fmt: skip
    head = ("directory", "dim", "metric", "type", "embedder", "files", "memory")
    output.emit(args, told, lambda: output.table(head, rows) if rows else "no indexes")
    return 0


def status_of(args: argparse.Namespace) -> int:
    """Run ``vexctl index status``."""
    with reach.of(args) as node:
        told = node.call("index.status", path=args.path).result()
    output.emit(args, told, lambda: "\n".join([output.fields(_shown(told)), *_left_out(told)]))
    return 0


def reembed_of(args: argparse.Namespace) -> int:
    """Run ``vexctl index reembed``."""
    if args.follow:
        return _follow(args)
    with reach.of(args) as node:
        told = node.call("index.reembed", path=args.path, embedder=args.embedder).result("embedding", "files")
    output.emit(args, told, lambda: f"{output.printable(told['path'])}: {told['files']:,} files embedded by "
                f"{told['embedder']}, dimension {told['dim']}, in {output.duration(told['seconds'])}")  # fmt: skip
    return 0


def retry_of(args: argparse.Namespace) -> int:
    """Run ``vexctl index retry``."""
    with reach.of(args) as node:
        told = node.call("index.retry", path=args.path).result("trying", "files")
    count = output.counted(told["tried"], "file was tried", "files were tried")
    output.emit(args, told, lambda: "\n".join([f"{output.printable(told['path'])}: {count} again", *_left_out(told)]))
    return 0


def drop_of(args: argparse.Namespace) -> int:
    """Run ``vexctl index drop``."""
    with reach.of(args) as node:
        told = node.call("index.drop", path=args.path).result()
    output.emit(args, told, lambda: f"the index of {output.printable(told['path'])} is dropped; "
                "its files are as they were")  # fmt: skip
    return 0


def _follow(args: argparse.Namespace) -> int:
    """Stay while somebody else's work goes on; 1 when there is none."""
    if args.embedder is not None:
        raise UsageError("--embedder does not go with --follow, which begins nothing")
    with reach.of(args) as node, Progress("embedding", unit="files") as bar:
        told = first = node.call("index.status", path=args.path).result()
        while renewal := told.get("reembedding"):
            bar(renewal["done"], renewal["total"])
            time.sleep(_LOOK_S)
            told = node.call("index.status", path=args.path).result()
    began = bool(first.get("reembedding"))
    answer = {name: told[name] for name in ("path", "embedder", "dim", "files")} | {"was_under_way": began}
    output.emit(args, answer, lambda: f"{output.printable(told['path'])}: {told['files']:,} files by "
                f"{told['embedder']}, dimension {told['dim']}"
                f"{'' if began else '; nothing is being embedded anew'}")  # fmt: skip
    return 0 if began else EXIT_WANTING


def _line(index: dict[str, Any]) -> str:
    model = f", text by {index['embedder']}" if index["embedder"] else ""
    return f"{output.printable(index['path'])}: dimension {index['dim']}, {index['metric']}, {index['dtype']}{model}"


def _left_out(index: dict[str, Any]) -> list[str]:
    ingest = index.get("ingest") or {}
    waits = [f"waiting for {name}: {why}" for name, why in output.waits(ingest).items() if name == index["embedder"]]
    aside = [(output.printable(each["path"]), " ".join(each["reason"].split())) for each in index["aside"]]
    return waits + [f"not indexed: {path}: {why}" for path, why in aside]


def _shown(index: dict[str, Any]) -> dict[str, Any]:
    vectors, rows = index["vectors"], index["rows"]
    shown = {
        "directory": index["path"], "vectors": f"dimension {index['dim']}, {index['metric']}, {index['dtype']}",
        "embedder": index["embedder"] or "none", "files": f"{index['files']:,}", "passages": f"{rows['live']:,}",
        "away from the directory": f"{rows['away']:,}", "out of date": f"{rows['stale']:,}",
        "lists": f"{vectors['lists']:,}", "memory": output.size(index["memory_bytes"]),
        "upkeep": "under way" if vectors["growing"] else "done",
    }  # fmt: skip
    if renewal := index.get("reembedding"):
        shown["embedded anew"] = f"by {renewal['embedder']}: {renewal['done']:,} of {renewal['total']:,} files"
    ingest = index.get("ingest")
    if ingest:
        figures = {name: value for name, value in ingest.items() if isinstance(value, str | int | float)}
        own = {name: figures.pop(name) for name in ("without_text", "failed")}
        shown.update({f"text, {name.replace('_', ' ')}": value for name, value in own.items()})
        shown.update({f"text of all indexes, {name.replace('_', ' ')}": value for name, value in figures.items()})
    return shown
