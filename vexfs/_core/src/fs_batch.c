/* The record of an epoch's metadata changes, and the outbox. */
#include <errno.h>
#include <string.h>

#include "vexfs/engine.h"

typedef struct {
    uint32_t kind, type;
    uint64_t a, c, d;
    uint64_t n;
} record_t;

static char *room(vx_batch *b, size_t n)
{
    if (b->n + n > b->cap) {
        size_t cap = (b->n + n) * 2 + 4096;
        char *p = realloc(b->data, cap);
        if (!p) {
            b->failed = 1;
            return NULL;
        }
        b->data = p;
        b->cap = cap;
    }
    char *p = b->data + b->n;
    b->n += n;
    return p;
}

size_t vx_batch_put(vx_batch *b, uint32_t kind, uint64_t a, uint64_t c, uint64_t d, uint32_t type, const void *data,
                    size_t n)
{
    record_t r = {.kind = kind, .type = type, .a = a, .c = c, .d = d, .n = n};
    char *p = room(b, sizeof r + n);
    if (!p)
        return 0;
    memcpy(p, &r, sizeof r);
    if (data && n)
        memcpy(p + sizeof r, data, n);
    return b->n - n;
}

static int apply_one(vx_meta *m, const record_t *r, const char *data)
{
    size_t n = (size_t)r->n;
    switch (r->kind) {
    case VX_B_INODE:
        return vx_meta_put_inode(m, r->a, data, n);
    case VX_B_INODE_GONE:
        return vx_meta_del_inode(m, r->a, (uint32_t)r->c);
    case VX_B_DENTRY:
        return vx_meta_put_dentry(m, r->a, r->c, r->d, r->type, data, n);
    case VX_B_DENTRY_GONE:
        return vx_meta_del_dentry(m, r->a, r->c);
    case VX_B_MAP:
        return vx_meta_put_map(m, r->a, (uint32_t)r->c, data, n);
    case VX_B_MAP_GONE:
        return vx_meta_del_map(m, r->a, (uint32_t)r->c);
    case VX_B_CUT:
        return vx_meta_del_maps(m, r->a, (uint32_t)r->c);
    case VX_B_XATTR:
        return vx_meta_put_xattr(m, r->a, data, n);
    case VX_B_XATTR_GONE:
        return vx_meta_del_xattr(m, r->a);
    case VX_B_CONTENT:
        return vx_meta_put_content(m, r->a, data, n);
    case VX_B_CONTENT_GONE:
        return vx_meta_del_content(m, r->a);
    case VX_B_ORPHAN:
        return vx_meta_put_orphan(m, r->a);
    case VX_B_ORPHAN_GONE:
        return vx_meta_del_orphan(m, r->a);
    case VX_B_SEGMENT:
        return vx_meta_put_segment(m, (uint32_t)r->a, data, n);
    case VX_B_SEGMENT_GONE:
        return vx_meta_del_segment(m, (uint32_t)r->a);
    case VX_B_TAIL:
        return vx_meta_put_tail(m, (uint32_t)r->a, (uint32_t)r->c, data, n);
    case VX_B_TAILS_GONE:
        return vx_meta_clear_tails(m);
    case VX_B_INT:
        return vx_meta_put_int(m, data, (int64_t)r->a);
    default:
        return -EINVAL;
    }
}

int vx_batch_apply(vx_fs *fs, const vx_batch *b)
{
    int rc = 0;
    for (size_t at = 0; at < b->n && (!rc || rc == -ENOENT);) {
        record_t r;
        memcpy(&r, b->data + at, sizeof r);
        rc = apply_one(fs->meta, &r, b->data + at + sizeof r);
        at += sizeof r + r.n;
    }
    return rc == -ENOENT ? 0 : rc; /* what was to go had gone */
}

void vx_oplog(vx_fs *fs, int op, uint64_t ino, uint64_t a, uint64_t b, uint64_t c, int64_t time_ns, const void *x,
              size_t xn, const void *y, size_t yn)
{
    struct {
        uint32_t n;
        uint16_t op, xn;
        uint64_t ino, a, b, c;
        int64_t time_ns;
    } head = {.n = (uint32_t)(sizeof head + xn + yn), .op = (uint16_t)op, .xn = (uint16_t)xn, .ino = ino, .a = a, .b = b,
              .c = c, .time_ns = time_ns};
    char *p = room(&fs->oplog, head.n);
    if (!p)
        return; /* fails the epoch: room() set the flag */
    memcpy(p, &head, sizeof head);
    if (xn)
        memcpy(p + sizeof head, x, xn);
    if (yn)
        memcpy(p + sizeof head + xn, y, yn);
}
