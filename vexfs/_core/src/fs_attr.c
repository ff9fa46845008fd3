/* Attributes and permissions. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "vexfs/commit.h"

const char *const vx_op_names[VX_OP_COUNT] = {
    "lookup", "forget", "getattr", "setattr", "access", "mknod", "mkdir", "symlink", "readlink", "link", "unlink",
    "rmdir", "rename", "create", "open", "release", "read", "write", "flush", "fsync", "opendir", "releasedir",
    "readdir", "statfs", "getxattr", "setxattr", "listxattr", "removexattr", "walk", "fallocate"};

int vx_in_group(const vx_cred *c, uint32_t gid)
{
    if (c->gid == gid)
        return 1;
    for (uint32_t k = 0; k < c->ngroups; k++)
        if (c->groups[k] == gid)
            return 1;
    return 0;
}

/* mask as access(2): 4 read, 2 write, 1 execute or search. */
static int permitted(const vx_cred *c, const vx_inode *i, uint32_t mask)
{
    if (!c->uid)
        return (mask & 1) && !S_ISDIR(i->a.mode) && !(i->a.mode & 0111) ? -EACCES : 0;
    uint32_t bits = c->uid == i->a.uid ? i->a.mode >> 6 : vx_in_group(c, i->a.gid) ? i->a.mode >> 3 : i->a.mode;
    return mask & ~bits & 7 ? -EACCES : 0;
}

int vx_may(const vx_cred *c, const vx_inode *i, uint32_t mask)
{
    return c->check ? permitted(c, i, mask) : 0;
}

void vx_fill_attr(const vx_inode *i, vx_attr *out)
{
    *out = i->a;
    out->blocks = vx_blocks(i);
}

void vx_touch(vx_fs *fs, vx_inode *i, int64_t now, int content)
{
    i->a.mtime_ns = i->a.ctime_ns = now;
    if (content) {
        i->a.generation++;
        i->flags |= VX_I_CONTENT;
        vx_rows_stale(fs, i);
    }
    vx_inode_dirty(fs, i);
}

void vx_drop_privileges(vx_inode *i)
{
    if (S_ISDIR(i->a.mode))
        return;
    i->a.mode &= ~(uint32_t)S_ISUID;
    if (i->a.mode & S_IXGRP)
        i->a.mode &= ~(uint32_t)S_ISGID;
}

int vx_fs_getattr(vx_fs *fs, uint64_t ino, vx_attr *out)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_GETATTR);
    vx_inode *i;
    int rc = vx_inode_get(fs, ino, &i);
    if (!rc)
        vx_fill_attr(i, out);
    return vx_op_leave(fs, &f, rc);
}

int vx_fs_access(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t mask)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_ACCESS);
    vx_inode *i;
    int rc = mask & ~7u ? -EINVAL : vx_inode_get(fs, ino, &i);
    if (!rc)
        rc = permitted(c, i, mask);
    if (!rc && (mask & 2) && fs->read_only)
        rc = -EROFS;
    return vx_op_leave(fs, &f, rc);
}

/* -- setattr --------------------------------------------------------------------------------------------------- */

static int setattr_allowed(const vx_cred *c, const vx_inode *i, uint32_t fields, const vx_attr *v)
{
    if (!c->check || !c->uid)
        return 0;
    int owner = c->uid == i->a.uid;
    if ((fields & VX_SET_MODE) && !owner)
        return -EPERM;
    if ((fields & VX_SET_UID) && v->uid != i->a.uid)
        return -EPERM;
    if ((fields & VX_SET_UID) && !owner)
        return -EPERM;
    if ((fields & VX_SET_GID) && (!owner || (v->gid != i->a.gid && !vx_in_group(c, v->gid))))
        return -EPERM;
    if ((fields & VX_SET_SIZE) && permitted(c, i, 2))
        return -EACCES;
    if ((fields & (VX_SET_ATIME | VX_SET_MTIME)) && !owner)
        return -EPERM;
    if ((fields & (VX_SET_ATIME_NOW | VX_SET_MTIME_NOW)) && !owner && permitted(c, i, 2))
        return -EACCES;
    return 0;
}

/* No field at all is chown to nobody in particular, and what a kernel asks before one without privileges writes. */
static void set_owner(const vx_cred *c, vx_inode *i, uint32_t fields, const vx_attr *v)
{
    if (fields & VX_SET_UID)
        i->a.uid = v->uid;
    if (fields & VX_SET_GID)
        i->a.gid = v->gid;
    int bare = !fields && (!c->check || !c->uid || c->uid == i->a.uid);
    if (bare || ((fields & (VX_SET_UID | VX_SET_GID)) && !(fields & VX_SET_MODE)))
        vx_drop_privileges(i);
}

static void set_mode(const vx_cred *c, vx_inode *i, uint32_t mode)
{
    if ((mode & S_ISGID) && c->check && c->uid && !vx_in_group(c, i->a.gid))
        mode &= ~(uint32_t)S_ISGID;
    i->a.mode = (i->a.mode & S_IFMT) | (mode & 07777);
}

