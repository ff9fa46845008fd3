"""The server: tools to search, read, list and find similar files, and files as resources.

Tools only read.  What is wrong with a call is told to the agent in one line, with what would be right.
"""

import codecs
import functools
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from textwrap import shorten
from typing import Any, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic import ValidationError

from vexfs.errors import VexfsError, describe
from vexfs.search.across import told_of
from vexfs.search.extract import Limits, Skipped, decoded, extract, hides_text
from vexfs.version import __version__

TEXT_MOST = 200_000  # characters of one answer of `read`
RESOURCE_MOST = 4 << 20  # bytes of a file as a resource
LIST_MOST = 1000
_HEAD = 512
_START_MOST = 1 << 62
HITS_MOST = 100
KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink"}
INSTRUCTIONS = """\
Files of a VexFS volume.  `search` finds files by meaning and by words and gives the best passage of each; `read` gives
a file's text; `list` shows a directory; `similar` finds files like one."""
READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Errors of the volume as errors of the tool."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return _sendable(function(*args, **kwargs))
        except (VexfsError, OSError, ValueError) as error:
            raise ToolError(_sendable(describe(error))) from error

    return call


def _sendable(answer: Any) -> Any:
    """The same, with U+FFFD for bytes of names and attributes that are no UTF-8: JSON cannot carry them."""
    if isinstance(answer, str):
        return answer.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(answer, dict):
        return {_sendable(name): _sendable(value) for name, value in answer.items()}
    return [_sendable(each) for each in answer] if isinstance(answer, list) else answer


def _shown(hits: Any) -> list[dict[str, Any]]:
    """Hits without the further passages of each file: an agent reads the file when it wants more."""
    told = [{name: value for name, value in hit.as_dict().items() if name != "others"} for hit in hits]
    return told + [{"not_searched": each.path, "reason": each.reason} for each in hits.missing]


def _absolute(path: str) -> str:
    return "/" + path.strip("/")


