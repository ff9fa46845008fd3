/* The attribute user.vexfs.vector: read and written as others are, but kept as rows of the index that covers the file. */
#include <errno.h>
#include <string.h>

#include "vexfs/commit.h"

int vx_is_vector(const char *name, size_t n)
{
    return n == sizeof VX_VECTOR_NAME - 1 && !memcmp(name, VX_VECTOR_NAME, n);
}

static const vx_row *first_row(const vx_fs *fs, uint64_t ino)
{
    uint64_t at = vx_rows_find(fs, ino);
    return at ? &fs->tables[(at >> 32) - 1]->row[(uint32_t)at] : NULL;
}

/* What was made of the content is made again wherever the content is copied to. */
int vx_vector_listed(const vx_fs *fs, uint64_t ino)
{
    const vx_row *r = first_row(fs, ino);
    return r && !(r->flags & VX_ROW_CONTENT);
}

static void leave(vx_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    if (!--fs->in_vector)
        pthread_cond_broadcast(&fs->changed);
}

int64_t vx_vector_get(vx_fs *fs, const vx_inode *i, void *value, size_t cap)
{
    vx_vector_hooks h = fs->vector;
    uint64_t ino = i->a.ino;
    if (!h.get || (!first_row(fs, ino) && !fs->moved_n))
        return -ENODATA;
    fs->in_vector++;
    pthread_mutex_unlock(&fs->lock);
    int64_t rc = h.get(h.ctx, ino, value, cap);
    leave(fs);
    return rc;
}

int vx_vector_set(vx_fs *fs, const vx_inode *i, const void *value, size_t n, uint32_t flags)
{
    vx_vector_hooks h = fs->vector;
    uint64_t ino = i->a.ino;
    int has = first_row(fs, ino) != NULL;
    if (!h.set)
        return -EOPNOTSUPP; /* no index covers anything */
    if (!S_ISREG(i->a.mode))
        return -EPERM;
    if ((has && (flags & VX_XATTR_CREATE)) || (!has && ((flags & VX_XATTR_REPLACE) || !value)))
        return has ? -EEXIST : -ENODATA;
    fs->in_vector++;
    pthread_mutex_unlock(&fs->lock);
    int rc = h.set(h.ctx, ino, value, n);
    leave(fs);
    return rc;
}

void vx_fs_vector_hooks(vx_fs *fs, const vx_vector_hooks *hooks)
{
    pthread_mutex_lock(&fs->lock);
    if (hooks)
        fs->vector = *hooks;
    else
        memset(&fs->vector, 0, sizeof fs->vector);
    while (!hooks && fs->in_vector)
        pthread_cond_wait(&fs->changed, &fs->lock);
    pthread_mutex_unlock(&fs->lock);
}
