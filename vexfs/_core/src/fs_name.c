/* The namespace: looking up, making, linking, removing, renaming. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "vexfs/commit.h"

int vx_name_check(const char *name, size_t n)
{
    if (!n)
        return -ENOENT;
    if (n > VX_NAME_MAX)
        return -ENAMETOOLONG;
    return memchr(name, '/', n) || memchr(name, 0, n) ? -EINVAL : 0;
}

/* A name to be made: neither a dot entry nor the name under which searches and status appear. */
int vx_new_name_check(const char *name, size_t n)
{
    int rc = vx_name_check(name, n);
    if (rc)
        return rc;
    if (is_dot(name, n) || is_dotdot(name, n))
        return -EEXIST;
    return vx_is_hidden(name, n) ? -EPERM : 0;
}

void vx_remember(vx_fs *fs, const vx_cred *c, uint64_t ino)
{
    if (c->remember)
        (void)vx_hmap_put(&fs->lookups, ino, vx_hmap_get(&fs->lookups, ino) + 1);
}

void vx_fs_forget(vx_fs *fs, uint64_t ino, uint64_t count)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_FORGET);
    uint64_t have = vx_hmap_get(&fs->lookups, ino);
    if (have > count) {
        (void)vx_hmap_put(&fs->lookups, ino, have - count);
    } else if (have) {
        vx_hmap_del(&fs->lookups, ino);
        vx_inode *i = (vx_inode *)vx_hmap_get(&fs->inodes, ino);
        if (i)
            vx_inode_let_go(fs, i);
    }
    vx_op_leave(fs, &f, 0);
}

int vx_dir_get(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t mask, vx_inode **out)
{
    int rc = vx_inode_get(fs, ino, out);
    if (rc)
        return rc;
    if (!S_ISDIR((*out)->a.mode))
        return -ENOTDIR;
    return vx_may(c, *out, mask);
}

int vx_lookup_at(vx_fs *fs, vx_inode *dir, const char *name, size_t n, vx_inode **out)
{
    if (is_dot(name, n)) {
        *out = dir;
        return 0;
    }
    if (is_dotdot(name, n))
        return vx_inode_get(fs, dir->parent, out);
    vx_dentry *d;
    int rc = vx_dentry_get(fs, dir->a.ino, name, n, &d);
    if (rc)
        return rc;
    if (!d->ino)
        return -ENOENT;
    rc = vx_inode_get(fs, d->ino, out);
    if (!rc && !(*out)->parent && (!fs->open_tables || vx_rows_over(fs, d->parent)))
        vx_rows_named(fs, *out, 0, NULL, d); /* else one that an index covers is looked for */
    return rc == -ENOENT ? -EIO : rc; /* a name without its file: fsck's business */
}

int vx_fs_lookup(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, vx_attr *out)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_LOOKUP);
    vx_inode *dir, *i;
    int rc = vx_name_check(name, n);
    if (!rc && c->remember && is_dot(name, n)) { /* a kernel that has the number from a file handle: of any file */
        rc = vx_inode_get(fs, parent, &i);
        if (!rc && !i->a.nlink)
            rc = -ENOENT;
    } else {
        if (!rc)
            rc = vx_dir_get(fs, c, parent, 1, &dir);
        if (!rc)
            rc = vx_lookup_at(fs, dir, name, n, &i);
    }
    if (!rc) {
        vx_remember(fs, c, i->a.ino);
        vx_fill_attr(i, out);
    }
    return vx_op_leave(fs, &f, rc);
}

/* -- making ---------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t mode;
    uint64_t rdev;
    const char *target;
    size_t target_n;
    int hidden;   /* the reserved name is allowed */
    int reserved; /* there is room: the caller saw to that for all that it makes */
} make_t;

/* Directory and dentry for a change of a name; checks that the directory is alive and may be written. */
int vx_change_begin(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, vx_inode **dir,
                        vx_dentry **d)
{
    int rc = fs->read_only ? -EROFS : vx_dir_get(fs, c, parent, 3, dir);
    if (rc)
        return rc;
    if (!(*dir)->a.nlink)
        return -ENOENT;
    return vx_dentry_get(fs, parent, name, n, d);
}

static void owner_and_mode(const vx_cred *c, const vx_inode *dir, uint32_t mode, vx_inode *i)
{
    i->a.uid = c->uid;
    i->a.gid = dir->a.mode & S_ISGID ? dir->a.gid : c->gid;
    if (S_ISDIR(mode) && (dir->a.mode & S_ISGID))
        mode |= S_ISGID;
    else if ((mode & S_ISGID) && (mode & S_IXGRP) && !S_ISDIR(mode) && c->check && c->uid && !vx_in_group(c, i->a.gid))
        mode &= ~(uint32_t)S_ISGID;
    i->a.mode = mode & ~(S_ISLNK(mode) ? 0 : c->umask & 0777);
}

