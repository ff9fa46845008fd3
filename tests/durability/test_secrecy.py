"""An encrypted volume's bytes say nothing of what it holds."""

import os

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
NAME, CONTENT, XATTR, VALUE, TARGET, GONE = (
    b"planted-%s-76f3a1c5" % what for what in (b"name", b"content", b"xattr", b"value", b"target", b"gone")
)


def fill(fs):
    fs.mkdir(NAME + b"-directory")
    fs.write_file(NAME + b"-inline", CONTENT)
    fs.write_file(NAME + b"-large", CONTENT * 20_000)
    fs.write_file(NAME + b"-directory/" + NAME, os.urandom(5000) + CONTENT)
    fs.symlink(TARGET, NAME + b"-link")
    fs.setxattr(NAME + b"-inline", b"user." + XATTR, VALUE)
    fs.setxattr(NAME + b"-inline", b"user.long", VALUE * 2000)
    fs.write_file(GONE, GONE * 1000)
    fs.sync()
    fs.unlink(GONE)
    fs.rename(NAME + b"-large", NAME + b"-larger")
    fs.sync()
    fs.compact()


def everything(directory):
    return {path: path.read_bytes() + os.fsencode(path.name) for path in directory.rglob("*") if path.is_file()}


def found(directory):
    return {
        (path.name, plant)
        for path, raw in everything(directory).items()
        for plant in (NAME, CONTENT, XATTR, VALUE, TARGET, GONE)
        if plant in raw
    }


def test_nothing_planted_is_in_the_bytes(volume, tmp_path):
    fs = volume(meta_key=KEY, data_key=OTHER, compression="none", log_limit=8192, commit_delay_ms=1)
    fill(fs)
    assert found(tmp_path / "volume") == set()  # in the log too, while it is open
    fs.backup_meta(tmp_path / "backup.db")
    fs.close()
    assert found(tmp_path) == set()


def test_the_search_would_find_them(volume, tmp_path):
    fs = volume(compression="none")
    fill(fs)
    assert {plant for _, plant in found(tmp_path / "volume")} == {NAME, CONTENT, XATTR, VALUE, TARGET, GONE}
