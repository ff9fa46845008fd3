/* AVX-512 with VNNI (i8, i4), BF16 (dot and cosine of bf16) and VPOPCNTDQ (b1): each family takes the place of the
 * plain AVX-512 one where the processor has its instructions.
 *
 * Every #include stands above the target region: a prototype first seen inside it would take its ISA. */
#include <immintrin.h>

#include "vexfs/simd_shapes.h"

#if defined(__clang__)
#pragma clang attribute push(                                                                                          \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx512vpopcntdq,avx512vbmi,avx2,fma"))),      \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx512vpopcntdq,avx512vbmi,avx2,fma")
#endif

#define UNROLL _Pragma("GCC unroll 4")
#define STEP_BYTES 64

VX_INLINE __m512i load(const uint8_t *p, size_t i, size_t bytes)
{
    const size_t left = bytes - i;
    if (left >= STEP_BYTES)
        return _mm512_loadu_si512(p + i);
    return _mm512_maskz_loadu_epi8((1ull << left) - 1, p + i);
}

VX_INLINE __m128 sum4_f(const __m512 v[4])
{
    __m256 h[4];
    UNROLL
    for (int k = 0; k < 4; k++)
        h[k] = _mm256_add_ps(_mm512_castps512_ps256(v[k]), _mm512_extractf32x8_ps(v[k], 1));
    const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(h[0], h[1]), _mm256_hadd_ps(h[2], h[3]));
    return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

VX_INLINE __m128i sum4_i(const __m512i v[4])
{
    __m256i h[4];
    UNROLL
    for (int k = 0; k < 4; k++)
        h[k] = _mm256_add_epi32(_mm512_castsi512_si256(v[k]), _mm512_extracti64x4_epi64(v[k], 1));
    const __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(h[0], h[1]), _mm256_hadd_epi32(h[2], h[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

/* bf16: pairs of products are exact and join the f32 sum; inputs and sums under 2^-126 count as zero. */
VX_INLINE __m512 pairs(__m512 sum, __m512i x, __m512i y)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y);
}

VX_INLINE void pairs_four(int squares, const vx_query *query, const uint8_t *const row[4], const uint8_t *ahead,
                         vx_sums *s, size_t at)
{
    const size_t bytes = 2 * query->dim;
    __m512 ab[4], bb[4];
    UNROLL
    for (int k = 0; k < 4; k++)
        ab[k] = bb[k] = _mm512_setzero_ps();
    const size_t head = vx_head(row[0], 2, bytes) * 2;
    for (size_t i = 0, end; i < bytes; i = end) {
        end = i < head ? head : i + STEP_BYTES;
        const size_t limit = end < bytes ? end : bytes;
        const __m512i x = load(query->q, i, limit);
        UNROLL
        for (size_t k = 0; k < 4; k++) {
            const __m512i y = load(row[k], i, limit);
            if (ahead)
                _mm_prefetch((const char *)ahead + 4 * i + k * VX_LINE, _MM_HINT_T0);
            ab[k] = pairs(ab[k], x, y);
            if (squares)
                bb[k] = pairs(bb[k], y, y);
        }
    }
    _mm_storeu_ps(s->ab.f + at, sum4_f(ab));
    if (squares)
        _mm_storeu_ps(s->bb.f + at, sum4_f(bb));
}

VX_INLINE void pairs_one(int squares, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    const size_t bytes = 2 * query->dim;
    __m512 ab[4], bb[4];
    size_t i = vx_head(row, 2, bytes) * 2;
    UNROLL
    for (int k = 0; k < 4; k++)
        ab[k] = bb[k] = _mm512_setzero_ps();
    if (i) {
        const __m512i y = load(row, 0, i);
        ab[1] = pairs(ab[1], load(q, 0, i), y);
        if (squares)
            bb[1] = pairs(bb[1], y, y);
    }
    for (; i + 4 * STEP_BYTES <= bytes; i += 4 * STEP_BYTES) {
        UNROLL
        for (size_t k = 0; k < 4; k++) {
            const __m512i y = _mm512_loadu_si512(row + i + k * STEP_BYTES);
            ab[k] = pairs(ab[k], _mm512_loadu_si512(q + i + k * STEP_BYTES), y);
            if (squares)
                bb[k] = pairs(bb[k], y, y);
        }
    }
    for (; i < bytes; i += STEP_BYTES) {
        const __m512i y = load(row, i, bytes);
        ab[0] = pairs(ab[0], load(q, i, bytes), y);
        if (squares)
            bb[0] = pairs(bb[0], y, y);
    }
    s->ab.f[at] = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(ab[0], ab[1]), _mm512_add_ps(ab[2], ab[3])));
    if (squares)
        s->bb.f[at] = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(bb[0], bb[1]), _mm512_add_ps(bb[2], bb[3])));
}

