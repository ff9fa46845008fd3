"""A volume at work, and what observes it."""

import pytest

from tests.frontends.fuse.conftest import NO_MOUNTS
from vexfs import machinery
from vexfs._core.bridge import Bridge
from vexfs._core.frame import Frames
from vexfs._core.pool import Pool
from vexfs._core.simd import Simd
from vexfs.observe.history import History
from vexfs.observe.parts import Parts
from vexfs.volume import Volume


@pytest.fixture
def own(tmp_path):
    """A volume with a pool, frames and a bridge that nobody else counts on."""
    bridge = Bridge(lazy_sync=True)
    bridge.start()
    with Volume.create(tmp_path / "v.vex", pool=Pool(), frames=Frames(), bridge=bridge) as volume:
        yield volume
    bridge.close()


@pytest.fixture
def parts(own):
    return Parts(own, Simd(), node_id="here")


@pytest.fixture
def plain(tmp_path):
    """A volume that does without everything that can be switched off."""
    with Volume.create(tmp_path / "plain.vex", pool=None, frames=None, bridge=None) as volume:
        yield Parts(volume, Simd("scalar"))


@pytest.fixture
def history(parts):
    return History(parts)


@pytest.fixture
def inside(tmp_path):
    """A volume that this process has mounted: its parts and where."""
    if NO_MOUNTS:
        pytest.skip(NO_MOUNTS)
    (tmp_path / "mnt").mkdir()
    with Volume.create(tmp_path / "mounted.vex") as volume:
        with volume.mount(tmp_path / "mnt"):
            yield Parts(volume, machinery.simd()), tmp_path / "mnt"
