/* Extended attributes: all of one inode packed in one row, loaded when first asked for.
 *
 * Entry: u32 value length, u8 name length, 3 zero bytes, name, value. */
#include <errno.h>
#include <string.h>

#include "vexfs/commit.h"

enum { HEAD = 8 };

int vx_xattr_load(vx_fs *fs, vx_inode *i)
{
    if ((i->flags & VX_I_XLOADED) || !(i->flags & VX_I_XATTR))
        return 0;
    vx_meta_latest(fs);
    const void *data;
    size_t n;
    int rc = vx_meta_get_xattr(fs->meta, i->a.ino, &data, &n);
    if (rc)
        return rc == -ENOENT ? -EBADMSG : rc;
    for (size_t at = 0; at < n;) { /* well formed to the end, or not used at all */
        uint32_t vn;
        if (n - at < HEAD)
            return -EBADMSG;
        memcpy(&vn, (const char *)data + at, 4);
        uint8_t nn = ((const uint8_t *)data)[at + 4];
        if (!nn || vn > VX_XATTR_VALUE_MAX || n - at - HEAD < (size_t)nn + vn)
            return -EBADMSG;
        at += HEAD + nn + vn;
    }
    i->xattr = malloc(n ? n : 1);
    if (!i->xattr)
        return -ENOMEM;
    memcpy(i->xattr, data, n);
    i->xattr_n = (uint32_t)n;
    fs->xattr_bytes += n;
    i->flags |= VX_I_XLOADED;
    return 0;
}

static size_t entry_bytes(const char *e)
{
    uint32_t vn;
    memcpy(&vn, e, 4);
    return HEAD + (uint8_t)e[4] + vn;
}

static char *find(const vx_inode *i, const char *name, size_t n)
{
    for (char *e = i->xattr; e && e < i->xattr + i->xattr_n; e += entry_bytes(e))
        if ((uint8_t)e[4] == n && !memcmp(e + HEAD, name, n))
            return e;
    return NULL;
}

static int name_check(const char *name, size_t n)
{
    if (!n)
        return -EINVAL;
    if (n > VX_NAME_MAX || memchr(name, 0, n))
        return n > VX_NAME_MAX ? -ERANGE : -EINVAL;
    if (n > 7 && !memcmp(name, "system.", 7))
        return -EOPNOTSUPP; /* no access control lists here */
    static const char *const spaces[] = {"user.", "trusted.", "security."};
    for (size_t k = 0; k < 3; k++) {
        size_t of = strlen(spaces[k]);
        if (n >= of && !memcmp(name, spaces[k], of))
            return n > of ? 0 : -EINVAL;
    }
    return -EOPNOTSUPP;
}

int64_t vx_fs_getxattr(vx_fs *fs, uint64_t ino, const char *name, size_t n, void *value, size_t cap)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_GETXATTR);
    vx_inode *i;
    int64_t rc = name_check(name, n);
    if (!rc)
        rc = vx_inode_get(fs, ino, &i);
    if (!rc && vx_is_vector(name, n)) {
        rc = vx_vector_get(fs, i, value, cap);
        vx_op_leave(fs, &f, 0);
        return rc;
    }
    if (!rc)
        rc = vx_xattr_load(fs, i);
    if (!rc) {
        const char *e = find(i, name, n);
        uint32_t vn = 0;
        if (e)
            memcpy(&vn, e, 4);
        rc = !e ? -ENODATA : cap && vn > cap ? -ERANGE : (int64_t)vn;
        if (rc > 0 && cap)
            memcpy(value, e + HEAD + n, vn);
    }
    vx_op_leave(fs, &f, rc < 0 ? (int)rc : 0);
    return rc;
}

int64_t vx_fs_listxattr(vx_fs *fs, uint64_t ino, char *buf, size_t cap)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_LISTXATTR);
    vx_inode *i;
    int64_t rc = vx_inode_get(fs, ino, &i);
    if (!rc)
        rc = vx_xattr_load(fs, i);
    if (!rc) {
        size_t total = 0;
        for (const char *e = i->xattr; e && e < i->xattr + i->xattr_n; e += entry_bytes(e)) {
            size_t nn = (uint8_t)e[4];
            if (cap && total + nn + 1 <= cap) {
                memcpy(buf + total, e + HEAD, nn);
                buf[total + nn] = 0;
            }
            total += nn + 1;
        }
        if (vx_vector_listed(fs, ino)) {
            if (cap && total + sizeof VX_VECTOR_NAME <= cap)
                memcpy(buf + total, VX_VECTOR_NAME, sizeof VX_VECTOR_NAME);
            total += sizeof VX_VECTOR_NAME;
        }
        rc = cap && total > cap ? -ERANGE : (int64_t)total;
    }
    vx_op_leave(fs, &f, rc < 0 ? (int)rc : 0);
    return rc;
}

