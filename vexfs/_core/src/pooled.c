/* Tokens of a text and the mean of their vectors.
 *
 * Most words of a text were met before: a memory of words has their tokens.  Others are tokens as they stand, or are
 * merged pair by pair.  Rows are gathered in batches, each prefetched when its token is known: a row is far from its
 * neighbours. */
#include "vexfs/pooled.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX
#define MARK "\xe2\x96\x81"
#define MARK_N 3
#define BATCH 64
/* A memory has sets of so many words, a cache line each; there is one for each text that is read at the same time. */
#define SETS 4096
#define WAYS 4
#define KNOWN_WORD 30
#define KNOWN_IDS 8
#define MEMORIES 8

typedef struct {
    uint8_t n, count; /* n 0: empty */
    char word[KNOWN_WORD];
    uint32_t ids[KNOWN_IDS];
} known;

typedef struct {
    uint64_t pair;
    uint32_t rank;
    uint32_t into;
} merge;

struct vx_pooled {
    char *text;
    uint32_t *ends;
    uint32_t single[256]; /* the token of one byte, as `named` finds it */
    uint32_t *names;      /* hash -> token, NONE: empty */
    uint8_t *whole;       /* merging the token's own text gives the token */
    merge *merges;
    float *rows;
    uint64_t name_mask, merge_mask;
    uint32_t count, bytes, dim, longest;
    known (*memories[MEMORIES])[WAYS]; /* SETS each, made by the first who uses it */
    atomic_flag used[MEMORIES];
};

/* Where tokens go: gathered until full, then their rows are added, or they are written out. */
typedef struct {
    const vx_pooled *p;
    known (*memory)[WAYS]; /* NULL: there is none */
    float *sum;
    uint32_t *ids;
    size_t cap, count;
    uint32_t held;
    uint32_t batch[BATCH];
} sink;

static uint64_t mixed(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static uint64_t hashed(const char *s, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u, w;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0xd6e8feb86659fd93u;
        h ^= h >> 29;
    }
    w = 0;
    memcpy(&w, s, n);
    return mixed(h ^ w);
}

static uint32_t token_start(const vx_pooled *p, uint32_t id)
{
    return id ? p->ends[id - 1] : 0;
}

static uint32_t named(const vx_pooled *p, const char *s, size_t n)
{
    if (n > p->longest)
        return NONE;
    for (uint64_t at = hashed(s, n) & p->name_mask;; at = (at + 1) & p->name_mask) {
        uint32_t id = p->names[at];
        if (id == NONE)
            return NONE;
        uint32_t from = token_start(p, id);
        if (p->ends[id] - from == n && memcmp(p->text + from, s, n) == 0)
            return id;
    }
}

static uint64_t pair_place(uint64_t pair)
{
    pair *= 0xd6e8feb86659fd93u;
    return pair ^ pair >> 32;
}

/* What two tokens become, and when; of rank NONE: they do not merge. */
static const merge *merged(const vx_pooled *p, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    for (uint64_t at = pair_place(pair) & p->merge_mask;; at = (at + 1) & p->merge_mask) {
        const merge *m = &p->merges[at];
        if (m->pair == pair || m->rank == NONE)
            return m;
    }
}

static size_t character(const char *s, size_t n)
{
    uint8_t c = (uint8_t)*s;
    size_t len = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    return len < n ? len : n;
}

static void join(const vx_pooled *p, const uint32_t *ids, uint32_t *rank, uint32_t *into, uint32_t i)
{
    const merge *m = merged(p, ids[i], ids[i + 1]);
    rank[i] = m->rank;
    into[i] = m->into;
}

