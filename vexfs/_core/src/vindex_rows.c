/* Stored rows: their formats, where they lie, and reading them while they change. */
#include <errno.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vexfs/half.h"
#include "vindex_impl.h"

#define SPAN_STEP (2u << 20)
#define SPAN_LEAST ((size_t)64 << 20)
/* What a span may hold: as much as there is memory, twice.  More could not be filled, and some hundred indexes, of half a
 * dozen spans each, have to fit the 47 bits of user space. */
static size_t span_most(void)
{
    const size_t least = (size_t)16 << 30, most = (size_t)1 << 40;
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const size_t memory = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : most / 2;
    return memory < least / 2 ? least : memory > most / 2 ? most : (2 * memory + SPAN_STEP - 1) / SPAN_STEP * SPAN_STEP;
}

/* Less than asked for is reserved where the system limits address space. */
int vx_span_reserve(vx_span *s, size_t most)
{
    const size_t limit = span_most();
    size_t want = most < limit ? (most + SPAN_STEP - 1) / SPAN_STEP * SPAN_STEP : limit;
    memset(s, 0, sizeof *s);
    for (; want >= SPAN_LEAST || want >= most; want = want / 2 / SPAN_STEP * SPAN_STEP) {
        void *at = mmap(NULL, want + SPAN_STEP, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at != MAP_FAILED) {
            /* Huge pages begin at their own multiples. */
            uint8_t *aligned = (uint8_t *)(((uintptr_t)at + SPAN_STEP - 1) & ~(uintptr_t)(SPAN_STEP - 1));
            const size_t head = (size_t)(aligned - (uint8_t *)at);
            if (head)
                munmap(at, head);
            munmap(aligned + want, SPAN_STEP - head);
            s->at = aligned;
            s->reserved = want;
            return 0;
        }
        if (want <= SPAN_STEP)
            break;
    }
    return -ENOMEM;
}

int vx_span_grow(vx_span *s, size_t bytes)
{
    const size_t have = atomic_load_explicit(&s->bytes, memory_order_relaxed);
    if (bytes <= have)
        return 0;
    if (bytes > s->reserved)
        return -EFBIG;
    size_t want = (bytes + SPAN_STEP - 1) / SPAN_STEP * SPAN_STEP;
    want = want < s->reserved ? want : s->reserved;
    if (mprotect(s->at + have, want - have, PROT_READ | PROT_WRITE) != 0)
        return -ENOMEM;
    /* Its first step keeps to small pages: an index of ten rows is not to take megabytes. */
    const size_t small = have > SPAN_STEP ? have : SPAN_STEP;
    if (want > small)
        madvise(s->at + small, want - small, MADV_HUGEPAGE);
    atomic_store_explicit(&s->bytes, want, memory_order_release);
    return 0;
}

void vx_span_release(vx_span *s)
{
    if (s->at)
        munmap(s->at, s->reserved);
    s->at = NULL;
}

size_t vx_vindex_row_bytes(const vx_vindex *v)
{
    return v->row_bytes;
}

static int encode_one(const vx_vindex *v, const float *x, uint8_t *out)
{
    float most = 0;
    int bad = 0;
    for (uint32_t i = 0; i < v->dim; i++) {
        const float size = fabsf(x[i]);
        bad |= !(size <= 3.402823466e38f);
        most = size > most ? size : most;
    }
    if (bad || (v->dtype == VX_F16 && most >= 65520) || (v->dtype == VX_BF16 && most >= 0x1.ffp127f))
        return -ERANGE;
    float scale = 1;
    if (v->dtype == VX_I8)
        scale = most / 127 > 0x1p-126f ? most / 127 : 1;
    vx_simd_kernels(v->simd)->quantise[v->dtype](x, v->dim, scale, out);
    if (v->dtype == VX_I8)
        memcpy(out + v->dim, &scale, sizeof scale);
    return 0;
}

int vx_vindex_encode(const vx_vindex *v, const float *x, size_t n, void *stored, size_t *bad)
{
    for (size_t i = 0; i < n; i++)
        if (encode_one(v, x + i * v->dim, (uint8_t *)stored + i * v->row_bytes) != 0) {
            *bad = i;
            return -ERANGE;
        }
    return 0;
}

void vx_row_decode(const vx_vindex *v, const void *stored, float *x)
{
    float scale = 1;
    if (v->dtype == VX_I8)
        memcpy(&scale, (const uint8_t *)stored + v->dim, sizeof scale);
    vx_simd_kernels(v->simd)->dequantise[v->dtype](stored, v->dim, scale, x);
}