static void set_times(vx_inode *i, uint32_t fields, const vx_attr *v, int64_t now)
{
    if (fields & (VX_SET_ATIME | VX_SET_ATIME_NOW))
        i->a.atime_ns = fields & VX_SET_ATIME_NOW ? now : v->atime_ns;
    if (fields & (VX_SET_MTIME | VX_SET_MTIME_NOW))
        i->a.mtime_ns = fields & VX_SET_MTIME_NOW ? now : v->mtime_ns;
    i->a.ctime_ns = fields & VX_SET_CTIME ? v->ctime_ns : now;
}

int vx_set_size(vx_fs *fs, const vx_cred *c, vx_inode *i, uint64_t size)
{
    if (!S_ISREG(i->a.mode))
        return S_ISDIR(i->a.mode) ? -EISDIR : -EINVAL;
    int rc = vx_data_truncate(fs, i, size);
    if (rc)
        return rc;
    if (c->uid)
        vx_drop_privileges(i);
    vx_touch(fs, i, vx_now(), 1);
    vx_event_inode(fs, c, i->a.ino, 1);
    return 0;
}

int vx_fs_setattr(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t fields, const vx_attr *v, vx_attr *out)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_SETATTR);
    vx_inode *i;
    vx_throttle(fs);
    int rc = fs->read_only ? -EROFS : vx_inode_get(fs, ino, &i);
    if (!rc)
        rc = setattr_allowed(c, i, fields, v);
    if (!rc && (fields & VX_SET_SIZE))
        rc = vx_set_size(fs, c, i, v->size);
    if (!rc) {
        int64_t now = vx_now();
        set_owner(c, i, fields, v);
        if (fields & VX_SET_MODE)
            set_mode(c, i, v->mode);
        set_times(i, fields, v, now);
        vx_inode_dirty(fs, i);
        vx_event_inode(fs, c, ino, 0);
        vx_oplog(fs, VX_LOG_SETATTR, ino, (uint64_t)i->a.mode << 32 | i->a.uid, i->a.gid, i->a.size, now,
                 &i->a.atime_ns, 16, NULL, 0);
        vx_mutated(fs, ino);
        vx_fill_attr(i, out);
        vx_inode_maybe_delete(fs, i);
    }
    return vx_op_leave(fs, &f, rc);
}

/* -- open files ------------------------------------------------------------------------------------------------ */

int vx_open_inode(vx_fs *fs, const vx_cred *c, vx_inode *i, uint32_t flags)
{
    uint32_t how = flags & O_ACCMODE, write = how != O_RDONLY || (flags & O_TRUNC);
    if (S_ISDIR(i->a.mode) && write)
        return -EISDIR;
    if (write && fs->read_only)
        return -EROFS;
    int rc = vx_may(c, i, how == O_RDONLY ? 4 : how == O_WRONLY ? 2 : 6);
    if (rc)
        return rc;
    i->opens++;
    if ((flags & O_TRUNC) && S_ISREG(i->a.mode)) {
        rc = vx_set_size(fs, c, i, 0);
        vx_mutated(fs, i->a.ino);
        if (rc) {
            i->opens--;
            vx_inode_let_go(fs, i);
        }
    }
    return rc;
}

int vx_fs_open(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t flags)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_OPEN);
    vx_inode *i;
    int rc = vx_inode_get(fs, ino, &i);
    if (!rc)
        rc = vx_open_inode(fs, c, i, flags);
    return vx_op_leave(fs, &f, rc);
}

static void release(vx_fs *fs, uint64_t ino, int op)
{
    vx_frame f;
    vx_op_enter(fs, &f, op);
    vx_inode *i = (vx_inode *)vx_hmap_get(&fs->inodes, ino);
    if (i && i->opens) {
        i->opens--;
        vx_inode_let_go(fs, i);
    }
    vx_op_leave(fs, &f, 0);
}

void vx_fs_release(vx_fs *fs, uint64_t ino)
{
    release(fs, ino, VX_OP_RELEASE);
}

int vx_fs_opendir(vx_fs *fs, const vx_cred *c, uint64_t ino)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_OPENDIR);
    vx_inode *i;
    int rc = vx_dir_get(fs, c, ino, 4, &i);
    if (!rc)
        i->opens++;
    return vx_op_leave(fs, &f, rc);
}

void vx_fs_releasedir(vx_fs *fs, uint64_t ino)
{
    release(fs, ino, VX_OP_RELEASEDIR);
}

int vx_fs_readlink(vx_fs *fs, uint64_t ino, char *buf, size_t cap)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_READLINK);
    vx_inode *i;
    int rc = vx_inode_get(fs, ino, &i);
    if (!rc)
        rc = S_ISLNK(i->a.mode) ? vx_inline_load(fs, i) : -EINVAL;
    if (!rc)
        rc = (int)(i->inl_n < cap ? i->inl_n : cap);
    if (rc > 0)
        memcpy(buf, i->inl, (size_t)rc);
    return vx_op_leave(fs, &f, rc);
}
