"""The MCP frontend with the official client: in this process, and as the command that an agent starts."""

import asyncio
import bz2
import gzip
import json
import lzma
import subprocess
import sys

import pytest

pytest.importorskip("mcp", reason="needs mcp")

from mcp import Client, StdioServerParameters
from vexfs.frontends.mcp.server import LIST_MOST, RESOURCE_MOST, make_server

import vexfs
from tests.search.documents import docx
from tests.search.test_damaged_table import half_damaged

VEXFS = "from vexfs.cli.main import vexfs; raise SystemExit(vexfs())"


def fill(fs):
    fs.write_text("docs/roasts.md", "Light roasts keep acidity; dark roasts are bitter.")
    fs.write_text("docs/passport.txt", "How to renew a passport: bring a photo and the old one.")
    fs.write_text("docs/renewal.txt", "Renewal of passports and identity cards takes four weeks.")
    fs.write_bytes("docs/picture.bin", bytes(100))
    fs.attributes("docs/passport.txt")["year"] = 2024
    fs.index("docs", embedder="default")
    assert fs.ingest.wait(120)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("v") / "v.vex"
    with vexfs.open(path) as fs:
        fill(fs)
    return path


@pytest.fixture(scope="module")
def volume(place):
    with vexfs.open(place) as fs:
        yield fs


def ask(server, *calls):
    """Call tools one after the other: of each the answer, or the text of its error."""

    async def talk():
        async with Client(server) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return [told(result) for result in asyncio.run(talk())]


def told(result):
    if result.is_error:
        return result.content[0].text
    found = result.structured_content
    return found["result"] if set(found) == {"result"} else found


def test_tools_and_what_they_say_of_themselves(volume):
    async def talk():
        async with Client(make_server(volume)) as client:
            return (await client.list_tools()).tools, (await client.list_resource_templates()).resource_templates

    tools, templates = asyncio.run(talk())
    assert {tool.name for tool in tools} == {"search", "similar", "read", "list"}
    assert all(tool.description and tool.annotations.read_only_hint for tool in tools)
    assert all(tool.input_schema["additionalProperties"] is False for tool in tools)
    assert [t.uri_template for t in templates] == ["vexfs:///{+path}"]


def test_search(volume):
    server = make_server(volume)
    found, keyword, filtered = ask(
        server,
        ("search", {"query": "renew my passport", "k": 2}),
        ("search", {"query": '"dark roasts"', "mode": "keyword", "under": "docs"}),
        ("search", {"query": "passport", "where": {"year": {"$gte": 2020}}}),
    )
    assert found[0]["path"] == "/docs/passport.txt"
    assert "renew a passport" in found[0]["text"]
    assert [hit["id"] for hit in keyword] == ["roasts.md"]
    assert [hit["id"] for hit in filtered] == ["passport.txt"]


def test_what_could_not_be_searched_is_told(tmp_path):
    half_damaged(tmp_path / "half.vex")
    with vexfs.open(tmp_path / "half.vex") as fs:
        (found,) = ask(make_server(fs), ("search", {"query": "acidity"}))
    assert [hit["id"] for hit in found[:-1]] and found[-1]["not_searched"] == "/bad"
    assert found[-1]["reason"] == "its table of rows is damaged"


