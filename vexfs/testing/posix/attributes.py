"""Modes, owners, times, sizes and blocks."""

import errno
import os
import stat

from vexfs.testing.posix import calls
from vexfs.testing.posix.target import KINDS, Stage

SECOND = 10**9


def _mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def case_chmod_every_mode(s: Stage) -> None:
    """Every bit is set and taken back, on every kind that has a mode."""
    for kind in KINDS:
        if kind == "symlink":
            continue
        path = s.thing(kind, kind)
        for bit in range(12):
            os.chmod(path, 1 << bit)
            s.same(_mode(path), 1 << bit, kind)
        for mode in (0, 0o777, 0o7777, 0o1777, 0o2755, 0o4711, 0o644):
            with s.touches(path, "ctime"), s.touches(s.here):
                os.chmod(path, mode)
            s.same(_mode(path), mode, kind)


def case_chmod_follows_symlinks(s: Stage) -> None:
    """chmod through a symlink, and fchmod."""
    path = s.file("f")
    os.symlink("f", s.at("link"))
    os.chmod(s.at("link"), 0o611)
    s.same((_mode(path), _mode(s.at("link"))), (0o611, 0o777))
    fd = os.open(path, os.O_RDONLY)
    os.fchmod(fd, 0o622)
    os.close(fd)
    s.same(_mode(path), 0o622)


def case_chown(s: Stage) -> None:
    """Owner and group, together and alone, of every kind."""
    if not s.privileged:
        return
    for kind in KINDS:
        path = s.thing(kind, kind)
        for uid, gid in ((1, 2), (65534, 65534), (0xFFFFFFFE, 0xFFFFFFFE), (-1, 5), (7, -1), (0, 0)):
            before = os.lstat(path)
            with s.touches(path, "ctime"), s.touches(s.here):
                os.lchown(path, uid, gid)
            found = os.lstat(path)
            s.same(found.st_uid, before.st_uid if uid == -1 else uid)
            s.same(found.st_gid, before.st_gid if gid == -1 else gid)
    os.symlink("file", s.at("to-file"))
    os.chown(s.at("to-file"), 11, 12)
    s.same((os.stat(s.at("file")).st_uid, os.lstat(s.at("to-file")).st_uid), (11, 0))


def case_chown_clears_set_id_bits(s: Stage) -> None:
    """A program that is given away loses its set-id bits; a directory keeps them."""
    if not s.privileged:
        return
    for mode, left in ((0o6755, 0o755), (0o4755, 0o755), (0o2755, 0o755), (0o2745, 0o2745), (0o1755, 0o1755)):
        path = s.file(f"f{mode:o}", mode=mode)
        os.chown(path, 1, 1)
        s.same(_mode(path), left, f"mode of a file of {mode:o} that was given away")
        path = s.directory(f"d{mode:o}", mode=mode)
        os.chown(path, 1, 1)
        s.same(_mode(path), mode, "mode of a directory that was given away")


def case_setgid_directories(s: Stage) -> None:
    """A setgid directory hands its group down, and to directories the bit as well."""
    if not s.privileged:
        return
    d = s.directory("d", mode=0o2775, gid=4321)
    for kind in KINDS:
        path = s.thing(kind, f"d/{kind}")
        s.same(os.lstat(path).st_gid, 4321, f"group of a {kind} in a setgid directory")
        s.same(bool(_mode(path) & stat.S_ISGID), kind == "dir", f"setgid of a {kind} in a setgid directory")
    plain = s.directory("plain", gid=4321)
    s.same(os.lstat(s.thing("file", "plain/f")).st_gid, os.getegid())
    os.rename(s.file("outside"), os.path.join(d, "outside"))
    s.same(os.stat(os.path.join(d, "outside")).st_gid, os.getegid(), "group after a rename")
    s.same(os.stat(plain).st_gid, 4321)


def case_utimensat(s: Stage) -> None:
    """Times before 1970 and after 2106, to the nanosecond, on every kind."""
    times = (0, 1, 999_999_999, SECOND, -1, -SECOND, -(10**9) * SECOND - 1, (1 << 31) * SECOND, (1 << 32) * SECOND + 5,
             1_234_567_890_123_456_789)  # fmt: skip
    lost = s.target.lacks.get("times before 1901 or after 2446")
    for kind in KINDS:
        path = s.thing(kind, kind)
        for atime in times:
            for mtime in (atime, 7 * SECOND + 7):
                if lost and min(atime, mtime) < 0:
                    continue
                with s.touches(s.here):
                    os.utime(path, ns=(atime, mtime), follow_symlinks=False)
                found = os.lstat(path)
                s.same((found.st_atime_ns, found.st_mtime_ns), (atime, mtime), f"times of a {kind}")


