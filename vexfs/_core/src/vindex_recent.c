/* What was asked: the last queries that differ from each other, and the calibration of the lists in use anew by them.
 *
 * Rows are a guess at queries, good where these are as rows are.  A few words that look for pages are not: their
 * neighbours are spread over more lists. */
#include <errno.h>
#include <math.h>

#include "vexfs/codec.h"

#include "clock.h"

#include "vindex_impl.h"

#define MAGIC 0x4c585856u /* "VXXL" */

/* Kept are at most so many bytes of queries, and at least so many of them. */
#define MOST_BYTES (1u << 20)
#define LEAST 16u
/* They are looked at when so many have come, then twice as many, in the end as many as are kept; and for no more than
 * this share of the time. */
#define FIRST 64u
#define SHARE 20u
/* Of a batch; and one call in so many, when there are enough. */
#define OF_BATCH 16u
#define CALLS 8u

struct vx_learning {
    vx_bench bench;
    vx_calibration calibration;
    uint64_t spent_ns;
};

static uint32_t room_for(const vx_vindex *v)
{
    const uint32_t room = MOST_BYTES / (v->dim * (uint32_t)sizeof(float));
    return room < LEAST ? LEAST : room < VX_RECENT ? room : VX_RECENT;
}

static uint64_t mark_of(const float *q, uint32_t dim)
{
    uint64_t lane[4] = {dim, 1, 2, 3};
    for (uint32_t i = 0; i < dim; i++) {
        uint32_t bits;
        memcpy(&bits, q + i, sizeof bits);
        lane[i % 4] = (lane[i % 4] ^ bits) * 0x9e3779b97f4a7c15u;
    }
    for (int k = 1; k < 4; k++)
        lane[0] = (lane[0] ^ lane[k] ^ lane[k] >> 29) * 0xbf58476d1ce4e5b9u;
    return lane[0] ^ lane[0] >> 32;
}

static void note(vx_vindex *v, const float *q)
{
    vx_recent *a = &v->recent;
    /* One whose square floats do not hold tells nothing of others. */
    if (!(vx_vkernels_in(v)->dot[VX_F32](q, q, v->dim) < INFINITY))
        return;
    const uint64_t mark = mark_of(q, v->dim);
    for (uint32_t i = 0; i < a->n; i++)
        if (a->mark[i] == mark)
            return;
    const uint32_t room = room_for(v);
    if (!a->query)
        a->query = malloc((size_t)room * v->dim * sizeof(float));
    if (!a->query)
        return;
    const uint32_t at = (uint32_t)(atomic_load_explicit(&a->seen, memory_order_relaxed) % room);
    memcpy(a->query + (size_t)at * v->dim, q, v->dim * sizeof(float));
    a->mark[at] = mark;
    a->n += a->n < room;
    atomic_fetch_add_explicit(&a->seen, 1, memory_order_relaxed);
}

/* A search waits for nobody: another one that notes its own keeps this one from it. */
void vx_recent_note(vx_vindex *v, const float *q, size_t nq)
{
    vx_recent *a = &v->recent;
    if (atomic_load_explicit(&a->seen, memory_order_relaxed) >= room_for(v) &&
        atomic_fetch_add_explicit(&a->calls, 1, memory_order_relaxed) % CALLS)
        return;
    if (pthread_mutex_trylock(&a->lock) != 0)
        return;
    for (size_t i = 0; i < nq; i += nq / OF_BATCH + 1)
        note(v, q + i * v->dim);
    pthread_mutex_unlock(&a->lock);
}

void vx_vindex_expect(vx_vindex *v, const float *q, size_t nq)
{
    pthread_mutex_lock(&v->recent.lock);
    const uint64_t seen = atomic_load(&v->recent.seen);
    for (size_t i = 0; i < nq; i++)
        note(v, q + i * v->dim);
    atomic_fetch_add(&v->recent.learned, atomic_load(&v->recent.seen) - seen);
    pthread_mutex_unlock(&v->recent.lock);
}

int vx_recent_copy(vx_vindex *v, uint32_t i, float *q)
{
    vx_recent *a = &v->recent;
    pthread_mutex_lock(&a->lock);
    const int there = i < a->n;
    if (there)
        memcpy(q, a->query + (size_t)i * v->dim, v->dim * sizeof(float));
    pthread_mutex_unlock(&a->lock);
    return there;
}

