"""Indexes whose stored vectors stay on the disk: the same results, in less memory."""

import numpy as np
import pytest

from vexfs.errors import IndexConflict, InvalidArgument

N, DIM = 6000, 128


@pytest.fixture
def many(rng):
    centres = rng.standard_normal((40, DIM))
    return (centres[rng.integers(0, 40, N)] + 0.6 * rng.standard_normal((N, DIM))).astype(np.float32)


def test_the_same_results_in_less_memory(fs, many, reopen):
    made = {}
    for where in ("memory", "disk"):
        index = fs.index(where, dim=DIM, rows_in=where)
        index.upsert([f"r{k}" for k in range(N)], many, {"n": list(range(N))})
        made[where] = index
    fs.catalog.upkeep.wait()
    q = many[:50] + 0.1

    def answers(index, **options):
        return [[hit.id for hit in hits] for hits in index.query(q, 10, **options)]

    assert answers(made["disk"], exact=True) == answers(made["memory"], exact=True)
    assert answers(made["disk"], where={"n": {"$lt": 50}}) == answers(made["memory"], where={"n": {"$lt": 50}})
    true = answers(made["memory"], exact=True)
    for index in made.values():
        found = answers(index, exact=False, recall=0.99)
        share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, true, strict=True)])
        assert share >= 0.98, index
    assert made["disk"].memory()["rows"] == 0 and made["disk"].vectors.stats()["resident"] == 0
    assert sum(made["memory"].memory().values()) - sum(made["disk"].memory().values()) > N * DIM * 4
    fs = reopen()
    fs.catalog.upkeep.wait()
    index = fs.index("disk")
    assert index.rows_in == "disk" and index.vectors.stats()["resident"] == 0
    assert answers(index, exact=True) == true
    index.upsert(["r0"], many[4000:4001] + 0.01)
    assert {hit.id for hit in index.query(many[4000], 2)} == {"r0", "r4000"}
    assert index.query(many[0], 1, exact=True)[0].id != "r0"


def test_what_it_can_be(fs):
    with pytest.raises(InvalidArgument, match="rows_in 'tape' is unknown; memory, disk"):
        fs.index("a", dim=4, rows_in="tape")
    fs.index("a", dim=4, rows_in="disk")
    with pytest.raises(IndexConflict, match="rows_in='disk', not 'memory'"):
        fs.index("a", rows_in="memory")
    assert fs.index("a").describe()["rows_in"] == "disk"
