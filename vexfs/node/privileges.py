"""Giving up root's rights: who the node runs as once it has what only root may take."""

import grp
import os
import pwd
from pathlib import Path

import attrs

from vexfs.errors import ConfigError


@attrs.frozen
class Identity:
    """A user with its group."""

    name: str
    uid: int
    gid: int


def identity(run_as: str) -> Identity | None:
    """Who ``general.run_as`` means; None when it is empty.

    Raises
    ------
    ConfigError
        There is no such user or group, or this process may not become another user.
    """
    who = found(run_as)
    if who is not None and os.geteuid() not in (0, who.uid):
        raise ConfigError(f"general.run_as: only root may start a node that runs as {run_as!r}; leave it empty")
    return who


def found(run_as: str) -> Identity | None:
    """The same, whether or not this process may become it."""
    if not run_as:
        return None
    user, _, group = run_as.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"general.run_as: there is no user {user!r}") from None
    try:
        gid = (int(group) if group.isdigit() else grp.getgrnam(group).gr_gid) if group else entry.pw_gid
    except KeyError:
        raise ConfigError(f"general.run_as: there is no group {group!r}") from None
    return Identity(entry.pw_name, entry.pw_uid, gid)


def own(path: Path, who: Identity | None) -> None:
    """Give a file or directory to the user that the node will run as."""
    if who is not None and os.geteuid() == 0 and path.exists():
        os.chown(path, who.uid, who.gid)


def drop(who: Identity | None) -> None:
    """Become `who`, in all threads and for good."""
    if who is None or os.geteuid() != 0:
        return
    os.initgroups(who.name, who.gid)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
