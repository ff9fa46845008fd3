"""The handlers of REST, one noun a module; each offers ``routes(node)``.

What the volume cannot do in this version is not among the routes, and so not in the description either.
"""

from importlib import import_module

from vexfs.frontends.http.route import Route

from vexfs.node import Node

MODULES = (
    "files", "changes", "operations", "indexes", "ingest", "reembed", "performance", "node", "tokens", "description",
    "pages",
)  # fmt: skip


def routes(node: Node) -> list[Route]:
    """All routes of `node`."""
    found: list[Route] = []
    for name in MODULES:
        module = import_module(f"{__name__}.{name}")
        found += module.routes(node)
    return found