static int make_inode(vx_fs *fs, const vx_cred *c, vx_inode *dir, const make_t *m, vx_inode **out)
{
    vx_inode *i;
    if (fs->next_ino >= VX_INO_MAX)
        return -ENOSPC;
    int rc = vx_inode_new(fs, fs->next_ino, &i);
    if (rc)
        return rc;
    if (m->target_n) {
        rc = vx_inline_room(fs, i, m->target_n);
        if (rc) {
            vx_inode_drop(fs, i);
            return rc;
        }
        memcpy(i->inl, m->target, m->target_n);
        i->inl_n = (uint32_t)m->target_n;
        vx_inline_dirty(fs, i);
        fs->used_bytes += m->target_n;
    }
    fs->next_ino++;
    fs->files++;
    owner_and_mode(c, dir, m->mode, i);
    i->a.rdev = m->rdev;
    i->a.size = m->target_n;
    i->a.nlink = S_ISDIR(m->mode) ? 2 : 1;
    i->flags |= VX_I_NEW | (S_ISREG(m->mode) || S_ISLNK(m->mode) ? VX_I_INLINE : 0);
    i->a.atime_ns = i->a.mtime_ns = i->a.ctime_ns = i->a.btime_ns = vx_now();
    vx_inode_dirty(fs, i);
    *out = i;
    return 0;
}

/* An inode is there: what is told of it, and to whom. */
static void made(vx_fs *fs, const vx_cred *c, vx_inode *i, uint64_t parent, const char *name, size_t n, const make_t *m)
{
    vx_remember(fs, c, i->a.ino);
    vx_oplog(fs, VX_LOG_MAKE, i->a.ino, parent, (uint64_t)i->a.mode << 32 | i->a.uid, i->a.gid | m->rdev << 32,
             i->a.btime_ns, name, n, m->target, m->target_n);
    vx_mutated(fs, i->a.ino);
}

static int make(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, const make_t *m,
                vx_inode **out)
{
    vx_inode *dir, *i;
    vx_dentry *d;
    int rc = m->hidden ? 0 : vx_new_name_check(name, n);
    if (!rc)
        rc = vx_change_begin(fs, c, parent, name, n, &dir, &d);
    if (rc)
        return rc;
    if (d->ino)
        return -EEXIST;
    if (S_ISDIR(m->mode) && dir->a.nlink >= VX_LINK_MAX)
        return -EMLINK;
    rc = m->reserved ? 0 : vx_space_check(fs, VX_META_COST);
    if (!rc)
        rc = make_inode(fs, c, dir, m, &i);
    if (rc)
        return rc;
    i->parent = parent;
    i->slot = d->slot;
    vx_dentry_set(fs, dir, d, i->a.ino, m->mode & S_IFMT);
    dir->a.size++;
    dir->a.nlink += S_ISDIR(m->mode);
    vx_touch(fs, dir, i->a.btime_ns, 0);
    vx_event_entry(fs, c, parent, name, n);
    vx_event_inode(fs, c, parent, 0);
    made(fs, c, i, parent, name, n, m);
    *out = i;
    return 0;
}

int vx_make_file(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, int hidden,
                 vx_inode **out)
{
    make_t m = {.mode = mode, .hidden = hidden, .reserved = !hidden};
    return make(fs, c, parent, name, n, &m, out);
}

int vx_whiteout_make(vx_fs *fs, const vx_cred *c, vx_inode *dir, vx_inode **out)
{
    const make_t m = {.mode = S_IFCHR};
    const int rc = vx_space_check(fs, VX_META_COST);
    return rc ? rc : make_inode(fs, c, dir, &m, out);
}

void vx_whiteout_name(vx_fs *fs, const vx_cred *c, vx_inode *dir, vx_dentry *d, const char *name, size_t n,
                      vx_inode *i)
{
    const make_t m = {.mode = S_IFCHR};
    vx_cred who = *c;
    who.remember = 0; /* the kernel is told of the rename alone */
    i->parent = dir->a.ino;
    i->slot = d->slot;
    vx_dentry_set(fs, dir, d, i->a.ino, S_IFCHR);
    dir->a.size++;
    made(fs, &who, i, dir->a.ino, name, n, &m);
}

int vx_fs_hidden(vx_fs *fs, uint64_t *ino)
{
    vx_frame f;
    vx_cred c = {.uid = fs->o.root_uid, .gid = fs->o.root_gid};
    vx_op_enter(fs, &f, VX_OP_MKDIR);
    vx_inode *root, *i;
    (void)vx_make_room(fs);
    int rc = vx_inode_get(fs, VX_ROOT_INO, &root);
    if (!rc)
        rc = vx_lookup_at(fs, root, VX_HIDDEN, strlen(VX_HIDDEN), &i);
    if (rc == -ENOENT)
        rc = fs->read_only ? -EROFS
                           : vx_make_file(fs, &c, VX_ROOT_INO, VX_HIDDEN, strlen(VX_HIDDEN), S_IFDIR | 0700, 1, &i);
    if (!rc)
        *ino = i->a.ino;
    return vx_op_leave(fs, &f, rc);
}

