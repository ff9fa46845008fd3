"""``index.toml``: the index that covers a directory, as text."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vexfs.search.catalog import Catalog

NONE = """\
# No index covers this directory.  To make one:
#   vexctl index create DIR --embedder default     (text, found by meaning)
#   vexctl index create DIR --dim 384              (vectors of your own)
"""


def index_file(catalog: "Catalog", directory: int) -> bytes:
    """The text for the directory with that inode number."""
    index = catalog.covering(directory)
    if index is None:
        return NONE.encode()
    stats = index.table.stats()
    lines = [
        f"directory = {json.dumps(index.path)}",
        f"dim = {index.dim}",
        f"metric = {json.dumps(index.metric)}",
        f"dtype = {json.dumps(index.dtype)}",
        f"embedder = {json.dumps(index.embedder)}" if index.embedder else "# embedder: none, vectors are given",
        "",
        "[state]",
        f"files = {stats['files']}",
        f"passages = {stats['live']}",
        f"out_of_date = {stats['stale']}",
        f"memory_bytes = {sum(index.memory().values())}",
    ]
    return ("\n".join(lines) + "\n").encode()
