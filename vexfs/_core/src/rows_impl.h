/* Shared by the files of row tables. */
#ifndef VEXFS_SRC_ROWS_IMPL_H
#define VEXFS_SRC_ROWS_IMPL_H

#include "vexfs/commit.h"

enum { VX_PAGE_ROWS = VX_TABLE_PAGE / sizeof(vx_row) };

static inline size_t vx_image_bytes(uint32_t rows)
{
    return VX_TABLE_PAGE + (size_t)rows * sizeof(vx_row);
}

static inline int vx_row_searched(const vx_row *r)
{
    return r->ino && !(r->flags & (VX_ROW_STALE | VX_ROW_AWAY));
}

/* The row goes out of use. */
static inline void vx_row_tell(const vx_table *t, uint32_t row)
{
    for (uint32_t k = 0; k < VX_TABLE_WATCHERS; k++)
        if (t->gone[k])
            t->gone[k](t->ctx[k], row);
}

/* The moment at which a row was last given to another file. */
static inline uint32_t vx_row_given(const vx_table *t, uint32_t row)
{
    return row < t->given_cap ? t->given[row] : 0;
}
/* Counts the rows of one file, which come and go together, in (1) or out (-1). */
void vx_rows_count(vx_table *t, const vx_row *first, int by);
int vx_rows_grow(vx_table *t, uint32_t need);
int vx_row_free(vx_table *t, uint32_t row);
void vx_moved_push(vx_fs *fs, uint64_t ino);
/* A directory moved, or an index came or went over it: every row below it may belong elsewhere now. */
void vx_rows_rehome(vx_fs *fs, uint64_t top);
int vx_table_freeze(vx_fs *fs, vx_table *t);
void vx_rows_flag(vx_table *t, uint32_t first, uint32_t flag, int on);
#endif
