"""Extraction: the text in a file's bytes, as blocks that know where they stand.

What a file is, is told by its name, and by its first bytes where the name says nothing.  Each kind has an extractor: a
callable that is given the bytes and the name and yields blocks.  More come as entry points of group
``vexfs.extractors``, under the suffix that they read (``rtf``) or the kind that they replace.

Extraction refuses (``Skipped``, with the reason) what is no text, is too large, or takes too long; it never guesses
text into a binary file.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import threading
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import attrs

from vexfs.errors import PluginBroken
from vexfs.registry import faults_of, registry
from vexfs.search.apart import apart


class Skipped(Exception):
    """There is no text to be had from this file; the message says why."""


class Block(NamedTuple):
    """A paragraph, a heading, a table's row: text that is not taken apart unless it is too long.

    One without text means nothing: an extractor yields it in long work, so that limits are looked at.

    Attributes
    ----------
    text : str
    start, end : int
        Its characters in the decoded file; -1 where the format does not say.
    level : int
        Of a heading, from 1; 0 for anything else.
    label : str
        Where it is, when there are no characters to count: ``page 3``.
    exact : bool
        `text` is what stands at start..end, so that a part of it can be pointed at.
    """

    text: str
    start: int = -1
    end: int = -1
    level: int = 0
    label: str = ""
    exact: bool = False


PAUSE = Block("")


@attrs.frozen
class Limits:
    """What a file may cost; `stop` ends the wait for code that is not ours."""

    size_bytes: int = 64 << 20
    text_chars: int = 8 << 20
    time_s: float = 30.0
    stop: threading.Event | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen
class Extracted:
    """The text of one file.

    Attributes
    ----------
    kind : str
    blocks : list of Block
    encoding : str
        In which the characters count; "" where byte ranges make no sense.
    skip_bytes : int
        Of a byte order mark before the first character.
    cut : str
        What was left out because a limit was reached, "" when nothing was.
    source : str
        The decoded file, in which the blocks' characters count; bytes that are none of its encoding as surrogates.
    """

    kind: str
    blocks: list[Block]
    encoding: str = ""
    skip_bytes: int = 0
    cut: str = ""
    source: str = attrs.field(default="", repr=False)


Extractor = Callable[[bytes, str], Iterable[Block]]

_SUFFIXES = {
    kind: words.split()
    for kind, words in {
        "markdown": "md markdown mkd rst adoc org textile",
        "html": "html htm xhtml shtml",
        "csv": "csv tsv",
        "json": "json jsonl ndjson geojson",
        "notebook": "ipynb",
        "pdf": "pdf",
        "docx": "docx docm",
        "odt": "odt ott",
        "epub": "epub",
        "mail": "eml mbox mht mhtml",
        "code": "py pyi pyx pxd c h cc cpp cxx hpp hh java kt scala js mjs ts tsx jsx go rs rb php pl pm sh bash zsh "
        "fish lua r jl swift m cs fs vb sql hs ml clj exs erl lisp el vim cmake mk css scss less vue proto thrift "
        "graphql ex tf nix zig dart",
        "text": "txt text log ini cfg conf toml yaml yml xml svg tex bib srt vtt diff patch properties env",
    }.items()
}
_KINDS = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
_BINARY = frozenset(
    """
    png jpg jpeg gif bmp ico webp tif tiff heic mp3 mp4 m4a ogg flac wav avi mkv mov webm zip tgz zst 7z rar tar
    jar exe dll so dylib o a class pyc woff woff2 ttf otf eot db sqlite sqlite3 npy npz parquet pt onnx safetensors
    iso img
    """.split()  # noqa: SIM905 - a list of words is read as one
)
_NO_TEXT = (b"\x7fELF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x1f\x8b")
#: Files that hold one other file: the name without the suffix tells what that is.
_PACKED: dict[str, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
          (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip
_MARKED = frozenset(mark[:1] for mark, _ in _MARKS)
_SAMPLE = 64 << 10
#: Code that is not ours may end by itself so long after its time.
_GRACE_S = 5.0
_NOISE = 4096
#: Hardly any file is in one of these, but much Western text looks to the detector as if it were: if nothing else fits.
_RARE = [
    "cp037", "cp273", "cp424", "cp437", "cp500", "cp720", "cp737", "cp775", "cp850", "cp852", "cp855", "cp856", "cp857",
    "cp858", "cp860", "cp861", "cp862", "cp863", "cp864", "cp865", "cp869", "cp875", "cp1006", "cp1026", "cp1140",
    "hp_roman8", "iso8859_10", "iso8859_14", "iso8859_16", "mac_iceland", "mac_latin2", "mac_roman", "mac_turkish",
]  # fmt: skip
#: Neighbouring bytes that are no ASCII.
_RUN = re.compile(rb"[\x80-\xff]{2}")
_SURROGATE = re.compile("[\ud800-\udfff]")
#: Encodings in which a part of a text is not a part of its bytes.
_WITH_STATE = ("iso2022", "hz", "utf_7", "utf_8_sig", "utf_16", "utf_32")
#: Characters that stand in no text but by accident.
_ODD = re.compile("[\x00-\x07\x0b\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_ODD_ASCII = bytes(code for code in range(128) if _ODD.match(chr(code)))
_EXTRACTORS = registry("extractors")
#: These read bytes by themselves; the others are given text.
_BYTES = frozenset(("pdf", "docx", "odt", "epub", "mail"))
#: Headers of mail that came, as in a Maildir.
_MAIL = re.compile(rb"(?:From [^\n]*\n)?(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*)*?(?i:message-id):")


def kind_of(name: str, data: bytes) -> str:
    """What a file is: a kind of this module, or a suffix for which a plugin is installed.

    Raises
    ------
    Skipped
        It is known to hold no text.
    """
    stem, _, suffix = name.rpartition(".")
    suffix = suffix.lower() if stem.strip(".") else ""
    if _EXTRACTORS.has(suffix):
        return suffix
    if suffix in _KINDS:
        return _KINDS[suffix]
    if suffix in _BINARY:
        raise Skipped(f"a .{suffix} file holds no text")
    if data.startswith(_NO_TEXT):
        raise Skipped("binary data")
    if data.startswith(b"%PDF-"):
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        return _zipped(data)
    if _MAIL.match(data[: 16 << 10]):
        return "mail"
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "html"
    return "code" if head.startswith(b"#!") else "text"


def hides_text(name: str, head: bytes) -> bool:
    """Whether what a search finds in a file of that name and first bytes is not what its bytes say: it is packed, or of
    a kind that has to be taken apart.
    """
    stem, _, suffix = name.rpartition(".")
    if stem and suffix.lower() in _PACKED:
        return True
    try:
        kind = kind_of(name, head)
    except Skipped:
        return False
    return kind in _BYTES or kind not in _SUFFIXES


def _zipped(data: bytes) -> str:
    if b"application/epub+zip" in data[:200]:
        return "epub"
    if b"application/vnd.oasis.opendocument.text" in data[:200]:
        return "odt"
    if b"word/" in data[-(64 << 10) :]:
        return "docx"
    raise Skipped("an archive")


def extract(data: bytes, name: str, limits: Limits | None = None) -> Extracted:
    """The text of a file called `name` that holds `data`.

    Raises
    ------
    Skipped
        There is none, or a limit forbids to look for it.
    PluginBroken
        The extractor fails on it.
    """
    limits = limits or Limits()
    if len(data) > limits.size_bytes:
        raise Skipped(f"{len(data)} bytes; the most is {limits.size_bytes}")
    stem, _, suffix = name.rpartition(".")
    if stem and suffix.lower() in _PACKED:
        inner = extract(_unpacked(data, suffix.lower(), limits), stem, limits)
        return attrs.evolve(inner, encoding="", skip_bytes=0)  # nothing stands in the file as it reads
    kind = kind_of(name, data)
    found = _extractor(kind)
    if kind in _BYTES or kind not in _SUFFIXES:
        blocks, cut = _apart(lambda: found(data, name), kind, limits)
        return Extracted(kind, blocks, cut=cut)
    text, encoding, skip = decoded(data)
    gather = _gathered if getattr(found, "__module__", "").startswith("vexfs.search.") else _apart
    blocks, cut = gather(lambda: found(shown(text), name), kind, limits)  # type: ignore[arg-type]
    return Extracted(kind, blocks, encoding if _counts(text, encoding, len(data) - skip) else "", skip, cut, text)


def _unpacked(data: bytes, suffix: str, limits: Limits) -> bytes:
    try:
        with _PACKED[suffix](io.BytesIO(data)) as file:
            whole: bytes = file.read(limits.size_bytes + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise Skipped(f"damaged .{suffix}: {error}") from None
    if len(whole) > limits.size_bytes:
        raise Skipped(f"more than {limits.size_bytes} bytes when it is unpacked")
    return whole


def _extractor(kind: str) -> Extractor:
    try:
        found: Extractor = _EXTRACTORS.get(kind)
    except PluginBroken as error:
        raise Skipped(str(error)) from error
    return found


def _apart(find: Callable[[], Iterable[Block]], kind: str, limits: Limits) -> tuple[list[Block], str]:
    """As `_gathered`, by code that may not come back: then with the blocks that it gave."""
    out: list[Block] = []
    cut: list[str] = []
    patience_s = max(0.0, limits.time_s) + _GRACE_S
    if apart(kind, lambda: cut.append(_gathered(find, kind, limits, out)[1]), patience_s, limits.stop):
        return out, cut[0]
    if not out:
        raise PluginBroken(f"extractor {kind}: gave nothing within {patience_s:g} s, and has not come back")
    return out.copy(), _late(limits)


def _gathered(
    find: Callable[[], Iterable[Block]], kind: str, limits: Limits, out: list[Block] | None = None
) -> tuple[list[Block], str]:
    with faults_of(f"extractor {kind}", Skipped):
        return _within(limits, find(), [] if out is None else out)


def _late(limits: Limits) -> str:
    return f"what could not be read within {limits.time_s:g} s"


def _within(limits: Limits, blocks: Iterable[Block], out: list[Block]) -> tuple[list[Block], str]:
    deadline = time.monotonic() + limits.time_s
    chars = 0
    for each in blocks:
        plain = each.text.isascii() and each.label.isascii()
        block = each if plain else each._replace(text=shown(each.text), label=shown(each.label))
        room = limits.text_chars - chars
        if len(block.text) > room:
            if room > 0:
                end = block.start + room if block.exact else block.end
                out.append(block._replace(text=block.text[:room], end=end))
            return out, f"the text behind its first {limits.text_chars} characters"
        if block.text:
            out.append(block)
            chars += len(block.text)
        if time.monotonic() > deadline:
            return out, _late(limits)
    return out, ""


def decoded(data: bytes) -> tuple[str, str, int]:
    """Text, its encoding, and the bytes of the mark before it.

    Bytes that are none of the encoding are surrogates, so that what stands where can be told; `shown` has none.

    Raises
    ------
    Skipped
        The bytes are no text in any encoding that is known.
    """
    for mark, encoding in _MARKS if data[:1] in _MARKED else ():
        if data.startswith(mark):
            return _forgiving(data[len(mark) :], encoding), encoding, len(mark)
    if data.find(0, 0, _SAMPLE) >= 0:
        return _without_mark(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        encoding = _detected(data)
        text = _forgiving(data, encoding)
        _refuse_noise(shown(text[:_NOISE]))
        return text, encoding, 0
    _refuse_noise(text)
    return text, "utf-8", 0


def _forgiving(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding, "surrogateescape")
    except UnicodeDecodeError:  # of units of several bytes
        return data.decode(encoding, "replace")


def shown(text: str) -> str:
    """Decoded text without surrogates, of the same length."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _counts(text: str, encoding: str, size: int) -> bool:
    """Whether characters can be counted as bytes of the file: it is what its text is in that encoding."""
    if encoding == "utf-8" and text.isascii():
        return True
    if encoding.startswith(_WITH_STATE):
        return False
    try:
        return len(text.encode(encoding, "surrogateescape")) == size
    except UnicodeEncodeError:
        return False