/* Linux lists no more than 64 KiB of names, each with its zero; the vector's may come on top at any time. */
static size_t listed(const vx_inode *i)
{
    size_t total = sizeof VX_VECTOR_NAME;
    for (const char *e = i->xattr; e && e < i->xattr + i->xattr_n; e += entry_bytes(e))
        total += (size_t)(uint8_t)e[4] + 1;
    return total;
}

/* Whether a file's attributes would be more than it can have, one of them in the place of `old`. */
static int too_many(const vx_inode *i, const char *old, size_t n, size_t vn)
{
    const size_t total = i->xattr_n - (old ? entry_bytes(old) : 0) + HEAD + n + vn;
    return total > VX_XATTR_TOTAL_MAX ||
           (!old && total > VX_XATTR_LIST_MAX / 2 && listed(i) + n + 1 > VX_XATTR_LIST_MAX);
}

int vx_fs_xattrs_full(vx_fs *fs, uint64_t ino, const char *name, size_t n, size_t vn)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_GETXATTR);
    vx_inode *i;
    const int full = !vx_inode_get(fs, ino, &i) && !vx_xattr_load(fs, i) && too_many(i, find(i, name, n), n, vn);
    vx_op_leave(fs, &f, 0);
    return full;
}

/* The whole blob anew: without `old`, and with name = value behind when value is not NULL. */
static int rebuild(vx_fs *fs, vx_inode *i, const char *old, const char *name, size_t n, const void *value, size_t vn)
{
    vx_frame_mark();
    size_t gone = old ? entry_bytes(old) : 0, more = value ? HEAD + n + vn : 0;
    size_t total = i->xattr_n - gone + more;
    if (value && too_many(i, old, n, vn))
        return -ENOSPC;
    char *p = malloc(total ? total : 1);
    if (!p)
        return -ENOMEM;
    size_t before = old ? (size_t)(old - i->xattr) : i->xattr_n, after = i->xattr_n - before - gone;
    if (before)
        memcpy(p, i->xattr, before);
    if (after)
        memcpy(p + before, old + gone, after);
    if (value) {
        char *e = p + before + after;
        uint32_t vn32 = (uint32_t)vn;
        memset(e, 0, HEAD);
        memcpy(e, &vn32, 4);
        e[4] = (char)(uint8_t)n;
        memcpy(e + HEAD, name, n);
        if (vn)
            memcpy(e + HEAD + n, value, vn);
    }
    fs->dirty_inline += i->flags & VX_I_XDIRTY ? more : total; /* the commit holds a copy of the whole */
    free(i->xattr);
    fs->xattr_bytes += total - i->xattr_n;
    i->xattr = p;
    i->xattr_n = (uint32_t)total;
    i->flags |= VX_I_XDIRTY | VX_I_XLOADED;
    i->flags = total ? i->flags | VX_I_XATTR : i->flags & ~(uint32_t)VX_I_XATTR;
    i->a.ctime_ns = vx_now();
    vx_inode_dirty(fs, i);
    return 0;
}

int vx_xattr_check(const char *entries, size_t n)
{
    for (size_t at = 0; at < n;) {
        uint32_t vn;
        if (n - at < HEAD)
            return -EINVAL;
        memcpy(&vn, entries + at, 4);
        uint8_t nn = (uint8_t)entries[at + 4];
        if (vn > VX_XATTR_VALUE_MAX)
            return -E2BIG;
        if (n - at - HEAD < (size_t)nn + vn)
            return -EINVAL;
        int rc = name_check(entries + at + HEAD, nn);
        if (rc)
            return rc;
        at += HEAD + nn + vn;
    }
    return 0;
}

