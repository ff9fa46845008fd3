"""``vexctl security``: hardened pools, and kernels that are right and even."""

from typing import Any

from vexfs.cli import output, told
from vexfs.cli.performance_simd import verdict
from vexfs.cli.quantities import count, duration, switch
from vexfs.cli.told import Option, Told


def register(subparsers: Any) -> None:
    """Add ``security`` and what is below it."""
    parser = subparsers.add_parser(
        "security",
        help="harden the pools, check the kernels",
        description="Harden the pools and check the kernels.",
        epilog="Example: vexctl security simd verify",
    )
    groups = {"memory-pools": "hardening options of the memory pools, and damage", "simd": "the distance kernels"}
    told.register(parser, COMMANDS, groups)


def _options(answer: dict[str, Any]) -> str:
    return f"options: {', '.join(answer['options']) or 'none'}"


def _pools(answer: dict[str, Any]) -> str:
    rows = [(v["kind"], v["owner"], v["tier"], v["size"], v["offset"]) for v in answer["violations"]]
    table = output.table(("damage", "owner", "tier", "bytes", "offset"), rows) + "\n" if rows else ""
    return table + ("no damage was found" if answer["ok"] else f"{len(rows)} buffers are damaged: stop the node")


def _timing(answer: dict[str, Any]) -> str:
    lines = []
    if "timing" in answer:
        rows = [
            (
                r["metric"],
                r["against"],
                f"{r['random_ns']:.1f}",
                f"{r['against_ns']:.1f}",
                f"{r['t']:.1f}",
                "differs, as expected" if r["differs"] and r["expected"] else "DIFFERS" if r["differs"] else "even",
            )
            for r in answer["timing"]
        ]
        lines.append(output.table(("metric", "data", "random ns", "data ns", "t", "verdict"), rows))
    if "caches" in answer:
        sizes = [
            (output.size(r["set_bytes"]), f"{r['in_order_ns']:.1f}", f"{r['at_random_ns']:.1f}")
            for r in answer["caches"]
        ]
        lines.append(output.table(("vectors", "in order ns", "at random ns"), sizes))
    return "\n\n".join([*lines, verdict(answer)])


COMMANDS = (
    Told(
        "memory-pools configure",
        "security.pools.configure",
        "hardening options of the pools",
        "security memory-pools configure --zero-on-free true --guard-pages true",
        (
            Option(
                "--zero-on-free", "true or false: nothing stays in a buffer that was given back", switch, metavar="BOOL"
            ),
            Option(
                "--guard-pages",
                "true or false: a page behind each buffer that must not be touched",
                switch,
                metavar="BOOL",
            ),
            Option("--allocation-tracking", "true or false: who holds what, since when", switch, metavar="BOOL"),
        ),
        show=_options,
    ),
    Told(
        "memory-pools monitor",
        "security.pools.monitor",
        "look for damage among the buffers; 1 when there is any",
        "security memory-pools monitor --detect-overflows --detect-use-after-free",
        (
            Option("--detect-overflows", "writes beyond a buffer's ends", flag=True),
            Option("--detect-use-after-free", "writes to buffers that were given back", flag=True),
            Option("--duration", "how long; default 10s", duration, 10.0, metavar="TIME"),
        ),
        show=_pools,
        wanting=lambda a: not a["ok"],
    ),
    Told(
        "simd verify",
        "security.simd.verify",
        "has the processor what the kernels need, and are they right",
        "security simd verify --check-instruction-set --validate-results",
        (
            Option("--check-instruction-set", "the first only", flag=True),
            Option("--validate-results", "the second only", flag=True),
        ),
        show=verdict,
        wanting=lambda a: not a["ok"],
    ),
    Told(
        "simd monitor",
        "security.simd.monitor",
        "does the time of a distance tell something about the vectors",
        "security simd monitor --timing-analysis",
        (
            Option("--timing-analysis", "Welch's t-test over kinds of data", flag=True),
            Option("--cache-analysis", "what each level of cache costs", flag=True),
            Option("--rounds", "measurements of each case; default 4000", count, 4000, metavar="N"),
        ),
        show=_timing,
        wanting=lambda a: not a["ok"],
    ),
)
