/* The content of small files and of symbolic links: up to VX_INLINE_MAX bytes, in one piece beside the inode.
 *
 * Up to VX_ROW_INLINE bytes it lies in the inode's row and is in memory whenever the inode is.  Longer content has a row
 * of its own: whoever looks at names and attributes does not read it, and memory may give it up and keep the inode. */
#include <errno.h>
#include <string.h>

#include "vexfs/engine.h"

/* -- what memory may give up: content that is committed, most recently used first --------------------------------- */

static void list(vx_fs *fs, vx_inode *i)
{
    i->flags |= VX_I_INL_LISTED;
    i->iprev = NULL;
    i->inext = fs->inline_head;
    if (fs->inline_head)
        fs->inline_head->iprev = i;
    else
        fs->inline_tail = i;
    fs->inline_head = i;
}

static void unlist(vx_fs *fs, vx_inode *i)
{
    if (!(i->flags & VX_I_INL_LISTED))
        return;
    i->flags &= ~(uint32_t)VX_I_INL_LISTED;
    if (i->iprev)
        i->iprev->inext = i->inext;
    else
        fs->inline_head = i->inext;
    if (i->inext)
        i->inext->iprev = i->iprev;
    else
        fs->inline_tail = i->iprev;
}

/* Thousands of them live at a time, as long as memory likes: they are sized to fit, and not the pools'. */
int vx_inline_room(vx_fs *fs, vx_inode *i, size_t n)
{
    if (n <= i->inl_cap)
        return 0;
    uint32_t cap = i->inl_cap ? (uint32_t)n * 2 : ((uint32_t)n + 63) & ~63u;
    cap = cap > VX_INLINE_MAX ? VX_INLINE_MAX : cap;
    char *p = realloc(i->inl, cap);
    if (!p)
        return -ENOMEM;
    fs->inline_bytes += cap - i->inl_cap;
    i->inl = p;
    i->inl_cap = cap;
    return 0;
}

static void release(vx_fs *fs, vx_inode *i)
{
    unlist(fs, i);
    fs->inline_bytes -= i->inl_cap;
    free(i->inl);
    i->inl = NULL;
    i->inl_cap = 0;
}

void vx_inline_free(vx_fs *fs, vx_inode *i)
{
    release(fs, i);
    i->inl_n = 0;
}

void vx_inline_clean(vx_fs *fs, vx_inode *i)
{
    if (i->inl && (i->flags & VX_I_APART) && !(i->flags & (VX_I_INL_DIRTY | VX_I_INL_LISTED)))
        list(fs, i);
}

void vx_inline_dirty(vx_fs *fs, vx_inode *i)
{
    unlist(fs, i);
    if (!(i->flags & VX_I_INL_DIRTY))
        fs->dirty_inline += VX_INLINE_MAX;
    i->flags |= VX_I_INL_DIRTY;
}

int vx_inline_load(vx_fs *fs, vx_inode *i)
{
    if (i->inl || !i->inl_n) {
        if (i->flags & VX_I_INL_LISTED) {
            unlist(fs, i);
            list(fs, i);
        } else {
            vx_inline_clean(fs, i);
        }
        return 0;
    }
    const void *data;
    size_t n;
    vx_frame_mark();
    vx_meta_latest(fs);
    int rc = vx_meta_get_content(fs->meta, i->a.ino, &data, &n);
    if (rc)
        return rc == -ENOENT ? -EBADMSG : rc;
    if (n != i->inl_n)
        return -EBADMSG;
    rc = vx_inline_room(fs, i, n);
    if (rc)
        return rc;
    memcpy(i->inl, data, n);
    list(fs, i);
    return 0;
}

static void give_up(vx_fs *fs, vx_inode *i)
{
    if (i->pin_epoch <= fs->committed && !i->refs)
        release(fs, i);
    else
        unlist(fs, i); /* listed anew when it is committed or used again */
}

void vx_inline_shrink(vx_fs *fs)
{
    size_t left = vx_shrink_steps((size_t)(fs->inline_bytes - VX_INLINE_CACHE) / VX_INLINE_MAX);
    for (; left && fs->inline_bytes > VX_INLINE_CACHE && fs->inline_tail; left--)
        give_up(fs, fs->inline_tail);
}

void vx_inline_drop(vx_fs *fs)
{
    while (fs->inline_tail)
        give_up(fs, fs->inline_tail);
}