def case_utimensat_now_and_omit(s: Stage) -> None:
    """UTIME_NOW moves both times; symlinks are followed or not as asked."""
    path = s.file("f")
    os.utime(path, ns=(1, 2))
    with s.touches(path, "ctime"):
        os.utime(path, ns=(1, 2))
    with s.touches(path, "atime", "mtime", "ctime"):
        os.utime(path)
    os.symlink("f", s.at("link"))
    os.utime(s.at("link"), ns=(3, 4))
    s.same(os.stat(path).st_mtime_ns, 4, "followed")
    os.utime(s.at("link"), ns=(5, 6), follow_symlinks=False)
    s.same((os.stat(path).st_mtime_ns, os.lstat(s.at("link")).st_mtime_ns), (4, 6), "not followed")


def case_times_of_writing_and_reading(s: Stage) -> None:
    """Which calls move mtime and ctime, and which do not."""
    path = s.file("f", b"0123456789")
    fd = os.open(path, os.O_RDWR)
    try:
        with s.touches(path, "mtime", "ctime"), s.touches(s.here):
            os.pwrite(fd, b"x", 3)
        with s.touches(path):
            os.pread(fd, 10, 0)
            os.fsync(fd)
            os.lseek(fd, 5, os.SEEK_SET)
        with s.touches(path, "mtime", "ctime"):
            os.ftruncate(fd, 3)
        with s.touches(path, "mtime", "ctime"):
            os.ftruncate(fd, 30)
    finally:
        os.close(fd)
    with s.touches(path, "mtime", "ctime"):
        os.truncate(path, 5)
    with s.touches(path, "mtime", "ctime"):
        calls.opens(path, os.O_WRONLY | os.O_TRUNC)
    with s.touches(path):
        calls.opens(path, os.O_WRONLY | os.O_CREAT)
        os.access(path, os.R_OK)
        os.listdir(s.here)


def case_ctime_of_xattrs(s: Stage) -> None:
    """Extended attributes move the ctime alone."""
    path = s.file("f")
    with s.touches(path, "ctime"), s.touches(s.here):
        os.setxattr(path, "user.a", b"1")
    with s.touches(path):
        os.getxattr(path, "user.a")
        os.listxattr(path)
    with s.touches(path, "ctime"):
        os.removexattr(path, "user.a")


def case_truncate(s: Stage) -> None:
    """Cutting, growing with zeros, and what refuses both."""
    path = s.file("f", b"0123456789")
    for size, content in ((10, b"0123456789"), (4, b"0123"), (6, b"0123\0\0"), (0, b""), (3, b"\0\0\0")):
        os.truncate(path, size)
        s.same((calls.read(path), os.stat(path).st_size), (content, size))
    s.refuses(errno.EINVAL, os.truncate, path, -1)
    s.refuses(errno.EINVAL, calls.ftruncate, path, -1)
    s.refuses(errno.EINVAL, calls.ftruncate, path, 1, os.O_RDONLY)
    for kind in ("fifo", "socket"):
        s.refuses(errno.EINVAL, os.truncate, s.thing(kind, kind), 0)
    s.same(os.stat(path).st_size, 3)


def case_blocks(s: Stage) -> None:
    """Blocks tell what content takes: nothing for holes."""
    path = s.file("f")
    s.same(os.stat(path).st_blocks, 0, "blocks of an empty file")
    os.truncate(path, 1 << 30)
    s.true(os.stat(path).st_blocks < 100, "a hole takes blocks")
    calls.overwrite(path, os.urandom(1 << 20), 1 << 25)
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    s.true(2048 <= os.stat(path).st_blocks <= 2048 + 256, f"blocks of 1 MiB: {os.stat(path).st_blocks}")
    os.truncate(path, 0)
    s.same(os.stat(path).st_blocks, 0, "blocks of a file that was cut to nothing")
    s.true(os.stat(path).st_blksize >= 512, "st_blksize")


def case_devices(s: Stage) -> None:
    """Device numbers of both sorts, up to the largest."""
    if not s.privileged:
        return
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        for major, minor in ((1, 3), (8, 0), (259, 300), (4095, 65535)):
            path = s.at("dev")
            os.mknod(path, kind | 0o640, os.makedev(major, minor))
            found = os.stat(path)
            s.same((os.major(found.st_rdev), os.minor(found.st_rdev)), (major, minor))
            s.same((stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode)), (kind, 0o640))
            os.unlink(path)


def case_statvfs(s: Stage) -> None:
    """Figures of the filesystem are in proportion."""
    found = os.statvfs(s.here)
    s.same(found.f_namemax, 255)
    s.true(found.f_frsize >= 512 and found.f_bsize >= 512, "f_bsize")
    s.true(0 < found.f_bavail <= found.f_bfree <= found.f_blocks, f"blocks of {found}")
    s.same(os.stat(s.here).st_dev, os.stat(s.file("f")).st_dev)
