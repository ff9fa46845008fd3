"""The conformance suite on a mounted volume; and on the host's own directory, which shows that the suite is right."""

import errno
import os

import pytest

from tests.posix.conftest import NATIVE_LACKS
from vexfs.testing.posix import Target, cases, run
from vexfs.testing.posix.suite import play, why_not
from vexfs.testing.posix.target import Failed


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("kind", ["mounted", "native"])
def test_conformance(kind, name, request):
    target = request.getfixturevalue(f"{kind}_target")
    reason = why_not(target, name)
    if reason:
        pytest.skip(reason)
    assert play(target, name) > 0 or name == "content.efbig"


def test_a_directory_that_answers_wrongly_is_caught(tmp_path, monkeypatch):
    """One call that accepts what it should refuse, and one that loses a bit of what it is told."""
    rmdir, unlink, utime = os.rmdir, os.unlink, os.utime
    monkeypatch.setattr(os, "rmdir", lambda path: unlink(path) if os.path.isfile(path) else rmdir(path))

    def forgetful(path, **how):
        utime(path, **{**how, "ns": (how["ns"][0] & ~1, how["ns"][1])} if "ns" in how else how)

    monkeypatch.setattr(os, "utime", forgetful)
    others = [name for name in cases() if name.partition(".")[0] in ("permissions", "content")]
    lacks = NATIVE_LACKS | dict.fromkeys(others, "not what is planted here")
    report = run(Target(str(tmp_path), step_s=0.012, lacks=lacks))
    assert {"names.rmdir", "attributes.utimensat"} <= set(report.failures)
    assert not any(name.startswith("extended") for name in report.failures if name not in lacks)
    assert report.checks > 500


def test_checks_that_do_not_hold_are_failures(tmp_path):
    from vexfs.testing.posix import Stage

    stage = Stage(Target(str(tmp_path)), "x")
    for wrong in (
        lambda: stage.same(1, 2),
        lambda: stage.true(False, "it"),
        lambda: stage.refuses(errno.ENOENT, os.stat, stage.here),
        lambda: stage.refuses(errno.EPERM, os.stat, stage.at("nothing")),
    ):
        with pytest.raises(Failed):
            wrong()
    with pytest.raises(Failed), stage.touches(stage.here, "mtime"):
        pass
    with pytest.raises(Failed), stage.touches(stage.here):
        stage.file("f")