/* VNNI multiplies unsigned by signed bytes.  i8: the row plus 128 times the query, less 128 times the query, which the
 * four rows share; its squares likewise.  i4: the row plus 8, and squares from a table.  All exact. */
typedef struct {
    __m512i ab, bb, bb_surplus;
} sums_i;

VX_INLINE __m512i dot4(__m512i sum, __m512i bytes, __m512i signed_bytes)
{
    return _mm512_dpbusd_epi32(sum, bytes, signed_bytes);
}

VX_INLINE void nibbles(__m512i x, __m512i *low, __m512i *high)
{
    const __m512i offset = _mm512_set1_epi8((char)0x88), fifteen = _mm512_set1_epi8(15);
    x = _mm512_xor_si512(x, offset);
    *low = _mm512_and_si512(x, fifteen);
    *high = _mm512_and_si512(_mm512_srli_epi16(x, 4), fifteen);
}

VX_INLINE void step_i(int dtype, int squares, const __m512i q[2], __m512i r, sums_i *sum)
{
    if (dtype == VX_I8) {
        const __m512i offset = _mm512_set1_epi8((char)128), above = _mm512_xor_si512(r, offset);
        sum->ab = dot4(sum->ab, above, q[0]);
        if (squares) {
            sum->bb = dot4(sum->bb, above, r);
            sum->bb_surplus = dot4(sum->bb_surplus, offset, r);
        }
        return;
    }
    const __m512i table = _mm512_broadcast_i32x4(
        _mm_setr_epi8(64, 49, 36, 25, 16, 9, 4, 1, 0, 1, 4, 9, 16, 25, 36, 49));
    __m512i low, high;
    nibbles(r, &low, &high);
    sum->ab = dot4(dot4(sum->ab, low, q[0]), high, q[1]);
    if (squares) {
        const __m512i both = _mm512_add_epi8(_mm512_shuffle_epi8(table, low), _mm512_shuffle_epi8(table, high));
        sum->bb = dot4(sum->bb, both, _mm512_set1_epi8(1));
    }
}

/* The query of a step: its signed bytes (low and high nibbles of i4), and what it adds to the shared surplus. */
VX_INLINE __m512i split_query(int dtype, __m512i x, __m512i surplus, __m512i part[2])
{
    if (dtype == VX_I8) {
        part[0] = part[1] = x;
        return dot4(surplus, _mm512_set1_epi8((char)128), x);
    }
    const __m512i eights = _mm512_set1_epi8(8);
    nibbles(x, &part[0], &part[1]);
    part[0] = _mm512_sub_epi8(part[0], eights);
    part[1] = _mm512_sub_epi8(part[1], eights);
    return dot4(surplus, eights, _mm512_add_epi8(part[0], part[1]));
}

