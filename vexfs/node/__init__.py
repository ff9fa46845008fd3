"""A node: one process that owns a volume and serves it, under one configuration.

===================  ==============================================================================
:mod:`.node`         the node itself: opens, runs, reloads, stops
:mod:`.service`      what faces the outside: started, watched and restarted each by itself
:mod:`.verb`         what a node can be told to do, by name; the verbs are in :mod:`vexfs.node.verbs`
:mod:`.tuning`       what the settings mean for the core's mechanisms
:mod:`.attendance`   the verbs about a volume that is mounted without a node
:mod:`.log`          the log, to files or the journal
:mod:`.notify`       systemd's readiness and watchdog
:mod:`.privileges`   giving up root's rights
===================  ==============================================================================

Frontends serve a node and are found through the registry; nothing here imports one.
"""

from vexfs.node.node import Node
from vexfs.node.service import Service

__all__ = ["Node", "Service"]
