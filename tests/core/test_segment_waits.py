"""Nobody waits while the host syncs or removes a segment or cuts off what it has too much, which takes milliseconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GATE = Path(__file__).with_name("gate.c")
PROGRAM = '''
import os, sys, threading, time
from pathlib import Path
from vexfs._core.fs import Filesystem
from vexfs._core.segment import FRAME_MAX, SegmentStore

gate, place = Path(os.environ["VX_GATE"]), Path(sys.argv[1])

third = os.urandom(FRAME_MAX // 3) + bytes(FRAME_MAX - FRAME_MAX // 3)

def until(true, what):
    end = time.monotonic() + 240
    while not true():
        if time.monotonic() > end:
            print("nothing came of:", what, flush=True)
            os._exit(1)
        time.sleep(0.002)

def while_it_waits(call, name, *others):
    """Each of the others ends while the call waits at the gate."""
    slow = threading.Thread(target=call, daemon=True)
    slow.start()
    until((gate / f"{name}.here").exists, name)
    for other in others:
        thread = threading.Thread(target=other, daemon=True)
        thread.start()
        until(lambda: not thread.is_alive(), f"{other.__name__} during {name}")
    (gate / f"{name}.go").touch()
    slow.join()

def the_store(mode):
    store = SegmentStore(place, **mode)
    kept, gone = store.append([(1, 0, b"kept")]), None
    store.seal()
    gone = store.append([(2, 0, b"gone")])[0]
    store.seal()
    def reading(): store.drop_cache(); assert store.read(kept[0]) == b"kept"
    def appending(): kept.extend(store.append([(1, 4, b"more")]))
    def telling(): store.stats()
    def syncing(): store.sync()
    return store, gone, [reading, appending, telling, syncing]
'''
CASES = {
    "a removal": (
        "store, gone, others = the_store({})\n"
        "while_it_waits(lambda: store.delete(gone.seg), 'unlink', *others)"
    ),
    "the last claim on a removed one": (
        "store, gone, others = the_store({})\nstore.pin(gone.seg)\nstore.delete(gone.seg)\n"
        "while_it_waits(lambda: store.unpin(gone.seg), 'unlink', *others)"
    ),
    "the end of one with room left": (
        "store, gone, others = the_store({'compression': 'lz4'})\n"
        "store.append([(3, i, third) for i in range(100)])\n"
        "while_it_waits(store.seal, 'ftruncate', *others)"
    ),
    "the end of one that is full": (
        "store, gone, others = the_store({'segment_bytes': 1 << 20})\n"
        "for i in range(8):\n"
        "    store.append([(3, i, b'small')])\n"
        "    store.sync()\n"
        "while_it_waits(lambda: store.append([(4, i, third) for i in range(8)]), 'ftruncate', *others)"
    ),
    "a sync, and those who come meanwhile share the next": (
        "store, gone, others = the_store({})\n"
        "store.append([(3, 0, b'new')])\n"
        "before = store.stats()['syncs']\n"
        "(gate / 'fdatasync.shut').touch()\n"
        "late = [threading.Thread(target=store.sync, daemon=True) for _ in range(7)]\n"
        "def coming():\n"
        "    for thread in late: thread.start()\n"
        "    until(lambda: store.stats()['sync_waits'] >= 7, 'waiting for a sync')\n"
        "while_it_waits(store.sync, 'fdatasync', *others[:3], coming)\n"
        "for thread in late: thread.join()\n"
        "assert store.stats()['syncs'] == before + 2"
    ),
    "space given back by the filesystem": (
        "(place / 'segments').mkdir()\n"
        "fs = Filesystem(place, create=True, owner=(os.geteuid(), os.getegid()), compression='none')\n"
        "fs.write_file('/kept', b'k' * 100_000)\nfs.write_file('/gone', bytes(100_000_000))\nfs.sync()\n"
        "def remove(): fs.unlink('/gone'); fs.sync()\n"
        "def looking(): assert fs.stat('/kept').st_size == 100_000 and fs.listdir('/') == ['kept']\n"
        "def reading(): assert fs.read_file('/kept') == b'k' * 100_000\n"
        "def writing(): fs.write_file('/new', b'n' * 100_000)\n"
        "while_it_waits(remove, 'unlink', looking, reading, writing)\n"
        "fs.close()"
    ),
}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("gate") / "gate.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library, GATE], check=True)
    return library


@pytest.mark.parametrize("case", CASES)
def test_nobody_waits_meanwhile(tmp_path: Path, gate: Path, case: str) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "place").mkdir()
    preloaded = [*os.environ.get("LD_PRELOAD", "").split(":"), str(gate)]  # a sanitizer comes first
    environment = {**os.environ, "LD_PRELOAD": ":".join(filter(None, preloaded)), "VX_GATE": str(tmp_path / "gate")}
    done = subprocess.run([sys.executable, "-c", PROGRAM + CASES[case], tmp_path / "place"], env=environment,
                          capture_output=True, text=True, timeout=280, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
