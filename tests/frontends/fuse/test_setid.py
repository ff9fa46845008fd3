"""Set-id bits: who keeps them, who takes them away, and who may not, on a real mount."""

import os
import stat

from tests.frontends.fuse.test_posix import open_to_all as open_to_all  # the fixture
from tests.frontends.fuse.test_posix import root_only
from tests.waiting import until


def as_user(uid, groups, top, work):
    """What `work` answers in a process of that user, begun in a directory: those above it may be closed to the user."""
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(top)
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@root_only
def test_a_stranger_takes_no_set_id_bits_away(open_to_all):
    path = open_to_all / "program"
    path.write_bytes(b"#!/bin/sh\n")
    os.chmod(path, 0o6755)
    as_user(1234, [], open_to_all, lambda: os.chown(path.name, -1, -1))
    assert mode(path) == 0o6755
    os.chown(path, 1234, 1234)
    os.chmod(path, 0o6755)
    assert as_user(1234, [], open_to_all, lambda: os.chown(path.name, -1, -1)) == 0  # the owner does
    assert mode(path) == 0o755


@root_only
def test_what_was_opened_before_takes_them_away_when_it_is_written(open_to_all):
    path = open_to_all / "program"
    path.write_bytes(b"#!/bin/sh\n")
    fd = os.open(path, os.O_WRONLY)
    for set_id in (0o4755, 0o6711):
        os.chmod(path, set_id)
        assert as_user(1234, [], open_to_all, lambda: os.write(fd, b"#!/bin/true\n")) == 0
        until(lambda set_id=set_id: mode(path) == set_id & 0o777)  # the kernel hears of it from a thread
    os.close(fd)


@root_only
def test_a_further_group_of_who_makes_a_file_counts(open_to_all):
    top = open_to_all / "team"
    top.mkdir()
    os.chown(top, 0, 4321)
    os.chmod(top, 0o2777)
    umask = os.umask(0)
    try:
        assert as_user(1234, [4321], top, lambda: os.close(os.open("member", os.O_CREAT, 0o2755))) == 0
        assert as_user(1234, [], top, lambda: os.close(os.open("stranger", os.O_CREAT, 0o2755))) == 0
    finally:
        os.umask(umask)
    assert mode(top / "member") == 0o2755
    assert mode(top / "stranger") == 0o755
    assert os.stat(top / "member").st_gid == os.stat(top / "stranger").st_gid == 4321
