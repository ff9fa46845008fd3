"""The extractor of PDF, through ``pypdf`` (the extra ``vexfs[pdf]``): a block a paragraph, labelled with its page."""

import io
import logging
from collections.abc import Iterator

from vexfs.search.extract import Block, Skipped
from vexfs.search.extract_text import plain

log = logging.getLogger("vexfs.search")


def pdf(data: bytes, name: str) -> Iterator[Block]:
    """Paragraphs page by page; pages that are pictures give nothing."""
    try:
        import pypdf
    except ImportError:
        raise Skipped("reading PDF needs pypdf; pip install 'vexfs[pdf]'") from None
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Skipped("a PDF under a password")
        pages = len(reader.pages)
    except Skipped:
        raise
    except Exception as error:  # a parser of broken files raises anything
        raise Skipped(f"a damaged PDF: {type(error).__name__}: {error}") from error
    failed = 0
    for number in range(pages):
        try:
            text = reader.pages[number].extract_text()
        except Exception as error:
            failed += 1
            log.debug("%s: page %d: %s", name, number + 1, error)
            continue
        for block in plain(text, name):
            yield Block(block.text, label=f"page {number + 1}")
    if pages and failed == pages:
        raise Skipped("a damaged PDF: no page can be read")
