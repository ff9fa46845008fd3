/* The k best: a heap whose root is the least of them. */
#include "vindex_impl.h"

/* Ties go to the lower row, so that an answer does not depend on the order of the lists. */
static int worse(float a, uint32_t row_a, float b, uint32_t row_b)
{
    return a < b || (a == b && row_a > row_b);
}

static void sink(vx_top *t, uint32_t n, uint32_t at, float score, uint32_t row)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && worse(t->score[child + 1], t->row[child + 1], t->score[child], t->row[child]))
            child++;
        if (!worse(t->score[child], t->row[child], score, row))
            break;
        t->score[at] = t->score[child];
        t->row[at] = t->row[child];
        at = child;
    }
    t->score[at] = score;
    t->row[at] = row;
}

void vx_top_push(vx_top *t, float score, uint32_t row)
{
    if (t->n == t->k) {
        if (worse(t->score[0], t->row[0], score, row))
            sink(t, t->n, 0, score, row);
        return;
    }
    uint32_t at = t->n++;
    while (at > 0) {
        const uint32_t parent = (at - 1) / 2;
        if (!worse(score, row, t->score[parent], t->row[parent]))
            break;
        t->score[at] = t->score[parent];
        t->row[at] = t->row[parent];
        at = parent;
    }
    t->score[at] = score;
    t->row[at] = row;
}

void vx_top_sort(vx_top *t)
{
    for (uint32_t n = t->n; n > 1; n--) {
        const float score = t->score[n - 1], last = t->score[0];
        const uint32_t row = t->row[n - 1], last_row = t->row[0];
        sink(t, n - 1, 0, score, row);
        t->score[n - 1] = last;
        t->row[n - 1] = last_row;
    }
}
