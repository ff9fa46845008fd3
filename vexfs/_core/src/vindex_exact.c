/* Exact search: all rows in the order of memory, or the rows of a list or mask. */
#include <errno.h>
#include <math.h>

#include "vindex_impl.h"

#define CHUNK 128u
#define AHEAD 6u
#define NEXT_BYTES 2048u

/* What is compared: larger is nearer.  cosine: the cosine; dot: the product; l2: the negative squared distance. */
static float key_of(const vx_search *s, const void *stored, uint32_t row)
{
    const vx_vindex *v = s->v;
    if (v->metric == VX_L2)
        return -s->kernels->l2sq[v->dtype](s->q, stored, v->dim);
    const float product = s->kernels->dot[v->dtype](s->q, stored, v->dim);
    return v->metric == VX_COSINE ? product * *vx_norm(v, row) : product;
}

static int key_of_row(vx_search *s, uint32_t row, float *key)
{
    vx_vindex *v = s->v;
    if (!vx_bit(&v->resident, row)) {
        const int status = vx_row_copy(v, row, s->stored);
        if (status < 0)
            return status;
        s->work.fetched += (uint64_t)status;
        *key = key_of(s, s->stored, row);
        return 0;
    }
    _Atomic uint32_t *stripe = &v->stripe[row % 256];
    uint32_t before;
    do {
        before = atomic_load_explicit(stripe, memory_order_acquire);
        *key = key_of(s, vx_row(v, row), row);
        atomic_thread_fence(memory_order_acquire);
    } while (before % 2 || atomic_load_explicit(stripe, memory_order_relaxed) != before);
    return 0;
}

static void keep(vx_search *s, float key, uint32_t row)
{
    if (key >= s->least)
        vx_top_push(&s->top, key, row);
}

void vx_compare_row(vx_search *s, uint32_t row)
{
    float key;
    const int status = key_of_row(s, row, &key);
    if (status < 0) {
        s->status = status;
        return;
    }
    s->work.exact++;
    keep(s, key, row);
}

/* The rows first .. first + n, all in memory and all wanted, without a look at what is being written: 0 when something
 * was meanwhile. */
static int compare_all(vx_search *s, uint32_t first, uint32_t n, float *key)
{
    vx_vindex *v = s->v;
    const uint64_t before = atomic_load_explicit(&v->writing, memory_order_acquire);
    const uint8_t *rows = vx_row(v, first);
    if (v->dtype == VX_F32) {
        const int metric = v->metric == VX_L2 ? VX_L2SQ : VX_DOT;
        const vx_shapes *shapes = &vx_simd_kernels(v->simd)->distance[VX_F32][metric];
        vx_simd_sweep(shapes, atomic_load(&v->end), v->row_bytes)(s->q, rows, v->row_bytes, n, v->dim, key);
        for (uint32_t at = 0; at < NEXT_BYTES; at += 64) /* what comes next is under way while keys are looked at */
            __builtin_prefetch(rows + (size_t)n * v->row_bytes + at, 0, 3);
        for (uint32_t i = 0; i < n; i++)
            key[i] = v->metric == VX_L2 ? -key[i] : v->metric == VX_COSINE ? key[i] * *vx_norm(v, first + i) : key[i];
    } else {
        for (uint32_t i = 0; i < n; i++)
            key[i] = key_of(s, rows + i * v->row_bytes, first + i);
    }
    atomic_thread_fence(memory_order_acquire);
    return before % 2 == 0 && atomic_load_explicit(&v->writing, memory_order_relaxed) == before;
}

static uint64_t word_of(const vx_span *span, uint32_t word)
{
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)span->at + word, memory_order_acquire);
}

uint64_t vx_wanted_word(const vx_search *s, uint32_t word)
{
    const vx_vindex_ask *a = s->ask;
    uint64_t bits = word_of(&s->v->alive, word);
    if (a->mask) {
        const uint64_t first = (uint64_t)word * 64;
        if (first >= a->mask_bits)
            return 0;
        bits &= a->mask[word];
        if (a->mask_bits - first < 64)
            bits &= ((uint64_t)1 << (a->mask_bits - first)) - 1;
    }
    return bits;
}

void vx_search_exact(vx_search *s)
{
    vx_vindex *v = s->v;
    const uint64_t end = atomic_load(&v->end);
    float key[64];
    for (uint32_t word = 0; (uint64_t)word * 64 < end && s->status == 0; word++) {
        const uint32_t first = word * 64;
        uint64_t bits = vx_wanted_word(s, word);
        const uint64_t full = end - first >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << (end - first)) - 1;
        bits &= full;
        const uint32_t n = end - first >= 64 ? 64 : (uint32_t)(end - first);
        /* Where most are wanted, comparing the others too costs less than leaving them out. */
        if (__builtin_popcountll(bits) * 2 > (int)n && (word_of(&v->resident, word) & full) == full &&
            compare_all(s, first, n, key)) {
            s->work.exact += n;
            const float root = s->top.n == s->top.k ? s->top.score[0] : -INFINITY;
            const float least = root > s->least ? root : s->least;
            for (uint32_t i = 0; i < n; i++)
                if (key[i] >= least && (bits >> i & 1))
                    keep(s, key[i], first + i);
            continue;
        }
        for (; bits && s->status == 0; bits &= bits - 1)
            vx_compare_row(s, first + (uint32_t)__builtin_ctzll(bits));
    }
}

static void fetch_ahead(const vx_search *s, uint32_t row)
{
    const uint8_t *at = vx_row(s->v, row);
    if (!vx_bit(&s->v->resident, row))
        return;
    for (size_t i = 0; i < s->v->row_bytes && i < 4096; i += 64)
        __builtin_prefetch(at + i, 0, 3);
}

void vx_search_only(vx_search *s)
{
    const vx_vindex_ask *a = s->ask;
    const uint64_t end = atomic_load(&s->v->end);
    for (size_t i = 0; i < a->only_n && s->status == 0; i++) {
        if (i + AHEAD < a->only_n && a->only[i + AHEAD] < end)
            fetch_ahead(s, a->only[i + AHEAD]);
        if (a->only[i] < end && vx_wanted(s, a->only[i]))
            vx_compare_row(s, a->only[i]);
    }
}

void vx_search_masked(vx_search *s)
{
    const uint64_t end = atomic_load(&s->v->end);
    uint32_t queue[AHEAD], in = 0, out = 0;
    for (uint32_t word = 0; (uint64_t)word * 64 < end && s->status == 0; word++)
        for (uint64_t bits = vx_wanted_word(s, word); bits && s->status == 0; bits &= bits - 1) {
            const uint32_t row = word * 64 + (uint32_t)__builtin_ctzll(bits);
            fetch_ahead(s, row);
            if (in - out == AHEAD)
                vx_compare_row(s, queue[out++ % AHEAD]);
            queue[in++ % AHEAD] = row;
        }
    while (out != in && s->status == 0)
        vx_compare_row(s, queue[out++ % AHEAD]);
}
