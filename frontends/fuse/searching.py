"""Searches as directories of symlinks: ``DIR/.vexfs/search/TEXT/`` and ``DIR/.vexfs/similar/NAME/``.

A search is made when its directory is listed or something in it is looked up, and made anew for a listing that begins
more than a second later; names of the listing before stay valid.  A text behind the links names the indexes that could
not be searched.  Nothing is listed in ``search`` and ``similar``
themselves, so that nothing that walks a tree starts a search.
"""

import errno
import math
import os
import re
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vexfs.frontends.fuse.virtual import Directory, Link, Node, Text

from vexfs.errors import PluginBroken, Unreachable, VexfsError, row_of
from vexfs.search.conditions import where_of

if TYPE_CHECKING:
    from vexfs.search.hits import Hits
    from vexfs.volume import Volume

_FRESH_S = 1.0
_KEPT = 64
_NAME_MAX = 255
_K = 10
_K_MOST = 1000
#: Behind the links, where an index could not be searched.
_NOT_SEARCHED = b"not-searched.txt"
_OPTION = re.compile(r"(k|mode|threshold)=(\S+)|where\.(\S+)")


def options_of(text: str) -> tuple[str, dict[str, Any]]:
    """The words of a search and its options: ``k=20``, ``mode=keyword``, ``threshold=0.3``, ``where.year>=2020``.

    Raises
    ------
    ValueError
        An option cannot be.
    """
    words, options, conditions = [], {"k": _K}, []
    for word in text.replace("%2F", "/").replace("%2f", "/").split():
        match = _OPTION.fullmatch(word)
        if match is None:
            words.append(word)
        elif match[3] is not None:
            conditions.append(match[3])
        else:
            options[match[1]] = {"k": int, "mode": str, "threshold": float}[match[1]](match[2])
    if not 1 <= options["k"] <= _K_MOST:
        raise ValueError(f"k is 1 to {_K_MOST}")
    if math.isnan(options.get("threshold", 0.0)):
        raise ValueError("threshold is a number")
    if options.get("mode", "hybrid") not in ("hybrid", "semantic", "keyword"):
        raise ValueError("mode is hybrid, semantic or keyword")
    return " ".join(words), {**options, "where": where_of(conditions)}


def link_name(rank: int, of: int, score: float, name: bytes) -> bytes:
    """``01-0.87-roasts.md``; a long name loses its middle and keeps its suffix."""
    lead = b"%0*d-%.2f-" % (max(2, len(str(of))), rank, score)
    room = _NAME_MAX - len(lead)
    if len(name) > room:
        stem, suffix = os.path.splitext(name)
        suffix = suffix[:32]
        name = stem[: room - len(suffix)].decode("utf-8", "ignore").encode() + suffix
    return lead + name


