/* From words to posting lists.  Those of phrases and prefixes are made for the query: the documents that have it, with
 * how often, so that scoring knows one kind of list only and df is exact. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "words_query.h"

#define K1_PLUS_1 (VX_WORDS_K1 + 1)
#define FORM 0.5      /* what another form of a word counts, beside the word itself */
#define FORMS_MOST 32 /* a word with more of them is no word, and is found as it is said */

static double idf(const vx_words *w, uint64_t df)
{
    const double n = (double)w->docs, d = (double)df;
    return log1p((n - d + 0.5) / (d + 0.5));
}

static int push(vx_made *m, uint16_t doc, uint8_t tf)
{
    if (m->n == m->cap) {
        const uint32_t cap = m->cap ? m->cap * 2 : 64;
        uint16_t *docs = realloc(m->docs, cap * sizeof *docs);
        if (docs)
            m->docs = docs;
        uint8_t *tfs = docs ? realloc(m->tfs, cap) : NULL;
        if (!tfs)
            return -ENOMEM;
        m->tfs = tfs;
        m->cap = cap;
    }
    m->docs[m->n] = doc;
    m->tfs[m->n++] = tf;
    return 0;
}

/* Every posting of a list in a part, in order. */
typedef struct {
    const vx_seg *seg;
    uint32_t i, window;
} walk;

/* The next posting; 0 at the end. */
static int next(walk *at, uint16_t *doc, uint8_t *tf)
{
    const vx_seg *s = at->seg;
    if (s->n <= SPARSE_MOST) {
        const uint16_t *docs = s->n <= FEW ? s->u.few.doc : (const uint16_t *)(const void *)s->u.sparse;
        const uint8_t *tfs = s->n <= FEW ? s->u.few.tf : s->u.sparse + (size_t)s->cap * 2;
        if (at->i == s->n)
            return 0;
        *doc = docs[at->i];
        *tf = tfs[at->i++];
        return 1;
    }
    for (; at->window < WINDOWS; at->window++, at->i = 0) {
        const vx_window *w = &s->u.wide->w[at->window];
        const uint8_t *tfs = w->dense ? w->data : (const uint8_t *)w->data + (size_t)w->cap * 2;
        while (w->dense && at->i < WINDOW && !tfs[at->i])
            at->i++;
        if (at->i >= (w->dense ? WINDOW : w->n))
            continue;
        *doc = w->dense ? (uint16_t)(at->window * WINDOW + at->i) : ((const uint16_t *)w->data)[at->i];
        *tf = tfs[at->i++];
        return 1;
    }
    return 0;
}

static int alive(vx_words *w, uint32_t part, uint16_t doc)
{
    return vx_words_lives(w, w->parts[part]->row[doc], part << PART_BITS | doc);
}

/* -- prefixes */

typedef struct {
    uint32_t *term;
    size_t n, cap;
} terms;

