"""Plugins as packages bring them, by entry point: what they are asked for, and what their faults do."""

import logging
import subprocess
import sys
import threading
from importlib.metadata import entry_points

import numpy as np
import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import ConfigError, IndexConflict, PluginBroken
from vexfs.search import embedders
from vexfs.search.embedders import resolve
from vexfs.search.extract import Block

CODE = '''
import os, sys, zlib
import numpy as np

class Acme:
    def __init__(self, word):
        self.how, self.version = word, os.environ.get("ACME_VERSION", "1")
        self.dim = int(os.environ.get("ACME_DIM", "8"))
        self.name = "acme:" + word if word else "acme"
    def embed(self, texts):
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts):
            for word in text.lower().split():
                row[zlib.crc32(word.encode()) % self.dim] += 1.0
        how = self.how
        if how == "raise":
            raise RuntimeError("unwell")
        if how == "exit":
            sys.exit(7)
        rows[0, 0] = float("nan") if how == "nan" else rows[0, 0]
        shapes = {"list": rows.tolist(), "none": None, "wide": np.hstack([rows, rows]), "word": [["a"] * self.dim]}
        return shapes.get(how, rows)

def make(word):
    return Acme(word)

def refuses(word):
    raise RuntimeError("no licence")

def leaves(word):
    sys.exit("leaving")

class Other(Acme):
    name = "other"
    def __init__(self, word):
        self.version, self.dim = "1", 8
        if word:
            setattr(self, *word.split("="))

def composed(word):
    from vexfs.search.embedders import resolve
    base = resolve("static")
    made = Acme("")
    made.name, made.dim, made.embed = "composed", base.dim, base.embed
    return made

def fails(data, name):
    raise KeyError("x")

def exits(data, name):
    sys.exit(3)

def numbers(data, name):
    return [1, 2]

def boom(query, texts):
    raise RuntimeError("boom")

def one(query, texts):
    assert texts, "models fail on empty batches"
    return [float(len(text)) for text in texts]
'''
ENTRIES = """
[vexfs.embedders]
acme = acmeplug:make
other = acmeplug:Other
composed = acmeplug:composed
refuses = acmeplug:refuses
leaves = acmeplug:leaves
exits = acmeplug_exits:make
[vexfs.extractors]
fails = acmeplug:fails
exits = acmeplug:exits
numbers = acmeplug:numbers
[vexfs.rerankers]
boom = acmeplug:boom
leaves = acmeplug:exits
one = acmeplug:one
"""


