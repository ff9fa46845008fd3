/* The forward record of a passage.
 *
 *     analyser   1 byte
 *     terms      varint, how many are distinct
 *     tokens     varint
 *     per term   its length (1 to 64), its bytes; in order of first appearance
 *     per token  varint: the term's place in the list << 1 | 1 when it stands at the position of the token before
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "words_internal.h"


typedef struct {
    uint8_t *names; /* length, bytes */
    uint32_t *name_at, *slots, *seq;
    size_t names_n, names_cap, terms, terms_cap, tokens, tokens_cap;
    uint32_t mask;
} encoder;

/* Room for `want` elements of `size`, doubled when there is too little. */
static int room(void *array, size_t *cap, size_t want, size_t size)
{
    if (want <= *cap)
        return 0;
    const size_t more = want > *cap * 2 ? want : *cap * 2;
    void *old, *grown;
    memcpy(&old, array, sizeof old);
    if (!(grown = realloc(old, more * size)))
        return -ENOMEM;
    memcpy(array, &grown, sizeof grown);
    *cap = more;
    return 0;
}

static int grow_slots(encoder *e)
{
    const uint32_t mask = e->mask * 2 + 1;
    uint32_t *slots = calloc((size_t)mask + 1, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    for (uint32_t k = 0; k < e->terms; k++) {
        const uint8_t *name = e->names + e->name_at[k];
        uint32_t i = (uint32_t)vx_term_hash(0, name + 1, name[0]) & mask;
        while (slots[i])
            i = (i + 1) & mask;
        slots[i] = k + 1;
    }
    free(e->slots);
    e->slots = slots;
    e->mask = mask;
    return 0;
}

static int take(void *ctx, uint8_t *term, uint32_t n, uint32_t flags)
{
    encoder *e = ctx;
    if (!(flags & VX_TOKEN_PLAIN))
        n = vx_stem(term, n);
    uint32_t i = (uint32_t)vx_term_hash(0, term, n) & e->mask;
    for (; e->slots[i]; i = (i + 1) & e->mask) {
        const uint8_t *name = e->names + e->name_at[e->slots[i] - 1];
        if (name[0] == n && !memcmp(name + 1, term, n))
            break;
    }
    if (e->tokens >= VX_WORDS_TOKENS)
        return -E2BIG;
    if (room(&e->seq, &e->tokens_cap, e->tokens + 1, sizeof *e->seq))
        return -ENOMEM;
    uint32_t number = e->slots[i];
    if (!number) {
        if (room(&e->names, &e->names_cap, e->names_n + 1 + n, 1) ||
            room(&e->name_at, &e->terms_cap, e->terms + 1, sizeof *e->name_at))
            return -ENOMEM;
        e->name_at[e->terms] = (uint32_t)e->names_n;
        e->names[e->names_n] = (uint8_t)n;
        memcpy(e->names + e->names_n + 1, term, n);
        e->names_n += 1 + n;
        e->slots[i] = number = (uint32_t)++e->terms;
    }
    e->seq[e->tokens++] = (number - 1) << 1 | ((flags & VX_TOKEN_SAME) != 0);
    return e->terms * 2 > e->mask ? grow_slots(e) : 0;
}

static int write_out(const encoder *e, uint8_t **out, size_t *out_n)
{
    uint8_t *p = malloc(1 + 2 * VARINT_MOST + e->names_n + e->tokens * VARINT_MOST);
    if (!p)
        return -ENOMEM;
    size_t n = 0;
    p[n++] = VX_WORDS_ANALYSER;
    n += vx_put_varint(p + n, (uint32_t)e->terms);
    n += vx_put_varint(p + n, (uint32_t)e->tokens);
    if (e->names_n)
        memcpy(p + n, e->names, e->names_n);
    n += e->names_n;
    for (size_t i = 0; i < e->tokens; i++)
        n += vx_put_varint(p + n, e->seq[i]);
    *out = p;
    *out_n = n;
    return 0;
}

int vx_words_encode(const uint8_t *text, size_t n, uint8_t **out, size_t *out_n)
{
    encoder e = {.mask = 511};
    *out = NULL;
    *out_n = 0;
    e.slots = calloc(e.mask + 1, sizeof *e.slots);
    int err = e.slots ? 0 : -ENOMEM;
    if (!err)
        err = room(&e.seq, &e.tokens_cap, n / 6 + 16, sizeof *e.seq);
    if (!err)
        err = room(&e.names, &e.names_cap, n / 2 + 64, 1);
    if (!err)
        err = vx_text_read(text, n, take, &e);
    if (!err)
        err = write_out(&e, out, out_n);
    free(e.slots);
    free(e.seq);
    free(e.names);
    free(e.name_at);
    return err;
}

int vx_record_parse(vx_record *r, const uint8_t *data, size_t n)
{
    const uint8_t *p = data, *end = data + n;
    uint32_t token;
    if (!n)
        return -EBADMSG;
    if (*p++ != VX_WORDS_ANALYSER)
        return -EINVAL;
    if (vx_varint_checked(&p, end, &r->terms) || vx_varint_checked(&p, end, &r->tokens) || r->tokens > VX_WORDS_TOKENS ||
        r->terms > r->tokens)
        return -EBADMSG;
    r->names = p;
    for (uint32_t i = 0; i < r->terms; i++) {
        if (p >= end || !*p || *p > VX_TERM_MOST || end - p <= *p)
            return -EBADMSG;
        p += 1 + *p;
    }
    r->seq = p;
    for (uint32_t i = 0; i < r->tokens; i++)
        if (vx_varint_checked(&p, end, &token) || token >> 1 >= r->terms || (!i && token & 1))
            return -EBADMSG;
    r->end = p;
    return p == end ? 0 : -EBADMSG;
}