/* The tokens of one word of at most VX_WORD_MAX bytes, into ids[VX_WORD_MAX]. */
static uint32_t split(const vx_pooled *p, const char *s, size_t n, uint32_t *ids)
{
    uint32_t rank[VX_WORD_MAX], into[VX_WORD_MAX], count = 0;
    for (size_t at = 0, len; at < n; at += len) {
        len = character(s + at, n - at);
        uint32_t id = len == 1 ? p->single[(uint8_t)s[at]] : named(p, s + at, len);
        if (id != NONE)
            ids[count++] = id;
        else
            for (size_t k = 0; k < len; k++)
                ids[count++] = p->bytes + (uint8_t)s[at + k];
    }
    for (uint32_t i = 0; i + 1 < count; i++)
        join(p, ids, rank, into, i);
    while (count > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < count; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NONE)
            break;
        ids[best] = into[best];
        count--;
        memmove(ids + best + 1, ids + best + 2, (count - best - 1) * sizeof *ids);
        memmove(rank + best, rank + best + 1, (count - best) * sizeof *rank);
        memmove(into + best, into + best + 1, (count - best) * sizeof *into);
        for (uint32_t i = best ? best - 1 : 0; i <= best && i + 1 < count; i++)
            join(p, ids, rank, into, i);
    }
    return count;
}

static void flush(sink *k)
{
    uint32_t dim = k->p->dim;
    for (uint32_t i = 0; i < k->held; i++) {
        const float *restrict row = k->p->rows + (size_t)k->batch[i] * dim;
        float *restrict sum = k->sum;
        for (uint32_t d = 0; d < dim; d++)
            sum[d] += row[d];
    }
    k->held = 0;
}

static void take(sink *k, uint32_t id)
{
    if (k->sum) {
        const float *row = k->p->rows + (size_t)id * k->p->dim;
        __builtin_prefetch(row);
        __builtin_prefetch(row + 16);
        k->batch[k->held++] = id;
        if (k->held == BATCH)
            flush(k);
    } else if (k->count < k->cap) {
        k->ids[k->count] = id;
    }
    k->count++;
}

/* The tokens of one word, into ids[VX_WORD_MAX]. */
static uint32_t tokens_of(const vx_pooled *p, const char *s, size_t n, uint32_t *ids)
{
    *ids = named(p, s, n);
    return *ids != NONE && p->whole[*ids] ? 1 : split(p, s, n, ids);
}

/* Where a word is remembered, or where it is to be, then with n 0: the words of a set that are met go to its front. */
static known *place_of(known set[WAYS], const char *s, size_t n)
{
    for (uint32_t i = 0; i < WAYS; i++) {
        if (set[i].n != n || memcmp(set[i].word, s, n) != 0)
            continue;
        if (!i)
            return set;
        known met = set[i];
        set[i] = set[i - 1];
        set[i - 1] = met;
        return set + i - 1;
    }
    set[WAYS - 1].n = 0;
    return set + WAYS - 1;
}

static void take_word(sink *k, const char *s, size_t n)
{
    uint32_t made[VX_WORD_MAX], *ids = made, count;
    known *w = k->memory && n <= KNOWN_WORD ? place_of(k->memory[hashed(s, n) % SETS], s, n) : NULL;
    if (w && w->n) {
        ids = w->ids;
        count = w->count;
    } else {
        count = tokens_of(k->p, s, n, made);
        if (w && count <= KNOWN_IDS) {
            w->n = (uint8_t)n;
            w->count = (uint8_t)count;
            memcpy(w->word, s, n);
            memcpy(w->ids, made, count * sizeof *made);
        }
    }
    for (uint32_t i = 0; i < count; i++)
        take(k, ids[i]);
}

/* Bytes of the white space that `s` begins with, 0: none; what Unicode calls so. */
static size_t space(const char *s, size_t n)
{
    uint8_t c = (uint8_t)s[0];
    if (c <= ' ')
        return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
    if (c < 0xc2 || n < 2)
        return 0;
    uint8_t d = (uint8_t)s[1], e = n > 2 ? (uint8_t)s[2] : 0;
    if (c == 0xc2)
        return d == 0x85 || d == 0xa0 ? 2 : 0;
    if (c == 0xe2)
        return (d == 0x80 && (e <= 0x8a || e == 0xa8 || e == 0xa9 || e == 0xaf) && e) || (d == 0x81 && e == 0x9f) ? 3 : 0;
    return (c == 0xe1 && d == 0x9a && e == 0x80) || (c == 0xe3 && d == 0x80 && e == 0x80) ? 3 : 0;
}

