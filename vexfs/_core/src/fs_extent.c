/* Extent maps: which bytes of a file lie where.
 *
 * A file's map is cut into regions of 1 MiB; a region's extents are sorted, never overlap, and are stored as one row.
 * Overlaps are resolved when a map is changed, so that a read never has to. */
#include <errno.h>
#include <string.h>

#include "vexfs/engine.h"

enum { MAP_VERSION = 1, MAP_HEADER = 8 };
_Static_assert(sizeof(vx_extent) == 24, "the extent is a format: docs/format.md");

size_t vx_extents_bytes(uint32_t n)
{
    return MAP_HEADER + (size_t)n * sizeof(vx_extent);
}

void vx_extents_pack(const vx_extent *ext, uint32_t n, char *out)
{
    uint8_t head[MAP_HEADER] = {MAP_VERSION, 0, 0, 0, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), 0};
    memcpy(out, head, sizeof head);
    if (n)
        memcpy(out + MAP_HEADER, ext, n * sizeof *ext);
}

int vx_extents_unpack(const void *data, size_t n, vx_extent **ext, uint32_t *count, uint32_t *cap)
{
    const uint8_t *p = data;
    if (n < MAP_HEADER || p[0] != MAP_VERSION)
        return -EBADMSG;
    uint32_t k = p[4] | (uint32_t)p[5] << 8 | (uint32_t)p[6] << 16;
    if (n != vx_extents_bytes(k) || k > VX_REGION)
        return -EBADMSG;
    vx_extent *e = malloc((k ? k : 1) * sizeof *e);
    if (!e)
        return -ENOMEM;
    memcpy(e, p + MAP_HEADER, k * sizeof *e);
    uint64_t end = 0;
    for (uint32_t j = 0; j < k; j++) {
        if (e[j].off < end || !e[j].len || (uint64_t)e[j].off + e[j].len > VX_REGION ||
            (uint64_t)e[j].skip + e[j].len > VX_FRAME_MAX) {
            free(e);
            return -EBADMSG;
        }
        end = (uint64_t)e[j].off + e[j].len;
    }
    *ext = e;
    *count = k;
    *cap = k ? k : 1;
    return 0;
}

/* -- regions --------------------------------------------------------------------------------------------------- */

static uint64_t key_of(const vx_inode *i, uint32_t index)
{
    return i->a.ino << 24 | index;
}

static void lru_push(vx_fs *fs, vx_region *r)
{
    r->lprev = NULL;
    r->lnext = fs->region_head;
    if (fs->region_head)
        fs->region_head->lprev = r;
    else
        fs->region_tail = r;
    fs->region_head = r;
}

static void lru_remove(vx_fs *fs, vx_region *r)
{
    if (r->lprev)
        r->lprev->lnext = r->lnext;
    else
        fs->region_head = r->lnext;
    if (r->lnext)
        r->lnext->lprev = r->lprev;
    else
        fs->region_tail = r->lprev;
}

int vx_region_load(vx_fs *fs, vx_region *r)
{
    if (r->loaded)
        return 0;
    vx_inode *i = r->inode;
    if ((i->flags & VX_I_NEW) || r->index >= i->map_floor) {
        r->loaded = 1;
        return 0;
    }
    vx_meta_latest(fs);
    const void *data;
    size_t n;
    int rc = vx_meta_get_map(fs->meta, i->a.ino, r->index, &data, &n);
    if (rc == -ENOENT)
        rc = 0;
    else if (!rc)
        rc = vx_extents_unpack(data, n, &r->ext, &r->ext_n, &r->ext_cap);
    if (!rc)
        r->loaded = 1;
    return rc;
}

int vx_region_get(vx_fs *fs, vx_inode *i, uint32_t index, int load, vx_region **out)
{
    vx_region *r = i->last && i->last->index == index ? i->last
                                                      : (vx_region *)vx_hmap_get(&fs->regions, key_of(i, index));
    if (!r) {
        r = calloc(1, sizeof *r);
        if (!r)
            return -ENOMEM;
        r->inode = i;
        r->index = index;
        if (vx_hmap_put(&fs->regions, key_of(i, index), (uintptr_t)r)) {
            free(r);
            return -ENOMEM;
        }
        r->next = i->regions;
        if (r->next)
            r->next->prev = r;
        i->regions = r;
        lru_push(fs, r);
        fs->nregions++;
    } else if (i->last != r) {
        lru_remove(fs, r);
        lru_push(fs, r);
    }
    i->last = r;
    *out = r;
    return load ? vx_region_load(fs, r) : 0;
}