int vx_make_room(vx_fs *fs)
{
    vx_throttle(fs);
    if (!fs->read_only)
        (void)vx_space_make(fs, VX_META_COST);
    return fs->commit_err && vx_many_ops(fs) ? fs->commit_err : 0;
}

static int make_op(vx_fs *fs, int op, const vx_cred *c, uint64_t parent, const char *name, size_t n, const make_t *m,
                   vx_attr *out)
{
    vx_frame f;
    vx_op_enter(fs, &f, op);
    vx_inode *i;
    int rc = vx_make_room(fs);
    if (!rc)
        rc = make(fs, c, parent, name, n, m, &i);
    if (!rc)
        vx_fill_attr(i, out);
    return vx_op_leave(fs, &f, rc);
}

int vx_fs_mknod(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, uint64_t rdev,
                vx_attr *out)
{
    make_t m = {.mode = mode & S_IFMT ? mode : mode | S_IFREG, .rdev = S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0};
    if (S_ISDIR(m.mode))
        return -EPERM;
    if (!S_ISREG(m.mode) && !S_ISFIFO(m.mode) && !S_ISSOCK(m.mode) && !S_ISCHR(m.mode) && !S_ISBLK(m.mode))
        return -EINVAL;
    return make_op(fs, VX_OP_MKNOD, c, parent, name, n, &m, out);
}

int vx_fs_mkdir(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, vx_attr *out)
{
    make_t m = {.mode = S_IFDIR | (mode & 01777)}; /* mkdir(2): no bit of set-id but what the parent hands down */
    return make_op(fs, VX_OP_MKDIR, c, parent, name, n, &m, out);
}

int vx_fs_symlink(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, const char *target,
                  size_t tn, vx_attr *out)
{
    make_t m = {.mode = S_IFLNK | 0777, .target = target, .target_n = tn};
    if (!tn)
        return -ENOENT;
    if (tn > VX_SYMLINK_MAX)
        return -ENAMETOOLONG;
    return make_op(fs, VX_OP_SYMLINK, c, parent, name, n, &m, out);
}

int vx_fs_create(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode,
                 uint32_t flags, vx_attr *out)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_CREATE);
    vx_inode *dir, *i = NULL;
    const int room = vx_make_room(fs);
    int rc = vx_name_check(name, n);
    if (!rc)
        rc = vx_dir_get(fs, c, parent, 1, &dir);
    if (!rc)
        rc = vx_lookup_at(fs, dir, name, n, &i);
    if (rc == -ENOENT) {
        make_t m = {.mode = S_IFREG | (mode & 07777)};
        rc = room ? room : make(fs, c, parent, name, n, &m, &i);
        if (!rc)
            i->opens++;
    } else if (!rc && (flags & O_EXCL)) {
        rc = -EEXIST;
    } else if (!rc) {
        rc = S_ISLNK(i->a.mode) ? -ELOOP : vx_open_inode(fs, c, i, flags);
        if (!rc)
            vx_remember(fs, c, i->a.ino);
    }
    if (!rc)
        vx_fill_attr(i, out);
    return vx_op_leave(fs, &f, rc);
}

int vx_fs_tmpfile(vx_fs *fs, const vx_cred *c, uint64_t parent, uint32_t mode, uint32_t flags, vx_attr *out)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_CREATE);
    const make_t m = {.mode = S_IFREG | (mode & 07777)};
    vx_inode *dir, *i;
    int rc = vx_make_room(fs);
    if (!rc)
        rc = fs->read_only ? -EROFS : vx_dir_get(fs, c, parent, 3, &dir);
    if (!rc)
        rc = dir->a.nlink ? vx_space_check(fs, VX_META_COST) : -ENOENT;
    if (!rc)
        rc = make_inode(fs, c, dir, &m, &i);
    if (!rc) {
        i->a.nlink = 0;
        i->flags |= flags & O_EXCL ? 0 : VX_I_LINKABLE;
        i->opens++;
        made(fs, c, i, parent, NULL, 0, &m);
        vx_fill_attr(i, out);
    }
    return vx_op_leave(fs, &f, rc);
}

