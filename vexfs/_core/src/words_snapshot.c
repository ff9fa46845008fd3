/* Snapshots: the dictionary and the tokens of every living document; lists are made again from them, of many documents at
 * once: their tokens are sorted by term, so that the dictionary is walked in its order and not by the words of each text.
 *
 *     frame      u32 length of the payload, u32 crc32c of it, payload
 *     last       u32 0, u32 number of documents
 *     first      "VXWORDS", analyser (1 byte), u32 terms
 *     terms      one or more: per term its length (1 byte), its bytes
 *     documents  one or more: u32 row, u32 bytes of tokens, tokens (varints: term << 1 | same position)
 *
 * A term or document never straddles frames.  Integers are little-endian. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/codec.h"
#include "words_internal.h"

#define MAGIC "VXWORDS"
#define HEADER 12u
#define FRAME (256u << 10) /* cut when larger */
#define FRAME_MOST (1u << 27)
#define LEAD 8u /* of a frame and of a document */
#define POSTED (1u << 20) /* tokens that are sorted at once */
#define DIGIT 11u /* bits that a pass sorts by */
#define DIGITS 3u /* of a term's number */
#define AHEAD 16u /* tokens whose terms are fetched before they are needed */

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* -- writing */

typedef struct {
    vx_words *w;
    uint8_t *data; /* LEAD bytes, then the payload */
    size_t n, cap;
    vx_words_write write;
    void *ctx;
    uint32_t *number; /* of a term in the snapshot, or NONE */
    uint32_t terms, parts, end_part, end_doc, docs; /* end_part: the one that grows meanwhile, from end_doc on */
} sink;

/* Writes the frame.  The lock is let go meanwhile: what was there at the beginning does not move. */
static int flush(sink *s)
{
    if (s->n == LEAD)
        return 0;
    pthread_rwlock_unlock(&s->w->lock);
    put32(s->data, (uint32_t)(s->n - LEAD));
    put32(s->data + 4, vx_crc32c(0, s->data + LEAD, s->n - LEAD));
    const int err = s->write(s->ctx, s->data, s->n);
    s->n = LEAD;
    pthread_rwlock_rdlock(&s->w->lock);
    return err;
}

/* Room for n more bytes in the frame. */
static int want(sink *s, size_t n)
{
    if (s->n > FRAME) {
        const int err = flush(s);
        if (err)
            return err;
    }
    if (s->n + n <= s->cap)
        return 0;
    uint8_t *data = realloc(s->data, s->n + n + FRAME);
    if (!data)
        return -ENOMEM;
    s->data = data;
    s->cap = s->n + n + FRAME;
    return 0;
}

static int dump_terms(sink *s)
{
    vx_words *w = s->w;
    const uint32_t n = w->terms.n;
    uint32_t count = 0;
    if (!(s->number = malloc((n + 1) * sizeof *s->number)) || want(s, HEADER))
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        s->number[i] = w->terms.term[i].df ? count++ : NONE;
    memcpy(s->data + s->n, MAGIC, 7);
    s->data[s->n + 7] = VX_WORDS_ANALYSER;
    put32(s->data + s->n + 8, count);
    s->n += HEADER;
    int err = flush(s);
    for (uint32_t i = 0; i < n && !err; i++) {
        if (s->number[i] == NONE || (err = want(s, 1 + VX_TERM_MOST)))
            continue;
        const vx_term *t = &w->terms.term[i];
        s->data[s->n] = t->len;
        memcpy(s->data + s->n + 1, w->terms.names + t->name, t->len);
        s->n += 1u + t->len;
    }
    return err ? err : flush(s);
}

static int dump_doc(sink *s, uint32_t part, uint32_t i)
{
    const vx_part *p = s->w->parts[part];
    if (!vx_words_lives(s->w, p->row[i], part << PART_BITS | i))
        return 0;
    const int err = want(s, LEAD + (size_t)(p->at[i + 1] - p->at[i]) * 5);
    if (err)
        return err;
    const uint8_t *seq = p->seq + p->at[i], *end = p->seq + p->at[i + 1];
    uint8_t *out = s->data + s->n + LEAD;
    while (seq < end) {
        const uint32_t token = vx_varint(&seq);
        out += vx_put_varint(out, s->number[token >> 1] << 1 | (token & 1));
    }
    put32(s->data + s->n, p->row[i]);
    put32(s->data + s->n + 4, (uint32_t)(out - (s->data + s->n + LEAD)));
    s->n = (size_t)(out - s->data);
    s->docs++;
    return 0;
}

