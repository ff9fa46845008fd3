"""API tokens: who may use REST and WebSocket, for what, and below which paths.

A token is ``vex_ID_SECRET``.  The file keeps a SHA-256 of the secret, which is 256 random bits, so that there is
nothing to guess from the hash; the token itself is shown once, when it is made.
"""

import errno
import hashlib
import hmac
import json
import os
import re
import secrets
import threading
import time
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from vexfs.errors import NotFound, UsageError, VexfsError, from_errno

NAME = "tokens.json"
#: What a token may allow: look at files and search; change them; watch figures; operate the node.
SCOPES = ("read", "write", "watch", "admin")
_FORM = re.compile(r"vex_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class BadToken(VexfsError):
    """A token that lets nobody in; the message says why, but not to whom a token belongs."""


@attrs.frozen
class Token:
    """What is known of a token, without its secret."""

    id: str
    name: str
    hash: str
    scopes: tuple[str, ...]
    prefixes: tuple[str, ...]
    created: float
    expires: float | None = None
    revoked: float | None = None

    def covers(self, path: str) -> bool:
        """Whether `path` (absolute, normal) lies at or below one of its prefixes."""
        return any(p == "/" or path == p or path.startswith(p + "/") for p in self.prefixes)

    def leads_to(self, path: str) -> bool:
        """Whether `path` is an ancestor of one of its prefixes: listing it shows the way down."""
        return any(p.startswith(path.rstrip("/") + "/") for p in self.prefixes)

    def state(self, now: float) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "valid"

    def shown(self) -> dict[str, Any]:
        """For listings: everything but the hash."""
        return {**attrs.asdict(self, filter=lambda field, _: field.name != "hash"), "state": self.state(time.time())}


#: Stands for everybody where no token is required.
ANYBODY = Token("", "anybody", "", SCOPES, ("/",), 0.0)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _prefix(path: str) -> str:
    if not path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
        raise UsageError(f"a path prefix is an absolute path in the volume without '..', not {path!r}")
    return os.path.normpath("/" + path.strip("/"))


class Tokens:
    """The tokens of one node, in a file that only its user may read.  Thread-safe; several processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._read: tuple[int, int, int] | None = None  # which file the known tokens are from
        self._known: dict[str, Token] = {}
        self._checked = 0.0

    def _fresh(self) -> dict[str, Token]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._known, self._read = {}, None
            return self._known
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        if mark != self._read:
            try:
                rows = json.loads(self.path.read_text("utf-8"))["tokens"]
                known = [Token(**{**r, "scopes": tuple(r["scopes"]), "prefixes": tuple(r["prefixes"])}) for r in rows]
            except (ValueError, KeyError, TypeError) as error:
                what = f"is damaged ({error}); restore it, or remove it and make new tokens"
                raise VexfsError(f"{self.path}: {what}") from None
            self._known, self._read = {token.id: token for token in known}, mark
        return self._known

    def _save(self, tokens: dict[str, Token]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(f".{NAME}.{os.getpid()}")
        text = json.dumps({"tokens": [attrs.asdict(token) for token in tokens.values()]}, indent=1)
        try:
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise from_errno(error.errno or errno.EIO, self.path) from None
        self._read = None

    def create(
        self, name: str, scopes: list[str] | None = None, prefixes: list[str] | None = None,
        lifetime_s: float | None = None,
    ) -> tuple[str, Token]:
        """Make a token; answers the token to hand out, which nobody can see again, and what is known of it."""
        wanted = tuple(dict.fromkeys(scopes or ("read",)))
        if unknown := [scope for scope in wanted if scope not in SCOPES]:
            raise UsageError(f"no scope is named {unknown[0]!r}; scopes are {', '.join(SCOPES)}")
        if not name or len(name) > 64 or not name.isprintable():
            raise UsageError("a token's name is 1 to 64 printable characters")
        places = tuple(dict.fromkeys(_prefix(p) for p in prefixes or ["/"]))
        if "admin" in wanted and "/" not in places:
            raise UsageError("the scope 'admin' is for the whole node: a token with a path prefix cannot have it")
        secret, now = secrets.token_urlsafe(32), time.time()
        expires = now + lifetime_s if lifetime_s else None
        token = Token(secrets.token_hex(6), name, _hash(secret), wanted, places, now, expires)
        with self._lock:
            self._save({**self._fresh(), token.id: token})
            self._fresh()
        return f"vex_{token.id}_{secret}", token

    def all(self) -> list[Token]:
        """Every token, also those that are no longer valid."""
        with self._lock:
            return list(self._fresh().values())

    def revoke(self, wanted: str) -> list[Token]:
        """Revoke the token with this id, or all with this name; at once, also for connections that are open."""
        with self._lock:
            known = dict(self._fresh())
            hit = [t for t in known.values() if wanted in (t.id, t.name) and t.revoked is None]
            if not hit:
                raise NotFound.at(f"no valid token has the id or name {wanted!r}; `vexctl token list` shows them")
            gone = [attrs.evolve(token, revoked=time.time()) for token in hit]
            self._save({**known, **{token.id: token for token in gone}})
            self._fresh()
        return gone

    def check(self, text: str) -> Token:
        """The token that `text` is.

        Raises
        ------
        BadToken
            It is none, is unknown, has expired or was revoked.
        """
        match = _FORM.fullmatch(text)
        if not match:
            raise BadToken("is no token of VexFS")
        now = time.monotonic()
        if now - self._checked > 0.5:  # what another process changed counts half a second later
            with self._lock:
                self._fresh()
            self._checked = now
        token = self._known.get(match[1])
        if not hmac.compare_digest(token.hash if token else _hash(""), _hash(match[2])) or token is None:
            raise BadToken("is not known here")
        state = token.state(time.time())
        if state != "valid":
            raise BadToken("has been revoked" if state == "revoked" else "has expired")
        return token
