"""Stores of records, each filled, searched and filtered as its own documentation says; used by :mod:`records_work`.

A record has a path, a 384-d vector and two attributes, ``year`` (one of a hundred) and ``lang``.  A search is for a
vector, with a span of years or without, and answers paths and attributes, nearest first.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vexfs

K, DIM, BATCH = 10, 384, 1000
YEARS = (1926, 2025)
LANGS = ("de", "en", "es", "fr")
Floats = NDArray[np.float32]
Span = tuple[int, int] | None


def years_of(rows: int) -> NDArray[np.int64]:
    """The year of every record: each as often, in an order of its own."""
    return YEARS[0] + np.random.default_rng(11).permutation(rows) % 100


def records(
    base: Floats, at: int, years: NDArray[np.int64], count: int = BATCH
) -> tuple[list[str], list[dict[str, Any]]]:
    """Paths and attributes of a batch that begins at row `at`."""
    rows = range(at, min(at + count, len(base)))
    return [f"doc-{i:06d}" for i in rows], [{"year": int(years[i]), "lang": LANGS[i % 4]} for i in rows]


class Store:
    """What is compared.

    Attributes
    ----------
    efforts
        What it trades speed for recall with, from less to more.
    """

    name: str
    efforts: Sequence[Any] = (None,)

    def fill(self, home: Path, base: Floats) -> None:
        """Store and index all records below `home`, an empty directory."""
        raise NotImplementedError

    def open(self, home: Path) -> None:
        """Make a filled store ready."""
        raise NotImplementedError

    def use(self, effort: Any) -> None:
        """Search with this effort from now on."""
        self.effort = effort

    def search(self, vector: Floats, span: Span) -> list[tuple[str, Any]]:
        """The K nearest."""
        raise NotImplementedError


class VexFS(Store):
    name = "vexfs"
    efforts = (0.97, 0.98, 0.985, 0.99, 0.993, 0.996, 0.998)

    def fill(self, home: Path, base: Floats) -> None:
        with vexfs.open(home / "v.vex") as fs:
            index = fs.index("papers", dim=DIM)
            self.insert(fs, index, base)
            index.catalog.upkeep.wait()

    @staticmethod
    def insert(fs: Any, index: Any, base: Floats) -> None:
        years = years_of(len(base))
        for at in range(0, len(base), BATCH):
            ids, attributes = records(base, at, years)
            index.upsert(ids, base[at : at + BATCH], attributes)
            fs.sync()

    def open(self, home: Path) -> None:
        self.fs = vexfs.open(home / "v.vex")
        self.index = self.fs.index("papers")
        self.index.catalog.upkeep.wait()

    def search(self, vector: Floats, span: Span) -> list[tuple[str, Any]]:
        where = None if span is None else {"year": {"$gte": span[0], "$lte": span[1]}}
        return [(hit.id, hit.attributes) for hit in self.fs.search(vector, K, where=where, recall=self.effort)]


class Qdrant(Store):
    name = "qdrant-edge"
    efforts = (48, 64, 96, 128, 192, 256, 384, 512)

    def configuration(self) -> Any:
        import qdrant_edge as q

        vectors = q.EdgeVectorParams(size=DIM, distance=q.Distance.Cosine)
        return q.EdgeConfig(vectors=vectors, max_search_threads=1)

    def create(self, home: Path) -> Any:
        import qdrant_edge as q

        return q.EdgeShard.create(str(home), self.configuration())

    def fill(self, home: Path, base: Floats) -> None:
        import qdrant_edge as q

        shard = self.create(home)
        shard.update(q.UpdateOperation.create_field_index("year", q.PayloadSchemaType.Integer))
        self.insert(shard, base)
        shard.optimize()
        shard.flush()
        shard.close()

    @staticmethod
    def insert(shard: Any, base: Floats) -> None:
        """An update is in the shard's log, which is synced, when it returns."""
        import qdrant_edge as q

        years = years_of(len(base))
        for at in range(0, len(base), BATCH):
            batch = zip(*records(base, at, years), base[at : at + BATCH].tolist(), strict=True)
            points = [q.Point(at + k, vector, {"path": path, **rest}) for k, (path, rest, vector) in enumerate(batch)]
            shard.update(q.UpdateOperation.upsert_points(points))

    def open(self, home: Path) -> None:
        import qdrant_edge as q

        self.q, self.shard = q, q.EdgeShard.load(str(home), self.configuration())

    def search(self, vector: Floats, span: Span) -> list[tuple[str, Any]]:
        q = self.q
        rule = None
        if span is not None:
            rule = q.Filter(must=[q.FieldCondition("year", range=q.RangeFloat(gte=span[0], lte=span[1]))])
        request = q.QueryRequest(
            K, query=q.Query.Nearest(vector.tolist()), filter=rule, with_payload=True,
            params=q.SearchParams(hnsw_ef=self.effort),
        )  # fmt: skip
        return [(point.payload["path"], point.payload) for point in self.shard.query(request)]


