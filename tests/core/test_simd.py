"""Every kernel, on every level that the machine has, against the same distance in float64.

The bound is in ulps of the largest sum a kernel can have held on the way: ``2**-24 * sum(|a_i * b_i|)`` for a dot
product, of the squared norm of the difference for the euclidean ones, of 1 for a cosine.  Integer types sum exactly, so
theirs is that of one rounding to float32, or of the few operations that make a cosine.
"""

import numpy as np
import pytest

from vexfs._core.simd import DTYPES, METRICS, Simd, levels

READY = [name for name, word in levels().items() if word == "ready"]
LARGE = (256, 384, 768, 1024, 1536, 4096)
DIMS = (*range(1, 131), *LARGE)
METRICS_OF = {name: METRICS if name == "b1" else METRICS[:-1] for name in DTYPES}
U = 2.0**-24
ROWS = 7  # one block of four rows and three single ones


def ulps(dim):
    """The stated bound: a few operations, and the rounding errors of the longest run of additions."""
    return 6 + dim / 32


@pytest.fixture(scope="module", params=READY)
def simd(request):
    return Simd(request.param)


def bf16(x):
    """float32 to the nearest bfloat16, as uint16, by integer arithmetic alone."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def encode(x, dtype):
    """The codes of float32 rows, and in float64 the values that those codes stand for."""
    if dtype == "f32":
        return x.astype(np.float32), x.astype(np.float32).astype(np.float64)
    if dtype == "f16":
        return x.astype(np.float16), x.astype(np.float16).astype(np.float64)
    if dtype == "bf16":
        codes = bf16(x)
        return codes, (codes.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype == "b1":
        return np.packbits(x > 0, axis=-1, bitorder="little"), np.where(x > 0, 1.0, -1.0)
    most = 127 if dtype == "i8" else 7
    codes = np.clip(np.rint(x * most / 3), -most - 1, most).astype(np.int8)
    if dtype == "i8":
        return codes, codes.astype(np.float64)
    padded = np.concatenate([codes, np.zeros((*codes.shape[:-1], codes.shape[-1] % 2), np.int8)], -1)
    nibbles = padded.view(np.uint8) & 15
    return nibbles[..., ::2] | nibbles[..., 1::2] << 4, codes.astype(np.float64)


def reference(a, b, metric):
    """The distance of every row of a to every row of b in float64, and the unit of its error."""
    ab, size = a @ b.T, np.abs(a) @ np.abs(b).T
    squares = ((a[:, None, :] - b[None, :, :]) ** 2).sum(-1)
    if metric == "dot":
        return ab, size
    if metric == "l2sq":
        return squares, squares
    if metric == "l2":
        return np.sqrt(squares), np.sqrt(squares)
    if metric == "hamming":
        return (a[:, None, :] != b[None, :, :]).sum(-1).astype(np.float64), np.zeros(ab.shape)
    below = np.sqrt((a**2).sum(-1))[:, None] * np.sqrt((b**2).sum(-1))[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.where(below == 0, 1.0, 1 - ab / below)
    return np.maximum(far, 0), np.ones(ab.shape)


def check(got, expected, unit, dim, what):
    error = np.abs(got.astype(np.float64) - expected)
    allowed = ulps(dim) * U * unit + dim * 2.0**-126
    worst = np.max(error - allowed)
    assert worst <= 0, f"{what}: off by {np.max(error / (U * unit + 1e-300)):.1f} ulps, allowed {ulps(dim):.1f}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_dims(simd, dtype):
    rng = np.random.default_rng(7)
    for dim in DIMS:
        codes, values = encode(rng.normal(size=(ROWS + 2, dim)).astype(np.float32), dtype)
        a, b = codes[:2], codes[1:]
        ids = rng.integers(0, len(b), 11)
        for metric in METRICS_OF[dtype]:
            expected, unit = reference(values[:2], values[1:], metric)
            what = f"{simd.level} {dtype} {metric} dim {dim}"
            many = simd.one_to_many(a[0], b, metric, dtype=dtype, dim=dim)
            check(many, expected[0], unit[0], dim, f"{what} one_to_many")
            check(simd.gather(a[0], b, ids, metric, dtype=dtype, dim=dim), expected[0][ids], unit[0][ids], dim,
                  f"{what} gather")
            check(simd.many_to_many(a, b, metric, dtype=dtype, dim=dim), expected, unit, dim, f"{what} many_to_many")
            pair = np.float32(simd.pair(a[1], b[0], metric, dtype=dtype, dim=dim))
            check(pair[None], expected[1, :1], unit[1, :1], dim, f"{what} pair")