static int dump_docs(sink *s)
{
    int err = 0;
    for (uint32_t k = 0; k < s->parts && !err; k++)
        for (uint32_t i = 0; s->w->parts[k] && !err && i < (k == s->end_part ? s->end_doc : s->w->parts[k]->n); i++)
            err = dump_doc(s, k, i);
    return err ? err : flush(s);
}

int vx_words_dump(vx_words *w, vx_words_write write, void *ctx)
{
    sink s = {.w = w, .n = LEAD, .write = write, .ctx = ctx};
    pthread_mutex_lock(&w->mending); /* no part goes meanwhile */
    pthread_rwlock_wrlock(&w->lock);
    vx_words_account(w);
    w->dumping = 1;
    s.parts = w->parts_n;
    s.end_part = w->current;
    s.end_doc = w->current != NONE ? w->parts[w->current]->n : 0;
    int err = dump_terms(&s);
    if (!err)
        err = dump_docs(&s);
    w->dumping = 0; /* read by those who write, who wait for us */
    pthread_rwlock_unlock(&w->lock);
    pthread_mutex_unlock(&w->mending);
    if (!err) {
        put32(s.data, 0);
        put32(s.data + 4, s.docs);
        err = write(ctx, s.data, LEAD);
    }
    free(s.number);
    free(s.data);
    return err;
}

/* -- reading */

typedef struct {
    uint8_t *data;
    size_t cap;
    const uint8_t *at, *end;
    uint32_t docs; /* that the last frame told */
    vx_words_read read;
    void *ctx;
    uint64_t *tokens, *spare; /* not yet in lists: term << 32 | document */
    size_t tokens_n, tokens_cap;
} source;

/* The next frame; 1 when there is one, 0 at the end. */
static int next_frame(source *s)
{
    uint8_t lead[LEAD];
    int err = s->read(s->ctx, lead, LEAD);
    const uint32_t n = get32(lead);
    s->docs = get32(lead + 4);
    if (err || !n)
        return err;
    if (n > FRAME_MOST)
        return -EBADMSG;
    if (n > s->cap) {
        free(s->data);
        s->cap = 0;
        if (!(s->data = malloc(n)))
            return -ENOMEM;
        s->cap = n;
    }
    if ((err = s->read(s->ctx, s->data, n)))
        return err;
    s->at = s->data;
    s->end = s->data + n;
    return vx_crc32c(0, s->data, n) == get32(lead + 4) ? 1 : -EBADMSG;
}

/* A frame that must be there. */
static int more(source *s)
{
    const int got = s->at == s->end ? next_frame(s) : 1;
    return got > 0 ? 0 : got ? got : -EBADMSG;
}

static int restore_terms(vx_words *w, source *s, uint32_t terms)
{
    for (uint32_t i = 0; i < terms; i++) {
        const int err = more(s);
        if (err)
            return err;
        const uint32_t n = *s->at;
        if (!n || n > VX_TERM_MOST || s->end - s->at <= n)
            return -EBADMSG;
        const uint32_t number = vx_terms_put(&w->terms, s->at + 1, n);
        if (number != i)
            return number == NONE ? -ENOMEM : -EBADMSG;
        s->at += 1 + n;
    }
    return s->at == s->end ? 0 : -EBADMSG;
}

/* -- lists of many documents at once */

static uint32_t digit(uint64_t token, uint32_t k)
{
    return (uint32_t)(token >> (32 + k * DIGIT)) & ((1u << DIGIT) - 1);
}

/* Sorts the tokens by term; those of a term stay in the order of their documents. */
static void sort_tokens(source *s, uint32_t terms)
{
    uint32_t at[DIGITS][1u << DIGIT] = {0};
    for (size_t i = 0; i < s->tokens_n; i++)
        for (uint32_t k = 0; k < DIGITS; k++)
            at[k][digit(s->tokens[i], k)]++;
    for (uint32_t k = 0; k < DIGITS && terms >> (k * DIGIT); k++) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < 1u << DIGIT; i++) {
            const uint32_t n = at[k][i];
            at[k][i] = sum;
            sum += n;
        }
        for (size_t i = 0; i < s->tokens_n; i++)
            s->spare[at[k][digit(s->tokens[i], k)]++] = s->tokens[i];
        uint64_t *sorted = s->spare;
        s->spare = s->tokens;
        s->tokens = sorted;
    }
}