def _without_mark(data: bytes) -> tuple[str, str, int]:
    """UTF-16 of a Western text without a mark: every second byte is zero."""
    sample = data[:2048]
    for encoding, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        if len(data) % 2 == 0 and zeros.count(0) > 0.9 * len(zeros) and sample.count(0) < 0.6 * len(sample):
            return _forgiving(data, encoding), encoding, 0
    raise Skipped("binary data")


def _detected(data: bytes) -> str:
    from charset_normalizer import from_bytes

    sample = data[:_SAMPLE]
    found = list(from_bytes(sample, threshold=0.3, cp_exclusion=_RARE)) or list(from_bytes(sample, threshold=0.3))
    if not found:
        raise Skipped("binary data, or text in an encoding that cannot be told")
    if not _RUN.search(sample) and _has_another_script(_forgiving(sample, found[0].encoding)):
        return "cp1252"  # other scripts come in runs: a letter here and there is an accented one
    for each in found:
        # Where letters alone cannot decide, the encoding that most such files have.
        if each.encoding == "cp1252" and each.coherence >= found[0].coherence and each.chaos <= found[0].chaos + 0.1:
            return "cp1252"
    return found[0].encoding


def _has_another_script(text: str) -> bool:
    return any(each.isalpha() and not unicodedata.name(each, "").startswith("LATIN") for each in text)


def _refuse_noise(text: str) -> None:
    sample = text[:_NOISE]
    if sample.isascii():
        odd = len(sample) - len(sample.encode("ascii").translate(None, _ODD_ASCII))
    else:
        odd = len(_ODD.findall(sample))
    if odd > 0.02 * len(sample):
        raise Skipped("binary data")
