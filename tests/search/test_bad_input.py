"""What cannot be is refused by a message that names it, and nothing of the batch is stored."""

import datetime as dt

import numpy as np
import pytest

from vexfs.errors import FilterInvalid, InvalidArgument, NotADirectory, QueryInvalid, SearchError, ValueTooLarge


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
    assert told[0] is None and ("1e+300" in str(told[1]) or "inf" in str(told[1]))
