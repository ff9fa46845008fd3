/* Which lists are nearest to a vector: all are estimated by their centroids' 1-bit codes, the best of them by 8-bit ones. */
#include <math.h>

#include "vindex_impl.h"

#define ROUNDS 12
#define BUCKETS 64u

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t key_bytes(uint32_t lists)
{
    return rounded(((size_t)lists + VX_BLOCK) * sizeof(float));
}

size_t vx_probe_bytes(const vx_vindex *v, uint32_t lists)
{
    return rounded(v->padded * sizeof(float)) + rounded(v->padded * 4) + rounded(v->padded) + 4 * key_bytes(lists);
}

void vx_probe_carve(vx_probe *p, const vx_vindex *v, uint32_t lists, uint8_t *at)
{
    p->x = (float *)(void *)at;
    at += rounded(v->padded * sizeof(float));
    p->tables = at;
    at += rounded(v->padded * 4);
    p->q7 = (int8_t *)at;
    at += rounded(v->padded);
    p->key = (float *)(void *)at;
    p->product = (float *)(void *)(at + key_bytes(lists));
    p->list = (uint32_t *)(void *)(at + 2 * key_bytes(lists));
    p->order = (uint32_t *)(void *)(at + 3 * key_bytes(lists));
}

void vx_probe_begin(vx_probe *p, const vx_vindex *v)
{
    const vx_vkernels *k = vx_vkernels_in(v);
    p->square = k->dot[VX_F32](p->x, p->x, v->padded);
    k->tables(p->x, v->padded, p->tables, &p->step, &p->base);
}

/* The level that about `want` of the keys reach, a few more rather than fewer: found from their mean and deviation, then
 * by halving. */
static float level_of(const vx_vkernels *k, const float *key, uint32_t n, uint32_t want)
{
    float mean, deviation;
    k->spread(key, n, &mean, &deviation);
    float low = mean - 20 * deviation, high = mean + 20 * deviation;
    /* Roughly the normal distribution's quantile. */
    const float rare = sqrtf(-2 * logf((float)want / (float)n));
    float level = mean + deviation * (rare - 0.8f / (rare + 0.5f));
    for (int round = 0; round < ROUNDS; round++) {
        const uint32_t found = k->count(key, n, level);
        if (found < want)
            high = level;
        else if (found > want + want / 4 + 8)
            low = level;
        else
            return level;
        /* A step by the density there, while it stays within what is known. */
        const float step = deviation * logf((float)(found + 1) / ((float)want * 1.12f + 4)) / (rare + 0.5f);
        level += step;
        if (!(level > low && level < high))
            level = 0.5f * (low + high);
    }
    return low;
}

/* Best first, to the width of a bucket. */
static void put_in_order(vx_probe *p)
{
    float most = -INFINITY, least = INFINITY;
    for (uint32_t i = 0; i < p->n; i++) {
        most = p->key[i] > most ? p->key[i] : most;
        least = p->key[i] < least ? p->key[i] : least;
    }
    const float scale = most > least ? (float)(BUCKETS - 1) / (most - least) : 0;
    p->bucket = most > least ? (most - least) / (float)(BUCKETS - 1) : 0;
    uint32_t start[BUCKETS + 1] = {0};
    for (uint32_t i = 0; i < p->n; i++) {
        const float at = (most - p->key[i]) * scale;
        p->order[i] = at >= 0 ? at < BUCKETS - 1 ? (uint32_t)at : BUCKETS - 1 : 0; /* no number: 0 */
        start[p->order[i] + 1]++;
    }
    for (uint32_t b = 0; b < BUCKETS; b++)
        start[b + 1] += start[b];
    for (uint32_t i = 0; i < p->n; i++)
        p->order[i] = start[p->order[i]]++;
    /* Cycle by cycle, so that no second copy of the arrays is needed. */
    for (uint32_t i = 0; i < p->n; i++)
        while (p->order[i] != i) {
            const uint32_t to = p->order[i], list = p->list[to], then = p->order[to];
            const float product = p->product[to], key = p->key[to];
            p->list[to] = p->list[i];
            p->product[to] = p->product[i];
            p->key[to] = p->key[i];
            p->order[to] = to;
            p->list[i] = list;
            p->product[i] = product;
            p->key[i] = key;
            p->order[i] = then;
        }
}

void vx_probe_choose(vx_probe *p, const vx_vindex *v, const vx_generation *g, uint32_t want, int ranked)
{
    const vx_vkernels *k = vx_vkernels_in(v);
    if (g->lists == 1) {
        p->n = 1;
        p->list[0] = 0;
        p->product[0] = p->key[0] = p->bucket = p->step_7 = 0;
        return;
    }
    const uint32_t blocks = (g->lists + VX_BLOCK - 1) / VX_BLOCK;
    const float *add = ranked ? g->bias : g->half;
    k->scores(g->signs, v->block_bytes, blocks, p->tables, v->code_lines, add, p->step, p->base, p->key);
    /* What the estimate misplaces is made up for by looking at more of them more closely. */
    const uint32_t close = want + want / 2 + 24;
    p->n = close < g->lists ? k->pick(p->key, g->lists, level_of(k, p->key, g->lists, close), p->list) : 0;
    if (p->n == 0) {
        for (uint32_t l = 0; l < g->lists; l++)
            p->list[l] = l;
        p->n = g->lists;
    }
    int32_t sum;
    const float step = p->step_7 = k->round(p->x, v->padded, 63, p->q7, &sum);
    for (uint32_t i = 0; i < p->n; i++) {
        const uint32_t l = p->list[i];
        for (size_t b = 0; b < v->padded && b < 512 && i + 4 < p->n; b += 64)
            __builtin_prefetch(g->coarse + (size_t)p->list[i + 4] * v->padded + b, 0, 3);
        const int32_t product = k->coarse(p->q7, g->coarse + (size_t)l * v->padded, v->padded);
        p->product[i] = step * g->coarse_step[l] * (float)(product - 128 * sum);
        p->key[i] = p->product[i] + add[l];
    }
    put_in_order(p);
}
