/* Calibration: rows of the index stand in for queries, and tell in which lists their true neighbours are. */
#include <errno.h>
#include <math.h>

#include "vindex_impl.h"

#define NEIGHBOURS 100u
/* Wide enough that nothing near is overlooked. */
#define WIDTH 3.0f

static const float levels[VX_LEVELS_OF_RECALL] = {0.5f, 0.8f, 0.9f, 0.95f, 0.98f, 0.99f, 0.995f, 0.999f};

int vx_calibration_begin(vx_calibration *c, uint32_t lists)
{
    memset(c, 0, sizeof *c);
    c->rank_10 = calloc(3 * (size_t)lists, sizeof *c->rank_10);
    c->rank_100 = c->rank_10 ? c->rank_10 + lists : NULL;
    c->position = c->rank_10 ? c->rank_10 + 2 * (size_t)lists : NULL;
    return c->rank_10 ? 0 : -ENOMEM;
}

void vx_calibration_free(vx_calibration *c)
{
    free(c->rank_10);
    c->rank_10 = NULL;
}

/* The neighbours of the row in the bench, by a search of all lists. */
static int find_neighbours(vx_vindex *v, vx_generation *g, const float *x, uint32_t *rows, uint32_t *n)
{
    const vx_vindex_ask ask = {.k = NEIGHBOURS + 1, .recall = 1, .effort = g->lists};
    vx_search s = {.g = g};
    int status = vx_search_begin(&s, v, &ask);
    if (status != 0)
        return status;
    s.work.plan = VX_PLAN_LISTS;
    s.lists = g->lists;
    s.width = WIDTH;
    vx_search_one(&s, x);
    status = s.status;
    *n = s.top.n;
    memcpy(rows, s.top.row, s.top.n * sizeof *rows);
    vx_search_end(&s);
    return status;
}

int vx_calibration_try(vx_calibration *c, vx_vindex *v, vx_generation *g, vx_bench *b, uint32_t row)
{
    uint32_t rows[NEIGHBOURS + 1], n = 0;
    const uint64_t ticket = vx_epoch_enter(v);
    const int status = find_neighbours(v, g, b->raw, rows, &n);
    vx_epoch_leave(v, ticket);
    if (status != 0)
        return status;
    vx_probe *p = &b->probe;
    vx_row_prepare(v, g, b->raw, b->spare, p->x);
    vx_probe_begin(p, v);
    vx_probe_choose(p, v, g, g->lists, 1);
    for (uint32_t i = 0; i < p->n; i++)
        c->position[p->list[i]] = i;
    uint32_t taken = 0;
    for (uint32_t i = 0; i < n && taken < NEIGHBOURS; i++) {
        if (rows[i] == row)
            continue;
        uint32_t rank = g->lists - 1;
        const uint32_t *place = vx_place(g, rows[i]);
        for (uint32_t j = 0; j < g->places; j++)
            if (place[j] && c->position[place[j] - 1] < rank)
                rank = c->position[place[j] - 1];
        c->rank_100[rank]++;
        c->pairs_100++;
        if (taken++ < 10) {
            c->rank_10[rank]++;
            c->pairs_10++;
        }
    }
    c->done++;
    return 0;
}

static uint32_t lists_for(const uint32_t *rank, uint32_t lists, uint64_t pairs, float recall)
{
    uint64_t found = 0;
    for (uint32_t l = 0; l < lists; l++) {
        found += rank[l];
        if ((double)found >= (double)recall * (double)pairs)
            return l + 1;
    }
    return lists;
}

/* A little more than was measured: the sample is one of many, and the estimates overlook some.  Where lists are few, queries
 * that are no rows differ more from those that are. */
void vx_calibration_end(vx_calibration *c, vx_generation *g)
{
    g->settings = 0;
    const float margin = 0.12f + 25.0f / (float)g->lists;
    for (uint32_t i = 0; i < VX_LEVELS_OF_RECALL && c->pairs_10 > 0; i++) {
        const float wanted = levels[i] + margin * (1 - levels[i]) + 0.0015f;
        const float recall = wanted < 0.9998f ? wanted : 0.9998f;
        g->setting[g->settings++] = (vx_setting){levels[i], lists_for(c->rank_10, g->lists, c->pairs_10, recall),
                                                 lists_for(c->rank_100, g->lists, c->pairs_100, recall)};
    }
}

/* Between two levels the logarithm of the lists is taken to be linear in that of what is missed; and it is in that of k
 * too.  A neighbour among a share of the rows is as far off as one of so many more among all. */
uint32_t vx_calibrated_lists(const vx_generation *g, float recall, float k, float share)
{
    if (g->settings < VX_LEVELS_OF_RECALL)
        return 0;
    if (recall > levels[VX_LEVELS_OF_RECALL - 1])
        return g->lists;
    uint32_t i = 0;
    while (i + 2 < VX_LEVELS_OF_RECALL && g->setting[i + 1].recall < recall)
        i++;
    const vx_setting *a = &g->setting[i], *b = a + 1;
    float part = logf((1 - a->recall) / (1 - recall)) / logf((1 - a->recall) / (1 - b->recall));
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    const float ten = logf((float)a->lists_10) * (1 - part) + logf((float)b->lists_10) * part;
    const float hundred = logf((float)a->lists_100) * (1 - part) + logf((float)b->lists_100) * part;
    const float reach = k / share > 5 ? k / share : 5;
    /* Beyond the hundred it is a guess, so a cautious one. */
    const float further = log10f(reach / 10), caution = further > 1 ? 1.3f : 1;
    const float lists = 1 + caution * expf(ten + (hundred > ten ? hundred - ten : 0) * further);
    return lists < (float)g->lists ? (uint32_t)ceilf(lists) : g->lists;
}
