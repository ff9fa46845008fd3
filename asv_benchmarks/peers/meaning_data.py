"""Judged sets made of real text that a Debian machine has or can fetch: each query has one right answer.

=============  =============================================  ====================================
set            query                                          document
=============  =============================================  ====================================
packages       a Debian package's one-line synopsis           its long description
sections       a heading in documentation (Markdown, reST)    the text under it
docstrings     the first line of a Python docstring           the rest of it
=============  =============================================  ====================================
"""

import ast
import random
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from vexfs.search.extract_text import markdown


class Judged(NamedTuple):
    """Documents, queries, and which document each query is to find."""

    name: str
    documents: list[str]
    queries: list[str]
    right: list[int]


def packages(cache: Path) -> list[tuple[str, str]]:
    """Synopses and descriptions of Debian's packages, from the translation files that apt fetches."""
    lists = cache / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::lists={lists}", "-o", "Acquire::Languages=en"]
    if not list(lists.glob("*Translation-en*")):
        subprocess.run(["apt-get", *options, "update", "-qq"], check=True)
    pairs = []
    for file in sorted(lists.glob("*main_i18n_Translation-en*")):
        text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", file], check=True, capture_output=True).stdout
        for found in re.finditer(r"^Description-en: (.*)\n((?: .*\n)*)", text.decode("utf-8", "replace"), re.MULTILINE):
            lines = ["" if line == " ." else line[1:] for line in found.group(2).splitlines()]
            pairs.append((found.group(1), "\n".join(lines)))
    return pairs


def shuffled(roots: list[Path], *suffixes: str) -> list[Path]:
    """The files below `roots` in an order that is always the same and follows no directory."""
    paths = sorted({p for root in roots for suffix in suffixes for p in root.rglob(f"*.{suffix}")})
    random.Random(7).shuffle(paths)
    return paths


def sections(roots: list[Path], most: int) -> list[tuple[str, str]]:
    """Headings and what stands under them, in documentation files below `roots`; about `most` of them."""
    pairs: list[tuple[str, str]] = []
    for path in shuffled(roots, "rst", "md"):
        if len(pairs) > most:
            break
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        heading, body = "", []
        for block in markdown(text, path.name):
            if block.level:
                pairs.append((heading, "\n\n".join(body)))
                heading, body = block.text, []
            else:
                body.append(block.text)
        pairs.append((heading, "\n\n".join(body)))
    return pairs


def docstrings(roots: list[Path], most: int) -> list[tuple[str, str]]:
    """First lines and the rest of docstrings in Python modules below `roots`; about `most` of them."""
    pairs: list[tuple[str, str]] = []
    for path in shuffled(roots, "py"):
        if len(pairs) > most:
            break
        try:
            tree = ast.parse(path.read_text(errors="replace"))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                first, _, rest = (ast.get_docstring(node) or "").partition("\n")
                pairs.append((first, rest))
    return pairs


def judged(name: str, pairs: list[tuple[str, str]], documents: int, queries: int) -> Judged:
    """A set of at most so many documents and queries.

    Each query and document comes once, a query of fewer than two words or a document of fewer than a hundred characters
    not at all.
    """
    seen: set[str] = set()
    kept = []
    for query, document in pairs:
        query, body = query.strip(), document.strip()[:1500]
        if len(query.split()) < 2 or len(body) < 100 or query in seen or body in seen:
            continue
        seen |= {query, body}
        kept.append((query, body))
    rng = random.Random(7)
    rng.shuffle(kept)
    kept = kept[:documents]
    right = sorted(rng.sample(range(len(kept)), min(queries, len(kept) // 4)))
    return Judged(name, [body for _, body in kept], [kept[at][0] for at in right], right)


def all_sets(cache: Path, documents: int, queries: int) -> list[Judged]:
    """Every set that can be made here; one that cannot is left out, with a line to say so."""
    library, site = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    makers = {
        "packages": lambda: packages(cache),
        "sections": lambda: sections([Path("/usr/share"), library, site], 5 * documents),
        "docstrings": lambda: docstrings([library, site], 5 * documents),
    }
    found = []
    for name, make in makers.items():
        try:
            made = judged(name, make(), documents, queries)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"set {name} left out: {error}", file=sys.stderr)
            continue
        if len(made.queries) >= 50:
            found.append(made)
    return found
