/* Inverted lists: how a row is coded against a centroid, and how lists take entries in and lose them. */
#include <errno.h>
#include <math.h>

#include "vindex_impl.h"

/* Of a normal distribution: the step that 16 levels round best with, in standard deviations. */
#define FINE_STEP 0.335f
#define LIST_ALIGN 64

static void list_free(void *list)
{
    free(list);
}

vx_list *vx_list_new(const vx_vindex *v, uint32_t room)
{
    const uint32_t blocks = (room + VX_BLOCK - 1) / VX_BLOCK;
    const size_t head = (sizeof(vx_list) + LIST_ALIGN - 1) / LIST_ALIGN * LIST_ALIGN;
    const size_t fine = (size_t)blocks * VX_BLOCK * (v->padded / 2);
    const size_t bytes = head + blocks * v->block_bytes + fine;
    vx_list *l = aligned_alloc(LIST_ALIGN, (bytes + LIST_ALIGN - 1) / LIST_ALIGN * LIST_ALIGN);
    if (!l)
        return NULL;
    memset(l, 0, bytes - fine);
    l->room = blocks * VX_BLOCK;
    l->bytes = bytes;
    l->blocks = (uint8_t *)l + head;
    l->fine = l->blocks + blocks * v->block_bytes;
    return l;
}

void vx_generation_free(void *what)
{
    vx_generation *g = what;
    if (!g)
        return;
    for (uint32_t i = 0; g->list && i < g->lists; i++)
        list_free(atomic_load(&g->list[i]));
    free((void *)g->list);
    free(g->origin);
    free(g->centroid);
    free(g->square);
    free(g->coarse);
    free(g->coarse_step);
    free(g->spread);
    vx_span_release(&g->place);
    free(g);
}

vx_generation *vx_generation_new(const vx_vindex *v, uint32_t lists)
{
    vx_generation *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    const size_t values = (size_t)lists * v->padded;
    g->lists = lists;
    g->origin = calloc(2 * (size_t)v->padded, sizeof *g->origin);
    g->mean = g->origin ? g->origin + v->padded : NULL;
    g->centroid = calloc(values, sizeof *g->centroid);
    g->square = calloc(lists, sizeof *g->square);
    g->coarse = malloc(values);
    g->coarse_step = calloc(lists, sizeof *g->coarse_step);
    g->spread = calloc(lists, sizeof *g->spread);
    g->list = calloc(lists, sizeof *g->list);
    const int spans = vx_span_reserve(&g->place, (size_t)UINT32_MAX * sizeof(uint64_t));
    if (!g->origin || !g->centroid || !g->square || !g->coarse || !g->coarse_step || !g->spread || !g->list || spans) {
        vx_generation_free(g);
        return NULL;
    }
    return g;
}

/* Coarse codes are unsigned, so 128 stands for 0. */
int vx_generation_finish(const vx_vindex *v, vx_generation *g)
{
    const size_t padded = v->padded;
    memset(g->mean, 0, padded * sizeof *g->mean);
    for (uint32_t l = 0; l < g->lists; l++)
        for (size_t i = 0; i < padded; i++)
            g->mean[i] += g->centroid[l * padded + i] / (float)g->lists;
    for (uint32_t l = 0; l < g->lists; l++) {
        const float *c = g->centroid + l * padded;
        float most = 0, square = 0;
        for (size_t i = 0; i < padded; i++) {
            square += c[i] * c[i];
            most = fmaxf(most, fabsf(c[i] - g->mean[i]));
        }
        const float inverse = most > 0 ? 127 / most : 0;
        for (size_t i = 0; i < padded; i++)
            g->coarse[l * padded + i] = (uint8_t)(128 + (int)lrintf((c[i] - g->mean[i]) * inverse));
        g->coarse_step[l] = most / 127;
        g->square[l] = square;
    }
    return 0;
}

int vx_code_new(const vx_vindex *v, vx_code *c)
{
    c->lines = malloc(v->padded / 8 + v->padded / 2);
    c->fine = c->lines ? c->lines + v->padded / 8 : NULL;
    return c->lines ? 0 : -ENOMEM;
}

void vx_code_free(vx_code *c)
{
    free(c->lines);
}

