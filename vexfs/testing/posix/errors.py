"""The errnos that a path alone brings about, for every call that takes a path."""

import errno
import os
import stat
from collections.abc import Callable

from vexfs.testing.posix import calls
from vexfs.testing.posix.target import KINDS, Stage

Call = Callable[[str], object]

NAME_MAX, PATH_MAX = 255, 4096


def _chdir(path: str) -> None:
    home = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path)
        os.fchdir(home)
    finally:
        os.close(home)


def makers() -> dict[str, Call]:
    """Calls that make what the path names."""
    return {
        "open O_CREAT|O_EXCL": lambda p: calls.create(p, flags=os.O_CREAT | os.O_EXCL | os.O_RDWR),
        "mkdir": os.mkdir,
        "mkfifo": os.mkfifo,
        "mknod": lambda p: os.mknod(p, stat.S_IFREG | 0o644),
        "mknod socket": lambda p: os.mknod(p, stat.S_IFSOCK | 0o644),
        "symlink": lambda p: os.symlink("target", p),
    }


def followers() -> dict[str, Call]:
    """Calls on something that exists, which follow a symlink at the end of the path."""
    return {
        "open": calls.opens,
        "open O_RDWR": lambda p: calls.opens(p, os.O_RDWR),
        "open O_TRUNC": lambda p: calls.opens(p, os.O_WRONLY | os.O_TRUNC),
        "stat": os.stat,
        "chmod": lambda p: os.chmod(p, 0o644),
        "chown": lambda p: os.chown(p, -1, -1),
        "truncate": lambda p: os.truncate(p, 0),
        "utimensat": lambda p: os.utime(p, ns=(1, 2)),
        "statvfs": os.statvfs,
        "getxattr": lambda p: os.getxattr(p, "user.a"),
        "setxattr": lambda p: os.setxattr(p, "user.a", b""),
        "listxattr": os.listxattr,
        "removexattr": lambda p: os.removexattr(p, "user.a"),
        "scandir": os.listdir,
        "chdir": _chdir,
    }


def others(stage: Stage) -> dict[str, Call]:
    """Calls on something that exists, which take a symlink at the end as it is."""
    return {
        "lstat": os.lstat,
        "lchown": lambda p: os.lchown(p, -1, -1),
        "lutimes": lambda p: os.utime(p, ns=(1, 2), follow_symlinks=False),
        "lgetxattr": lambda p: os.getxattr(p, "user.a", follow_symlinks=False),
        "readlink": os.readlink,
        "unlink": os.unlink,
        "rmdir": os.rmdir,
        "link from": lambda p: os.link(p, stage.at("linked")),
        "rename from": lambda p: os.rename(p, stage.at("renamed")),
    }


def second_path(stage: Stage) -> dict[str, Call]:
    """Calls whose first path is good."""
    source = stage.file("source")
    return {
        "open O_CREAT": calls.create,
        "link to": lambda p: os.link(source, p),
        "rename to": lambda p: os.rename(source, p),
    }


def everything(stage: Stage) -> dict[str, Call]:
    """Every call that takes a path."""
    return {**makers(), **followers(), **others(stage), **second_path(stage)}


def case_enoent_component(s: Stage) -> None:
    """A directory of the path does not exist."""
    for call in everything(s).values():
        s.refuses(errno.ENOENT, call, s.at("missing", "name"))


def case_enoent_last(s: Stage) -> None:
    """What the path names does not exist."""
    for call in {**followers(), **others(s)}.values():
        s.refuses(errno.ENOENT, call, s.at("missing"))


def case_enoent_empty_path(s: Stage) -> None:
    """An empty path names nothing."""
    for call in everything(s).values():
        s.refuses(errno.ENOENT, call, "")


def case_enoent_dangling_symlink(s: Stage) -> None:
    """A symlink is followed to nothing."""
    os.symlink("missing", s.at("dangling"))
    for call in followers().values():
        s.refuses(errno.ENOENT, call, s.at("dangling"))


def case_enoent_symlink_as_component(s: Stage) -> None:
    """A directory of the path is a symlink to nothing."""
    os.symlink("missing", s.at("dangling"))
    for call in everything(s).values():
        s.refuses(errno.ENOENT, call, s.at("dangling", "name"))


