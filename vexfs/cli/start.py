"""Entry points of the programs: until a command begins, Ctrl-C ends them as it ends any program, without a word.

Python's own way is an exception wherever it stands, and whoever is quick would see the inside of an import.  Only
`signal` is imported before that is settled.
"""

import signal

_quick = False


def _settle() -> None:
    global _quick
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a parent has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _quick = True


def begun() -> None:
    """From here on Ctrl-C is an exception, so that what a command has begun is cleaned up."""
    global _quick
    if _quick:
        _quick = False
        signal.signal(signal.SIGINT, signal.default_int_handler)


def vexfs() -> None:
    """Entry point of ``vexfs``."""
    _settle()
    from vexfs.cli import main

    main.vexfs()


def vexctl() -> None:
    """Entry point of ``vexctl``."""
    _settle()
    from vexfs.cli import main

    main.vexctl()


def mount_vexfs() -> None:
    """Entry point of ``mount.vexfs``."""
    _settle()
    from vexfs.cli import mount

    mount.mount_vexfs()