void vx_region_drop(vx_fs *fs, vx_region *r)
{
    vx_inode *i = r->inode;
    vx_pages_free(fs, r, &r->dirty, 0, VX_REGION_PAGES);
    if (r->prev)
        r->prev->next = r->next;
    else
        i->regions = r->next;
    if (r->next)
        r->next->prev = r->prev;
    if (i->last == r)
        i->last = NULL;
    lru_remove(fs, r);
    vx_hmap_del(&fs->regions, key_of(i, r->index));
    fs->nregions--;
    free(r->ext);
    free(r);
}

void vx_region_evict(vx_fs *fs, vx_region *r)
{
    if (r->dirty || r->frozen || r->inode->refs || r->inode->pin_epoch > fs->committed) {
        lru_remove(fs, r);
        lru_push(fs, r);
    } else {
        vx_region_drop(fs, r);
    }
}

/* -- the map --------------------------------------------------------------------------------------------------- */

/* The index of the first extent that ends behind `off`. */
static uint32_t find(const vx_region *r, uint32_t off)
{
    uint32_t lo = 0, hi = r->ext_n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (r->ext[mid].off + r->ext[mid].len > off)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

const vx_extent *vx_extents_at(const vx_region *r, uint32_t off, uint32_t *hole)
{
    uint32_t k = find(r, off);
    if (k == r->ext_n) {
        *hole = VX_REGION - off;
        return NULL;
    }
    if (r->ext[k].off > off) {
        *hole = r->ext[k].off - off;
        return NULL;
    }
    *hole = 0;
    return &r->ext[k];
}

static void account(vx_fs *fs, vx_region *r, uint32_t seg, int64_t bytes)
{
    vx_segment_live(fs, seg, bytes, 0, 0);
    r->inode->alloc += (uint64_t)bytes;
    fs->used_bytes += (uint64_t)bytes;
}

static int reserve(vx_region *r, uint32_t more)
{
    if (r->ext_n + more <= r->ext_cap)
        return 0;
    uint32_t cap = (r->ext_n + more) * 2;
    vx_extent *e = realloc(r->ext, cap * sizeof *e);
    if (!e)
        return -ENOMEM;
    r->ext = e;
    r->ext_cap = cap;
    return 0;
}

/* Removes the bytes from..to from the map; room for one more extent was reserved. */
static void punch(vx_fs *fs, vx_region *r, uint32_t from, uint32_t to)
{
    uint32_t k = find(r, from);
    vx_frame_mark();
    if (k < r->ext_n && r->ext[k].off < from) {
        vx_extent *e = &r->ext[k];
        uint32_t end = e->off + e->len;
        if (end > to) { /* split in two */
            memmove(e + 2, e + 1, (r->ext_n - k - 1) * sizeof *e);
            e[1] = e[0];
            e[1].off = to;
            e[1].len = end - to;
            e[1].skip += to - e->off;
            e[0].len = from - e->off;
            r->ext_n++;
            account(fs, r, e->seg, -(int64_t)(to - from));
            return;
        }
        account(fs, r, e->seg, -(int64_t)(end - from));
        e->len = from - e->off;
        k++;
    }
    uint32_t first = k;
    while (k < r->ext_n && r->ext[k].off + r->ext[k].len <= to) {
        account(fs, r, r->ext[k].seg, -(int64_t)r->ext[k].len);
        k++;
    }
    if (k < r->ext_n && r->ext[k].off < to) {
        vx_extent *e = &r->ext[k];
        uint32_t gone = to - e->off;
        account(fs, r, e->seg, -(int64_t)gone);
        e->off += gone;
        e->skip += gone;
        e->len -= gone;
    }
    memmove(&r->ext[first], &r->ext[k], (r->ext_n - k) * sizeof *r->ext);
    r->ext_n -= k - first;
}

int vx_extents_lay(vx_fs *fs, vx_region *r, const vx_extent *e)
{
    int rc = reserve(r, 2);
    if (rc)
        return rc;
    punch(fs, r, e->off, e->off + e->len);
    uint32_t k = find(r, e->off);
    memmove(&r->ext[k + 1], &r->ext[k], (r->ext_n - k) * sizeof *r->ext);
    r->ext[k] = *e;
    r->ext_n++;
    account(fs, r, e->seg, e->len);
    return 0;
}

int vx_extents_cut(vx_fs *fs, vx_region *r, uint32_t from, uint32_t to)
{
    int rc = vx_region_load(fs, r);
    if (!rc && r->ext_n && to < VX_REGION)
        rc = reserve(r, 1);
    if (!rc && r->ext_n)
        punch(fs, r, from, to);
    return rc;
}

typedef struct {
    vx_fs *fs;
    vx_inode *i;
    int sign;
    uint32_t rows, most;
} forget_t;

/* A committed map that memory has not loaded: its bytes are dead from now on (sign -1), or alive after all. */
static int forget_row(void *ctx, uint32_t index, const void *data, size_t n)
{
    forget_t *f = ctx;
    if (index >= f->i->map_floor || f->rows == f->most)
        return 1;
    f->rows++;
    vx_region *r = (vx_region *)vx_hmap_get(&f->fs->regions, key_of(f->i, index));
    if (r && r->loaded)
        return 0;
    vx_region row = {.inode = f->i};
    if (!vx_extents_unpack(data, n, &row.ext, &row.ext_n, &row.ext_cap)) {
        for (uint32_t k = 0; k < row.ext_n; k++)
            account(f->fs, &row, row.ext[k].seg, f->sign * (int64_t)row.ext[k].len);
        free(row.ext);
    }
    return 0;
}

int vx_extents_forget(vx_fs *fs, vx_inode *i, uint32_t from)
{
    if (i->flags & VX_I_MAPPED) {
        vx_meta_latest(fs);
        forget_t f = {.fs = fs, .i = i, .sign = -1, .most = UINT32_MAX};
        int rc = vx_meta_scan_maps(fs->meta, i->a.ino, from, forget_row, &f);
        if (rc < 0) { /* nothing is forgotten: a segment that these maps still name must not seem empty */
            forget_t back = {.fs = fs, .i = i, .sign = 1, .most = f.rows};
            (void)vx_meta_scan_maps(fs->meta, i->a.ino, from, forget_row, &back);
            return rc;
        }
    }
    for (vx_region *r = i->regions; r; r = r->next) {
        if (r->index < from)
            continue;
        vx_pages_free(fs, r, &r->dirty, 0, VX_REGION_PAGES);
        for (uint32_t k = 0; k < r->ext_n; k++)
            account(fs, r, r->ext[k].seg, -(int64_t)r->ext[k].len);
        r->ext_n = 0;
        r->loaded = 1;
    }
    return 0;
}

void vx_segment_live(vx_fs *fs, uint32_t seg, int64_t live, int64_t total, uint64_t used)
{
    vx_segment_row *s = (vx_segment_row *)vx_hmap_get(&fs->segments, seg);
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s || vx_hmap_put(&fs->segments, seg, (uintptr_t)s)) {
            free(s);
            return; /* accounting only: fsck and the next open count again */
        }
        s->seg = seg;
    }
    s->epoch = fs->epoch;
    s->raw_live += (uint64_t)live;
    if (!fs->placing)
        s->running += live;
    s->raw_total += (uint64_t)total;
    if (used > s->used)
        s->used = used;
    s->dirty = 1;
}

