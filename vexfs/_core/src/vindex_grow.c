/* The next generation of lists: trained on a sample, filled row by row beside the one in use, then put in its place.
 *
 * Everything goes in short steps under `maintenance`, so that a caller decides when and how long.  Puts meanwhile go to the
 * generation in use; those of rows that the next one already has are noted and made up for before the change. */
#include <errno.h>
#include <math.h>

#include "clock.h"
#include "vindex_impl.h"

#define SAMPLE_PER_LIST 32u
#define LLOYD_ROUNDS 6u
#define STEP_ROWS 256u

enum stage { SAMPLING, ASSIGNING, FILLING };

struct vx_growth {
    enum stage stage;
    vx_generation *next;
    vx_arena *loose; /* where its lists have grown, while they move to one without gaps */
    uint32_t lists, sample_n, sampled, round, assigned, trimmed;
    uint64_t cursor, sample_at; /* rows below are filled or noted */
    float *sample;              /* sample_n x padded, prepared */
    float *sum, *square;        /* of the rows of each list, and of their squared lengths */
    uint32_t *members;
    uint32_t *noted;
    size_t noted_n, noted_room;
    vx_bench bench;
    vx_calibration calibration;
    int calibrated;
    uint8_t *stored;
    uint64_t random;
};

static uint32_t wanted_lists(uint64_t rows)
{
    const double most = (double)rows / 50, root = 6 * sqrt((double)rows), n = root < most ? root : most;
    return n < 16 ? 16 : n > 65535 ? 65535 : (uint32_t)n;
}

void vx_growth_free(vx_vindex *v)
{
    vx_growth *w = v->growth;
    v->growth = NULL;
    if (!w)
        return;
    /* Lists of its memory may be on their way out: it goes after them.  Without memory to note that, it stays. */
    if (w->next && vx_retire(v, w->next, vx_generation_free) == 0 && w->loose)
        (void)vx_retire(v, w->loose, vx_arena_free);
    free(w->sample);
    free(w->sum);
    free(w->square);
    free(w->members);
    free(w->noted);
    free(w->stored);
    vx_bench_free(&w->bench);
    vx_calibration_free(&w->calibration);
    free(w);
}

/* Lists are trained anew when the rows have doubled, have dwindled to a quarter, or most of them are others. */
static int due(const vx_vindex *v)
{
    const vx_generation *g = atomic_load(&v->generation);
    const uint64_t live = atomic_load(&v->live), puts = atomic_load(&v->puts) - v->puts_trained;
    if (live < VX_TRAIN_ROWS)
        return 0;
    if (g->lists == 1)
        return 1;
    return live > 2 * (uint64_t)g->trained_rows || live < g->trained_rows / 4 || puts > 2 * live;
}

static int begin(vx_vindex *v)
{
    const uint64_t live = atomic_load(&v->live);
    vx_growth *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->lists = wanted_lists(live);
    w->sample_n = w->lists * SAMPLE_PER_LIST;
    w->sample_n = w->sample_n < live / 2 ? w->sample_n : (uint32_t)(live / 2);
    w->random = live;
    w->sample = malloc((size_t)w->sample_n * v->padded * sizeof(float));
    w->sum = malloc((size_t)w->lists * v->padded * sizeof(float));
    w->square = malloc(w->lists * sizeof *w->square);
    w->members = malloc(w->lists * sizeof *w->members);
    w->stored = malloc(v->row_bytes);
    w->next = vx_generation_new(v, w->lists);
    pthread_mutex_lock(&v->writer);
    v->growth = w;
    pthread_mutex_unlock(&v->writer);
    if (vx_bench_room(&w->bench, v, w->lists) != 0 || vx_calibration_begin(&w->calibration, v, w->lists) != 0 || !w->sample ||
        !w->sum || !w->square || !w->members || !w->stored || !w->next)
        return -ENOMEM;
    w->next->trained_rows = (uint32_t)live;
    w->next->number = atomic_load(&v->generation)->number + 1;
    return 0;
}

static int load_row(vx_vindex *v, vx_growth *w, uint32_t row)
{
    return vx_row_load(v, row, w->stored, w->bench.raw);
}

static uint64_t drawn(vx_growth *w, uint64_t below)
{
    return vx_drawn(&w->random, below);
}

static void forget_members(const vx_vindex *v, vx_growth *w)
{
    memset(w->sum, 0, w->lists * v->padded * sizeof *w->sum);
    memset(w->square, 0, w->lists * sizeof *w->square);
    memset(w->members, 0, w->lists * sizeof *w->members);
}

/* To the middle of its members. */
static void move_centroid(const vx_vindex *v, vx_growth *w, uint32_t list)
{
    float *c = w->next->centroid + (size_t)list * v->padded;
    const float *sum = w->sum + (size_t)list * v->padded, n = (float)w->members[list];
    for (size_t i = 0; i < v->padded; i++)
        c[i] = sum[i] / n;
    const float spread = w->square[list] / n - vx_vkernels_in(v)->dot[VX_F32](c, c, v->padded);
    w->next->radius[list] = spread > 0 ? sqrtf(spread) : 0;
}