VX_INLINE void bytes_four(int dtype, int squares, const vx_query *query, const uint8_t *const row[4],
                          const uint8_t *ahead, vx_sums *s, size_t at)
{
    const uint8_t *query_bytes = query->q;
    const size_t bytes = vx_row_bytes(dtype, query->dim), head = vx_head(row[0], 1, bytes);
    const size_t left = (bytes - head) % STEP_BYTES, whole = bytes - left;
    __m512i surplus = _mm512_setzero_si512(), ab[4], bb[4], q[2];
    sums_i sum[4];
    UNROLL
    for (int k = 0; k < 4; k++)
        sum[k].ab = sum[k].bb = sum[k].bb_surplus = _mm512_setzero_si512();
    if (head) {
        surplus = split_query(dtype, load(query_bytes, 0, head), surplus, q);
        UNROLL
        for (int k = 0; k < 4; k++)
            step_i(dtype, squares, q, load(row[k], 0, head), &sum[k]);
    }
    for (size_t i = head; i < whole; i += STEP_BYTES) {
        surplus = split_query(dtype, _mm512_loadu_si512(query_bytes + i), surplus, q);
        UNROLL
        for (size_t k = 0; k < 4; k++) {
            if (ahead)
                _mm_prefetch((const char *)ahead + 4 * i + k * VX_LINE, _MM_HINT_T0);
            step_i(dtype, squares, q, _mm512_loadu_si512(row[k] + i), &sum[k]);
        }
    }
    if (left) {
        surplus = split_query(dtype, load(query_bytes, whole, bytes), surplus, q);
        UNROLL
        for (int k = 0; k < 4; k++)
            step_i(dtype, squares, q, load(row[k], whole, bytes), &sum[k]);
    }
    UNROLL
    for (int k = 0; k < 4; k++) {
        ab[k] = _mm512_sub_epi32(sum[k].ab, surplus);
        bb[k] = _mm512_sub_epi32(sum[k].bb, sum[k].bb_surplus);
    }
    _mm_storeu_si128((__m128i *)(s->ab.i + at), sum4_i(ab));
    if (squares)
        _mm_storeu_si128((__m128i *)(s->bb.i + at), sum4_i(bb));
}

VX_INLINE void bytes_one(int dtype, int squares, const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const size_t bytes = vx_row_bytes(dtype, query->dim);
    const __m512i zero = _mm512_setzero_si512();
    __m512i surplus = zero, q[2];
    sums_i sum = {zero, zero, zero};
    const size_t head = vx_head(row, 1, bytes);
    for (size_t i = 0, end; i < bytes; i = end) {
        end = i < head ? head : i + STEP_BYTES;
        const size_t limit = end < bytes ? end : bytes;
        surplus = split_query(dtype, load(query->q, i, limit), surplus, q);
        step_i(dtype, squares, q, load(row, i, limit), &sum);
    }
    s->ab.i[at] = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum.ab, surplus));
    if (squares)
        s->bb.i[at] = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum.bb, sum.bb_surplus));
}

/* b1, rows of up to three registers: every 64-bit lane's count fits a byte, so eight rows share a register, a byte a
 * row; turned so that a lane holds one row's bytes, one sum of bytes adds them all. */
static void b1_ab_one(const vx_query *query, const uint8_t *row, vx_sums *s, size_t at)
{
    const size_t bytes = vx_row_bytes(VX_B1, query->dim);
    __m512i differ = _mm512_setzero_si512();
    for (size_t i = 0; i < bytes; i += STEP_BYTES) {
        const __m512i y = _mm512_xor_si512(load(query->q, i, bytes), load(row, i, bytes));
        differ = _mm512_add_epi64(differ, _mm512_popcnt_epi64(y));
    }
    s->ab.i[at] = (int32_t)_mm512_reduce_add_epi64(differ);
}

/* Byte 8 * lane + i comes from byte i of lane 0, 1, ...: a matrix of 8 by 8 bytes, turned. */
VX_INLINE __m512i turned(__m512i bytes)
{
    const __m512i column = _mm512_set1_epi64(0x3830282018100800);
    const __m512i first = _mm512_set_epi64(0x0707070707070707, 0x0606060606060606, 0x0505050505050505,
                                           0x0404040404040404, 0x0303030303030303, 0x0202020202020202,
                                           0x0101010101010101, 0);
    return _mm512_permutexvar_epi8(_mm512_or_si512(column, first), bytes);
}

