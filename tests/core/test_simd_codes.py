"""Stored formats: every level writes the same codes, numpy agrees where it knows the format, and back is near."""

import math

import numpy as np
import pytest

from vexfs._core.columns import ORDERS, Column, packed
from vexfs._core.simd import DTYPES, Simd, levels

READY = [name for name, word in levels().items() if word == "ready"]
DIMS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 100, 384)


@pytest.fixture(scope="module", params=READY)
def simd(request):
    return Simd(request.param)


def halves():
    """Every float16 and, around each, the float32 values just above and below and the midpoints between them."""
    exact = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    exact = np.sort(exact[np.isfinite(exact)])
    middle = ((exact[1:].astype(np.float64) + exact[:-1]) / 2).astype(np.float32)
    near = [np.nextafter(v, np.float32(side)) for v in (exact, middle) for side in (-np.inf, np.inf)]
    extra = np.array([65519.9, 65520, 65536, 1e30, np.inf, 1e-9, 2.0**-25, 2.0**-24], np.float32)
    return np.concatenate([exact, middle, *near, extra, -extra])


def test_f16_rounds_as_numpy_does(simd):
    x = halves()
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    codes, _ = simd.quantise(x.reshape(1, -1)[:, :65536], "f16")
    rest, _ = simd.quantise(x[65536:131072].reshape(1, -1), "f16")
    assert np.array_equal(np.concatenate([codes[0], rest[0]]).view(np.uint16), expected[:131072].view(np.uint16))


def test_every_f16_comes_back(simd):
    codes = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(1, -1)
    back = simd.dequantise(codes, "f16")
    assert np.array_equal(back, codes.astype(np.float32), equal_nan=True)


def test_bf16_rounds_to_even(simd):
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 2**32, 60000, np.uint32)
    bits[:6] = [0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x00007FFF, 0x80008001]
    x = bits.view(np.float32)
    codes, _ = simd.quantise(x.reshape(1, -1), "bf16")
    real = ~np.isnan(x)
    wide = bits.astype(np.uint64)
    assert np.array_equal(codes[0][real], ((wide + 0x7FFF + (wide >> 16 & 1)) >> 16).astype(np.uint16)[real])
    assert np.all(np.isnan(simd.dequantise(codes, "bf16")[0][~real]))
    back = simd.dequantise(codes, "bf16")[0][real]
    assert np.array_equal(back, (codes[0][real].astype(np.uint32) << 16).view(np.float32))


@pytest.mark.parametrize("dtype", ["i8", "i4"])
@pytest.mark.parametrize("dim", DIMS)
def test_integers(simd, dtype, dim):
    rng = np.random.default_rng(dim)
    most = 127 if dtype == "i8" else 7
    x = (rng.normal(size=(5, dim)) * 3).astype(np.float32)
    x[0, 0], x[1, dim // 2], x[2, dim - 1] = np.nan, np.inf, -np.inf
    scale = 0.25
    inverse = np.float32(1) / np.float32(scale)
    expected = np.nan_to_num(np.clip(np.rint(x * inverse), -most, most))
    codes, used = simd.quantise(x, dtype, scale=scale)
    assert used == scale
    back = simd.dequantise(codes, dtype, dim=dim, scale=scale)
    assert np.array_equal(back, (expected * np.float32(scale)).astype(np.float32))
    if dtype == "i4" and dim % 2:
        assert not np.any(codes[:, -1] & 0xF0), "the spare nibble is zero"


@pytest.mark.parametrize("dim", DIMS)
def test_bits(simd, dim):
    x = np.random.default_rng(dim).normal(size=(6, dim)).astype(np.float32)
    x[0] = 0
    x[1, 0] = np.nan
    codes, _ = simd.quantise(x, "b1")
    assert np.array_equal(codes, np.packbits(x > 0, axis=1, bitorder="little"))
    assert np.array_equal(simd.dequantise(codes, "b1", dim=dim, scale=2), np.where(x > 0, 2, -2))


def test_scale_of_its_own(simd):
    x = np.random.default_rng(4).normal(size=(50, 96)).astype(np.float32)
    for dtype, most in (("i8", 127), ("i4", 7)):
        codes, scale = simd.quantise(x, dtype)
        assert scale == pytest.approx(np.abs(x).max() / most)
        assert np.abs(simd.dequantise(codes, dtype, scale=scale) - x).max() <= scale * 0.5001
    assert simd.quantise(np.zeros((1, 4), np.float32), "i8")[1] == 1.0
    assert simd.quantise(np.array([[np.inf, 2, np.nan]], np.float32), "i8")[1] == pytest.approx(2 / 127)


def test_levels_write_the_same_codes():
    x = np.random.default_rng(8).normal(size=(20, 301)).astype(np.float32)
    for dtype in DTYPES:
        codes = [Simd(level).quantise(x, dtype)[0] for level in READY]
        assert all(np.array_equal(codes[0], other) for other in codes[1:]), dtype


HURTFUL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, -5e-324, 1.5, np.nextafter(1.5, 2), 1.7e308, -1.7e308]


@pytest.mark.parametrize("order", ["$lt", "$lte", "$gt", "$gte", "$eq"])
def test_numbers_of_a_column_by_order(simd, order):
    means = {"$lt": np.less, "$lte": np.less_equal, "$gt": np.greater, "$gte": np.greater_equal, "$eq": np.equal}
    rng = np.random.default_rng(11)
    for rows in (0, 1, 2, 3, 4, 7, 8, 63, 64, 65, 127, 128, 1000):
        column = Column(rows, simd)
        column.number[:] = rng.choice(HURTFUL, rows)
        for value in HURTFUL:
            for n in {rows, rows // 2}:
                found = column.select(ORDERS[order], value, n)
                assert found.tobytes() == packed(means[order](column.number[:n], value)).tobytes()


def test_orders_and_rows_that_cannot_be():
    column = Column(5, Simd())
    for order, rows in ((5, 5), (-1, 5), (0, 6)):
        with pytest.raises(ValueError, match=f"order {order} of {rows} rows"):
            column.select(order, 1.0, rows)
