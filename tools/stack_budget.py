"""The deepest chain of C stack below every operation, from the compiler's own figures.

Compiles the core with ``-fstack-usage -fcallgraph-info=su``, follows the calls from every operation, and prints a table
of the deepest chains.  Exit status 1 when one is over the limit.

Counted are the core's own frames: a call into libc, SQLite or Python ends a chain.  Calls through pointers go where
``tools/stack_targets.toml`` says; one that it does not name is an error, and so is recursion without a stated bound.

A function that takes scratch (``vx_frame_scratch``) counts with the whole heap threshold on top, up to the limit:
beyond it the pools serve, as long as what it calls fits into ``VX_FRAME_RESERVE``.  That it does is checked here.
"""

import argparse
import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "vexfs" / "_core"
CYTHON = ROOT / "build" / "cython" / "vexfs" / "_core"
KEPT = ROOT / "build" / "stack"
TARGETS = Path(__file__).with_name("stack_targets.toml")
# As in setup.py; what the build gets is what must be measured.
CFLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O3", "-fno-strict-aliasing", "-fvisibility=hidden", "-fPIC"]
if sysconfig.get_platform().endswith("x86_64"):
    CFLAGS.append("-mtls-dialect=gnu2")
INDIRECT = "__indirect_call"
OTHER_ISA = re.compile(r"_neon|_avx")
LIMIT = 3072
HEAP_THRESHOLD = 1024
RESERVE = int(re.search(r"#define VX_FRAME_RESERVE (\d+)", (CORE / "include/vexfs/frame.h").read_text())[1])
# An operation: a function of the filesystem's interface or of an index's, or a cdef function fs_* of a Cython module.
INDEXES = "|".join(
    name
    for header in ("vindex", "words")
    for name in re.findall(rf"\bvx_({header}_\w+)\(", (CORE / f"include/vexfs/{header}.h").read_text())
)
OPERATION = re.compile(rf"^(?:vx_(?P<c>fs_\w+|{INDEXES})|__pyx_f_\w*?_(?P<cython>fs_\w+))$")
NODE = re.compile(r'^node: \{ title: "(?P<title>[^"]+)" label: "(?P<label>[^"]*)"')
EDGE = re.compile(r'^edge: \{ sourcename: "(?P<from>[^"]+)" targetname: "(?P<to>[^"]+)"')
USAGE = re.compile(r"\\n(?P<bytes>\d+) bytes \((?P<kind>[a-z,]+)\)")


Targets = list[str] | dict[str, list[str]]


@dataclass
class Function:
    """One compiled function: its own frame and whom it calls."""

    bytes: int
    dynamic: bool
    calls: set[str] = field(default_factory=set)


class Unbounded(Exception):
    """The deepest chain cannot be known."""


def plain(title: str) -> str:
    """A title without the folder, and without what the optimiser appends to a clone's name."""
    return re.sub(r"\.(?:constprop|isra|part|cold|lto_priv)\b[\w.]*", "", title.rsplit("/", 1)[-1])


def shared(title: str, label: str) -> str:
    """An inline function of a header is one function, whichever file it was compiled into."""
    place = label.split("\\n")[1] if "\\n" in label else ""
    header = place.split(":")[0].rsplit("/", 1)[-1]
    return f"{header}:{plain(title).split(':')[-1]}" if header.endswith(".h") else plain(title)


def parse(graph: str, known: dict[str, Function]) -> None:
    """Add the functions of one ``.ci`` file.  Clones of one function are one entry, with the larger frame."""
    names: dict[str, str] = {}
    for line in graph.splitlines():
        if (node := NODE.match(line)) and (usage := USAGE.search(node["label"])):
            name = names[node["title"]] = shared(node["title"], node["label"])
            old = known.setdefault(name, Function(0, False))
            old.bytes = max(old.bytes, int(usage["bytes"]))
            old.dynamic |= usage["kind"] == "dynamic"
    # The nodes stand behind some of their edges.
    for line in graph.splitlines():
        if edge := EDGE.match(line):
            caller, callee = (names.get(edge[end]) or plain(edge[end]) for end in ("from", "to"))
            known.setdefault(caller, Function(0, False)).calls.add(callee)


