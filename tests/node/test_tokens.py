import os
import stat
import subprocess
import sys
import time

import pytest

from vexfs.errors import NotFound, UsageError, VexfsError
from vexfs.node.tokens import BadToken, Tokens


@pytest.fixture
def tokens(tmp_path):
    return Tokens(tmp_path / "tokens.json")


def test_a_token_opens_what_it_is_for(tokens):
    text, token = tokens.create("ci", ["read", "write"], ["/builds", "/a/b/"])
    found = tokens.check(text)
    assert (found.id, found.scopes, found.prefixes) == (token.id, ("read", "write"), ("/builds", "/a/b"))
    assert found.covers("/builds") and found.covers("/builds/x") and found.covers("/a/b/c")
    assert not found.covers("/buildsx") and not found.covers("/") and not found.covers("/a")
    assert found.leads_to("/") and found.leads_to("/a") and not found.leads_to("/b")


def test_the_file_holds_no_token_and_is_its_users_alone(tokens):
    text, _ = tokens.create("ci")
    assert text.split("_", 2)[2] not in tokens.path.read_text()
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "x", "vex_0123456789ab_" + "A" * 43, "vex_0123456789ab_short", "vex__", "ü" * 60])
def test_what_is_no_token_opens_nothing(tokens, text):
    tokens.create("ci")
    with pytest.raises(BadToken):
        tokens.check(text)


def test_an_altered_secret_opens_nothing(tokens):
    text, _ = tokens.create("ci")
    for changed in (text[:-1] + ("A" if text[-1] != "A" else "B"), text + "A", text[:-1]):
        with pytest.raises(BadToken):
            tokens.check(changed)


def test_revoked_and_expired(tokens, monkeypatch):
    text, token = tokens.create("a", lifetime_s=60)
    other, _ = tokens.create("b")
    assert tokens.check(text).id == token.id
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    with pytest.raises(BadToken, match="expired"):
        tokens.check(text)
    tokens.revoke("b")
    with pytest.raises(BadToken, match="revoked"):
        tokens.check(other)
    with pytest.raises(NotFound):
        tokens.revoke("b")
    assert {t.name: t.state(time.time()) for t in tokens.all()} == {"a": "expired", "b": "revoked"}


def test_what_another_process_changes_counts(tokens):
    text, token = tokens.create("a")
    Tokens(tokens.path).revoke(token.id)
    tokens._checked = 0
    with pytest.raises(BadToken, match="revoked"):
        tokens.check(text)


@pytest.mark.parametrize(
    "given", [{"scopes": ["root"]}, {"prefixes": ["a"]}, {"prefixes": ["/a/../b"]}, {"name": ""}, {"name": "a\nb"}]
)
def test_bad_wishes_are_refused(tokens, given):
    with pytest.raises(UsageError):
        tokens.create(**{"name": "x", **given})
    assert not tokens.path.exists()


def test_a_damaged_file_is_said(tokens):
    tokens.path.write_text("{")
    os.utime(tokens.path)
    with pytest.raises(VexfsError, match="is damaged"):
        tokens.all()


def test_a_token_that_finds_no_room_leaves_the_others_and_nothing_else(tokens):
    kept, _ = tokens.create("kept")
    program = (
        "import resource, signal, sys\nfrom vexfs.node.tokens import Tokens\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "Tokens(__import__('pathlib').Path(sys.argv[1])).create('another')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tokens.path], capture_output=True, text=True, check=False
    )
    assert "FileTooLarge" in done.stderr and "tokens.json" in done.stderr.splitlines()[-1]
    assert [p.name for p in tokens.path.parent.iterdir()] == ["tokens.json"]
    assert tokens.check(kept).name == "kept"
