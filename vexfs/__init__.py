"""VexFS: a filesystem that finds files by meaning.

>>> import vexfs
>>> with vexfs.open("notes.vex") as fs:
...     fs.write_text("coffee/roasts.md", "Light roasts keep acidity")
"""

from typing import TYPE_CHECKING, Any

from vexfs.version import __version__

if TYPE_CHECKING:
    from vexfs.frontends.local import LocalVolume as Volume
    from vexfs.frontends.local import VolumePath

__all__ = ["Volume", "VolumePath", "__version__", "errors", "open"]

_LAZY = {"Volume": "LocalVolume", "VolumePath": "VolumePath"}


def open(path: Any, *, create: bool = True, read_only: bool = False, key_file: Any = None, **options: Any) -> "Volume":
    """Open the volume at `path`, a directory on the host, and make it when there is nothing there.

    Parameters
    ----------
    path : path
    create : bool
        False raises ``errors.VolumeNotFound`` when there is no volume.
    read_only : bool
        Change nothing; several processes may do so at once.
    key_file : path, optional
        The key of an encrypted volume.  When the volume is made, it is made encrypted; a key file that does not exist
        is made with it.
    **options
        How the open volume works: see :class:`vexfs.volume.Options`.

    Returns
    -------
    Volume
        A context manager that closes itself; see :class:`vexfs.frontends.local.LocalVolume` for what it offers.
    """
    from vexfs.frontends.local import LocalVolume

    return LocalVolume.load(path, create=create, read_only=read_only, key_file=key_file, **options)


def __getattr__(name: str) -> Any:
    # The compiled core is imported when a volume is first asked for, so that `vexctl --help` stays quick.
    if name in _LAZY:
        from vexfs.frontends import local

        return getattr(local, _LAZY[name])
    if name == "errors":
        from importlib import import_module

        return import_module("vexfs.errors")
    raise AttributeError(f"module 'vexfs' has no attribute {name!r}")
