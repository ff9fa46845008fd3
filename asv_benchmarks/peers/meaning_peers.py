"""The peers' side of ``meaning``: run by the interpreter of their environment, in a directory with the set."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K = 10


def words(texts: list[str]) -> list[list[str]]:
    return [re.findall(r"\w+", text.lower()) or ["_"] for text in texts]


def bm25s_search(documents: list[str], vectors: Any, home: Path) -> Callable[[str, Any], list[int]]:
    import bm25s

    index = bm25s.BM25(k1=1.2, b=0.75)
    index.index(words(documents), show_progress=False)

    def search(query: str, vector: Any) -> list[int]:
        return [int(i) for i in index.retrieve(words([query]), k=K, show_progress=False)[0][0]]

    return search


def lancedb_search(documents: list[str], vectors: Any, home: Path) -> Callable[[str, Any], list[int]]:
    import lancedb

    rows = [{"id": i, "text": text, "vector": vectors[i]} for i, text in enumerate(documents)]
    table = lancedb.connect(home / "lance").create_table("documents", rows, mode="overwrite")
    table.create_fts_index("text", replace=True)

    def search(query: str, vector: Any) -> list[int]:
        plain = " ".join(re.findall(r"\w+", query)) or "_"
        found = table.search(query_type="hybrid").vector(vector).text(plain).limit(K).to_list()
        return [row["id"] for row in found]

    return search


def chroma_search(documents: list[str], vectors: Any, home: Path) -> Callable[[str, Any], list[int]]:
    import chromadb

    settings = chromadb.Settings(anonymized_telemetry=False)
    collection = chromadb.EphemeralClient(settings).create_collection("documents", metadata={"hnsw:space": "cosine"})
    for at in range(0, len(documents), 5000):
        part = range(at, min(at + 5000, len(documents)))
        collection.add(ids=[str(i) for i in part], embeddings=vectors[at : at + 5000])

    def search(query: str, vector: Any) -> list[int]:
        return [int(i) for i in collection.query(query_embeddings=[vector], n_results=K)["ids"][0]]

    return search


def main() -> None:
    home = Path(sys.argv[1])
    told = json.loads((home / "set.json").read_text())
    vectors = np.load(home / "vectors.npz")
    documents, queries = vectors["documents"], vectors["queries"]
    out = {}
    for name, make in (("bm25s", bm25s_search), ("lancedb", lancedb_search), ("chroma", chroma_search)):
        try:
            search = make(told["documents"], documents, home)
            lists = [search(query, vector) for query, vector in zip(told["queries"], queries, strict=True)]
            began = time.process_time()
            for query, vector in list(zip(told["queries"], queries, strict=True))[:300]:
                search(query, vector)
            out[name] = {"lists": lists, "rate": min(300, len(queries)) / (time.process_time() - began)}
        except Exception as error:  # a peer that does not run is left out, with a line to say so
            print(f"{name} left out: {type(error).__name__}: {error}", file=sys.stderr)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
