"""The in-process frontend: an open volume with the files in it at hand.

``vexfs.open`` gives out a :class:`LocalVolume`.
"""

from typing import Any

from vexfs.frontends.local.attributes import Attributes
from vexfs.frontends.local.fileobject import RawFile
from vexfs.frontends.local.files import DirEntry, Files
from vexfs.frontends.local.paths import VolumePath
from vexfs.frontends.local.searching import Searching

from vexfs.volume import Volume

__all__ = ["Attributes", "DirEntry", "Files", "LocalVolume", "RawFile", "Searching", "VolumePath"]


class LocalVolume(Files, Searching, Volume):
    """An open volume and its files.  Thread-safe; a context manager that closes itself.

    What is about the volume as a whole is in :class:`vexfs.volume.Volume`, what is about its files in :class:`Files`,
    what is about vectors and searches in :class:`Searching`.
    """

    def __init__(self, *parts: Any) -> None:
        Volume.__init__(self, *parts)
        Files.__init__(self)

    def close(self) -> None:
        """Flush and close the files that are still open, write everything out, and give the volume up."""
        if not self.closed:
            try:
                self.close_files()
            finally:
                super().close()
