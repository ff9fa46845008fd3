"""``vexctl search``: files for words, from the node or from a volume that nobody has open."""

import argparse
import json
import os
import sys
from typing import Any

from vexfs.cli import output, reach
from vexfs.errors import EXIT_WANTING, UsageError
from vexfs.search.conditions import where_of

MODES = ("hybrid", "semantic", "keyword")
EPILOG = """\
Words are looked for by meaning and as words.  For the latter: "a phrase", prefix*, +must, -mustnot.

Examples:
  vexctl search "how do I renew my passport"
  vexctl search "light roasts" --under /coffee --where 'year>=2020' --where lang=en,de --k 20
  vexctl search "outage in the backup" --watch --threshold 0.4
"""


def register(subparsers: Any) -> None:
    """Add ``search``."""
    parser = subparsers.add_parser(
        "search", help="find files by what they say",
        description="Find files by meaning, by keywords, or by both.  Status 1: nothing was found.", epilog=EPILOG,
    )  # fmt: skip
    parser.add_argument("query", metavar="WORDS", nargs="?", help="what to look for")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--vector", metavar="NUMBERS", help="a vector instead: numbers between commas, or @FILE.npy")
    instead.add_argument("--like", metavar="PATH", help="files like this one of the volume")
    parser.add_argument("--mode", choices=MODES, help="default: hybrid")
    parser.add_argument("--threshold", type=float, metavar="SCORE", help="only what scores as much")
    parser.add_argument("--explain", action="store_true", help="say how the search was done")
    parser.add_argument("--watch", action="store_true", help="stay, and tell of files that match from now on")
    add_options(parser)
    parser.set_defaults(run=search)


def add_options(parser: Any) -> None:
    """The options of searches of any kind."""
    parser.add_argument("--under", metavar="DIR", help="only files below this directory of the volume")
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION",
        help="only files whose attributes match, as 'year>=2020'; may be given more than once",
    )  # fmt: skip
    parser.add_argument("--k", "-k", type=int, default=10, metavar="N", help="so many files; default: 10")
    parser.add_argument("--wait", type=float, metavar="S", help="wait so long for text that is not indexed yet")
    reach.add_options(parser)


def search(args: argparse.Namespace) -> int:
    """Run ``vexctl search``."""
    where = where_of(args.where)
    if (args.query is not None) + (args.vector is not None) + (args.like is not None) != 1:
        raise UsageError("give words, --vector or --like: one of them")
    _refuse_idle(args)
    with reach.of(args) as node:
        if args.watch:
            return _watch(args, node, where)
        if args.query is None:
            return answered(args, _nearest(args, node, where))
        told = node.call(
            "search.text", query=args.query, k=args.k, under=args.under or "/", where=where,
            mode=args.mode or "hybrid", threshold=args.threshold, explain=args.explain, wait_s=args.wait,
        ).result()  # fmt: skip
    return answered(args, told)


def answered(args: argparse.Namespace, told: dict[str, Any]) -> int:
    """Tell what was found, and on stderr what could not be searched; the exit status."""
    for each in told["missing"]:
        print(f"vexctl: not searched: {output.printable(each['path'])}: {each['reason']}", file=sys.stderr)
    output.emit(args, told, lambda: shown(told))
    return 0 if told["hits"] else EXIT_WANTING


def _refuse_idle(args: argparse.Namespace) -> None:
    """An option that would do nothing is refused."""
    if args.query is None and args.mode is not None:
        raise UsageError("--mode is for words: a vector, and a file, are compared by meaning alone")
    if args.watch:
        idle = [name for name, given in (("--mode", args.mode), ("--explain", args.explain), ("--like", args.like),
                                         ("--wait", args.wait)) if given]  # fmt: skip
        if idle:
            raise UsageError(f"{idle[0]} does not go with --watch, which tells of files as they come")


def _nearest(args: argparse.Namespace, node: reach.Reach, where: Any) -> Any:
    if args.like is not None:
        return node.call(
            "search.similar", path=args.like, k=args.k, under=args.under, where=where, threshold=args.threshold,
            explain=args.explain, wait_s=args.wait,
        ).result()  # fmt: skip
    return node.call(
        "index.search", vector=_vector(args.vector), k=args.k, under=args.under or "/", where=where,
        explain=args.explain, threshold=args.threshold, wait_s=args.wait,
    ).result()  # fmt: skip


def _vector(word: str) -> Any:
    """What stands behind ``--vector``: the array of a file as numbers, or the text as it is."""
    if not word.startswith("@"):
        return word
    import numpy as np

    try:
        found = np.load(word[1:], allow_pickle=False)
    except ValueError as error:
        raise UsageError(f"{word[1:]}: is no array of numbers: {error}") from None
    if found.ndim > 1 and found.size != found.shape[-1]:
        raise UsageError(f"{word[1:]}: holds an array of shape {found.shape}; one vector is wanted")
    return found.ravel().tolist()


def _numbers(word: str) -> Any:
    """The same as numbers."""
    found = _vector(word)
    try:
        return [float(part) for part in found.split(",")] if isinstance(found, str) else found
    except ValueError:
        raise UsageError(f"--vector {word!r}: numbers between commas are wanted") from None


def _watch(args: argparse.Namespace, node: reach.Reach, where: Any) -> int:
    threshold = 0.5 if args.threshold is None else args.threshold
    query = _numbers(args.vector) if args.query is None else args.query
    call = node.call("search.watch", query=query, threshold=threshold, under=args.under or "/", where=where)
    for step in call:
        if "hit" in step:
            hit = step["hit"]
            print(json.dumps(hit) if args.json else "\n".join(_lines(0, hit)), flush=True)
    return 0


def shown(told: dict[str, Any]) -> str:
    """Hits for people: rank, score, place, and what the passage says."""
    lines = [line for rank, hit in enumerate(told["hits"], 1) for line in _lines(rank, hit)]
    found = len(told["hits"])
    count = output.counted(found, "file") if found else "nothing was found"
    note = f"{count} in {output.duration(told['seconds'])}"
    if waiting := told.get("backlog"):
        note += f"; {output.counted(waiting, 'file is', 'files are')} not indexed yet (--wait S waits for that)"
    elif not told.get("complete", True):
        note += "; what changed is still being looked through (--wait S waits for that)"
    lines.append(_painted(note, "2"))
    if told.get("explanation"):
        lines.append(output.fields(told["explanation"]))
    return "\n".join(lines)


def _lines(rank: int, hit: dict[str, Any]) -> list[str]:
    place = _painted(output.printable(hit["path"]), "1;36")
    if hit.get("lines"):
        first, last = hit["lines"]
        place += _painted(f":{first}" if first == last else f":{first}-{last}", "36")
    more = len(hit.get("others", ()))
    also = _painted(f"  and {more} more passage{'s' if more > 1 else ''}", "2") if more else ""
    lead = f"{rank:>3}  " if rank else "  *  "
    lines = [f"{lead}{_painted(format(hit['score'], '.3f'), '33')}  {place}{also}"]
    if hit["snippet"]:
        lines.append("     " + _marked(hit["snippet"], hit["marks"]))
    return lines


def _marked(text: str, marks: list[tuple[int, int]]) -> str:
    out, at = [], 0
    for begin, end in marks:
        out += [output.printable(text[at:begin]), _painted(output.printable(text[begin:end]), "1")]
        at = end
    return "".join([*out, output.printable(text[at:])])


def _painted(text: str, code: str) -> str:
    """In colour on a terminal, unless ``NO_COLOR`` is set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"
