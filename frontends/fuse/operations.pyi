"""Typed face of the request handlers."""

from vexfs.frontends.fuse.handler import Handler

class Operations(Handler): ...