int vx_vindex_may_learn(vx_vindex *v)
{
    const uint64_t seen = atomic_load_explicit(&v->recent.seen, memory_order_relaxed);
    const uint64_t learned = atomic_load_explicit(&v->recent.learned, memory_order_relaxed);
    const uint64_t more = learned < FIRST ? FIRST : learned < VX_RECENT ? learned : VX_RECENT;
    return seen >= learned + more && vx_now_ns() >= atomic_load_explicit(&v->recent.rests_until, memory_order_relaxed);
}

void vx_learn_free(vx_vindex *v)
{
    vx_learning *w = v->learning;
    v->learning = NULL;
    if (!w)
        return;
    vx_bench_free(&w->bench);
    vx_calibration_free(&w->calibration);
    free(w);
}

static int begin(vx_vindex *v, const vx_generation *g)
{
    vx_learning *w = v->learning = calloc(1, sizeof *w);
    const int status = w ? vx_bench_room(&w->bench, v, g->lists) : -ENOMEM;
    return status ? status : vx_calibration_begin(&w->calibration, v, g->lists);
}

/* Searches take the new settings from now on; those under way may still look at the old ones. */
static int end(vx_vindex *v, vx_generation *g)
{
    vx_settings *settings = malloc(sizeof *settings);
    if (!settings)
        return -ENOMEM;
    vx_calibration_end(&v->learning->calibration, g, settings);
    pthread_mutex_lock(&v->writer);
    const int status = vx_retire(v, atomic_load(&g->settings), free);
    if (status == 0)
        atomic_store(&g->settings, settings);
    else
        free(settings);
    v->recent.has_news |= status == 0;
    pthread_mutex_unlock(&v->writer);
    return status;
}

/* -- kept beside a snapshot ---------------------------------------------------------------------------------------- */

/* Which lists it was learnt of is told by the checksum of their centroids. */
typedef struct {
    uint32_t magic, lists, model, sum; /* sum: of the settings */
    vx_settings settings;
} vx_learned;

static uint32_t model_of(const vx_vindex *v, const vx_generation *g)
{
    return vx_crc32c(0, g->centroid, g->lists * (size_t)v->padded * sizeof(float));
}

size_t vx_vindex_learned(vx_vindex *v, void *out)
{
    size_t n = 0;
    pthread_mutex_lock(&v->writer);
    const vx_generation *g = atomic_load(&v->generation);
    if (v->recent.has_news && out) {
        vx_learned told = {.magic = MAGIC, .lists = g->lists, .model = model_of(v, g),
                           .settings = *atomic_load(&g->settings)};
        told.sum = vx_crc32c(0, &told.settings, sizeof told.settings);
        memcpy(out, &told, sizeof told);
    }
    n = v->recent.has_news ? sizeof(vx_learned) : 0;
    pthread_mutex_unlock(&v->writer);
    return n;
}

int vx_vindex_teach(vx_vindex *v, const void *learned, size_t n)
{
    vx_learned told;
    if (n != sizeof told)
        return -EBADMSG;
    memcpy(&told, learned, sizeof told);
    if (told.magic != MAGIC || told.settings.levels > VX_LEVELS_OF_RECALL ||
        told.sum != vx_crc32c(0, &told.settings, sizeof told.settings))
        return -EBADMSG;
    vx_settings *settings = malloc(sizeof *settings);
    if (!settings)
        return -ENOMEM;
    *settings = told.settings;
    pthread_mutex_lock(&v->writer);
    vx_generation *g = atomic_load(&v->generation);
    int status = told.lists == g->lists && told.model == model_of(v, g) ? 0 : -ESTALE;
    status = status ? status : vx_retire(v, atomic_load(&g->settings), free);
    if (status == 0)
        atomic_store(&g->settings, settings);
    else
        free(settings);
    pthread_mutex_unlock(&v->writer);
    return status;
}

int vx_learn_step(vx_vindex *v)
{
    vx_generation *g = atomic_load(&v->generation);
    const uint64_t began = vx_now_ns();
    int status = 0;
    if (!v->learning) {
        if (g->lists == 1 || !vx_vindex_may_learn(v))
            return 0;
        atomic_store(&v->recent.learned, atomic_load(&v->recent.seen));
        status = begin(v, g);
    }
    status = status ? status : vx_calibration_step(&v->learning->calibration, v, g, &v->learning->bench);
    if (status == 0)
        status = end(v, g);
    const uint64_t now = vx_now_ns();
    if (v->learning)
        v->learning->spent_ns += now - began;
    if (status > 0)
        return 1;
    atomic_store(&v->recent.rests_until, now + SHARE * (v->learning ? v->learning->spent_ns : 0));
    vx_learn_free(v);
    return status;
}