void vx_vindex_decode(const vx_vindex *v, const void *stored, size_t n, float *x)
{
    for (size_t i = 0; i < n; i++)
        vx_row_decode(v, (const uint8_t *)stored + i * v->row_bytes, x + i * v->dim);
}

float vx_row_inverse_norm(const vx_vindex *v, const float *x)
{
    const float square = vx_vkernels_in(v)->dot[VX_F32](x, x, v->dim);
    if (square >= 0x1p-100f && square <= 0x1p100f)
        return 1 / sqrtf(square);
    double sum = 0;
    for (uint32_t i = 0; i < v->dim; i++)
        sum += (double)x[i] * x[i];
    return sum > 0 ? (float)(1 / sqrt(sum)) : 0;
}

float vx_row_prepare(const vx_vindex *v, const vx_generation *g, const float *x, float *spare, float *rotated)
{
    const vx_vkernels *k = vx_vkernels_in(v);
    if (v->metric == VX_COSINE) {
        const float inverse = vx_row_inverse_norm(v, x);
        for (uint32_t i = 0; i < v->dim; i++)
            spare[i] = x[i] * inverse;
        x = spare;
    }
    k->rotate(&v->rotation, x, rotated);
    if (g->lists == 1)
        return v->metric == VX_L2 ? -0.5f * k->dot[VX_F32](rotated, rotated, v->padded) : 0;
    for (uint32_t i = 0; i < v->padded; i++)
        rotated[i] -= g->origin[i];
    return v->metric == VX_L2 ? -0.5f * k->dot[VX_F32](rotated, rotated, v->padded)
                              : k->dot[VX_F32](g->origin, rotated, v->padded);
}

/* A row may be replaced while it is read: the stripe's number tells, and the copy is made again. */
int vx_row_copy(vx_vindex *v, uint32_t row, void *out)
{
    if (!vx_bit(&v->resident, row)) {
        const int status = v->read ? v->read(v->read_ctx, row, 1, out) : -EIO;
        return status < 0 ? status : 1;
    }
    _Atomic uint32_t *stripe = &v->stripe[row % 256];
    uint32_t before;
    do {
        before = atomic_load_explicit(stripe, memory_order_acquire);
        memcpy(out, vx_row(v, row), v->row_bytes);
        atomic_thread_fence(memory_order_acquire);
    } while (before % 2 || atomic_load_explicit(stripe, memory_order_relaxed) != before);
    return 0;
}

int vx_row_load(vx_vindex *v, uint32_t row, uint8_t *stored, float *raw)
{
    if (!vx_bit(&v->alive, row))
        return 0;
    const int status = vx_row_copy(v, row, stored);
    if (status < 0)
        return status;
    vx_row_decode(v, stored, raw);
    return 1;
}

void vx_vindex_source(vx_vindex *v, vx_vindex_read_fn read, void *ctx, int keep)
{
    pthread_mutex_lock(&v->writer);
    v->read = read;
    v->read_ctx = ctx;
    v->keep = keep;
    pthread_mutex_unlock(&v->writer);
}

int vx_vindex_load(vx_vindex *v, uint32_t first, uint32_t n)
{
    const uint32_t step = (uint32_t)((1u << 20) / v->row_bytes) + 1;
    uint8_t *some = malloc(step * v->row_bytes);
    const uint64_t end = atomic_load(&v->end), until = (uint64_t)first + n < end ? (uint64_t)first + n : end;
    int status = !some ? -ENOMEM : !v->read ? -EINVAL : 0;
    for (uint64_t at = first; status == 0 && at < until; at += step) {
        const uint32_t count = (uint32_t)(until - at < step ? until - at : step);
        status = v->read(v->read_ctx, (uint32_t)at, count, some);
        if (status < 0)
            break;
        pthread_mutex_lock(&v->writer);
        status = vx_span_grow(&v->rows, (at + count) * v->row_bytes);
        for (uint32_t i = 0; status == 0 && i < count; i++) {
            const uint32_t row = (uint32_t)at + i;
            if (vx_bit(&v->resident, row) || !vx_bit(&v->alive, row))
                continue;
            memcpy(vx_row(v, row), some + i * v->row_bytes, v->row_bytes);
            vx_set_bit(&v->resident, row, 1);
            atomic_fetch_add(&v->resident_rows, 1);
        }
        pthread_mutex_unlock(&v->writer);
    }
    free(some);
    return status < 0 ? status : 0;
}
