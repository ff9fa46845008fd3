"""A volume against the model: a short form, and one of thousands of steps."""

import os
import stat

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.posix.machine import AgainstModel
from vexfs.volume import Volume


def run(examples: int, steps: int, *, repeatable: bool = False) -> None:
    run_state_machine_as_test(
        AgainstModel,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=repeatable,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_volume_answers_as_the_model_does() -> None:
    run(25, 40, repeatable=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_volume_answers_as_the_model_does_for_long() -> None:
    run(400, 100)


def test_a_slash_behind_a_symlink_follows_every_link(tmp_path) -> None:
    with Volume.create(tmp_path / "v") as volume:
        fs = volume.filesystem
        fs.mkdir("d")
        fs.symlink("d", "near")
        fs.symlink("near", "far")
        assert fs.resolve("far/", follow_symlinks=False) == fs.resolve("d")
        assert fs.resolve("far", follow_symlinks=False) != fs.resolve("d")


def test_making_what_a_symlink_with_a_slash_leads_to_is_refused_as_linux_does(tmp_path) -> None:
    with Volume.create(tmp_path / "v") as volume:
        fs = volume.filesystem
        fs.write_file("f", b"")
        fs.mkdir("d")
        for target, name in (("f/", "to_file"), ("to_file", "to_link"), ("d/", "to_directory"), ("none/", "to_none")):
            fs.symlink(target, name)
            for flags in (os.O_RDWR, os.O_RDONLY):
                with pytest.raises(IsADirectoryError):
                    fs.open(name, os.O_CREAT | flags)
        fs.symlink("f", "to_plain")
        fs.symlink("to_plain", "d/../to_plainer")
        ino = fs.open("to_plainer", os.O_CREAT | os.O_RDWR)
        assert ino == fs.resolve("f")
        fs.release(ino)


def test_a_path_behind_symlinks_may_be_as_long_as_any(tmp_path) -> None:
    with Volume.create(tmp_path / "v") as volume:
        fs = volume.filesystem
        fs.mkdir("d")
        fs.write_file("d/f", b"here")
        fs.symlink("./" * 2000 + "d", "far")
        fs.symlink("far/" + "./" * 2000 + "../far", "d/farther")
        fs.symlink("d/" + "./" * 2000 + "farther", "farthest")
        fs.symlink("../far", "d/far")
        for rest in (10, 3000, 10_000, 400_000):
            assert fs.read_file("far/" + "./" * rest + "f") == b"here"
            assert fs.read_file("farthest/" + "./" * rest + "far/f") == b"here"
            fs.mkdir("farthest/" + "./" * rest + "new")
            fs.rmdir("d/new")


def test_mkdir_gives_no_set_id_bits_and_chown_takes_them(tmp_path) -> None:
    with Volume.create(tmp_path / "v") as volume:
        fs = volume.filesystem
        fs.mkdir("d", 0o7777)
        assert fs.stat("d").st_mode & 0o7777 == 0o1777
        fs.mknod("f", stat.S_IFREG | 0o4644)
        fs.utimens("f", None, None)
        assert fs.stat("f").st_mode & 0o7777 == 0o4644
        fs.chown("f", 12, -1)
        assert fs.stat("f").st_mode & 0o7777 == 0o644
