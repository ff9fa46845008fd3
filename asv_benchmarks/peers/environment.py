"""A place of its own for the peers' packages: they are compared with, and never asked of a user."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "peers"
#: One thread each, so that kernels are compared and not schedulers.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NK_NUM_THREADS"), "1")
#: These pin numpy's BLAS to another processor's kernels.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "VEXFS_SIMD")


def install(name: str, packages: Sequence[str], *, whole: bool = False) -> Path:
    """Put `packages` where only the comparison looks; `whole`: with what they depend on.  numpy is the one in use."""
    target = PLACE / name
    wanted, stamp = "\n".join(packages), target / "packages.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        command = [sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", str(target)]
        more = [f"numpy=={version('numpy')}"] if whole else ["--no-deps"]
        subprocess.run([*command, *packages, *more], check=True)
        stamp.write_text(wanted)
    return target


def measure(module: str, place: Path, *arguments: str) -> Any:
    """Run ``python -m module`` with the peers of `place` within reach, one thread each; its JSON is the answer."""
    environment = {key: value for key, value in os.environ.items() if key not in UNSET} | ONE_THREAD
    path = [str(ROOT), str(place), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)