/* Cuts the text into words behind a mark and hands them on; a long one in pieces, between characters. */
static void walk(sink *k, const char *text, size_t n)
{
    char word[VX_WORD_MAX];
    size_t at = 0, skip, held;
    while (at < n) {
        if ((skip = space(text + at, n - at))) {
            at += skip;
            continue;
        }
        memcpy(word, MARK, MARK_N);
        held = MARK_N;
        while (at < n && !space(text + at, n - at)) {
            size_t len = character(text + at, n - at);
            if (held + len > VX_WORD_MAX) {
                take_word(k, word, held);
                held = 0;
            }
            memcpy(word + held, text + at, len);
            held += len;
            at += len;
        }
        take_word(k, word, held);
    }
}

/* Reads a text with a memory that nobody uses now, or without one. */
static void read_text(sink *k, vx_pooled *p, const char *text, size_t n)
{
    uint32_t at = 0;
    while (at < MEMORIES && atomic_flag_test_and_set_explicit(&p->used[at], memory_order_acquire))
        at++;
    if (at < MEMORIES) {
        if (!p->memories[at] && (p->memories[at] = aligned_alloc(64, SETS * sizeof(known[WAYS]))))
            memset(p->memories[at], 0, SETS * sizeof(known[WAYS]));
        k->memory = p->memories[at];
    }
    walk(k, text, n);
    if (at < MEMORIES)
        atomic_flag_clear_explicit(&p->used[at], memory_order_release);
}

size_t vx_pooled_tokens(vx_pooled *p, const char *text, size_t n, uint32_t *ids, size_t cap)
{
    sink k = {.p = p, .ids = ids, .cap = cap};
    read_text(&k, p, text, n);
    return k.count;
}

size_t vx_pooled_embed(vx_pooled *p, const char *text, size_t n, float *out)
{
    sink k = {.p = p, .sum = out};
    memset(out, 0, p->dim * sizeof *out);
    read_text(&k, p, text, n);
    flush(&k);
    float square = 0;
    for (uint32_t d = 0; d < p->dim; d++)
        square += out[d] * out[d];
    if (square > 0) {
        float scale = 1 / sqrtf(square);
        for (uint32_t d = 0; d < p->dim; d++)
            out[d] *= scale;
    }
    return k.count;
}

static uint64_t table_size(uint64_t entries)
{
    uint64_t size = 64;
    while (size < entries * 2)
        size *= 2;
    return size;
}

static int sound(const vx_vocabulary *v)
{
    if (!v->count || v->bytes >= v->count || v->count - v->bytes < 256)
        return 0;
    for (uint32_t i = 1; i < v->count; i++)
        if (v->ends[i] < v->ends[i - 1])
            return 0;
    return 1;
}

static void fill_names(vx_pooled *p)
{
    memset(p->names, 0xff, (p->name_mask + 1) * sizeof *p->names);
    for (uint32_t id = 0; id < p->count; id++) {
        uint32_t from = token_start(p, id), n = p->ends[id] - from;
        if (n > p->longest)
            p->longest = n;
        uint64_t at = hashed(p->text + from, n) & p->name_mask;
        while (p->names[at] != NONE)
            at = (at + 1) & p->name_mask;
        p->names[at] = id;
    }
    for (uint32_t c = 0; c < 256; c++)
        p->single[c] = named(p, (const char[]){(char)c}, 1);
}

