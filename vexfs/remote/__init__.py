"""A volume that a node serves, used from here as if it were open here: ``vexfs.connect``.

The files API is that of :mod:`vexfs.frontends.local`, which needs nothing but a filesystem; :mod:`.filesystem` is one
whose operations go over HTTP (:mod:`.link`).  Indexes and searches go to their own endpoints (:mod:`.index`).
"""

from vexfs.remote.volume import RemoteVolume, connect

__all__ = ["RemoteVolume", "connect"]
