"""The vector index: putting rows, searching at stated recalls, filters, and what recall that really is."""

import numpy as np

from vexfs._core.vindex import VectorIndex

ROWS, DIM, QUERIES = 30_000, 384, 200


def clustered(n, seed):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(100, DIM))
    return (centres[rng.integers(0, 100, n)] + 1.5 * rng.normal(size=(n, DIM))).astype(np.float32)


def filled():
    index = VectorIndex(DIM)
    index.put(np.arange(ROWS), index.encode(clustered(ROWS, 1)))
    while index.maintain(1000):
        pass
    return index


class Searching:
    params = (0.9, 0.95, 0.99)
    param_names = ("recall",)

    def setup_cache(self):
        base, queries = clustered(ROWS, 1), clustered(QUERIES, 2)
        unit = base / np.linalg.norm(base, axis=1, keepdims=True)
        return queries, np.argsort(-(queries @ unit.T), axis=1)[:, :10]

    def setup(self, cached, recall):
        self.index, self.queries, self.exact = filled(), *cached
        allowed = np.random.default_rng(3).random(ROWS) < 0.1
        self.mask = np.packbits(np.pad(allowed, (0, -ROWS % 64)), bitorder="little").view(np.uint64)

    def time_200_queries(self, cached, recall):
        self.index.search(self.queries, 10, recall=recall)

    def time_200_queries_of_a_tenth(self, cached, recall):
        self.index.search(self.queries, 10, recall=recall, mask=self.mask)

    def track_recall(self, cached, recall):
        found = self.index.search(self.queries, 10, recall=recall)[0]
        pairs = zip(found.tolist(), self.exact.tolist(), strict=True)
        return float(np.mean([len(set(a) & set(b)) / 10 for a, b in pairs]))


class Putting:
    def setup(self):
        self.index = filled()
        self.rows, self.stored = np.arange(1000), self.index.encode(clustered(1000, 4))

    def time_1000_rows(self):
        self.index.put(self.rows, self.stored)
