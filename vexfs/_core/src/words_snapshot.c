/* Snapshots: the dictionary and the tokens of every living document; lists are made again from them.
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

/* Whether the tokens are whole, and of terms that there are. */
static int is_sound(const uint8_t *seq, size_t n, uint32_t terms)
{
    const uint8_t *end = seq + n;
    uint32_t token;
    for (int first = 1; seq < end; first = 0)
        if (vx_varint_checked(&seq, end, &token) || token >> 1 >= terms || (first && token & 1))
            return 0;
    return 1;
}

static int restore_doc(vx_words *w, source *s, uint32_t terms)
{
    if (s->end - s->at < (ptrdiff_t)LEAD)
        return -EBADMSG;
    const uint32_t row = get32(s->at), n = get32(s->at + 4);
    s->at += LEAD;
    if (n > (size_t)(s->end - s->at) || !is_sound(s->at, n, terms) || vx_words_has(w, row))
        return -EBADMSG;
    const int err = vx_words_page(w, row);
    if (err)
        return err == -EINVAL ? -EBADMSG : err;
    const int64_t doc = vx_words_append(w, row, s->at, n);
    if (doc < 0)
        return (int)doc;
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
    err = restore_terms(w, s, terms);
    if (err)
        return err;
    while ((err = s->at == s->end ? next_frame(s) : 1) > 0)
        if ((err = restore_doc(w, s, terms)))
            return err;
    return err ? err : s->docs == w->docs ? 0 : -EBADMSG;
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
    return err;
}
