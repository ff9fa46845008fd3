"""The MCP frontend: a volume's files for agents that speak the Model Context Protocol.

``vexfs mcp VOLUME`` serves it on standard input and output.  Needs ``pip install vexfs[mcp]``.
"""

from vexfs.errors import PluginBroken

try:
    import mcp  # noqa: F401
except ImportError as error:
    raise PluginBroken("the MCP package is not installed: pip install 'vexfs[mcp]'") from error

from vexfs.frontends.mcp.server import make_server

__all__ = ["make_server"]
