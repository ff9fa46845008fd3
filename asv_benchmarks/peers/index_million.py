"""The vector index at a million rows beside hnswlib, and how both fall from 100,000: a part of the area ``index``.

``python -m asv_benchmarks.peers.index_million [--peers NAME ...] [--json FILE]``; it takes 6 GB, and a quarter of an
hour for each peer.  Rows are a mixture of real ones (:func:`index_data.mixture`).
"""

import argparse
from pathlib import Path

from asv_benchmarks.peers import environment, index, index_data
from asv_benchmarks.peers.table import Report, Row

SMALL, LARGE = 100_000, 1_000_000


def run(peers: list[str]) -> Report:
    index_data.sentences(index_data.REAL)
    place, report = environment.install("index", index.PACKAGES), Report("index")
    speeds: dict[tuple[str, str], list[float]] = {}
    for rows in (SMALL, LARGE):
        found = environment.measure(
            "asv_benchmarks.peers.index_peers", place, "--rows", str(rows), "--set", "mixture", "--peers", *peers
        )
        for row in (Row(**each) for each in found["rows"]):
            report.rows.append(Row(f"{rows:,}, {row.figure}", row.ours, row.peer, row.theirs, row.target, row.lower))
            if "queries/s at recall@10" in row.figure:
                speeds.setdefault((row.figure, "vexfs"), []).append(row.ours)
                speeds.setdefault((row.figure, row.peer), []).append(row.theirs)
        report.notes += found["notes"]
    falls = {key: seen[-1] / seen[0] for key, seen in speeds.items() if len(seen) > 1}
    for (figure, peer), theirs in falls.items():
        if peer != "vexfs":
            report.rows.append(Row(f"{figure}: share kept from {SMALL:,}", falls[figure, "vexfs"], peer, theirs, 1.0))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", nargs="+", default=["hnswlib"])
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    report = run(args.peers)
    print(report.text())
    if args.json:
        report.save(args.json)


if __name__ == "__main__":
    main()