def case_enotdir_component(s: Stage) -> None:
    """A directory of the path is something else, of each kind."""
    for kind in ("file", "fifo", "socket"):
        s.thing(kind, kind)
    for call in everything(s).values():
        for kind in ("file", "fifo", "socket"):
            s.refuses(errno.ENOTDIR, call, s.at(kind, "name"))


def case_enotdir_deep_component(s: Stage) -> None:
    """The same further up in the path, and before dot-dot."""
    s.file("plain")
    for call in everything(s).values():
        s.refuses(errno.ENOTDIR, call, s.at("plain", "a", "b"))
        s.refuses(errno.ENOTDIR, call, s.at("plain", ".."))


def case_enotdir_symlink_to_file_as_component(s: Stage) -> None:
    """A directory of the path is a symlink to a file."""
    s.file("plain")
    os.symlink("plain", s.at("link"))
    for call in everything(s).values():
        s.refuses(errno.ENOTDIR, call, s.at("link", "name"))


def case_enotdir_slash_behind_a_file(s: Stage) -> None:
    """A slash at the end asks for a directory."""
    s.file("plain")
    quiet = {"open O_TRUNC", "open O_RDWR"}
    for name, call in {**followers(), **others(s)}.items():
        s.refuses((errno.ENOTDIR, errno.EISDIR) if name in quiet else errno.ENOTDIR, call, s.at("plain") + "/")


def case_enotdir_o_directory(s: Stage) -> None:
    """O_DIRECTORY opens directories alone."""
    for kind in KINDS:
        path = s.thing(kind, kind)
        if kind == "dir":
            calls.opens(path, os.O_DIRECTORY)
        else:
            code = errno.ENOENT if kind == "symlink" else errno.ENOTDIR
            s.refuses(code, calls.opens, path, os.O_DIRECTORY)
    s.refuses(errno.ENOTDIR, calls.opens, s.at("symlink"), os.O_DIRECTORY | os.O_NOFOLLOW)


def case_enametoolong_name(s: Stage) -> None:
    """A name of 256 bytes is too long wherever it stands."""
    for call in everything(s).values():
        s.refuses(errno.ENAMETOOLONG, call, s.at("n" * (NAME_MAX + 1)))
        s.refuses(errno.ENAMETOOLONG, call, s.at("n" * (NAME_MAX + 1), "name"))
        s.refuses(errno.ENAMETOOLONG, call, s.at("n" * 2000))


def case_name_of_255_bytes(s: Stage) -> None:
    """A name of 255 bytes is made, found, linked, renamed and removed."""
    name = s.at("n" * NAME_MAX)
    for call in makers().values():
        call(name)
        s.same(os.listdir(s.here), ["n" * NAME_MAX])
        (os.rmdir if os.path.isdir(name) else os.unlink)(name)
        s.same(os.listdir(s.here), [])
    source = s.file("source")
    os.link(source, name)
    os.unlink(source)
    os.rename(name, s.at("m" * NAME_MAX))
    s.same(os.listdir(s.here), ["m" * NAME_MAX])


