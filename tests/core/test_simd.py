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
    return 12 + dim / 64


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


def check(got, expected, unit, dim, what, lost=0.0):
    error = np.abs(got.astype(np.float64) - expected)
    allowed = ulps(dim) * U * unit + dim * 2.0**-126 + lost
    worst = np.max(error - allowed)
    assert worst <= 0, f"{what}: off by {np.max(error / (U * unit + 1e-300)):.1f} ulps, allowed {ulps(dim):.1f}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_dims(simd, dtype):
    rng = np.random.default_rng(7)
    for dim in DIMS:
        codes, values = encode(rng.normal(size=(ROWS + 2, dim)).astype(np.float32), dtype)
        a, b = codes[:2], codes[1:]
        ids = rng.integers(0, len(b), 11)
        named = {"dtype": dtype, "dim": dim}
        for metric in METRICS_OF[dtype]:
            expected, unit = reference(values[:2], values[1:], metric)
            what = f"{simd.level} {dtype} {metric} dim {dim}"
            many = simd.one_to_many(a[0], b, metric, **named)
            check(many, expected[0], unit[0], dim, f"{what} one_to_many")
            gathered = simd.gather(a[0], b, ids, metric, **named)
            check(gathered, expected[0][ids], unit[0][ids], dim, f"{what} gather")
            check(simd.many_to_many(a, b, metric, **named), expected, unit, dim, f"{what} many_to_many")
            pair = np.float32(simd.pair(a[1], b[0], metric, **named))
            check(pair[None], expected[1, :1], unit[1, :1], dim, f"{what} pair")


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("dim", [259, 531, 1024, 1537, 4111])
def test_rows_that_no_cache_holds(simd, dtype, dim):
    """Long rows of more bytes than caches have take loops of their own; those at the ends are compared."""
    rng = np.random.default_rng(13)
    width = 4 if dtype == "f32" else 2
    n = (25 << 20) // (width * dim) + 1
    room = np.empty(n * dim * width + 64, np.uint8)
    few, _ = encode(rng.normal(size=(64, dim)).astype(np.float32), dtype)
    q, value = encode(rng.normal(size=(1, dim)).astype(np.float32), dtype)
    for offset in (0, 4, 16):
        rows = room[offset : offset + n * dim * width].view(few.dtype).reshape(n, dim)
        rows[:] = few[np.arange(n) % 64]
        values = few if dtype == "f32" else (few.astype(np.uint32) << 16).view(np.float32)
        for metric in METRICS_OF[dtype]:
            expected, unit = reference(value, values.astype(np.float64), metric)
            got = simd.one_to_many(q[0], rows, metric, dtype=dtype, dim=dim)
            what = f"{simd.level} {dtype} {metric} dim {dim} at {offset}"
            check(got[:64], expected[0], unit[0], dim, what)
            np.testing.assert_array_equal(got[64:128], got[:64], what)
            check(got[-64:], np.resize(expected[0], n)[-64:], np.resize(unit[0], n)[-64:], dim, what)


