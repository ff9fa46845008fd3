"""Files at paths longer than the kernel would take are indexed and found as others are."""

import numpy as np

from tests.search.test_ingest import counted, found, fs  # noqa: F401 - fs is a fixture


def test_text_and_vectors_at_long_paths_are_found(fs):  # noqa: F811
    index = fs.index("docs", embedder=counted)
    path = "docs"
    while len(path) <= 5000:
        path += "/" + "d" * 200
        fs.mkdir(path)
    fs.write_text(f"{path}/a.txt", "roast beans")
    fs.write_bytes(f"{path}/none.txt", bytes(range(256)) * 4)
    with fs.open(f"{path}/v.npy", "wb") as file:
        np.save(file, np.ones(index.dim, np.float32))
    assert fs.ingest.wait(120)
    for mode in ("keyword", "semantic", "hybrid"):
        assert f"/{path}/a.txt" in found(fs, "roast", mode=mode, under=path)
    assert fs.search("roast", mode="keyword")[0].text == "roast beans"
    assert f"/{path}/v.npy" in index.query(np.ones(index.dim, np.float32)).paths
    assert [each["path"] for each in index.describe()["ingest"]["aside"]] == [f"/{path}/none.txt"]
    index = fs.index("docs/" + "d" * 200, embedder=counted)  # the files are looked for below it
    assert fs.ingest.wait(120) and f"/{path}/a.txt" in found(fs, "roast")
    assert f"/{path}/v.npy" in index.query(np.ones(index.dim, np.float32)).paths
