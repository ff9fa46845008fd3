"""What a caller gives, checked as a whole."""

import struct

import numpy as np
import pytest

import vexfs
from vexfs._core.record import names_of, pack
from vexfs.errors import InvalidArgument, VectorInvalid
from vexfs.search.records import contents_of, parse_vector, vectors_of
from vexfs.store.rows import unpack_xattrs


def test_a_single_vector_is_one_row():
    assert vectors_of([1, 2, 3], 3, "l2").shape == (1, 3)
    assert vectors_of(np.ones((5, 3), np.float64), 3, "cosine").dtype == np.float32


def test_a_column_whose_values_are_vectors(tmp_path):
    column = np.empty(2, object)
    column[:] = [np.arange(3.0), np.ones(3, np.float16)]
    arrow = pytest.importorskip("pyarrow").FixedSizeListArray.from_arrays([0.0, 1, 2, 1, 1, 1], 3)
    for vectors in (column, arrow, pytest.importorskip("pandas").Series(list(column))):
        np.testing.assert_array_equal(vectors_of(vectors, 3, "l2"), [[0, 1, 2], [1, 1, 1]])


@pytest.mark.parametrize("dtype", ["f32", "bf16", "i8"])
def test_the_smallest_vectors_that_are_taken_are_found(tmp_path, dtype):
    small = np.float32([[2.0**-119, 0, 0], [0, 2.0**-119, 2.0**-120]])
    with vexfs.open(tmp_path / "v.vex") as fs:
        index = fs.index("p", dim=3, dtype=dtype)
        index.upsert(["a", "b"], small)
        for at, scores in ((0, [1, 0]), (1, [1, 0])):
            found = index.query(small[at], k=2)
            assert [hit.path for hit in found] == ["/p/" + "ab"[at], "/p/" + "ba"[at]]
            assert [hit.score for hit in found] == pytest.approx(scores, abs=0.01)


@pytest.mark.parametrize(
    ("vectors", "metric", "message"),
    [
        ([[1, 2]], "l2", "vectors of shape 1x2; the index holds vectors of dimension 3"),
        ([[1, 2, 3], [1, np.nan, 3]], "l2", "vector 1 has nan at place 1"),
        ([[1, 2, np.inf]], "dot", "vector 0 has inf at place 2"),
        ([[1, 2, 3], [0, 0, 0]], "cosine", "vector 1 is all zeros"),
        ([[1, 2, 3], [1e-45, 0, 0]], "cosine", "vector 1 has no number above 1.4013e-45, which is as good as zeros"),
        ([[-1e-36, 0, 0]], "cosine", "vector 0 has no number above 1e-36, which is as good as zeros"),
        ("abc", "l2", "vectors are numbers"),
        (np.array([[1, 2, 3], [1, 2]], object), "l2", "vectors are numbers"),
        (3.0, "l2", "of shape scalar"),
    ],
)
def test_vectors_that_cannot_be(vectors, metric, message):
    with pytest.raises(VectorInvalid) as caught:
        vectors_of(vectors, 3, metric)
    assert message in str(caught.value)


def test_as_many_vectors_as_ids():
    with pytest.raises(VectorInvalid, match="2 vectors for 3 ids"):
        vectors_of(np.ones((2, 3)), 3, "l2", 3)


@pytest.mark.parametrize("bad", ["", ".", "..", "a//b", "/a", "a/", "a/../b", ".vexfs", "x\0y", "n" * 256])
def test_ids_that_are_no_names(bad):
    with pytest.raises(InvalidArgument):
        names_of(["good", bad])


def test_ids_come_once_and_are_strings():
    assert names_of(["a", b"b", np.str_("c"), "d/e"]) == [b"a", b"b", b"c", b"d/e"]
    with pytest.raises(InvalidArgument, match="'a' comes twice"):
        names_of(["a", "b", "a"])
    with pytest.raises(InvalidArgument, match="id 1 is 7"):
        names_of(["a", 7])


def test_attributes_by_record_and_by_column():
    by_record = pack([{"year": 2020, "lang": "en"}, None, {"ok": True, "text": "12"}], 3)
    assert unpack_xattrs(by_record[0]) == {b"user.year": b"2020", b"user.lang": b"en"}
    assert by_record[1] is None
    assert unpack_xattrs(by_record[2]) == {b"user.ok": b"true", b"user.text": b'"12"'}
    by_column = pack({"year": np.array([1, 2]), "note": ["x", None], "score": [float("nan"), 0.5]}, 2)
    assert [unpack_xattrs(x) for x in by_column] == [
        {b"user.year": b"1", b"user.note": b"x"}, {b"user.year": b"2", b"user.score": b"0.5"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "attributes",
    [
        [{"a": 1}], {"a": [1, 2, 3]}, [{"a": [1]}, {}], [{"": 1}, {}], [{"vexfs.x": 1}, {}], [3, 4],
        [{"n" * 300: 1}, {}], 5,
    ],
)
def test_attributes_that_cannot_be(attributes):
    with pytest.raises(InvalidArgument):
        pack(attributes, 2)


def test_contents_are_text_or_bytes():
    assert contents_of(["ä", b"b", None], 3) == ["ä".encode(), b"b", None]
    with pytest.raises(InvalidArgument, match="content of record 0 is a int"):
        contents_of([3], 1)


def test_a_vector_from_an_attribute():
    want = np.array([0.5, -1, 2e3], np.float32)
    for value in (want.tobytes(), b"0.5,-1,2e3", b"[0.5, -1, 2000]\n"):
        assert np.array_equal(parse_vector(value, 3), want)
    # Eight bytes that are text and a text that has the length of raw floats: the text is meant.
    assert np.array_equal(parse_vector(b"0.1,0.25", 2), np.array([0.1, 0.25], np.float32))
    assert np.array_equal(parse_vector(struct.pack("<2f", 1, 2), 2), [1, 2])
    for bad in (b"", b"1,2", b"abc", b"\0" * 11, b"1,2,3,4"):
        with pytest.raises(VectorInvalid):
            parse_vector(bad, 3)
