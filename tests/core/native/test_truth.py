"""The frames' accounting against the stack itself: a thread paints its stack and looks how far the paint is gone."""

import pytest

# name: what was accounted, the truth, violations, prevented, pooled
COLUMNS = ("accounted", "truth", "violations", "prevented", "pooled")


@pytest.fixture(scope="module")
def rows(build, run):
    lines = [line.split() for line in run(build("frame_truth")).splitlines()]
    return {name: dict(zip(COLUMNS, map(int, values), strict=True)) for name, *values in lines}


@pytest.mark.parametrize("case", ["shallow", "middle", "deep", "scratch_small"])
def test_accounting_is_within_a_tenth_of_the_truth(rows, case):
    row = rows[case]
    assert abs(row["accounted"] - row["truth"]) <= row["truth"] / 10


def test_depth_grows_with_the_work(rows):
    assert rows["shallow"]["accounted"] < rows["middle"]["accounted"] < rows["deep"]["accounted"]


def test_only_what_is_deeper_than_the_limit_is_a_violation(rows):
    assert rows["deep"]["truth"] > 3072
    assert {name: row["violations"] for name, row in rows.items() if row["violations"]} == {"deep": 1}


def test_scratch_above_the_threshold_is_not_on_the_stack(rows):
    assert rows["scratch_large"]["pooled"] == 1
    assert rows["scratch_large"]["truth"] < 1000
    assert rows["scratch_small"]["pooled"] == 0
    assert rows["scratch_small"]["truth"] > 900


def test_scratch_that_would_break_the_limit_is_moved(rows):
    """1000 bytes are under the threshold, but not with what stands on the stack already."""
    row = rows["scratch_tight"]
    assert (row["prevented"], row["pooled"], row["violations"]) == (1, 0, 0)
    assert row["truth"] < 1000


def test_painting_sees_what_marks_nothing(rows):
    """The same silent code: unseen by the marks, seen to within a tenth by the paint."""
    truth = rows["silent"]["truth"]
    assert rows["silent"]["accounted"] < truth / 5
    assert abs(rows["silent_painted"]["accounted"] - truth) <= truth / 10