@pytest.fixture
def site(tmp_path):
    """A directory with an installed package of plugins, as pip leaves one."""
    site = tmp_path / "site"
    about = site / "acmeplug-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "acmeplug.py").write_text(CODE)
    (site / "acmeplug_exits.py").write_text("raise SystemExit('at import')\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acmeplug\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    return site


@pytest.fixture
def installed(site, monkeypatch):
    monkeypatch.syspath_prepend(site)
    assert "acme" in {entry.name for entry in entry_points(group="vexfs.embedders")}
    monkeypatch.setattr(embedders, "_made", {})
    fresh = {name: vexfs.registry.Registry(f"vexfs.{name}") for name in ("embedders", "extractors", "rerankers")}
    monkeypatch.setattr(vexfs.registry, "_registries", {each.group: each for each in fresh.values()})
    monkeypatch.setattr("vexfs.search.extract._EXTRACTORS", fresh["extractors"])
    yield
    for name in ("acmeplug", "acmeplug_exits"):
        sys.modules.pop(name, None)


def settled(fs):
    assert fs.ingest.wait(120)


def found(fs, query, **options):
    return [hit.path for hit in fs.search(query, **options)]


@pytest.mark.parametrize("how", ["", "list"])
def test_an_embedder_of_a_package(fs, installed, how):
    index = fs.index("d", embedder=f"acme:{how}" if how else "acme")
    fs.write_text("d/a.txt", "coffee roasts and more roasts")
    fs.write_text("d/b.txt", "stocks")
    settled(fs)
    assert found(fs, "coffee roasts", mode="semantic", k=1) == ["/d/a.txt"]
    rows = index.get(["a.txt", "b.txt"])
    np.testing.assert_allclose([np.linalg.norm(each.vector) for each in rows], 1, atol=1e-5)  # the model's were longer


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("raise", "embedder acme:raise: RuntimeError: unwell"), ("exit", "embedder acme:exit: SystemExit: 7"),
        ("nan", "embedder acme:nan: gave a number that is not finite"), ("none", r"acme:none: .*\(1, 8\) is right"),
        ("wide", r"embedder acme:wide: 1 texts gave an array of shape \(1, 16\); \(1, 8\) is right"),
        ("word", "embedder acme:word: gave no array of numbers"),
    ],
)  # fmt: skip
def test_one_that_fails_is_named_and_takes_nothing_else_down(fs, installed, how, told):
    bad = fs.index("bad", embedder=f"acme:{how}")
    fs.index("sound", embedder="static")
    fs.write_text("bad/a.txt", "coffee")
    fs.write_text("sound/a.txt", "coffee")
    settled(fs)
    with pytest.raises((PluginBroken, ConfigError), match=told):
        # With a row in the index the model is asked for the question's vector.
        bad.upsert(["x"], np.eye(8, dtype=np.float32)[:1])
        fs.search("coffee", under="bad")
    hits = fs.search("coffee")
    assert [hit.path for hit in hits] == ["/sound/a.txt"]
    assert [each.path for each in hits.missing] == ["/bad"] and f"acme:{how}" in hits.missing[0].reason
    reasons = {each["path"]: each["reason"] for each in fs.ingest.status_of(bad)["aside"]}
    assert f"embedder acme:{how}" in reasons["/bad/a.txt"]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("refuses", "embedder 'refuses': RuntimeError: no licence"),
        ("leaves", "embedder 'leaves': SystemExit: leaving"),
        ("exits", "'exits' of acmeplug 1.0 .* cannot be imported: SystemExit: at import"),
        ("other:name=else", "calls itself 'else', by which it would not be found again"),
        ("other:dim=8", "dim is '8'; a whole number from 1 to 65536"), ("other:name=", "name ''"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_made_is_refused(fs, installed, word, told):
    with pytest.raises((PluginBroken, ConfigError), match=told):
        fs.index("d", embedder=word)
    assert not fs.indexes()


def test_one_that_is_made_of_another(installed):
    made = []
    thread = threading.Thread(target=lambda: made.append(resolve("composed")), daemon=True)
    thread.start()
    thread.join(120)
    assert made and made[0].dim == 256


def test_a_model_that_takes_long_to_make_keeps_nobody_waiting(installed, monkeypatch):
    began, go = threading.Event(), threading.Event()

    def slow(word):
        began.set()
        assert go.wait(120)
        raise RuntimeError("after all")

    vexfs.registry.registry("embedders").add("slow", slow)
    errors = []

    def ask():
        try:
            resolve("slow")
        except PluginBroken as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert began.wait(120)
    made = []
    other = threading.Thread(target=lambda: made.append(resolve("static")), daemon=True)
    other.start()
    other.join(120)
    go.set()
    thread.join(120)
    assert made and errors == ["embedder 'slow': RuntimeError: after all"]


def test_an_extractor_that_fails_sets_its_file_aside_and_ingest_goes_on(fs, installed, caplog):
    caplog.set_level(logging.CRITICAL)
    index = fs.index("d", embedder="static")
    for kind in ("exits", "fails", "numbers"):
        fs.write_text(f"d/a.{kind}", "coffee")
    settled(fs)
    fs.write_text("d/later.txt", "coffee")
    settled(fs)
    assert found(fs, "coffee") == ["/d/later.txt"]
    assert {each["path"]: each["reason"] for each in fs.ingest.status_of(index)["aside"]} == {
        "/d/a.exits": "cannot be read: extractor exits: SystemExit: 3",
        "/d/a.fails": "cannot be read: extractor fails: KeyError: 'x'",
        "/d/a.numbers": "cannot be read: extractor numbers: AttributeError: 'int' object has no attribute 'text'",
    }


def test_an_extractor_that_fails_later_spoils_no_answer(fs, installed):
    from vexfs.search import snippet

    sound = [True]

    def extractor(data, name):
        if not sound[0]:
            raise KeyError("x")
        yield Block("coffee in a file of theirs")

    vexfs.registry.registry("extractors").add("theirs", extractor)
    fs.index("d", embedder="static")
    fs.write_text("d/a.theirs", "....")
    fs.write_text("d/b.txt", "coffee")
    settled(fs)
    sound[0] = False
    snippet._cut.clear()
    assert {hit.path: hit.text for hit in fs.search("coffee")} == {"/d/a.theirs": "", "/d/b.txt": "coffee"}
    fs.reembed("d")
    settled(fs)
    assert found(fs, "coffee") == ["/d/b.txt"]


def test_closing_waits_once_for_an_extractor_that_hangs(tmp_path, installed, monkeypatch):
    monkeypatch.setattr("vexfs.search.ingest._CLOSE_MOST_S", 1000.0)  # not even for so long as it waits for others
    hanging, over, back = threading.Event(), threading.Event(), threading.Event()

    def extractor(data, name):
        hanging.set()
        over.wait(250)
        back.set()
        yield Block("coffee")

    vexfs.registry.registry("extractors").add("theirs", extractor)
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("d", embedder="static")
        fs.write_text("d/a.theirs", "....")
        assert hanging.wait(120)
    assert not back.is_set()
    over.set()
    with vexfs.open(tmp_path / "v.vex") as fs:
        settled(fs)
        assert found(fs, "coffee") == ["/d/a.theirs"]


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


def test_an_extractor_that_hangs_stops_nobody(fs, installed, monkeypatch):
    monkeypatch.setattr("vexfs.search.apart.time", clock := Clock())
    over, given = threading.Event(), []

    def extractor(data, name):
        given.append(name)
        if name.startswith("half"):
            yield Block("tea")
        while not over.wait(0.05):
            clock.now += 60
        yield Block("bread")

    vexfs.registry.registry("extractors").add("theirs", extractor)
    index = fs.index("d", embedder="static")
    try:
        for name in ("0", "1", "2", "3"):
            fs.write_text(f"d/{name}.theirs", "....")
        fs.write_text("d/b.txt", "coffee")
        settled(fs)
        assert found(fs, "coffee") == ["/d/b.txt"] and len(given) == 2
        aside = index.describe()["ingest"]["aside"]
        assert len(aside) == 4 and all(each["fault"] for each in aside)
        reasons = [each["reason"] for each in aside]
        assert sum("extractor theirs: gave nothing within" in reason for reason in reasons) == 2
        assert sum("extractor theirs: has not come back from 2 other files" in reason for reason in reasons) == 2
    finally:
        over.set()
    until(lambda: not any(thread.name == "vexfs-extract" for thread in threading.enumerate()))
    over.clear()
    fs.write_text("d/half.theirs", "....")  # it has come back, and is given files again
    settled(fs)
    over.set()
    assert found(fs, "tea", mode="keyword") == ["/d/half.theirs"]
    assert fs.ingest.retry("d") == 4
    settled(fs)
    assert len(found(fs, "bread", mode="keyword")) == 4


def test_rerankers(fs, installed):
    fs.index("d", embedder="static")
    assert not fs.search("coffee", rerank="one")
    fs.write_text("d/a.txt", "coffee")
    fs.write_text("d/b.txt", "coffee and more")
    settled(fs)
    assert found(fs, "coffee", rerank="one") == ["/d/b.txt", "/d/a.txt"]
    for name, told in [("boom", "RuntimeError: boom"), ("leaves", "SystemExit: 3")]:
        with pytest.raises(PluginBroken, match=f"re-ranker {name}: {told}"):
            fs.search("coffee", rerank=name)


def run(tmp_path, site, code, **environment):
    """A program with the volume open; `site` is on its path unless the package was removed."""
    begin = "import sys, vexfs\nfrom pathlib import Path\nfs = vexfs.open(sys.argv[1])\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{begin}{code}\nfs.close()", tmp_path / "v.vex"], timeout=240, text=True,
        capture_output=True, env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", **environment},
    )  # fmt: skip
    assert not done.returncode, done.stderr
    return done.stdout