/* The merge that a line tells; 0: it tells none of this vocabulary. */
static int read_merge(const vx_pooled *p, const char *line, size_t n, merge *m, char *both)
{
    const char *space = memchr(line, ' ', n);
    if (!space || n > p->longest + 1)
        return 0;
    size_t left = (size_t)(space - line), right = n - left - 1;
    memcpy(both, line, left);
    memcpy(both + left, space + 1, right);
    uint32_t a = named(p, line, left), b = named(p, space + 1, right);
    m->pair = (uint64_t)a << 32 | b;
    m->into = named(p, both, n - 1);
    return left && right && a != NONE && b != NONE && m->into != NONE;
}

static int fill_merges(vx_pooled *p, const vx_vocabulary *v, char *both)
{
    memset(p->merges, 0xff, (p->merge_mask + 1) * sizeof *p->merges);
    const char *line = v->merges, *end = line + v->merges_n;
    for (uint32_t rank = 0; line < end; rank++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        merge m = {.rank = rank};
        stop = stop ? stop : end;
        if (!read_merge(p, line, (size_t)(stop - line), &m, both))
            return 0;
        uint64_t at = pair_place(m.pair) & p->merge_mask;
        while (p->merges[at].rank != NONE && p->merges[at].pair != m.pair)
            at = (at + 1) & p->merge_mask;
        if (p->merges[at].rank == NONE)
            p->merges[at] = m;
        line = stop + 1;
    }
    return 1;
}

static void fill_whole(vx_pooled *p)
{
    uint32_t ids[VX_WORD_MAX];
    for (uint32_t id = 0; id < p->count; id++) {
        uint32_t from = token_start(p, id), n = p->ends[id] - from;
        p->whole[id] = n && n <= VX_WORD_MAX && split(p, p->text + from, n, ids) == 1 && ids[0] == id;
    }
}

static uint64_t lines_of(const vx_vocabulary *v)
{
    uint64_t lines = v->merges_n > 0;
    for (size_t i = 0; i < v->merges_n; i++)
        lines += v->merges[i] == '\n';
    return lines;
}

vx_pooled *vx_pooled_new(const vx_vocabulary *v, uint32_t dim)
{
    if (!sound(v) || !dim) {
        errno = EINVAL;
        return NULL;
    }
    vx_pooled *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    size_t text_n = v->ends[v->count - 1];
    p->count = v->count;
    p->bytes = v->bytes;
    p->dim = dim;
    p->name_mask = table_size(v->count) - 1;
    p->merge_mask = table_size(lines_of(v)) - 1;
    p->text = malloc(text_n + 1);
    p->ends = malloc(v->count * sizeof *p->ends);
    p->names = malloc((p->name_mask + 1) * sizeof *p->names);
    p->merges = malloc((p->merge_mask + 1) * sizeof *p->merges);
    p->whole = malloc(v->count);
    p->rows = aligned_alloc(64, ((size_t)v->count * dim * sizeof *p->rows + 63) / 64 * 64);
    char *both = malloc(text_n + 1);
    int fits = 0;
    if (p->text && p->ends && p->names && p->merges && p->whole && p->rows && both) {
        for (uint32_t i = 0; i < MEMORIES; i++)
            atomic_flag_clear(&p->used[i]);
        memcpy(p->text, v->text, text_n);
        memcpy(p->ends, v->ends, v->count * sizeof *p->ends);
        fill_names(p);
        fits = fill_merges(p, v, both);
        errno = EINVAL;
    }
    free(both);
    if (!fits) {
        const int why = errno;
        vx_pooled_free(p);
        errno = why;
        return NULL;
    }
    fill_whole(p);
    return p;
}

float *vx_pooled_rows(vx_pooled *p)
{
    return p->rows;
}

void vx_pooled_free(vx_pooled *p)
{
    if (!p)
        return;
    free(p->text);
    free(p->ends);
    free(p->names);
    free(p->merges);
    free(p->whole);
    free(p->rows);
    for (uint32_t i = 0; i < MEMORIES; i++)
        free(p->memories[i]);
    free(p);
}
