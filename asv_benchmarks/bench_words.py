"""The keyword index on the machine's own documentation, and beside bm25s and SQLite's FTS5.

python -m asv_benchmarks.bench_words [chunks]      the table of docs/keywords.md; bm25s when it is installed
"""

import gzip
import importlib.util
import io
import random
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vexfs._core.words import WordIndex

WORDS_A_CHUNK, LEAST, LONGEST = 200, 20, 8000
PLACES = ("/usr/share/doc", "/usr/share/man", "/usr/lib/python3.11", "/usr/share/perl", "/usr/include")
STOP = [
    "how",
    "do",
    "I",
    "use",
    "the",
    "to",
    "of",
    "and",
    "in",
    "a",
    "is",
    "for",
    "with",
    "what",
    "it",
    "on",
    "be",
    "that",
]


def texts() -> Iterator[str]:
    files = sorted(p for place in PLACES for p in Path(place).rglob("*") if p.is_file() and not p.is_symlink())
    random.Random(1).shuffle(files)
    for path in files:
        try:
            data = path.read_bytes()
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            text = data.decode()
        except (OSError, EOFError, UnicodeDecodeError):
            continue
        if "\0" not in text and len(text) < 3_000_000:
            yield re.sub(r"<[^>]*>", " ", text) if path.suffix in (".html", ".htm") else text


def chunks(n: int) -> list[str]:
    """`n` chunks of 200 words, in a random order that is always the same."""
    found: list[str] = []
    for text in texts():
        spans = [m.span() for m in re.finditer(r"\S+", text)]
        for i in range(0, len(spans) - LEAST, WORDS_A_CHUNK):
            piece = text[spans[i][0] : spans[min(i + WORDS_A_CHUNK, len(spans)) - 1][1]]
            if len(piece) <= LONGEST:
                found.append(piece)
        if len(found) > n:
            break
    random.Random(2).shuffle(found)
    return found[:n]


def queries(found: list[str], kind: str, n: int = 200) -> list[str]:
    """Words that stand together in some chunk, a few of them replaced by the commonest words of English."""
    rng, out = random.Random(3), []
    length, common = {"3 words": (3, 0), "8 words": (8, 0), "4 words and 4 stop words": (4, 4)}[kind]
    while len(out) < n:
        words = re.findall(r"[A-Za-z]{3,}", rng.choice(found))
        if len(words) > 20:
            at = rng.randrange(len(words) - length)
            out.append(" ".join(rng.sample(STOP, common) + words[at : at + length]))
    return out


KINDS = ("3 words", "8 words", "4 words and 4 stop words")


class Words:
    """20,000 chunks: what a text costs to read, to put and to find."""

    params = KINDS
    param_names = ("query",)

    def setup_cache(self):
        found = chunks(20_000)
        return found, {kind: queries(found, kind) for kind in KINDS}

    def setup(self, cache, query):
        self.texts, self.queries = cache[0], cache[1][query]
        self.records = [WordIndex.encode(text) for text in self.texts]
        self.index = WordIndex()
        self.index.put(np.arange(len(self.texts)), self.records)

    def time_200_searches(self, cache, query):
        for text in self.queries:
            self.index.search(text, 10)

    def time_encode_1000(self, cache, query):
        for text in self.texts[:1000]:
            WordIndex.encode(text)

    def time_put_1000(self, cache, query):
        self.index.put(np.arange(1000), self.records[:1000])

    def track_bytes_a_chunk(self, cache, query):
        return self.index.memory() / len(self.index)


def ours(found: list[str]) -> tuple[Callable[[str], object], dict[str, float]]:
    start = time.process_time()
    records = [WordIndex.encode(text) for text in found]
    read = time.process_time()
    index = WordIndex()
    index.put(np.arange(len(found)), records)
    put = time.process_time()
    snapshot = io.BytesIO()
    index.dump(snapshot.write)
    snapshot.seek(0)
    again, before = WordIndex(), time.process_time()
    again.restore(snapshot.read)
    size = sum(len(text.encode()) for text in found)
    figures = {
        "build, CPU s": put - start,
        "reading text, MB/s": size / (read - start) / 1e6,
        "restore, CPU s": time.process_time() - before,
        "memory, bytes a chunk": index.memory() / len(found),
        "text, bytes a chunk": size / len(found),
    }
    return lambda query: index.search(query, 10), figures


def fts5(found: list[str]) -> tuple[Callable[[str], object], dict[str, float]]:
    db = sqlite3.connect(":memory:")
    start = time.process_time()
    db.execute("CREATE VIRTUAL TABLE t USING fts5(x, content='', tokenize='unicode61')")
    db.executemany("INSERT INTO t(rowid, x) VALUES (?, ?)", enumerate(found))
    db.execute("INSERT INTO t(t) VALUES ('optimize')")
    pages = db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]
    figures = {"build, CPU s": time.process_time() - start, "memory, bytes a chunk": pages / len(found)}
    sql = "SELECT rowid, rank FROM t WHERE t MATCH ? ORDER BY rank LIMIT 10"

    def search(query: str) -> object:
        return db.execute(sql, (" OR ".join(f'"{word}"' for word in query.split()),)).fetchall()

    return search, figures


def bm25s(found: list[str]) -> tuple[Callable[[str], object], dict[str, float]]:
    import bm25s as theirs

    start = time.process_time()
    tokens = theirs.tokenize(found, stopwords=None, show_progress=False)
    index = theirs.BM25(k1=1.2, b=0.75)
    index.index(tokens, show_progress=False)
    figures = {
        "build, CPU s": time.process_time() - start,
        "memory, bytes a chunk": sum(part.nbytes for part in index.scores.values() if hasattr(part, "nbytes"))
        / len(found),
    }

    def search(query: str) -> object:
        return index.retrieve([re.findall(r"(?u)\b\w\w+\b", query.lower())], k=10, show_progress=False)

    return search, figures


def main() -> None:
    found = chunks(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    contestants = {"VexFS": ours, "FTS5": fts5}
    if importlib.util.find_spec("bm25s"):
        contestants["bm25s"] = bm25s
    rows: dict[str, dict[str, str]] = {}
    searches = {}
    for name, build in contestants.items():
        searches[name], figures = build(found)
        for row, value in figures.items():
            rows.setdefault(row, {})[name] = f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
    for kind in KINDS:
        asked = queries(found, kind)
        took: dict[str, list[float]] = {name: [] for name in searches}
        for query in asked:  # interleaved, so that what else the machine does meets all alike
            for name, search in searches.items():
                start = time.perf_counter()
                search(query)
                took[name].append(time.perf_counter() - start)
        for name, times in took.items():
            rows.setdefault(f"{kind}: mean (95 %) us", {})[name] = (
                f"{np.mean(times) * 1e6:,.0f} ({np.percentile(times, 95) * 1e6:,.0f})"
            )
    print(f"{len(found):,} chunks\n\n| | {' | '.join(contestants)} |\n|---|{'---|' * len(contestants)}")
    for row, values in rows.items():
        print(f"| {row} | {' | '.join(values.get(name, '') for name in contestants)} |")


if __name__ == "__main__":
    main()
