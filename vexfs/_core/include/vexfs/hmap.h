/* An open-addressing map from a 64-bit key to a pointer-sized value: linear probing, backward-shift deletion.
 * Values are never 0.  Growth doubles at 3/4 load; put answers -ENOMEM and leaves the map as it was. */
#ifndef VEXFS_HMAP_H
#define VEXFS_HMAP_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
    uint64_t key;
    uintptr_t value; /* 0: empty */
} vx_hcell;

typedef struct {
    vx_hcell *cells;
    size_t mask, used;
} vx_hmap;

static inline size_t vx_hmap_home(const vx_hmap *m, uint64_t key)
{
    uint64_t x = key * 0x9E3779B97F4A7C15ull;
    return (size_t)(x ^ (x >> 32)) & m->mask;
}

static inline int vx_hmap_init(vx_hmap *m, size_t cells)
{
    m->cells = calloc(cells, sizeof *m->cells);
    m->mask = cells - 1;
    m->used = 0;
    return m->cells ? 0 : -ENOMEM;
}

static inline uintptr_t vx_hmap_get(const vx_hmap *m, uint64_t key)
{
    for (size_t i = vx_hmap_home(m, key);; i = (i + 1) & m->mask) {
        if (!m->cells[i].value)
            return 0;
        if (m->cells[i].key == key)
            return m->cells[i].value;
    }
}

static inline int vx_hmap_reserve(vx_hmap *m, size_t more);

static inline int vx_hmap_put(vx_hmap *m, uint64_t key, uintptr_t value)
{
    if ((m->used + 1) * 4 > (m->mask + 1) * 3 && vx_hmap_reserve(m, 1))
        return -ENOMEM;
    size_t i = vx_hmap_home(m, key);
    while (m->cells[i].value && m->cells[i].key != key)
        i = (i + 1) & m->mask;
    if (!m->cells[i].value)
        m->used++;
    m->cells[i].key = key;
    m->cells[i].value = value;
    return 0;
}

/* Room for `more` keys beside those there, so that putting them does not grow the map step by step. */
static inline int vx_hmap_reserve(vx_hmap *m, size_t more)
{
    size_t cells = m->mask + 1;
    vx_hmap bigger;
    while ((m->used + more + 1) * 4 > cells * 3)
        cells *= 2;
    if (cells == m->mask + 1)
        return 0;
    if (vx_hmap_init(&bigger, cells))
        return -ENOMEM;
    for (size_t i = 0; i <= m->mask; i++)
        if (m->cells[i].value)
            (void)vx_hmap_put(&bigger, m->cells[i].key, m->cells[i].value);
    free(m->cells);
    *m = bigger;
    return 0;
}

static inline void vx_hmap_del(vx_hmap *m, uint64_t key)
{
    size_t i = vx_hmap_home(m, key);
    while (m->cells[i].value && m->cells[i].key != key)
        i = (i + 1) & m->mask;
    if (!m->cells[i].value)
        return;
    m->used--;
    for (size_t j = i;;) {
        j = (j + 1) & m->mask;
        if (!m->cells[j].value)
            break;
        size_t home = vx_hmap_home(m, m->cells[j].key);
        if (((j - home) & m->mask) >= ((j - i) & m->mask)) {
            m->cells[i] = m->cells[j];
            i = j;
        }
    }
    m->cells[i].value = 0;
}
#endif
