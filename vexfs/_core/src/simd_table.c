/* The tables of the levels, the choice among them, and the object that counts and cuts work into batches. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/simd.h"
#include "vexfs/simd_shapes.h"

#define SLOTS 16
#define CACHED_BYTES (24u << 20)
#define STREAMED_BYTES 1024
#define MANY_ROWS 64

#if defined(__x86_64__)
#define BUILT (1 << VX_SCALAR | 1 << VX_AVX2 | 1 << VX_AVX512 | 1 << VX_AVX512X)
#elif defined(__aarch64__)
#define BUILT (1 << VX_SCALAR | 1 << VX_NEON)
#else
#define BUILT (1 << VX_SCALAR)
#endif

#define NEED_AVX2 (VX_CPU_OS_AVX | VX_CPU_AVX2 | VX_CPU_FMA | VX_CPU_F16C | VX_CPU_POPCNT)
#define NEED_AVX512                                                                                                    \
    (NEED_AVX2 | VX_CPU_OS_AVX512 | VX_CPU_AVX512F | VX_CPU_AVX512BW | VX_CPU_AVX512DQ | VX_CPU_AVX512VL)
#define ANY_AVX512X (VX_CPU_AVX512VNNI | VX_CPU_AVX512BF16 | VX_CPU_AVX512VPOPCNTDQ)

static const char *const names[VX_LEVELS] = {"scalar", "neon", "avx2", "avx512", "avx512x"};

/* Written under `once` and only read after: the same in every extension module that carries this library. */
static vx_kernels tables[VX_LEVELS];
static uint32_t cpu;
static pthread_once_t once = PTHREAD_ONCE_INIT;
int vx_long_rows_by_block;

struct vx_simd {
    _Atomic(const vx_kernels *) kernels;
    _Atomic uint32_t batch;
    struct {
        _Alignas(64) _Atomic uint64_t calls;
        _Atomic uint64_t vectors;
    } slot[SLOTS];
    _Atomic uint64_t calls_base, vectors_base;
};

static int supported(int level)
{
    switch (level) {
    case VX_SCALAR: return 1;
    case VX_NEON: return (cpu & VX_CPU_NEON) != 0;
    case VX_AVX2: return (cpu & NEED_AVX2) == NEED_AVX2;
    case VX_AVX512: return (cpu & NEED_AVX512) == NEED_AVX512;
    default: return (cpu & NEED_AVX512) == NEED_AVX512 && (cpu & ANY_AVX512X);
    }
}

static void fill_all(void)
{
    cpu = vx_cpu_detect();
    vx_long_rows_by_block = (cpu & VX_CPU_INTEL) != 0;
    vx_simd_fill_scalar(&tables[VX_SCALAR]);
    for (int level = VX_SCALAR + 1; level < VX_LEVELS; level++)
        tables[level] = tables[VX_SCALAR];
#if defined(__x86_64__)
    vx_simd_fill_avx2(&tables[VX_AVX2]);
    tables[VX_AVX512] = tables[VX_AVX2];
    vx_simd_fill_avx512(&tables[VX_AVX512]);
    tables[VX_AVX512X] = tables[VX_AVX512];
    vx_simd_fill_avx512x(&tables[VX_AVX512X], cpu);
#elif defined(__aarch64__)
    vx_simd_fill_neon(&tables[VX_NEON]);
#endif
    for (int level = 0; level < VX_LEVELS; level++)
        tables[level].level = level;
}

const char *vx_level_name(int level)
{
    return level >= 0 && level < VX_LEVELS ? names[level] : "unknown";
}

int vx_level_parse(const char *name)
{
    for (int level = 0; level < VX_LEVELS; level++)
        if (strcmp(name, names[level]) == 0)
            return level;
    return -EINVAL;
}

int vx_level_check(int level)
{
    pthread_once(&once, fill_all);
    if (level < 0 || level >= VX_LEVELS)
        return -EINVAL;
    if (!(BUILT >> level & 1))
        return -ENOSYS;
    return supported(level) ? 0 : -ENOTSUP;
}

