"""The compiled core beside what a user would pick instead: NumKong, SimSIMD, numpy's BLAS, faiss."""

from asv_benchmarks.peers import environment
from asv_benchmarks.peers.table import Report, Row

PACKAGES = ("numkong==7.8.6", "simsimd==6.5.16", "faiss-cpu==1.15.1", "packaging")


def run(quick: bool) -> Report:
    """One run of all kernels; each row is beside the fastest peer that has the cell."""
    place = environment.install("core", PACKAGES)
    found = environment.measure("asv_benchmarks.peers.kernels", place, *(["--quick"] if quick else []))
    return Report("core", [Row(**row) for row in found["rows"]], found["notes"])
