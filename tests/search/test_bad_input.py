"""What cannot be is refused by a message that names it, and nothing of the batch is stored."""

import datetime as dt

import numpy as np
import pytest

from vexfs.errors import (
    FilterInvalid,
    IndexMissing,
    InvalidArgument,
    NoSpace,
    NotADirectory,
    QueryInvalid,
    SearchError,
    ValueTooLarge,
    VexfsError,
)


@pytest.fixture
def points(fs):
    made = fs.index("points", dim=2)
    made.upsert(["a", "b"], [[1, 0], [0, 1]])
    return made


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1 + 2j, 0]], "are numbers.*not complex128"),
        (np.array([["2020", "2021"]], "datetime64[Y]"), "are numbers.*not datetime64"),
        ([["1", "2"]], "are numbers"),
        ([[1, 2], [3, 4]], "2 vectors for 1 ids"),
    ],
)
def test_what_is_no_vector(points, rows, message):
    with pytest.raises(SearchError, match=message):
        points.upsert(["c"], rows)
    with pytest.raises(SearchError, match="are numbers|shape"):
        points.query([rows[0]] if len(rows) == 1 else [rows])
    assert points.count() == 2


def test_a_number_that_is_too_large(points):
    with pytest.raises(SearchError, match="vector 1 has (1e[+]300|inf) at place 0; "):
        points.upsert(["c", "d"], [[1, 1], [1e300, 0]])
    assert points.get("c") is None


@pytest.mark.parametrize(
    "options",
    [
        {"recall": "high"}, {"effort": 0}, {"effort": 1.5}, {"exact": "no"}, {"threshold": "near"}, {"k": "5"},
    ],
)  # fmt: skip
def test_options_of_the_wrong_kind(points, options):
    (name,) = options
    with pytest.raises(QueryInvalid, match=name):
        points.query([1, 0], **options)


def test_numbers_of_files_that_cannot_be(fs, points):
    for k in (0, 10_001, 20_000):
        for call in (fs.similar, lambda _, k: fs.search([1, 0], k)):
            with pytest.raises(QueryInvalid, match="k"):
                call("points/a", k=k)


def test_below_a_file_there_is_nothing_to_search(fs, points):
    for call in (lambda: points.query([1, 0], under="points/a"), lambda: fs.search([1, 0], under="points/a"),
                 lambda: points.count(under="points/a")):  # fmt: skip
        with pytest.raises(NotADirectory, match="points/a"):
            call()


def test_one_record_by_its_id(points):
    assert points.upsert("alone", [1, 1], {"year": 2020}, "text") == 1
    assert points.get("alone").attributes == {"year": 2020} and points.count() == 3
    assert points.upsert([], []) == 0


def test_attributes_that_cannot_be(points):
    for value in ([1], dt.date(2020, 1, 1)):
        with pytest.raises((InvalidArgument, TypeError), match="'x'"):
            points.upsert(["c"], [[1, 0]], [{"x": value}])
    with pytest.raises(ValueTooLarge, match="64 KiB"):
        points.upsert(["c"], [[1, 0]], [{"x": "a" * 70_000}])
    assert points.get("c") is None


def test_more_attributes_than_a_file_can_have(fs, points):
    names = [f"{k:03}{'x' * 240}" for k in range(600)]
    for given in (dict.fromkeys(names[:300], 1), dict.fromkeys(names[:20], "y" * 60_000)):
        with pytest.raises(NoSpace, match=r"\bd\b"):
            points.upsert(["c", "d", "e"], np.ones((3, 2)), attributes=[{}, given, {}])
        assert sorted(fs.listdir("points")) == ["a", "b"]
    points.upsert(["a"], [[2, 0]], attributes=[dict.fromkeys(names[:150], 1)])
    with pytest.raises(NoSpace, match=r"\ba\b"):
        points.update(["b", "a"], [[0, 2], [4, 0]], attributes=[{"k": 1}, dict.fromkeys(names[150:300], 1)])
    assert (points.get("b").attributes, points.get("a").vector.tolist()) == ({}, [2, 0])
    told = points.upsert(["a", "f"], [[4, 0], [1, 1]], attributes=[dict.fromkeys(names, 1), {}], errors="report")
    assert [type(each) for each in told] == [NoSpace, type(None)]
    large = dict.fromkeys(names[:15], "y" * 60_000)
    for _ in range(2):  # in place of those that it has
        points.upsert(["f"], [[1, 1]], attributes=[large])
    assert points.get("f").attributes == large
    assert sorted(hit.id for hit in points.query([1, 1], k=9)) == ["a", "b", "f"]


