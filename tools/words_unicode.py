"""Writes the keyword index's table of Unicode: which code points make words, and what each is folded to.

    python tools/words_unicode.py > vexfs/_core/src/words_unicode.c

The table is committed, so that terms are the same whatever Python builds or runs the index: they stand in stored
records.  A new table is a new `VX_WORDS_ANALYSER`.
"""

import sys
import unicodedata
from collections.abc import Iterator

LAST = 0x40000  # planes 0 to 3; nothing beyond makes words
LINE = 118
GRAM_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul Jamo
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),
    (0x3021, 0x31FF),  # Hiragana, Katakana, Bopomofo, compatibility Jamo
    (0x3400, 0x9FFF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
# Joiners, the soft hyphen, variation selectors, the Arabic tatweel: within a word, and of no meaning to it.
IGNORED = {0xAD, 0x034F, 0x0640, 0x180E, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, *range(0xFE00, 0xFE10)}


def dropped(char: str) -> bool:
    """Accents, points of Hebrew and Arabic, tone marks; not the vowel signs, nuktas and viramas of other scripts."""
    ccc = unicodedata.combining(char)
    return ccc == 1 or ccc >= 10 or ord(char) in IGNORED


def fold(char: str) -> str:
    """Compatibility forms and case are gone, accents too; what is left is composed again."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    return unicodedata.normalize("NFC", "".join(c for c in text if not dropped(c) and c != "\u00b7"))


def wordy(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNM" and not dropped(char)


def makes_word(char: str) -> bool:
    folded = fold(char)
    return wordy(char) and folded != "" and all(map(wordy, folded))


def in_blocks(cp: int) -> bool:
    return any(first <= cp <= last for first, last in GRAM_BLOCKS)


def kind(cp: int) -> str:
    """`word`, `gram` (a script without spaces, cut into pairs), `drop`, or nothing for what separates words."""
    char = chr(cp)
    if unicodedata.category(char) in ("Cn", "Cs", "Co"):
        return ""
    if dropped(char):
        return "drop"
    if not makes_word(char):
        return ""
    return "gram" if in_blocks(ord(fold(char)[0])) else "word"


def ranges(kinds: list[str], of: str) -> Iterator[str]:
    start = None
    for cp, found in enumerate([*kinds, ""]):
        if found == of and start is None:
            start = cp
        elif found != of and start is not None:
            yield f"{{0x{start:x}, 0x{cp - 1:x}}}"
            start = None


def fold_rows(kinds: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Runs of code points, none of ASCII; `=` stands for one that folds to itself."""
    start, run = 0, []
    for cp in range(0x80, LAST):
        if kinds[cp] not in ("word", "gram"):
            continue
        folded = fold(chr(cp))
        if folded == chr(cp):
            continue
        gap = cp - start - len(run)
        if run and gap <= 4:
            run += ["="] * gap
        elif run:
            yield start, run
            run = []
        if not run:
            start = cp
        run.append(folded)
    yield start, run


def wrapped(items: Iterator[str]) -> Iterator[str]:
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > LINE:
            yield line
            line = "   "
        line += f" {item},"
    yield line


def literals() -> Iterator[str]:
    """Each run of folds cut to lines; a row holds what fits one."""
    for start, run in fold_rows(KINDS):
        row: list[str] = []
        for i, folded in enumerate(run):
            if len(" ".join([*row, folded])) > LINE - 20:
                yield f'{{0x{start + i - len(row):x}, "{" ".join(row)}"}}'
                row = []
            row.append(folded)
        yield f'{{0x{start + len(run) - len(row):x}, "{" ".join(row)}"}}'


KINDS = [kind(cp) for cp in range(LAST)]


def main() -> None:
    print(f"/* Made by tools/words_unicode.py from Unicode {unicodedata.unidata_version}; not edited by hand. */")
    print('#include "words_fold.h"\n')
    for of, name in (("word", "word"), ("gram", "gram"), ("drop", "drop")):
        print(f"const vx_cp_range vx_cp_{name}s[] = {{")
        print("\n".join(wrapped(ranges(KINDS, of))))
        print("    {0, 0}};")
    print("\n/* Folds of the code points from the first on, with a space between; `=` is the code point itself. */")
    print("const vx_cp_fold vx_cp_folds[] = {")
    print("\n".join(wrapped(literals())))
    print("    {0, 0}};")


if __name__ == "__main__":
    sys.exit(main())
