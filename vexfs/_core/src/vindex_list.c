/* Inverted lists: how they take entries in and lose them; and the generations that they belong to. */
#include <errno.h>
#include <math.h>

#include "vindex_impl.h"
#include "vindex_shapes.h"

/* So much of a list's radius is added to its middle's score. */
#define REACH 0.3f
#define LIST_ALIGN 64

/* A piece given back holds the next one of its size. */
static void list_free(void *what)
{
    vx_list *l = what;
    if (!l)
        return;
    if (!l->arena) {
        free(l);
        return;
    }
    void **head = &l->arena->free[l->room / VX_BLOCK];
    *(void **)what = *head;
    *head = what;
}

static void *from_arena(vx_arena *arena, size_t bytes, uint32_t blocks)
{
    if (!arena || blocks >= VX_ARENA_SIZES)
        return NULL;
    void *piece = arena->free[blocks];
    if (piece) {
        arena->free[blocks] = *(void **)piece;
        return piece;
    }
    if (vx_span_grow(&arena->span, arena->used + bytes) != 0)
        return NULL;
    piece = arena->span.at + arena->used;
    arena->used += bytes;
    return piece;
}

vx_arena *vx_arena_new(const vx_vindex *v)
{
    vx_arena *arena = calloc(1, sizeof *arena);
    if (arena && vx_span_reserve(&arena->span, UINT32_MAX * v->block_bytes) != 0) {
        free(arena);
        arena = NULL;
    }
    return arena;
}

void vx_arena_free(void *what)
{
    vx_arena *arena = what;
    if (arena)
        vx_span_release(&arena->span);
    free(arena);
}

vx_list *vx_list_new(const vx_vindex *v, vx_arena *arena, uint32_t room)
{
    const uint32_t blocks = (room + VX_BLOCK - 1) / VX_BLOCK;
    const size_t rows = (size_t)blocks * VX_BLOCK * sizeof(uint32_t);
    const size_t bytes = sizeof(vx_list) + blocks * v->block_bytes + rows;
    vx_list *l = from_arena(arena, bytes, blocks);
    const int own = l == NULL;
    if (own)
        l = aligned_alloc(LIST_ALIGN, bytes);
    if (!l)
        return NULL;
    /* Readers scan whole blocks: what is not there yet has to be numbers, and of no row. */
    memset(l, 0, bytes - rows);
    memset((uint8_t *)l + bytes - rows, 0xff, rows);
    l->room = blocks * VX_BLOCK;
    l->bytes = bytes;
    l->arena = own ? NULL : arena;
    return l;
}

void vx_generation_free(void *what)
{
    vx_generation *g = what;
    if (!g)
        return;
    for (uint32_t i = 0; g->list && g->arena && i < g->lists; i++)
        list_free(atomic_load(&g->list[i]));
    free((void *)g->list);
    free(g->origin);
    free(g->centroid);
    free(g->square);
    free(g->radius);
    free(g->bias);
    free(g->coarse);
    free(g->coarse_step);
    free(g->signs);
    free(g->half);
    free(atomic_load(&g->settings));
    vx_arena_free(g->arena);
    vx_span_release(&g->place);
    vx_span_release(&g->fine);
    free(g);
}

vx_generation *vx_generation_new(const vx_vindex *v, uint32_t lists)
{
    vx_generation *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    const size_t values = (size_t)lists * v->padded, blocks = (lists + VX_BLOCK - 1) / VX_BLOCK;
    g->lists = lists;
    g->places = lists > 1 && v->keep ? VX_PLACES : 1;
    g->origin = calloc(v->padded, sizeof *g->origin);
    g->centroid = calloc(values, sizeof *g->centroid);
    g->square = calloc(lists, sizeof *g->square);
    g->radius = calloc(lists, sizeof *g->radius);
    g->bias = calloc(blocks * VX_BLOCK, sizeof *g->bias);
    g->half = calloc(blocks * VX_BLOCK, sizeof *g->half);
    g->arena = vx_arena_new(v);
    g->coarse = aligned_alloc(LIST_ALIGN, values);
    g->coarse_step = calloc(lists, sizeof *g->coarse_step);
    g->signs = aligned_alloc(LIST_ALIGN, (blocks * v->block_bytes + LIST_ALIGN - 1) / LIST_ALIGN * LIST_ALIGN);
    g->list = calloc(lists, sizeof *g->list);
    atomic_store(&g->settings, calloc(1, sizeof(vx_settings)));
    int status = vx_span_reserve(&g->place, (size_t)UINT32_MAX * VX_PLACES * sizeof(uint32_t));
    status = status ? status : vx_span_reserve(&g->fine, UINT32_MAX * v->fine_bytes);
    if (!g->arena || !g->origin || !g->centroid || !g->square || !g->radius || !g->bias || !g->half || !g->coarse ||
        !g->coarse_step || !g->signs || !g->list || !atomic_load(&g->settings) || status) {
        vx_generation_free(g);
        return NULL;
    }
    return g;
}

