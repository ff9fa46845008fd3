/* Reading text: one pass over its bytes, ASCII by a table of 256, the rest by the tables of Unicode.
 *
 * A run is a stretch of letters, digits and joiners (`_` and `.` between letters or digits).  It has parts: cut at
 * joiners, before a capital after a small letter, and before the last of several capitals when a small letter follows.
 * A run of several parts also gives the whole: `os.path` is os, os.path, path; `HTTPServer` is http, httpserver, server. */
#include <string.h>

#include "words_fold.h"
#include "words_text.h"

#define PARTS 16u
#define RUN_BYTES 512u
#define GRAM_BYTES 4u

enum kind { APART, LOWER, UPPER, DIGIT, JOINER, QUOTE, FOREIGN };

typedef struct {
    vx_token_fn fn;
    void *ctx;
    uint8_t run[RUN_BYTES], whole[VX_TERM_MOST], gram[GRAM_BYTES * 2];
    uint16_t start[PARTS + 1];
    uint32_t parts, n, whole_n, gram_n;
    uint8_t last;   /* kind of the last character of the run */
    uint8_t capitals; /* how many stand in a row at its end */
    uint8_t plain[PARTS + 1];
} reader;

static const uint8_t kinds[256] = {
    ['a' ... 'z'] = LOWER, ['A' ... 'Z'] = UPPER, ['0' ... '9'] = DIGIT, ['_'] = JOINER,
    ['.'] = JOINER,        ['\''] = QUOTE,        [128 ... 255] = FOREIGN,
};

static int is_alnum(uint8_t c)
{
    return kinds[c] >= LOWER && kinds[c] <= DIGIT;
}

/* Ends the run: its first part, the whole, the other parts. */
static int flush_run(reader *r)
{
    int err = 0;
    if (!r->n)
        return 0;
    r->start[r->parts] = (uint16_t)r->n;
    for (uint32_t i = 0; i < r->parts && !err; i++) {
        const uint32_t n = (uint32_t)(r->start[i + 1] - r->start[i]);
        if (n)
            err = r->fn(r->ctx, r->run + r->start[i], n < VX_TERM_MOST ? n : VX_TERM_MOST,
                        r->plain[i] ? VX_TOKEN_PLAIN : 0);
        if (!i && r->parts > 1 && !err)
            err = r->fn(r->ctx, r->whole, r->whole_n, VX_TOKEN_SAME | VX_TOKEN_PLAIN);
    }
    r->n = r->parts = r->whole_n = 0;
    r->last = APART;
    r->capitals = 0;
    return err;
}

static int flush_grams(reader *r)
{
    const uint32_t n = r->gram_n;
    r->gram_n = 0;
    return n ? r->fn(r->ctx, r->gram, n, VX_TOKEN_PLAIN | VX_TOKEN_TAIL) : 0;
}

static void begin_part(reader *r, uint32_t at)
{
    r->plain[r->parts] = 0;
    r->start[r->parts++] = (uint16_t)at;
}

/* Bytes of one folded character to the run's last part and to the whole. */
static int put(reader *r, const uint8_t *s, uint32_t n, uint8_t kind)
{
    if (!r->parts)
        begin_part(r, 0);
    if (r->n + n > RUN_BYTES || r->parts == PARTS) {
        const int err = flush_run(r);
        if (err)
            return err;
        begin_part(r, 0);
    }
    const uint32_t at = r->start[r->parts - 1];
    if (r->n + n <= at + VX_TERM_MOST) {
        memcpy(r->run + r->n, s, n);
        r->n += n;
    }
    if (r->whole_n + n <= VX_TERM_MOST) {
        memcpy(r->whole + r->whole_n, s, n);
        r->whole_n += n;
    }
    r->plain[r->parts - 1] |= kind != LOWER && kind != UPPER;
    r->last = kind;
    r->capitals = kind == UPPER ? (uint8_t)(r->capitals + (r->capitals < 2)) : 0;
    return 0;
}

static int put_ascii(reader *r, const uint8_t *p, const uint8_t *end)
{
    const uint8_t kind = kinds[*p], c = kind == UPPER ? (uint8_t)(*p + 32) : *p;
    const uint8_t next = p + 1 < end ? p[1] : 0;
    const int room = r->parts && r->parts < PARTS && r->n > r->start[r->parts - 1];
    if (room && kind == UPPER && (r->last == LOWER || (r->last == DIGIT && kinds[next] == LOWER))) {
        begin_part(r, r->n);
    } else if (room && kind == LOWER && r->capitals > 1 && !(c == 's' && !is_alnum(next)) &&
               r->n - r->start[r->parts - 1] < VX_TERM_MOST) {
        begin_part(r, r->n - 1); /* the last capital begins a word; a plural's s does not: URLs */
    }
    return put(r, &c, 1, kind);
}

