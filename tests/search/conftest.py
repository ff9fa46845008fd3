import numpy as np
import pytest

import vexfs


@pytest.fixture
def fs(tmp_path):
    with vexfs.open(tmp_path / "v") as volume:
        yield volume


@pytest.fixture
def reopen(tmp_path, fs):
    """Close the volume and open it again."""
    opened = [fs]

    def again(**options):
        opened[-1].close()
        opened.append(vexfs.open(tmp_path / "v", **options))
        return opened[-1]

    yield again
    opened[-1].close()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def vectors(rng):
    """Clustered, as embeddings are: (600, 32) float32, of length 1."""
    centres = rng.standard_normal((12, 32))
    return unit(centres[rng.integers(0, 12, 600)] + 0.4 * rng.standard_normal((600, 32))).astype(np.float32)


@pytest.fixture
def papers(fs, vectors):
    """An index of 500 records with attributes; ids p000 .. p499."""
    index = fs.index("papers", dim=32)
    index.upsert(
        [f"p{k:03d}" for k in range(500)], vectors[:500],
        [{"year": 2000 + k % 20, "lang": "en" if k % 3 else "de"} for k in range(500)],
    )  # fmt: skip
    return index
