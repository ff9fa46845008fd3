"""A model that does not come back: whom it holds up, and whom it does not."""

import threading

import pytest

import vexfs
from tests.search.test_ingest import counted, found, settled
from tests.waiting import until


@pytest.fixture
def stuck():
    """A model that does not come back from a text about tea until it is let go."""
    asked, over, back = threading.Event(), threading.Event(), threading.Event()

    def model(texts):
        if any("tea" in text for text in texts):
            asked.set()
            over.wait(250)
            back.set()
        return counted(texts)

    model.asked, model.over, model.back = asked, over, back
    yield model
    over.set()


def test_a_model_that_hangs_holds_up_its_own_files_alone(fs, stuck, monkeypatch):
    monkeypatch.setattr("vexfs.search.underway._LATE_S", 0.2)
    monkeypatch.setattr("vexfs.search.embedding._IDLE_S", 250.0)  # threads of models are counted
    before = set(threading.enumerate())
    slow, other = fs.index("slow", embedder=stuck), fs.index("other", embedder="default")
    for n in range(1500):  # more than it is given ahead
        fs.write_text(f"slow/{n}.txt", f"tea {n}")
    assert stuck.asked.wait(120)
    for n in range(300):
        fs.write_text(f"other/{n}.txt", f"coffee {n}")


    def waiting():
        """A file that is indexed already may be in the backlog for a moment: what came of it is noted by and by."""
        told = fs.ingest.status()
        return told if (told["state"], told["backlog"], len(other)) == ("waiting for a model", 1500, 300) else None

    assert not until(waiting)["settled"]
    # Before somebody waits, for whom each may get a successor of a higher priority.
    assert sum(thread.name == "vexfs-embed" for thread in {*threading.enumerate()} - before) == 2
    assert not fs.ingest.wait(0.3) and len(slow) == 0
    status = until(waiting)
    assert list(status["awaited"]) == [slow.embedder]
    assert status["eta_s"] is None
    stuck.over.set()
    settled(fs)
    assert len(slow) == 1500 and fs.ingest.status()["files"] == 1800 and not fs.ingest.status()["awaited"]


def test_an_index_whose_model_hangs_can_be_dropped(fs, stuck):
    fs.index("docs", embedder=stuck)
    for n in range(600):
        fs.write_text(f"docs/{n}.txt", f"tea {n}")
    assert stuck.asked.wait(120)
    fs.drop_index("docs")
    settled(fs)
    index = fs.index("docs", embedder="default")
    settled(fs)
    assert len(index) == 600 and not fs.ingest.status()["awaited"]


def test_closing_is_quick_while_a_model_hangs(fs, stuck, monkeypatch):
    monkeypatch.setattr("vexfs.search.ingest._CLOSE_MOST_S", 1000.0)  # not even for so long as it waits for others
    fs.index("docs", embedder=stuck)
    fs.write_text("docs/a.txt", "tea")
    assert stuck.asked.wait(120)
    fs.close()
    assert not stuck.back.is_set()


def test_the_threads_of_models_end_when_they_have_nothing_to_do(fs, monkeypatch):
    monkeypatch.setattr("vexfs.search.embedding._IDLE_S", 0.05)
    index = fs.index("docs", embedder=counted)
    for n in range(3):
        fs.write_text(f"docs/{n}.txt", f"coffee {n}")
        settled(fs)
        until(lambda: not any(thread.name == "vexfs-embed" for thread in threading.enumerate()))
    assert len(index) == 3


def test_closing_does_not_wait_for_a_model_that_hangs(tmp_path, monkeypatch):
    from vexfs.search import ingest

    monkeypatch.setattr(ingest, "_CLOSE_MOST_S", 0.2)
    hanging, over, back = threading.Event(), threading.Event(), threading.Event()

    def model(texts):
        if "coffee" in texts[0]:
            hanging.set()
            over.wait(250)
            back.set()
        return counted(texts)

    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder=model)
        fs.write_text("docs/a.txt", "coffee")
        assert hanging.wait(120)
    assert not back.is_set()
    over.set()
    with vexfs.open(tmp_path / "v.vex") as fs:
        settled(fs)
        assert found(fs, "coffee") == ["/docs/a.txt"]
