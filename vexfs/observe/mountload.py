"""A client that works on files of a mount, in a process of its own: ``python mountload.py DIRECTORY SECONDS SEED``.

It imports nothing of VexFS: the node's interpreter must not be what is measured.  Each operation is one that a program
would call one: make and write a file, read one, look at its attributes, list a directory, rename, remove.  It prints
one JSON object: how many of each in how long, and the sum of the times that the calls took.
"""

import json
import os
import random
import resource
import sys
import time

FILES = 200
BYTES = 4096


def run(directory: str, seconds: float, seed: int) -> dict[str, object]:
    """Work for `seconds` in `directory`, which must be empty."""
    rng = random.Random(seed)
    counts: dict[str, int] = {}
    spent: dict[str, float] = {}
    content = [rng.randbytes(BYTES) for _ in range(8)]
    names: list[str] = []
    made = 0

    def write(name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, content[made % 8])
        finally:
            os.close(fd)

    def read(name: str) -> None:
        fd = os.open(name, os.O_RDONLY)
        try:
            if len(os.read(fd, 2 * BYTES)) != BYTES:
                raise OSError(f"{name} has not the {BYTES} bytes that were written")
        finally:
            os.close(fd)

    os.chdir(directory)
    mix = ["write"] * 3 + ["read"] * 4 + ["stat"] * 6 + ["rename", "remove", "list"]
    began = now = time.perf_counter()
    until = began + seconds
    while now < until:
        what = "write" if len(names) < 20 else rng.choice(mix)
        if what == "write" and len(names) >= FILES:
            what = "remove"
        if what == "write":
            made += 1
            names.append(f"f{made}")
            write(names[-1])
        elif what == "read":
            read(rng.choice(names))
        elif what == "stat":
            os.stat(rng.choice(names))
        elif what == "rename":
            made += 1
            i = rng.randrange(len(names))
            os.rename(names[i], f"f{made}")
            names[i] = f"f{made}"
        elif what == "remove":
            i = rng.randrange(len(names))
            names[i], names[-1] = names[-1], names[i]
            os.unlink(names.pop())
        elif len(os.listdir(".")) < len(names):
            raise OSError(f"a listing shows fewer than the {len(names)} files that are there")
        before, now = now, time.perf_counter()
        counts[what] = counts.get(what, 0) + 1
        spent[what] = spent.get(what, 0.0) + now - before
    for name in names:
        os.unlink(name)
    return {
        "seconds": now - began,
        "operations": sum(counts.values()),
        "counts": counts,
        "spent_s": spent,
        "user_s": time.process_time() - resource.getrusage(resource.RUSAGE_SELF).ru_stime,
    }


if __name__ == "__main__":
    try:
        print(json.dumps(run(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))))
    except OSError as error:
        print(json.dumps({"error": f"{error.strerror or error}"}))
        sys.exit(1)
