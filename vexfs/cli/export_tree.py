"""``vexfs export``; see :mod:`vexfs.cli.transfer`."""

from vexfs.cli.transfer import register_export as register

__all__ = ["register"]
