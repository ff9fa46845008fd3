"""What a question demands and forbids, ``+must`` and ``-mustnot``, where rows are found by meaning, too.

Words are divided as ``words_query.c`` divides them.
"""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vexfs._core.words import WordIndex

_UNIT = re.compile(r'([+-](?=[^ \t-\r+-]))?("[^"]*"?\*?|[^ \t-\r"]+)')
_WORDLESS = WordIndex.encode("")


class Signs(NamedTuple):
    """What a question says with signs.

    Attributes
    ----------
    must, mustnot : list of str
        Words, phrases and prefixes, each without its sign.
    rest : str
        The question without what must not be.
    """

    must: list[str]
    mustnot: list[str]
    rest: str

    def narrow(self, words: WordIndex, bits: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], int]:
        """The rows of a bit array that have what must be and nothing that must not, and how many."""
        left = np.unpackbits(bits.view(np.uint8), bitorder="little")
        if self.must:
            rows = _found(words, " ".join(f"+{each}" for each in self.must), bits)
            left[:] = 0
            left[rows] = 1
        for each in self.mustnot:
            left[_found(words, f"+{each}", bits)] = 0
        return np.packbits(left, bitorder="little").view(np.uint64), int(np.count_nonzero(left))


def signs(query: str) -> Signs | None:
    """What a question says with signs; None: nothing."""
    if "+" not in query and "-" not in query:
        return None
    said: dict[str, dict[str, None]] = {"+": {}, "-": {}}
    for sign, unit in _UNIT.findall(query):
        if sign and WordIndex.encode(unit) != _WORDLESS:
            said[sign][unit] = None
    if not said["+"] and not said["-"]:
        return None
    rest = _UNIT.sub(lambda unit: "" if unit[1] == "-" else unit[0], query)
    return Signs(list(said["+"]), list(said["-"]), rest if rest.strip() else query)


def _found(words: WordIndex, query: str, bits: NDArray[np.uint64]) -> NDArray[np.uint32]:
    return words.search(query, max(1, len(words)), mask=bits)[0]
