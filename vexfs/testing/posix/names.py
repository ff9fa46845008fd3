"""Making, linking, renaming, removing: what they do to names, counts and times."""

import errno
import os
import stat

from vexfs.testing.posix import calls
from vexfs.testing.posix.errors import makers
from vexfs.testing.posix.target import KINDS, Stage

TYPES = {"file": stat.S_ISREG, "dir": stat.S_ISDIR, "fifo": stat.S_ISFIFO, "socket": stat.S_ISSOCK,
         "symlink": stat.S_ISLNK}  # fmt: skip


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    else:
        os.unlink(path)


def case_kinds(s: Stage) -> None:
    """Each kind of file is what it was made as, also in a listing."""
    for kind, is_kind in TYPES.items():
        found = os.lstat(s.thing(kind, kind))
        s.true(is_kind(found.st_mode), f"{kind} has mode {found.st_mode:o}")
        s.same(found.st_nlink, 2 if kind == "dir" else 1, f"links of a new {kind}")
        s.same((found.st_uid, found.st_gid), (os.geteuid(), os.getegid()), f"owner of a new {kind}")
    kinds = {entry.name: stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) for entry in os.scandir(s.here)}
    s.same(sorted(kinds), sorted(TYPES))
    for entry in os.scandir(s.here):
        s.same((entry.is_dir(follow_symlinks=False), entry.is_symlink()),
               (entry.name == "dir", entry.name == "symlink"), entry.name)  # fmt: skip


def case_modes_of_new_things(s: Stage) -> None:
    """A new file has the mode asked for, less the umask."""
    for mask in (0, 0o022, 0o077, 0o151, 0o777):
        for mode in (0o777, 0o755, 0o644, 0o501, 0):
            os.umask(mask)
            calls.create(s.at("f"), mode)
            os.mkdir(s.at("d"), mode)
            os.mkfifo(s.at("p"), mode)
            os.mknod(s.at("n"), stat.S_IFREG | mode)
            os.umask(0)
            for name in "fdpn":
                s.same(stat.S_IMODE(os.stat(s.at(name)).st_mode), mode & ~mask, f"{name} of {mode:o} under {mask:o}")
                _remove(s.at(name))
    os.mkdir(s.at("t"), 0o1755)
    s.same(stat.S_IMODE(os.stat(s.at("t")).st_mode), 0o1755)


def case_times_of_making(s: Stage) -> None:
    """Making and removing move the times of the directory; refusals do not."""
    for call in makers().values():
        path = s.at("x")
        with s.touches(s.here, "mtime", "ctime"):
            call(path)
        found, parent = os.lstat(path), os.stat(s.here)
        s.true(found.st_ctime_ns == found.st_mtime_ns == found.st_atime_ns, "the times of something new differ")
        s.true(found.st_ctime_ns <= parent.st_ctime_ns, "made after its directory changed")
        with s.touches(s.here):
            s.refuses(errno.EEXIST, call, path)
        with s.touches(s.here, "mtime", "ctime"):
            _remove(path)
        with s.touches(s.here):
            s.refuses(errno.ENOENT, os.unlink, path)


def case_times_of_linking_and_unlinking(s: Stage) -> None:
    """A file's ctime and its count of links follow its names."""
    for kind in KINDS:
        if kind == "dir":
            continue
        path = s.thing(kind, kind)
        with s.touches(path, "ctime"), s.touches(s.here, "mtime", "ctime"):
            os.link(path, s.at("second"), follow_symlinks=False)
        s.same(os.lstat(path).st_nlink, 2)
        s.same(os.lstat(path).st_ino, os.lstat(s.at("second")).st_ino)
        with s.touches(path, "ctime"), s.touches(s.here, "mtime", "ctime"):
            os.unlink(s.at("second"))
        s.same(os.lstat(path).st_nlink, 1)
        with s.touches(path), s.touches(s.here):
            s.refuses(errno.EEXIST, os.link, path, path, follow_symlinks=False)


def case_times_of_renaming(s: Stage) -> None:
    """Renaming moves the times of both directories."""
    for kind in KINDS:
        one, two = s.directory(f"one-{kind}"), s.directory(f"two-{kind}")
        path = s.thing(kind, f"one-{kind}/x")
        with s.touches(one, "mtime", "ctime"):
            os.rename(path, os.path.join(one, "y"))
        with s.touches(one, "mtime", "ctime"), s.touches(two, "mtime", "ctime"):
            os.rename(os.path.join(one, "y"), os.path.join(two, "y"))
        with s.touches(one), s.touches(two):
            s.refuses(errno.ENOENT, os.rename, os.path.join(one, "y"), os.path.join(two, "z"))
        s.same((os.listdir(one), os.listdir(two)), ([], ["y"]))