class Graph:
    """Who calls whom, and the deepest way down."""

    def __init__(
        self, functions: dict[str, Function], targets: dict[str, Targets], recursion: dict[str, int], scratch: int
    ):
        self.functions = functions
        self.targets = targets
        self.recursion = recursion
        self.scratch = scratch
        self.memo: dict[tuple[str, str | None], tuple[int, list[str]]] = {}

    def cost(self, name: str) -> int:
        """A function's own frame, with the scratch it may take on top."""
        function = self.functions[name]
        return (function.bytes + self.scratch * function.dynamic) * self.recursion.get(name, 1)

    def pointed(self, name: str, caller: str | None) -> list[str]:
        """Where the calls through pointers of `name` go, when `caller` calls it."""
        stated = self.stated(name)
        if isinstance(stated, dict):
            stated = stated.get(caller or "")
            name = f"{name}, called by {caller},"
        if stated is None:
            raise Unbounded(f"{name} calls through a pointer; name its targets in {TARGETS.name}")
        found = []
        for target in stated:
            some = [target] if target in self.functions else fnmatch.filter(self.functions, target)
            # A pattern may be of files that are not for this processor.
            if not some and not OTHER_ISA.search(target):
                raise Unbounded(f"{TARGETS.name}: {name} names {target}, which is no function of the core")
            found += some
        return found

    def stated(self, name: str) -> Targets | None:
        """What the table says of `name`: itself, or the first pattern that it matches."""
        found = self.targets.get(name)
        patterns = (targets for key, targets in self.targets.items() if fnmatch.fnmatchcase(name, key))
        return found if found is not None else next(patterns, None)

    def callees(self, name: str, caller: str | None) -> Iterator[str]:
        """The core's functions that `name` calls, with calls through pointers resolved."""
        for callee in self.functions[name].calls:
            if callee == INDIRECT:
                yield from self.pointed(name, caller)
            elif callee in self.functions and self.functions[callee].bytes:
                yield callee

    def deepest(self, name: str, above: tuple[str, ...] = ()) -> tuple[int, list[str]]:
        """Bytes and names of the deepest chain from `name` down."""
        caller = above[-1] if above else None
        key = (name, caller if isinstance(self.stated(name), dict) else None)
        if key in self.memo:
            return self.memo[key]
        below: tuple[int, list[str]] = (0, [])
        for callee in self.callees(name, caller):
            if callee == name or callee in above:
                if callee not in self.recursion:
                    ring = above[above.index(callee) :] if callee in above else ()
                    chain = " -> ".join((*ring, name, callee))
                    raise Unbounded(f"recursion without a bound in {TARGETS.name}: {chain}")
                continue
            below = max(below, self.deepest(callee, (*above, name)))
        if self.functions[name].dynamic and not self.scratch and below[0] > RESERVE:
            raise Unbounded(f"{name} takes scratch, and what it calls needs {below[0]} bytes, over {RESERVE}")
        self.memo[key] = (self.cost(name) + below[0], [name, *below[1]])
        return self.memo[key]


def operations(functions: dict[str, Function]) -> dict[str, str]:
    """Names of the operations, and the functions that they are."""
    found = {}
    for name in sorted(functions):
        if (match := OPERATION.match(name.split(":")[-1])) and functions[name].bytes:
            found[match["c"] or f"{match['cython']} (Cython)"] = name
    return found


def sources(only: list[Path] | None) -> list[tuple[Path, list[str]]]:
    """What to compile, each with its extra flags: the C core, and the C that Cython made of ``fs*.pyx``."""
    if only is not None:
        return [(path, []) for path in only]
    skip = ("avx",) if sysconfig.get_platform().endswith("aarch64") else ("neon",)
    found = [(path, []) for path in sorted((CORE / "src").glob("*.c")) if not any(s in path.stem for s in skip)]
    python = [f"-I{sysconfig.get_path('include')}"]
    for module in sorted(CORE.glob("fs*.pyx")):
        made = CYTHON / module.with_suffix(".c").name
        if not made.exists():
            raise SystemExit(f"{made.relative_to(ROOT)} is not there; build first: make dev")
        found.append((made, python))
    return found


