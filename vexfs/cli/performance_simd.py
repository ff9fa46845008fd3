"""``vexctl performance simd``."""

from typing import Any

from vexfs.cli import output
from vexfs.cli.quantities import count, duration, factor, switch
from vexfs.cli.told import OUTPUT, Option, Told
from vexfs.observe.kernels import ALGORITHMS


def _capabilities(answer: dict[str, Any]) -> str:
    has = ", ".join(name for name, on in answer["capabilities"].items() if on)
    return f"processor: {has or 'none'}\n" + output.table(("kernels", "state"), answer["levels"].items())


def _hardware(answer: dict[str, Any]) -> str:
    return "\n".join(
        [_capabilities(answer), f"in use: {answer['level']}; best here: {answer['best']}", *answer["notes"]]
    )


def _tests(answer: dict[str, Any]) -> str:
    rows = [
        (r["algorithm"], r["level"], "ok" if r["ok"] else "WRONG", r["cases"], f"{r['worst_ulps']:.2f}", r["dim"])
        for r in answer["tests"]
    ]
    return output.table(("algorithm", "kernels", "result", "cases", "worst ulps", "at dim"), rows)


def _benchmark(answer: dict[str, Any]) -> str:
    rows = [
        (r["algorithm"], r["level"], f"{r['ns']:.1f}", f"{r['per_s'] / 1e6:.1f}", f"{r['speedup']:.2f}x")
        for r in answer["results"]
    ]
    return f"dimension {answer['vector_size']}\n" + output.table(
        ("algorithm", "kernels", "ns", "million/s", "against scalar"), rows
    )


def verdict(answer: dict[str, Any]) -> str:
    """Whether all is as it should be, and if not, why."""
    return "\n".join(["as it should be" if answer["ok"] else "WANTING", *answer["reasons"]])


def _validate(answer: dict[str, Any]) -> str:
    rows = [(name, f"{x:.2f}x", f"{answer['target_improvement']:g}x") for name, x in answer["improvement"].items()]
    return output.table(("algorithm", "against scalar", "target"), rows) + "\n" + verdict(answer)


NOUN = "performance simd"
COMMANDS = (
    Told(
        "simd capabilities",
        "performance.simd.capabilities",
        "what the processor offers, and which kernels there are",
        f"{NOUN} capabilities",
        show=_capabilities,
    ),
    Told(
        "simd status",
        "performance.simd.status",
        "the kernels in use; 1 when they are scalar code",
        f"{NOUN} status",
        wanting=lambda a: not a["accelerated"],
    ),
    Told(
        "simd hardware-check",
        "performance.simd.hardware_check",
        "are the best kernels of this machine in use",
        f"{NOUN} hardware-check",
        show=_hardware,
        wanting=lambda a: not a["ok"],
    ),
    Told("simd restart", "performance.simd.restart", "choose the kernels anew, with fresh counters", f"{NOUN} restart"),
    Told(
        "simd test",
        "performance.simd.test",
        "compare every kernel with double precision",
        f"{NOUN} test --algorithm cosine",
        (Option("--algorithm", "this one only", choices=tuple(ALGORITHMS)),),
        show=_tests,
        wanting=lambda a: not a["ok"],
    ),
    Told(
        "simd benchmark",
        "performance.simd.benchmark",
        "time every kernel against scalar code",
        f"{NOUN} benchmark --vector-size 768 --output simd.json",
        (
            Option("--vector-size", "dimension; default 384", count, 384, metavar="N"),
            Option("--iterations", "distances of each kernel, about; default 100k", count, 100_000, metavar="N"),
            OUTPUT,
        ),
        show=_benchmark,
    ),
    Told(
        "simd configure",
        "performance.simd.configure",
        "allow or forbid kernels",
        f"{NOUN} configure --enable-avx512 false",
        (
            Option("--enable-avx2", "true or false", switch, metavar="BOOL"),
            Option("--enable-fma", "true or false; the AVX2 kernels need it", switch, metavar="BOOL"),
            Option("--enable-avx512", "true or false", switch, metavar="BOOL"),
            Option("--batch-size", "vectors that a kernel is handed at a time", count, metavar="N"),
        ),
    ),
    Told(
        "simd enable",
        "performance.simd.enable",
        "switch vector kernels on",
        f"{NOUN} enable --auto-detect",
        (Option("--auto-detect", "the best that the processor has", flag=True),),
        wanting=lambda a: not a["accelerated"],
    ),
    Told(
        "simd validate",
        "performance.simd.validate",
        "are the kernels in use right, and fast enough",
        f"{NOUN} validate --duration 10s --target-improvement 2.5x",
        (
            Option("--duration", "how long; default 5s", duration, 5.0, metavar="TIME"),
            Option("--target-improvement", "times as fast as scalar code; default 2.5x", factor, 2.5, metavar="FACTOR"),
        ),
        show=_validate,
        wanting=lambda a: not a["ok"],
    ),
)
