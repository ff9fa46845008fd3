/* Posting lists: appended to at their end, in three shapes by length (words_internal.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "words_internal.h"

#define ROOM(cap) ((size_t)(cap)*3) /* docs and tfs of a sorted block */
#define BOUND_UNIT 255.0f

static uint16_t *docs_of(void *block)
{
    return block;
}

static uint8_t *tfs_of(void *block, uint32_t cap)
{
    return (uint8_t *)block + (size_t)cap * 2;
}

/* A sorted block with room for one more; *block and *cap change. */
static int widen(void **block, uint16_t *cap, uint32_t n, uint32_t first)
{
    if (n < *cap)
        return 0;
    const uint32_t more = *cap ? *cap * 2u : first;
    uint8_t *grown = malloc(ROOM(more));
    if (!grown)
        return -ENOMEM;
    if (n) {
        memcpy(grown, *block, (size_t)n * 2);
        memcpy(tfs_of(grown, more), tfs_of(*block, *cap), n);
    }
    free(*block);
    *block = grown;
    *cap = (uint16_t)more;
    return 0;
}

static uint8_t bound_of(const vx_part *p, uint16_t doc, uint8_t tf)
{
    const float norm = (float)(VX_WORDS_K1 * (1 - VX_WORDS_B)) +
                       p->slope * p->length[doc];
    return (uint8_t)(BOUND_UNIT * (tf / (tf + norm)) + 1.0f); /* at least what it is, at most one more */
}

static void raise_bound(vx_window *w, const vx_part *p, uint16_t doc, uint8_t tf)
{
    uint8_t *at = &w->bound[doc % WINDOW / BLOCK];
    const uint8_t bound = bound_of(p, doc, tf);
    if (bound > *at)
        *at = bound;
}

static int densify(vx_window *w)
{
    uint8_t *flat = calloc(WINDOW, 1);
    if (!flat)
        return -ENOMEM;
    for (uint32_t i = 0; i < w->n; i++)
        flat[docs_of(w->data)[i] % WINDOW] = tfs_of(w->data, w->cap)[i];
    free(w->data);
    w->data = flat;
    w->dense = 1;
    return 0;
}

static int window_append(vx_window *w, const vx_part *p, uint16_t doc, uint8_t tf)
{
    if (!w->dense && w->n == DENSE_LEAST && densify(w))
        return -ENOMEM;
    if (w->dense) {
        ((uint8_t *)w->data)[doc % WINDOW] = tf;
    } else {
        if (widen(&w->data, &w->cap, w->n, 16))
            return -ENOMEM;
        docs_of(w->data)[w->n] = doc;
        tfs_of(w->data, w->cap)[w->n] = tf;
    }
    w->n++;
    raise_bound(w, p, doc, tf);
    return 0;
}

static void free_wide(vx_wide *wide)
{
    for (uint32_t i = 0; i < WINDOWS; i++)
        free(wide->w[i].data);
    free(wide);
}

static int to_wide(vx_seg *s, const vx_part *p)
{
    vx_wide *wide = calloc(1, sizeof *wide);
    int err = wide ? 0 : -ENOMEM;
    for (uint32_t i = 0; i < s->n && !err; i++) {
        const uint16_t doc = docs_of(s->u.sparse)[i];
        err = window_append(&wide->w[doc / WINDOW], p, doc, tfs_of(s->u.sparse, s->cap)[i]);
    }
    if (err) {
        if (wide)
            free_wide(wide);
        return err;
    }
    free(s->u.sparse);
    s->u.wide = wide;
    s->cap = 0;
    return 0;
}

static int to_sparse(vx_seg *s)
{
    void *block = NULL;
    uint16_t cap = 0;
    if (widen(&block, &cap, 0, 8))
        return -ENOMEM;
    for (uint32_t i = 0; i < FEW; i++) {
        docs_of(block)[i] = s->u.few.doc[i];
        tfs_of(block, cap)[i] = s->u.few.tf[i];
    }
    s->u.sparse = block;
    s->cap = cap;
    return 0;
}