/* Puts the tokens that wait into the lists of their terms. */
static int post(vx_words *w, source *s)
{
    const size_t n = s->tokens_n;
    sort_tokens(s, w->terms.n);
    for (size_t begin = 0, i; begin < n; begin = i) {
        const uint64_t token = s->tokens[begin];
        const uint32_t doc = (uint32_t)token, part = doc >> PART_BITS;
        for (i = begin + 1; i < n && s->tokens[i] == token;)
            i++;
        if (i + AHEAD < n)
            __builtin_prefetch(&w->terms.term[s->tokens[i + AHEAD] >> 32], 1);
        vx_term *term = &w->terms.term[token >> 32];
        vx_seg *list = vx_term_seg_made(term, part);
        const int err = list ? vx_seg_append(list, w->parts[part], (uint16_t)doc, (uint32_t)(i - begin)) : -ENOMEM;
        if (err)
            return err;
        term->df++;
    }
    s->tokens_n = 0;
    return 0;
}

/* Room for so many tokens more; what waits is posted when it is much. */
static int room_to_post(vx_words *w, source *s, size_t n)
{
    if (s->tokens_n + n <= s->tokens_cap)
        return 0;
    const int err = s->tokens_n ? post(w, s) : 0;
    if (err || n <= s->tokens_cap)
        return err;
    free(s->tokens);
    free(s->spare);
    s->tokens_cap = n > POSTED ? n : POSTED;
    s->tokens = malloc(s->tokens_cap * sizeof *s->tokens);
    s->spare = malloc(s->tokens_cap * sizeof *s->spare);
    return s->tokens && s->spare ? 0 : -ENOMEM;
}

/* The tokens of a document behind those that wait, as of document 0; how many, or -EBADMSG when the bytes are not whole
 * or name terms that there are not.  *length is in positions. */
static int64_t take_tokens(source *s, size_t n, uint32_t terms, uint32_t *length)
{
    const uint8_t *seq = s->at, *end = s->at + n;
    uint64_t *out = s->tokens + s->tokens_n;
    uint32_t token, positions = 0;
    for (; seq < end; positions += !(token & 1)) {
        if (vx_varint_checked(&seq, end, &token) || token >> 1 >= terms || (!positions && token & 1))
            return -EBADMSG;
        *out++ = (uint64_t)(token >> 1) << 32;
    }
    *length = positions;
    return out - (s->tokens + s->tokens_n);
}

static int restore_doc(vx_words *w, source *s, uint32_t terms)
{
    if (s->end - s->at < (ptrdiff_t)LEAD)
        return -EBADMSG;
    const uint32_t row = get32(s->at), n = get32(s->at + 4);
    uint32_t length;
    s->at += LEAD;
    if (n > (size_t)(s->end - s->at) || vx_words_has(w, row))
        return -EBADMSG;
    int err = vx_words_page(w, row);
    if (err == -EINVAL)
        return -EBADMSG;
    if (err || (err = vx_words_room(w, n)) || (err = room_to_post(w, s, n)))
        return err;
    const int64_t tokens = take_tokens(s, n, terms, &length);
    if (tokens < 0)
        return (int)tokens;
    const int64_t doc = vx_words_place(w, row, s->at, n, length);
    if (doc < 0)
        return (int)doc;
    for (int64_t i = 0; i < tokens; i++)
        s->tokens[s->tokens_n++] |= (uint64_t)doc;
    w->docs++;
    w->tokens += length;
    vx_words_name(w, row, (uint32_t)doc);
    s->at += n;
    return 0;
}

static int restore_all(vx_words *w, source *s)
{
    int err = more(s);
    if (err)
        return err;
    if (s->end - s->at != HEADER || memcmp(s->at, MAGIC, 7))
        return -EBADMSG;
    if (s->at[7] != VX_WORDS_ANALYSER)
        return -EINVAL;
    const uint32_t terms = get32(s->at + 8);
    s->at = s->end;
    if ((err = vx_terms_reserve(&w->terms, terms)) || (err = restore_terms(w, s, terms)))
        return err;
    while ((err = s->at == s->end ? next_frame(s) : 1) > 0)
        if ((err = restore_doc(w, s, terms)))
            return err;
    if (!err)
        err = s->docs == w->docs ? post(w, s) : -EBADMSG;
    return err;
}

int vx_words_restore(vx_words *w, vx_words_read read, void *ctx)
{
    source s = {.read = read, .ctx = ctx};
    pthread_rwlock_wrlock(&w->lock);
    int err = w->terms.n || w->parts_n ? -EEXIST : restore_all(w, &s);
    if (err && err != -EEXIST)
        vx_words_clear(w);
    pthread_rwlock_unlock(&w->lock);
    free(s.data);
    free(s.tokens);
    free(s.spare);
    return err;
}