/* Rows drawn at random, with repetitions, which do no harm.  Then the origin, and the first of them as centroids. */
static int sample_step(vx_vindex *v, vx_growth *w)
{
    const size_t padded = v->padded;
    const uint64_t end = atomic_load(&v->end);
    const uint32_t before = w->sampled;
    for (uint32_t tries = 0; tries < 4 * STEP_ROWS && w->sampled < w->sample_n; tries++) {
        const int status = load_row(v, w, (uint32_t)drawn(w, end));
        if (status < 0)
            return status;
        if (status > 0)
            vx_row_prepare(v, w->next, w->bench.raw, w->bench.spare, w->sample + w->sampled++ * padded);
    }
    if (w->sampled == before)
        return -EAGAIN; /* hardly any rows are left */
    if (w->sampled < w->sample_n)
        return 1;
    for (uint32_t r = 0; r < w->sample_n; r++)
        for (size_t i = 0; i < padded; i++)
            w->next->origin[i] += w->sample[r * padded + i] / (float)w->sample_n;
    for (uint32_t r = 0; r < w->sample_n; r++)
        for (size_t i = 0; i < padded; i++)
            w->sample[r * padded + i] -= w->next->origin[i];
    for (uint32_t l = 0; l < w->lists; l++)
        memcpy(w->next->centroid + l * padded, w->sample + (uint64_t)l * w->sample_n / w->lists * padded,
               padded * sizeof(float));
    vx_generation_finish(v, w->next);
    forget_members(v, w);
    w->stage = ASSIGNING;
    return 1;
}

/* An empty list takes half of the largest one: its centroid, moved a little. */
static void fill_empty(const vx_vindex *v, vx_growth *w)
{
    const size_t padded = v->padded;
    for (uint32_t l = 0; l < w->lists; l++) {
        if (w->members[l])
            continue;
        uint32_t largest = 0;
        for (uint32_t m = 1; m < w->lists; m++)
            if (w->members[m] > w->members[largest])
                largest = m;
        float *from = w->next->centroid + largest * padded, *to = w->next->centroid + l * padded;
        const float *other = w->sample + drawn(w, w->sample_n) * padded;
        for (size_t i = 0; i < padded; i++)
            to[i] = from[i] + 0.02f * (other[i] - from[i]);
        w->members[l] = w->members[largest] /= 2;
        w->next->radius[l] = w->next->radius[largest];
    }
}

static uint32_t nearest(const vx_vindex *v, vx_growth *w, const float *x)
{
    vx_probe *p = &w->bench.probe;
    memcpy(p->x, x, v->padded * sizeof *x);
    vx_probe_begin(p, v);
    vx_probe_choose(p, v, w->next, 2, 0);
    uint32_t best = 0;
    for (uint32_t i = 1; i < p->n; i++)
        if (p->key[i] > p->key[best])
            best = i;
    return p->list[best];
}

static int assign_step(vx_vindex *v, vx_growth *w)
{
    const size_t padded = v->padded;
    for (uint32_t n = 0; n < STEP_ROWS && w->assigned < w->sample_n; n++, w->assigned++) {
        const float *x = w->sample + w->assigned * padded;
        const uint32_t l = nearest(v, w, x);
        float *sum = w->sum + l * padded;
        for (size_t i = 0; i < padded; i++)
            sum[i] += x[i];
        w->square[l] += w->bench.probe.square;
        w->members[l]++;
    }
    if (w->assigned < w->sample_n)
        return 1;
    for (uint32_t l = 0; l < w->lists; l++)
        if (w->members[l])
            move_centroid(v, w, l);
    fill_empty(v, w);
    vx_generation_finish(v, w->next);
    forget_members(v, w);
    w->assigned = 0;
    if (++w->round == LLOYD_ROUNDS)
        w->stage = FILLING;
    return 1;
}

/* With `writer` held. */
int vx_growth_note(vx_vindex *v, uint32_t row)
{
    vx_growth *w = v->growth;
    if (!w || w->stage != FILLING || row >= w->cursor)
        return 0;
    if (w->noted_n == w->noted_room) {
        const size_t room = w->noted_room ? 2 * w->noted_room : 1024;
        uint32_t *more = realloc(w->noted, room * sizeof *more);
        if (!more)
            return -ENOMEM;
        w->noted = more;
        w->noted_room = room;
    }
    w->noted[w->noted_n++] = row;
    return 0;
}

static int fill_row(vx_vindex *v, vx_growth *w, uint32_t row, int locked)
{
    const int status = load_row(v, w, row);
    if (status <= 0)
        return status;
    vx_bench_encode(&w->bench, v, w->next);
    if (!locked)
        pthread_mutex_lock(&v->writer);
    const int done = vx_generation_enter(v, w->next, row, &w->bench);
    if (!locked)
        pthread_mutex_unlock(&v->writer);
    return done;
}

