"""Searching with no program but the shell, on a real mount."""

import errno
import gc
import os
import shutil
import subprocess
import time
import tomllib

import pytest
from vexfs.frontends.fuse.searching import link_name, options_of
from vexfs.frontends.fuse.virtual import Link

import vexfs
from tests.frontends.fuse.conftest import NO_MOUNTS
from tests.search.test_damaged_table import half_damaged

TEXTS = {
    "docs/coffee/roasts.md": "# Roasts\n\nLight roasts keep acidity; dark roasts are bitter.",
    "docs/coffee/water.md": "# Water\n\nFilter the water for espresso.",
    "docs/travel/passport.txt": "How to renew a passport: bring a photo and the old one.",
    "docs/bread.txt": "Sourdough needs flour, water, salt and time.",
}


@pytest.fixture
def found(inside):
    """A mount with a small library in it, indexed: the volume, the mountpoint."""
    volume, mnt, _ = inside
    for path, text in TEXTS.items():
        (mnt / path).parent.mkdir(parents=True, exist_ok=True)
        (mnt / path).write_text(text)
    from vexfs.search.textindex import create_text_index

    create_text_index(volume.catalog, "docs", "default")
    assert volume.catalog.ingesting().wait(120)
    return volume, mnt


def listed(directory):
    return [(name, (directory / name).resolve()) for name in sorted(os.listdir(directory))]


def test_a_question_is_a_directory_of_links_that_open(found):
    _, mnt = found
    results = listed(mnt / "docs/.vexfs/search/how do I renew my passport")
    assert results[0][1] == mnt / "docs/travel/passport.txt"
    assert results[0][0].startswith("01-") and results[0][0].endswith("-passport.txt")
    first = mnt / "docs/.vexfs/search/how do I renew my passport" / results[0][0]
    assert first.is_symlink() and "bring a photo" in first.read_text()
    out = subprocess.run(["ls", f"{mnt}/docs/.vexfs/search/renew passport"], capture_output=True, text=True, check=True)
    assert out.stdout.split()[0].endswith("-passport.txt")


def test_the_directory_is_the_scope(found):
    _, mnt = found
    coffee = listed(mnt / "docs/coffee/.vexfs/search/water")
    assert {path for _, path in coffee} == {mnt / "docs/coffee/water.md", mnt / "docs/coffee/roasts.md"}
    assert coffee[0][1].name == "water.md"
    assert len(listed(mnt / ".vexfs/search/water")) == 4


def test_options_in_the_text(found):
    _volume, mnt = found
    home = mnt / "docs/.vexfs/search"
    assert [p.name for _, p in listed(home / "water mode=keyword")] != []
    assert {p.name for _, p in listed(home / "water mode=keyword")} == {"water.md", "bread.txt"}
    assert len(listed(home / "water k=1")) == 1
    os.setxattr(mnt / "docs/bread.txt", "user.year", b"2021")
    os.setxattr(mnt / "docs/coffee/water.md", "user.year", b"2019")
    assert [p.name for _, p in listed(home / "water where.year>=2020")] == ["bread.txt"]
    for odd in ("water k=0", "water mode=magic", "k=3", "water where.=3", "water k=x"):
        with pytest.raises(OSError) as caught:
            os.listdir(home / odd)
        assert caught.value.errno in (errno.EINVAL, errno.ENOENT), odd


@pytest.mark.parametrize(
    "text",
    ["'quoted' \"words", "喝咖啡", "кофе", "a" * 255, "* ? [x] +must -not pre*", "tab\tnew\nline", "x=y", "%2Fetc%2Fx"],
)
def test_odd_questions_are_answered(found, text):
    _, mnt = found
    for _, path in listed(mnt / "docs/.vexfs/search" / text):
        assert path.is_file()


def test_questions_that_cannot_be_are_refused(found):
    _, mnt = found
    home = os.fsencode(mnt / "docs/.vexfs/search")
    for name, code in [(b"\xff\xfe", errno.EILSEQ), (b".git", errno.ENOENT), (b"a/b", errno.ENOENT),
                       (b"a" * 256, errno.ENAMETOOLONG), (b"a* " * 70, errno.EINVAL)]:  # fmt: skip
        with pytest.raises(OSError) as caught:
            os.listdir(home + b"/" + name)
        assert caught.value.errno == code, name
    (mnt / "plain").mkdir()
    with pytest.raises(OSError) as caught:
        os.listdir(mnt / "plain/.vexfs/search/anything")
    assert caught.value.errno == errno.EOPNOTSUPP


def test_files_like_another_one(found):
    _, mnt = found
    results = listed(mnt / "docs/coffee/.vexfs/similar/roasts.md")
    assert [path.name for _, path in results] == ["water.md"]
    with pytest.raises(FileNotFoundError):
        os.listdir(mnt / "docs/coffee/.vexfs/similar/nothing.md")


def test_changes_show_and_names_stay_while_they_are_used(found):
    volume, mnt = found
    home = mnt / "docs/.vexfs/search/sourdough bread"
    before = listed(home)
    assert before[0][1].name == "bread.txt"
    (mnt / "docs/bread.txt").unlink()
    (mnt / "docs/rye.txt").write_text("Rye sourdough bread is dense.")
    assert volume.catalog.ingesting().wait(120)
    assert os.readlink(home / before[0][0])
    time.sleep(1.1)
    assert listed(home)[0][1].name == "rye.txt"
    assert os.readlink(home / before[0][0]).endswith("bread.txt")


