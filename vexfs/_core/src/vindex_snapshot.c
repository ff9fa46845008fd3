/* Snapshots: the lists, codes and maps of an index, without its stored rows; and what it tells about itself. */
#include <errno.h>

#include "vexfs/codec.h"
#include "vindex_impl.h"

#define MAGIC 0x3158444e49585856u /* "VXXINDX1" */
/* 1: one list a row, 4-bit codes in the lists.  2: no radii, no slack.  3: none for the nearest. */
#define FORMAT 4u

typedef struct {
    uint64_t magic;
    uint32_t format, dim, metric, dtype;
    uint64_t end, live;
    uint32_t lists, trained_rows, number, settings;
    uint64_t puts_since;
    uint32_t places, reserved;
} vx_head;

typedef struct {
    vx_vindex_out_fn write;
    vx_vindex_in_fn read;
    void *ctx;
    uint32_t sum;
    int status;
} vx_stream;

static void put_bytes(vx_stream *s, const void *bytes, size_t n)
{
    if (s->status != 0 || n == 0)
        return;
    s->sum = vx_crc32c(s->sum, bytes, n);
    s->status = s->write(s->ctx, bytes, n);
}

static void get_bytes(vx_stream *s, void *bytes, size_t n)
{
    if (s->status != 0 || n == 0)
        return;
    s->status = s->read(s->ctx, bytes, n);
    if (s->status == 0)
        s->sum = vx_crc32c(s->sum, bytes, n);
}

