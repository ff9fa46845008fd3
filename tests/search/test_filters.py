"""Filters against the plain meaning of their words, on random rows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vexfs._core.columns import Columns, places
from vexfs.errors import FilterInvalid
from vexfs.search.filters import Table, compile_filter
from vexfs.store.attributes import encode
from vexfs.store.rows import pack_xattrs

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5),
    st.sampled_from([2**53, 2**53 + 1, 2**60, 2**60 - 1, 2**60 + 1, -(2**60), -(2**60) - 1, 10**400, -(10**400)]),
    st.sampled_from([2.0**53, 2.0**60, -(2.0**60), 1e308]),
    st.floats(-5, 5).map(lambda v: round(v, 1)), st.sampled_from(["", "a", "b", "ab", "1", "true", "null", "é", '"q"']),
)  # fmt: skip
NAMES = st.sampled_from(["x", "y", "größe"])
ROWS = st.lists(st.dictionaries(NAMES, VALUES, max_size=3), min_size=1, max_size=30)
ORDERED = VALUES.filter(lambda v: v is not None and not isinstance(v, bool))
COMPARISON = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), VALUES),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERED | st.sampled_from([math.inf, -math.inf])),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
)
LEAF = st.one_of(
    st.tuples(NAMES, VALUES).map(lambda t: {t[0]: t[1]}),
    st.tuples(NAMES, st.lists(COMPARISON, min_size=1, max_size=2)).map(lambda t: {t[0]: dict(t[1])}),
    st.tuples(NAMES, COMPARISON).map(lambda t: {t[0]: {"$not": {t[1][0]: t[1][1]}}}),
)
FILTER = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda f: {"$and": f}),
        st.lists(inner, min_size=1, max_size=3).map(lambda f: {"$or": f}),
        inner.map(lambda f: {"$not": f}),
    ),
    max_leaves=6,
)


def kind(value):
    return "bool" if isinstance(value, bool) else "number" if isinstance(value, int | float) else type(value).__name__


def equal(a, b):
    return kind(a) == kind(b) and a == b


def compared(row, name, operator, operand):
    missing = name not in row
    value = row.get(name)
    if operator == "$exists":
        return operand != missing
    if operator == "$eq":
        return not missing and equal(value, operand)
    if operator == "$ne":
        return missing or not equal(value, operand)
    if operator in ("$in", "$nin"):
        found = not missing and any(equal(value, v) for v in operand)
        return found == (operator == "$in")
    if missing or kind(value) != kind(operand):
        return False
    answers = {"$gt": value > operand, "$gte": value >= operand, "$lt": value < operand, "$lte": value <= operand}
    return answers[operator]


def holds(row, where):
    for name, value in where.items():
        if name == "$and":
            good = all(holds(row, w) for w in value)
        elif name == "$or":
            good = any(holds(row, w) for w in value)
        elif name == "$not":
            good = not holds(row, value)
        elif isinstance(value, dict):
            good = all(
                not holds(row, {name: operand}) if operator == "$not" else compared(row, name, operator, operand)
                for operator, operand in value.items()
            )
        else:
            good = compared(row, name, "$eq", value)
        if not good:
            return False
    return True


def table(rows):
    columns = Columns()
    columns.resize(len(rows))
    for k, row in enumerate(rows):
        columns.fill(k, pack_xattrs({b"user." + n.encode(): encode(v) for n, v in row.items()}))
    return Table(columns, len(rows), lambda among: {int(k): f"d/{k}.md" for k in places(among, 1 << 20)[1]})


def found(rows, where):
    return compile_filter(where).rows(table(rows), np.ones(len(rows), np.bool_)).tolist()


@settings(max_examples=300, deadline=None)
@given(ROWS, FILTER)
def test_against_the_meaning_of_the_words(rows, where):
    assert found(rows, where) == [holds(row, where) for row in rows]


def test_an_infinite_number_is_beyond_every_whole_one():
    columns = Columns()
    columns.resize(2)
    for row, text in enumerate((b"1e400", b"-1e400")):
        columns.fill(row, pack_xattrs({b"user.x": text}))
    rows = Table(columns, 2, lambda among: {})
    for operator, whole, expected in (
        ("$lte", 10**400, [False, True]), ("$gt", 10**400, [True, False]), ("$eq", 10**400, [False, False]),
        ("$gte", -(10**400), [True, False]), ("$lt", -(10**400), [False, True]), ("$ne", -(10**400), [True, True]),
    ):  # fmt: skip
        asked = compile_filter({"x": {operator: whole}})
        assert asked.rows(rows, np.ones(2, np.bool_)).tolist() == expected, (operator, whole)


def test_filters_that_look_alike_are_told_apart():
    rows = [{"x": True}, {"x": 1}, {"x": "1"}, {"x": 4607182418800017408}]
    alike = [True, 1, "1", np.int64(4607182418800017408), np.float64(1.0), 1.0]
    meant = [[0], [1], [2], [3], [1], [1]]
    for _ in range(2):
        for value, right in zip(alike, meant, strict=True):
            assert np.flatnonzero(found(rows, {"x": value})).tolist() == right


def test_only_rows_that_were_asked_about():
    rows = [{"x": 1}] * 4
    among = np.array([True, False, True, False])
    assert compile_filter({"x": 1}).rows(table(rows), among).tolist() == among.tolist()
    assert compile_filter({"$not": {"x": 2}}).rows(table(rows), among).tolist() == among.tolist()


def test_a_row_that_is_filled_again_forgets():
    columns = Columns()
    columns.fill(3, pack_xattrs({b"user.a": b"1", b"user.vexfs.z": b"1", b"trusted.b": b"2"}))
    columns.fill(3, pack_xattrs({b"user.c": b"text"}))
    assert set(columns.columns) == {"a", "c"}
    over = Table(columns, 4, lambda among: {})
    every = np.ones(4, np.bool_)
    assert compile_filter({"a": {"$exists": True}}).rows(over, every).tolist() == [False] * 4
    assert compile_filter({"c": "text"}).rows(over, every).tolist() == [False, False, False, True]


def test_paths_by_pattern():
    rows = [{"x": k} for k in range(12)]
    assert found(rows, {"$path": "d/1*.md"}) == [k in (1, 10, 11) for k in range(12)]
    assert found(rows, {"$path": "*.md", "x": {"$lt": 2}}) == [k < 2 for k in range(12)]


@pytest.mark.parametrize(
    ("where", "named"),
    [
        (["x"], "where: a filter is a mapping"),
        ({"$nor": []}, "where.$nor: unknown operator"),
        ({"x": {"$like": 1}}, "where.x: unknown comparison '$like'"),
        ({"x": {}}, "where.x: no comparison"),
        ({"$and": {}}, "where.$and: $and takes a list"),
        ({"$or": [{"x": {"$in": 3}}]}, "where.$or[0].x.$in: takes a list of values, not 3"),
        ({"x": {"$gt": None}}, "where.x.$gt: None has no order"),
        ({"x": {"$lt": True}}, "where.x.$lt: True has no order"),
        ({"x": {"$eq": math.nan}}, "nothing compares with NaN"),
        ({"x": [1]}, "where.x: compares with a string, number, boolean or None, not with [1]"),
        ({"x": {"$exists": 1}}, "takes true or false"),
        ({"$path": 3}, "$path takes a pattern"),
        ({1: 2}, "an attribute's name is a string"),
    ],
)
def test_what_cannot_be_is_named(where, named):
    with pytest.raises(FilterInvalid) as caught:
        compile_filter(where)
    assert named in str(caught.value)


def test_too_deep_is_refused():
    where = {"x": 1}
    for _ in range(200):
        where = {"$not": where}
    with pytest.raises(FilterInvalid, match="at most 32 deep"):
        compile_filter(where)


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 60))
def test_places_of_what_was_found(bools, most):
    bits = np.zeros((len(bools) + 63) // 64, np.uint64)
    packed = np.packbits(np.array(bools, np.bool_), bitorder="little")
    bits.view(np.uint8)[: len(packed)] = packed
    count, found = places(bits, most)
    assert count == sum(bools)
    assert found is None if count > most else found.tolist() == np.flatnonzero(bools).tolist()


def test_very_many_names_take_columns_only_when_they_are_asked_for(fs, vectors):
    index = fs.index("t", dim=32)
    ids = [f"{k}" for k in range(400)]
    index.upsert(ids, vectors[:400], [{f"name{k}": k, f"other{k}": str(k), "all": k} for k in range(400)])
    for k in (0, 7, 150, 399):
        assert [hit.id for hit in index.query(vectors[0], 9, where={f"name{k}": k, f"other{k}": str(k)})] == [f"{k}"]
        assert not index.query(vectors[0], 9, where={f"name{k}": k + 1})
        assert len(index.query(vectors[0], 400, where={f"other{k}": {"$exists": False}})) == 399
    assert not index.query(vectors[0], 9, where={"\ud800": 1})
    for k in range(150):  # more than are kept
        assert index.query(vectors[0], 9, where={f"name{k}": {"$gte": 0}})[0].id == f"{k}"
    assert [hit.id for hit in index.query(vectors[0], 9, where={"all": 8})] == ["8"]
    index.update(["8"], attributes=[{"name399": 399, "late": True}])
    index.upsert(["new"], vectors[400:401], [{"later": True}])
    for name, found in (("name399", {"8", "399"}), ("late", {"8"}), ("later", {"new"})):
        assert {hit.id for hit in index.query(vectors[0], 9, where={name: {"$exists": True}})} == found
    many = {"$or": [{f"name{k}": k} for k in range(200, 320)]}
    assert len(index.query(vectors[0], 400, where=many)) == 120
    assert {hit.id for hit in index.query(vectors[0], 9, where={"late": True})} == {"8"}
    assert len(index._reader.columns.columns) <= 130
