/* Reading a query: words, "phrases", prefixes*, +must, -mustnot.  Nothing is an error: what has no meaning is text. */
#include "words_query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUERY_MOST (1u << 20) /* bytes */

static int room(void *array, size_t *cap, size_t want, size_t size)
{
    void *old, *grown;
    if (want <= *cap)
        return 0;
    const size_t more = want < *cap * 2 ? *cap * 2 : want + 16;
    memcpy(&old, array, sizeof old);
    if (!(grown = realloc(old, more * size)))
        return -ENOMEM;
    memcpy(array, &grown, sizeof grown);
    *cap = more;
    return 0;
}

static int take(void *ctx, uint8_t *term, uint32_t n, uint32_t flags)
{
    vx_query *q = ctx;
    if (room(&q->bytes, &q->bytes_cap, q->bytes_n + n, 1) ||
        room(&q->word, &q->words_cap, q->words + 1, sizeof *q->word))
        return -ENOMEM;
    memcpy(q->bytes + q->bytes_n, term, n);
    q->word[q->words++] = (vx_word){(uint32_t)q->bytes_n, (uint8_t)n, (uint8_t)flags};
    q->bytes_n += n;
    return 0;
}

static int add_unit(vx_query *q, size_t first, size_t n, int kind, char sign)
{
    if (!n)
        return 0;
    if (room(&q->unit, &q->units_cap, q->units + 1, sizeof *q->unit))
        return -ENOMEM;
    q->unit[q->units++] = (vx_unit){(uint32_t)first, (uint32_t)n, (uint8_t)kind, sign};
    return 0;
}

/* Words from `first` on as one unit: all of them, one behind the other. */
static int as_phrase(vx_query *q, size_t first, char sign, int prefix)
{
    size_t n = first;
    for (size_t i = first; i < q->words; i++) /* without the wholes: positions are those of the parts */
        if (!(q->word[i].flags & VX_TOKEN_SAME))
            q->word[n++] = q->word[i];
    q->words = n;
    if (n - first > 1 && q->word[n - 1].flags & VX_TOKEN_TAIL && q->word[n - 2].flags & VX_TOKEN_PAIR)
        n--; /* what goes on behind the last pair does not matter */
    if (n - first != 1)
        return add_unit(q, first, n - first, VX_WORDS_PHRASE, sign);
    prefix |= (q->word[first].flags & VX_TOKEN_TAIL) != 0; /* one letter alone begins pairs */
    return add_unit(q, first, 1, prefix ? VX_WORDS_PREFIX : VX_WORDS_TERM, sign);
}

/* Words from `first` on, any of them. */
static int as_words(vx_query *q, size_t first, int prefix)
{
    for (size_t i = first; i < q->words; i++) {
        const uint32_t flags = q->word[i].flags;
        /* The whole of an identifier goes on where its last part does. */
        int kind = prefix && (i + 1 == q->words || flags & VX_TOKEN_SAME) ? VX_WORDS_PREFIX : VX_WORDS_TERM;
        if (flags & VX_TOKEN_TAIL) {
            if (i > first && q->word[i - 1].flags & VX_TOKEN_PAIR)
                continue;
            kind = VX_WORDS_PREFIX;
        }
        const int err = add_unit(q, i, 1, kind, ' ');
        if (err)
            return err;
    }
    return 0;
}

static int is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int is_sign(char c)
{
    return c == '+' || c == '-';
}

int vx_query_parse(vx_query *q, const char *text, size_t n, int prefix_last)
{
    const char *p = text, *end = text + n;
    int err = 0;
    memset(q, 0, sizeof *q);
    if (n > QUERY_MOST)
        return -E2BIG;
    while (p < end && !err) {
        if (is_space(*p)) {
            p++;
            continue;
        }
        char sign = ' ';
        if (is_sign(*p) && p + 1 < end && !is_space(p[1]) && !is_sign(p[1])) /* "--amend" is a word */
            sign = *p++;
        const size_t first = q->words;
        if (*p == '"') {
            const char *close = memchr(p + 1, '"', (size_t)(end - p - 1));
            const char *stop = close ? close : end;
            err = vx_text_read((const uint8_t *)p + 1, (size_t)(stop - p - 1), take, q);
            if (!err)
                err = as_phrase(q, first, sign, close && close + 1 < end && close[1] == '*');
            p = close ? close + 1 : end;
            continue;
        }
        const char *stop = p;
        while (stop < end && !is_space(*stop) && *stop != '"')
            stop++;
        const int prefix = (stop[-1] == '*') | (prefix_last && stop == end);
        err = vx_text_read((const uint8_t *)p, (size_t)(stop - p), take, q);
        if (!err)
            err = sign == ' ' ? as_words(q, first, prefix) : as_phrase(q, first, sign, prefix);
        p = stop;
    }
    return err;
}

void vx_query_free(vx_query *q)
{
    free(q->bytes);
    free(q->word);
    free(q->unit);
}