def compile_all(compiler: list[str], work: list[tuple[Path, list[str]]]) -> dict[str, Function]:
    """Compile what is newer than its call graph in build/stack, and read the call graphs."""
    libraries = subprocess.run(
        ["pkg-config", "--cflags", "sqlite3", "liblz4", "libcrypto"], capture_output=True, text=True, check=True
    ).stdout.split()
    newest = max(path.stat().st_mtime for path in [*CORE.glob("include/vexfs/*.h"), *CORE.glob("src/*.h")])
    KEPT.mkdir(parents=True, exist_ok=True)

    def one(source: Path, extra: list[str]) -> str:
        made = KEPT / f"{source.stem}.o"
        graph = made.with_suffix(".ci")
        if (
            source.is_relative_to(ROOT)
            and graph.exists()
            and graph.stat().st_mtime > max(newest, source.stat().st_mtime)
        ):
            return graph.read_text()
        command = [*compiler, *CFLAGS, *libraries, f"-I{CORE / 'include'}", *extra, "-w", "-fstack-usage",
                   "-fcallgraph-info=su", "-c", str(source), "-o", str(made)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise SystemExit(f"{source}: the compiler refused (GCC 10 or newer is needed)\n{done.stderr}")
        return graph.read_text()

    functions: dict[str, Function] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for graph in pool.map(lambda job: one(*job), work):
            parse(graph, functions)
    return functions


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Budget of the C stack: the deepest chain below every operation.")
    parser.add_argument("--limit", type=int, default=LIMIT, help="bytes an operation may use (default: %(default)s)")
    parser.add_argument("--cc", default="gcc", help="the compiler, a GCC (default: %(default)s)")
    parser.add_argument("--targets", type=Path, default=TARGETS, help="where calls through pointers go")
    parser.add_argument("--chains", action="store_true", help="print whole chains, one frame a line")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("sources", nargs="*", type=Path, help="C files instead of the core's")
    options = parser.parse_args(arguments)
    stated = tomllib.loads(options.targets.read_text())
    functions = compile_all(shlex.split(options.cc), sources(options.sources or None))
    bare, full = (
        Graph(functions, stated.get("targets", {}), stated.get("recursion", {}), scratch)
        for scratch in (0, HEAP_THRESHOLD)
    )
    rows, faults = [], []
    for operation, name in operations(functions).items():
        try:
            deepest, with_scratch = (bare, bare.deepest(name)), (full, full.deepest(name))
        except Unbounded as fault:
            faults.append(f"{operation}: {fault}")
            continue
        # Scratch comes from the stack up to the limit only; the fixed frames are all there is beyond it.
        graph, (depth, chain) = deepest if deepest[1][0] > options.limit else with_scratch
        frames = [[link, graph.cost(link)] for link in chain]
        scratch = any(functions[link].dynamic for link in chain)
        depth = min(depth, options.limit) if scratch and graph is full else depth
        rows.append({"operation": operation, "bytes": depth, "scratch": scratch, "frames": frames})
    rows.sort(key=lambda row: -row["bytes"])
    over = [row for row in rows if row["bytes"] > options.limit]
    if options.json:
        print(json.dumps({"limit": options.limit, "operations": rows, "faults": faults}, indent=2))
    else:
        show(rows, options)
    for fault in faults:
        print(fault, file=sys.stderr)
    if not rows and not faults:
        print("no operation found: none of the functions is named vx_fs_* or fs_*", file=sys.stderr)
    for row in over:
        print(f"{row['operation']}: {row['bytes']} bytes are over the limit of {options.limit}", file=sys.stderr)
    return int(bool(over or faults or not rows))


def show(rows: list[dict], options: argparse.Namespace) -> None:
    """The table for people."""
    width = max((len(row["operation"]) for row in rows), default=0)
    for row in rows:
        names = [f"{name.split(':')[-1]} {size}" for name, size in row["frames"]]
        tail = "" if options.chains else "  " + " > ".join(names)
        print(f"{row['operation']:{width}}  {row['bytes']:5} of {options.limit}{tail}")
        if options.chains:
            for name, size in row["frames"]:
                print(f"{'':{width}}  {size:5}  {name}")


if __name__ == "__main__":
    sys.exit(main())