/* With r = x - c: <q, x> = <q, c> + <q - c, r> + <c, r>, and <q - c, r> is estimated from the codes u of r as
 * |r|^2 / <r, u> * <q - c, u>, which is right on average over rotations.  `square` is |x|^2 for l2, whose score is
 * <q, x> - |x|^2 / 2, and 0 for the others.  Source: Gao and Long, RaBitQ, SIGMOD 2024. */
void vx_encode_row(const vx_vindex *v, const float *c, const float *x, float square, vx_code *out)
{
    float rr = 0, r1 = 0, cr = 0, cs = 0, most = 0;
    for (uint32_t j = 0; j < v->padded / 8; j++) {
        uint32_t bits = 0;
        for (uint32_t i = 0; i < 8; i++) {
            const float ci = c[8 * j + i], r = x[8 * j + i] - ci, size = fabsf(r);
            const uint32_t plus = r >= 0;
            rr += r * r;
            r1 += size;
            cr += ci * r;
            cs += plus ? ci : -ci;
            most = size > most ? size : most;
            bits |= plus << i;
        }
        out->lines[j] = (uint8_t)bits;
    }
    const float fixed = cr - 0.5f * square;
    out->square = rr;
    out->b = r1 > 0 ? rr / r1 : 0;
    out->a = fixed - out->b * cs;
    const float wide = FINE_STEP * sqrtf(rr / (float)v->padded), full = most / 7.5f;
    const float step = wide < full ? wide : full, inverse = step > 0 ? 1 / step : 0;
    float ru = 0, cu = 0;
    memset(out->fine, 0, v->padded / 2);
    for (uint32_t i = 0; i < v->padded; i++) {
        const float ci = c[i], r = x[i] - ci;
        float level = floorf(r * inverse) + 8;
        level = level >= 15 ? 15 : level >= 0 ? level : 0;
        const float u = level - 7.5f;
        ru += r * u;
        cu += ci * u;
        out->fine[i / 64 * 32 + i % 32] |= (uint8_t)((uint32_t)level << (i % 64 / 32 * 4));
    }
    out->fine_b = ru > 0 ? rr / ru : 0;
    out->fine_a = fixed - out->fine_b * cu;
}

static void move_entry(const vx_vindex *v, const vx_list *from, uint32_t at, vx_list *to, uint32_t into)
{
    const uint8_t *old = from->blocks + at / VX_BLOCK * v->block_bytes + at % VX_BLOCK;
    uint8_t *fresh = to->blocks + into / VX_BLOCK * v->block_bytes + into % VX_BLOCK;
    for (size_t j = 0; j < v->code_lines; j++)
        fresh[j * VX_BLOCK] = old[j * VX_BLOCK];
    const vx_entries *e = vx_entries_of(v, from, at / VX_BLOCK);
    vx_entries *n = vx_entries_of(v, to, into / VX_BLOCK);
    const uint32_t i = at % VX_BLOCK, j = into % VX_BLOCK;
    n->a[j] = e->a[i];
    n->b[j] = e->b[i];
    n->fine_a[j] = e->fine_a[i];
    n->fine_b[j] = e->fine_b[i];
    atomic_store_explicit(&n->row[j], atomic_load_explicit(&e->row[i], memory_order_relaxed), memory_order_relaxed);
    memcpy(to->fine + (size_t)into * (v->padded / 2), from->fine + (size_t)at * (v->padded / 2), v->padded / 2);
}

/* An entry counts while its row is there and lists no newer one. */
static int counts(vx_vindex *v, const vx_generation *g, uint32_t list, const vx_list *l, uint32_t at, uint32_t *row)
{
    *row = atomic_load_explicit(&vx_entries_of(v, l, at / VX_BLOCK)->row[at % VX_BLOCK], memory_order_relaxed);
    return *row != VX_VINDEX_NONE && *vx_place(g, *row) == ((uint64_t)list << 32 | (at + 1)) && vx_bit(&v->alive, *row);
}

uint32_t vx_list_dead(vx_vindex *v, vx_generation *g, uint32_t list)
{
    const vx_list *l = atomic_load(&g->list[list]);
    const uint32_t n = l ? atomic_load(&l->count) : 0;
    uint32_t dead = 0, row;
    for (uint32_t at = 0; at < n; at++)
        dead += !counts(v, g, list, l, at, &row);
    return dead;
}