/* -- where something is ------------------------------------------------------------------------------------------ */

static int has_data(const vx_region *r)
{
    return r->ext_n || r->dirty || r->frozen;
}

typedef struct {
    vx_fs *fs;
    const vx_inode *i;
    uint32_t found;
} next_t;

/* A committed map counts where memory knows no better. */
static int next_row(void *ctx, uint32_t index, const void *data, size_t n)
{
    next_t *t = ctx;
    (void)data;
    (void)n;
    if (index >= t->i->map_floor || index >= t->found)
        return 1;
    const vx_region *r = (const vx_region *)vx_hmap_get(&t->fs->regions, key_of(t->i, index));
    if (r && r->loaded && !has_data(r))
        return 0;
    t->found = index;
    return 1;
}

int64_t vx_region_next(vx_fs *fs, vx_inode *i, uint32_t from)
{
    if (from >= VX_REGIONS) /* its key would be one of the next file's */
        return VX_REGIONS;
    vx_region *first;
    int rc = vx_region_get(fs, i, from, 1, &first);
    if (rc || has_data(first))
        return rc ? rc : (int64_t)from;
    next_t t = {.fs = fs, .i = i, .found = VX_REGIONS};
    for (const vx_region *r = i->regions; r; r = r->next)
        if (r->index > from && r->index < t.found && has_data(r))
            t.found = r->index;
    if (!(i->flags & VX_I_NEW) && from + 1 < VX_REGIONS) {
        vx_meta_latest(fs);
        rc = vx_meta_scan_maps(fs->meta, i->a.ino, from + 1, next_row, &t);
    }
    return rc < 0 ? rc : (int64_t)t.found;
}