int vx_level_choose(const vx_simd_policy *policy)
{
    const int demand = policy->level >= 0 ? policy->level : policy->force_avx2 ? VX_AVX2 : -1;
    if (demand >= 0) {
        const int status = vx_level_check(demand);
        return status ? status : demand;
    }
    if (!policy->auto_detect)
        return VX_SCALAR;
    /* Measured on Zen 4 and Zen 5: a higher level loses in no cell of the kernel table, so the best there is. */
    int level = policy->enable_avx512 ? VX_AVX512X : VX_AVX2;
    while (vx_level_check(level) != 0)
        level--;
    return level;
}

const vx_kernels *vx_kernels_of(int level)
{
    return vx_level_check(level) == 0 ? &tables[level] : NULL;
}

vx_simd *vx_simd_new(int level, uint32_t batch)
{
    vx_simd *s = aligned_alloc(64, (sizeof *s + 63) / 64 * 64);
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    vx_simd_set_batch(s, batch);
    atomic_store(&s->kernels, vx_kernels_of(level));
    if (atomic_load(&s->kernels))
        return s;
    free(s);
    return NULL;
}

void vx_simd_free(vx_simd *s)
{
    free(s);
}

int vx_simd_set_level(vx_simd *s, int level)
{
    const int status = vx_level_check(level);
    if (status == 0)
        atomic_store(&s->kernels, vx_kernels_of(level));
    return status;
}

void vx_simd_set_batch(vx_simd *s, uint32_t batch)
{
    atomic_store_explicit(&s->batch, batch ? batch : 1, memory_order_relaxed);
}

uint32_t vx_simd_batch(const vx_simd *s)
{
    return atomic_load_explicit(&s->batch, memory_order_relaxed);
}

const vx_kernels *vx_simd_kernels(const vx_simd *s)
{
    return atomic_load_explicit(&s->kernels, memory_order_acquire);
}

/* Threads are spread over the slots by where their thread-local data stands.  Two may meet in one slot, also from two
 * extension modules, so the additions are atomic; they seldom contend. */
static unsigned my_slot(void)
{
    static _Thread_local char here;
    return (unsigned)(((uintptr_t)&here >> 12) * 0x9e3779b97f4a7c15u >> 60) % SLOTS;
}

void vx_simd_count(vx_simd *s, uint64_t calls, uint64_t vectors)
{
    const unsigned slot = my_slot();
    atomic_fetch_add_explicit(&s->slot[slot].calls, calls, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->slot[slot].vectors, vectors, memory_order_relaxed);
}

static void totals(const vx_simd *s, uint64_t *calls, uint64_t *vectors)
{
    *calls = *vectors = 0;
    for (int i = 0; i < SLOTS; i++) {
        *calls += atomic_load_explicit(&s->slot[i].calls, memory_order_relaxed);
        *vectors += atomic_load_explicit(&s->slot[i].vectors, memory_order_relaxed);
    }
}

void vx_simd_read(const vx_simd *s, uint64_t *calls, uint64_t *vectors)
{
    totals(s, calls, vectors);
    *calls -= atomic_load_explicit(&s->calls_base, memory_order_relaxed);
    *vectors -= atomic_load_explicit(&s->vectors_base, memory_order_relaxed);
}

/* Zeroing the slots would lose what is added meanwhile; a base loses nothing. */
void vx_simd_reset(vx_simd *s)
{
    uint64_t calls, vectors;
    totals(s, &calls, &vectors);
    atomic_store_explicit(&s->calls_base, calls, memory_order_relaxed);
    atomic_store_explicit(&s->vectors_base, vectors, memory_order_relaxed);
}

static const vx_shapes *shapes_of(const vx_simd *s, int dtype, int metric, size_t dim)
{
    if (dtype < 0 || dtype >= VX_DTYPES || metric < 0 || metric >= VX_METRICS || dim == 0 || dim > VX_DIM_MAX)
        return NULL;
    const vx_shapes *shapes = &vx_simd_kernels(s)->distance[dtype][metric];
    return shapes->many ? shapes : NULL;
}

/* The processor's word on its cache is no help: virtual machines tell that of all cores together. */
vx_many_fn vx_simd_sweep(const vx_shapes *shapes, size_t n, size_t stride)
{
    return stride >= STREAMED_BYTES && n * stride > CACHED_BYTES ? shapes->stream : shapes->many;
}

