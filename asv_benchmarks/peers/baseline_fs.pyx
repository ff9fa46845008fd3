# cython: language_level=3, boundscheck=False, wraparound=False
# distutils: language = c
"""The least a filesystem on llfuse can be: everything in dictionaries, nothing durable, handlers compiled.

What VexFS is measured against: it sends the kernel the same answers with the same timeouts and refuses the same
requests, so the difference is the work that a real filesystem does beyond it.
"""

import errno
import os
import stat
import time

import llfuse
from llfuse import EntryAttributes, FUSEError

from libc.stdint cimport int64_t, uint64_t


cdef class Node:
    cdef uint64_t ino, parent
    cdef unsigned int mode, uid, gid, links, opens
    cdef uint64_t lookups
    cdef int64_t atime, mtime, ctime
    cdef dict children
    cdef dict xattrs
    cdef object data            # bytearray of a file, bytes of a symlink's target
    cdef list listing           # of a directory: names in the order they came, for stable readdir offsets

    def __cinit__(self, uint64_t ino, unsigned int mode, unsigned int uid, unsigned int gid):
        self.ino, self.mode, self.uid, self.gid, self.links = ino, mode, uid, gid, 1
        self.atime = self.mtime = self.ctime = time.time_ns()
        self.data = bytearray()
        if stat.S_ISDIR(mode):
            self.children, self.listing, self.links = {}, [], 2


cdef object entry_of(Node node):
    entry = EntryAttributes()
    entry.st_ino = node.ino
    entry.st_mode = node.mode
    entry.st_nlink = node.links
    entry.st_uid = node.uid
    entry.st_gid = node.gid
    size = len(node.data)
    entry.st_size = size
    entry.st_blocks = (size + 511) // 512
    entry.st_atime_ns = node.atime
    entry.st_mtime_ns = node.mtime
    entry.st_ctime_ns = node.ctime
    return entry