def case_links_of_directories(s: Stage) -> None:
    """A directory counts its subdirectories; dot-dot follows a rename."""
    path = s.directory("d")
    for n in range(1, 6):
        os.mkdir(os.path.join(path, str(n)))
        s.same(os.stat(path).st_nlink, 2 + n)
    calls.create(os.path.join(path, "f"))
    s.same(os.stat(path).st_nlink, 7, "a file adds no link to its directory")
    os.rename(os.path.join(path, "5"), s.at("5"))
    s.same((os.stat(path).st_nlink, os.stat(s.here).st_nlink), (6, 4))
    os.rename(os.path.join(path, "4"), os.path.join(path, "3"))
    s.same(os.stat(path).st_nlink, 5, "a directory replaced")
    os.rmdir(os.path.join(path, "1"))
    s.same(os.stat(path).st_nlink, 4)
    s.refuses(errno.EPERM, os.link, path, s.at("hard"))
    s.same(os.stat(os.path.join(path, "2", "..")).st_ino, os.stat(path).st_ino)
    os.rename(os.path.join(path, "2"), s.at("2"))
    s.same(os.stat(s.at("2", "..")).st_ino, os.stat(s.here).st_ino, "dot-dot after a rename")


def case_rmdir(s: Stage) -> None:
    """Only an empty directory goes; one that is still open takes no entries."""
    path = s.directory("d")
    for kind in KINDS:
        s.thing(kind, f"d/{kind}")
        s.refuses((errno.ENOTEMPTY, errno.EEXIST), os.rmdir, path)
        if kind != "dir":
            s.refuses(errno.ENOTDIR, os.rmdir, s.at("d", kind))
        else:
            s.refuses(errno.EINVAL, os.rmdir, s.at("d", kind, "."))
            s.refuses((errno.ENOTEMPTY, errno.EEXIST), os.rmdir, s.at("d", kind, ".."))
        _remove(s.at("d", kind))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rmdir(path)
        s.same(os.fstat(fd).st_nlink, 0, "links of a removed directory")
        s.same(os.listdir(fd), [])
        for make in (lambda: os.mkdir("x", dir_fd=fd), lambda: os.symlink("t", "x", dir_fd=fd)):
            s.refuses(errno.ENOENT, make)
    finally:
        os.close(fd)
    os.symlink("d2", s.at("link"))
    os.mkdir(s.at("d2"))
    s.refuses(errno.ENOTDIR, os.rmdir, s.at("link"))


def case_unlinked_and_open(s: Stage) -> None:
    """A file without a name lives, with all that can be done to it, until it is closed."""
    path = s.file("f", b"content")
    fd = os.open(path, os.O_RDWR)
    try:
        with s.touches(s.here, "mtime", "ctime"):
            os.unlink(path)
        found = os.fstat(fd)
        s.same((found.st_nlink, found.st_size), (0, 7))
        s.same(os.pread(fd, 99, 0), b"content")
        s.same(os.pwrite(fd, b"more", 7), 4)
        os.ftruncate(fd, 9)
        os.fchmod(fd, 0o600)
        os.utime(fd, ns=(5, 6))
        os.fsync(fd)
        s.same(os.pread(fd, 99, 0), b"contentmo")
        found = os.fstat(fd)
        s.same((stat.S_IMODE(found.st_mode), found.st_size, found.st_mtime_ns), (0o600, 9, 6))
        s.same(os.listdir(s.here), [])
        calls.create(path, content=b"another")
        s.same(os.pread(fd, 99, 0), b"contentmo")
        s.refuses(errno.ENOENT, calls.link_followed, f"/proc/self/fd/{fd}", s.at("again"))
    finally:
        os.close(fd)


def case_rename_over_each_kind(s: Stage) -> None:
    """A directory replaces a directory, anything else anything else."""
    for kind in KINDS:
        for over in KINDS:
            source, target = s.thing(kind, f"{kind}-{over}"), s.thing(over, f"over-{kind}-{over}")
            ino = os.lstat(source).st_ino
            if kind == "dir" and over != "dir":
                s.refuses(errno.ENOTDIR, os.rename, source, target)
            elif kind != "dir" and over == "dir":
                s.refuses(errno.EISDIR, os.rename, source, target)
            else:
                with s.touches(s.here, "mtime", "ctime"):
                    os.rename(source, target)
                s.same((os.lstat(target).st_ino, os.path.lexists(source)), (ino, False), f"{kind} over {over}")


def case_rename_onto_itself(s: Stage) -> None:
    """Renaming a file to itself or to another of its names changes nothing."""
    path = s.file("a", b"x")
    os.link(path, s.at("b"))
    with s.touches(path), s.touches(s.here):
        os.rename(path, path)
        os.rename(path, s.at("b"))
    s.same(sorted(os.listdir(s.here)), ["a", "b"], "two names of one file both stay")
    s.same(os.stat(path).st_nlink, 2)
    d = s.directory("d")
    with s.touches(d):
        os.rename(d, d)
    s.same(sorted(os.listdir(s.here)), ["a", "b", "d"])