int vx_seg_append(vx_seg *s, const vx_part *p, uint16_t doc, uint32_t times)
{
    const uint8_t tf = (uint8_t)(times < VX_WORDS_TF ? times : VX_WORDS_TF);
    if (s->n < FEW) {
        s->u.few.doc[s->n] = doc;
        s->u.few.tf[s->n] = tf;
    } else if (s->n < SPARSE_MOST) {
        void *block = s->u.sparse;
        if (s->n == FEW && to_sparse(s))
            return -ENOMEM;
        block = s->u.sparse;
        if (widen(&block, &s->cap, s->n, 8))
            return -ENOMEM;
        s->u.sparse = block;
        docs_of(block)[s->n] = doc;
        tfs_of(block, s->cap)[s->n] = tf;
    } else {
        if (s->n == SPARSE_MOST && to_wide(s, p))
            return -ENOMEM;
        if (window_append(&s->u.wide->w[doc / WINDOW], p, doc, tf)) {
            if (s->n > SPARSE_MOST)
                return -ENOMEM;
            s->n++; /* wide from here on, though a posting short: of a document that stays dead */
            return -ENOMEM;
        }
    }
    s->n++;
    return 0;
}

void vx_seg_free(vx_seg *s)
{
    if (s->n > SPARSE_MOST)
        free_wide(s->u.wide);
    else if (s->n > FEW)
        free(s->u.sparse);
    s->n = 0;
    s->cap = 0;
}

/* Makes the bounds of a long list again, at the part's average. */
void vx_seg_bounds(vx_seg *s, const vx_part *p)
{
    if (s->n <= SPARSE_MOST)
        return;
    for (uint32_t i = 0; i < WINDOWS; i++) {
        vx_window *w = &s->u.wide->w[i];
        const uint32_t n = w->dense ? WINDOW : w->n;
        memset(w->bound, 0, sizeof w->bound);
        for (uint32_t j = 0; j < n; j++) {
            const uint16_t doc = (uint16_t)(w->dense ? i * WINDOW + j : docs_of(w->data)[j]);
            const uint8_t tf = w->dense ? ((uint8_t *)w->data)[j] : tfs_of(w->data, w->cap)[j];
            if (tf)
                raise_bound(w, p, doc, tf);
        }
    }
}

size_t vx_seg_memory(const vx_seg *s)
{
    if (s->n <= FEW)
        return 0;
    if (s->n <= SPARSE_MOST)
        return ROOM(s->cap);
    size_t sum = sizeof(vx_wide);
    for (uint32_t i = 0; i < WINDOWS; i++)
        sum += s->u.wide->w[i].dense ? WINDOW : ROOM(s->u.wide->w[i].cap);
    return sum;
}

/* The first list of this part or one behind it. */
static uint32_t place_of(const vx_seg *s, uint32_t n, uint32_t part)
{
    uint32_t lo = 0, hi = n;
    while (lo < hi) {
        const uint32_t mid = (lo + hi) / 2;
        if (s[mid].part < part)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

vx_seg *vx_term_seg(vx_term *t, uint32_t part)
{
    vx_seg *s = vx_term_segs(t);
    const uint32_t lo = place_of(s, t->segs, part);
    return lo < t->segs && s[lo].part == part && s[lo].n ? &s[lo] : NULL;
}

vx_seg *vx_term_seg_made(vx_term *t, uint32_t part)
{
    vx_seg *s = vx_term_segs(t);
    if (t->segs && s[t->segs - 1].part == part)
        return &s[t->segs - 1];
    const uint32_t at = place_of(s, t->segs, part);
    if (at < t->segs && s[at].part == part)
        return &s[at];
    if (t->segs && t->segs == 1u << t->caps) { /* one in place, when caps is 0 */
        const uint32_t caps = t->caps + 1u;
        vx_seg *many = malloc(sizeof *many << caps);
        if (!many)
            return NULL;
        memcpy(many, s, sizeof *many * t->segs);
        if (t->caps)
            free(t->u.many);
        t->u.many = many;
        t->caps = (uint8_t)caps;
        s = many;
    }
    memmove(s + at + 1, s + at, (t->segs - at) * sizeof *s);
    t->segs++;
    memset(s + at, 0, sizeof *s);
    s[at].part = (uint16_t)part;
    return s + at;
}
