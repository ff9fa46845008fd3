"""BM25 the slow way, for the tests of the keyword index: every passage is looked at, from the records' own bytes."""

from collections import Counter
from string import ascii_lowercase

import numpy as np

K1, B, TF_MOST = 1.2, 0.75, 255
MOST = 0x7F000000
f32 = np.float32


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def tokens(record: bytes) -> list[tuple[str, bool]]:
    """What a record holds: terms in order, and whether each stands at the position of the one before."""
    terms, at = varint(record, 1)
    n, at = varint(record, at)
    names = []
    for _ in range(terms):
        names.append(record[at + 1 : at + 1 + record[at]].decode())
        at += 1 + record[at]
    found = []
    for _ in range(n):
        token, at = varint(record, at)
        found.append((names[token >> 1], bool(token & 1)))
    assert at == len(record)
    return found


FORM = 0.5
CUT = [("ation", 4), ("ion", 5), ("ly", 4), ("ing", 3), ("ed", 3)]


def root(word: str) -> str | None:
    """What a word has in common with its other forms; None for what has none."""
    if len(word) < 3 or not set(word) <= set(ascii_lowercase):
        return None
    for ending, least in CUT:
        left = word.removesuffix(ending)
        if left != word and len(left) >= least and set(left) & set("aeiouy"):
            twice = len(left) > 3 and left[-1] == left[-2] and left[-1] not in "aeiouylsz"
            word = left[:-1] if twice else left
            break
    if len(word) > 3 and (word.endswith(("e", "ll"))):
        return word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word[-1] == "y" and word[-2] not in "aeiouy" else word


class Reference:
    """Passages by row; ``search`` takes clauses: (sign, kind, words)."""

    def __init__(self):
        self.passages: dict[int, list[tuple[str, bool]]] = {}

    def put(self, row: int, record: bytes) -> None:
        self.passages[row] = tokens(record)

    def remove(self, row: int) -> None:
        self.passages.pop(row, None)

    def index(self):
        """Counts of every passage, made once after changes."""
        self.rows = np.array(sorted(self.passages), np.uint32)
        self.counts = [Counter(t for t, _ in self.passages[r]) for r in self.rows.tolist()]
        self.df = Counter(t for counts in self.counts for t in counts)
        self.roots = {t: root(t) for t in self.df}
        self.texts = [" ".join(["", *(t for t, same in self.passages[r] if not same), ""]) for r in self.rows.tolist()]
        lengths = [sum(not same for _, same in self.passages[r]) for r in self.rows.tolist()]
        self.lengths = np.array(lengths, f32)
        self.average = sum(lengths) / len(lengths) if sum(lengths) else 1.0

    def tf(self, kind: str, words: list[str]) -> np.ndarray:
        if kind == "term":
            found = [c[words[0]] for c in self.counts]
        elif kind == "prefix":
            found = [sum(min(n, TF_MOST) for t, n in c.items() if t.startswith(words[0])) for c in self.counts]
        else:
            want = " " + " ".join(words) + " "
            found = [sum(t.startswith(want, i) for i in range(len(t))) if want in t else 0 for t in self.texts]
        return np.minimum(np.array(found, np.int64), TF_MOST)

    def idf(self, df: int) -> float:
        return float(np.log1p((len(self.rows) - df + 0.5) / (df + 0.5)))

    def plain(self, said: list[str]):
        """(weight, word) of plain words and their other forms, which count half; they are as rare as all together."""
        times: Counter[str] = Counter()
        weights = {}
        for word in said:
            forms = {t for t in self.df if t == word or (root(word) and self.roots[t] == root(word))}
            weight = (K1 + 1) * self.idf(min(sum(self.df[t] for t in forms), len(self.rows)))
            for t in forms:
                times[t] += 1 if t == word else FORM
                weights[t] = weight
        return [(weights[t] * times[t], t) for t in times]

    def search(self, clauses, k, allowed=None):
        n = len(self.rows)
        total, open_rows = np.zeros(n, np.int64), np.ones(n, bool)
        weighed = []
        for weight, word in self.plain([words[0] for sign, kind, words in clauses if (sign, kind) == (" ", "term")]):
            weighed.append((weight, self.tf("term", [word])))
        for sign, kind, words in clauses:
            if (sign, kind) == (" ", "term"):
                continue
            tf = self.tf(kind, words)
            df = int((tf > 0).sum())
            if sign == "+":
                open_rows &= tf > 0
            if sign == "-":
                open_rows &= tf == 0
            elif df:
                parts = [int((self.tf("term", [w]) > 0).sum()) for w in words] if kind == "phrase" else [df]
                weighed.append(((K1 + 1) * sum(map(self.idf, parts)), tf))
        scale, most = 1.0, sum(w for w, _ in weighed)
        while most * scale > MOST:
            scale /= 2
        while 0 < most * scale * 2 <= MOST:
            scale *= 2
        norm = f32(K1 * (1 - B)) + f32(K1 * B / self.average) * self.lengths
        for weight, tf in weighed:
            ratio = tf.astype(f32) / (tf.astype(f32) + norm)
            total += np.rint(f32(weight * scale) * ratio).astype(np.int64)
        if allowed is not None:
            open_rows &= np.isin(self.rows, allowed)
        found = np.nonzero((total > 0) & open_rows)[0]
        best = sorted(found.tolist(), key=lambda i: (-total[i], self.rows[i]))[:k]
        return self.rows[best], (total[best] / scale).astype(f32)
