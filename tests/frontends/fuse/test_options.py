"""Mount options: each understood, each mistake named with what would be right."""

import pytest
from vexfs.frontends.fuse.options import ATIME_WORDS, FSTAB_WORDS, KERNEL_WORDS, parse
from vexfs.frontends.fuse.serving import _guarded

from vexfs.errors import ConfigError


def test_nothing_given_is_the_default():
    options = parse([])
    assert options.kernel == frozenset()
    assert not options.read_only
    assert (options.uid, options.gid, options.umask) == (None, None, None)
    assert options.attr_timeout_s == options.entry_timeout_s == options.negative_timeout_s == 300
    assert options.volume == {}


def test_lists_and_repeated_lists_add_up():
    options = parse(["ro,uid=12,gid=0", "umask=027,cache_size=2MiB", "noatime"])
    assert options.read_only
    assert options.kernel == {"ro"}
    assert (options.uid, options.gid, options.umask) == (12, 0, 0o027)
    assert options.volume == {"cache_size": 2 << 20, "atime": "noatime"}


def test_a_backslash_protects_a_comma_and_itself():
    options = parse([r"ro,key_file=/a\,b\\,noatime", r"x-note=\,ro\,", r"uid=\061\062"])
    assert options.volume == {"key_file": "/a,b\\", "atime": "noatime"}
    assert (options.kernel, options.uid) == ({"ro"}, 12)
    assert parse(["key_file=/ends\\"]).volume == {"key_file": "/ends\\"}
    assert parse([_guarded(r"key_file=/a\,suid,dev")]).volume == {"key_file": "/a,suid"}


def test_the_last_of_two_atime_words_counts():
    assert parse(["noatime,strictatime"]).volume == {"atime": "strictatime"}


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("64MB", 64 << 20), ("3GiB", 3 << 30), ("2k", 2048), ("1 T", 1 << 40)]
)
def test_sizes(text, size):
    assert parse([f"prefetch_size={text}"]).volume["prefetch_size"] == size


def test_what_only_mount_8_reads_is_let_through():
    words = [*FSTAB_WORDS, "x-systemd.automount", "comment=anything", ""]
    assert parse([",".join(words)]) == parse([])


def test_default_permissions_is_always_on_and_may_be_said():
    assert parse(["default_permissions"]) == parse([])


def test_the_stricter_word_wins():
    assert parse(["rw,ro,suid,nosuid"]).kernel == {"ro", "nosuid"}


def test_a_read_only_volume_makes_a_read_only_mount():
    made = parse(["rw,umask=077"]).made_read_only()
    assert made.read_only
    assert made.kernel == {"ro"}
    assert made.umask == 0o077


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("cach_size=1", "did you mean cache_size?"),
        ("frobnicate", "known are"),
        ("ro=1", "option ro takes no value"),
        ("uid", "option uid takes a value"),
        ("uid=root", "from 0 to 4294967294"),
        ("uid=-1", "from 0 to"),
        ("uid=4294967295", "from 0 to"),
        ("umask=888", "octal"),
        ("umask=1000", "octal"),
        ("cache_size=lots", "64MB"),
        ("cache_size=1.5G", "64MB"),
        ("attr_timeout=soon", "seconds"),
        ("attr_timeout=nan", "seconds"),
        ("attr_timeout=-1", "seconds"),
        ("workers=0", "from 1 to 64"),
        ("key_file=", "path of a file"),
        ("allow_other,allow_root", "exclude each other"),
    ],
)
def test_mistakes_are_named(word, says):
    with pytest.raises(ConfigError) as caught:
        parse([word])
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_no_word_has_two_readers():
    assert not KERNEL_WORDS & FSTAB_WORDS
    assert not ATIME_WORDS & (KERNEL_WORDS | FSTAB_WORDS)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("", {"nosuid", "nodev"}), ("ro,suid", {"ro", "suid", "nodev"}), ("dev, suid", {"dev", "suid"}),
     ("nodev", {"nosuid", "nodev"})],
)  # fmt: skip
def test_a_node_mounts_without_devices_and_set_user_ids_unless_told(given, wanted):
    """Whoever may write over HTTP would make root's programs on the host."""
    assert parse([_guarded(given)]).kernel == wanted