static int change(vx_vindex *v, vx_growth *w)
{
    vx_generation *old = atomic_load(&v->generation);
    int status = vx_generation_reserve(v, w->next, atomic_load(&v->end));
    status = status ? status : vx_retire(v, old, vx_generation_free);
    if (status != 0)
        return status;
    vx_calibration_end(&w->calibration, w->next, atomic_load(&w->next->settings));
    atomic_store(&v->recent.learned, atomic_load(&v->recent.seen));
    atomic_store(&v->generation, w->next);
    w->next = NULL;
    atomic_store(&v->dead, 0);
    v->puts_trained = atomic_load(&v->puts);
    vx_growth_free(v);
    return 0;
}

/* The next list to where there are no gaps between lists: growing has left three times what they take. */
static int trim(vx_vindex *v, vx_growth *w)
{
    vx_generation *g = w->next;
    if (!w->loose) {
        vx_arena *packed = vx_arena_new(v);
        if (!packed)
            return -ENOMEM;
        w->loose = g->arena;
        g->arena = packed;
    }
    const int status = atomic_load(&g->list[w->trimmed]) ? vx_list_compact(v, g, w->trimmed) : 0;
    if (++w->trimmed == w->lists && status == 0) {
        vx_arena_free(w->loose);
        w->loose = NULL;
    }
    return status;
}

/* Rows in order, then those that were put meanwhile; the last few under the lock. */
static int fill_step(vx_vindex *v, vx_growth *w)
{
    int status = 0;
    for (uint32_t n = 0; n < STEP_ROWS && status == 0; n++) {
        pthread_mutex_lock(&v->writer);
        const uint64_t end = atomic_load(&v->end);
        if (w->cursor < end) {
            const uint32_t row = (uint32_t)w->cursor++;
            pthread_mutex_unlock(&v->writer);
            status = fill_row(v, w, row, 0);
        } else if (w->noted_n > 64) {
            const uint32_t row = w->noted[--w->noted_n];
            pthread_mutex_unlock(&v->writer);
            status = fill_row(v, w, row, 0);
        } else if (w->trimmed < w->lists) {
            status = trim(v, w);
            pthread_mutex_unlock(&v->writer);
        } else if (!w->calibrated) {
            pthread_mutex_unlock(&v->writer);
            status = vx_calibration_step(&w->calibration, v, w->next, &w->bench);
            w->calibrated = status == 0;
            return status < 0 ? status : 1;
        } else {
            while (status == 0 && w->noted_n > 0)
                status = fill_row(v, w, w->noted[--w->noted_n], 1);
            status = status ? status : change(v, w);
            pthread_mutex_unlock(&v->writer);
            return status ? status : 0;
        }
    }
    return status ? status : 1;
}

static int compact_some(vx_vindex *v)
{
    vx_generation *g = atomic_load(&v->generation);
    const uint64_t dead = atomic_load(&v->dead), live = atomic_load(&v->live);
    if (dead < 1024 || dead < live / 8)
        return 0;
    int status = 0;
    for (uint32_t l = 0; l < g->lists && status == 0; l++) {
        pthread_mutex_lock(&v->writer);
        const vx_list *list = atomic_load(&g->list[l]);
        const uint32_t n = list ? atomic_load(&list->count) : 0;
        if (n > 0 && vx_list_dead(v, g, l) * 16 > n)
            status = vx_list_compact(v, g, l);
        pthread_mutex_unlock(&v->writer);
    }
    atomic_store(&v->dead, 0);
    return status;
}

static int one_step(vx_vindex *v)
{
    if (!v->growth) {
        const int status = compact_some(v);
        if (status != 0)
            return status;
        if (!due(v))
            return vx_learn_step(v);
        vx_learn_free(v);
        return begin(v) == 0 ? 1 : -ENOMEM;
    }
    switch (v->growth->stage) {
    case SAMPLING: return sample_step(v, v->growth);
    case ASSIGNING: return assign_step(v, v->growth);
    default: return fill_step(v, v->growth);
    }
}

int vx_vindex_maintain(vx_vindex *v, uint32_t budget_ms)
{
    const uint64_t until = vx_now_ns() + (uint64_t)budget_ms * 1000000;
    pthread_mutex_lock(&v->maintenance);
    int status;
    do
        status = one_step(v);
    while (status > 0 && vx_now_ns() < until);
    pthread_mutex_lock(&v->writer);
    if (status < 0)
        vx_growth_free(v);
    if (status == -EAGAIN)
        status = 0;
    for (int i = 0; i < 3; i++) /* it takes two for what has just been retired, when nobody reads it */
        vx_retired_free(v, 0);
    pthread_mutex_unlock(&v->writer);
    pthread_mutex_unlock(&v->maintenance);
    return status;
}
