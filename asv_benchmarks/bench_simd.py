"""The kernels: every dtype, metric and shape on every level of the machine; ulps beside times."""

import numpy as np

from vexfs._core.simd import DTYPES, Simd, levels

READY = [name for name, word in levels().items() if word == "ready"]
ROWS, DIM = 10_000, 384


def codes_of(simd, dtype, rows, dim, seed=1):
    x = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return simd.quantise(x, dtype)[0]


class OneToMany:
    """One query, 10,000 rows that stay in the last cache level at 384 dimensions and do not at 1536."""

    params = (READY, DTYPES, ("dot", "cosine", "l2sq"), (384, 1536))
    param_names = ("level", "dtype", "metric", "dim")

    def setup(self, level, dtype, metric, dim):
        self.simd = Simd(level)
        self.rows = codes_of(self.simd, dtype, ROWS, dim)
        self.q, self.out = self.rows[0].copy(), np.empty(ROWS, np.float32)

    def time_10000_rows(self, level, dtype, metric, dim):
        self.simd.one_to_many(self.q, self.rows, metric, dtype=dtype, out=self.out)


class Gathered:
    """As a graph reads its rows: by id, in no order, out of more than the caches hold."""

    params = (READY, ("f32", "bf16", "i8", "b1"))
    param_names = ("level", "dtype")

    def setup(self, level, dtype):
        self.simd = Simd(level)
        self.rows = codes_of(self.simd, dtype, 100_000, DIM)
        self.ids = np.random.default_rng(2).integers(0, len(self.rows), ROWS).astype(np.uint32)
        self.q, self.out = self.rows[0].copy(), np.empty(ROWS, np.float32)

    def time_10000_of_100000_rows(self, level, dtype):
        self.simd.gather(self.q, self.rows, self.ids, "l2sq", dtype=dtype, out=self.out)


class ManyToMany:
    params = (READY, ("f32", "bf16", "i8"), ("dot", "l2sq"))
    param_names = ("level", "dtype", "metric")

    def setup(self, level, dtype, metric):
        self.simd = Simd(level)
        self.a, self.b = codes_of(self.simd, dtype, 64, DIM), codes_of(self.simd, dtype, 5000, DIM, 2)
        self.out = np.empty((64, 5000), np.float32)

    def time_64_by_5000(self, level, dtype, metric):
        self.simd.many_to_many(self.a, self.b, metric, dtype=dtype, out=self.out)


class Codes:
    params = (READY, DTYPES[1:])
    param_names = ("level", "dtype")

    def setup(self, level, dtype):
        self.simd = Simd(level)
        self.x = np.random.default_rng(3).normal(size=(1000, DIM)).astype(np.float32)
        self.codes, self.scale = self.simd.quantise(self.x, dtype)

    def time_quantise_1000_rows(self, level, dtype):
        self.simd.quantise(self.x, dtype, self.scale)

    def time_dequantise_1000_rows(self, level, dtype):
        self.simd.dequantise(self.codes, dtype, dim=DIM, scale=self.scale)


class Pair:
    """What a call from Python costs: two vectors, so little else."""

    def setup(self):
        self.simd = Simd()
        self.a, self.b = np.random.default_rng(4).normal(size=(2, DIM)).astype(np.float32)

    def time_call(self):
        self.simd.pair(self.a, self.b, "dot")


class Quality:
    """The largest error against float64, in units of 2^-24 of what was summed."""

    params = (READY, ("dot", "l2sq", "cosine"), (100, 384, 4096))
    param_names = ("level", "metric", "dim")

    def track_ulps_f32(self, level, metric, dim):
        x = np.random.default_rng(5).normal(size=(200, dim)).astype(np.float32)
        got = Simd(level).many_to_many(x, x, metric).astype(np.float64)
        wide = x.astype(np.float64)
        ab, aa = wide @ wide.T, (wide**2).sum(1)
        if metric == "dot":
            expected, unit = ab, np.abs(wide) @ np.abs(wide).T
        elif metric == "l2sq":
            expected = unit = ((wide[:, None] - wide[None]) ** 2).sum(-1)
        else:
            expected, unit = np.maximum(0, 1 - ab / np.sqrt(np.outer(aa, aa))), np.ones_like(ab)
        return float(np.max(np.abs(got - expected) / (unit * 2.0**-24 + 1e-30)))

    track_ulps_f32.unit = "ulps"
