"""Ingest is of the lowest priority until somebody waits for it, also where a thread cannot be raised again."""

import os
import threading

import numpy as np
import pytest

from tests.capabilities import SYS_NICE, may
from tests.waiting import until
from vexfs.search import relay
from vexfs.search.relay import Relay

LOWEST = 19


def nice(thread: threading.Thread | None = None) -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id() if thread is None else thread.native_id)


@pytest.fixture(params=["raised", "replaced"])
def permitted(request, monkeypatch):
    """Whether a priority may be raised, as for root, or not, as for everybody else."""
    if request.param == "raised":
        if not may(SYS_NICE):
            pytest.skip("only root raises priorities")
        return True
    lower = os.setpriority

    def unprivileged(which, who, value):
        if value < os.getpriority(which, who):
            raise PermissionError(13, "Permission denied")
        lower(which, who, value)

    monkeypatch.setattr(relay.os, "setpriority", unprivileged)
    return False


def test_the_work_is_taken_over_between_two_steps(permitted):
    waits, stop, seen, at_once = threading.Event(), threading.Event(), [], []

    def work():
        at_once.append(threading.current_thread())
        assert len(at_once) == 1
        while mine.goes_on() and not stop.is_set():
            seen.append((nice(), threading.current_thread()))
            stop.wait(0.001)
        at_once.pop()

    mine = Relay("relayed", work, waits.is_set)
    mine.start()
    until(lambda: seen and seen[-1][0] == LOWEST)
    waits.set()
    mine.urge()
    until(lambda: seen[-1][0] == nice())
    assert (len({thread for _, thread in seen}) == 1) == (permitted or nice() == LOWEST)
    waits.clear()
    until(lambda: seen[-1][0] == LOWEST)
    stop.set()
    mine.join(120)
    assert not at_once


class Held:
    """A model that is held up on its first texts, and notes the priority that it has."""

    name, version, dim = "held", "1", 2

    def __init__(self):
        self.at, self.begun, self.go_on = [], threading.Event(), threading.Event()

    def embed(self, texts):
        self.begun.set()
        self.go_on.wait(120)
        self.at.append(nice())
        return np.array([[1.0, len(text)] for text in texts])


def waited_for(fs, model):
    """Let the model go on as soon as somebody waits for ingest, until it is over."""
    assert model.begun.wait(120)
    waiter = threading.Thread(target=fs.ingest.wait, args=(120,))
    waiter.start()
    relays = [fs.ingest._relay, *(desk.relay for desk in fs.ingest._under_way._embedding._desks.values())]
    until(lambda: len(relays) == 2 and all(nice(each._thread) == nice() for each in relays))
    model.go_on.set()
    waiter.join(120)
    until(lambda: fs.ingest.status()["settled"])


def test_whoever_waits_gets_ordinary_priority(fs, permitted):
    model = Held()
    fs.index("docs", embedder=model)
    fs.write_text("docs/first.txt", "coffee")
    assert model.begun.wait(120)
    for number in range(20):
        fs.write_text(f"docs/{number}.txt", f"tea {number}")
    waited_for(fs, model)
    assert fs.ingest.status()["files"] == 21
    assert model.at[0] == (nice() if permitted else LOWEST) and model.at[-1] == nice()
    fs.write_text("docs/last.txt", "water")
    until(lambda: model.at[-1] == LOWEST)


def test_a_long_file_is_handed_on_in_the_middle(fs, permitted):
    model = Held()
    fs.index("docs", embedder=model)
    fs.write_text("docs/long.txt", "".join(f"Paragraph {n}. {'bean ' * 300}\n\n" for n in range(400)))
    waited_for(fs, model)
    assert fs.ingest.status()["passages"] == 400
    assert model.at[0] == (nice() if permitted else LOWEST) and model.at[-1] == nice()