cdef class Operations:
    """The request handlers, called by llfuse."""

    cdef dict nodes
    cdef uint64_t next_ino

    def __cinit__(self):
        self.nodes = {1: Node(1, stat.S_IFDIR | 0o755, os.getuid(), os.getgid())}
        self.next_ino = 2

    def init(self): pass
    def destroy(self): pass
    def stacktrace(self): pass

    cdef Node directory(self, uint64_t ino):
        cdef Node node = self.nodes[ino]
        if node.children is None:
            raise FUSEError(errno.ENOTDIR)
        return node

    cdef Node child(self, uint64_t parent, bytes name):
        found = self.directory(parent).children.get(name)
        if found is None:
            raise FUSEError(errno.ENOENT)
        return <Node>found

    cdef Node add(self, uint64_t parent, bytes name, unsigned int mode, ctx):
        cdef Node home = self.directory(parent)
        if name in home.children:
            raise FUSEError(errno.EEXIST)
        cdef Node node = Node(self.next_ino, mode, ctx.uid, ctx.gid)
        self.next_ino += 1
        self.nodes[node.ino] = node
        home.children[name] = node
        home.listing.append((name, node))
        home.mtime = home.ctime = time.time_ns()
        node.lookups = 1
        return node

    cdef drop(self, Node node):
        if node.links == 0 and node.lookups == 0 and node.opens == 0:
            self.nodes.pop(node.ino, None)

    def lookup(self, uint64_t parent, bytes name, ctx):
        found = self.directory(parent).children.get(name)
        if found is None:
            entry = EntryAttributes()
            entry.st_ino = 0        # a negative entry, remembered by the kernel
            return entry
        cdef Node node = found
        node.lookups += 1
        return entry_of(node)

    def forget(self, list forgets):
        cdef Node node
        for ino, count in forgets:
            node = self.nodes.get(ino)
            if node is not None and ino != 1:
                node.lookups -= min(count, node.lookups)
                self.drop(node)

    def getattr(self, uint64_t ino, ctx):
        return entry_of(self.nodes[ino])

    def setattr(self, uint64_t ino, attr, fields, fh, ctx):
        cdef Node node = self.nodes[ino]
        if fields.update_size:
            size = attr.st_size
            if size < len(node.data):
                del node.data[size:]
            else:
                node.data.extend(bytes(size - len(node.data)))
            node.mtime = time.time_ns()
        if fields.update_mode:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(attr.st_mode)
        if fields.update_uid:
            node.uid = attr.st_uid
        if fields.update_gid:
            node.gid = attr.st_gid
        if fields.update_atime:
            node.atime = attr.st_atime_ns
        if fields.update_mtime:
            node.mtime = attr.st_mtime_ns
        node.ctime = time.time_ns()
        return entry_of(node)

    def readlink(self, uint64_t ino, ctx):
        return bytes((<Node>self.nodes[ino]).data)

    def mknod(self, uint64_t parent, bytes name, unsigned int mode, rdev, ctx):
        return entry_of(self.add(parent, name, mode, ctx))

    def mkdir(self, uint64_t parent, bytes name, unsigned int mode, ctx):
        return entry_of(self.add(parent, name, mode | stat.S_IFDIR, ctx))

    def symlink(self, uint64_t parent, bytes name, bytes target, ctx):
        cdef Node node = self.add(parent, name, stat.S_IFLNK | 0o777, ctx)
        node.data = target
        return entry_of(node)

    def link(self, uint64_t ino, uint64_t parent, bytes name, ctx):
        cdef Node node = self.nodes[ino]
        cdef Node home = self.directory(parent)
        if name in home.children:
            raise FUSEError(errno.EEXIST)
        home.children[name] = node
        home.listing.append((name, node))
        node.links += 1
        node.lookups += 1
        return entry_of(node)

    cdef remove(self, uint64_t parent, bytes name):
        cdef Node home = self.directory(parent)
        cdef Node node = home.children.pop(name)
        home.mtime = home.ctime = node.ctime = time.time_ns()
        if len(home.listing) > 2 * len(home.children) + 1000:
            home.listing = list(home.children.items())
        node.links = 0 if node.children is not None else node.links - 1
        self.drop(node)

    def unlink(self, uint64_t parent, bytes name, ctx):
        self.child(parent, name)
        self.remove(parent, name)

    def rmdir(self, uint64_t parent, bytes name, ctx):
        if self.child(parent, name).children:
            raise FUSEError(errno.ENOTEMPTY)
        self.remove(parent, name)

    def rename(self, uint64_t parent, bytes name, uint64_t new_parent, bytes new_name, ctx):
        cdef Node node = self.child(parent, name)
        cdef Node home = self.directory(new_parent)
        if new_name in home.children:
            self.remove(new_parent, new_name)
        self.directory(parent).children.pop(name)
        home.children[new_name] = node
        home.listing.append((new_name, node))
        home.mtime = home.ctime = node.ctime = time.time_ns()

    def open(self, uint64_t ino, flags, ctx):
        (<Node>self.nodes[ino]).opens += 1
        return ino

    def create(self, uint64_t parent, bytes name, unsigned int mode, flags, ctx):
        cdef Node node = self.add(parent, name, mode | stat.S_IFREG, ctx)
        node.opens = 1
        return node.ino, entry_of(node)

    def read(self, uint64_t ino, uint64_t offset, uint64_t size):
        return bytes((<Node>self.nodes[ino]).data[offset:offset + size])

    def write(self, uint64_t ino, uint64_t offset, bytes data):
        cdef Node node = self.nodes[ino]
        if offset > <uint64_t>len(node.data):
            node.data.extend(bytes(offset - len(node.data)))
        node.data[offset:offset + len(data)] = data
        node.mtime = node.ctime = time.time_ns()
        return len(data)

    def flush(self, fh):
        raise FUSEError(errno.ENOSYS)

    def release(self, uint64_t ino):
        cdef Node node = self.nodes[ino]
        node.opens -= 1
        self.drop(node)

    def fsync(self, fh, datasync): pass
    def fsyncdir(self, fh, datasync): pass
    def releasedir(self, fh): pass

    def opendir(self, uint64_t ino, ctx):
        self.directory(ino)
        return ino

    def readdir(self, uint64_t ino, uint64_t offset):
        cdef Node home = self.directory(ino)
        entry = EntryAttributes()
        at = offset
        for name, node in home.listing[at:at + 1000]:
            at += 1
            if home.children.get(name) is node:
                entry.st_ino = (<Node>node).ino
                entry.st_mode = (<Node>node).mode
                yield name, entry, at

    def statfs(self, ctx):
        stats = llfuse.StatvfsData()
        stats.f_bsize = stats.f_frsize = 4096
        stats.f_blocks = stats.f_bfree = stats.f_bavail = 1 << 30
        stats.f_files = stats.f_ffree = 1 << 30
        stats.f_namemax = 255
        return stats

    def getxattr(self, uint64_t ino, bytes name, ctx=None):
        cdef dict found = (<Node>self.nodes[ino]).xattrs
        if found is None or name not in found:
            raise FUSEError(errno.ENODATA)
        return found[name]

    def setxattr(self, uint64_t ino, bytes name, bytes value, ctx):
        cdef Node node = self.nodes[ino]
        if node.xattrs is None:
            node.xattrs = {}
        node.xattrs[name] = value

    def listxattr(self, uint64_t ino, ctx):
        return list((<Node>self.nodes[ino]).xattrs or ())

    def removexattr(self, uint64_t ino, bytes name, ctx):
        cdef dict found = (<Node>self.nodes[ino]).xattrs
        if not found or name not in found:
            raise FUSEError(errno.ENODATA)
        del found[name]

    def access(self, ino, mode, ctx):
        return True


def serve(str mountpoint, options, workers=1):
    """Mount at `mountpoint` and answer requests until it is unmounted."""
    llfuse.init(Operations(), mountpoint, set(options))
    try:
        llfuse.main(workers=workers)
    finally:
        llfuse.close(unmount=True)