def test_similar_and_list(volume):
    similar, listed = ask(
        make_server(volume), ("similar", {"path": "docs/passport.txt", "k": 1}), ("list", {"path": "/docs"})
    )
    assert [hit["id"] for hit in similar] == ["renewal.txt"]
    names = [entry["name"] for entry in listed["entries"]]
    assert names == ["passport.txt", "picture.bin", "renewal.txt", "roasts.md"]
    assert listed["entries"][1] | {"changed": ""} == {"name": "picture.bin", "kind": "file", "size": 100, "changed": ""}
    assert listed["total"] == 4


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_what_a_search_finds_in_a_packed_file_can_be_read(tmp_path, suffix, pack):
    text = "".join(f"Röast {i} of the coffee beans.\n\n" for i in range(2000))
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        fs.write_bytes(f"docs/notes.txt.{suffix}", pack(text.encode()))
        fs.write_bytes(f"docs/broken.txt.{suffix}", pack(text.encode())[:50])
        fs.write_bytes(f"docs/picture.png.{suffix}", pack(b"\x89PNG" + bytes(50)))
        assert fs.ingest.wait(120)
        server = make_server(fs)
        ((hit,), *wrong) = ask(
            server, ("search", {"query": "coffee beans"}), ("read", {"path": f"docs/broken.txt.{suffix}"}),
            ("read", {"path": f"docs/picture.png.{suffix}"}),
        )  # fmt: skip
        assert hit["path"] == f"/docs/notes.txt.{suffix}"
        assert f"is no text: damaged .{suffix}" in wrong[0] and "is no text: a .png file" in wrong[1]
        read, start = "", 0
        while start is not None:
            (piece,) = ask(server, ("read", {"path": hit["path"], "start": start, "length": 20_001}))
            read, start = read + piece["text"], piece["next"]
        assert read == text and hit["text"] in read
        fs.write_bytes(f"docs/notes.txt.{suffix}", pack(b"tea"))
        (piece,) = ask(server, ("read", {"path": hit["path"]}))
        assert piece["text"] == "tea" and piece["next"] is None