def case_rename_into_itself(s: Stage) -> None:
    """A directory does not move below itself, nor do dot entries move."""
    d = s.directory("d")
    os.makedirs(s.at("d", "x", "y"))
    for into in (("d", "new"), ("d", "x", "new"), ("d", "x", "y", "new"), ("d", "x", "y")):
        s.refuses(errno.EINVAL, os.rename, d, s.at(*into))
    for over in (("d",), ("d", "x")):
        s.refuses((errno.ENOTEMPTY, errno.EEXIST), os.rename, s.at("d", "x", "y"), s.at(*over))
    for dots in (".", ".."):
        s.refuses((errno.EBUSY, errno.EINVAL), os.rename, s.at("d", dots), s.at("new"))
        s.refuses((errno.EBUSY, errno.EINVAL, errno.ENOTEMPTY), os.rename, s.directory(f"e{len(dots)}"),
                  s.at("d", dots))  # fmt: skip


def case_rename_of_directories(s: Stage) -> None:
    """An empty directory is replaced, a full one is not."""
    full, empty = s.directory("full"), s.directory("empty")
    s.file("full/f", b"1")
    s.refuses((errno.ENOTEMPTY, errno.EEXIST), os.rename, empty, full)
    os.rename(full, empty)
    s.same((os.listdir(s.here), calls.read(s.at("empty", "f"))), (["empty"], b"1"))
    s.refuses((errno.ENOTDIR, errno.ENOENT), os.rename, s.file("plain"), s.at("new") + "/")
    os.rename(empty, s.at("new") + "/")
    s.same(sorted(os.listdir(s.here)), ["new", "plain"])


def case_rename_drops_a_link(s: Stage) -> None:
    """What is replaced loses one name, not the others."""
    over = s.file("over")
    os.link(over, s.at("kept"))
    with s.touches(s.at("kept"), "ctime"):
        os.rename(s.file("new"), over)
    s.same(os.stat(s.at("kept")).st_nlink, 1)


def case_symlinks(s: Stage) -> None:
    """Targets of 1 to 4095 bytes of any value, and what is made through a symlink."""
    for length in (1, 59, 60, 255, 1024, 4095):
        target = "t" * length
        os.symlink(target, s.at("link"))
        s.same(os.readlink(s.at("link")), target)
        s.same(os.lstat(s.at("link")).st_size, length)
        os.unlink(s.at("link"))
    s.refuses(errno.ENAMETOOLONG, os.symlink, "t" * 4096, s.at("link"))
    s.refuses(errno.ENOENT, os.symlink, "", s.at("link"))
    os.symlink(b"\xff\xfe/\x01", os.fsencode(s.at("link")))
    s.same(os.readlink(os.fsencode(s.at("link"))), b"\xff\xfe/\x01")
    os.symlink("made", s.at("through"))
    calls.create(s.at("through"), content=b"1")
    s.same(calls.read(s.at("made")), b"1", "a file made through a dangling symlink")
    calls.link_followed(s.at("through"), s.at("followed"))
    s.true(stat.S_ISREG(os.lstat(s.at("followed")).st_mode), "AT_SYMLINK_FOLLOW")


def case_names_of_any_bytes(s: Stage) -> None:
    """Every byte but NUL and slash may stand in a name."""
    where = os.fsencode(s.here)
    wanted = {bytes([b]) for b in range(1, 256) if b not in b"/."} | {b"\xff" * 255, b"...", b" ", b"-", b"\n" * 100}
    for name in wanted:
        calls.create(os.path.join(where, name))  # type: ignore[arg-type]
    s.same(set(os.listdir(where)), wanted)
    for name in wanted:
        s.true(os.path.exists(os.path.join(where, name)), f"{name!r} is not found")
        os.unlink(os.path.join(where, name))
    s.same(os.listdir(where), [])


def case_names_that_differ_in_case_and_form(s: Stage) -> None:
    """Names are bytes: neither case nor Unicode's forms are the same name."""
    for name in ("Case", "case", "CASE", "\u00e9", "e\u0301"):
        s.file(name, name.encode())
    for name in ("Case", "case", "CASE", "\u00e9", "e\u0301"):
        s.same(calls.read(s.at(name)), name.encode())
    s.same(len(os.listdir(s.here)), 5)


def case_listing_while_entries_go(s: Stage) -> None:
    """What is neither made nor removed meanwhile is listed exactly once."""
    path = s.directory("d")
    for i in range(3000):
        calls.create(os.path.join(path, f"{i:04}"))
    seen: list[str] = []
    with os.scandir(path) as entries:
        for n, entry in enumerate(entries):
            seen.append(entry.name)
            if n % 2 == 0:
                os.unlink(os.path.join(path, entry.name))
            if n % 10 == 0:
                calls.create(os.path.join(path, f"new-{n}"))
    old = [name for name in seen if not name.startswith("new-")]
    s.same(len(old), len(set(old)), "entries listed")
    s.same(len(old), 3000, "entries that stood when the listing began")
    s.same(len(seen), len(set(seen)), "entries listed")
