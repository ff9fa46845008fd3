"""Ctrl-C, or whatever else, while a volume with indexes is opened or closed: the process lives, nothing is lost."""

import signal
import subprocess
import sys

import pytest

import vexfs
from vexfs.volume import check

OPENED = """
import gc, sys
import vexfs
from vexfs.search import catalog, index

def interrupt(*_, **__):
    raise KeyboardInterrupt

where, name = sys.argv[2].split(".")
setattr({"catalog": catalog, "Catalog": catalog.Catalog, "Settling": catalog.Settling, "Upkeep": catalog.Upkeep,
         "index": index}[where], name, interrupt)
for _ in range(2):
    try:
        with vexfs.open(sys.argv[1]):
            pass
    except KeyboardInterrupt:
        print("interrupted")
    gc.collect()
"""
CLOSED = """
import signal, sys, threading
import vexfs
from vexfs.search.catalog import Catalog

real = Catalog._let_go
def interrupted(self, whole):
    Catalog._let_go = real
    raise KeyboardInterrupt
Catalog._let_go = interrupted
try:
    with vexfs.open(sys.argv[1]) as fs:
        fs.write_text("docs/b.txt", "renewed")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def place(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        fs.index("points", dim=2).upsert(["a"], [[1, 0]])
        fs.write_text("docs/a.txt", "renew the passport")
        assert fs.ingest.wait(120)
    return tmp_path / "v.vex"


def ran(script, *words):
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, (signal.strsignal(-done.returncode) if done.returncode < 0 else "", done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def sound(place):
    assert check(place).sound
    with vexfs.open(place) as fs:
        assert fs.ingest.wait(120)
        assert [hit.path for hit in fs.search("passport", mode="keyword")] == ["/docs/a.txt"]
        assert [hit.path for hit in fs.index("points").query([1, 0])] == ["/points/a"]


@pytest.mark.parametrize(
    "where",
    ["index.Loading", "Catalog._add", "catalog.stand_behind", "Settling.begin", "Upkeep.begin",
     "Catalog.ingesting"],
)  # fmt: skip
def test_while_it_is_opened(place, where):
    assert ran(OPENED, place, where) == "interrupted\n" * 2
    sound(place)


def test_while_it_is_closed(place):
    assert ran(CLOSED, place) == "interrupted\n"
    sound(place)
    with vexfs.open(place) as fs:
        assert fs.read_text("docs/b.txt") == "renewed"