int vx_generation_reserve(const vx_vindex *v, vx_generation *g, uint64_t end)
{
    const int status = vx_span_grow(&g->place, end * VX_PLACES * sizeof(uint32_t));
    return status ? status : vx_span_grow(&g->fine, end * v->fine_bytes);
}

/* A list is as good as the best of its rows may be: its middle, and some of its radius.  A dot product's scale is the
 * query's own, so there the middle has to do. */
static float bias_of(const vx_vindex *v, const vx_generation *g, uint32_t l, float mean_radius)
{
    const float radius = g->radius[l];
    if (v->metric == VX_L2)
        return -0.5f * (g->square[l] + radius * radius) + REACH * radius * mean_radius;
    const float middle = vx_vkernels_in(v)->dot[VX_F32](g->centroid + (size_t)l * v->padded, g->origin, v->padded);
    return v->metric == VX_COSINE ? middle + REACH * radius : middle;
}

void vx_generation_finish(const vx_vindex *v, vx_generation *g)
{
    const vx_vkernels *k = vx_vkernels_in(v);
    const size_t padded = v->padded, blocks = (g->lists + VX_BLOCK - 1) / VX_BLOCK;
    memset(g->signs, 0, blocks * v->block_bytes);
    float mean_radius = 0;
    for (uint32_t l = 0; l < g->lists; l++)
        mean_radius += g->radius[l] / (float)g->lists;
    for (uint32_t l = 0; l < g->lists; l++) {
        const float *c = g->centroid + l * padded;
        uint8_t *block = g->signs + l / VX_BLOCK * v->block_bytes;
        float most = 0, sum = 0;
        for (size_t i = 0; i < padded; i++) {
            const float size = fabsf(c[i]);
            sum += size;
            most = size > most ? size : most;
            block[i / 8 * VX_BLOCK + l % VX_BLOCK] |= (uint8_t)((c[i] >= 0) << (i % 8));
        }
        const float inverse = most > VX_TINY ? 127 / most : 0;
        for (size_t i = 0; i < padded; i++)
            g->coarse[l * padded + i] = (uint8_t)(128 + (int)lrintf(c[i] * inverse));
        g->coarse_step[l] = most / 127;
        g->square[l] = k->dot[VX_F32](c, c, padded);
        g->half[l] = -0.5f * g->square[l];
        g->bias[l] = bias_of(v, g, l, mean_radius);
        vx_entries *e = (vx_entries *)(void *)(block + v->code_lines * VX_BLOCK);
        e->b[l % VX_BLOCK] = sum > 0 ? g->square[l] / sum : 0;
    }
}

static _Atomic uint32_t *row_at(const vx_vindex *v, const vx_list *l, uint32_t at)
{
    return vx_rows_of(v, l) + at;
}

static void set_entry(const vx_vindex *v, vx_list *l, uint32_t at, const vx_code *c, uint32_t row)
{
    const uint32_t i = at % VX_BLOCK;
    uint8_t *block = vx_block(v, l, at / VX_BLOCK);
    vx_entries *e = vx_entries_of(v, l, at / VX_BLOCK);
    for (size_t j = 0; j < v->code_lines; j++)
        block[j * VX_BLOCK + i] = c->lines[j];
    e->a[i] = c->a;
    e->b[i] = c->b;
    atomic_store_explicit(row_at(v, l, at), row, memory_order_relaxed);
}

static void move_entry(const vx_vindex *v, const vx_list *from, uint32_t at, vx_list *to, uint32_t into)
{
    const uint8_t *old = vx_block(v, from, at / VX_BLOCK) + at % VX_BLOCK;
    uint8_t *fresh = vx_block(v, to, into / VX_BLOCK) + into % VX_BLOCK;
    for (size_t j = 0; j < v->code_lines; j++)
        fresh[j * VX_BLOCK] = old[j * VX_BLOCK];
    const vx_entries *e = vx_entries_of(v, from, at / VX_BLOCK);
    vx_entries *n = vx_entries_of(v, to, into / VX_BLOCK);
    n->a[into % VX_BLOCK] = e->a[at % VX_BLOCK];
    n->b[into % VX_BLOCK] = e->b[at % VX_BLOCK];
    const uint32_t row = atomic_load_explicit(row_at(v, from, at), memory_order_relaxed);
    atomic_store_explicit(row_at(v, to, into), row, memory_order_relaxed);
}

