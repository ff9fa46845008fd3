"""The keyword index as its callers see it: what terms are, what a query means, changes, threads."""

import threading
import unicodedata

import numpy as np
import pytest

from tests.core.words_reference import tokens
from vexfs._core.words import ANALYSER, WordIndex
from vexfs.errors import QueryInvalid


def terms(text) -> list[str]:
    return [term + "'" if same else term for term, same in tokens(WordIndex.encode(text))]


def index_of(*texts: str) -> WordIndex:
    index = WordIndex()
    index.put(np.arange(len(texts)), [WordIndex.encode(text) for text in texts])
    return index


def found(index: WordIndex, query: str, k: int = 10, **options) -> list[int]:
    return index.search(query, k, **options)[0].tolist()


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", []),
        ("  ,;!  ", []),
        ("Light ROASTS keep acidity.", ["light", "roast", "keep", "acidity"]),
        ("categories boxes classes status ties bus as", ["category", "boxe", "classe", "status", "tie", "bus", "as"]),
        ("don't it's O\u2019Reilly\u2019s", ["don", "it", "o", "reilly"]),
        ("Café NAÏVE straße ﬁne Åse ΑΘΉΝΑ Ёлка", ["cafe", "naive", "strasse", "fine", "ase", "αθηνα", "елка"]),
        ("cafe\u0301 co\u00adop Ⅷ ②", ["cafe", "coop", "viii", "2"]),
        ("snake_case", ["snake", "snake_case'", "case"]),
        ("camelCase HTTPServer", ["camel", "camelcase'", "case", "http", "httpserver'", "server"]),
        ("getURLs H2O x86_64", ["get", "geturls'", "url", "h2o", "x86", "x86_64'", "64"]),
        ("os.path.join(a, b)", ["os", "os.path.join'", "path", "join", "a", "b"]),
        ("end. Start... v1.2.3", ["end", "start", "v1", "v1.2.3'", "2", "3"]),
        ("3.14 1,000", ["3", "3.14'", "14", "1", "000"]),
        ("__init__ _x a__b", ["init", "x", "a", "b"]),
        ("foo-bar a/b user@example.com", ["foo", "bar", "a", "b", "user", "example", "example.com'", "com"]),
        ("日本語", ["日本", "本語", "語"]),
        ("中", ["中"]),
        ("한국어 text ภาษา", ["한국", "국어", "어", "text", "ภา", "าษ", "ษา", "า"]),
        ("ｆｕｌｌ　ｗｉｄｔｈ", ["full", "width"]),
        ("हिन्दी", ["हिन्दी"]),
        ("\u0627\u0644\u0639\u064e\u0631\u0628\u064a\u0629", ["العربية"]),
        ("a" * 100, ["a" * 64]),
        ("é" * 40, ["e" * 40]),
        ("ж" * 40, ["ж" * 32]),
    ],
)  # fmt: skip
def test_terms(text, want):
    assert terms(text) == want
    assert terms(text.encode()) == want


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe2\x28\xa1"])
def test_malformed_text_separates(bad):
    assert terms(b"one" + bad + b" two")[-1] == "two"
    assert terms(b"one" + bad + b" two")[0] == "one"


def test_every_code_point_is_folded_as_unicode_says():
    """Letters and digits of the first four planes; the table is of Unicode 14, newer letters are not in it."""
    wrong = []
    for cp in range(0x80, 0x30000):
        char = chr(cp)
        category = unicodedata.category(char)
        if category[0] not in "LN" or category == "Lm" or unicodedata.combining(char):
            continue
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
        plain = "".join(c for c in plain if not (unicodedata.combining(c) >= 10 or unicodedata.combining(c) == 1))
        plain = unicodedata.normalize("NFC", plain)
        got = terms(char)
        simple = len(plain) == 1 and plain != "\u0640" and unicodedata.category(plain)[0] in "LN"
        if simple and got != [plain] and unicodedata.unidata_version == "14.0.0":
            wrong.append((hex(cp), plain, got))
    assert not wrong


def test_words_are_any_of_them_and_rare_ones_weigh_more():
    index = index_of("coffee beans", "coffee", "tea", "coffee", "rare beans of coffee")
    assert found(index, "coffee beans") == [0, 4, 1, 3]
    assert found(index, "nothing like it") == []
    assert found(index, "") == []