/* Rows are removed meanwhile: what was written and what the sum is of have to be the same bits. */
static void put_bits(vx_stream *s, const vx_span *bits, size_t words)
{
    const _Atomic uint64_t *from = (const _Atomic uint64_t *)(const void *)bits->at;
    uint64_t *copy = malloc((words + 1) * sizeof *copy);
    if (!copy) {
        s->status = s->status ? s->status : -ENOMEM;
        return;
    }
    for (size_t i = 0; i < words; i++)
        copy[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
    put_bytes(s, copy, words * sizeof *copy);
    free(copy);
}

static void dump_list(vx_stream *s, const vx_vindex *v, const vx_list *l)
{
    const uint32_t n = l ? atomic_load(&l->count) : 0, blocks = (n + VX_BLOCK - 1) / VX_BLOCK;
    put_bytes(s, &n, sizeof n);
    if (n == 0)
        return;
    put_bytes(s, vx_block(v, l, 0), blocks * v->block_bytes);
    put_bytes(s, (const void *)vx_rows_of(v, l), n * sizeof(uint32_t));
}

/* Writers wait meanwhile; searches and removals do not.  A row that is removed meanwhile may be in the snapshot. */
int vx_vindex_dump(vx_vindex *v, vx_vindex_out_fn write, void *ctx)
{
    vx_stream s = {.write = write, .ctx = ctx};
    pthread_mutex_lock(&v->writer);
    const vx_generation *g = atomic_load(&v->generation);
    const uint64_t end = atomic_load(&v->end);
    const size_t padded = v->padded;
    const vx_settings *settings = atomic_load(&g->settings);
    const vx_head head = {.magic = MAGIC, .format = FORMAT, .dim = v->dim, .metric = (uint32_t)v->metric,
                          .dtype = (uint32_t)v->dtype, .end = end, .live = atomic_load(&v->live), .lists = g->lists,
                          .trained_rows = g->trained_rows, .number = g->number, .settings = settings->levels, .places = g->places,
                          .puts_since = atomic_load(&v->puts) - v->puts_trained};
    put_bytes(&s, &head, sizeof head);
    put_bits(&s, &v->alive, (end + 63) / 64);
    if (v->metric == VX_COSINE)
        put_bytes(&s, v->norm.at, end * sizeof(float));
    put_bytes(&s, g->origin, padded * sizeof(float));
    put_bytes(&s, g->centroid, g->lists * padded * sizeof(float));
    put_bytes(&s, g->radius, g->lists * sizeof(float));
    put_bytes(&s, settings->level, sizeof settings->level);
    put_bytes(&s, g->place.at, end * VX_PLACES * sizeof(uint32_t));
    put_bytes(&s, g->fine.at, end * v->fine_bytes);
    for (uint32_t l = 0; l < g->lists; l++)
        dump_list(&s, v, atomic_load(&g->list[l]));
    const uint32_t sum = s.sum;
    put_bytes(&s, &sum, sizeof sum);
    v->recent.has_news &= s.status != 0;
    pthread_mutex_unlock(&v->writer);
    return s.status;
}

static int restore_list(vx_stream *s, vx_vindex *v, vx_generation *g, uint32_t list, uint64_t end)
{
    uint32_t n = 0;
    get_bytes(s, &n, sizeof n);
    if (s->status != 0 || n == 0)
        return s->status;
    if (n > 16 * end + 65536 || n > UINT32_MAX - VX_BLOCK)
        return -EBADMSG;
    vx_list *l = vx_list_new(v, g->arena, n);
    if (!l)
        return -ENOMEM;
    atomic_store(&g->list[list], l);
    get_bytes(s, vx_block(v, l, 0), (n + VX_BLOCK - 1) / VX_BLOCK * v->block_bytes);
    get_bytes(s, (void *)vx_rows_of(v, l), n * sizeof(uint32_t));
    for (uint32_t at = 0; at < n && s->status == 0; at++) {
        const uint32_t row = atomic_load_explicit(vx_rows_of(v, l) + at, memory_order_relaxed);
        if (row != VX_VINDEX_NONE && row >= end)
            return -EBADMSG;
    }
    atomic_store(&l->count, n);
    return s->status;
}

/* What is used as an address later; a checksum tells an accident from what was written, and no more. */
static int is_sound(const vx_vindex *v, const vx_generation *g, uint64_t end)
{
    const uint64_t *alive = (const uint64_t *)(const void *)v->alive.at;
    const vx_list *l = atomic_load(&g->list[0]);
    const uint32_t count = l ? atomic_load(&l->count) : 0, second = g->lists == 1 ? count : g->lists;
    if ((end % 64 && alive[end / 64] >> end % 64) || (g->lists == 1 && g->places != 1))
        return 0;
    for (uint64_t row = 0; row < end; row++) {
        const uint32_t *place = vx_place(g, (uint32_t)row);
        if (place[0] > g->lists || ((place[0] || g->lists > 1) && place[1] > second))
            return 0;
    }
    return 1;
}

static int restore_all(vx_stream *s, vx_vindex *v, const vx_head *head, vx_generation *g)
{
    const size_t padded = v->padded;
    int status = vx_vindex_reserve(v, head->end);
    status = status ? status : vx_generation_reserve(v, g, head->end);
    if (status != 0)
        return status;
    get_bytes(s, v->alive.at, (head->end + 63) / 64 * 8);
    if (v->metric == VX_COSINE)
        get_bytes(s, v->norm.at, head->end * sizeof(float));
    get_bytes(s, g->origin, padded * sizeof(float));
    get_bytes(s, g->centroid, g->lists * padded * sizeof(float));
    get_bytes(s, g->radius, g->lists * sizeof(float));
    vx_settings *settings = atomic_load(&g->settings);
    get_bytes(s, settings->level, sizeof settings->level);
    get_bytes(s, g->place.at, head->end * VX_PLACES * sizeof(uint32_t));
    get_bytes(s, g->fine.at, head->end * v->fine_bytes);
    for (uint32_t l = 0; l < g->lists && s->status == 0; l++) {
        status = restore_list(s, v, g, l, head->end);
        if (status != 0)
            return status;
    }
    const uint32_t sum = s->sum;
    uint32_t stored = 0;
    get_bytes(s, &stored, sizeof stored);
    if (s->status != 0)
        return s->status;
    g->trained_rows = head->trained_rows;
    g->number = head->number;
    settings->levels = head->settings;
    g->places = head->places;
    if (stored != sum || !is_sound(v, g, head->end))
        return -EBADMSG;
    vx_generation_finish(v, g);
    return 0;
}

int vx_vindex_restore(vx_vindex *v, vx_vindex_in_fn read, void *ctx)
{
    vx_stream s = {.read = read, .ctx = ctx};
    vx_head head = {0};
    get_bytes(&s, &head, sizeof head);
    if (s.status != 0)
        return s.status;
    if (head.magic != MAGIC || head.format != FORMAT || head.lists == 0 || head.lists > 65535 ||
        head.end > UINT32_MAX || head.live > head.end || head.settings > VX_LEVELS_OF_RECALL ||
        head.places == 0 || head.places > VX_PLACES)
        return -EBADMSG;
    if (head.dim != v->dim || head.metric != (uint32_t)v->metric || head.dtype != (uint32_t)v->dtype ||
        atomic_load(&v->end) != 0)
        return -EINVAL;
    vx_generation *g = vx_generation_new(v, head.lists), *old = atomic_load(&v->generation);
    int status = g ? restore_all(&s, v, &head, g) : -ENOMEM;
    pthread_mutex_lock(&v->writer);
    status = status ? status : vx_retire(v, old, vx_generation_free);
    if (status != 0) {
        if (v->alive.at)
            memset(v->alive.at, 0, atomic_load(&v->alive.bytes));
        vx_generation_free(g);
    } else {
        atomic_store(&v->generation, g);
        atomic_store(&v->puts, head.puts_since);
        uint64_t live = 0;
        for (uint64_t word = 0; word < (head.end + 63) / 64; word++)
            live += (uint64_t)__builtin_popcountll(((const uint64_t *)(const void *)v->alive.at)[word]);
        atomic_store(&v->live, live);
        atomic_store(&v->end, head.end);
    }
    pthread_mutex_unlock(&v->writer);
    return status;
}

void vx_vindex_read_memory(vx_vindex *v, vx_vindex_memory *out)
{
    const uint64_t ticket = vx_epoch_enter(v);
    const vx_generation *g = atomic_load(&v->generation);
    const size_t entry = v->block_bytes / VX_BLOCK;
    const uint64_t end = atomic_load(&v->end);
    memset(out, 0, sizeof *out);
    for (uint32_t l = 0; l < g->lists; l++) {
        const vx_list *list = atomic_load(&g->list[l]);
        out->lists += list && !list->arena ? list->bytes : 0;
        out->codes += list ? atomic_load(&list->count) * entry : 0;
    }
    out->rows = atomic_load(&v->resident_rows) * v->row_bytes;
    out->codes += end * v->fine_bytes;
    out->lists += end * v->fine_bytes;
    out->maps = end * VX_PLACES * sizeof(uint32_t) + 2 * (end / 8) + (v->metric == VX_COSINE ? end * sizeof(float) : 0);
    out->model = g->lists * (5 * (uint64_t)v->padded + v->block_bytes / VX_BLOCK + 28);
    vx_epoch_leave(v, ticket);
    pthread_mutex_lock(&v->recent.lock);
    out->model += v->recent.n * (uint64_t)v->dim * sizeof(float);
    pthread_mutex_unlock(&v->recent.lock);
    pthread_mutex_lock(&v->writer);
    out->lists += atomic_load(&v->generation)->arena->used; /* gaps that lists left when they grew are counted */
    pthread_mutex_unlock(&v->writer);
}

void vx_vindex_read_stats(vx_vindex *v, vx_vindex_stats *out)
{
    const uint64_t ticket = vx_epoch_enter(v);
    const vx_generation *g = atomic_load(&v->generation);
    *out = (vx_vindex_stats){
        .live = atomic_load(&v->live), .end = atomic_load(&v->end), .resident = atomic_load(&v->resident_rows),
        .dead = atomic_load(&v->dead), .lists = g->lists, .trained_rows = g->trained_rows, .generation = g->number,
        .puts = atomic_load(&v->puts), .removes = atomic_load(&v->removes), .searches = atomic_load(&v->searches),
    };
    vx_epoch_leave(v, ticket);
    pthread_mutex_lock(&v->writer);
    out->growing = v->growth != NULL;
    pthread_mutex_unlock(&v->writer);
}
