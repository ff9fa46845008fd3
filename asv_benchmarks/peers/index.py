"""The vector index beside hnswlib, faiss, usearch and SymphonyQG (rabitqlib): speed at equal recall, build, memory; and
records with attributes beside qdrant-edge, LanceDB, Chroma and sqlite-vec."""

from asv_benchmarks.peers import curves, environment, index_data, records
from asv_benchmarks.peers.table import Report, Row

PACKAGES = ("hnswlib==0.8.0", "faiss-cpu==1.15.1", "usearch==2.26.6", "rabitqlib==0.7.1", "numkong==7.8.6", "tqdm",
            "packaging")  # fmt: skip


def run(quick: bool) -> Report:
    """The embeddings are made first, as far as the cache does not hold them, which takes an hour or two."""
    rows = 20_000 if quick else 200_000
    index_data.sentences(rows)
    place = environment.install("index", PACKAGES)
    found = environment.measure("asv_benchmarks.peers.index_peers", place, "--rows", str(rows))
    report = Report("index", [Row(**row) for row in found["rows"]], found["notes"])
    report.picture = curves.draw(found["lines"], f"{rows:,} sentence embeddings, 384 dimensions, one thread")
    records.add_to(report, quick)
    return report