def test_the_text_of_a_document_can_be_read(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.write_bytes("a.docx", docx([("", "Bread and butter"), ("", "Tea and milk")]))
        (piece,) = ask(make_server(fs), ("read", {"path": "a.docx"}))
    assert piece["text"] == "Bread and butter\n\nTea and milk"


def test_long_directories_and_files_come_in_pieces(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        for i in range(LIST_MOST + 5):
            fs.write_text(f"many/{i:05}", "")
        text = "é€𝄞x" * 100
        fs.write_text("long.txt", text)
        server = make_server(fs)
        first, rest = ask(server, ("list", {"path": "many"}), ("list", {"path": "many", "skip": LIST_MOST}))
        assert (len(first["entries"]), len(rest["entries"]), rest["total"]) == (LIST_MOST, 5, LIST_MOST + 5)
        for length in (7, 10, 64):
            start, pieces = 0, []
            while start is not None:
                (piece,) = ask(server, ("read", {"path": "long.txt", "start": start, "length": length}))
                pieces.append(piece["text"])
                start = piece["next"]
            assert "".join(pieces) == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252", "shift_jis", "utf-32"])
def test_text_in_any_encoding_is_read_as_a_search_finds_it(tmp_path, encoding):
    words = "Le café crème coûte trois francs à l'hôtel. "
    if encoding == "shift_jis":
        words = "コーヒー豆の焙煎について書いています。"
    text = words * 40
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        fs.write_bytes("docs/a.txt", text.encode(encoding))
        assert fs.ingest.wait(120)
        server = make_server(fs)
        ((hit,),) = ask(server, ("search", {"query": words}))
        (piece,) = ask(server, ("read", {"path": hit["path"], "start": hit["span"][0]}))
        assert piece["text"].startswith(hit["text"])
        for length in (64, 1001):
            start, read = 0, ""
            while start is not None:
                (piece,) = ask(server, ("read", {"path": "docs/a.txt", "start": start, "length": length}))
                read, start = read + piece["text"], piece["next"]
            assert read.removeprefix("\ufeff") == text
        (piece,) = ask(server, ("read", {"path": "docs/a.txt", "start": 8, "length": 1}))
        assert piece["next"] == 9

        async def resource():
            async with Client(server) as client:
                return await client.read_resource("vexfs:///docs/a.txt")

        assert asyncio.run(resource()).contents[0].text == text


def test_what_is_wrong_is_told_in_one_line(volume):
    answers = ask(
        make_server(volume),
        ("read", {"path": "docs/nothing"}),
        ("read", {"path": "docs/picture.bin"}),
        ("read", {"path": "docs"}),
        ("read", {"path": "docs/roasts.md", "length": 0}),
        ("search", {"query": "x", "k": 1000}),
        ("search", {"query": "x", "mode": "magic"}),
        ("list", {"path": "docs/roasts.md"}),
        ("similar", {"path": "docs/nothing"}),
        ("search", {"query": "x", "filter": {"year": 2024}, "k": "many"}),
        ("search", {}),
        ("list", {"path": ["docs"]}),
        ("read", {"path": "docs/roasts.md", "start": 10**30}),
    )
    assert "No such file" in answers[0]
    assert "is no text" in answers[1]
    assert "Is a directory" in answers[2]
    assert "length 1 to" in answers[3] and "start is 0 or more" in answers[11]
    assert "k is 1 to 100" in answers[4]
    assert "mode: input should be 'hybrid', 'semantic' or 'keyword', not 'magic'" in answers[5]
    assert "filter is no argument here; known are query, k, under, mode, where" in answers[8]
    assert "k: input should be a valid integer" in answers[8]
    assert "the argument query is missing" in answers[9]
    assert "path: input should be a valid string, not ['docs']" in answers[10]
    for answer in answers:
        assert isinstance(answer, str) and "Traceback" not in answer and "\n" not in answer


def test_resources(volume):
    async def talk():
        async with Client(make_server(volume)) as client:
            file = await client.read_resource("vexfs:///docs/roasts.md")
            indexes = await client.read_resource("vexfs://indexes")
            return file.contents[0].text, json.loads(indexes.contents[0].text)

    text, indexes = asyncio.run(talk())
    assert text.startswith("Light roasts")
    assert [(each["path"], each["files"]) for each in indexes] == [("/docs", 3)]


def test_names_that_are_no_utf_8_are_shown_and_cost_nothing_else(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        fs.write_text("docs/\udcff.txt", "How to renew a passport.")
        fs.write_text("docs/other.txt", "The passport office.")
        fs.attributes("docs/\udcff.txt")["by"] = "\udcfe"
        assert fs.ingest.wait(120)
        listed, found, wrong = ask(
            make_server(fs), ("list", {"path": "docs"}), ("search", {"query": "renew a passport"}),
            ("read", {"path": "docs/\ufffd.txt"}),
        )  # fmt: skip
    assert sorted(entry["name"] for entry in listed["entries"]) == ["other.txt", "\ufffd.txt"]
    assert (found[0]["path"], found[0]["attributes"]["by"]) == ("/docs/\ufffd.txt", "\ufffd")
    assert "No such file" in wrong


def test_an_answer_is_no_longer_than_an_agent_wants(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fs.index("docs", embedder="default")
        fs.write_text("docs/long.txt", "".join(f"Roast {i} of the coffee beans is darker.\n\n" for i in range(5000)))
        fs.write_bytes("large", b"x" * (RESOURCE_MOST + 1))
        fs.write_bytes("picture", b"x\0y")
        assert fs.ingest.wait(120) and fs.search("coffee")[0].others
        server = make_server(fs)
        (found,) = ask(server, ("search", {"query": "coffee"}))
        assert len(found) == 1 and len(json.dumps(found)) < 4000

        async def talk():
            async with Client(server) as client:
                for path, why in (("large", "larger than 4 MiB; the tool `read`"), ("picture", "is no text")):
                    with pytest.raises(Exception, match=why):
                        await client.read_resource(f"vexfs:///{path}")

        asyncio.run(talk())


def test_the_command_as_an_agent_starts_it(tmp_path):
    with vexfs.open(tmp_path / "v.vex") as fs:
        fill(fs)
    server = StdioServerParameters(command=sys.executable, args=["-c", VEXFS, "mcp", str(tmp_path / "v.vex")])
    found, text = ask(server, ("search", {"query": "passport photo"}), ("read", {"path": "/docs/roasts.md"}))
    assert found[0]["id"] == "passport.txt"
    assert text["text"].startswith("Light roasts")
    with vexfs.open(tmp_path / "v.vex") as fs:  # closed with the client
        assert fs.exists("docs/roasts.md")


def test_a_volume_that_is_not_there(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", VEXFS, "mcp", str(tmp_path / "none.vex")], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "none.vex").exists()
