"""The compiled core beside its peers: NumKong, SimSIMD, numpy, faiss; the allocator, the standard library's queue."""

from asv_benchmarks.peers import core_memory, environment
from asv_benchmarks.peers.table import Report, Row

PACKAGES = ("numkong==7.8.6", "simsimd==6.5.16", "faiss-cpu==1.15.1", "packaging")


def run(quick: bool) -> Report:
    """Kernels, each row beside the fastest peer that has the cell; then pools, frames and the bridge."""
    place = environment.install("core", PACKAGES)
    found = environment.measure("asv_benchmarks.peers.kernels", place, *(["--quick"] if quick else []))
    return Report("core", [*(Row(**row) for row in found["rows"]), *core_memory.rows(quick)], found["notes"])