int vx_xattr_fits(const vx_inode *i, const char *entries, size_t n)
{
    const vx_inode none = {.xattr = NULL};
    i = i ? i : &none;
    size_t total = i->xattr_n;
    if (total + n <= VX_XATTR_LIST_MAX / 2)
        return 0;
    size_t names = listed(i);
    for (const char *e = entries; e < entries + n; e += entry_bytes(e)) {
        const size_t nn = (uint8_t)e[4];
        const char *old = find(i, e + HEAD, nn);
        total += entry_bytes(e) - (old ? entry_bytes(old) : 0);
        names += old ? 0 : nn + 1;
        if (total > VX_XATTR_TOTAL_MAX || names > VX_XATTR_LIST_MAX)
            return -ENOSPC;
    }
    return 0;
}

int vx_xattr_lay(vx_fs *fs, vx_inode *i, const char *entries, size_t n)
{
    int rc = vx_xattr_load(fs, i);
    for (size_t at = 0; at < n && !rc; at += entry_bytes(entries + at)) {
        const char *e = entries + at;
        uint32_t vn;
        memcpy(&vn, e, 4);
        size_t nn = (uint8_t)e[4];
        rc = rebuild(fs, i, find(i, e + HEAD, nn), e + HEAD, nn, e + HEAD + nn, vn);
        if (!rc)
            vx_oplog(fs, VX_LOG_SETXATTR, i->a.ino, 0, vn, 0, i->a.ctime_ns, e + HEAD, nn, NULL, 0);
    }
    return rc;
}

static int change_allowed(const vx_cred *c, const vx_inode *i, const char *name)
{
    if (!memcmp(name, "user.", 5) && !S_ISREG(i->a.mode) && !S_ISDIR(i->a.mode))
        return -EPERM;
    if (!c->check || !c->uid)
        return 0;
    if (memcmp(name, "user.", 5))
        return -EPERM;
    return vx_may(c, i, 2);
}

int vx_fs_setxattr(vx_fs *fs, const vx_cred *c, uint64_t ino, const char *name, size_t n, const void *value, size_t vn,
                   uint32_t flags)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_SETXATTR);
    vx_inode *i;
    const int room = vx_make_room(fs);
    int rc = fs->read_only ? -EROFS : vn > VX_XATTR_VALUE_MAX ? -E2BIG : name_check(name, n);
    if (!rc)
        rc = room;
    if (!rc)
        rc = vx_space_make(fs, VX_META_COST + vn);
    if (!rc)
        rc = vx_inode_get(fs, ino, &i);
    if (!rc)
        rc = change_allowed(c, i, name);
    if (!rc && vx_is_vector(name, n))
        return vx_op_leave(fs, &f, vx_vector_set(fs, i, value ? value : "", vn, flags));
    if (!rc)
        rc = vx_xattr_load(fs, i);
    if (!rc) {
        const char *old = find(i, name, n);
        rc = old && (flags & VX_XATTR_CREATE) ? -EEXIST : !old && (flags & VX_XATTR_REPLACE) ? -ENODATA : 0;
        if (!rc)
            rc = rebuild(fs, i, old, name, n, value ? value : "", vn);
    }
    if (!rc) {
        vx_rows_touched(fs, ino);
        vx_event_inode(fs, c, ino, 0);
        vx_oplog(fs, VX_LOG_SETXATTR, ino, flags, vn, 0, i->a.ctime_ns, name, n, NULL, 0);
        vx_mutated(fs, ino);
    }
    return vx_op_leave(fs, &f, rc);
}

int vx_fs_removexattr(vx_fs *fs, const vx_cred *c, uint64_t ino, const char *name, size_t n)
{
    vx_frame f;
    vx_op_enter(fs, &f, VX_OP_REMOVEXATTR);
    vx_inode *i;
    vx_throttle(fs);
    int rc = fs->read_only ? -EROFS : name_check(name, n);
    if (!rc)
        rc = vx_inode_get(fs, ino, &i);
    if (!rc)
        rc = change_allowed(c, i, name);
    if (!rc && vx_is_vector(name, n))
        return vx_op_leave(fs, &f, vx_vector_set(fs, i, NULL, 0, 0));
    if (!rc)
        rc = vx_xattr_load(fs, i);
    if (!rc) {
        const char *old = find(i, name, n);
        rc = old ? rebuild(fs, i, old, NULL, 0, NULL, 0) : -ENODATA;
    }
    if (!rc) {
        vx_rows_touched(fs, ino);
        vx_event_inode(fs, c, ino, 0);
        vx_oplog(fs, VX_LOG_REMOVEXATTR, ino, 0, 0, 0, i->a.ctime_ns, name, n, NULL, 0);
        vx_mutated(fs, ino);
    }
    return vx_op_leave(fs, &f, rc);
}
