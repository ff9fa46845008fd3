"""``.vexfs/metrics``: what Prometheus would be told, as a file."""

from vexfs import machinery
from vexfs.observe import exposition, metrics
from vexfs.observe.history import History
from vexfs.observe.parts import Parts
from vexfs.volume import Volume


class Figures:
    """The metrics of a volume that no node watches: rates are those since the file was looked up last.

    Parameters
    ----------
    volume : Volume
        Open, and about to be mounted.
    """

    def __init__(self, volume: Volume) -> None:
        self._history = History(Parts(volume, machinery.simd()))
        self._history.take()

    def text(self) -> bytes:
        """The text now."""
        made = text_of(self._history)
        self._history.take()
        return made


def text_of(history: History) -> bytes:
    """The text form of everything that `history` observes."""
    return exposition.render(metrics.collect(history)).encode()
