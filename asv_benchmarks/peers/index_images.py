"""A second data set, of another character than sentences: histograms of gradients around points of real pictures.

128 whole numbers each, 4 x 4 cells of 8 directions as in SIFT, compared by euclidean distance.  Points and scales are
drawn at random, in one fixed order, from the wallpapers of Debian packages.  Kept in the cache.
"""

import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asv_benchmarks.peers import environment
from asv_benchmarks.peers.index_data import CACHE, QUERIES

PACKAGES = ("pillow==12.0.0",)
DEBIAN = ("mate-backgrounds", "plasma-workspace-wallpapers", "ukui-wallpapers")
ROWS, CELLS, CELL, WAYS = 200_000, 4, 4, 8
#: Pixels of the picture to one of the patch, and the longest side that a picture is taken at.
SCALES, SIDE = (1.0, 1.6, 2.5, 4.0), 1600
#: Patches with less contrast say nothing.
FLAT, CLIPPED = 40.0, 0.2

Floats = NDArray[np.float32]


def _pictures(place: Path) -> Iterator[Path]:
    for package in DEBIAN:
        command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package]
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
        (archive,) = place.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(place / package)], check=True)
        found = (p for p in (place / package).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
        yield from sorted(p for p in found if p.is_file() and not p.is_symlink() and p.stat().st_size > 100_000)


def _cells(grey: Floats) -> Floats:
    """Sums of the gradient by direction over every CELL x CELL square, (WAYS, height, width)."""
    down, right = np.gradient(grey)
    size = np.hypot(down, right)
    turn = (np.arctan2(down, right) / (2 * math.pi) * WAYS) % WAYS
    low, part = np.floor(turn).astype(np.int64) % WAYS, turn - np.floor(turn)
    out = []
    for way in range(WAYS):
        share = np.where(low == way, 1 - part, 0) + np.where((low + 1) % WAYS == way, part, 0)
        summed = np.pad((size * share).cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
        square = summed[CELL:, CELL:] - summed[:-CELL, CELL:] - summed[CELL:, :-CELL] + summed[:-CELL, :-CELL]
        out.append(square.astype(np.float32))
    return np.stack(out)


def histograms(grey: Floats, count: int, random: np.random.Generator) -> Floats:
    """At most `count` descriptors of a picture, float32 (n, 128) of whole numbers from 0 to 255."""
    cells = _cells(grey)
    reach = CELL * (CELLS - 1)
    y = random.integers(0, cells.shape[1] - reach, count)
    x = random.integers(0, cells.shape[2] - reach, count)
    steps = range(0, CELL * CELLS, CELL)
    found = np.concatenate([cells[:, y + down, x + right] for down in steps for right in steps]).T
    length = np.linalg.norm(found, axis=1, keepdims=True)
    found, length = found[length[:, 0] > FLAT], length[length[:, 0] > FLAT]
    found = np.minimum(found / length, CLIPPED)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return np.minimum(np.rint(found * 512), 255).astype(np.float32)


def _made(rows: int) -> Floats:
    sys.path.append(str(environment.install("pictures", PACKAGES)))
    from PIL import Image

    random, parts = np.random.default_rng(11), []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        pictures = list(_pictures(place))
        each = math.ceil(3 * rows / (len(pictures) * len(SCALES)))
        for path in pictures:
            with Image.open(path) as opened:
                picture = opened.convert("L")
            picture.thumbnail((SIDE, SIDE))
            for scale in SCALES:
                size = (max(64, int(picture.width / scale)), max(64, int(picture.height / scale)))
                grey = np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32)
                parts.append(histograms(grey, each, random))
    found = np.unique(np.concatenate(parts), axis=0)
    if len(found) < rows:
        raise SystemExit(f"the pictures give {len(found)} descriptors; {rows} are wanted")
    return found[random.permutation(len(found))[:rows]]


def descriptors(rows: int) -> tuple[Floats, Floats]:
    """Base rows (float32, (rows, 128), at most 200,000) and queries (1000, 128)."""
    kept = CACHE / "pictures.npy"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(kept, _made(ROWS + QUERIES).astype(np.uint8))
    found = np.load(kept)[: rows + QUERIES].astype(np.float32)
    return found[QUERIES:], found[:QUERIES]