BEGIN = "fs.index('a', embedder='acme'); fs.index('b', embedder='acme'); fs.write_text('a/x.txt', 'coffee')\n"


def test_what_comes_while_a_package_is_away_is_found_when_it_is_back(tmp_path, site):
    run(tmp_path, site, BEGIN + "assert fs.ingest.wait(120)")
    away = (
        "for k in range(3): fs.write_text(f'a/new{k}.txt', 'coffee')\n"
        "import time\nassert not fs.ingest.wait(1)\n"
        "while (told := fs.ingest.status())['backlog'] != 3 or not told['held']: time.sleep(0.01)\n"
        "print(told['held'], told['failed'])"
    )
    told = run(tmp_path, "/", away)
    assert "no embedders named 'acme'" in told and told.endswith("} 0\n")
    back = "assert fs.ingest.wait(120)\nprint(len(fs.search('coffee', mode='semantic')))"
    assert run(tmp_path, site, back) == "4\n"


@pytest.mark.parametrize("newer", [{"ACME_VERSION": "2"}, {"ACME_DIM": "16"}])
def test_a_newer_model_and_an_index_that_has_it_not_yet(tmp_path, site, newer):
    run(tmp_path, site, BEGIN + "fs.write_text('b/x.txt', 'coffee')\nassert fs.ingest.wait(120)")
    half = (
        "fs.reembed('a')\n"
        "for k in range(9): fs.write_text(f'{\"ab\"[k % 2]}/new{k}.txt', 'coffee')\n"
        "def hits(): return sorted(hit.path for hit in fs.search('coffee', k=99, mode='semantic', under='a'))\n"
        "import time\nassert not fs.ingest.wait(1)\n"
        "while len(hits()) < 6 or not (held := fs.ingest.status()['held']): time.sleep(0.01)\nprint(hits())\n"
        "print(*(len(each) for each in fs.indexes() if each.path == '/b'), held)\n"
        "fs.reembed('b')\nassert fs.ingest.wait(120)\nprint(len(fs.search('coffee', k=99, mode='semantic')))"
    )
    first, second, third = run(tmp_path, site, half, **newer).splitlines()
    assert first == str(sorted(["/a/x.txt", *(f"/a/new{k}.txt" for k in (0, 2, 4, 6, 8))]))
    assert second.startswith("1 {'acme': \"/b: its vectors were made by acme (version 1, dimension 8), and here is")
    assert third == "11"


def test_another_dimension_is_refused_with_the_way_out(fs, installed, monkeypatch):
    fs.index("d", embedder="acme")
    monkeypatch.setattr(embedders, "_made", {})
    monkeypatch.setenv("ACME_DIM", "16")
    with pytest.raises(IndexConflict, match=r"\(version 1, dimension 8\), not .* dimension 16\); .* fs.reembed\('d'"):
        fs.index("d", embedder="acme")
