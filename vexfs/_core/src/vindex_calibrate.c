/* Calibration: queries that were asked, and rows of the index in place of those that were not, tell in which lists their
 * true neighbours are. */
#include <errno.h>
#include <math.h>

#include "vindex_impl.h"

#define SOME 10u
/* Wide enough that nothing near is overlooked. */
#define WIDTH 3.0f
#define TRIES 256u

static const float levels[VX_LEVELS_OF_RECALL] = {0.5f, 0.8f, 0.9f, 0.95f, 0.98f, 0.99f, 0.995f, 0.999f};

int vx_calibration_begin(vx_calibration *c, const vx_vindex *v, uint32_t lists)
{
    memset(c, 0, sizeof *c);
    c->random = atomic_load(&v->live);
    c->stored = malloc(v->row_bytes);
    c->near_10 = malloc(VX_CALIBRATION_ROWS * (size_t)(1 + SOME + VX_NEIGHBOURS) * sizeof *c->near_10);
    c->near_100 = c->near_10 ? c->near_10 + VX_CALIBRATION_ROWS * SOME : NULL;
    c->near_1 = c->near_100 ? c->near_100 + VX_CALIBRATION_ROWS * VX_NEIGHBOURS : NULL;
    c->position = malloc(lists * sizeof *c->position);
    return c->near_10 && c->position && c->stored ? 0 : -ENOMEM;
}

void vx_calibration_free(vx_calibration *c)
{
    free(c->near_10);
    free(c->position);
    free(c->stored);
    c->stored = NULL;
    c->near_10 = NULL;
    c->position = NULL;
}

/* The neighbours of the row in the bench, by a search of all lists. */
static int find_neighbours(vx_calibration *c, vx_vindex *v, vx_generation *g, const float *x, uint32_t *n)
{
    const vx_vindex_ask ask = {.k = VX_NEIGHBOURS + 1, .recall = 1, .effort = g->lists};
    vx_search s = {.g = g};
    int status = vx_search_begin(&s, v, &ask);
    if (status != 0)
        return status;
    s.work.plan = VX_PLAN_LISTS;
    s.lists = s.lists_most = g->lists;
    s.slack = INFINITY;
    s.width = WIDTH;
    vx_search_one(&s, x);
    status = s.status;
    *n = s.top.n;
    memcpy(c->row, s.top.row, s.top.n * sizeof *c->row);
    memcpy(c->score, s.top.score, s.top.n * sizeof *c->score);
    vx_search_end(&s);
    return status;
}

/* The first of its lists, in the order of a query. */
static uint32_t first_rank(const vx_calibration *c, const vx_generation *g, uint32_t row)
{
    uint32_t rank = g->lists - 1;
    const uint32_t *place = vx_place(g, row);
    for (uint32_t j = 0; j < g->places; j++)
        if (place[j] && c->position[place[j] - 1] < rank)
            rank = c->position[place[j] - 1];
    return rank;
}

/* The first n neighbours' ranks, and how far their lists are below the worst of them, `add` being what lists' keys lack. */
static void note(const vx_calibration *c, vx_near *near, uint32_t n, const vx_probe *p, float add)
{
    const float worst = c->score[n - 1] - add, length = p->square > 0 ? sqrtf(p->square) : 1;
    for (uint32_t i = 0; i < n; i++)
        near[i] = (vx_near){(worst - p->key[c->row[i]]) / length, c->row[i]};
}

