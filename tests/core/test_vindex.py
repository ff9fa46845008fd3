"""The vector index against an exact reference in numpy: every metric, dtype and way of searching; rows that change."""

import io
import time

import numpy as np
import pytest

from tests.waiting import until
from vexfs._core.pool import Pool
from vexfs._core.simd import Simd, levels
from vexfs._core.vindex import DTYPES, K_MAX, METRICS, VectorIndex

READY = [name for name, word in levels().items() if word == "ready"]
NONE = 0xFFFFFFFF


def clustered(n, dim, seed=0, clusters=40, spread=0.6):
    """Weak clusters, as embeddings of texts have them."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, dim))
    points = centres[rng.integers(0, clusters, n)] + spread * 2 * rng.normal(size=(n, dim))
    return points.astype(np.float32)


def distances(metric, q, x):
    q, x = q.astype(np.float64), x.astype(np.float64)
    if metric == "l2":
        return np.sqrt(np.maximum(0, (q**2).sum(1)[:, None] + (x**2).sum(1) - 2 * q @ x.T))
    if metric == "dot":
        return -q @ x.T
    size = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    return 1 - np.divide(q @ x.T, size, out=np.zeros((len(q), len(x))), where=size > 0)


def trained(index):
    while index.maintain(200):
        pass
    return index


def rested(index, since):
    """Waits until it may learn anew, of which it does nothing for twenty times as long as it took, `since` then."""
    until(lambda: index.may_learn, 60 + 25 * (time.monotonic() - since))


def filled(x, metric="cosine", dtype="f32", train=True, **options):
    index = VectorIndex(x.shape[1], metric, dtype, **options)
    index.put(np.arange(len(x)), index.encode(x))
    return trained(index) if train else index


def recall(found, exact):
    return np.mean([len(set(a.tolist()) & set(b.tolist())) / len(b) for a, b in zip(found, exact, strict=True)])


def nearest(metric, q, x, k):
    return np.argsort(distances(metric, q, x), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_answers_are_those_of_numpy(metric, dtype):
    x, q = clustered(700, 100), clustered(9, 100, 1)
    index = filled(x, metric, dtype, train=False)
    kept = index.decode(index.encode(x))
    expected = distances(metric, q, kept)
    rows, found, n = index.search(q, 20, exact=True)
    assert np.all(n == 20)
    assert found == pytest.approx(np.sort(expected, axis=1)[:, :20], rel=2e-4, abs=2e-4)
    assert found == pytest.approx(np.take_along_axis(expected, rows.astype(np.int64), 1), rel=2e-4, abs=2e-4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_lists_find_what_is_near(metric, dtype):
    x, q = clustered(8000, 96), clustered(200, 96, 1)
    index = filled(x, metric, dtype)
    assert index.stats()["lists"] > 100
    expected = nearest(metric, q, index.decode(index.encode(x)), 10)
    work = {}
    rows, found, _ = index.search(q, 10, recall=0.95, work=work)
    assert work["plan"] == "lists" and work["scanned"] < 200 * 8000
    assert recall(rows, expected) >= 0.95
    true = np.take_along_axis(distances(metric, q, index.decode(index.encode(x))), rows.astype(np.int64), 1)
    assert found == pytest.approx(true, rel=1e-3, abs=1e-3)
    assert np.all(np.diff(found, axis=1) >= 0)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_query_takes_the_lists_that_it_needs(metric):
    """Near its neighbours a query takes fewer lists than between clusters; one unlike all rows comes to an end, too."""
    x = np.concatenate([clustered(8000, 64, spread=0.1), clustered(8000, 64, 1, spread=1)])
    index = filled(x, metric)

    def looked(q):
        lists, found = [], []
        for one in q:
            work = {}
            found.append(index.search(one[None], 10, recall=0.95, work=work)[0][0])
            lists.append(work["lists"])
        return np.array(lists), recall(found, nearest(metric, q, x, 10)), work["lists_total"]

    near, near_recall, total = looked(clustered(100, 64, 2, spread=0.1))
    between, between_recall, _ = looked(clustered(100, 64, 3, spread=1))
    far, _, _ = looked(np.random.default_rng(4).normal(size=(100, 64)).astype(np.float32))
    assert near.mean() < 0.6 * between.mean()
    assert (near_recall + between_recall) / 2 >= 0.93
    assert max(between.max(), far.max()) < total / 4


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_recall_of_every_k(metric, k):
    x, q = clustered(30_000, 64), clustered(1000, 64, 1)
    index = filled(x, metric)
    expected = index.search(q, k, exact=True)[0]
    for asked in (0.9, 0.95, 0.99):
        assert recall(index.search(q, k, recall=asked)[0], expected) >= asked - 0.01


def test_many_rows_that_are_nearly_as_good():
    """Of thousands of nearly equal products some seem better than they are; that keeps no others out."""
    rng = np.random.default_rng(0)
    x = ((rng.random((40_000, 32)) < 0.1) + 1e-3 * rng.normal(size=(40_000, 32))).astype(np.float32)
    index, expected = filled(x, "dot"), nearest("dot", x[:300], x, 10)
    for asked, got in ((0.95, 0.85), (0.99, 0.95)):  # 0.74 and 0.85, as long as that was so
        assert recall(index.search(x[:300], 10, recall=asked)[0], expected) > got


@pytest.mark.parametrize("metric", METRICS)
def test_a_second_look_loses_nothing(metric):
    """Where the best estimates turn out too good, the search begins again: what it had found by then it finds again."""
    rng = np.random.default_rng(0)
    x, q = ((20 + rng.normal(size=(n, 128))).astype(np.float32) for n in (40_000, 6000))
    index = filled(x, metric)
    for k in (1, 2):
        assert np.all(index.search(q, k, recall=0.9)[2] == k)


def test_all_neighbours_are_found_by_comparing_all_rows():
    """Bits of 32 dimensions, of which many products are nearly equal, are more than estimates can tell apart."""
    rng = np.random.default_rng(0)
    x = ((rng.random((20_000, 32)) < 0.1) + 1e-3 * rng.normal(size=(20_000, 32))).astype(np.float32)
    work = {}
    index = filled(x, "dot")
    rows, _, _ = index.search(x[:100], 10, recall=1, work=work)
    assert work["plan"] == "exact" and recall(rows, nearest("dot", x[:100], x, 10)) > 0.999
    index.search(x[:1], 10, recall=1, effort=5, work=work)
    assert work["plan"] == "lists"


def test_rows_of_every_length():
    rng = np.random.default_rng(5)
    x = (clustered(12_000, 64) * np.exp(1.3 * rng.normal(size=(12_000, 1)))).astype(np.float32)
    q = x[rng.choice(len(x), 100)] + np.float32(0.3) * clustered(100, 64, 6)
    rows, _, _ = filled(x, "l2").search(q, 10, recall=0.95)
    assert recall(rows, nearest("l2", q, x, 10)) >= 0.93


@pytest.mark.parametrize("dim", [64, 384])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_rows_that_are_nearly_the_same(metric, dim):
    """A thousand to a cluster, nearer to each other than what rounding takes of a vector."""
    x, q = (clustered(n, dim, seed, clusters=20, spread=0.005) for n, seed in ((20_000, 0), (100, 1)))
    index, expected = filled(x, metric), nearest(metric, q, x, 10)
    assert recall(index.search(q, 10, recall=0.95)[0], expected) >= 0.88
    assert recall(index.search(q, 10, recall=1.0)[0], expected) >= 0.97
    rows = index.search(x[:200], 3, recall=1.0, threshold=1e-6 if metric == "cosine" else 1e-3)[0]
    assert recall(rows[:, :1], np.arange(200)[:, None]) >= 0.99


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_queries_that_are_far_from_all_rows(metric):
    """What a level of recall takes is known of queries that are like rows; others are to get most of it, too."""
    x, q = clustered(20_000, 64, spread=0.05, clusters=200), clustered(100, 64, 9, spread=1, clusters=100)
    rows, _, _ = filled(x, metric).search(q, 10, recall=0.95)
    assert recall(rows, nearest(metric, q, x, 10)) >= 0.84


def between(n, x, seed):
    """Queries of another kind than rows: means of three of them."""
    return x[np.random.default_rng(seed).integers(0, len(x), (n, 3))].mean(axis=1)


@pytest.mark.parametrize("metric", METRICS)
def test_what_recall_takes_is_learnt_from_what_is_asked(metric):
    x = clustered(20_000, 64, spread=0.3)
    q, more = between(200, x, 9), between(300, x, 10)
    index, expected = filled(x, metric), nearest(metric, q, x, 10)
    at_first = recall(index.search(q, 10, recall=0.95)[0], expected)
    index = filled(x, metric)
    for one in (*more[:63], *more[:63]):
        index.search(one[None], 10, recall=0.95)
    assert not index.may_learn  # too few that differ
    for one in more:
        index.search(one[None], 10, recall=0.95)
    assert index.may_learn
    while index.maintain(1):
        index.search(more[:2], 10, recall=0.95)  # meanwhile
    assert not index.may_learn
    for asked in (0.8, 0.95, 0.99):
        assert recall(index.search(q, 10, recall=asked)[0], expected) >= asked - 0.015
    assert at_first < 0.9


@pytest.mark.parametrize("metric", METRICS)
def test_what_recall_takes_is_known_of_queries_that_were_expected(metric):
    x = clustered(20_000, 64, spread=0.3)
    q = between(200, x, 9)
    expected = nearest(metric, q, x, 10)
    index = VectorIndex(64, metric, "f32")
    index.expect(between(256, x, 10))
    index.put(np.arange(len(x)), index.encode(x))
    trained(index)
    for asked in (0.8, 0.95, 0.99):
        assert recall(index.search(q, 10, recall=asked)[0], expected) >= asked - 0.015
    index.expect(between(256, x, 11))
    assert not index.may_learn  # lists that are in use are left
    index.expect(q[:0])
    with pytest.raises(ValueError, match="queries of 63 dimensions; the index has 64"):
        index.expect(np.ascontiguousarray(q[:, :63]))


@pytest.mark.timeout(1200)  # it waits for twenty times as long as learning takes here
def test_what_was_learnt_is_kept_until_other_things_are_asked():
    x = clustered(20_000, 64, spread=0.3)
    q, rows = between(256, x, 9), clustered(2600, 64, 7, spread=0.3)
    index = filled(x)

    def lists_of(q):
        work = {}
        index.search(q, 10, recall=0.95, work=work)
        return work["lists"] / len(q)

    as_rows = lists_of(rows[:100])
    for one in q:
        index.search(one[None], 10, recall=0.95)
    since = time.monotonic()
    learnt = lists_of(trained(index) and rows[:100])
    assert learnt > 1.5 * as_rows
    stored = io.BytesIO()
    index.dump(stored.write)
    again = VectorIndex.restore(64, "cosine", "f32", read=io.BytesIO(stored.getvalue()).read)
    kept = index.encode(x)
    again.source(lambda first, n: kept[first : first + n].tobytes())
    work = {}
    again.search(rows[:100], 10, recall=0.95, work=work)
    assert work["lists"] / 100 == pytest.approx(learnt)
    for one in rows:
        index.search(one[None], 10, recall=0.95)
    rested(index, since)
    trained(index)
    assert lists_of(rows[:100]) < 1.2 * as_rows


@pytest.mark.timeout(1200)  # it waits for twenty times as long as learning takes here
def test_batches_of_any_number_are_learnt_from():
    """A search for one, and then for eight at a time."""
    index, q = filled(clustered(5000, 16)), np.random.default_rng(2).normal(size=(4801, 16))
    index.search(q[4800:])
    for at in range(0, 800, 8):
        index.search(q[at : at + 8])
    since = time.monotonic()
    trained(index)
    for at in range(800, 4800, 8):
        index.search(q[at : at + 8])
    rested(index, since)


@pytest.mark.parametrize("metric", METRICS)
def test_queries_whose_square_no_float_holds(metric):
    """They come to an end, and nothing is learnt from them."""
    x, q = clustered(20_000, 64), clustered(300, 64, 1)
    index, expected = filled(x, metric), nearest(metric, q, x, 10)
    for scale in (1e18, 1e19, 1e25, 1e36):
        index.search(q * np.float32(scale), 10)
    for one in q:
        index.search(one[None] * np.float32(1e25), 10)
    trained(index)
    assert recall(index.search(q, 10, recall=0.95)[0], expected) >= 0.94


@pytest.mark.parametrize("level", READY)
def test_every_level_finds_the_same(level):
    x, q = clustered(5000, 384), clustered(60, 384, 1)
    index = filled(x, simd=Simd(level), pool=Pool())
    rows, _, _ = index.search(q, 10, recall=0.99)
    assert recall(rows, nearest("cosine", q, x, 10)) >= 0.97


@pytest.mark.parametrize("dim", [1, 2, 3, 63, 64, 65, 128, 200, 1000])
@pytest.mark.parametrize("metric", METRICS)
def test_dimensions(dim, metric):
    x, q = clustered(1800, dim, 3), clustered(10, dim, 4)
    index = filled(x, metric, train=False)
    found = index.search(q, 5, exact=False, recall=0.999)[1]
    assert found == pytest.approx(index.search(q, 5, exact=True)[1], rel=0.05, abs=0.02)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("metric", METRICS)
def test_few_dimensions_are_compared_as_they_are(dim, metric):
    x, q = clustered(6000, dim, 3), clustered(50, dim, 4)
    work = {}
    found = filled(x, metric).search(q, 5, recall=0.9, work=work)[1]
    assert work["plan"] == "exact"
    assert found == pytest.approx(np.sort(distances(metric, q, x), axis=1)[:, :5], rel=1e-4, abs=1e-4)


def test_the_largest_dimension():
    x = clustered(70, 65536)
    index = filled(x, "l2", "i8", train=False)
    rows, _, _ = index.search(x, 1, exact=False)
    assert rows[:, 0].tolist() == list(range(70))
    assert index.search(x, 1, exact=True)[0][:, 0].tolist() == list(range(70))


def test_few_rows():
    index = VectorIndex(8)
    q = np.ones((2, 8), np.float32)
    for exact in (None, True, False):
        rows, found, n = index.search(q, 3, exact=exact)
        assert np.all(n == 0) and np.all(rows == NONE) and np.all(np.isinf(found))
    assert len(index) == 0 and not index.maintain(5)
    index.put([0], index.encode(q[:1]))
    for exact in (None, True, False):
        rows, found, n = index.search(q, 3, exact=exact)
        assert n.tolist() == [1, 1] and rows[:, 0].tolist() == [0, 0] and found[0, 0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_equal_rows_come_in_their_order(exact):
    index = filled(np.tile(clustered(1, 32), (6000, 1)), train=not exact)
    rows, found, n = index.search(clustered(1, 32), 100, exact=exact, recall=1)
    assert n[0] == 100 and found == pytest.approx(0, abs=1e-5)
    assert len(set(rows[0].tolist())) == 100
    if exact:
        assert rows[0].tolist() == list(range(100))


def test_a_zero_vector_has_distance_one():
    x = clustered(100, 16)
    x[7] = 0
    index = filled(x, train=False)
    rows, found, _ = index.search(x[:3], 100, exact=True)
    assert found[rows == 7] == pytest.approx(1)
    rows, found, n = index.search(np.zeros((1, 16), np.float32), 5)
    assert n[0] == 5 and found == pytest.approx(1)


@pytest.mark.parametrize("k", [1, 10, 1000, K_MAX])
def test_k(k):
    x, q = clustered(12000, 48), clustered(3, 48, 1)
    index = filled(x, "l2")
    rows, _, n = index.search(q, k, recall=0.99)
    assert np.all(n == k)
    assert recall(rows, nearest("l2", q, x, k)) >= 0.95
    assert all(len(set(r.tolist())) == k for r in rows)


def test_more_than_there_is():
    x = clustered(5000, 32)
    index = filled(x)
    rows, _, n = index.search(x[:2], 6000, recall=0.5)
    assert n.tolist() == [5000, 5000] and sorted(rows[0, :5000].tolist()) == list(range(5000))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001, 0.0])
def test_masks(share):
    x, q = clustered(9000, 64), clustered(20, 64, 1)
    index = filled(x)
    allowed = np.random.default_rng(5).random(9000) < share
    mask = np.packbits(np.pad(allowed, (0, -9000 % 64)), bitorder="little").view(np.uint64)
    for exact in (None, True, False):
        rows, _, n = index.search(q, 10, mask=mask, exact=exact, recall=0.99)
        assert np.all(n == min(10, allowed.sum()))
        assert all(allowed[r[:m]].all() for r, m in zip(rows.astype(np.int64), n, strict=True))
        if n[0]:
            names = np.flatnonzero(allowed)
            expected = names[nearest("cosine", q, x[names], int(n[0]))]
            assert recall(rows[:, : n[0]], expected) >= (1 if exact else 0.95)


def test_a_mask_of_one_row_and_a_short_one():
    x = clustered(9000, 64)
    index = filled(x)
    mask = np.zeros(141, np.uint64)
    mask[70] = 1 << 33
    assert index.search(x[:1], 5, mask=mask)[0][0, 0] == 70 * 64 + 33
    assert index.search(x[:1], 5, mask=mask)[2][0] == 1
    few = np.array([~np.uint64(0)], np.uint64)
    assert set(index.search(x[5000:5001], 100, mask=few)[0][0, :64].tolist()) == set(range(64))
    assert index.search(x[:1], 5, mask=np.empty(0, np.uint64))[2][0] == 0


def test_only_some_rows():
    x, q = clustered(6000, 64), clustered(4, 64, 1)
    index = filled(x)
    index.remove([30])
    only = np.array([10, 20, 30, 5999, 70000], np.uint32)
    rows, _, n = index.search(q, 10, rows=only)
    assert n.tolist() == [3] * 4 and all(set(r[:3].tolist()) == {10, 20, 5999} for r in rows)
    assert index.search(q, 10, rows=[])[2].tolist() == [0] * 4


def test_removed_rows_are_gone_and_come_back():
    x = clustered(6000, 64)
    index = filled(x)
    assert index.remove(np.arange(0, 6000, 2)) == 3000 and index.remove([0, 2, 100000]) == 0
    assert len(index) == 3000 and 1 in index and 0 not in index and 100000 not in index
    for exact in (True, False):
        rows = index.search(x[:50], 10, exact=exact, recall=0.99)[0]
        assert np.all(rows % 2 == 1)
    index.put(np.arange(0, 6000, 2), index.encode(x[::2]))
    assert index.search(x[:50], 1, recall=0.99)[0][:, 0].tolist() == list(range(50))
    assert len(index) == 6000


def test_replaced_rows_answer_for_their_new_vectors():
    x, other = clustered(6000, 64), clustered(6000, 64, 8)
    index = filled(x)
    index.put(np.arange(3000), index.encode(other[:3000]))
    now = np.concatenate([other[:3000], x[3000:]])
    q = clustered(50, 64, 1)
    rows, _, _ = index.search(q, 10, recall=0.99)
    assert recall(rows, nearest("cosine", q, now, 10)) >= 0.97
    assert all(len(set(r.tolist())) == 10 for r in rows)
    assert len(index) == 6000


def test_churn_does_not_cost_recall():
    rng = np.random.default_rng(3)
    x, q = clustered(8000, 64), clustered(100, 64, 1)
    index = filled(x)
    for turn in range(2):
        x = clustered(8000, 64, 20 + turn)
        for at in rng.permutation(8000).reshape(20, 400):
            index.put(at, index.encode(x[at]))
            index.maintain(1)
    trained(index)
    exact = nearest("cosine", q, x, 10)
    churned, fresh = (recall(i.search(q, 10)[0], exact) for i in (index, filled(x)))
    assert churned >= fresh - 0.01
    assert index.stats()["dead"] < 8000


def test_encoding():
    x = clustered(50, 33)
    for dtype, within in (("f32", 0), ("f16", 2e-3), ("bf16", 1e-2), ("i8", 0.05)):
        index = VectorIndex(33, "l2", dtype)
        stored = index.encode(x)
        assert stored.shape == (50, index.row_bytes) and stored.dtype == np.uint8
        assert np.abs(index.decode(stored) - x).max() <= within * np.abs(x).max()
    bad = x.copy()
    bad[3, 4] = np.nan
    with pytest.raises(ValueError, match="vector 3 holds a value that is not a finite number"):
        VectorIndex(33).encode(bad)
    bad[3, 4] = 1e6
    with pytest.raises(ValueError, match="vector 3 holds a value outside the range of f16"):
        VectorIndex(33, dtype="f16").encode(bad)
    assert VectorIndex(33).encode(bad).shape == (50, 132)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VectorIndex(0), "dim: must be 1 to 65536, got 0"),
        (lambda: VectorIndex(65537), "dim"),
        (lambda: VectorIndex(3, "hamming"), "metric: no metric is named 'hamming'"),
        (lambda: VectorIndex(3, dtype="f64"), "dtype: no dtype is named 'f64'"),
        (lambda: VectorIndex(3).encode(np.ones((2, 4))), r"shape \(n, 3\), got \(2, 4\)"),
        (lambda: VectorIndex(3).put([1], np.ones((1, 12))), "uint8"),
        (lambda: VectorIndex(3).put([1, 2], np.ones((1, 12), np.uint8)), "as many stored rows as numbers"),
        (lambda: VectorIndex(3).search(np.ones((1, 3)), 0), "k: must be 1 to 10000, got 0"),
        (lambda: VectorIndex(3).search(np.ones((1, 3)), 10001), "k"),
        (lambda: VectorIndex(3).search(np.ones((1, 3)), recall=0), "recall"),
        (lambda: VectorIndex(3).search(np.ones(3)), "shape"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
