"""The vector index beside hnswlib, faiss, usearch and SymphonyQG (rabitqlib): speed at equal recall, build, memory; and
records with attributes beside qdrant-edge, LanceDB, Chroma and sqlite-vec."""

from asv_benchmarks.peers import curves, environment, index_data, index_images, records
from asv_benchmarks.peers.table import Report, Row

PACKAGES = ("hnswlib==0.8.0", "faiss-cpu==1.15.1", "usearch==2.26.6", "rabitqlib==0.7.1", "numkong==7.8.6", "tqdm",
            "packaging")  # fmt: skip


def run(quick: bool) -> Report:
    """The data is made first, as far as the cache does not hold it, which takes an hour or two."""
    rows = 20_000 if quick else 200_000
    index_data.sentences(rows)
    index_images.descriptors(rows)
    place = environment.install("index", PACKAGES)
    report = Report("index")
    for name, about in (("sentences", "sentence embeddings, 384"), ("pictures", "histograms of pictures, 128")):
        found = environment.measure("asv_benchmarks.peers.index_peers", place, "--rows", str(rows), "--set", name)
        report.rows += [Row(**row) for row in found["rows"]]
        report.notes += found["notes"]
        report.pictures[name] = curves.draw(found["lines"], f"{rows:,} {about} dimensions, one thread")
    records.add_to(report, quick)
    return report