/* What is in the bench as a query; `row`, where it is one, is not its own neighbour. */
static int try(vx_calibration *c, vx_vindex *v, vx_generation *g, vx_bench *b, uint32_t row)
{
    uint32_t found = 0, n = 0;
    const uint64_t ticket = vx_epoch_enter(v);
    const int status = find_neighbours(c, v, g, b->raw, &found);
    vx_epoch_leave(v, ticket);
    if (status != 0)
        return status;
    vx_probe *p = &b->probe;
    const float fixed = vx_row_prepare(v, g, b->raw, b->spare, p->x);
    /* As prepare() of a search has it: <q, origin>. */
    const float add = v->metric == VX_L2 ? 0 : fixed + vx_vkernels_in(v)->dot[VX_F32](g->origin, g->origin, v->padded);
    vx_probe_begin(p, v);
    vx_probe_choose(p, v, g, g->lists, 1);
    for (uint32_t i = 0; i < p->n; i++)
        c->position[p->list[i]] = i;
    for (uint32_t i = 0; i < found && n < VX_NEIGHBOURS; i++)
        if (c->row[i] != row) {
            c->score[n] = v->metric == VX_L2 ? 0.5f * (c->score[i] + p->square) : c->score[i];
            c->row[n++] = first_rank(c, g, c->row[i]);
        }
    const uint32_t some = n < SOME ? n : SOME;
    if (n > 0) {
        note(c, c->near_1 + c->n_1++, 1, p, add);
        note(c, c->near_10 + c->n_10, some, p, add);
        note(c, c->near_100 + c->n_100, n, p, add);
    }
    c->n_10 += some;
    c->n_100 += n;
    return ++c->tried < c->most;
}

/* Queries first, as many as there are; where they are few, rows make up for the others. */
int vx_calibration_step(vx_calibration *c, vx_vindex *v, vx_generation *g, vx_bench *b)
{
    if (c->tried == c->asked && c->asked < VX_RECENT && vx_recent_copy(v, c->asked, b->raw)) {
        c->asked++;
        c->most = c->asked + (VX_RECENT - c->asked) * VX_CALIBRATION_ROWS / VX_RECENT;
        return try(c, v, g, b, VX_VINDEX_NONE);
    }
    c->most = c->asked ? c->most : VX_CALIBRATION_ROWS;
    for (uint32_t tries = 0; tries < TRIES && c->tried < c->most; tries++) {
        const uint32_t row = (uint32_t)vx_drawn(&c->random, atomic_load(&v->end));
        const int status = vx_row_load(v, row, c->stored, b->raw);
        if (status != 0)
            return status < 0 ? status : try(c, v, g, b, row);
    }
    return 0; /* it is done, or hardly any rows are left */
}

static int by_rank(const void *a, const void *b)
{
    const vx_near *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

static int by_slack(const void *a, const void *b)
{
    const vx_near *x = a, *y = b;
    return (x->slack > y->slack) - (x->slack < y->slack);
}

/* How many of n have to be found. */
static uint32_t wanted_of(uint32_t n, float recall)
{
    const uint32_t wanted = (uint32_t)ceil((double)recall * n);
    return wanted < 1 ? 1 : wanted < n ? wanted : n;
}

/* The least slack that finds them within VX_LISTS_MOST times the lists; none does where it takes all. */
static float slack_for(const vx_near *sorted, uint32_t n, uint32_t wanted, uint32_t lists)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++)
        if (sorted[i].rank < VX_LISTS_MOST * lists && ++found == wanted)
            return sorted[i].slack;
    return INFINITY;
}

/* A little more than the level: the sample is one of many, and the estimates overlook some.  Where lists are few, queries
 * that are no rows differ more from those that are. */
static float wanted_at(const vx_generation *g, uint32_t level)
{
    const float margin = 0.12f + 25.0f / (float)g->lists;
    const float wanted = levels[level] + margin * (1 - levels[level]) + 0.0015f;
    return wanted < 0.9998f ? wanted : 0.9998f;
}

