"""What POSIX and the manual pages ask of a directory, as a suite that any frontend can run.

A *case* is a function of a :class:`~vexfs.testing.posix.target.Stage`: an empty directory of its own, the calling
process, other users, and the checks, which are counted.  Cases use plain ``os`` calls alone, so the same ones judge a
mounted volume, a directory of the host, and whatever shows a volume as a directory.

>>> from vexfs.testing.posix import Target, cases, run
>>> report = run(Target("/some/mount"))                                                            # doctest: +SKIP
>>> report.failures                                                                                # doctest: +SKIP
"""

from vexfs.testing.posix.suite import Report, cases, run
from vexfs.testing.posix.target import Stage, Target

__all__ = ["Report", "Stage", "Target", "cases", "run"]