class Results(Directory):
    """The directory of one search.

    Parameters
    ----------
    find : callable
        Makes the search.
    home : bytes
        Path of the directory that the links are relative to, three levels above them.
    """

    def __init__(self, find: "Callable[[], Hits]", home: Callable[[], bytes]) -> None:
        super().__init__()
        self._find, self._home = find, home
        self._before: dict[bytes, Node] = {}
        self._made = 0.0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A listing begins."""
        self._search(_FRESH_S)

    def child(self, name: bytes) -> Node | None:
        """A link by its name; also one of the listing before."""
        found, before = self._search(None)
        return found.get(name) or before.get(name)

    def entries(self) -> Iterable[tuple[bytes, Node]]:
        """Best first."""
        return self._search(None)[0].items()

    def forget(self) -> None:
        """Keep no results: the kernel may know the directory for as long as it has memory.  They are found anew."""
        with self._lock:
            self._before, self._entries, self._made = {}, {}, 0.0

    def _search(self, fresh_s: float | None) -> tuple[dict[bytes, Node], dict[bytes, Node]]:
        with self._lock:
            now = time.monotonic()
            if self._made and (fresh_s is None or now - self._made < fresh_s):
                return self._entries, self._before
            hits, home = answered(self._find), self._home()
            found: dict[bytes, Node] = {}
            for rank, hit in enumerate(hits, 1):
                path = hit.path.encode("utf-8", "surrogateescape")
                target = b"../../../" + os.path.relpath(path, home)
                found[link_name(rank, len(hits), hit.score, os.path.basename(path))] = Link(target)
            if hits.missing:
                told = "".join(f"{each.path}: {each.reason}\n" for each in hits.missing)
                found[_NOT_SEARCHED] = Text(lambda: told.encode(errors="surrogateescape"))
            self._before, self._entries, self._made = self._entries, found, now
            return found, self._before


def answered(find: "Callable[[], Hits]") -> "Hits":
    """A search's answer, its errors as those that a disk can have.

    Raises
    ------
    OSError
        EOPNOTSUPP: no index of text covers the directory, or its model cannot be had here.  EINVAL: the question makes
        no sense.
    """
    try:
        return find()
    except (PluginBroken, Unreachable) as error:
        raise OSError(errno.EOPNOTSUPP, str(error)) from None
    except VexfsError as error:
        code = row_of(error).errno
        raise OSError(errno.EOPNOTSUPP if code in (errno.ENOENT, errno.ENODATA) else code, str(error)) from None


class Kept:
    """The last few searches of a mount: the kernel forgets their directories between a listing and the next use."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, bytes, bytes], Results] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, bytes, bytes], make: Callable[[], Results]) -> Results:
        """The search of that directory, kind and name, made when it is not here."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = make()
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)[1].forget()
            return found


class Searches(Directory):
    """``search``: any name is a question."""

    def __init__(self, volume: "Volume", ino: int, kept: Kept) -> None:
        super().__init__()
        self._volume, self._ino, self._kept = volume, ino, kept

    def child(self, name: bytes) -> Node | None:
        """The search for `name`; None for what programs probe for, not people: names that begin with a dot."""
        if name.startswith(b"."):
            return None
        if len(name) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, f"a question of {len(name)} bytes; a name has at most {_NAME_MAX}")
        try:
            text, options = options_of(name.decode("utf-8"))
        except UnicodeDecodeError:
            raise OSError(errno.EILSEQ, "a question is UTF-8") from None
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None
        if not text:
            raise OSError(errno.EINVAL, "options alone are no question")
        key = (self._ino, b"search", name)
        return self._kept.get(key, lambda: Results(lambda: self._find(text, options), self._home))

    def _home(self) -> bytes:
        return _home(self._volume, self._ino)

    def _find(self, text: str, options: dict[str, Any]) -> "Hits":
        from vexfs.search.textsearch import search_text

        return search_text(self._volume.catalog, text, under=self._ino, **options)


class Likes(Directory):
    """``similar``: the names of the directory's own files."""

    def __init__(self, volume: "Volume", ino: int, kept: Kept) -> None:
        super().__init__()
        self._volume, self._ino, self._kept = volume, ino, kept

    def child(self, name: bytes) -> Node | None:
        """The files like the one of that name; None when there is none."""
        found = self._volume.filesystem.lookup(self._ino, name)
        if not stat.S_ISREG(found.st_mode):
            return None
        key = (self._ino, b"similar", name)
        return self._kept.get(key, lambda: Results(lambda: self._find(name), self._home))

    def _home(self) -> bytes:
        return _home(self._volume, self._ino)

    def _find(self, name: bytes) -> "Hits":
        from vexfs.search.across import similar

        path = (self._home().rstrip(b"/") + b"/" + name).decode("utf-8", "surrogateescape")
        return similar(self._volume.catalog, path, _K, under=self._ino)


def _home(volume: "Volume", ino: int) -> bytes:
    path: bytes = volume.filesystem.path_of(ino)
    return path