static uint32_t *place_in(const vx_generation *g, uint32_t row, uint32_t list)
{
    uint32_t *place = vx_place(g, row);
    for (uint32_t i = 0; i < g->places; i++)
        if (place[i] == list + 1)
            return &place[i];
    return NULL;
}

/* An entry counts while its row is there and has its place in the list.  A row has one entry in a list at most. */
static int counts(vx_vindex *v, const vx_generation *g, uint32_t list, uint32_t row)
{
    return row != VX_VINDEX_NONE && vx_bit(&v->alive, row) && place_in(g, row, list);
}

uint32_t vx_list_dead(vx_vindex *v, vx_generation *g, uint32_t list)
{
    const vx_list *l = atomic_load(&g->list[list]);
    const uint32_t n = l ? atomic_load(&l->count) : 0;
    uint32_t dead = 0;
    for (uint32_t at = 0; at < n; at++)
        dead += !counts(v, g, list, atomic_load_explicit(row_at(v, l, at), memory_order_relaxed));
    return dead;
}

/* A copy of what counts, with room for `more`. */
static int replace_list(vx_vindex *v, vx_generation *g, uint32_t list, uint32_t more)
{
    vx_list *l = atomic_load(&g->list[list]);
    const uint32_t n = l ? atomic_load(&l->count) : 0;
    vx_list *fresh = vx_list_new(v, g->arena, n - vx_list_dead(v, g, list) + more);
    if (!fresh)
        return -ENOMEM;
    uint32_t into = 0;
    for (uint32_t at = 0; at < n; at++) {
        const uint32_t row = atomic_load_explicit(row_at(v, l, at), memory_order_relaxed);
        /* Once more: a row may have been removed since they were counted, but none can have come back. */
        if (counts(v, g, list, row)) {
            move_entry(v, l, at, fresh, into++);
            if (g->lists == 1)
                vx_place(g, row)[1] = into;
        } else if (row != VX_VINDEX_NONE) {
            uint32_t *place = place_in(g, row, list);
            if (place)
                *place = 0;
        }
    }
    atomic_store(&fresh->count, into);
    const int unseen = g != atomic_load(&v->generation); /* nobody reads it yet: what it frees it can use again at once */
    if (l && !unseen && vx_retire(v, l, list_free) != 0) {
        list_free(fresh);
        return -ENOMEM;
    }
    atomic_store(&g->list[list], fresh);
    if (unseen)
        list_free(l);
    return 0;
}

int vx_list_compact(vx_vindex *v, vx_generation *g, uint32_t list)
{
    return replace_list(v, g, list, 0);
}

static int append(vx_vindex *v, vx_generation *g, uint32_t list, uint32_t row, const vx_code *c)
{
    vx_list *l = atomic_load(&g->list[list]);
    if (!l || atomic_load(&l->count) == l->room) {
        const int status = replace_list(v, g, list, VX_BLOCK + (l ? l->room / 4 : 0));
        if (status != 0)
            return status;
        l = atomic_load(&g->list[list]);
    }
    const uint32_t at = atomic_load(&l->count);
    set_entry(v, l, at, c, row);
    atomic_store_explicit(&l->count, at + 1, memory_order_release);
    return 0;
}

/* The only list of all may be long, so it is told where its rows are; others are looked through. */
static void forget(const vx_vindex *v, const vx_generation *g, uint32_t list, uint32_t row)
{
    const vx_list *l = atomic_load(&g->list[list]);
    if (g->lists == 1) {
        const uint32_t *place = vx_place(g, row);
        if (place[0] && place[1])
            atomic_store(row_at(v, l, place[1] - 1), VX_VINDEX_NONE);
        return;
    }
    for (uint32_t at = 0; l && at < atomic_load(&l->count); at++)
        if (atomic_load_explicit(row_at(v, l, at), memory_order_relaxed) == row)
            atomic_store(row_at(v, l, at), VX_VINDEX_NONE);
}

/* Entries that the row had elsewhere stay until they are compacted away: whoever meets one looks at the row as it is. */
int vx_generation_enter(vx_vindex *v, vx_generation *g, uint32_t row, const vx_bench *b)
{
    int status = vx_generation_reserve(v, g, (uint64_t)row + 1);
    if (status != 0)
        return status;
    uint32_t *place = vx_place(g, row);
    memcpy(vx_fine(v, g, row), b->fine, v->fine_bytes);
    for (uint32_t i = 0; i < b->places && row < atomic_load(&v->end); i++)
        forget(v, g, b->list[i], row);
    place[0] = place[1] = 0;
    for (uint32_t i = 0; i < b->places && status == 0; i++) {
        status = append(v, g, b->list[i], row, &b->code[i]);
        place[i] = b->list[i] + 1;
    }
    if (g->lists == 1 && status == 0)
        place[1] = atomic_load(&atomic_load(&g->list[0])->count);
    return status;
}
