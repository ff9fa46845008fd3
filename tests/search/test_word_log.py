"""Opening reads of the log of keyword records what the snapshot does not have, and finds every word all the same."""

import random

import pytest

import vexfs
from vexfs.search import index as index_module
from vexfs.search import snapshot

WORDS = [f"{a}{b}{c}" for a in ("bra", "kle", "stu", "mor") for b in ("vin", "tol", "rek") for c in ("da", "um", "ix")]


@pytest.fixture
def begun(monkeypatch):
    """Where reading of the log begins, each time."""
    seen = []
    real = snapshot._logged

    def looked(index, versions, begin=0):
        seen.append(begin)
        return real(index, versions, begin)

    monkeypatch.setattr(snapshot, "_logged", looked)
    return seen


def closed(fs, monkeypatch, *, with_snapshot):
    assert fs.ingest.wait(120)
    monkeypatch.setattr(index_module, "CLOSING_ROWS", 1 if with_snapshot else 10**9)
    fs.close()


def test_only_what_came_since_is_read(tmp_path, monkeypatch, begun):
    with vexfs.open(tmp_path / "v") as fs:
        fs.index("docs", embedder="default")
        for k in range(200):
            fs.write_text(f"docs/{k}.txt", f"{WORDS[k % len(WORDS)]} number{k}")
        closed(fs, monkeypatch, with_snapshot=True)
    begun.clear()
    with vexfs.open(tmp_path / "v") as fs:
        assert len(fs.index("docs").words) == 200
        assert len(begun) == 1 and begun[0] == fs.filesystem.stat(".vexfs/index-1/words").st_size > 2000
        fs.write_text("docs/3.txt", "another")
        fs.write_text("docs/new.txt", "newcomer")
        fs.remove("docs/5.txt")
        closed(fs, monkeypatch, with_snapshot=False)
    with vexfs.open(tmp_path / "v") as fs:
        assert len(fs.index("docs").words) == 200
        assert len(begun) == 2 and begun[1] == begun[0]
        for word, path in (("number7", "/docs/7.txt"), ("another", "/docs/3.txt"), ("newcomer", "/docs/new.txt")):
            assert [hit.path for hit in fs.search(word, mode="keyword")] == [path]
        assert not fs.search("number3", mode="keyword") and not fs.search("number5", mode="keyword")


def test_what_was_away_for_a_snapshot_is_found_when_it_is_back(tmp_path, monkeypatch, begun):
    with vexfs.open(tmp_path / "v") as fs:
        fs.index("docs", embedder="default")
        for k in range(20):
            fs.write_text(f"docs/part/{k}.txt", f"number{k}")
        fs.write_text("docs/other.txt", "other")
        assert fs.ingest.wait(120)
        fs.rename("docs/part", "elsewhere")
        closed(fs, monkeypatch, with_snapshot=True)
    with vexfs.open(tmp_path / "v") as fs:
        fs.rename("elsewhere", "docs/part")
        closed(fs, monkeypatch, with_snapshot=False)
    with vexfs.open(tmp_path / "v") as fs:
        assert fs.ingest.wait(120)
        assert [hit.path for hit in fs.search("number7", mode="keyword")] == ["/docs/part/7.txt"]
        assert [hit.path for hit in fs.search("other", mode="keyword")] == ["/docs/other.txt"]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_and_goes_between_openings(tmp_path, monkeypatch, seed):
    dice = random.Random(seed)
    model: dict[str, str] = {}
    away: dict[str, str] = {}
    for _ in range(8):
        with vexfs.open(tmp_path / "v") as fs:
            if not fs.exists("docs"):
                fs.index("docs", embedder="default")
            assert fs.ingest.wait(120)
            for word in dice.sample(WORDS, 12):
                found = {hit.path for hit in fs.search(word, k=100, mode="keyword")}
                assert found == {f"/docs/{name}" for name, text in model.items() if word in text.split()}, word
            for _ in range(dice.randrange(25)):
                kind, name = dice.randrange(4), f"{dice.randrange(30)}.txt"
                if kind <= 1:
                    model[name] = " ".join(dice.sample(WORDS, 3))
                    fs.write_text(f"docs/{name}", model[name])
                elif kind == 2 and name in model:
                    if dice.random() < 0.5:
                        away[name] = model[name]
                        fs.rename(f"docs/{name}", f"away-{name}")
                    else:
                        fs.remove(f"docs/{name}")
                    del model[name]
                elif kind == 3 and away:
                    name = dice.choice(sorted(away))
                    model[name] = away.pop(name)
                    fs.rename(f"away-{name}", f"docs/{name}")
            closed(fs, monkeypatch, with_snapshot=dice.random() < 0.5)


def test_a_log_that_another_takes_the_place_of_gives_its_room_back(tmp_path):
    with vexfs.open(tmp_path / "v") as fs:
        index = fs.index("docs", embedder="default")
        for k in range(20):
            fs.write_text(f"docs/{k}.txt", f"{WORDS[k]} number{k} " * 300)
        assert fs.ingest.wait(120)
        for k in range(1, 20):
            fs.remove(f"docs/{k}.txt")
        fs.sync()
        before, size = fs.filesystem.status(), fs.filesystem.stat(".vexfs/index-1/words").st_size
        with index.writer.lock:
            written = snapshot.rewrite_words(index)
        fs.sync()
        after = fs.filesystem.status()
        assert 0 < written < size / 10 and after["files"] == before["files"]
        assert after["used_bytes"] < before["used_bytes"] - size / 2
        assert [hit.path for hit in fs.search("number0", mode="keyword")] == ["/docs/0.txt"]
