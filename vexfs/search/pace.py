"""How fast files are worked off: counted in steps of a tenth of a second, for half a minute."""

import time
from collections import deque

_STEP_S, _KEPT_S = 0.1, 30.0


class Pace:
    """Files and passages a second.  Noted by one thread, read by any."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int, int]] = deque(maxlen=int(_KEPT_S / _STEP_S))

    def note(self, passages: int) -> None:
        """One file, of so many passages, was worked off now."""
        now = time.monotonic()
        began, files, before = self._steps[-1] if self._steps else (0.0, 0, 0)
        if now - began < _STEP_S:
            self._steps[-1] = (began, files + 1, before + passages)
        else:
            self._steps.append((now, 1, passages))

    def rates(self) -> tuple[float, float]:
        """Files and passages a second since the first of the last half minute."""
        now = time.monotonic()
        recent = [step for step in list(self._steps) if now - step[0] < _KEPT_S]
        span = max(now - recent[0][0], 0.5) if recent else 1.0
        return sum(files for _, files, _ in recent) / span, sum(passages for _, _, passages in recent) / span
