/* Work of the background, and what the index says about itself. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "words_internal.h"

#define MOVE_STEP 32u    /* documents moved under one hold of the lock */
#define SWEEP_STEP 4096u /* terms swept */
#define LEAST_DEAD 1024u /* fewer are not worth moving anybody */
#define DRIFT 1.15

/* The living documents of the part, some of them, to the end of the index. */
static int move_some(vx_words *w)
{
    const uint32_t number = w->moving;
    vx_part *p = w->parts[number];
    for (uint32_t steps = 0; w->moved < p->n && steps < MOVE_STEP; w->moved++) {
        const uint32_t i = w->moved, doc = number << PART_BITS | i, row = p->row[i];
        if (!vx_words_lives(w, row, doc))
            continue;
        steps++;
        const int64_t to = vx_words_append(w, row, p->seq + p->at[i], p->at[i + 1] - p->at[i]);
        if (to < 0)
            return (int)to;
        uint32_t expected = doc + 1;
        _Atomic(uint32_t) *page = atomic_load(&w->pages[row / PAGE_ROWS]);
        /* A removal that came between has buried the old one; then the new one never lived. */
        const int moved = atomic_compare_exchange_strong(&page[row % PAGE_ROWS], &expected, (uint32_t)to + 1);
        vx_words_discount(w, moved ? doc : (uint32_t)to);
    }
    if (w->moved < p->n)
        return 0;
    while (atomic_load(&w->removing)) /* a removal may still bury a document of this part: nanoseconds */
        sched_yield();
    vx_words_account(w);
    w->parts[number] = NULL;
    if (w->current == number)
        w->current = NONE;
    vx_part_free(p);
    w->moving = NONE;
    w->sweep = 0;
    return 0;
}

/* Frees lists of parts that are gone, of some terms; in the end, terms that have none. */
static int sweep_some(vx_words *w)
{
    const uint32_t end = w->terms.n - w->sweep < SWEEP_STEP ? w->terms.n : w->sweep + SWEEP_STEP;
    for (; w->sweep < end; w->sweep++) {
        vx_term *t = &w->terms.term[w->sweep];
        vx_seg *s = vx_term_segs(t);
        uint16_t kept = 0;
        for (uint32_t i = 0; i < t->segs; i++) {
            if (w->parts[s[i].part])
                s[kept++] = s[i];
            else
                vx_seg_free(&s[i]);
        }
        t->segs = kept;
    }
    if (w->sweep < w->terms.n)
        return 0;
    w->sweep = NONE;
    return vx_terms_prune(&w->terms);
}

static int wants_moving(const vx_words *w, uint32_t i)
{
    const vx_part *p = w->parts[i];
    return p && p->dead >= LEAST_DEAD && p->dead * 2 > p->n;
}

/* One short piece of work; 1 when there was any, 0 when not, or -errno. */
static int step(vx_words *w)
{
    vx_words_account(w);
    if (w->moving != NONE) {
        const int err = move_some(w);
        return err ? err : 1;
    }
    if (w->sweep != NONE) {
        const int err = sweep_some(w);
        return err ? err : 1;
    }
    const double average = vx_words_average(w);
    for (uint32_t i = 0; i < w->parts_n; i++) {
        if (wants_moving(w, i)) {
            w->moving = i;
            w->moved = 0;
            return 1;
        }
        if (w->parts[i] && w->docs && (average > w->parts[i]->average * DRIFT || average * DRIFT < w->parts[i]->average)) {
            vx_part_bounds(w, i, average);
            return 1;
        }
    }
    return 0;
}

int vx_words_maintain(vx_words *w, double budget_ms)
{
    int more = 1;
    const uint64_t until = vx_now_ns() + (uint64_t)(budget_ms > 0 ? budget_ms * 1e6 : 0);
    pthread_mutex_lock(&w->mending);
    do {
        pthread_rwlock_wrlock(&w->lock);
        more = step(w);
        pthread_rwlock_unlock(&w->lock);
    } while (more > 0 && vx_now_ns() < until);
    pthread_mutex_unlock(&w->mending);
    return more;
}

static uint64_t part_memory(const vx_part *p)
{
    return sizeof *p + p->n * (uint64_t)16 + p->seq_cap;
}

void vx_words_read_stats(vx_words *w, vx_words_stats *out)
{
    memset(out, 0, sizeof *out);
    pthread_rwlock_rdlock(&w->lock);
    const vx_terms *t = &w->terms;
    out->rows = vx_words_count(w);
    out->terms = t->n;
    out->tokens = w->tokens;
    out->removed = atomic_load(&w->removed);
    out->average_length = w->docs ? vx_words_average(w) : 0;
    out->memory = sizeof *w + t->cap * sizeof *t->term + t->names_cap + ((uint64_t)t->mask + 1) * (sizeof *t->slots + sizeof *t->roots) +
                  65536 * sizeof *t->heads + w->place_cap * sizeof *w->place;
    for (uint32_t i = 0; i < t->n; i++) {
        vx_seg *s = vx_term_segs(&t->term[i]);
        out->memory += t->term[i].caps ? sizeof *s << t->term[i].caps : 0;
        for (uint32_t k = 0; k < t->term[i].segs; k++) {
            out->postings += s[k].n;
            out->memory += vx_seg_memory(&s[k]);
        }
    }
    for (uint32_t i = 0; i < w->parts_n; i++)
        if (w->parts[i]) {
            out->memory += part_memory(w->parts[i]);
            out->parts++;
        }
    for (uint32_t i = 0; i < PAGES; i++)
        out->memory += atomic_load_explicit(&w->pages[i], memory_order_relaxed) ? PAGE_ROWS * sizeof(uint32_t) : 0;
    pthread_rwlock_unlock(&w->lock);
}

uint32_t vx_words_term(vx_words *w, uint32_t number, char out[64], uint64_t *df)
{
    uint32_t n = 0;
    pthread_rwlock_rdlock(&w->lock);
    if (number < w->terms.n) {
        const vx_term *t = &w->terms.term[number];
        n = t->len;
        memcpy(out, w->terms.names + t->name, n);
        *df = t->df;
    }
    pthread_rwlock_unlock(&w->lock);
    return n;
}