def case_enametoolong_path(s: Stage) -> None:
    """A path of 4096 bytes is too long."""
    long = s.here + "/." * ((PATH_MAX - len(os.fsencode(s.here))) // 2) + "/xx"
    for call in everything(s).values():
        s.refuses(errno.ENAMETOOLONG, call, long)


def case_path_of_4095_bytes(s: Stage) -> None:
    """A path of 4095 bytes is not."""
    room = PATH_MAX - 1 - len(os.fsencode(s.here))
    for call in makers().values():
        path = s.here + "/." * ((room - 3) // 2) + "/" + "x" * (room - 1 - 2 * ((room - 3) // 2))
        s.same(len(os.fsencode(path)), PATH_MAX - 1)
        call(path)
        s.true(os.path.lexists(path), "a path of 4095 bytes leads nowhere")
        (os.rmdir if os.path.isdir(path) else os.unlink)(path)


def case_eloop_component(s: Stage) -> None:
    """A directory of the path is a loop of symlinks."""
    os.symlink("loop-b", s.at("loop-a"))
    os.symlink("loop-a", s.at("loop-b"))
    os.symlink("self", s.at("self"))
    for call in everything(s).values():
        s.refuses(errno.ELOOP, call, s.at("loop-a", "name"))
        s.refuses(errno.ELOOP, call, s.at("self", "name"))


def case_eloop_last(s: Stage) -> None:
    """The path ends in a loop of symlinks."""
    os.symlink("loop-b", s.at("loop-a"))
    os.symlink("loop-a", s.at("loop-b"))
    for call in followers().values():
        s.refuses(errno.ELOOP, call, s.at("loop-a"))
    s.refuses(errno.ELOOP, calls.create, s.at("loop-a"))


def case_eloop_o_nofollow(s: Stage) -> None:
    """O_NOFOLLOW refuses a symlink and opens anything else."""
    s.file("plain")
    os.symlink("plain", s.at("link"))
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_CREAT | os.O_RDWR):
        s.refuses(errno.ELOOP, calls.opens, s.at("link"), flags | os.O_NOFOLLOW)
        calls.opens(s.at("plain"), flags | os.O_NOFOLLOW)


def case_symlinks_in_a_chain(s: Stage) -> None:
    """Forty symlinks are followed, one more is not."""
    s.file("0", b"end")
    for i in range(1, 42):
        os.symlink(str(i - 1), s.at(str(i)))
    s.same(calls.read(s.at("40")), b"end")
    s.refuses(errno.ELOOP, calls.read, s.at("41"))


def case_eexist(s: Stage) -> None:
    """What exists is not made again, and stays as it was."""
    source = s.file("source")
    for kind in KINDS:
        path = s.thing(kind, kind)
        before = os.lstat(path)
        for call in makers().values():
            s.refuses(errno.EEXIST, call, path)
        s.refuses(errno.EEXIST, os.link, source, path)
        after = os.lstat(path)
        s.same((after.st_ino, after.st_mode, after.st_ctime_ns), (before.st_ino, before.st_mode, before.st_ctime_ns))
    for name in (".", ".."):
        for label, call in makers().items():
            s.refuses((errno.EEXIST, errno.EISDIR) if "O_CREAT" in label else errno.EEXIST, call, s.at("dir", name))


def case_eisdir(s: Stage) -> None:
    """A directory is not written, truncated, unlinked, read or replaced as a file."""
    path = s.directory("d")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_CREAT | os.O_RDONLY):
        s.refuses(errno.EISDIR, calls.opens, path, flags)
    s.refuses(errno.EISDIR, os.truncate, path, 0)
    s.refuses(errno.EISDIR, os.unlink, path)
    s.refuses(errno.EISDIR, os.rename, s.file("f"), path)
    fd = os.open(path, os.O_RDONLY)
    try:
        s.refuses(errno.EISDIR, os.read, fd, 1)
        s.refuses(errno.EBADF, os.write, fd, b"x")
        s.refuses(errno.EINVAL, os.ftruncate, fd, 0)
    finally:
        os.close(fd)


def case_mknod_and_readlink_einval(s: Stage) -> None:
    """Kinds that mknod does not make, and kinds that have no target."""
    for kind in KINDS:
        path = s.thing(kind, kind)
        if kind == "symlink":
            s.same(os.readlink(path), "nowhere")
        else:
            s.refuses(errno.EINVAL, os.readlink, path)
    s.refuses(errno.EPERM, os.mknod, s.at("x"), stat.S_IFDIR | 0o755)
    s.refuses(errno.EINVAL, os.mknod, s.at("x"), 0o130000 | 0o644)
    s.same(os.path.lexists(s.at("x")), False)


def case_exdev(s: Stage) -> None:
    """Nothing is linked or renamed across filesystems."""
    elsewhere = next((d for d in ("/dev/shm", "/run", "/") if os.stat(d).st_dev != os.stat(s.here).st_dev), None)
    s.true(elsewhere, "every directory known here is on the same device")
    for kind in KINDS:
        path = s.thing(kind, kind)
        s.refuses(errno.EXDEV, os.rename, path, f"{elsewhere}/vexfs-posix")
        if kind != "dir":
            s.refuses(errno.EXDEV, os.link, path, f"{elsewhere}/vexfs-posix", follow_symlinks=False)