class Lance(Store):
    name = "lancedb"
    efforts = ((1, 100), (2, 200), (4, 200), (8, 400), (16, 800))

    def fill(self, home: Path, base: Floats) -> None:
        import lancedb
        import pyarrow as pa

        years = years_of(len(base))
        ids, rest = records(base, 0, years, len(base))
        columns = {
            "path": pa.array(ids), "year": pa.array(years), "lang": pa.array([each["lang"] for each in rest]),
            "vector": pa.FixedSizeListArray.from_arrays(base.ravel(), DIM),
        }  # fmt: skip
        table = lancedb.connect(home).create_table("papers", pa.table(columns))
        table.create_index(metric="cosine", index_type="IVF_HNSW_SQ")
        table.create_scalar_index("year")

    def open(self, home: Path) -> None:
        import lancedb

        self.table = lancedb.connect(home).open_table("papers")

    def search(self, vector: Floats, span: Span) -> list[tuple[str, Any]]:
        probes, ef = self.effort
        found = self.table.search(vector).metric("cosine").nprobes(probes).ef(ef).refine_factor(3)
        if span is not None:
            found = found.where(f"year >= {span[0]} AND year <= {span[1]}", prefilter=True)
        return [(row["path"], row) for row in found.select(["path", "year", "lang", "_distance"]).limit(K).to_list()]


class Chroma(Store):
    name = "chroma"
    efforts = (50, 100, 200, 400)

    def client(self, home: Path) -> Any:
        import chromadb

        return chromadb.PersistentClient(str(home), chromadb.Settings(anonymized_telemetry=False))

    def fill(self, home: Path, base: Floats) -> None:
        collection = self.client(home).create_collection("papers", configuration={"hnsw": {"space": "cosine"}})
        years = years_of(len(base))
        for at in range(0, len(base), BATCH):
            ids, attributes = records(base, at, years)
            collection.add(ids=ids, embeddings=base[at : at + BATCH], metadatas=attributes)

    def open(self, home: Path) -> None:
        self.collection = self.client(home).get_collection("papers")

    def use(self, effort: Any) -> None:
        self.collection.modify(configuration={"hnsw": {"ef_search": effort}})

    def search(self, vector: Floats, span: Span) -> list[tuple[str, Any]]:
        where = None if span is None else {"$and": [{"year": {"$gte": span[0]}}, {"year": {"$lte": span[1]}}]}
        found = self.collection.query(
            query_embeddings=[vector], n_results=K, where=where, include=["metadatas", "distances"]
        )
        return list(zip(found["ids"][0], found["metadatas"][0], strict=True))


class SqliteVec(Store):
    """Compares with every row that the filter leaves."""

    name = "sqlite-vec"

    def connect(self, home: Path) -> Any:
        import apsw  # not every Python's own module loads extensions
        import sqlite_vec

        connection = apsw.Connection(str(home / "papers.db"))
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        return connection

    def fill(self, home: Path, base: Floats) -> None:
        connection = self.connect(home)
        connection.execute(
            f"create virtual table papers using vec0(vector float[{DIM}] distance_metric=cosine, year integer,"
            " lang text, +path text)"
        )
        years = years_of(len(base))
        for at in range(0, len(base), BATCH):
            batch = zip(*records(base, at, years), base[at : at + BATCH], strict=True)
            rows = [(vector.tobytes(), r["year"], r["lang"], path) for path, r, vector in batch]
            with connection:
                connection.executemany("insert into papers(vector, year, lang, path) values (?, ?, ?, ?)", rows)
        connection.close()

    def open(self, home: Path) -> None:
        self.connection = self.connect(home)

    def search(self, vector: Floats, span: Span) -> list[tuple[str, Any]]:
        text = "select path, year, lang, distance from papers where vector match ? and k = ?"
        values: list[Any] = [vector.tobytes(), K]
        if span is not None:
            text += " and year >= ? and year <= ?"
            values += span
        return [(row[0], row[1:]) for row in self.connection.execute(text, values)]


STORES: dict[str, type[Store]] = {s.name: s for s in (VexFS, Qdrant, Lance, Chroma, SqliteVec)}

