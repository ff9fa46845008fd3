/* The dictionary: a term's number by its name, and all terms that begin alike. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/codec.h"
#include "words_internal.h"

#define HEADS 65536u
#define FIRST_SLOTS 1024u
#define PRUNED_LEAST 4096u /* fewer terms are not worth forgetting */
#define RESERVED_MOST (1u << 22) /* terms that memory is taken for before they come */

uint64_t vx_term_hash(uint64_t seed, const uint8_t *s, uint32_t n)
{
    uint64_t h = seed ^ n * 0x9e3779b97f4a7c15u, v = 0;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&v, s, 8);
        h = (h ^ v) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    v = 0;
    for (uint32_t i = 0; i < n; i++)
        v = v << 8 | s[i];
    h = (h ^ v) * 0xc4ceb9fe1a85ec53u;
    h ^= h >> 29;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

int vx_terms_init(vx_terms *t)
{
    memset(t, 0, sizeof *t);
    if (vx_random(&t->seed, sizeof t->seed))
        t->seed = (uintptr_t)t;
    t->slots = calloc(FIRST_SLOTS, sizeof *t->slots);
    t->roots = calloc(FIRST_SLOTS, sizeof *t->roots);
    t->heads = calloc(HEADS, sizeof *t->heads); /* number + 1: zero is the end */
    t->mask = FIRST_SLOTS - 1;
    return t->slots && t->roots && t->heads ? 0 : -ENOMEM;
}

void vx_terms_clear(vx_terms *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        vx_seg *s = vx_term_segs(&t->term[i]);
        for (uint32_t j = 0; j < t->term[i].segs; j++)
            vx_seg_free(&s[j]);
        if (t->term[i].caps)
            free(t->term[i].u.many);
    }
    t->n = t->unused = 0;
    t->names_n = 0;
    if (t->slots)
        memset(t->slots, 0, ((size_t)t->mask + 1) * sizeof *t->slots);
    if (t->roots)
        memset(t->roots, 0, ((size_t)t->mask + 1) * sizeof *t->roots);
    if (t->heads)
        memset(t->heads, 0, HEADS * sizeof *t->heads);
}

void vx_terms_free(vx_terms *t)
{
    free(t->term);
    free(t->names);
    free(t->slots);
    free(t->roots);
    free(t->heads);
}

static uint32_t head_of(const uint8_t *s, uint32_t n)
{
    uint32_t v = s[0];
    v |= n > 1 ? (uint32_t)s[1] << 8 : 0;
    v |= n > 2 ? (uint32_t)s[2] << 16 : 0;
    return v * 0x9e3779b1u >> 16;
}

static int is_named(const vx_terms *t, uint32_t number, const uint8_t *name, uint32_t n)
{
    const vx_term *at = &t->term[number];
    return at->len == n && !memcmp(t->names + at->name, name, n);
}

/* The slot of a name: its own, or the free one where it belongs. */
static uint32_t slot_of(const vx_terms *t, uint64_t hash, const uint8_t *name, uint32_t n)
{
    uint32_t i = (uint32_t)hash & t->mask;
    for (; t->slots[i]; i = (i + 1) & t->mask)
        if (t->slots[i] >> 32 == hash >> 32 && is_named(t, (uint32_t)t->slots[i] - 1, name, n))
            break;
    return i;
}

uint32_t vx_terms_find(const vx_terms *t, const uint8_t *name, uint32_t n)
{
    const uint64_t slot = t->slots[slot_of(t, vx_term_hash(t->seed, name, n), name, n)];
    return slot ? (uint32_t)slot - 1 : NONE;
}

/* The chain of a word's forms; NULL for what has none.  The root is left in `root`, its length in *n. */
static uint32_t *kin_of(const vx_terms *t, const uint8_t *name, uint32_t *n, uint8_t root[VX_TERM_MOST])
{
    memcpy(root, name, *n);
    *n = vx_root(root, *n);
    return *n ? &t->roots[(uint32_t)vx_term_hash(t->seed, root, *n) & t->mask] : NULL;
}

static void join_kin(vx_terms *t, uint32_t number)
{
    uint8_t root[VX_TERM_MOST];
    vx_term *at = &t->term[number];
    uint32_t n = at->len, *chain = kin_of(t, t->names + at->name, &n, root);
    if (!chain)
        return;
    at->kin = *chain;
    *chain = number + 1;
}

/* Slots and chains of all terms, into empty ones. */
static void fill_slots(vx_terms *t)
{
    for (uint32_t k = 0; k < t->n; k++) {
        if (!t->term[k].len)
            continue;
        const uint64_t hash = vx_term_hash(t->seed, t->names + t->term[k].name, t->term[k].len);
        uint32_t i = (uint32_t)hash & t->mask;
        while (t->slots[i])
            i = (i + 1) & t->mask;
        t->slots[i] = (hash >> 32) << 32 | (k + 1);
        join_kin(t, k);
    }
}

static int grow_slots(vx_terms *t, uint32_t mask)
{
    uint64_t *slots = calloc((size_t)mask + 1, sizeof *slots);
    uint32_t *roots = calloc((size_t)mask + 1, sizeof *roots);
    if (!slots || !roots) {
        free(slots);
        free(roots);
        return -ENOMEM;
    }
    free(t->slots);
    free(t->roots);
    t->slots = slots;
    t->roots = roots;
    t->mask = mask;
    fill_slots(t);
    return 0;
}

