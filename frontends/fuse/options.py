"""Mount options: the words behind ``-o``, checked before anything is touched.

An option is for one of four readers: the kernel (``ro``, ``nosuid`` ...), the view of the tree that the kernel gets
(``uid=``, ``umask=`` ...), the volume (``cache_size=``, ``noatime`` ...), or ``mount(8)`` alone (``noauto`` ...).
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from vexfs.errors import ConfigError

#: Words that libfuse and the kernel understand by themselves.
KERNEL_WORDS = frozenset({
    "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync",
    "allow_other", "allow_root", "nonempty",
})  # fmt: skip
#: Words of ``/etc/fstab`` that mean something to ``mount(8)`` and nothing to a filesystem.
FSTAB_WORDS = frozenset({
    "defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "group", "nofail", "_netdev",
})  # fmt: skip
ATIME_WORDS = frozenset({"noatime", "relatime", "strictatime"})

#: A word of a list with what ends it, and a character in a word that a backslash protects.
_WORD = re.compile(r"((?:\\.|[^,])*)(?:,|$)", re.DOTALL)
_PROTECTED = re.compile(r"\\([0-3][0-7]{2}|.)", re.DOTALL)
_SIZE = re.compile(r"(\d+)\s*(|[KMGT]i?)B?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError('a size such as "64MB", "1GiB" or a number of bytes')
    return int(match[1]) << (10 * _POWERS[match[2][:1].lower()])


def _whole(lowest: int, highest: int, base: int = 10) -> Callable[[str], int]:
    def read(text: str) -> int:
        wanted = f"a whole number from {lowest:o} to {highest:o} (octal)"
        if base == 10:
            wanted = f"a whole number from {lowest} to {highest}"
        try:
            value = int(text, base)
        except ValueError:
            raise ValueError(wanted) from None
        if not lowest <= value <= highest:
            raise ValueError(wanted)
        return value

    return read


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise ValueError("a number of seconds from 0 to 86400")
    return value


def _file(text: str) -> str:
    if not text:
        raise ValueError("the path of a file")
    return os.path.abspath(text)


#: NAME=VALUE options of the mount itself.
VIEW_VALUES: dict[str, Callable[[str], Any]] = {
    "uid": _whole(0, 0xFFFFFFFE),
    "gid": _whole(0, 0xFFFFFFFE),
    "umask": _whole(0, 0o777, 8),
    "attr_timeout": _seconds,
    "entry_timeout": _seconds,
    "negative_timeout": _seconds,
    "workers": _whole(1, 64),
}
#: NAME=VALUE options handed to the volume when it is opened.
VOLUME_VALUES: dict[str, Callable[[str], Any]] = {
    "cache_size": _size,
    "prefetch_size": _size,
    "dirty_limit": _size,
    "io_queue_depth": _whole(1, 1024),
    "inode_cache": _whole(16, 1 << 30),
    "key_file": _file,
}


@attrs.frozen
class MountOptions:
    """What a mount was asked to be.

    Attributes
    ----------
    kernel
        Words for libfuse and the kernel.
    read_only
        Nothing may change through this mount.
    uid, gid, umask
        Shown instead of what is stored: owner, group, and permission bits ``0777 & ~umask``.
    attr_timeout_s, entry_timeout_s, negative_timeout_s
        How long the kernel may answer from what it remembers.
    workers
        At most this many requests are worked on at once; all but one only while others wait for the disk.
    volume
        Options for opening the volume.
    """

    kernel: frozenset[str] = frozenset()
    read_only: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    attr_timeout_s: float = 300.0
    entry_timeout_s: float = 300.0
    negative_timeout_s: float = 300.0
    workers: int = 16
    volume: dict[str, Any] = attrs.field(factory=dict)

    def made_read_only(self) -> "MountOptions":
        """The same with ``ro``: for a volume that is open for reading alone."""
        return attrs.evolve(self, kernel=(self.kernel - {"rw"}) | {"ro"}, read_only=True)


def split(groups: Iterable[str]) -> list[str]:
    """The words of comma-separated lists, as they stand: backslashes that protect a comma are still there."""
    return [word for group in groups for found in _WORD.findall(group) if (word := found.strip())]


def _plain(word: str) -> str:
    """Without the backslashes, as libfuse reads them: before a character, or three digits that are its octal number."""
    return _PROTECTED.sub(lambda m: m[1] if len(m[1]) == 1 else os.fsdecode(bytes([int(m[1], 8)])), word)


def parse(words: Iterable[str]) -> MountOptions:
    """Read options, each of `words` a comma-separated list as behind one ``-o``; a backslash protects a comma.

    Raises
    ------
    ConfigError
        An option is unknown, lacks its value, has one that it does not take, or has a bad one; the message names it
        and what would be right.
    """
    kernel: set[str] = set()
    view: dict[str, Any] = {}
    volume: dict[str, Any] = {}
    for word in map(_plain, split(words)):
        name, has_value, value = word.partition("=")
        if word in FSTAB_WORDS or name.startswith("x-") or name == "comment":
            continue
        if word in KERNEL_WORDS:
            kernel.add(word)
        elif word in ATIME_WORDS:
            volume["atime"] = word
        elif word == "direct_io":
            volume["direct_io"] = True
        elif word == "default_permissions":
            pass  # always on: the kernel checks permissions, whoever mounts
        elif name in VIEW_VALUES or name in VOLUME_VALUES:
            target = view if name in VIEW_VALUES else volume
            target[name] = _value(name, has_value, value)
        else:
            raise ConfigError(_unknown(name, bool(has_value)))
    for off, on in (("rw", "ro"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("async", "sync")):
        kernel.discard(off) if on in kernel else None
    if {"allow_other", "allow_root"} <= kernel:
        raise ConfigError("options allow_other and allow_root exclude each other; give one of them")
    times = {f"{k}_s": view.pop(k) for k in ("attr_timeout", "entry_timeout", "negative_timeout") if k in view}
    return MountOptions(kernel=frozenset(kernel), read_only="ro" in kernel, volume=volume, **times, **view)


def _value(name: str, has_value: str, value: str) -> Any:
    read = VIEW_VALUES.get(name) or VOLUME_VALUES[name]
    try:
        if not has_value:
            raise ValueError(f"a value: {name}=...")
        return read(value)
    except ValueError as error:
        got = f", not {value!r}" if has_value else ""
        raise ConfigError(f"option {name} takes {error}{got}") from None


def _unknown(name: str, has_value: bool) -> str:
    valued = [*VIEW_VALUES, *VOLUME_VALUES]
    plain = sorted(KERNEL_WORDS | ATIME_WORDS | {"default_permissions", "direct_io"})
    if has_value and name in plain:
        return f"option {name} takes no value"
    near = difflib.get_close_matches(name, [*valued, *plain], n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join([*plain, *(v + '=' for v in valued)])}"
    return f"unknown mount option {name!r}{hint}"
