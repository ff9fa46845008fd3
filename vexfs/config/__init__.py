"""A node's configuration: one TOML file, strictly read.

=================  =====================================================================================
:mod:`.kinds`      what a key may hold: sizes, times, addresses, ...
:mod:`.model`      every section and key, with default and meaning
:mod:`.settings`   the effective values, where each came from, and what two of them differ in
:mod:`.reference`  the reference page and the commented default file, made from the model
=================  =====================================================================================
"""

from vexfs.config.settings import DEFAULT_FILE, Change, Faults, Origin, Settings, load

__all__ = ["DEFAULT_FILE", "Change", "Faults", "Origin", "Settings", "load"]