/* A copy of what counts, with room for `more`. */
static int replace_list(vx_vindex *v, vx_generation *g, uint32_t list, uint32_t more)
{
    vx_list *l = atomic_load(&g->list[list]);
    const uint32_t n = l ? atomic_load(&l->count) : 0, dead = vx_list_dead(v, g, list), live = n - dead;
    vx_list *fresh = vx_list_new(v, live + more);
    if (!fresh)
        return -ENOMEM;
    uint32_t into = 0, row;
    for (uint32_t at = 0; at < n; at++) {
        if (counts(v, g, list, l, at, &row)) {
            move_entry(v, l, at, fresh, into++);
            *vx_place(g, row) = (uint64_t)list << 32 | into;
        } else if (row != VX_VINDEX_NONE && *vx_place(g, row) == ((uint64_t)list << 32 | (at + 1))) {
            *vx_place(g, row) = 0;
        }
    }
    atomic_store(&fresh->count, into);
    if (l && vx_retire(v, l, list_free) != 0) {
        list_free(fresh);
        return -ENOMEM;
    }
    atomic_store(&g->list[list], fresh);
    if (atomic_load(&v->dead) >= dead)
        atomic_fetch_sub(&v->dead, dead);
    return 0;
}

int vx_list_compact(vx_vindex *v, vx_generation *g, uint32_t list)
{
    return replace_list(v, g, list, 0);
}

int vx_list_append(vx_vindex *v, vx_generation *g, uint32_t list, uint32_t row, const vx_code *c)
{
    vx_list *l = atomic_load(&g->list[list]);
    int status = vx_span_grow(&g->place, ((size_t)row + 1) * sizeof(uint64_t));
    if (status == 0 && (!l || atomic_load(&l->count) == l->room)) {
        status = replace_list(v, g, list, VX_BLOCK + (l ? l->room / 8 : 0));
        l = atomic_load(&g->list[list]);
    }
    if (status != 0)
        return status;
    const uint64_t old = *vx_place(g, row);
    if (old) {
        vx_list *before = atomic_load(&g->list[old >> 32]);
        const uint32_t at = (uint32_t)old - 1;
        atomic_store(&vx_entries_of(v, before, at / VX_BLOCK)->row[at % VX_BLOCK], VX_VINDEX_NONE);
        if (vx_bit(&v->alive, row))
            atomic_fetch_add_explicit(&v->dead, 1, memory_order_relaxed);
    }
    const uint32_t at = atomic_load(&l->count), i = at % VX_BLOCK;
    uint8_t *block = l->blocks + at / VX_BLOCK * v->block_bytes;
    vx_entries *e = vx_entries_of(v, l, at / VX_BLOCK);
    for (size_t j = 0; j < v->code_lines; j++)
        block[j * VX_BLOCK + i] = c->lines[j];
    e->a[i] = c->a;
    e->b[i] = c->b;
    e->fine_a[i] = c->fine_a;
    e->fine_b[i] = c->fine_b;
    atomic_store_explicit(&e->row[i], row, memory_order_relaxed);
    memcpy(l->fine + (size_t)at * (v->padded / 2), c->fine, v->padded / 2);
    g->spread[list] += (c->square - g->spread[list]) / (float)(at + 1);
    *vx_place(g, row) = (uint64_t)list << 32 | (at + 1);
    atomic_store_explicit(&l->count, at + 1, memory_order_release);
    return 0;
}

float vx_round_query(const float *q, size_t n, int most, int8_t *out)
{
    float size = 0;
    for (size_t i = 0; i < n; i++)
        size = fmaxf(size, fabsf(q[i]));
    const float inverse = size > 0 ? (float)most / size : 0;
    for (size_t i = 0; i < n; i++)
        out[i] = (int8_t)lrintf(q[i] * inverse);
    return size / (float)most;
}

uint32_t vx_nearest_list(const vx_vindex *v, const vx_generation *g, const float *x, int8_t *q7, int32_t *products)
{
    if (g->lists == 1)
        return 0;
    const float step = vx_round_query(x, v->padded, 63, q7);
    int32_t sum = 0;
    for (uint32_t i = 0; i < v->padded; i++)
        sum += q7[i];
    vx_vkernels_in(v)->coarse(q7, g->coarse, g->lists, v->padded, products);
    uint32_t best = 0;
    float most = -INFINITY;
    for (uint32_t l = 0; l < g->lists; l++) {
        const float score = step * g->coarse_step[l] * (float)(products[l] - 128 * sum) - 0.5f * g->square[l];
        if (score > most) {
            most = score;
            best = l;
        }
    }
    return best;
}