static int grow_terms(vx_terms *t, uint32_t cap)
{
    vx_term *term = realloc(t->term, (size_t)cap * sizeof *term);
    if (!term)
        return -ENOMEM;
    t->term = term;
    t->cap = cap;
    return 0;
}

int vx_terms_reserve(vx_terms *t, uint32_t n)
{
    const uint32_t most = n < RESERVED_MOST ? n : RESERVED_MOST;
    uint32_t mask = t->mask;
    while ((most + 1) * (uint64_t)2 > mask)
        mask = mask * 2 + 1;
    if (most > t->cap && grow_terms(t, most))
        return -ENOMEM;
    return mask == t->mask ? 0 : grow_slots(t, mask);
}

/* Room for one more term of n bytes. */
static int make_room(vx_terms *t, uint32_t n)
{
    if (!t->unused && t->n == t->cap && grow_terms(t, t->cap ? t->cap * 2 : 256))
        return -ENOMEM;
    if (t->names_n + n > t->names_cap) {
        const size_t cap = t->names_cap ? t->names_cap * 2 : 4096;
        uint8_t *names = cap > UINT32_MAX ? NULL : realloc(t->names, cap);
        if (!names)
            return -ENOMEM;
        t->names = names;
        t->names_cap = cap;
    }
    return (t->n + 1) * (uint64_t)2 > t->mask ? grow_slots(t, t->mask * 2 + 1) : 0;
}

uint32_t vx_terms_put(vx_terms *t, const uint8_t *name, uint32_t n)
{
    const uint64_t hash = vx_term_hash(t->seed, name, n);
    uint32_t i = slot_of(t, hash, name, n);
    if (t->slots[i])
        return (uint32_t)t->slots[i] - 1;
    if ((!t->unused && t->n >= NONE / 2) || make_room(t, n))
        return NONE;
    i = slot_of(t, hash, name, n);
    const uint32_t number = t->unused ? t->unused - 1 : t->n++;
    vx_term *at = &t->term[number];
    t->unused = t->unused ? at->next : 0;
    memset(at, 0, sizeof *at);
    at->name = (uint32_t)t->names_n;
    at->len = (uint8_t)n;
    memcpy(t->names + t->names_n, name, n);
    t->names_n += n;
    uint32_t *head = &t->heads[head_of(name, n)];
    at->next = *head;
    *head = number + 1;
    t->slots[i] = (hash >> 32) << 32 | (number + 1);
    join_kin(t, number);
    return number;
}

/* Whether nothing is left of it: every document that has a term, dead or not, is in one of its lists. */
static int is_left(const vx_term *t)
{
    return t->len && !t->segs && !t->df;
}

int vx_terms_prune(vx_terms *t)
{
    uint32_t left = 0;
    size_t bytes = 0;
    for (uint32_t k = 0; k < t->n; k++) {
        left += is_left(&t->term[k]);
        bytes += is_left(&t->term[k]) ? 0 : t->term[k].len;
    }
    if (left < PRUNED_LEAST || left < t->n / 2)
        return 0;
    uint8_t *names = malloc(bytes + 4096);
    if (!names)
        return -ENOMEM;
    memset(t->slots, 0, ((size_t)t->mask + 1) * sizeof *t->slots);
    memset(t->roots, 0, ((size_t)t->mask + 1) * sizeof *t->roots);
    memset(t->heads, 0, HEADS * sizeof *t->heads);
    size_t n = 0;
    for (uint32_t k = 0; k < t->n; k++) {
        vx_term *at = &t->term[k];
        if (is_left(at)) {
            if (at->caps)
                free(at->u.many);
            memset(at, 0, sizeof *at);
            at->next = t->unused;
            t->unused = k + 1;
        } else if (at->len) {
            memcpy(names + n, t->names + at->name, at->len);
            at->name = (uint32_t)n;
            n += at->len;
            uint32_t *head = &t->heads[head_of(names + at->name, at->len)];
            at->next = *head;
            *head = k + 1;
        }
    }
    free(t->names);
    t->names = names;
    t->names_n = n;
    t->names_cap = bytes + 4096;
    fill_slots(t);
    return 0;
}

int vx_terms_begin(const vx_terms *t, const uint8_t *name, uint32_t n, int (*fn)(void *ctx, uint32_t term), void *ctx)
{
    int err = 0;
    if (n >= VX_TERM_LEAD) {
        for (uint32_t i = t->heads[head_of(name, n)]; i && !err; i = t->term[i - 1].next)
            if (t->term[i - 1].len >= n && !memcmp(t->names + t->term[i - 1].name, name, n))
                err = fn(ctx, i - 1);
        return err;
    }
    for (uint32_t i = 0; i < t->n && !err; i++)
        if (t->term[i].len >= n && !memcmp(t->names + t->term[i].name, name, n))
            err = fn(ctx, i);
    return err;
}

int vx_terms_forms(const vx_terms *t, const uint8_t *name, uint32_t n, int (*fn)(void *ctx, uint32_t term), void *ctx)
{
    uint8_t root[VX_TERM_MOST], other[VX_TERM_MOST];
    const uint32_t *chain = kin_of(t, name, &n, root);
    int err = 0;
    for (uint32_t i = chain ? *chain : 0; i && !err; i = t->term[i - 1].kin) {
        const uint32_t len = t->term[i - 1].len;
        memcpy(other, t->names + t->term[i - 1].name, len);
        if (vx_root(other, len) == n && !memcmp(other, root, n))
            err = fn(ctx, i - 1);
    }
    return err;
}