/* The query again, so that it stands in cache lines as the rows stand in theirs; NULL where it does, or that is not worth
 * its while.  Loads that straddle two lines take twice as long. */
static void *query_as_rows(const void *q, const void *rows, size_t stride, size_t n, size_t bytes)
{
    const size_t skew = (uintptr_t)rows % VX_LINE;
    if (n < MANY_ROWS || bytes < 10 * VX_LINE || stride % VX_LINE || (uintptr_t)q % VX_LINE == skew)
        return NULL;
    uint8_t *room = aligned_alloc(VX_LINE, (bytes / VX_LINE + 2) * VX_LINE);
    return room ? memcpy(room + skew, q, bytes) : NULL;
}

int vx_simd_many(vx_simd *s, int dtype, int metric, const void *q, const void *rows, size_t stride, size_t n,
                 size_t dim, float *out)
{
    const vx_shapes *shapes = shapes_of(s, dtype, metric, dim);
    if (!shapes)
        return -EINVAL;
    const size_t batch = vx_simd_batch(s);
    const vx_many_fn many = vx_simd_sweep(shapes, n, stride);
    uint8_t *const again = query_as_rows(q, rows, stride, n, vx_row_bytes(dtype, dim));
    for (size_t at = 0; at < n; at += batch)
        many(again ? again : q, (const uint8_t *)rows + at * stride, stride, n - at < batch ? n - at : batch, dim, out + at);
    free(again ? again - (uintptr_t)again % VX_LINE : NULL);
    vx_simd_count(s, (n + batch - 1) / batch, n);
    return 0;
}

int vx_simd_gather(vx_simd *s, int dtype, int metric, const void *q, const void *rows, size_t stride,
                   const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const vx_shapes *shapes = shapes_of(s, dtype, metric, dim);
    if (!shapes)
        return -EINVAL;
    const size_t batch = vx_simd_batch(s);
    for (size_t at = 0; at < n; at += batch)
        shapes->gather(q, rows, stride, ids + at, n - at < batch ? n - at : batch, dim, out + at);
    vx_simd_count(s, (n + batch - 1) / batch, n);
    return 0;
}

int vx_simd_cross(vx_simd *s, int dtype, int metric, const void *a, size_t a_stride, size_t na, const void *b,
                  size_t b_stride, size_t nb, size_t dim, float *out)
{
    const vx_shapes *shapes = shapes_of(s, dtype, metric, dim);
    if (!shapes)
        return -EINVAL;
    const size_t batch = vx_simd_batch(s);
    for (size_t at = 0; at < nb; at += batch)
        shapes->cross(a, a_stride, na, (const uint8_t *)b + at * b_stride, b_stride, nb - at < batch ? nb - at : batch,
                      dim, out + at, nb);
    vx_simd_count(s, (nb + batch - 1) / batch, na * nb);
    return 0;
}

int vx_simd_quantise(vx_simd *s, int dtype, const float *x, size_t n, size_t dim, float scale, void *out)
{
    if (dtype < 0 || dtype >= VX_DTYPES || dim == 0 || dim > VX_DIM_MAX)
        return -EINVAL;
    const vx_quantise_fn quantise = vx_simd_kernels(s)->quantise[dtype];
    const size_t bytes = vx_row_bytes(dtype, dim);
    for (size_t i = 0; i < n; i++)
        quantise(x + i * dim, dim, scale, (uint8_t *)out + i * bytes);
    vx_simd_count(s, 1, n);
    return 0;
}

int vx_simd_dequantise(vx_simd *s, int dtype, const void *x, size_t n, size_t dim, float scale, float *out)
{
    if (dtype < 0 || dtype >= VX_DTYPES || dim == 0 || dim > VX_DIM_MAX)
        return -EINVAL;
    const vx_dequantise_fn dequantise = vx_simd_kernels(s)->dequantise[dtype];
    const size_t bytes = vx_row_bytes(dtype, dim);
    for (size_t i = 0; i < n; i++)
        dequantise((const uint8_t *)x + i * bytes, dim, scale, out + i * dim);
    vx_simd_count(s, 1, n);
    return 0;
}
