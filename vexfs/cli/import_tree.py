"""``vexfs import``; see :mod:`vexfs.cli.transfer`."""

from vexfs.cli.transfer import register_import as register

__all__ = ["register"]
