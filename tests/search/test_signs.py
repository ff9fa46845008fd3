"""Signs of a question, ``+must`` and ``-mustnot``, hold for what is found by meaning, too."""

import pytest

from vexfs.search.signs import signs

TEXTS = {
    "dark.txt": "Dark roasts are bitter.", "light.txt": "Light roasts are sour.",
    "decaf.txt": "Decaf dark roast, bitter without effect.", "tea.txt": "Green tea is brewed at eighty degrees.",
}  # fmt: skip


@pytest.fixture
def roasts(fs):
    fs.index("docs", embedder="default")
    for name, text in TEXTS.items():
        fs.write_text(f"docs/{name}", text)
    assert fs.ingest.wait(120)
    return fs


def names(fs, question, **options):
    return sorted(hit.path.removeprefix("/docs/") for hit in fs.search(question, **options))


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("bitter roast -decaf", ["dark.txt", "light.txt", "tea.txt"]),
        ("-decaf", ["dark.txt", "light.txt", "tea.txt"]),
        ("roast +sour", ["light.txt"]),
        ("+dark +bitter -decaf", ["dark.txt"]),
        ('roast -"tea is brewed"', ["dark.txt", "decaf.txt", "light.txt"]),
        ("coffee +de* -effect", ["tea.txt"]),
        ("+roast +unheard", []),
        ("roast -unheard", sorted(TEXTS)),
        ("roast +!!! -...", sorted(TEXTS)),
        ("a well-roasted bean - and + more", sorted(TEXTS)),
        ('"dark roast', sorted(TEXTS)),
    ],
)
def test_signs_hold_in_the_default_mode(roasts, question, found):
    assert names(roasts, question) == found


def test_they_hold_beside_filters_and_at_any_k(roasts):
    roasts.path("docs/dark.txt").attributes["kind"] = "bean"
    roasts.path("docs/decaf.txt").attributes["kind"] = "bean"
    assert names(roasts, "roast -decaf", where={"kind": "bean"}) == ["dark.txt"]
    assert names(roasts, "decaf -decaf", k=1) != ["decaf.txt"]
    assert len(roasts.search("tea -decaf", k=2)) == 2


@pytest.mark.parametrize(
    ("question", "must", "mustnot", "rest"),
    [
        ('+a -"b c" d', ["a"], ['"b c"'], "+a  d"),
        ('x+y a-b --c ++d +"open', ['"open'], [], 'x+y a-b --c ++d +"open'),
        ('+"a b"* -pre*', ['"a b"*'], ["pre*"], '+"a b"* '),
        ("-a", [], ["a"], "-a"),
    ],
)
def test_what_is_said_with_signs(question, must, mustnot, rest):
    assert signs(question) == (must, mustnot, rest)


@pytest.mark.parametrize("question", ["plain words", "well-known", "- +", "+", "a -", "-!"])
def test_questions_without_signs(question):
    assert signs(question) is None
