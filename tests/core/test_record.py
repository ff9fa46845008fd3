"""Attributes between Python and their bytes, against what json says of them."""

import json
import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from vexfs._core.record import decode, encode, pack, unpack
from vexfs.store.rows import unpack_xattrs

NUMBER_LIKE = st.text("0123456789+-.eE tn", max_size=12).map(str.encode)
RAW = st.one_of(st.binary(max_size=20), NUMBER_LIKE, st.sampled_from([
    b"true", b"false", b"null", b"true ", b" null\n", b"NaN", b"Infinity", b"-Infinity", b"truth", b"nul", b"-0",
    b"-0.0", b"1e999", b"9" * 15, b"9" * 16, b"9" * 5000, b'"a"', b'"a', b"[1]", b"{}", b"1.5e3 ", b"[" * 3000,
    b"2020-01-01",
]))  # fmt: skip


def meant(raw):
    def refuse(token):
        raise ValueError(token)

    text = raw.decode("utf-8", "surrogateescape")
    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text
    return value if value is None or isinstance(value, str | int | float) else text


@given(RAW)
def test_bytes_mean_what_json_says(raw):
    value, right = decode(raw), meant(raw)
    assert type(value) is type(right) and value == right


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12),
    RAW.map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)  # fmt: skip


@given(VALUES)
@example(10**15).via("the first that is not written by hand")
@example(-(10**15))
def test_a_value_comes_back(value):
    back = decode(encode(value))
    assert type(back) is type(value) and back == value
    if isinstance(value, float):
        assert math.copysign(1, back) == math.copysign(1, value)


@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda n: "\0" not in n), VALUES, max_size=4)))
def test_records_come_back(rows):
    rows = [{n: v for n, v in row.items() if not n.startswith("vexfs.")} for row in rows]
    packed = pack(rows, len(rows))
    for row, entries in zip(rows, packed, strict=True):
        assert (entries is None) == (not row)
        if row:
            assert unpack(entries) == row
            assert [b"user." + n.encode() for n in row] == list(unpack_xattrs(entries))


def test_numpy_scalars_are_values():
    row = {"a": np.int64(3), "b": np.float32(0.5), "c": np.str_("x"), "d": np.bool_(True)}
    assert unpack(pack([row], 1)[0]) == {"a": 3, "b": 0.5, "c": "x", "d": True}


def test_what_is_no_attribute_is_left_out():
    entry = b"\1\0\0\0\x0b\0\0\0user.vexfs.1"
    assert unpack(b"\1\0\0\0\6\0\0\0user.a1" + b"\1\0\0\0\7\0\0\0other.x1") == {"a": 1}
    assert unpack(entry) == {}
