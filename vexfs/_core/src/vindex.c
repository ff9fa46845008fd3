/* The index as a whole: making it, putting and removing rows, and who may still see what was replaced. */
#include "vexfs/vindex.h"

#include <errno.h>
#include <math.h>
#include <sched.h>

#include "vindex_impl.h"

static uint64_t mixed(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Always the same signs for a dimension: snapshots rely on it. */
static int make_rotation(vx_rotation *r, uint32_t dim)
{
    r->dim = dim;
    r->padded = (dim + 63) / 64 * 64;
    r->power = 64;
    while (r->power * 2 <= r->padded)
        r->power *= 2;
    r->signs = malloc(VX_ROUNDS * (size_t)r->padded * sizeof *r->signs);
    if (!r->signs)
        return -ENOMEM;
    uint64_t state = dim;
    const float scale = 1 / sqrtf((float)r->power);
    for (uint32_t round = 0; round < VX_ROUNDS; round++)
        for (uint32_t i = 0; i < r->padded; i++) {
            const uint32_t from = round % 2 ? r->padded - r->power : 0;
            const float size = i >= from && i < from + r->power ? scale : 1;
            r->signs[round * r->padded + i] = mixed(&state) >> 63 ? size : -size;
        }
    return 0;
}

static int make_spans(vx_vindex *v)
{
    const size_t most = UINT32_MAX;
    int status = vx_span_reserve(&v->rows, most * v->row_bytes);
    status = status ? status : vx_span_reserve(&v->alive, most / 8 + 64);
    status = status ? status : vx_span_reserve(&v->resident, most / 8 + 64);
    return status ? status : vx_span_reserve(&v->norm, v->metric == VX_COSINE ? most * sizeof(float) : 64);
}

int vx_vindex_new(vx_vindex **out, uint32_t dim, int metric, int dtype, vx_simd *simd, vx_pool *pool)
{
    *out = NULL;
    if (dim == 0 || dim > VX_DIM_MAX || dtype < VX_F32 || dtype > VX_I8 ||
        (metric != VX_COSINE && metric != VX_L2 && metric != VX_DOT))
        return -EINVAL;
    vx_vindex *v = aligned_alloc(64, (sizeof *v + 63) / 64 * 64);
    if (!v)
        return -ENOMEM;
    memset(v, 0, sizeof *v);
    pthread_mutex_init(&v->writer, NULL);
    pthread_mutex_init(&v->maintenance, NULL);
    pthread_mutex_init(&v->recent.lock, NULL);
    v->dim = dim;
    v->metric = metric;
    v->dtype = dtype;
    v->simd = simd;
    v->pool = pool;
    v->keep = 1;
    v->retired_end = &v->retired;
    v->row_bytes = vx_row_bytes(dtype, dim) + (dtype == VX_I8 ? sizeof(float) : 0);
    atomic_store(&v->epoch, 2);
    int status = make_rotation(&v->rotation, dim);
    v->padded = v->rotation.padded;
    v->code_lines = v->padded / 8;
    v->block_bytes = v->code_lines * VX_BLOCK + sizeof(vx_entries);
    v->fine_bytes = v->padded / 2 + 2 * sizeof(float);
    status = status ? status : make_spans(v);
    vx_generation *g = status ? NULL : vx_generation_new(v, 1);
    if (!g) {
        vx_vindex_free(v);
        return status ? status : -ENOMEM;
    }
    vx_generation_finish(v, g);
    atomic_store(&v->generation, g);
    *out = v;
    return 0;
}

void vx_vindex_free(vx_vindex *v)
{
    if (!v)
        return;
    vx_growth_free(v);
    vx_learn_free(v);
    vx_retired_free(v, 1);
    vx_generation_free(atomic_load(&v->generation));
    vx_span_release(&v->rows);
    vx_span_release(&v->alive);
    vx_span_release(&v->resident);
    vx_span_release(&v->norm);
    free(v->rotation.signs);
    free(v->recent.query);
    pthread_mutex_destroy(&v->recent.lock);
    pthread_mutex_destroy(&v->writer);
    pthread_mutex_destroy(&v->maintenance);
    free(v);
}

/* -- readers ------------------------------------------------------------------------------------------------------
 * A reader counts itself in under the parity of the epoch.  The epoch moves on when nobody is left under the one before,
 * so what was retired two epochs ago is seen by nobody. */

static uint32_t my_shard(void)
{
    static _Thread_local char here;
    return (uint32_t)(((uintptr_t)&here >> 12) * 0x9e3779b97f4a7c15u >> 60) % VX_EPOCH_SHARDS;
}

uint64_t vx_epoch_enter(vx_vindex *v)
{
    const uint32_t shard = my_shard();
    for (;;) {
        const uint64_t epoch = atomic_load(&v->epoch);
        atomic_fetch_add(&v->readers[shard].in[epoch % 2], 1);
        if (atomic_load(&v->epoch) == epoch)
            return (uint64_t)shard << 1 | epoch % 2;
        atomic_fetch_sub(&v->readers[shard].in[epoch % 2], 1);
    }
}

void vx_epoch_leave(vx_vindex *v, uint64_t ticket)
{
    atomic_fetch_sub_explicit(&v->readers[ticket >> 1].in[ticket & 1], 1, memory_order_release);
}

static void advance(vx_vindex *v)
{
    const uint64_t epoch = atomic_load(&v->epoch);
    uint32_t in = 0;
    for (int i = 0; i < VX_EPOCH_SHARDS; i++)
        in += atomic_load(&v->readers[i].in[(epoch - 1) % 2]);
    if (in == 0)
        atomic_store(&v->epoch, epoch + 1);
}

void vx_retired_free(vx_vindex *v, int all)
{
    advance(v);
    const uint64_t epoch = atomic_load(&v->epoch);
    /* Oldest first, so that lists go before the generation that their memory belongs to. */
    while (v->retired && (all || v->retired->epoch + 2 <= epoch)) {
        vx_retired *r = v->retired;
        v->retired = r->next;
        if (!v->retired)
            v->retired_end = &v->retired;
        r->release(r->what);
        free(r);
    }
}

int vx_retire(vx_vindex *v, void *what, void (*release)(void *what))
{
    vx_retired *r = malloc(sizeof *r);
    if (!r)
        return -ENOMEM;
    *r = (vx_retired){NULL, atomic_load(&v->epoch), what, release};
    *v->retired_end = r;
    v->retired_end = &r->next;
    return 0;
}

/* -- rows --------------------------------------------------------------------------------------------------------- */

int vx_vindex_reserve(vx_vindex *v, uint64_t end)
{
    int status = vx_span_grow(&v->alive, (end + 63) / 64 * 8);
    status = status ? status : vx_span_grow(&v->resident, (end + 63) / 64 * 8);
    status = status ? status : v->metric == VX_COSINE ? vx_span_grow(&v->norm, end * sizeof(float)) : 0;
    return status ? status : vx_generation_reserve(v, atomic_load(&v->generation), end);
}

static void write_row(vx_vindex *v, uint32_t row, const void *stored, float inverse_norm)
{
    _Atomic uint32_t *stripe = &v->stripe[row % 256];
    atomic_fetch_add_explicit(stripe, 1, memory_order_acq_rel);
    atomic_fetch_add_explicit(&v->writing, 1, memory_order_acq_rel);
    atomic_thread_fence(memory_order_release);
    if (v->metric == VX_COSINE)
        *vx_norm(v, row) = inverse_norm;
    if (v->keep)
        memcpy(vx_row(v, row), stored, v->row_bytes);
    atomic_fetch_add_explicit(stripe, 1, memory_order_release);
    atomic_fetch_add_explicit(&v->writing, 1, memory_order_release);
    if (v->keep ? !vx_set_bit(&v->resident, row, 1) : vx_set_bit(&v->resident, row, 0))
        atomic_fetch_add(&v->resident_rows, v->keep ? 1 : (uint64_t)-1);
}

static int enter_row(vx_vindex *v, vx_generation *g, vx_bench *b, uint32_t row, const void *stored, float inverse_norm)
{
    int status = vx_vindex_reserve(v, (uint64_t)row + 1);
    if (status == 0 && v->keep)
        status = vx_span_grow(&v->rows, ((size_t)row + 1) * v->row_bytes);
    status = status ? status : vx_growth_note(v, row);
    if (status != 0)
        return status;
    write_row(v, row, stored, inverse_norm);
    status = vx_generation_enter(v, g, row, b);
    if (status != 0)
        return status;
    if (row >= atomic_load(&v->end))
        atomic_store(&v->end, (uint64_t)row + 1);
    if (!vx_set_bit(&v->alive, row, 1))
        atomic_fetch_add(&v->live, 1);
    atomic_fetch_add_explicit(&v->puts, 1, memory_order_relaxed);
    return 0;
}

static int put_one(vx_vindex *v, vx_bench *b, uint32_t row, const void *stored)
{
    for (;;) {
        const uint64_t ticket = vx_epoch_enter(v);
        vx_generation *g = atomic_load(&v->generation);
        int status = vx_bench_room(b, v, g->lists);
        float inverse = 1;
        if (status == 0) {
            vx_row_decode(v, stored, b->raw);
            inverse = v->metric == VX_COSINE ? vx_row_inverse_norm(v, b->raw) : 1;
            vx_bench_encode(b, v, g);
        }
        pthread_mutex_lock(&v->writer);
        /* Another generation may have taken this one's place meanwhile. */
        const int again = status == 0 && g != atomic_load(&v->generation);
        if (status == 0 && !again)
            status = enter_row(v, g, b, row, stored, inverse);
        pthread_mutex_unlock(&v->writer);
        vx_epoch_leave(v, ticket);
        if (!again)
            return status;
    }
}

int vx_vindex_put(vx_vindex *v, const uint32_t *rows, const void *stored, size_t n)
{
    vx_bench b = {0};
    int status = 0;
    for (size_t i = 0; status == 0 && i < n; i++)
        status = rows[i] == VX_VINDEX_NONE ? -EFBIG
                                           : put_one(v, &b, rows[i], (const uint8_t *)stored + i * v->row_bytes);
    vx_bench_free(&b);
    pthread_mutex_lock(&v->writer);
    vx_retired_free(v, 0);
    pthread_mutex_unlock(&v->writer);
    return status;
}

int vx_vindex_has(const vx_vindex *v, uint32_t row)
{
    return row < atomic_load(&v->end) && vx_bit(&v->alive, row);
}

int vx_vindex_remove(vx_vindex *v, uint32_t row)
{
    if (row >= atomic_load(&v->end) || !vx_set_bit(&v->alive, row, 0))
        return 0;
    atomic_fetch_sub(&v->live, 1);
    atomic_fetch_add_explicit(&v->removes, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&v->dead, 1, memory_order_relaxed);
    return 1;
}

uint64_t vx_vindex_count(const vx_vindex *v)
{
    return atomic_load(&v->live);
}