int vx_fs_link(vx_fs *fs, const vx_cred *c, uint64_t ino, uint64_t parent, const char *name, size_t n, vx_attr *out)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_LINK);
    vx_inode *dir, *i;
    vx_dentry *d;
    int rc = vx_make_room(fs);
    if (!rc)
        rc = vx_new_name_check(name, n);
    if (!rc)
        rc = vx_inode_get(fs, ino, &i);
    if (!rc)
        rc = vx_change_begin(fs, c, parent, name, n, &dir, &d);
    if (!rc)
        rc = d->ino ? -EEXIST : S_ISDIR(i->a.mode) ? -EPERM : !i->a.nlink && !(i->flags & VX_I_LINKABLE) ? -ENOENT
             : i->a.nlink >= VX_LINK_MAX ? -EMLINK : vx_space_check(fs, VX_META_COST);
    if (!rc) {
        int64_t now = vx_now();
        vx_dentry_set(fs, dir, d, ino, i->a.mode & S_IFMT);
        i->a.nlink++;
        i->flags &= ~(uint32_t)VX_I_LINKABLE;
        i->a.ctime_ns = now;
        vx_rows_named(fs, i, 0, NULL, d);
        vx_inode_dirty(fs, i);
        dir->a.size++;
        vx_touch(fs, dir, now, 0);
        vx_remember(fs, c, ino);
        vx_event_entry(fs, c, parent, name, n);
        vx_event_inode(fs, c, ino, 0);
        vx_oplog(fs, VX_LOG_LINK, ino, parent, 0, 0, now, name, n, NULL, 0);
        vx_mutated(fs, ino);
        vx_fill_attr(i, out);
    }
    return vx_op_leave(fs, &f, rc);
}

/* -- removing -------------------------------------------------------------------------------------------------- */

int vx_sticky(const vx_cred *c, const vx_inode *dir, const vx_inode *i)
{
    return c->check && (dir->a.mode & S_ISVTX) && c->uid && c->uid != dir->a.uid && c->uid != i->a.uid ? -EPERM : 0;
}

/* Takes the name away from its file; the file goes with its last name, unless it is open. */
void vx_drop_name(vx_fs *fs, const vx_cred *c, vx_inode *dir, vx_dentry *d, vx_inode *i, int64_t now)
{
    if (d->ino == i->a.ino)
        vx_dentry_set(fs, dir, d, 0, 0);
    dir->a.size--;
    if (S_ISDIR(i->a.mode)) {
        dir->a.nlink--;
        i->a.nlink = 0;
    } else {
        i->a.nlink--;
        if (i->parent == dir->a.ino && i->slot == d->slot)
            i->parent = i->slot = 0; /* until another of its names is met */
    }
    i->a.ctime_ns = now;
    vx_inode_dirty(fs, i);
    if (!i->a.nlink)
        vx_rows_gone(fs, i->a.ino);
    else
        vx_rows_unnamed(fs, i, dir->a.ino);
    vx_event_inode(fs, c, i->a.ino, 0);
    vx_touch(fs, dir, now, 0);
    if (!i->a.nlink)
        vx_oplog(fs, VX_LOG_DELETE, i->a.ino, 0, 0, 0, now, NULL, 0, NULL, 0);
    vx_inode_maybe_delete(fs, i);
}

static int remove_op(vx_fs *fs, int op, const vx_cred *c, uint64_t parent, const char *name, size_t n, int want_dir)
{
    vx_frame f;
    vx_op_enter(fs, &f, op);
    vx_inode *dir, *i;
    vx_dentry *d;
    vx_throttle(fs);
    int rc = vx_name_check(name, n);
    if (!rc && is_dot(name, n))
        rc = want_dir ? -EINVAL : -EISDIR;
    if (!rc && is_dotdot(name, n))
        rc = want_dir ? -ENOTEMPTY : -EISDIR;
    if (!rc)
        rc = vx_change_begin(fs, c, parent, name, n, &dir, &d);
    if (!rc)
        rc = d->ino ? vx_inode_get(fs, d->ino, &i) : -ENOENT;
    if (!rc)
        rc = vx_sticky(c, dir, i);
    if (!rc && want_dir)
        rc = !S_ISDIR(i->a.mode) ? -ENOTDIR : i->a.size ? -ENOTEMPTY : 0;
    else if (!rc && S_ISDIR(i->a.mode))
        rc = -EISDIR;
    if (!rc) {
        int64_t now = vx_now();
        uint64_t ino = i->a.ino;
        vx_oplog(fs, VX_LOG_UNLINK, ino, parent, 0, 0, now, name, n, NULL, 0);
        vx_drop_name(fs, c, dir, d, i, now);
        vx_event_entry(fs, c, parent, name, n);
        vx_event_inode(fs, c, parent, 0);
        vx_mutated(fs, ino);
    }
    return vx_op_leave(fs, &f, rc);
}

int vx_fs_unlink(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n)
{
    return remove_op(fs, VX_OP_UNLINK, c, parent, name, n, 0);
}

int vx_fs_rmdir(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n)
{
    return remove_op(fs, VX_OP_RMDIR, c, parent, name, n, 1);
}