def links():
    return sum(isinstance(each, Link) for each in gc.get_objects())


def test_results_of_many_questions_are_not_kept_for_as_long_as_the_kernel_knows_them(found):
    _, mnt = found
    gc.collect()  # those of earlier mounts
    before = links()
    first = mnt / "docs/.vexfs/search/water for espresso 0"
    names = sorted(os.listdir(first))
    held = os.open(first, os.O_RDONLY)
    for k in range(1, 400):
        assert os.listdir(mnt / f"docs/.vexfs/search/water for espresso {k}")
    assert links() - before < 600
    assert sorted(os.listdir(held)) == names
    os.close(held)
    assert sorted(os.listdir(first)) == names and (first / names[0]).read_text()


def test_nothing_that_walks_a_tree_walks_into_it(found, tmp_path):
    _, mnt = found
    os.listdir(mnt / "docs/.vexfs/search/water")
    out = subprocess.run(["find", mnt], capture_output=True, text=True, check=True).stdout
    assert ".vexfs" not in out
    subprocess.run(["cp", "-a", mnt, tmp_path / "copy"], check=True)
    copied = sorted(str(p.relative_to(tmp_path / "copy")) for p in (tmp_path / "copy").rglob("*") if p.is_file())
    assert copied == sorted(TEXTS)
    assert ".vexfs" not in subprocess.run(["du", "-a", mnt], capture_output=True, text=True, check=True).stdout
    tar = subprocess.run(["tar", "-C", mnt, "-cf", "-", "."], capture_output=True, check=True).stdout
    assert b".vexfs" not in tar
    if shutil.which("rsync"):
        subprocess.run(["rsync", "-a", f"{mnt}/", tmp_path / "synced"], check=True)
        assert not list((tmp_path / "synced").rglob("*.vexfs*"))
    assert os.listdir(mnt / "docs/.vexfs/search") == []


def test_listing_is_one_search_and_few_requests(found, inside):
    volume, mnt = found
    mount, tally = inside[2], volume.catalog.tally
    searches, requests = tally.total("semantic"), sum(mount.requests().values())
    for n in range(40):
        assert len(os.listdir(mnt / f"docs/.vexfs/search/water {n}")) == 4
    assert tally.total("semantic") - searches == 40
    assert sum(mount.requests().values()) - requests < 40 * 20


def test_options_of():
    assert options_of("a b") == ("a b", {"k": 10, "where": None})
    text, options = options_of("light k=20 roasts mode=keyword where.year>=2020 where.lang=en,de threshold=0.3")
    assert (text, options["k"], options["mode"], options["threshold"]) == ("light roasts", 20, "keyword", 0.3)
    assert options["where"] == {"$and": [{"year": {"$gte": 2020}}, {"lang": {"$in": ["en", "de"]}}]}
    assert options_of("and%2For")[0] == "and/or"
    with pytest.raises(ValueError, match="threshold"):
        options_of("light threshold=nan")


def test_link_names_fit():
    assert link_name(1, 10, 0.871, b"roasts.md") == b"01-0.87-roasts.md"
    assert link_name(7, 500, 0.5, b"x") == b"007-0.50-x"
    long = link_name(1, 5, 1, "é".encode() * 127 + b".md")
    assert len(long) <= 255 and long.endswith(b".md")
    assert long.decode()


def test_the_index_of_a_directory_is_readable(found):
    volume, mnt = found
    told = tomllib.loads((mnt / "docs/coffee/.vexfs/index.toml").read_text())
    assert (told["directory"], told["embedder"], told["dim"]) == ("/docs", "static", 256)
    assert told["state"]["files"] == len(TEXTS)
    assert (mnt / ".vexfs/index.toml").read_text().startswith("# No index covers")
    with pytest.raises(OSError):
        (mnt / "docs/.vexfs/index.toml").write_text("dim = 3")
    assert volume.catalog.of(volume.filesystem.resolve("docs")).dim == 256


def test_the_tree_tells_how_it_is_mounted(found):
    volume, mnt = found
    told = tomllib.loads((mnt / ".vexfs/config.toml").read_text())
    assert told["mount"]["mountpoint"] == str(mnt) and told["mount"]["volume"] == str(volume.directory)
    assert told["mount"]["read_only"] is False and told["mount"]["workers"] == 16


@pytest.mark.skipif(NO_MOUNTS is not None, reason=str(NO_MOUNTS))
def test_what_could_not_be_searched_is_told_behind_the_links(tmp_path):
    half_damaged(tmp_path / "half.vex")
    (tmp_path / "mnt").mkdir()
    with vexfs.open(tmp_path / "half.vex") as fs, fs.mount(tmp_path / "mnt"):
        home = tmp_path / "mnt/.vexfs/search/acidity"
        out = subprocess.run(["ls", home], capture_output=True, text=True, check=True).stdout.split()
        assert [name.partition("-")[0] for name in out] == ["01", "02", "not"] and out[2] == "not-searched.txt"
        text = subprocess.run(["cat", home / out[2]], capture_output=True, text=True, check=True).stdout
        assert text == "/bad: its table of rows is damaged\n"
        whole = subprocess.run(["ls", tmp_path / "mnt/good/.vexfs/search/acidity"], capture_output=True, text=True)
        assert len(whole.stdout.split()) == 1