@pytest.mark.parametrize(
    ("asked", "finds"),
    [
        ("install", ["installing", "installed", "Installation", "installs"]),
        ("running", ["run", "runs"]),
        ("copies", ["copied", "copying"]),
        ("make", ["making"]),
        ("controlled", ["control", "controlling"]),
        ("quickly", ["quick"]),
        ("accesses", ["access", "accessed"]),
        ("adding", ["add", "added"]),
        ("passing", ["pass", "passes"]),
    ],
)
def test_other_forms_of_a_word_are_found_behind_it(asked, finds):
    index = index_of(asked, *finds, *["nothing of it"] * 9)
    assert found(index, asked)[0] == 0
    assert sorted(found(index, asked)) == list(range(len(finds) + 1))
    assert found(index, asked + " ", prefix_last=True)[0] == 0
    assert {found(index, word, 99).index(0) >= 0 for word in finds} == {True}  # and the other way round


def test_what_is_no_form_of_a_word():
    index = index_of("sing", "red", "station", "only", "public", "x86ed", "bed", "ring", "runner", "fileing.py")
    for asked in ("s", "r", "stat", "on", "publ", "x86", "be", "rung", "file1"):
        assert found(index, asked) == [], asked


def test_forms_are_for_plain_words_only():
    index = index_of("installed it", "install it", "installing here")
    assert found(index, "+install") == [1]
    assert sorted(found(index, "it here -install")) == [0, 2]
    assert found(index, '"install it"') == [1]
    assert sorted(found(index, "installi*")) == [2]


def test_phrases():
    index = index_of("new york city", "york new", "new old york", "in New York: new york")
    assert found(index, '"new york"') == [3, 0]
    assert found(index, '"New Yorks"') == [3, 0]  # words of a phrase are stemmed as all are
    assert found(index, '"new york city"') == [0]
    assert found(index, '"city new"') == []
    assert found(index, '"new unknown"') == []
    assert sorted(found(index, '"new york city" old')) == [0, 2]
    assert found(index, '"new york') == [3, 0]  # a quote that is not closed closes at the end


def test_phrases_over_identifiers():
    index = index_of("call os.path.join here", "os path", "path os join")
    assert found(index, '"os path"') == [1, 0]
    assert found(index, "+os.path") == [1, 0]
    assert found(index, '"join here"') == [0]
    assert found(index, "os.path.join")[0] == 0


def test_prefixes():
    index = index_of("category", "catalogue", "dog", "categories of cats")
    assert sorted(found(index, "cat*")) == [0, 1, 3]
    assert sorted(found(index, "catego*")) == [0, 3]
    assert sorted(found(index, "categories*")) == [0, 3]
    assert sorted(found(index, "c*")) == [0, 1, 3]
    assert found(index, "x*") == []
    assert found(index, "*") == []
    assert found(index, "do", prefix_last=True) == [2]
    assert found(index, "do ", prefix_last=True) == []
    assert sorted(found(index, "dog cata", prefix_last=True)) == [1, 2]


def test_signs():
    index = index_of("light roast", "dark roast", "light", "c++ and -1")
    assert found(index, "roast -dark") == [0]
    assert found(index, "+light roast") == [0, 2]
    assert found(index, "+light +roast") == [0]
    assert found(index, "+light +unknown") == []
    assert found(index, "-light") == []
    assert found(index, "roast --light") == found(index, "roast ++light") == found(index, "roast light")
    assert sorted(found(index, 'roast light -"dark roast"')) == [0, 2]
    assert found(index, "+dar* roast") == [1]
    assert found(index, "c++ - +") == [3]


def test_scripts_without_spaces():
    index = index_of("日本語のテキスト", "中国語", "日 本")
    assert found(index, "日本") == [0]
    assert found(index, "語") == [1, 0]
    assert found(index, "本") == [2, 0]
    assert found(index, '"日本語"') == [0]
    assert found(index, '"本日"') == []


def test_replacement_and_removal():
    index = index_of("one", "two")
    index.put([0], [WordIndex.encode("three")])
    assert found(index, "one") == []
    assert found(index, "three") == [0]
    assert len(index) == 2 and 0 in index and 5 not in index
    assert index.remove([0, 0, 7, 2**32 - 1]) == 1
    assert found(index, "three two") == [1]
    assert len(index) == 1 and 0 not in index
    assert [(t, n) for t, n in index.terms()] == [("two", 1)]


def test_scores_forget_what_was_removed():
    kept, fresh = index_of("a b", "a", "b c", "a a c"), index_of("a b")
    kept.put([3], [WordIndex.encode("b b b")])
    kept.remove([1, 2, 3])
    for got, want in zip(kept.search("a b"), fresh.search("a b"), strict=True):
        np.testing.assert_array_equal(got, want)


def test_mask_and_rows():
    index = index_of(*["word"] * 200)
    assert found(index, "word", 3, rows=[150, 7, 999, 2**32 - 1]) == [7, 150]
    assert found(index, "word", 3, rows=[]) == []
    mask = np.zeros(2, np.uint64)
    mask[1] = 1 << 63 | 1
    assert found(index, "word", 300, mask=mask) == [64, 127]
    assert found(index, "word", 300, mask=np.empty(0, np.uint64)) == []
    assert found(index, "word", 0) == []