void vx_calibration_end(vx_calibration *c, const vx_generation *g, vx_settings *out)
{
    memset(out, 0, sizeof *out);
    out->levels = c->n_10 > 0 ? VX_LEVELS_OF_RECALL : 0;
    uint32_t wanted_10[VX_LEVELS_OF_RECALL], wanted_100[VX_LEVELS_OF_RECALL];
    qsort(c->near_10, c->n_10, sizeof *c->near_10, by_rank);
    qsort(c->near_100, c->n_100, sizeof *c->near_100, by_rank);
    for (uint32_t i = 0; i < out->levels; i++) {
        wanted_10[i] = wanted_of(c->n_10, wanted_at(g, i));
        wanted_100[i] = wanted_of(c->n_100, wanted_at(g, i));
        out->level[i] = (vx_setting){.recall = levels[i], .lists_10 = c->near_10[wanted_10[i] - 1].rank + 1,
                                     .lists_100 = c->near_100[wanted_100[i] - 1].rank + 1};
    }
    qsort(c->near_1, c->n_1, sizeof *c->near_1, by_slack);
    qsort(c->near_10, c->n_10, sizeof *c->near_10, by_slack);
    qsort(c->near_100, c->n_100, sizeof *c->near_100, by_slack);
    for (uint32_t i = 0; i < out->levels; i++) {
        vx_setting *s = &out->level[i];
        s->slack_1 = slack_for(c->near_1, c->n_1, wanted_of(c->n_1, wanted_at(g, i)), s->lists_10);
        s->slack_10 = slack_for(c->near_10, c->n_10, wanted_10[i], s->lists_10);
        s->slack_100 = slack_for(c->near_100, c->n_100, wanted_100[i], s->lists_100);
    }
}

/* The level below a recall, and how far it is from there to the next one; NULL when nothing is known. */
static const vx_setting *level_below(const vx_settings *known, float recall, float *part)
{
    if (known->levels < VX_LEVELS_OF_RECALL || recall > levels[VX_LEVELS_OF_RECALL - 1])
        return NULL;
    uint32_t i = 0;
    while (i + 2 < VX_LEVELS_OF_RECALL && known->level[i + 1].recall < recall)
        i++;
    const vx_setting *a = &known->level[i];
    *part = logf((1 - a->recall) / (1 - recall)) / logf((1 - a->recall) / (1 - a[1].recall));
    *part = *part < 0 ? 0 : *part > 1 ? 1 : *part;
    return a;
}

/* Between two levels the logarithm of the lists is taken to be linear in that of what is missed; and it is in that of k
 * too, as the slack is.  A neighbour among a share of the rows is as far off as one of so many more among all. */
uint32_t vx_calibrated_lists(const vx_generation *g, float recall, float k, float share)
{
    const vx_settings *known = atomic_load(&g->settings);
    float part;
    const vx_setting *a = level_below(known, recall, &part);
    if (!a)
        return known->levels < VX_LEVELS_OF_RECALL ? 0 : g->lists;
    const float ten = logf((float)a->lists_10) * (1 - part) + logf((float)a[1].lists_10) * part;
    const float hundred = logf((float)a->lists_100) * (1 - part) + logf((float)a[1].lists_100) * part;
    const float reach = k / share > 5 ? k / share : 5;
    /* Beyond the hundred it is a guess, so a cautious one. */
    const float further = log10f(reach / 10), caution = further > 1 ? 1.3f : 1;
    const float lists = 1 + caution * expf(ten + (hundred > ten ? hundred - ten : 0) * further);
    return lists < (float)g->lists ? (uint32_t)ceilf(lists) : g->lists;
}

float vx_calibrated_slack(const vx_generation *g, float recall, float k, float share)
{
    float part;
    const vx_setting *a = level_below(atomic_load(&g->settings), recall, &part);
    if (!a)
        return INFINITY;
    const float slack_1 = a->slack_1 + (a[1].slack_1 - a->slack_1) * part, decades = log10f(k / share / 10);
    const float slack_10 = a->slack_10 + (a[1].slack_10 - a->slack_10) * part;
    const float slack_100 = a->slack_100 + (a[1].slack_100 - a->slack_100) * part;
    const float least = decades < 0   ? slack_10 + (slack_10 - slack_1) * decades
                        : decades < 1 ? slack_10 + (slack_100 - slack_10) * decades
                                      : slack_100;
    return least < INFINITY ? least : INFINITY; /* no number either */
}