@pytest.mark.parametrize("shape", [(14, 32, 384), (15, 33, 129), (29, 300, 50), (14, 257, 1), (40, 31, 700)])
def test_matrix_product(simd, shape):
    """Enough rows of a for the packed many-to-many, in whole and broken blocks, panels and passes."""
    na, nb, dim = shape
    rng = np.random.default_rng(11)
    a, b = rng.normal(size=(na, dim)).astype(np.float32), rng.normal(size=(nb, dim)).astype(np.float32)
    for metric in METRICS_OF["f32"]:
        expected, unit = reference(a.astype(np.float64), b.astype(np.float64), metric)
        check(simd.many_to_many(a, b, metric), expected, unit, dim, f"{simd.level} {metric} {shape}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_alignments(simd, dtype):
    """Rows at every address of a cache line, and apart by every odd remainder, give what aligned rows give."""
    rng = np.random.default_rng(3)
    for dim in (8, 100, 391):
        codes, _ = encode(rng.normal(size=(9, dim)).astype(np.float32), dtype)
        width, named = codes[0].nbytes, {"dtype": dtype, "dim": dim}
        for offset in range(65):
            stride = width + offset
            room = np.zeros(9 * stride + 64, np.uint8)
            moved = np.ndarray(codes.shape, codes.dtype, room, offset, (stride, codes.itemsize))
            moved[...] = codes
            for metric in METRICS_OF[dtype]:
                expected = simd.one_to_many(codes[0], codes, metric, **named)
                # Values may be added in another order at another address; integers do not show it.
                loose = 0 if dtype in ("i8", "i4", "b1") else 4e-6 * np.sqrt(dim)
                for got in (
                    simd.one_to_many(moved[0], moved, metric, **named),
                    simd.gather(moved[0], moved, np.arange(9), metric, **named),
                    simd.many_to_many(moved[:1], moved, metric, **named)[0],
                ):
                    assert np.allclose(got, expected, rtol=loose, atol=loose)


@pytest.mark.parametrize("dim", [1025, 1040, 1071, 1536])
def test_rows_from_memory(simd, dim):
    """More long rows than caches hold, which have a kernel of their own; hurtful values, too."""
    rng = np.random.default_rng(13)
    few = rng.normal(size=(16, dim)).astype(np.float32)
    few[7], few[9] = few[7] * 1e25, 0
    n = (25 << 20) // few[0].nbytes
    room = np.empty(n * dim + 16, np.float32)
    q = few[3] + 0.1
    for metric in METRICS_OF["f32"]:
        with np.errstate(over="ignore"):
            expected = simd.one_to_many(q, few, metric)
        for offset in (0, 1, 15):
            rows = room[offset : offset + n * dim].reshape(n, dim)
            rows[:] = np.resize(few, rows.shape)
            got = simd.one_to_many(q, rows, metric)
            assert np.allclose(got, np.resize(expected, n), rtol=2e-5, atol=2e-5, equal_nan=True), (metric, offset)


def hurtful(dtype, dim):
    """Rows that break careless kernels, in a type that can hold them."""
    rng = np.random.default_rng(5)
    base = rng.normal(size=dim)
    scales = {"f32": (1e-45, 1e-40, 1e-30, 1e-19, 1e18, 1e20, 1e37), "bf16": (1e-40, 1e-30, 1e-19, 1e18, 1e37)}
    rows = [np.zeros(dim), -np.zeros(dim), base, -base, base * (1 + 1e-3)]
    rows += [base * scale for scale in scales.get(dtype, (6e-8, 1e-5, 1e3, 1.5e4))]
    return np.array(rows)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("dim", [1, 5, 16, 33, 384, 700])
def test_hurtful_values(simd, dtype, dim):
    """Zeros, denormals, huge and tiny: a finite answer that f32 can hold is given, however its squares overflow."""
    with np.errstate(over="ignore"):
        codes, values = encode(hurtful(dtype, dim).astype(np.float32), dtype)
    for metric in METRICS_OF[dtype]:
        expected, unit = reference(values, values, metric)
        with np.errstate(over="ignore"):
            fits = np.abs(expected.astype(np.float32)) < np.inf
        # The bfloat16 instructions take values under 2^-126 for zero.
        tiny = (np.abs(values) * (np.abs(values) < 2.0**-126)).sum(-1)
        lost = np.add.outer(tiny, tiny) * np.abs(values).max() if (dtype, metric) == ("bf16", "dot") else 0 * expected
        for q in range(len(codes)):
            got = simd.one_to_many(codes[q], codes, metric, dtype=dtype)
            what = f"{simd.level} {dtype} {metric} dim {dim} row {q}"
            check(got[fits[q]], expected[q][fits[q]], unit[q][fits[q]], dim, what, lost[q][fits[q]])
            assert np.all(np.isinf(got[~fits[q]])), what
        crossed = simd.many_to_many(np.repeat(codes, 2, 0), codes, metric, dtype=dtype)[::2]
        check(crossed[fits], expected[fits], unit[fits], dim, f"{simd.level} {dtype} {metric} cross", lost[fits])


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_infinities_and_nan(simd, dtype):
    """NaN wherever float64 has it, the right infinity elsewhere; nothing leaks into the row beside."""
    dim = 50
    x = np.ones((16, dim), np.float32)
    x[1, 7], x[2, 49], x[3, 0], x[4, 3], x[4, 9] = np.nan, np.inf, -np.inf, np.inf, -np.inf
    codes = bf16(np.where(np.isnan(x), 0, x)) if dtype == "bf16" else x.astype(np.float32 if dtype == "f32" else "f2")
    if dtype == "bf16":
        codes[1, 7] = 0x7FC0
    for metric in METRICS_OF[dtype]:
        with np.errstate(invalid="ignore"):
            expected, _ = reference(x.astype(np.float64), x.astype(np.float64), metric)
        for got in (
            np.stack([simd.one_to_many(q, codes, metric, dtype=dtype) for q in codes]),
            simd.many_to_many(codes, codes, metric, dtype=dtype),
        ):
            assert np.allclose(got, expected, rtol=1e-5, atol=1e-6, equal_nan=True), f"{simd.level} {dtype} {metric}"


@pytest.mark.parametrize("dtype", ["i8", "i4"])
@pytest.mark.parametrize("dim", [1, 64, 65536])
def test_extreme_codes(simd, dtype, dim):
    """Every code at its end: sums stay exact where a 16-bit or a saturating step would not."""
    low, high = (-128, 127) if dtype == "i8" else (-8, 7)
    rows = np.array([[low] * dim, [high] * dim, [low, high] * (dim // 2) + [low] * (dim % 2)])
    if dtype == "i8":
        codes = rows.astype(np.int8)
    else:
        padded = np.pad(rows, ((0, 0), (0, dim % 2)))
        codes = ((padded[:, ::2] & 15) | (padded[:, 1::2] & 15) << 4).astype(np.uint8)
    for metric in METRICS_OF[dtype]:
        expected, unit = reference(rows.astype(np.float64), rows.astype(np.float64), metric)
        got = np.stack([simd.one_to_many(q, codes, metric, dtype=dtype, dim=dim) for q in codes])
        assert np.all(np.abs(got - expected) <= 8 * U * np.abs(unit) + (0 if metric != "cosine" else 1e-6))
        if metric in ("dot", "l2sq"):
            assert np.array_equal(got, expected.astype(np.float32))


def test_levels_agree():
    """Integer types give the same bits on every level; float types stay within the bound of each other."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 333)).astype(np.float32)
    for dtype in DTYPES:
        codes, _ = encode(x, dtype)
        for metric in METRICS_OF[dtype]:
            got = [Simd(level).one_to_many(codes[0], codes, metric, dtype=dtype, dim=333) for level in READY]
            for other in got[1:]:
                if dtype in ("i8", "i4", "b1") and metric in ("dot", "l2sq", "hamming"):
                    assert np.array_equal(got[0], other), f"{dtype} {metric}"
                else:
                    assert np.allclose(got[0], other, rtol=2e-5, atol=2e-4), f"{dtype} {metric}"
