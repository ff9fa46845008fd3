"""Key files and wrapped keys: every way in which one can be wrong has its own clear error."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vexfs.errors import Exists, FormatUnknown, KeyFileDamaged, KeyMissing, KeyWrong, VolumeDamaged
from vexfs.store import keys

KEY, OTHER, MASTER = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))


def test_a_created_file_gives_its_key_back(tmp_path):
    path = tmp_path / "volume.key"
    key = keys.create_key_file(path)
    assert len(key) == 32
    assert keys.load_key_file(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.create_key_file(tmp_path / "second.key") != key


def test_the_mode_does_not_depend_on_the_umask(tmp_path):
    old = os.umask(0)
    try:
        keys.create_key_file(tmp_path / "k")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600


def test_a_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / "k"
    key = keys.create_key_file(path)
    with pytest.raises(Exists, match="never overwritten"):
        keys.create_key_file(path)
    assert keys.load_key_file(path) == key


def test_missing(tmp_path):
    with pytest.raises(KeyMissing, match="no such key file") as caught:
        keys.load_key_file(tmp_path / "none")
    assert os.fspath(caught.value.filename) == os.fspath(tmp_path / "none")


def test_readable_by_others_is_told(tmp_path):
    path = tmp_path / "k"
    key = keys.create_key_file(path)
    path.chmod(0o640)
    with pytest.warns(UserWarning, match="chmod 600"):
        assert keys.load_key_file(path) == key


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "k"
    keys.create_key_file(path)
    whole = path.read_bytes()
    for n in range(len(whole) - 1):  # without its last newline the file is still whole
        path.write_bytes(whole[:n])
        with pytest.raises(KeyFileDamaged):
            keys.load_key_file(path)


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "k"
    key = keys.create_key_file(path)
    whole = path.read_bytes()
    line = whole.index(b"vexfs-key-1")
    noticed = 0
    for i in range(line, len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
            try:
                assert keys.load_key_file(path) == key  # a hex digit in the other case, white space for white space
            except (KeyFileDamaged, FormatUnknown):
                noticed += 1
    assert noticed > 8 * (len(whole) - line) * 0.8


@pytest.mark.parametrize("content", [b"", b"\n", b"# VexFS key file\n", b"\xff" * 100, b"x" * 10_000, b"vexfs-key-1"])
def test_not_a_key_file(tmp_path, content):
    (tmp_path / "k").write_bytes(content)
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(KeyFileDamaged):
        keys.load_key_file(tmp_path / "k")


def test_a_newer_key_file_is_named_as_such(tmp_path):
    path = tmp_path / "k"
    keys.create_key_file(path)
    path.write_text(path.read_text().replace("vexfs-key-1", "vexfs-key-2"))
    with pytest.raises(FormatUnknown, match="format 2"):
        keys.load_key_file(path)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.text(max_size=40))
def test_wrapping(master, key, volume):
    wrapped = keys.wrap(master, key, volume=volume)
    assert keys.unwrap(wrapped, key, volume=volume) == master
    assert wrapped.isascii()
    assert not set(wrapped) & set(" \n\"'\\")
    assert wrapped.split(":")[1] == keys.key_id(key)
    assert keys.wrap(master, key, volume=volume) != wrapped, "a nonce was used twice"


def test_a_wrong_key_names_both():
    wrapped = keys.wrap(MASTER, KEY)
    with pytest.raises(KeyWrong, match="give the key file that it was made with, or") as caught:
        keys.unwrap(wrapped, OTHER)
    assert keys.key_id(KEY) in str(caught.value)
    assert keys.key_id(OTHER) in str(caught.value)


def test_a_wrapped_key_opens_in_its_own_volume_only():
    wrapped = keys.wrap(MASTER, KEY, volume="one")
    with pytest.raises(VolumeDamaged, match="another volume"):
        keys.unwrap(wrapped, KEY, volume="two")


def test_every_altered_character_is_noticed():
    wrapped = keys.wrap(MASTER, KEY)
    for i, old in enumerate(wrapped):
        for new in "A" if old != "A" else "B", "\n", "é":
            with pytest.raises((KeyWrong, VolumeDamaged, FormatUnknown)):
                keys.unwrap(wrapped[:i] + new + wrapped[i + 1 :], KEY)
        with pytest.raises((KeyWrong, VolumeDamaged, FormatUnknown)):
            keys.unwrap(wrapped[:i], KEY)


def test_rotation_keeps_the_master_key_and_shuts_the_old_one_out():
    wrapped = keys.wrap(MASTER, KEY, volume="v")
    turned = keys.rotate(wrapped, KEY, OTHER, volume="v")
    assert keys.unwrap(turned, OTHER, volume="v") == MASTER
    with pytest.raises(KeyWrong):
        keys.unwrap(turned, KEY, volume="v")
    with pytest.raises(KeyWrong):
        keys.rotate(turned, KEY, OTHER, volume="v")


@pytest.mark.parametrize("bad", [b"", b"x" * 31, b"x" * 33])
def test_keys_have_32_bytes(bad):
    with pytest.raises(ValueError, match="32 bytes"):
        keys.wrap(MASTER, bad)
    with pytest.raises(ValueError, match="32 bytes"):
        keys.wrap(bad, KEY)
    with pytest.raises(ValueError, match="32 bytes"):
        keys.key_id(bad)
