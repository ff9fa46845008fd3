/* Codes: how a row is written down in 1 and in 4 bits a dimension, and which lists it goes to. */
#include <errno.h>
#include <math.h>

#include "vindex_impl.h"
#include "vindex_shapes.h"

/* Of a normal distribution: the step that 16 levels round best with, in standard deviations. */
#define FINE_STEP 0.335f
/* So many lists near a row are looked at for its second place. */
#define SECOND_AMONG 24u

/* With r = x - c: <q, x> = <q, c> + <q - c, r> + <c, r>, and <q - c, r> is estimated from the signs s of r as
 * |r|^2 / <r, s> * <q - c, s>, which is right on average over rotations.  Source: Gao and Long, RaBitQ, SIGMOD 2024. */
void vx_encode_signs(const vx_vindex *v, const float *centroid, const float *x, float fixed, vx_code *c)
{
    vx_moments m;
    vx_vkernels_in(v)->signs(x, centroid, v->padded, c->lines, &m);
    c->b = m.r1 > VX_TINY ? m.rr / m.r1 : 0;
    c->a = m.cr - c->b * m.cs + fixed;
}

/* The same with 16 levels, from the origin: the row's record of 4-bit codes. */
static void encode_fine(const vx_vindex *v, const float *x, float square, float fixed, uint8_t *out)
{
    float most = 0;
    for (uint32_t i = 0; i < v->padded; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    const float wide = FINE_STEP * sqrtf(square / (float)v->padded), full = most / 7.5f;
    const float step = wide < full ? wide : full, inverse = step > VX_TINY ? 1 / step : 0;
    float xu[4] = {0, 0, 0, 0};
    for (uint32_t at = 0; at < v->padded; at += 64)
        for (uint32_t i = 0; i < 32; i++) {
            const float low = x[at + i], high = x[at + 32 + i];
            int a = (int)(low * inverse + 8), b = (int)(high * inverse + 8);
            a = a < 0 ? 0 : a > 15 ? 15 : a;
            b = b < 0 ? 0 : b > 15 ? 15 : b;
            xu[i % 4] += low * ((float)a - 7.5f) + high * ((float)b - 7.5f);
            out[at / 2 + i] = (uint8_t)(a | b << 4);
        }
    const float product = (xu[0] + xu[1]) + (xu[2] + xu[3]);
    const float numbers[2] = {fixed, product > VX_TINY ? square / product : 0};
    memcpy(out + v->padded / 2, numbers, sizeof numbers);
}

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

int vx_bench_room(vx_bench *b, const vx_vindex *v, uint32_t lists)
{
    if (b->memory && lists <= b->lists)
        return 0;
    const size_t lines = rounded(v->padded / 8), probe = vx_probe_bytes(v, lists), raw = rounded(v->dim * sizeof(float));
    uint8_t *memory = aligned_alloc(64, probe + 2 * raw + VX_PLACES * lines + rounded(v->fine_bytes));
    if (!memory)
        return -ENOMEM;
    free(b->memory);
    b->memory = memory;
    b->lists = lists;
    vx_probe_carve(&b->probe, v, lists, memory);
    memory += probe;
    b->raw = (float *)(void *)memory;
    b->spare = (float *)(void *)(memory + raw);
    memory += 2 * raw;
    for (uint32_t i = 0; i < VX_PLACES; i++)
        b->code[i].lines = memory + i * lines;
    b->fine = memory + VX_PLACES * lines;
    return 0;
}

void vx_bench_free(vx_bench *b)
{
    free(b->memory);
    b->memory = NULL;
}

/* The second list is the one that is near, and whose residual is least along that of the first: where a query finds the
 * first list far away, the second is then likely not to be.  Source: Sun et al., SOAR, NeurIPS 2023. */
static uint32_t second_list(const vx_bench *b, const vx_vindex *v, const vx_generation *g, uint32_t first)
{
    const vx_vkernels *k = vx_vkernels_in(v);
    const vx_probe *p = &b->probe;
    const float *c = g->centroid + (size_t)p->list[first] * v->padded;
    const float cx = p->product[first], rr = p->square + g->square[p->list[first]] - 2 * cx;
    uint32_t best = VX_VINDEX_NONE;
    float least = INFINITY;
    if (!(rr > 0))
        return best;
    for (uint32_t i = 0; i < p->n && i < SECOND_AMONG; i++) {
        if (i == first)
            continue;
        const float *other = g->centroid + (size_t)p->list[i] * v->padded;
        const float away = p->square + g->square[p->list[i]] - 2 * p->product[i];
        /* <x - other, x - c> */
        const float along = p->square - cx - p->product[i] + k->dot[VX_F32](other, c, v->padded);
        const float cost = away + along * along / rr;
        if (cost < least) {
            least = cost;
            best = p->list[i];
        }
    }
    return best;
}

void vx_bench_encode(vx_bench *b, const vx_vindex *v, const vx_generation *g)
{
    vx_probe *p = &b->probe;
    b->fixed = vx_row_prepare(v, g, b->raw, b->spare, p->x);
    p->square = vx_vkernels_in(v)->dot[VX_F32](p->x, p->x, v->padded);
    encode_fine(v, p->x, p->square, b->fixed, b->fine);
    b->places = 1;
    b->list[0] = 0;
    if (g->lists > 1) {
        vx_probe_begin(p, v);
        vx_probe_choose(p, v, g, g->places > 1 ? SECOND_AMONG : 4, 0);
        uint32_t first = 0;
        for (uint32_t i = 1; i < p->n; i++)
            if (p->product[i] - 0.5f * g->square[p->list[i]] > p->product[first] - 0.5f * g->square[p->list[first]])
                first = i;
        b->list[0] = p->list[first];
        const uint32_t second = g->places > 1 ? second_list(b, v, g, first) : VX_VINDEX_NONE;
        if (second != VX_VINDEX_NONE)
            b->list[b->places++] = second;
    }
    for (uint32_t i = 0; i < b->places; i++)
        vx_encode_signs(v, g->centroid + (size_t)b->list[i] * v->padded, p->x, b->fixed, &b->code[i]);
}
