"""What files hold: appending, holes, sizes of terabytes, mapping, and several who write."""

import errno
import fcntl
import mmap
import os
import threading

from vexfs.testing.posix import calls
from vexfs.testing.posix.target import Stage

TIB = 1 << 40


def case_o_trunc_and_o_excl(s: Stage) -> None:
    """O_TRUNC keeps the file and empties it; O_EXCL takes nothing that exists."""
    path = s.file("f", b"content", mode=0o600)
    ino = os.stat(path).st_ino
    calls.create(path, 0o777, b"", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    found = os.stat(path)
    s.same((found.st_size, found.st_ino, found.st_mode & 0o777), (0, ino, 0o600))
    s.refuses(errno.EEXIST, calls.opens, path, os.O_CREAT | os.O_EXCL)
    os.symlink("nowhere", s.at("link"))
    s.refuses(errno.EEXIST, calls.opens, s.at("link"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    s.refuses(errno.EEXIST, calls.opens, s.directory("d"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    fd = os.open(s.at("locked"), os.O_CREAT | os.O_RDWR, 0)
    s.same(os.write(fd, b"x"), 1, "the first open may write, whatever the mode")
    os.close(fd)


def case_wrong_way_of_opening(s: Stage) -> None:
    """A descriptor does only what it was opened for."""
    path = s.file("f", b"content")
    reader, writer = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    try:
        s.refuses(errno.EBADF, os.write, reader, b"x")
        s.refuses(errno.EBADF, os.read, writer, 1)
        s.refuses(errno.EINVAL, os.ftruncate, reader, 0)
        s.refuses(errno.EINVAL, os.lseek, reader, -1, os.SEEK_SET)
        s.refuses(errno.EINVAL, os.pread, reader, 1, -1)
        s.refuses(errno.ENOTDIR, os.listdir, reader)
    finally:
        os.close(reader)
        os.close(writer)
    s.refuses(errno.EBADF, os.fsync, reader)


def case_reading_at_the_end(s: Stage) -> None:
    """Reads end at the end of the file."""
    path = s.file("f", b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    try:
        for at, size, wanted in ((8, 10, b"89"), (10, 10, b""), (11, 1, b""), (1 << 60, 1, b""), (0, 0, b"")):
            s.same(os.pread(fd, size, at), wanted, f"{size} bytes at {at}")
    finally:
        os.close(fd)


def case_fallocate(s: Stage) -> None:
    """Room ahead of need, and holes: sizes, bytes and times."""
    path, keep, hole = s.file("f", bytes(range(1, 251)) * 100), calls.KEEP_SIZE, calls.KEEP_SIZE | calls.PUNCH_HOLE
    content = bytearray(calls.read(path))
    fd, reader = os.open(path, os.O_RDWR), os.open(path, os.O_RDONLY)
    try:
        calls.fallocate(fd, keep, 0, 1 << 20)
        s.same(os.fstat(fd).st_size, len(content), "KEEP_SIZE leaves the size")
        with s.touches(path, "mtime", "ctime"):
            calls.fallocate(fd, 0, 10_000, 40_000)
        content.extend(bytes(50_000 - len(content)))
        s.same(calls.read(path), content, "new bytes are zeros, old ones stay")
        for mode, at, n in ((hole, 4096, 8192), (hole, 100, 5), (hole, 20_000, 10_000), (hole, 49_000, 1 << 20),
                            (calls.ZERO_RANGE, 3000, 300), (calls.ZERO_RANGE | keep, 14_000, 1 << 20)):  # fmt: skip
            with s.touches(path, "mtime", "ctime"):
                calls.fallocate(fd, mode, at, n)
            content[at : at + n] = bytes(min(n, len(content) - at))
            s.same(calls.read(path), content, f"mode {mode} at {at}, {n} bytes")
        calls.fallocate(fd, calls.ZERO_RANGE, 40_000, 30_000)
        s.same(os.fstat(fd).st_size, 70_000, "a range of zeros may end behind the end")
        for code, mode, at, n in ((errno.EINVAL, 0, 0, 0), (errno.EINVAL, 0, -1, 1), (errno.EINVAL, hole, 0, -1),
                                  (errno.EFBIG, 0, (1 << 63) - 1, 1), (errno.EOPNOTSUPP, calls.PUNCH_HOLE, 0, 1),
                                  (errno.EOPNOTSUPP, hole | calls.ZERO_RANGE, 0, 1)):  # fmt: skip
            s.refuses(code, calls.fallocate, fd, mode, at, n)
        s.refuses(errno.EBADF, calls.fallocate, reader, 0, 0, 1)
    finally:
        os.close(fd)
        os.close(reader)


def case_append(s: Stage) -> None:
    """Two descriptors that append never overwrite each other."""
    path = s.file("f")
    one, two = (os.open(path, os.O_WRONLY | os.O_APPEND) for _ in range(2))
    try:
        for n in range(50):
            os.write(one, b"one %d\n" % n)
            os.write(two, b"two %d\n" % n)
            os.lseek(one, 0, os.SEEK_SET)
        lines = calls.read(path).splitlines()
        s.same(lines, [line for n in range(50) for line in (b"one %d" % n, b"two %d" % n)])
        os.ftruncate(two, 3)
        os.write(one, b"end")
        s.same(calls.read(path), b"oneend")
    finally:
        os.close(one)
        os.close(two)


def case_append_by_many(s: Stage) -> None:
    """Records appended by several threads are all there, once and whole."""
    path = s.file("f")

    def work(who: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        for n in range(100):
            os.write(fd, b"%d %06d\n" % (who, n) * 50)
        os.close(fd)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = sorted(b"%d %06d" % (who, n) for who in range(4) for n in range(100) for _ in range(50))
    s.same(sorted(calls.read(path).splitlines()) == wanted, True, "every record is there once")


def case_holes(s: Stage) -> None:
    """What was never written, and what was cut off, is zeros."""
    path = s.file("f")
    for at in (0, 5000, 1 << 20, (1 << 20) + 4095, 10 << 20):
        calls.overwrite(path, b"x", at)
    content = calls.read(path)
    s.same(len(content), (10 << 20) + 1)
    s.same([n for n, byte in enumerate(content) if byte], [0, 5000, 1 << 20, (1 << 20) + 4095, 10 << 20])
    os.truncate(path, 5001)
    os.truncate(path, 20000)
    s.same(calls.read(path)[4999:], b"\0x" + bytes(14999), "what was cut off is zeros")


def case_terabytes(s: Stage) -> None:
    """A sparse file of terabytes: written, cut, grown and read at its far ends."""
    path = s.file("f")
    spots = [0, (1 << 31) - 2, (1 << 32) - 2, TIB - 3, 5 * TIB + 1]
    for at in spots:
        calls.overwrite(path, b"data", at)
    s.same(os.stat(path).st_size, 5 * TIB + 5)
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
        for at in spots:
            s.same(os.pread(fd, 6, max(0, at - 1)).strip(b"\0"), b"data", f"at {at}")
        s.same(os.pread(fd, 100, 2 * TIB), bytes(100))
        s.true(os.fstat(fd).st_blocks < 10000, "holes take blocks")
        os.ftruncate(fd, TIB)
        s.same(os.pread(fd, 10, TIB - 3), b"dat")
        os.ftruncate(fd, 7 * TIB)
        s.same(os.pread(fd, 8, TIB - 4), b"\0dat\0\0\0\0")
        s.same(os.pread(fd, 8, 5 * TIB), bytes(8))
    finally:
        os.close(fd)


def case_efbig(s: Stage) -> None:
    """The largest file, and one byte more."""
    limit = s.target.file_max
    if limit is None:
        return
    path = s.file("f", b"content")
    s.refuses(errno.EFBIG, calls.overwrite, path, b"x", limit)
    s.refuses(errno.EFBIG, os.truncate, path, limit + 1)
    s.same(calls.read(path), b"content")
    os.truncate(path, limit)
    s.same(os.stat(path).st_size, limit)
    calls.overwrite(path, b"x", limit - 1)
    fd = os.open(path, os.O_RDONLY)
    s.same(os.pread(fd, 9, limit - 2), b"\0x")
    os.close(fd)


def case_mmap(s: Stage) -> None:
    """Mappings and descriptors see each other's writes; private ones keep theirs."""
    path = s.file("f", bytes(20000))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        shared[4090:4100] = b"0123456789"
        shared.flush()
        s.same(os.pread(file.fileno(), 10, 4090), b"0123456789")
        os.pwrite(file.fileno(), b"written", 9000)
        s.same(shared[9000:9007], b"written")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as private:
            private[0:3] = b"mine"[:3]
            s.same(shared[0:3], b"\0\0\0")
    content = calls.read(path)
    s.same((content[4090:4100], content[9000:9007], len(content)), (b"0123456789", b"written", 20000))
    reader = os.open(path, os.O_RDONLY)
    s.refuses(errno.EACCES, mmap.mmap, reader, 100, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(reader)


def case_mmap_of_an_unlinked_file(s: Stage) -> None:
    """A mapping outlives the descriptor and the name."""
    path = s.file("f", b"x" * 10000)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0) as shared:
        os.close(fd)
        os.unlink(path)
        shared[5000:5003] = b"yyy"
        shared.flush()
        s.same(shared[4999:5004], b"xyyyx")


def case_fsync(s: Stage) -> None:
    """Files and directories are synced, however they were opened."""
    path = s.file("f")
    d = s.directory("d")
    for flags, target in ((os.O_RDWR, path), (os.O_RDONLY, path), (os.O_RDONLY, d)):
        fd = os.open(target, flags)
        try:
            os.fsync(fd)
            os.fdatasync(fd)
            s.checks += 2
        finally:
            os.close(fd)


def case_locks(s: Stage) -> None:
    """Advisory locks of both sorts."""
    path = s.file("f", b"0123456789")
    with open(path, "r+b") as one, open(path, "r+b") as two:
        fcntl.flock(one, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB)
        s.refuses((errno.EAGAIN, errno.EACCES), fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0)
        s.checks += 2


def case_vectors(s: Stage) -> None:
    """Vectored reads and writes."""
    path = s.file("f")
    fd = os.open(path, os.O_RDWR)
    try:
        s.same(os.pwritev(fd, [b"one", b"", b"two", b"x" * 70000], 5), 70006)
        into = [bytearray(4), bytearray(7), bytearray(70000)]
        s.same(os.preadv(fd, into, 1), 70010)
        s.same((bytes(into[0]), bytes(into[1])), (bytes(4), b"onetwox"))
    finally:
        os.close(fd)


def case_etxtbsy(s: Stage) -> None:
    """A program that is open for writing does not start, and one without permission neither."""
    program = s.file("program", calls.read("/bin/true"), mode=0o755)
    fd = os.open(program, os.O_WRONLY)
    s.refuses(errno.ETXTBSY, os.posix_spawn, program, [program], {})
    os.close(fd)
    s.same(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(program, [program], {}), 0)[1]), 0, "program")
    os.chmod(program, 0o644)
    s.refuses(errno.EACCES, os.posix_spawn, program, [program], {})
