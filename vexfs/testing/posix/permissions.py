"""What other users may and may not do.  These cases need root, to become them."""

import errno
import os
import stat

from vexfs.testing.posix import calls
from vexfs.testing.posix.target import GROUP, KINDS, MEMBER, OWNER, STRANGER, Stage


def _mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def case_eacces_component(s: Stage) -> None:
    """No search permission on a directory of the path."""
    d = s.directory("d", mode=0o644, uid=OWNER)
    path = s.file("d/f", uid=OWNER)
    for user in (s.user(OWNER), s.user(STRANGER)):
        for call, *args in (
            (os.stat, path), (calls.opens, path), (calls.create, os.path.join(d, "n")),
            (os.mkdir, os.path.join(d, "n")), (os.mkfifo, os.path.join(d, "n")),
            (os.symlink, "t", os.path.join(d, "n")), (os.unlink, path),
            (os.rmdir, path), (os.rename, path, os.path.join(d, "n")), (os.link, path, os.path.join(d, "n")),
            (os.chmod, path, 0o600), (os.chown, path, -1, -1), (os.truncate, path, 0), (calls.touch_now, path),
            (os.readlink, path), (os.getxattr, path, "user.a"), (os.setxattr, path, "user.a", b""),
            (os.listxattr, path), (os.removexattr, path, "user.a"), (os.statvfs, path),
        ):  # fmt: skip
            s.refuses(errno.EACCES, user, call, *args)
    s.same(s.user(OWNER)(os.listdir, d), ["f"], "read permission alone lists")


def case_eacces_parent_not_writable(s: Stage) -> None:
    """No write permission on the directory: nothing is made, removed or moved there."""
    d = s.directory("d", mode=0o555, uid=OWNER)
    for kind in KINDS:
        s.thing(kind, f"d/{kind}")
    other = s.directory("other", mode=0o777)
    user = s.user(OWNER)
    new = os.path.join(d, "new")
    user(calls.create, os.path.join(other, "f"))
    for call, *args in (
        (calls.create, new), (os.mkdir, new), (os.mkfifo, new), (os.mknod, new, stat.S_IFREG | 0o644),
        (os.symlink, "t", new), (os.link, os.path.join(other, "f"), new), (os.rename, os.path.join(other, "f"), new),
        (os.rmdir, os.path.join(d, "dir")),
        *((os.unlink, os.path.join(d, kind)) for kind in KINDS if kind != "dir"),
        *((os.rename, os.path.join(d, kind), os.path.join(other, kind)) for kind in KINDS),
    ):  # fmt: skip
        s.refuses(errno.EACCES, user, call, *args)
    s.same(sorted(os.listdir(d)), sorted(KINDS))


def case_open_by_class(s: Stage) -> None:
    """Each class of users has its own bits, and only those: the owner does not fall back on the others'."""
    users = {6: s.user(OWNER), 3: s.user(MEMBER, MEMBER, (GROUP,)), 0: s.user(STRANGER)}
    ways = ((os.O_RDONLY, 4), (os.O_WRONLY, 2), (os.O_RDWR, 6), (os.O_RDONLY | os.O_TRUNC, 6))
    path = s.file("f", uid=OWNER, gid=GROUP)
    for shift, user in users.items():
        for bits in range(8):
            for base in (0, 0o777):
                os.chmod(path, base & ~(7 << shift) | bits << shift)
                for flags, wanted in ways:
                    if bits & wanted == wanted:
                        user(calls.opens, path, flags)
                        s.checks += 1
                    else:
                        s.refuses(errno.EACCES, user, calls.opens, path, flags)
                for mask in (os.R_OK, os.W_OK, os.X_OK):
                    s.same(user(calls.permits, path, mask), bool(bits & mask), f"access {mask} of {bits}")


def case_chmod_eperm(s: Stage) -> None:
    """Only the owner changes the mode."""
    for kind in ("file", "dir", "fifo", "socket"):
        path = s.thing(kind, kind)
        os.chown(path, OWNER, GROUP)
        for user in (s.user(STRANGER), s.user(MEMBER, MEMBER, (GROUP,))):
            s.refuses(errno.EPERM, user, os.chmod, path, 0o777)
        s.user(OWNER)(os.chmod, path, 0o700)
        s.same(_mode(path), 0o700)