static int take_term(void *ctx, uint32_t term)
{
    terms *t = ctx;
    if (t->n == t->cap) {
        const size_t cap = t->cap ? t->cap * 2 : 64;
        uint32_t *grown = realloc(t->term, cap * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        t->term = grown;
        t->cap = cap;
    }
    t->term[t->n++] = term;
    return 0;
}

static int make_prefix(vx_words *w, const terms *t, vx_list *l)
{
    uint8_t *sum = calloc(PART_DOCS, 1);
    int err = sum ? 0 : -ENOMEM;
    for (uint32_t part = 0; part < w->parts_n && !err; part++) {
        uint32_t touched = 0;
        for (size_t i = 0; i < t->n && w->parts[part]; i++) {
            walk at = {vx_term_seg(&w->terms.term[t->term[i]], part), 0, 0};
            uint16_t doc;
            uint8_t tf;
            while (at.seg && next(&at, &doc, &tf)) {
                sum[doc] = sum[doc] > VX_WORDS_TF - tf ? (uint8_t)VX_WORDS_TF : (uint8_t)(sum[doc] + tf);
                touched = 1;
            }
        }
        for (uint32_t doc = 0; touched && doc < w->parts[part]->n && !err; doc++)
            if (sum[doc] && alive(w, part, (uint16_t)doc)) {
                err = push(&l->made[part], (uint16_t)doc, sum[doc]);
                l->df++;
            }
        if (touched)
            memset(sum, 0, PART_DOCS);
    }
    free(sum);
    return err;
}

/* -- phrases */

/* How often `want` stands in the document, one term behind the other. */
static uint32_t occurrences(const uint8_t *seq, const uint8_t *end, const uint32_t *want, uint32_t n, uint32_t *positions)
{
    uint32_t length = 0, found = 0;
    while (seq < end) {
        const uint32_t token = vx_varint(&seq);
        if (!(token & 1))
            positions[length++] = token >> 1;
    }
    for (uint32_t i = 0; i + n <= length; i++) {
        uint32_t k = 0;
        while (k < n && positions[i + k] == want[k])
            k++;
        found += k == n;
    }
    return found < VX_WORDS_TF ? found : VX_WORDS_TF;
}

/* Bits of the documents of a list in a part: all (`first`), or those that were set before too. */
static void keep(const vx_seg *seg, int first, uint64_t *bits, uint64_t *now)
{
    walk at = {seg, 0, 0};
    uint16_t doc;
    uint8_t tf;
    memset(now, 0, PART_DOCS / 8);
    while (next(&at, &doc, &tf))
        now[doc / 64] |= 1ull << doc % 64;
    for (uint32_t i = 0; i < PART_DOCS / 64; i++)
        bits[i] = first ? now[i] : bits[i] & now[i];
}

static int phrase_in(vx_words *w, uint32_t part, const uint32_t *want, uint32_t n, uint64_t *bits, vx_list *l)
{
    const vx_part *p = w->parts[part];
    uint32_t *positions = NULL, cap = 0;
    int err = 0;
    for (uint32_t i = 0; i < n; i++) {
        const vx_seg *s = vx_term_seg(&w->terms.term[want[i]], part);
        if (!s)
            return 0;
        keep(s, !i, bits, bits + PART_DOCS / 64);
    }
    for (uint32_t i = 0; i < PART_DOCS / 64 && !err; i++)
        for (uint64_t rest = bits[i]; rest && !err; rest &= rest - 1) {
            const uint16_t doc = (uint16_t)(i * 64 + (uint32_t)__builtin_ctzll(rest));
            const uint32_t bytes = p->at[doc + 1] - p->at[doc];
            if (!alive(w, part, doc))
                continue;
            if (bytes > cap) {
                free(positions);
                cap = bytes * 2;
                if (!(positions = malloc(cap * sizeof *positions)))
                    return -ENOMEM;
            }
            const uint32_t tf = occurrences(p->seq + p->at[doc], p->seq + p->at[doc + 1], want, n, positions);
            if (tf) {
                err = push(&l->made[part], doc, (uint8_t)tf);
                l->df++;
            }
        }
    free(positions);
    return err;
}

/* -- units */

/* A word as texts have it: stemmed, unless it is no word of a to z.  Its length. */
static uint32_t name_of(const vx_query *q, const vx_word *word, uint8_t name[VX_TERM_MOST])
{
    memcpy(name, q->bytes + word->at, word->n);
    return word->flags & VX_TOKEN_PLAIN ? word->n : vx_stem(name, word->n);
}

/* The word as it is said, which the whole of an identifier keeps: `failedSamples`. */
static uint32_t whole_of(const vx_words *w, const vx_query *q, const vx_word *word)
{
    return vx_terms_find(&w->terms, q->bytes + word->at, word->n);
}

static uint32_t term_of(const vx_words *w, const vx_query *q, const vx_word *word)
{
    uint8_t name[VX_TERM_MOST];
    const uint32_t n = name_of(q, word, name), term = vx_terms_find(&w->terms, name, n);
    return n < word->n && (term == NONE || !w->terms.term[term].df) ? whole_of(w, q, word) : term;
}

static int make_room(vx_words *w, vx_list *l)
{
    l->made = calloc(w->parts_n + 1, sizeof *l->made);
    return l->made ? 0 : -ENOMEM;
}

static void be_term(vx_words *w, uint32_t term, vx_list *l)
{
    l->term = &w->terms.term[term];
    l->df = l->term->df;
    l->weight = K1_PLUS_1 * idf(w, l->df);
}

static int be_any(vx_words *w, const terms *t, vx_list *l)
{
    int err = make_room(w, l);
    if (!err && !(err = make_prefix(w, t, l)))
        l->weight = K1_PLUS_1 * idf(w, l->df);
    return err;
}

static int resolve_prefix(vx_words *w, const vx_query *q, vx_list *l)
{
    const vx_word *word = &q->word[l->unit->first];
    const uint8_t *name = q->bytes + word->at;
    terms t = {0};
    int err = vx_terms_begin(&w->terms, name, word->n, take_term, &t);
    const uint32_t stem = term_of(w, q, word);
    if (!err && stem != NONE && w->terms.term[stem].len < word->n)
        err = take_term(&t, stem); /* `categories*` is also found where it was stemmed to category */
    if (!err && t.n == 1)
        be_term(w, t.term[0], l);
    else if (!err && t.n)
        err = be_any(w, &t, l);
    free(t.term);
    return err;
}

static int resolve_phrase(vx_words *w, const vx_query *q, vx_list *l)
{
    const uint32_t n = l->unit->n;
    uint32_t *want = malloc(n * sizeof *want);
    uint64_t *bits = malloc(2 * PART_DOCS / 8);
    int err = want && bits ? make_room(w, l) : -ENOMEM;
    int known = !err;
    double sum = 0;
    for (uint32_t i = 0; known && i < n; i++) {
        want[i] = term_of(w, q, &q->word[l->unit->first + i]);
        known = want[i] != NONE;
        sum += known ? idf(w, w->terms.term[want[i]].df) : 0;
    }
    for (uint32_t part = 0; known && part < w->parts_n && !err; part++)
        if (w->parts[part])
            err = phrase_in(w, part, want, n, bits, l);
    l->weight = K1_PLUS_1 * sum;
    free(want);
    free(bits);
    return err;
}

static int resolve_unit(vx_words *w, const vx_query *q, vx_list *l)
{
    const vx_word *word = &q->word[l->unit->first];
    if (l->unit->kind == VX_WORDS_PREFIX)
        return resolve_prefix(w, q, l);
    if (l->unit->kind == VX_WORDS_PHRASE)
        return resolve_phrase(w, q, l);
    uint32_t both[] = {term_of(w, q, word), whole_of(w, q, word)};
    if (l->sign != ' ' && !(word->flags & VX_TOKEN_PLAIN) && both[1] != NONE && both[0] != both[1]) {
        const terms t = {both, 2, 2};
        return be_any(w, &t, l);
    }
    if (both[0] != NONE)
        be_term(w, both[0], l);
    return 0;
}

static int is_plain(const vx_unit *u)
{
    return u->sign == ' ' && u->kind == VX_WORDS_TERM;
}

/* The list of a plain word, or -1. */
static int list_of(const vx_list *lists, int n, const vx_term *term)
{
    for (int i = 0; i < n; i++)
        if (lists[i].term == term && is_plain(lists[i].unit))
            return i;
    return -1;
}

/* The same plain word again counts once more in the list it has. */
static int repeated(vx_list *lists, int n, const vx_list *l)
{
    const int i = l->term && is_plain(l->unit) ? list_of(lists, n, l->term) : -1;
    if (i >= 0)
        lists[i].times++;
    return i >= 0;
}

/* -- other forms of plain words */

typedef struct {
    const vx_terms *terms;
    uint32_t term[FORMS_MOST], n;
    uint64_t df;
} forms;

static int take_form(void *ctx, uint32_t term)
{
    forms *f = ctx;
    if (!f->terms->term[term].df)
        return 0;
    if (f->n == FORMS_MOST)
        return -E2BIG;
    f->term[f->n++] = term;
    f->df += f->terms->term[term].df;
    return 0;
}

/* Lists of the other forms of a plain word, for as long as there is room for all of them; how many lists there are then.
 * The rarity of a word is that of all of its forms together. */
static int add_forms(vx_words *w, const vx_query *q, const vx_unit *u, vx_list *lists, int n)
{
    const vx_word *word = &q->word[u->first];
    uint8_t name[VX_TERM_MOST];
    forms f = {.terms = &w->terms};
    const uint32_t len = name_of(q, word, name), own = term_of(w, q, word), whole = whole_of(w, q, word);
    int more = 0;
    if (word->flags & VX_TOKEN_PLAIN || vx_terms_forms(&w->terms, name, len, take_form, &f) ||
        (len < word->n && whole != NONE && take_form(&f, whole)))
        return n;
    for (uint32_t i = 0; i < f.n; i++) {
        const int there = list_of(lists, n, &w->terms.term[f.term[i]]) >= 0;
        if (f.term[i] == own && !there)
            return n; /* it gave way to rarer words */
        more += !there;
    }
    if (n + more > (int)VX_WORDS_UNITS)
        return n;
    const double weight = K1_PLUS_1 * idf(w, f.df < w->docs ? f.df : w->docs);
    for (uint32_t i = 0; i < f.n; i++) {
        vx_term *term = &w->terms.term[f.term[i]];
        int at = list_of(lists, n, term);
        if (at < 0)
            lists[at = n++] = (vx_list){.term = term, .unit = u, .df = term->df, .sign = ' '};
        lists[at].weight = weight;
        lists[at].times += f.term[i] == own ? 0 : FORM;
    }
    return n;
}

/* The place for one more list: behind the others, or that of the commonest plain word; -1 when none gives way. */
static int place_for(const vx_list *lists, int n, const vx_list *l)
{
    if (n < (int)VX_WORDS_UNITS)
        return n;
    int worst = -1;
    for (int i = 0; i < n; i++)
        if (lists[i].term && lists[i].sign == ' ' && (worst < 0 || lists[i].df > lists[worst].df))
            worst = i;
    return worst >= 0 && l->term && l->sign == ' ' && l->df >= lists[worst].df ? -1 : worst;
}

int vx_query_resolve(vx_words *w, const vx_query *q, vx_list lists[VX_WORDS_UNITS])
{
    int n = 0, err = 0;
    uint32_t wide = 0; /* prefixes that all terms were looked through for */
    for (size_t i = 0; i < q->units && !err; i++) {
        vx_list l = {.unit = &q->unit[i], .sign = q->unit[i].sign, .times = 1};
        wide += l.unit->kind == VX_WORDS_PREFIX && q->word[l.unit->first].n < VX_TERM_LEAD;
        err = wide > VX_WORDS_UNITS ? -EINVAL : resolve_unit(w, q, &l);
        const int plain = l.term && l.sign == ' ';
        const int place = err || repeated(lists, n, &l) || (!l.term && !l.made && l.sign == ' ') ? -2
                                                                                                : place_for(lists, n, &l);
        if (place >= 0) {
            lists[place] = l;
            n += place == n;
        } else {
            vx_lists_free(w, &l, 1);
            if (place == -1 && !plain)
                err = -EINVAL;
        }
    }
    if (err) {
        vx_lists_free(w, lists, n);
        return err;
    }
    for (size_t i = 0; i < q->units; i++)
        if (is_plain(&q->unit[i]))
            n = add_forms(w, q, &q->unit[i], lists, n);
    return n;
}

void vx_lists_free(vx_words *w, vx_list *lists, int n)
{
    for (int i = 0; i < n; i++) {
        for (uint32_t k = 0; lists[i].made && k < w->parts_n; k++) {
            free(lists[i].made[k].docs);
            free(lists[i].made[k].tfs);
        }
        free(lists[i].made);
        lists[i].made = NULL;
    }
}

int64_t vx_words_explain(vx_words *w, const char *query, size_t n, int prefix_last, vx_words_clause *out)
{
    vx_query q;
    vx_list *lists = calloc(VX_WORDS_UNITS, sizeof *lists);
    int found = lists ? vx_query_parse(&q, query, n, prefix_last) : -ENOMEM;
    if (!lists)
        return -ENOMEM;
    pthread_rwlock_wrlock(&w->lock);
    vx_words_account(w);
    if (!found)
        found = vx_query_resolve(w, &q, lists);
    for (int i = 0; i < found; i++) {
        const vx_list *l = &lists[i];
        vx_words_clause *c = &out[i];
        memset(c, 0, sizeof *c);
        size_t at = 0;
        const int named = l->term && l->unit->kind == VX_WORDS_TERM; /* the word, or another form of it */
        if (named)
            memcpy(c->text, w->terms.names + l->term->name, l->term->len);
        for (uint32_t k = 0; k < l->unit->n && !named; k++) {
            const vx_word *word = &q.word[l->unit->first + k];
            uint8_t name[VX_TERM_MOST];
            uint32_t len = word->n;
            if (l->unit->kind == VX_WORDS_PREFIX)
                memcpy(name, q.bytes + word->at, len);
            else
                len = name_of(&q, word, name);
            if (at + len + 2 > sizeof c->text)
                break;
            if (k)
                c->text[at++] = ' ';
            memcpy(c->text + at, name, len);
            at += len;
        }
        c->kind = l->unit->kind;
        c->sign = l->sign;
        c->df = l->df;
        c->weight = l->weight * l->times / K1_PLUS_1;
    }
    if (found > 0)
        vx_lists_free(w, lists, found);
    pthread_rwlock_unlock(&w->lock);
    vx_query_free(&q);
    free(lists);
    return found;
}
