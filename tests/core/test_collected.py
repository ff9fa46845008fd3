"""What a garbage collector finds in a ring comes apart in any order: nothing is used after it has gone."""

import os
import subprocess
import sys

PROGRAM = """
import gc, pathlib, sys
from vexfs._core.bridge import Bridge
from vexfs._core.frame import Frames
from vexfs._core.fs import Filesystem
from vexfs._core.pool import Pool
class Holder:
    pass
gc.disable()
for turn in range(5):
    path = pathlib.Path(sys.argv[1]) / str(turn)
    (path / "segments").mkdir(parents=True)
    bridge = Bridge(capacity=64)
    bridge.start()
    fs = Filesystem(str(path), create=True, bridge=bridge, pool=Pool(), frames=Frames())
    fs.mkdir("/made")
    holder = Holder()
    holder.fs, holder.itself = fs, holder
    bridge.handler(3, fs.mkdir)
    del bridge, fs, holder
    gc.collect()
    again = Filesystem(str(path), create=False)
    assert [name for name, *_ in again.scandir("/")] == [b"made"]
    again.close()
print("sound")
"""


def test_a_volume_that_nobody_closed(tmp_path):
    """It commits as it goes, with its bridge and pool; freed memory is overwritten here, so that its use shows."""
    command = [sys.executable, "-X", "faulthandler", "-c", PROGRAM, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"MALLOC_PERTURB_": "165"})
    assert ran.stdout == "sound\n", ran.stderr
