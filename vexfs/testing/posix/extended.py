"""Extended attributes, as xattr(7) and the pages of its calls have them."""

import errno
import os

from vexfs.testing.posix.target import KINDS, Stage

SIZES = (0, 1, 255, 256, 257, 4095, 4096, 4097, 16384)


def case_values(s: Stage) -> None:
    """Values of many sizes, empty ones too."""
    for kind in ("file", "dir"):
        path = s.thing(kind, kind)
        for size in SIZES if not s.target.lacks.get("xattrs larger than a block") else (0, 1, 255, 256, 257, 2000):
            value = os.urandom(size)
            os.setxattr(path, "user.a", value)
            s.same(os.getxattr(path, "user.a"), value, f"value of {size} bytes")
        os.removexattr(path, "user.a")
        s.same(os.listxattr(path), [])


def case_value_of_64_kib(s: Stage) -> None:
    """The largest value, and one byte more."""
    path = s.file("f")
    value = os.urandom(65536)
    os.setxattr(path, "user.big", value)
    s.same(os.getxattr(path, "user.big") == value, True, "value of 64 KiB")
    s.refuses(errno.E2BIG, os.setxattr, path, "user.big", value + b"x")
    s.same(os.getxattr(path, "user.big") == value, True, "value after a refusal")


def case_create_and_replace(s: Stage) -> None:
    """XATTR_CREATE and XATTR_REPLACE."""
    path = s.file("f")
    s.refuses(errno.ENODATA, os.setxattr, path, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    s.refuses(errno.EEXIST, os.setxattr, path, "user.a", b"2", os.XATTR_CREATE)
    s.same(os.getxattr(path, "user.a"), b"1")
    os.setxattr(path, "user.a", b"3", os.XATTR_REPLACE)
    s.same(os.getxattr(path, "user.a"), b"3")
    s.refuses(errno.EINVAL, os.setxattr, path, "user.a", b"4", 8)


def case_names(s: Stage) -> None:
    """Which names are attributes, and how long they may be."""
    path = s.file("f")
    longest = "user." + "n" * 250
    for name in ("user.a", "user.b.c", "user.\u00e9", longest):
        os.setxattr(path, name, name.encode())
    for name in ("user.a", "user.b.c", "user.\u00e9", longest):
        s.same(os.getxattr(path, name), name.encode())
    s.same(sorted(os.listxattr(path)), sorted(["user.a", "user.b.c", "user.\u00e9", longest]))
    s.refuses(errno.ERANGE, os.setxattr, path, longest + "n", b"")
    s.refuses(errno.ERANGE, os.getxattr, path, longest + "n")
    s.refuses(errno.ERANGE, os.setxattr, path, "", b"")
    for name in ("nonsense", "nospace.a", "user"):
        s.refuses(errno.EOPNOTSUPP, os.setxattr, path, name, b"")
        s.refuses((errno.EOPNOTSUPP, errno.ENODATA), os.getxattr, path, name)
    os.removexattr(path, "user.b.c")
    s.same(sorted(os.listxattr(path)), sorted(["user.a", "user.\u00e9", longest]))


def case_enodata(s: Stage) -> None:
    """What is not there is not read or removed; empty is not absent."""
    for kind in ("file", "dir"):
        path = s.thing(kind, kind)
        s.refuses(errno.ENODATA, os.getxattr, path, "user.a")
        s.refuses(errno.ENODATA, os.removexattr, path, "user.a")
        os.setxattr(path, "user.a", b"")
        s.same(os.getxattr(path, "user.a"), b"", "an empty value is a value")
        os.removexattr(path, "user.a")
        s.refuses(errno.ENODATA, os.getxattr, path, "user.a")


def case_kinds_without_user_attributes(s: Stage) -> None:
    """Permissions of symlinks and special files mean something else, so that these have no attributes of users."""
    for kind in KINDS:
        if kind in ("file", "dir"):
            continue
        path = s.thing(kind, kind)
        s.refuses(errno.EPERM, os.setxattr, path, "user.a", b"", follow_symlinks=False)
        s.refuses((errno.ENODATA, errno.EPERM), os.getxattr, path, "user.a", follow_symlinks=False)
        s.same(os.listxattr(path, follow_symlinks=False), [])


def case_follow_hard_links_and_renames(s: Stage) -> None:
    """Attributes belong to the file, not to its name."""
    path = s.file("f")
    os.setxattr(path, "user.a", b"1")
    os.link(path, s.at("g"))
    os.setxattr(s.at("g"), "user.b", b"2")
    os.rename(s.at("g"), s.at("h"))
    s.same(sorted(os.listxattr(path)), ["user.a", "user.b"])
    os.unlink(path)
    s.same(os.getxattr(s.at("h"), "user.a"), b"1")
    os.symlink("h", s.at("link"))
    s.same(os.getxattr(s.at("link"), "user.a"), b"1", "through a symlink")
    s.refuses(errno.ENODATA, os.getxattr, s.at("link"), "user.a", follow_symlinks=False)
    fd = os.open(s.at("h"), os.O_RDONLY)
    s.same(os.getxattr(fd, "user.b"), b"2", "by descriptor")
    os.close(fd)


def case_many(s: Stage) -> None:
    """Sixty attributes, half of them taken away again."""
    path = s.file("f")
    names = [f"user.{n:03}" for n in range(60)]
    for name in names:
        os.setxattr(path, name, name.encode())
    s.same(sorted(os.listxattr(path)), names)
    for name in names[::2]:
        os.removexattr(path, name)
    s.same(sorted(os.listxattr(path)), names[1::2])
    s.same([os.getxattr(path, name) for name in names[1::2]], [name.encode() for name in names[1::2]])