/* Small letters behind a small letter, as many as fit; how many. */
static size_t put_small(reader *r, const uint8_t *s, const uint8_t *end)
{
    const uint32_t in_part = r->n - r->start[r->parts - 1];
    size_t room = RUN_BYTES - r->n, k = 0;
    if (room > VX_TERM_MOST - in_part)
        room = VX_TERM_MOST - in_part;
    if (room > VX_TERM_MOST - r->whole_n)
        room = VX_TERM_MOST - r->whole_n;
    if (room > (size_t)(end - s))
        room = (size_t)(end - s);
    for (; k < room && kinds[s[k]] == LOWER; k++) {
        r->run[r->n + k] = s[k];
        r->whole[r->whole_n + k] = s[k];
    }
    r->n += (uint32_t)k;
    r->whole_n += (uint32_t)k;
    return k;
}

static void join(reader *r, uint8_t c)
{
    if (r->whole_n < VX_TERM_MOST)
        r->whole[r->whole_n++] = c;
    begin_part(r, r->n);
    r->last = JOINER;
    r->capitals = 0;
}

/* Behind an apostrophe: how many letters of 's, 't, 'd, 'm, 'll, 're or 've stand there, to be left out. */
static size_t contraction(const uint8_t *p, const uint8_t *end)
{
    static const char *const tails[] = {"s", "t", "d", "m", "ll", "re", "ve"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        const size_t n = strlen(tails[i]);
        if ((size_t)(end - p) < n)
            continue;
        size_t k = 0;
        while (k < n && (p[k] | 32) == tails[i][k])
            k++;
        if (k == n && (p + n == end || !is_alnum(p[n])))
            return n;
    }
    return 0;
}

/* Letters of a script without spaces: every pair of neighbours is a term, and the last letter by itself. */
static int put_gram(reader *r, const uint8_t *s, uint32_t n)
{
    while (n) {
        const uint8_t *next = s;
        if (!vx_utf8(&next, s + n))
            return 0;
        const uint32_t k = (uint32_t)(next - s);
        if (r->gram_n) {
            const uint32_t old = r->gram_n;
            memcpy(r->gram + old, s, k);
            uint8_t pair[GRAM_BYTES * 2];
            memcpy(pair, r->gram, old + k);
            const int err = r->fn(r->ctx, pair, old + k, VX_TOKEN_PLAIN | VX_TOKEN_PAIR);
            if (err)
                return err;
        }
        memcpy(r->gram, s, k);
        r->gram_n = k;
        s += k;
        n -= k;
    }
    return 0;
}

static int foreign(reader *r, const uint8_t **at, const uint8_t *end)
{
    const uint8_t *s = *at, *folded;
    uint32_t n;
    const uint32_t cp = vx_utf8(at, end);
    const int kind = cp ? vx_fold(cp, &folded, &n) : VX_CP_APART;
    int err = 0;
    if (kind == VX_CP_DROP)
        return 0;
    if (kind != VX_CP_APART && !folded) {
        folded = s;
        n = (uint32_t)(*at - s);
    }
    if (kind != VX_CP_WORD)
        err = flush_run(r);
    if (kind != VX_CP_GRAM && !err)
        err = flush_grams(r);
    if (err || kind == VX_CP_APART) {
        if (cp == 0x2019 && !err)
            *at += contraction(*at, end);
        return err;
    }
    return kind == VX_CP_GRAM ? put_gram(r, folded, n) : put(r, folded, n, FOREIGN);
}

int vx_text_read(const uint8_t *text, size_t n, vx_token_fn fn, void *ctx)
{
    reader r;
    int err = vx_fold_ready();
    r.fn = fn;
    r.ctx = ctx;
    r.parts = r.n = r.whole_n = r.gram_n = 0;
    r.last = r.capitals = 0;
    const uint8_t *p = text, *end = text + n;
    while (p < end && !err) {
        const uint8_t kind = kinds[*p];
        if (kind == FOREIGN) {
            err = foreign(&r, &p, end);
            continue;
        }
        if (r.gram_n)
            err = flush_grams(&r);
        if (err)
            break;
        if (kind >= LOWER && kind <= DIGIT) {
            err = put_ascii(&r, p, end);
            if (kind == LOWER && !err)
                p += put_small(&r, p + 1, end);
        } else if (kind == JOINER && r.n && r.last != JOINER && p + 1 < end && is_alnum(p[1])) {
            join(&r, *p);
        } else {
            const int inside = r.n > 0;
            err = flush_run(&r);
            if (kind == QUOTE && inside)
                p += contraction(p + 1, end);
        }
        p++;
    }
    if (!err)
        err = flush_run(&r);
    return err ? err : flush_grams(&r);
}
