"""VexFS: a filesystem that finds files by meaning.

>>> import vexfs
>>> with vexfs.open("notes.vex") as fs:
...     fs.write_text("coffee/roasts.md", "Light roasts keep acidity")
"""

from __future__ import annotations

from importlib import import_module

from vexfs.version import __version__

TYPE_CHECKING = False  # as of `typing`, which would take longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from vexfs.frontends.local import LocalVolume as Volume
    from vexfs.frontends.local import VolumePath
    from vexfs.remote import RemoteVolume

__all__ = ["Volume", "VolumePath", "__version__", "connect", "errors", "open"]

_LAZY = {"Volume": "LocalVolume", "VolumePath": "VolumePath"}


def open(path: Any, *, create: bool = True, read_only: bool = False, key_file: Any = None, **options: Any) -> Volume:
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


def connect(url: str, token: str | None = None, **options: Any) -> RemoteVolume:
    """Use the volume that a node serves at `url` as if it were open here: files, indexes, searches.

    Parameters
    ----------
    url : str
        ``http://HOST:PORT`` or ``https://HOST:PORT``.
    token : str, optional
        As ``vexctl token create`` shows it; default: ``VEXFS_TOKEN`` of the environment.
    **options
        ``timeout_s``, and ``context`` (``ssl.SSLContext``): see :func:`vexfs.remote.volume.connect`.

    Returns
    -------
    RemoteVolume
        A context manager that closes itself.
    """
    try:
        from vexfs.remote.volume import connect as connected
    except ModuleNotFoundError as error:
        if error.name != "msgspec":
            raise
        broken: type[Exception] = import_module("vexfs.errors").PluginBroken
        raise broken("vexfs.connect needs msgspec; install it: pip install 'vexfs[server]'") from None
    return connected(url, token, **options)


def __getattr__(name: str) -> Any:
    # The compiled core is imported when a volume is first asked for, so that `vexctl --help` stays quick.
    if name in _LAZY:
        from vexfs.frontends import local

        return getattr(local, _LAZY[name])
    if name == "errors":
        return import_module("vexfs.errors")
    raise AttributeError(f"module 'vexfs' has no attribute {name!r}")
