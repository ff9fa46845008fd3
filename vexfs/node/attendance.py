"""What ``vexctl`` can ask of a volume that is mounted without a node: the verbs about the volume itself.

A volume has one owner, and a mount is one; without this, neither a search nor a backup could be had from outside while
the volume is mounted.  The socket lies in the volume's own directory, so its path is known to whoever knows the volume.
"""

import contextlib
import logging
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from vexfs.config import Origin, load
from vexfs.errors import NotSupported, VexfsError, describe
from vexfs.node.node import Node
from vexfs.registry import registry
from vexfs.store import lock
from vexfs.volume import Volume

log = logging.getLogger("vexfs.mount")

NOUNS = ("index", "search", "volume")
_STOP_S = 10.0


class Attendant(Node):
    """A node around a volume that somebody else has opened and closes; does the verbs of `NOUNS` alone.

    Parameters
    ----------
    volume : Volume
        Open for writing.
    """

    def __init__(self, volume: Volume) -> None:
        place = str(volume.directory / lock.SOCKET)
        settings = load(environment={}).replaced("general.control_socket", place, Origin("control"))
        super().__init__(settings, volume=volume.directory)
        self._volume = volume

    def call(self, name: str, args: Mapping[str, Any]) -> Generator[Mapping[str, Any], None, Any]:
        """Do a verb; ``NotSupported`` for one that needs a whole node."""
        if name.partition(".")[0] not in NOUNS:
            raise NotSupported.at(
                f"{name} is for a node (`vexfs serve`); this volume is mounted by `vexfs mount`, and answers to "
                f"`vexctl {'`, `vexctl '.join(NOUNS)}`: unmount it, or serve it",
                self.volume.directory,
            )
        return super().call(name, args)


@contextlib.contextmanager
def attended(volume: Volume) -> Iterator[None]:
    """While it lasts, `volume` answers on a socket in its directory, and the lock file says so.

    A volume that is open read-only may be open several times, and has none.  A socket that cannot be made is logged,
    and the mount does without.
    """
    if volume.read_only:
        yield
        return
    service = registry("frontends").get("control").service(Attendant(volume))
    try:
        service.start()
    except (VexfsError, OSError) as error:
        log.warning("vexctl cannot reach this mount: %s", describe(error))
        yield
        return
    try:
        _announce(volume, str(service.path))
        yield
    finally:
        _announce(volume, None)
        service.stop(_STOP_S)


def _announce(volume: Volume, path: str | None) -> None:
    try:
        volume.announce(socket=path)
    except OSError as error:  # a full disk must not end the mount
        log.warning("the lock file does not tell where vexctl reaches this mount: %s", describe(error))
