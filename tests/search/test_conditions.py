"""Filters as people type them, and what is shown of a hit."""

import pytest

from vexfs.errors import QueryInvalid
from vexfs.search.conditions import where_of
from vexfs.search.snippet import snippet


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("year>=2020", {"year": {"$gte": 2020}}),
        ("year < 3.5", {"year": {"$lt": 3.5}}),
        ("lang=en,de", {"lang": {"$in": ["en", "de"]}}),
        ("lang!=en,de", {"lang": {"$nin": ["en", "de"]}}),
        ('name="a b"', {"name": {"$eq": "a b"}}),
        ("draft!=true", {"draft": {"$ne": True}}),
        ("author", {"author": {"$exists": True}}),
        ("path=*.md", {"$path": "*.md"}),
        ('note=">2"', {"note": {"$eq": ">2"}}),
        ("note==a=b", {"note": {"$eq": "a=b"}}),
        ('{"$or": [{"a": 1}, {"b": 2}]}', {"$or": [{"a": 1}, {"b": 2}]}),
    ],
)
def test_conditions(text, want):
    assert where_of([text]) == want


def test_several_hold_together():
    assert where_of([]) is None
    assert where_of(["a=1", "b"]) == {"$and": [{"a": {"$eq": 1}}, {"b": {"$exists": True}}]}


@pytest.mark.parametrize("text", ["", ">=3", "{bad", "path>3", "a>1,2", "a!b", "a>>2", "a===b", "a!==b", "a=<2"])
def test_what_is_none_is_refused(text):
    with pytest.raises(QueryInvalid):
        where_of([text])


def test_a_snippet_is_around_the_words():
    text = "filler words " * 100 + "the wombats are digging a burrow " + "more filler " * 100
    part, marks = snippet(text, "Wombat digs burrows", 120)
    assert len(part) <= 124 and part.startswith("… ") and part.endswith(" …")
    assert [part[a:b] for a, b in marks] == ["wombats", "digging", "burrow"][: len(marks)] or len(marks) >= 2
    assert {part[a:b] for a, b in marks} >= {"wombats", "burrow"}


def test_a_short_text_is_shown_whole():
    assert snippet("a\n\n  b\tc", "x") == ("a b c", [])
    assert snippet("", "x") == ("", [])
    part, marks = snippet("Bread, water.", "water bread")
    assert [part[a:b] for a, b in marks] == ["Bread", "water"]