class Tools:
    """What the server offers, over one volume.

    Parameters
    ----------
    volume : Volume
        An open volume, or what ``vexfs.connect`` gives.
    """

    def __init__(self, volume: Any) -> None:
        self.volume = volume
        #: The file that was taken apart last, for those who read on.
        self._last: tuple[Any, bytes] = (None, b"")
        #: The same of encodings.
        self._coded: tuple[Any, str, int] = (None, "", 0)

    def search(
        self, query: str, k: int = 10, under: str = "/", mode: Literal["hybrid", "semantic", "keyword"] = "hybrid",
        where: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Find files by meaning and words, best first, each with its best passage.

        query: what is looked for; for its words also "a phrase", pre*, +must, -mustnot.  k: how many files (1 to 100).
        under: only below this directory.  where: a filter on attributes, as {"year": {"$gte": 2020}}.  Files below a
        directory that is told as not_searched, at the end, are not among the answers.
        """
        hits = self.volume.search(query, _count(k), under=_absolute(under), mode=mode, where=where)
        return _shown(hits)

    def similar(self, path: str, k: int = 10, under: str = "/") -> list[dict[str, Any]]:
        """Find files like the one at path, nearest first.

        k: how many (1 to 100).  under: only below this directory.
        """
        hits = self.volume.similar(_absolute(path), _count(k), under=_absolute(under))
        return _shown(hits)

    def read(self, path: str, start: int = 0, length: int = 20_000) -> dict[str, Any]:
        """Read a file's text.

        start: the byte to begin at, as the span of a hit gives it.  length: bytes (1 to 200000).  The answer says where
        the next piece begins, or null at the end.  Of a packed file, PDF or document the text is read, and its bytes
        count.
        """
        if not 0 <= start <= _START_MOST or not 1 <= length <= TEXT_MOST:
            raise ValueError(f"start is 0 or more, length 1 to {TEXT_MOST}; given {start} and {length}")
        with self.volume.open(_absolute(path), "rb") as file:
            if hides_text(path.rpartition("/")[2], file.read(_HEAD)):
                data = self._extracted(path, file)[start : start + length + 3]
            else:
                file.seek(start)
                data = file.read(length + 3)
            piece, more = _whole_characters(data, length)
            text, size = piece.decode("utf-8", "replace"), len(piece)
            if "\0" in text or "\ufffd" in text:
                encoding, skip = self._encoding(path, file)
                if encoding != "utf-8":
                    text, size, more = _piece(data, length, encoding, max(0, skip - start))
        following = start + size if more else None
        return {"path": _absolute(path), "text": text, "start": start, "next": following}

    def _encoding(self, path: str, file: Any) -> tuple[str, int]:
        """The encoding of a file that may not be UTF-8, and the bytes of the mark before its text."""
        key = self._key(path)
        if self._coded[0] != key:
            file.seek(0)
            sample, _ = _whole_characters(file.read(RESOURCE_MOST + 3), RESOURCE_MOST)
            self._coded = (key, *_encoding_of(sample, path))
        return self._coded[1:]

    def _key(self, path: str) -> tuple[int, ...]:
        now = self.volume.stat(_absolute(path))
        return now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns

    def _extracted(self, path: str, file: Any) -> bytes:
        """The text that a search finds in a file."""
        key = self._key(path)
        last, text = self._last
        if last != key:
            file.seek(0)
            try:
                found = extract(file.read(Limits().size_bytes + 1), path.rpartition("/")[2])
            except Skipped as why:
                raise ValueError(f"{path} is no text: {why}") from None
            text = (found.source or "\n\n".join(block.text for block in found.blocks)).encode("utf-8", "replace")
            self._last = (key, text)
        return text

    def list_directory(self, path: str = "/", skip: int = 0) -> dict[str, Any]:
        """List a directory: name, kind, size in bytes, time of change.

        skip: how many entries to leave out from the beginning; an answer has at most 1000, and says how many there are.
        """
        names = sorted(self.volume.listdir(_absolute(path)))
        entries = []
        for name in names[max(skip, 0) : max(skip, 0) + LIST_MOST]:
            place = _absolute(path).rstrip("/") + "/" + name
            try:
                found = self.volume.lstat(place)
            except FileNotFoundError:  # it went meanwhile
                continue
            entries.append({
                "name": name, "kind": KINDS.get(stat.S_IFMT(found.st_mode), "other"), "size": found.st_size,
                "changed": datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="seconds"),
            })  # fmt: skip
        return {"path": _absolute(path), "entries": entries, "total": len(names)}


def _encoding_of(data: bytes, path: str) -> tuple[str, int]:
    """The encoding of a text and the bytes of its mark; of one that cannot be told, UTF-8."""
    try:
        return decoded(data)[1:]
    except Skipped:
        if b"\0" in data:
            raise ValueError(f"{path} is no text") from None
        return "utf-8", 0


def _piece(data: bytes, length: int, encoding: str, skip: int) -> tuple[str, int, bool]:
    """Text of about `length` bytes without the first `skip`, its size in bytes, and whether there is more."""
    more = len(data) > length
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    text = decoder.decode(data[skip:length], final=not more)
    size = length - len(decoder.getstate()[0])
    return (text, size, True) if more and size else (text, min(len(data), length), more)


def _count(k: int) -> int:
    if not 1 <= k <= HITS_MOST:
        raise ValueError(f"k is 1 to {HITS_MOST}, not {k}")
    return k


def _whole_characters(data: bytes, length: int) -> tuple[bytes, bool]:
    """`data` cut at about `length` so that no character is cut, and whether there is more."""
    if len(data) <= length:
        return data, False
    end = length
    while end > length - 3 and data[end] & 0xC0 == 0x80:
        end -= 1
    if end == 0 or data[end] & 0xC0 == 0x80:  # no UTF-8, or less than one character was asked for
        end = length
    return data[:end], True


class _Server(MCPServer[Any]):
    """Arguments that a tool does not take are refused, too: a misspelt `where` must not be a search without one."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            tool = next(each for each in await self.list_tools() if each.name == name)
            wrong = [_wrong(each, tool.input_schema["properties"]) for each in error.__cause__.errors()]
            raise ToolError(f"Error executing tool {name}: {'; '.join(wrong)}") from error


def _wrong(fault: Any, properties: dict[str, Any]) -> str:
    """A fault of pydantic's in the words of this house."""
    argument = fault["loc"][0]
    if fault["type"] == "extra_forbidden":
        return f"{argument} is no argument here; known are {', '.join(properties)}"
    if fault["type"] == "missing":
        return f"the argument {argument} is missing"
    said = fault["msg"][:1].lower() + fault["msg"][1:]
    return f"{argument}: {said}, not {shorten(repr(fault['input']), 80)}"


def _tool(name: str, function: Callable[..., Any]) -> Tool:
    made = Tool.from_function(_told(function), name=name, annotations=READS)
    model = made.fn_metadata.arg_model
    model.model_config["extra"] = "forbid"
    model.model_rebuild(force=True)
    made.parameters = model.model_json_schema(by_alias=True)
    return made


def make_server(volume: Any) -> MCPServer[Any]:
    """The server of a volume.

    Parameters
    ----------
    volume : Volume
        An open volume, or what ``vexfs.connect`` gives; it stays open.
    """
    tools = Tools(volume)
    offered: dict[str, Callable[..., Any]] = {
        "search": tools.search, "similar": tools.similar, "read": tools.read, "list": tools.list_directory
    }  # fmt: skip
    server = _Server(
        "vexfs", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING",
        tools=[_tool(name, function) for name, function in offered.items()],
    )  # fmt: skip

    @server.resource("vexfs:///{+path}", name="file", description="A file, as text", mime_type="text/plain")
    def file(path: str) -> str:
        try:
            with volume.open(_absolute(path), "rb") as opened:
                data = opened.read(RESOURCE_MOST + 1)
            if len(data) > RESOURCE_MOST:
                raise ValueError(f"{path} is larger than {RESOURCE_MOST >> 20} MiB; the tool `read` gives it in pieces")
            encoding, skip = _encoding_of(data, path)
            return str(data[skip:], encoding, "replace")
        except (VexfsError, OSError, ValueError) as error:
            raise ResourceNotFoundError(_sendable(describe(error))) from error

    @server.resource("vexfs://indexes", name="indexes", description="The indexes", mime_type="application/json")
    def indexes() -> list[dict[str, Any]]:
        return told_of(volume.indexes(), lambda each: {
            "path": _sendable(each.path), "dim": each.dim, "metric": each.metric, "embedder": each.embedder,
            "files": len(each),
        })  # fmt: skip

    return server
