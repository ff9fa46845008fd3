"""Vector and semantic operations are counted as a client counts them."""

import os
import signal
import sys
import threading
import time
import traceback

import numpy as np
import pytest

import vexfs
from tests.waiting import until
from vexfs.errors import NotFound
from vexfs.observe import metrics, workload
from vexfs.observe.history import History
from vexfs.observe.parts import Parts


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as volume:
        yield volume


def test_rows_and_queries_are_counted_and_failures_are_not(fs):
    history = History(Parts(fs))
    history.take()
    rng = np.random.default_rng(1)
    index = fs.index("papers", dim=16)
    index.upsert([f"a{i}" for i in range(50)], rng.standard_normal((50, 16)))
    for _ in range(7):
        index.query(rng.standard_normal(16), k=3)
    index.query(rng.standard_normal((5, 16)), k=3)
    index.delete(["a1", "a2", "absent"])
    with pytest.raises(NotFound):
        index.update(["absent"], rng.standard_normal((1, 16)))
    rows = {(kind, what): n for kind, what, _, n, _ in history.parts.tally.rows()}
    assert rows == {("vector", "upsert"): 50, ("vector", "query"): 12, ("vector", "delete"): 2}
    now = history.rates()
    assert round(now.vector * now.seconds) == 64 and now.semantic == 0
    family = next(f for f in metrics.collect(history, ["index"]) if f.name == "vexfs_vector_operations_total")
    assert ("", {"index": "/papers", "operation": "query"}, 12) in family.samples


def test_searches_by_text_and_by_example_are_semantic(fs):
    parts = Parts(fs)
    rng = np.random.default_rng(1)
    fs.index("papers", dim=16).upsert(["a", "b", "c"], rng.standard_normal((3, 16)))
    fs.similar("papers/a", k=2)
    assert parts.tally.total("semantic") == 1


def test_the_loads_do_what_they_count(fs):
    parts = Parts(fs)
    before = parts.tally.total("vector")
    load = workload.vector(parts, 0.5)
    assert not load.reason and load.operations > 0
    assert parts.tally.total("vector") - before == load.operations + workload.ROWS
    assert not workload.leftovers(parts) and not fs.indexes()
    load = workload.semantic(parts, 0.5)
    if load.reason:
        assert "searched" in load.reason  # no embedder is installed here: that is told
    else:
        assert parts.tally.total("semantic") >= load.operations > 0
    assert not workload.leftovers(parts) and not fs.indexes()


def test_ctrl_c_ends_the_clients_of_a_load(tmp_path):
    """What is left of one would go on in a directory that is being removed: a failure, told instead of Ctrl-C."""
    threading.Thread(target=interrupt_when, args=(tmp_path / "0",), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        workload._clients(tmp_path, 600, 1)
    left = set((tmp_path / "0").iterdir())
    time.sleep(0.3)
    assert set((tmp_path / "0").iterdir()) == left


def interrupt_when(place):
    """Press Ctrl-C once a client works at `place` and is waited for."""
    main = threading.main_thread().ident

    def waited_for():
        frames = traceback.walk_stack(sys._current_frames()[main])
        return "communicate" in (frame.f_code.co_name for frame, _ in frames)

    until(lambda: place.is_dir() and any(place.iterdir()) and waited_for())
    os.kill(os.getpid(), signal.SIGINT)
