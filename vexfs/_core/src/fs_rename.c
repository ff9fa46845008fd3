/* Renaming: everything is checked before anything changes. */
#include <errno.h>
#include <string.h>

#include "vexfs/commit.h"

typedef struct {
    vx_inode *from, *to; /* directories */
    vx_dentry *src, *dst;
    vx_inode *i, *over; /* what moves; what is replaced or NULL */
    vx_inode *white;    /* what takes the old name, or NULL */
} rename_t;

/* 1 when `ino` is `dir` or lies above it. */
static int above(vx_fs *fs, uint64_t ino, vx_inode *dir)
{
    for (int depth = 0; depth < 1 << 20; depth++) {
        if (dir->a.ino == ino)
            return 1;
        if (dir->a.ino == VX_ROOT_INO || vx_inode_get(fs, dir->parent, &dir))
            return 0;
    }
    return 1;
}

/* In the order in which Linux checks: where the two stand first, then the rights, then what they are. */
static int rename_check(vx_fs *fs, const vx_cred *c, const rename_t *r, uint32_t flags)
{
    int dir = S_ISDIR(r->i->a.mode), exchange = flags & VX_RENAME_EXCHANGE;
    if (r->over && (flags & VX_RENAME_NOREPLACE))
        return -EEXIST;
    if (exchange && !r->over)
        return -ENOENT;
    if (dir && above(fs, r->i->a.ino, r->to))
        return -EINVAL;
    if (r->over && S_ISDIR(r->over->a.mode) && above(fs, r->over->a.ino, r->from))
        return exchange ? -EINVAL : -ENOTEMPTY;
    int rc = vx_sticky(c, r->from, r->i);
    if (!rc && r->over)
        rc = vx_sticky(c, r->to, r->over);
    if (rc)
        return rc;
    if (r->over && !exchange) {
        if (dir && !S_ISDIR(r->over->a.mode))
            return -ENOTDIR;
        if (!dir && S_ISDIR(r->over->a.mode))
            return -EISDIR;
        if (dir && r->over->a.size)
            return -ENOTEMPTY;
    }
    if (dir && r->from != r->to) {
        if (r->to->a.nlink >= VX_LINK_MAX && !r->over)
            return -EMLINK;
        return vx_may(c, r->i, 2);
    }
    return 0;
}

static void move_to(vx_fs *fs, vx_inode *i, vx_inode *from, vx_inode *to, vx_dentry *d, int64_t now)
{
    vx_dentry_set(fs, to, d, i->a.ino, i->a.mode & S_IFMT);
    i->a.ctime_ns = now;
    vx_inode_dirty(fs, i);
    if (S_ISDIR(i->a.mode) && from != to) {
        from->a.nlink--;
        to->a.nlink++;
    }
}

static void rename_apply(vx_fs *fs, const vx_cred *c, const rename_t *r, uint32_t flags, int64_t now)
{
    if (flags & VX_RENAME_EXCHANGE) {
        move_to(fs, r->over, r->to, r->from, r->src, now);
        move_to(fs, r->i, r->from, r->to, r->dst, now);
    } else {
        vx_inode *over = r->over;
        vx_dentry_set(fs, r->from, r->src, 0, 0);
        r->from->a.size--;
        move_to(fs, r->i, r->from, r->to, r->dst, now);
        r->to->a.size++;
        if (over)
            vx_drop_name(fs, c, r->to, r->dst, over, now);
    }
    vx_touch(fs, r->from, now, 0);
    vx_touch(fs, r->to, now, 0);
    vx_rows_named(fs, r->i, r->from->a.ino, r->src, r->dst);
    if (flags & VX_RENAME_EXCHANGE)
        vx_rows_named(fs, r->over, r->to->a.ino, r->dst, r->src);
}

static int rename_find(vx_fs *fs, const vx_cred *c, rename_t *r, uint64_t parent, const char *name, size_t n,
                       uint64_t new_parent, const char *new_name, size_t new_n)
{
    int rc = vx_change_begin(fs, c, parent, name, n, &r->from, &r->src);
    if (!rc)
        rc = vx_change_begin(fs, c, new_parent, new_name, new_n, &r->to, &r->dst);
    if (!rc)
        rc = r->src->ino ? vx_inode_get(fs, r->src->ino, &r->i) : -ENOENT;
    if (!rc && r->dst->ino)
        rc = vx_inode_get(fs, r->dst->ino, &r->over);
    return rc;
}

int vx_fs_rename(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint64_t new_parent,
                 const char *new_name, size_t new_n, uint32_t flags)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_RENAME);
    rename_t r = {.over = NULL};
    int rc = vx_make_room(fs);
    if (!rc)
        rc = vx_name_check(name, n);
    if (!rc)
        rc = vx_new_name_check(new_name, new_n);
    if (rc == -EEXIST || (!rc && (is_dot(name, n) || is_dotdot(name, n))))
        rc = -EINVAL;
    if (!rc && ((flags & ~7u) || ((flags & VX_RENAME_EXCHANGE) && flags != VX_RENAME_EXCHANGE)))
        rc = -EINVAL;
    if (!rc)
        rc = rename_find(fs, c, &r, parent, name, n, new_parent, new_name, new_n);
    if (!rc && r.over == r.i && !(flags & VX_RENAME_NOREPLACE))
        return vx_op_leave(fs, &f, 0); /* two names of one file: nothing to do */
    if (!rc)
        rc = rename_check(fs, c, &r, flags);
    if (!rc && (flags & VX_RENAME_WHITEOUT))
        rc = vx_whiteout_make(fs, c, r.from, &r.white);
    if (!rc) {
        int64_t now = vx_now();
        uint64_t ino = r.i->a.ino;
        vx_oplog(fs, VX_LOG_RENAME, ino, parent, new_parent, flags & ~(uint32_t)VX_RENAME_WHITEOUT, now, name, n, new_name,
                 new_n);
        rename_apply(fs, c, &r, flags, now);
        if (r.white)
            vx_whiteout_name(fs, c, r.from, r.src, name, n, r.white);
        vx_event_entry(fs, c, parent, name, n);
        vx_event_entry(fs, c, new_parent, new_name, new_n);
        vx_event_inode(fs, c, ino, 0);
        vx_mutated(fs, ino);
    }
    return vx_op_leave(fs, &f, rc);
}