def test_ids_that_cannot_be(points):
    points.upsert(["sub/x"], [[1, 0]])
    with pytest.raises(IsADirectoryError, match="'sub'|sub: "):
        points.upsert(["sub"], [[1, 0]])
    with pytest.raises(ValueError, match="surrogate"):
        points.upsert(["\ud800"], [[1, 0]])


def test_a_filter_is_a_mapping(points):
    for where in ([], "year>2020", 5):
        with pytest.raises((FilterInvalid, QueryInvalid, TypeError, ValueError)):
            points.query([1, 0], where=where)


def test_reports_of_batches_that_do_not_fit(points):
    with pytest.raises(SearchError, match="shape|vectors for 2"):
        points.upsert(["c", "d"], [[1, 0]], errors="report")
    told = points.upsert(["c", "d"], [[1, 0], [1e300, 0]], errors="report")
    assert told[0] is None and ("1e+300" in str(told[1]) or "inf" in str(told[1])) and "vector 1 " in str(told[1])
    for ids, attributes in ((["e", ".."], None), (["e", "e"], None), (["e", "f"], [{}, {"x": [1]}])):
        with pytest.raises(InvalidArgument):
            points.upsert(ids, [[1, 0], [0, 1]], attributes, errors="report")
    assert points.get(["e"]) == [None]


def test_what_a_nested_index_has_is_for_that_one(fs, points):
    inner = fs.index("points/in", dim=2)
    inner.upsert(["x"], [[1, 0]])
    with pytest.raises(InvalidArgument, match="another index, /points/in"):
        points.upsert(["in/y"], [[1, 0]])
    assert points.count() == 2 and inner.count() == 1
    fs.drop_index("points/in")


def test_names_of_the_volumes_own_have_no_index(fs):
    for place in (".vexfs", "a/.vexfs/b"):
        with pytest.raises(VexfsError, match="volume's own"):
            fs.index(place, dim=2)
    assert not any(".vexfs" in each.path for each in fs.indexes())


def test_an_index_that_was_dropped_says_so(fs, points):
    fs.drop_index("points")
    for call in (lambda: points.query([1, 0]), points.count, lambda: points.upsert(["c"], [[1, 0]]), points.describe):
        with pytest.raises(IndexMissing, match="no more|no index"):
            call()


def test_what_a_type_cannot_tell_from_zero(fs):
    small = fs.index("small", dim=2, dtype="f16")
    with pytest.raises(SearchError, match="vector 1 .*f16"):
        small.upsert(["a", "b"], [[1, 0], [1e-9, 1e-9]])
    assert small.count() == 0
    assert fs.index("scaled", dim=2, dtype="i8").upsert(["a"], [[1e-9, 1e-9]]) == 1


def test_reading_twice_is_no_fault(points):
    assert [each and each.id for each in points.get(["a", "zz", "a"])] == ["a", None, "a"]
    assert points.delete(["a", "a"]) == 1


def test_an_empty_filter_removes_nothing(points):
    with pytest.raises(FilterInvalid, match="every record.*path"):
        points.delete(where={})
    assert points.count(where={}) == 2
    assert points.delete(where={"$path": "*"}) == 2


def test_an_update_of_nothing(points):
    with pytest.raises(InvalidArgument, match="vectors, attributes"):
        points.update(["a"])


def test_a_watch_that_makes_no_sense(fs):
    for options in ({"threshold": "near"}, {"call": 5}):
        with pytest.raises(QueryInvalid, match=next(iter(options))):
            fs.watch("x", **options)


def test_what_is_the_volumes_own_cannot_be_reached(fs):
    fs.index("points", dim=2).upsert(["a"], [[1, 0]])
    own = "/.vexfs/indexes.json"
    for call in (
        lambda: fs.listdir("/.vexfs"), lambda: fs.remove(own), lambda: fs.rmtree(".vexfs"), lambda: fs.read_bytes(own),
        lambda: fs.rename(own, "/x"), lambda: fs.link(own, "/x"), lambda: fs.copy(own, "/x"),
        lambda: fs.symlink(own, "/x"), lambda: fs.open(own, "r+b"), lambda: fs.path(own).unlink(),
        lambda: fs.mkdir("points/.vexfs"), lambda: fs.index(".vexfs/deep", dim=2),
    ):  # fmt: skip
        with pytest.raises(PermissionError, match="volume's own"):
            call()
    assert not fs.exists(own) and not fs.path("/.vexfs").is_dir() and not list(fs.path("/").glob(".vexfs*"))
    assert not fs.exists("/x") and fs.index("points").count() == 1
    fs.write_text("points/.vexfs-load", "a name of its own")
    assert set(fs.listdir("points")) == {".vexfs-load", "a"}
    fs.drop_index("points")
