"""The control socket: the verbs of a node for whoever may use a UNIX socket of mode 0600.

Newline-delimited JSON.  A request is ``{"id", "verb", "args"}``; its answer is any number of ``{"id", "progress"}``,
then ``{"id", "result"}`` or ``{"id", "error": {"type", "message", "exit"}}``.  Requests of one connection are done one
after the other; when the client goes, what it asked for is ended.
"""

from vexfs.frontends.control.server import ControlService, service

__all__ = ["ControlService", "service"]
