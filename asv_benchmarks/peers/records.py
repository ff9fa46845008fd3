"""Records end to end beside qdrant-edge, LanceDB, Chroma and sqlite-vec: filtered searches, and durable inserts.

A part of the area ``index``.  Its steps can be run one by one, which lets a machine be quiet for those that measure:
``python -m asv_benchmarks.peers.records fill|search|insert [--rows N]``.
"""

import argparse
from typing import Any

from asv_benchmarks.peers import environment, index_data
from asv_benchmarks.peers.table import Report, Row

PACKAGES = ("qdrant-edge-py==0.9.0", "lancedb==0.40.0", "chromadb==1.5.9", "sqlite-vec==0.1.9", "apsw", "pyarrow",
            "attrs")  # fmt: skip
ROWS, QUICK_ROWS = 100_000, 10_000


def step(name: str, rows: int) -> dict[str, Any]:
    """``fill`` makes the stores and finds what effort each needs; ``search`` and ``insert`` measure."""
    index_data.sentences(rows)
    place = environment.install("records", PACKAGES, whole=True)
    home = environment.PLACE / "records-stores" / str(rows)
    found: dict[str, Any] = environment.measure(
        "asv_benchmarks.peers.records_work", place, name, str(home), "--rows", str(rows)
    )
    return found


def add_to(report: Report, quick: bool) -> None:
    """Every step, and its rows into a report."""
    for name in ("fill", "search", "insert"):
        found = step(name, QUICK_ROWS if quick else ROWS)
        report.rows += [Row(**row) for row in found["rows"]]
        report.notes += found["notes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("fill", "search", "insert"))
    parser.add_argument("--rows", type=int, default=ROWS)
    args = parser.parse_args()
    found = step(args.step, args.rows)
    print(Report("index", [Row(**row) for row in found["rows"]], found["notes"]).text())


if __name__ == "__main__":
    main()
