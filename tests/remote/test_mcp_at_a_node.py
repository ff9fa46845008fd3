"""``vexfs mcp URL``: an agent's own client, the command that it starts, and the node behind it."""

import sys

import pytest

pytest.importorskip("mcp", reason="needs mcp")

from mcp import StdioServerParameters

from tests.frontends.test_mcp import VEXFS, ask, fill


def test_an_agent_reaches_a_node(served, fs, tmp_path):
    fill(fs)
    (tmp_path / "token").write_text(served.node.tokens.create("agent", ["read"])[0])
    command = [VEXFS, "mcp", served.url, "--token-file", str(tmp_path / "token")]
    server = StdioServerParameters(command=sys.executable, args=["-c", *command])
    found, similar, text, listed, missing = ask(
        server,
        ("search", {"query": "renew my passport", "where": {"year": {"$gte": 2020}}}),
        ("similar", {"path": "docs/passport.txt", "k": 1}),
        ("read", {"path": "/docs/roasts.md"}),
        ("list", {"path": "docs"}),
        ("read", {"path": "docs/nothing"}),
    )
    assert [hit["id"] for hit in found] == ["passport.txt"] and "renew a passport" in found[0]["text"]
    assert [hit["id"] for hit in similar] == ["renewal.txt"]
    assert text["text"].startswith("Light roasts")
    assert [entry["name"] for entry in listed["entries"]] == [
        "passport.txt", "picture.bin", "renewal.txt", "roasts.md"
    ]  # fmt: skip
    assert "No such file" in missing
    fs.drop_index("docs")