def case_chmod_setgid_needs_the_group(s: Stage) -> None:
    """An owner who is not in the file's group cannot make it setgid."""
    path = s.file("f", uid=OWNER, gid=GROUP)
    s.user(OWNER)(os.chmod, path, 0o2755)
    s.same(_mode(path), 0o755, "setgid by an owner outside the group")
    s.user(OWNER, OWNER, (GROUP,))(os.chmod, path, 0o2755)
    s.same(_mode(path), 0o2755, "setgid by an owner in the group")
    d = s.directory("d", uid=OWNER, gid=GROUP)
    s.user(OWNER, OWNER, (GROUP,))(os.chmod, d, 0o3775)
    s.same(_mode(d), 0o3775)


def case_chown_eperm(s: Stage) -> None:
    """Only root gives files away; an owner may pass them to groups of theirs."""
    for kind in KINDS:
        path = s.thing(kind, kind)
        os.lchown(path, OWNER, OWNER)
        for user, uid, gid in (
            (s.user(STRANGER), STRANGER, -1), (s.user(STRANGER), -1, STRANGER), (s.user(OWNER), STRANGER, -1),
            (s.user(OWNER), 0, -1), (s.user(OWNER), -1, GROUP), (s.user(STRANGER), OWNER, OWNER),
        ):  # fmt: skip
            s.refuses(errno.EPERM, user, os.lchown, path, uid, gid)
        s.user(OWNER, OWNER, (GROUP,))(os.lchown, path, -1, GROUP)
        s.same(os.lstat(path).st_gid, GROUP, "the owner gives the file to a group of theirs")
        s.user(OWNER)(os.lchown, path, OWNER, GROUP)
        s.checks += 1


def case_chown_by_owner_clears_set_id_bits(s: Stage) -> None:
    """A change of the group by the owner clears the set-id bits."""
    path = s.file("f", mode=0o6755, uid=OWNER, gid=OWNER)
    s.user(OWNER, OWNER, (GROUP,))(os.chown, path, -1, GROUP)
    s.same(_mode(path), 0o755)


def case_writing_clears_set_id_bits(s: Stage) -> None:
    """A write or truncation by somebody else clears the set-id bits."""
    user = s.user(STRANGER)
    for change in ((calls.overwrite, b"x"), (calls.ftruncate, 0), (os.truncate, 3)):
        path = s.file("f", b"0123", mode=0o6777)
        user(change[0], path, change[1])
        s.same(_mode(path), 0o777, f"mode after {change[0].__name__} by another user")
        os.unlink(path)
    path = s.file("f", b"0123", mode=0o6777)
    user(calls.opens, path, os.O_WRONLY | os.O_TRUNC)
    s.same(_mode(path), 0o777, "mode after O_TRUNC by another user")


def case_utimensat_by_others(s: Stage) -> None:
    """Who may write may set the times to now; only the owner to other times."""
    path = s.file("f", mode=0o644, uid=OWNER)
    stranger, owner = s.user(STRANGER), s.user(OWNER)
    s.refuses(errno.EACCES, stranger, calls.touch_now, path)
    s.refuses(errno.EPERM, stranger, os.utime, path, (1, 2))
    os.chmod(path, 0o666)
    with s.touches(path, "atime", "mtime", "ctime"):
        stranger(calls.touch_now, path)
    s.refuses(errno.EPERM, stranger, os.utime, path, (1, 2))
    os.chmod(path, 0o444)
    owner(calls.touch_now, path)
    owner(os.utime, path, (1, 2))
    s.same(os.stat(path).st_mtime, 2.0)