def test_refusals():
    index = WordIndex()
    with pytest.raises(ValueError, match="2 records for 1 rows"):
        index.put([1], [b"", b""])
    with pytest.raises(OSError, match="record of row 1"):
        index.put([1], [b""])
    with pytest.raises(OSError, match="Invalid argument"):
        index.put([1], [bytes([ANALYSER + 1, 0, 0])])
    with pytest.raises(OSError, match="Invalid argument"):
        index.put([2**32 - 1], [WordIndex.encode("a")])
    with pytest.raises(QueryInvalid, match="more than 64"):
        index_of("a").search(" ".join(f'"a{i} b"' for i in range(65)))
    with pytest.raises(TypeError):
        index.search(None)


def test_prefixes_of_a_letter_or_two_are_as_few_as_all_others():
    index = index_of("alpha beta", "gamma")
    assert found(index, "q* zz* " * 32 + "gamma") == [1]
    with pytest.raises(QueryInvalid, match="more than 64"):
        index.search("q* zz* " * 32 + "yy* gamma")
    assert found(index, "qqq* " * 100 + "gamma") == [1]


def test_what_all_passages_have_is_found_in_the_longest_of_them():
    index = index_of(*["coffee"] * 3000, "coffee " + "bean " * 5000)
    rows, scores = index.search("coffee", 4000)
    assert len(rows) == 3001 and rows[-1] == 3000 and 0 < scores[-1] < scores[0]


def test_long_queries_keep_the_rarest_words():
    index = index_of(*(f"common{i}" for i in range(100) for _ in range(2)), "needle")
    assert found(index, " ".join(f"common{i}" for i in range(100)) + " needle", 1) == [200]


def test_explain():
    index = index_of("light roast", "dark roast")
    clauses = index.explain('Roasts +dar* -"light roast" nothing')
    assert [(c["text"], c["kind"], c["sign"], c["df"]) for c in clauses] == [
        ("roast", "term", "", 2),
        ("dar", "prefix", "+", 1),
        ("light roast", "phrase", "-", 1),
    ]
    assert index.explain("light")[0]["weight"] == pytest.approx(np.log(2))


def test_figures():
    index = index_of("a b c", "a")
    stats = index.stats()
    assert (stats["rows"], stats["terms"], stats["postings"], stats["tokens"]) == (2, 3, 4, 4)
    assert stats["average_length"] == 2
    assert index.memory() == stats["memory"] > 0
    assert index.maintain() is False


def test_readers_writers_and_removers_at_once():
    """Searches see every row that stays, whatever comes and goes beside it; at the end all counts are right."""
    index = index_of(*["stays here"] * 50)
    records = [WordIndex.encode(f"moving number{i} here " + "pad " * (i % 50)) for i in range(3000)]
    done, faults = threading.Event(), []

    def guarded(work):
        def run():
            try:
                while not done.is_set():
                    work()
            except BaseException as error:
                faults.append(error)

        return threading.Thread(target=run)

    def search():
        rows, _ = index.search("stays", 60)
        assert rows.tolist() == list(range(50))
        rows, _ = index.search("here moving", 5000)
        assert set(range(50)) <= set(rows.tolist())

    def churn():
        for i in range(3000):
            index.put([100 + i], [records[i]])
        index.remove(range(100, 3100, 2))

    def remove():
        index.remove(range(100, 3100, 7))

    threads = [guarded(w) for w in (search, search, churn, remove, lambda: index.maintain(0.2))]
    for thread in threads:
        thread.start()
    done.wait(2)
    done.set()
    for thread in threads:
        thread.join()
    assert not faults
    index.remove(range(100, 3100))
    while index.maintain(5):
        pass
    assert len(index) == 50
    assert dict(index.terms()) == {"stay": 50, "here": 50}
    assert index.stats()["tokens"] == 100


def test_an_identifier_is_found_in_small_letters_though_it_ends_like_a_plural():
    index = WordIndex()
    texts = ["failedSamples := 1", "see getURLs", "getUrl", "geturl of failed samples", "foo.categories", "categories"]
    index.put(range(len(texts)), [WordIndex.encode(text) for text in texts])

    def found(query):
        return sorted(index.search(query)[0].tolist())

    assert found("failedsamples") == found("+failedsamples") == [0] and found("+failedSamples") == [0, 3]
    assert found("geturls") == found("+geturls") == [1, 2, 3] and found("geturl") == [2, 3]
    assert found("see -geturls") == [] and found("foo.categories +foo") == [4] and found("+categories") == [4, 5]
    index.remove([2, 3])
    assert found("geturls") == found("+geturls") == [1]