/* `registers` is a constant where this is inlined; the last one may be broken. */
VX_INLINE void b1_short_rows(size_t registers, const vx_query *query, const uint8_t *const *row, const uint8_t *ahead,
                             vx_sums *s, size_t at)
{
    const uint8_t *q = query->q;
    const size_t last = (registers - 1) * STEP_BYTES, left = vx_row_bytes(VX_B1, query->dim) - last;
    const __mmask64 m = ~0ull >> (64 - left);
    __m512i counts = _mm512_setzero_si512(), x[3];
    for (size_t r = 0; r + 1 < registers; r++)
        x[r] = _mm512_loadu_si512(q + r * STEP_BYTES);
    x[registers - 1] = _mm512_maskz_loadu_epi8(m, q + last);
    _Pragma("GCC unroll 8")
    for (unsigned k = 0; k < 8; k++) {
        for (size_t r = 0; registers == 3 && ahead && r < registers; r++) /* narrower rows come as fast unasked */
            _mm_prefetch((const char *)ahead + (k * registers + r) * VX_LINE, _MM_HINT_T0);
        __m512i y = _mm512_xor_si512(x[registers - 1], _mm512_maskz_loadu_epi8(m, row[k] + last));
        __m512i differ = _mm512_popcnt_epi64(y);
        UNROLL
        for (size_t r = 0; r + 1 < registers; r++) {
            y = _mm512_xor_si512(x[r], _mm512_loadu_si512(row[k] + r * STEP_BYTES));
            differ = _mm512_add_epi64(differ, _mm512_popcnt_epi64(y));
        }
        counts = _mm512_or_si512(counts, _mm512_slli_epi64(differ, 8 * k));
    }
    const __m512i sums = _mm512_sad_epu8(turned(counts), _mm512_setzero_si512());
    _mm256_storeu_si256((__m256i *)(s->ab.i + at), _mm512_cvtepi64_epi32(sums));
}

static void b1_ab_eight(const vx_query *query, const uint8_t *const *row, const uint8_t *ahead, vx_sums *s, size_t at)
{
    switch ((vx_row_bytes(VX_B1, query->dim) + STEP_BYTES - 1) / STEP_BYTES) {
    case 1: b1_short_rows(1, query, row, ahead, s, at); break;
    case 2: b1_short_rows(2, query, row, ahead, s, at); break;
    case 3: b1_short_rows(3, query, row, ahead, s, at); break;
    default:
        for (size_t k = 0; k < 8; k++)
            b1_ab_one(query, row[k], s, at + k);
    }
}

/* A kernel of one row and one of four from the inlined pair KIND_one, KIND_four with its leading arguments. */
#define ROWS(NAME, KIND, ...)                                                                                          \
    static void NAME##_one(const vx_query *q, const uint8_t *row, vx_sums *s, size_t at)                               \
    {                                                                                                                  \
        KIND##_one(__VA_ARGS__, q, row, s, at);                                                                        \
    }                                                                                                                  \
    static void NAME##_four(const vx_query *q, const uint8_t *const row[4], const uint8_t *ahead, vx_sums *s,          \
                            size_t at)                                                                                 \
    {                                                                                                                  \
        KIND##_four(__VA_ARGS__, q, row, ahead, s, at);                                                                \
    }

ROWS(bf16_dot, pairs, 0)
ROWS(bf16_cos, pairs, 1)
ROWS(i8_ab, bytes, VX_I8, 0)
ROWS(i8_abb, bytes, VX_I8, 1)
ROWS(i4_ab, bytes, VX_I4, 0)
ROWS(i4_abb, bytes, VX_I4, 1)

VX_SHAPES(bf16_vdot, VX_BF16, VX_DOT, 4, bf16_dot_one, bf16_dot_four, vx_avx512_finish_f)
VX_SHAPES(bf16_vcosine, VX_BF16, VX_COSINE, 4, bf16_cos_one, bf16_cos_four, vx_avx512_finish_f)
VX_SHAPES_INT(i8, VX_I8, vx_avx512_finish_i)
VX_SHAPES_INT(i4, VX_I4, vx_avx512_finish_i)
VX_SHAPES_BITS(b1, 8, b1_ab_eight, vx_avx512_finish_b1)

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

void vx_simd_fill_avx512x(vx_kernels *k, uint32_t cpu)
{
    if (cpu & VX_CPU_AVX512BF16) {
        k->distance[VX_BF16][VX_DOT] = bf16_vdot_shapes;
        k->distance[VX_BF16][VX_COSINE] = bf16_vcosine_shapes;
    }
    if (cpu & VX_CPU_AVX512VNNI) {
        VX_PUT(k->distance[VX_I8], i8);
        VX_PUT(k->distance[VX_I4], i4);
    }
    if ((cpu & VX_CPU_AVX512VPOPCNTDQ) && (cpu & VX_CPU_AVX512VBMI)) {
        VX_PUT(k->distance[VX_B1], b1);
        k->distance[VX_B1][VX_HAMMING] = b1_vhamming_shapes;
    }
}