def case_sticky_directory(s: Stage) -> None:
    """In a sticky directory only root and the owners of the entry and of the directory remove or rename it."""
    for kind in KINDS:
        d = s.directory(f"d-{kind}", mode=0o1777, uid=MEMBER)
        target = s.directory(f"t-{kind}", mode=0o777)
        path = s.thing(kind, f"d-{kind}/x")
        os.lchown(path, OWNER, OWNER)
        remove = os.rmdir if kind == "dir" else os.unlink
        stranger = s.user(STRANGER)
        for call, *args in (
            (remove, path), (os.rename, path, os.path.join(d, "y")), (os.rename, path, os.path.join(target, "y")),
        ):  # fmt: skip
            s.refuses((errno.EPERM, errno.EACCES), stranger, call, *args)
        if kind != "dir":
            stranger(calls.create, os.path.join(target, "mine"))
            s.refuses((errno.EPERM, errno.EACCES), stranger, os.rename, os.path.join(target, "mine"), path)
        for user in (s.user(OWNER), s.user(MEMBER)):
            user(remove, path)
            s.same(os.listdir(d), [], f"{kind} removed")
            os.rename(s.thing(kind, "again"), path)
            os.lchown(path, OWNER, OWNER)


def case_sticky_directory_moved(s: Stage) -> None:
    """A directory of another's, moved to another parent, would have its dot-dot rewritten."""
    d = s.directory("d", mode=0o777)
    s.directory("d/x", mode=0o755, uid=OWNER)
    s.directory("e", mode=0o777)
    s.refuses((errno.EACCES, errno.EPERM), s.user(STRANGER), os.rename, os.path.join(d, "x"), s.at("e", "x"))
    s.user(STRANGER)(os.rename, os.path.join(d, "x"), os.path.join(d, "y"))
    s.same(os.listdir(d), ["y"], "within one parent the directory itself is not written")


def case_listing_needs_read(s: Stage) -> None:
    """Listing needs read permission, looking up needs search permission."""
    d = s.directory("d", mode=0o711)
    s.file("d/f")
    user = s.user(STRANGER)
    s.refuses(errno.EACCES, user, os.listdir, d)
    s.refuses(errno.EACCES, user, calls.opens, d)
    s.same(user(calls.attributes, os.path.join(d, "f"))["st_size"], 0, "search alone finds what one knows")


def case_owner_of_new_things(s: Stage) -> None:
    """New files belong to who made them; devices are root's to make."""
    d = s.directory("d", mode=0o777)
    user = s.user(OWNER, GROUP)
    for call, *args in ((calls.create,), (os.mkdir,), (os.mkfifo,), (os.symlink, "t")):
        path = os.path.join(d, "x")
        user(call, *args, path)
        found = os.lstat(path)
        s.same((found.st_uid, found.st_gid), (OWNER, GROUP), f"owner after {call.__name__}")
        (os.rmdir if call is os.mkdir else os.unlink)(path)
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        s.refuses(errno.EPERM, user, os.mknod, os.path.join(d, "x"), kind | 0o600, os.makedev(1, 3))
    os.chmod(d, 0o2777)
    os.chown(d, 0, MEMBER)
    user(calls.create, os.path.join(d, "s"), 0o2755)
    found = os.stat(os.path.join(d, "s"))
    s.same((found.st_gid, stat.S_IMODE(found.st_mode)), (MEMBER, 0o755), "setgid of a foreign group is not given")


def case_xattrs_of_others(s: Stage) -> None:
    """Attributes of users go by the file's mode; trusted ones are root's."""
    path = s.file("f", mode=0o644, uid=OWNER)
    user = s.user(STRANGER)
    s.refuses(errno.EACCES, user, os.setxattr, path, "user.a", b"1")
    os.setxattr(path, "user.a", b"1")
    s.same(user(os.getxattr, path, "user.a"), b"1")
    s.refuses(errno.EACCES, user, os.removexattr, path, "user.a")
    s.refuses(errno.EPERM, s.user(OWNER), os.setxattr, path, "trusted.a", b"1")
    os.setxattr(path, "trusted.a", b"1")
    s.same(s.user(OWNER)(os.listxattr, path), ["user.a"], "trusted attributes are root's")
    s.refuses(errno.ENODATA, s.user(OWNER), os.getxattr, path, "trusted.a")
    os.chmod(path, 0o600)
    s.refuses(errno.EACCES, user, os.getxattr, path, "user.a")


def case_protected_truncate(s: Stage) -> None:
    """Truncating needs write permission, from the owner too."""
    path = s.file("f", b"0123", mode=0o444, uid=OWNER)
    s.refuses(errno.EACCES, s.user(OWNER), os.truncate, path, 0)
    s.refuses(errno.EACCES, s.user(STRANGER), os.truncate, path, 0)
    s.same(os.stat(path).st_size, 4)
