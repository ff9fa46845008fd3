/* The keyword index: rows and documents (words_internal.h says how they stand to each other). */
#include "vexfs/words.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/simd.h"
#include "words_internal.h"

#define SEQ_MOST (1u << 30) /* bytes of tokens in a part; a new part is begun above */
#define AHEAD 8             /* terms fetched before they are needed */
#define DRIFT 1.15          /* how far the average length may move before bounds are made again */

static int may_use_avx2(void)
{
#if defined(__x86_64__)
    return !vx_level_check(VX_AVX2);
#else
    return 0;
#endif
}

vx_words *vx_words_new(int simd)
{
    vx_words *w = calloc(1, sizeof *w);
    pthread_rwlockattr_t attr;
    if (!w)
        return NULL;
    /* Writers are few and short; without this, readers that overlap would keep them out for ever. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&w->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&w->mending, NULL);
    atomic_init(&w->unaccounted, NONE);
    w->moving = w->sweep = w->current = NONE;
    w->avx2 = simd && may_use_avx2();
    if (vx_terms_init(&w->terms)) {
        vx_words_free(w);
        return NULL;
    }
    return w;
}

static void drop_parts(vx_words *w)
{
    for (uint32_t i = 0; i < w->parts_n; i++)
        vx_part_free(w->parts[i]);
    w->parts_n = 0;
}

/* Empty as at first.  The pages of rows stay: a removal may look at one. */
void vx_words_clear(vx_words *w)
{
    for (uint32_t i = 0; i < PAGES; i++) {
        _Atomic(uint32_t) *page = atomic_load(&w->pages[i]);
        for (uint32_t k = 0; page && k < PAGE_ROWS; k++)
            atomic_store_explicit(&page[k], 0, memory_order_relaxed);
    }
    while (atomic_load(&w->removing))
        sched_yield();
    atomic_store(&w->unaccounted, NONE);
    atomic_store(&w->rows, 0);
    drop_parts(w);
    vx_terms_clear(&w->terms);
    w->docs = w->tokens = 0;
    w->moving = w->sweep = w->current = NONE;
}

void vx_words_free(vx_words *w)
{
    if (!w)
        return;
    vx_terms_clear(&w->terms);
    vx_terms_free(&w->terms);
    drop_parts(w);
    for (uint32_t i = 0; i < PAGES; i++)
        free(atomic_load(&w->pages[i]));
    free(w->counts);
    free(w->place);
    free(w->translated);
    free(w->number);
    pthread_rwlock_destroy(&w->lock);
    pthread_mutex_destroy(&w->mending);
    free(w);
}

void vx_part_free(vx_part *p)
{
    if (!p)
        return;
    free(p->row);
    free(p->length);
    free(p->at);
    free(p->link);
    free(p->seq);
    free(p);
}

/* A number for a part: one that was given back, once no list has it any more. */
static uint32_t free_number(const vx_words *w)
{
    for (uint32_t i = 0; i < w->parts_n && w->sweep == NONE && !w->dumping; i++)
        if (!w->parts[i])
            return i;
    return w->parts_n;
}

int vx_words_new_part(vx_words *w, double average)
{
    const uint32_t number = free_number(w);
    if (number == PAGES - 1)
        return -EOVERFLOW;
    vx_part *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    /* Untouched pages of these cost nothing. */
    p->row = calloc(PART_DOCS, sizeof *p->row);
    p->length = calloc(PART_DOCS, sizeof *p->length);
    p->at = calloc(PART_DOCS + 1, sizeof *p->at);
    p->link = calloc(PART_DOCS, sizeof *p->link);
    p->average = average;
    p->slope = (float)(VX_WORDS_K1 * VX_WORDS_B / average);
    if (!p->row || !p->length || !p->at || !p->link) {
        vx_part_free(p);
        return -ENOMEM;
    }
    vx_part *full = w->current != NONE ? w->parts[w->current] : NULL;
    const int trims = full && full->at[full->n] && w->moving != w->current; /* a part being emptied is read from */
    uint8_t *exact = trims ? realloc(full->seq, full->at[full->n]) : NULL;
    if (exact) { /* it grows no more */
        full->seq = exact;
        full->seq_cap = full->at[full->n];
    }
    w->parts[number] = p;
    w->parts_n += number == w->parts_n;
    w->current = number;
    return 0;
}

void vx_part_bounds(vx_words *w, uint32_t part, double average)
{
    w->parts[part]->average = average;
    w->parts[part]->slope = (float)(VX_WORDS_K1 * VX_WORDS_B / average);
    for (uint32_t i = 0; i < w->terms.n; i++) {
        vx_seg *s = vx_term_seg(&w->terms.term[i], part);
        if (s)
            vx_seg_bounds(s, w->parts[part]);
    }
}

int vx_words_page(vx_words *w, uint32_t row)
{
    if (row >= VX_WORDS_ROWS)
        return -EINVAL;
    if (atomic_load(&w->pages[row / PAGE_ROWS]))
        return 0;
    _Atomic(uint32_t) *page = calloc(PAGE_ROWS, sizeof *page);
    if (!page)
        return -ENOMEM;
    atomic_store_explicit(&w->pages[row / PAGE_ROWS], page, memory_order_release);
    return 0;
}

int vx_words_room(vx_words *w, size_t n)
{
    /* What there is stays where there is no more: the documents that are in need it. */
    if (w->place_cap < w->terms.n) {
        uint32_t *place = calloc(w->terms.cap, sizeof *place);
        if (!place)
            return -ENOMEM;
        free(w->place);
        w->place = place;
        w->place_cap = w->terms.cap;
    }
    if (w->counts_cap < n) { /* no more terms than bytes */
        vx_count *counts = malloc(n * 2 * sizeof *counts);
        if (!counts)
            return -ENOMEM;
        free(w->counts);
        w->counts = counts;
        w->counts_cap = (uint32_t)n * 2;
    }
    return 0;
}

/* The distinct terms of a document into w->counts; how many.  There must be room.  *length is in positions. */
static uint32_t count(vx_words *w, const uint8_t *seq, size_t n, uint32_t *length)
{
    const uint8_t *end = seq + n;
    uint32_t found = 0, positions = 0;
    while (seq < end) {
        const uint32_t token = vx_varint(&seq), term = token >> 1;
        uint32_t at = w->place[term];
        if (at >= found || w->counts[at].term != term) {
            w->place[term] = at = found++;
            w->counts[at] = (vx_count){term, 0};
        }
        w->counts[at].tf++;
        positions += !(token & 1);
    }
    *length = positions;
    return found;
}

/* The part that takes the next document of n bytes. */
static int part_for(vx_words *w, size_t n, double average)
{
    vx_part *p = w->current != NONE ? w->parts[w->current] : NULL;
    if (!p || p->n == PART_DOCS || p->at[p->n] + n > SEQ_MOST || w->moving == w->current) {
        const int err = vx_words_new_part(w, average);
        if (err)
            return err;
        p = w->parts[w->current];
    } else if (average > p->average * DRIFT || average * DRIFT * DRIFT < p->average) {
        vx_part_bounds(w, w->current, average);
    }
    const size_t need = p->at[p->n] + n;
    if (need > p->seq_cap) {
        const size_t cap = need + need / 8 + 4096;
        uint8_t *seq = realloc(p->seq, cap);
        if (!seq)
            return -ENOMEM;
        p->seq = seq;
        p->seq_cap = cap;
    }
    return 0;
}

int64_t vx_words_place(vx_words *w, uint32_t row, const uint8_t *seq, size_t n, uint32_t length)
{
    const int err = part_for(w, n, (double)(w->tokens + length + 1) / (double)(w->docs + 1));
    if (err)
        return err;
    vx_part *p = w->parts[w->current];
    const uint32_t doc = p->n++;
    p->row[doc] = row;
    p->length[doc] = (float)length;
    if (n) /* a document without words may have no sequence */
        memcpy(p->seq + p->at[doc], seq, n);
    p->at[doc + 1] = p->at[doc] + (uint32_t)n;
    return (int64_t)w->current << PART_BITS | doc;
}

int64_t vx_words_append(vx_words *w, uint32_t row, const uint8_t *seq, size_t n)
{
    uint32_t length;
    int err = vx_words_room(w, n);
    if (err)
        return err;
    const uint32_t distinct = count(w, seq, n, &length);
    const int64_t doc = vx_words_place(w, row, seq, n, length);
    if (doc < 0)
        return doc;
    const uint32_t number = w->current;
    vx_part *p = w->parts[number];
    for (uint32_t i = 0; i < distinct && !err; i++) {
        if (i + AHEAD < distinct) /* the dictionary is larger than the caches */
            __builtin_prefetch(&w->terms.term[w->counts[i + AHEAD].term], 1);
        vx_seg *s = vx_term_seg_made(&w->terms.term[w->counts[i].term], number);
        err = s ? vx_seg_append(s, p, (uint16_t)doc, w->counts[i].tf) : -ENOMEM;
    }
    if (err) { /* what was posted of it belongs to a document that never lived */
        p->dead++;
        return err;
    }
    for (uint32_t i = 0; i < distinct; i++)
        w->terms.term[w->counts[i].term].df++;
    w->docs++;
    w->tokens += length;
    return doc;
}

/* Puts a document on the stack of those that died and still count. */
static void bury(vx_words *w, uint32_t doc)
{
    _Atomic(uint32_t) *link = &w->parts[doc >> PART_BITS]->link[doc % PART_DOCS];
    uint32_t head = atomic_load_explicit(&w->unaccounted, memory_order_relaxed);
    do
        atomic_store_explicit(link, head, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&w->unaccounted, &head, doc, memory_order_release,
                                                  memory_order_relaxed));
}

void vx_words_discount(vx_words *w, uint32_t doc)
{
    vx_part *p = w->parts[doc >> PART_BITS];
    const uint32_t i = doc % PART_DOCS;
    uint32_t length = 0;
    const uint32_t distinct = count(w, p->seq + p->at[i], p->at[i + 1] - p->at[i], &length);
    for (uint32_t k = 0; k < distinct; k++)
        w->terms.term[w->counts[k].term].df--;
    w->docs--;
    w->tokens -= length;
    p->dead++;
}

void vx_words_account(vx_words *w)
{
    uint32_t doc = atomic_exchange_explicit(&w->unaccounted, NONE, memory_order_acquire);
    while (doc != NONE) {
        const uint32_t next = atomic_load(&w->parts[doc >> PART_BITS]->link[doc % PART_DOCS]);
        vx_words_discount(w, doc);
        doc = next;
    }
}

void vx_words_name(vx_words *w, uint32_t row, uint32_t doc)
{
    _Atomic(uint32_t) *page = atomic_load(&w->pages[row / PAGE_ROWS]);
    const uint32_t before = atomic_exchange(&page[row % PAGE_ROWS], doc + 1);
    if (before)
        bury(w, before - 1);
    else
        atomic_fetch_add(&w->rows, 1);
}

/* A record's tokens in the numbers of the index: w->translated.  Their bytes, or -ENOMEM. */
static int64_t translate(vx_words *w, const vx_record *r)
{
    if (w->number_cap < r->terms) {
        free(w->number);
        w->number_cap = 0;
        if (!(w->number = malloc(r->terms * (size_t)2 * sizeof *w->number)))
            return -ENOMEM;
        w->number_cap = r->terms * (size_t)2;
    }
    const uint8_t *p = r->names;
    for (uint32_t i = 0; i < r->terms; i++) {
        w->number[i] = vx_terms_put(&w->terms, p + 1, *p);
        if (w->number[i] == NONE)
            return -ENOMEM;
        p += 1 + *p;
    }
    if (w->translated_cap < (size_t)r->tokens * 5) {
        free(w->translated);
        w->translated_cap = 0;
        if (!(w->translated = malloc((size_t)r->tokens * 10)))
            return -ENOMEM;
        w->translated_cap = (size_t)r->tokens * 10;
    }
    size_t n = 0;
    p = r->seq;
    for (uint32_t i = 0; i < r->tokens; i++) {
        const uint32_t token = vx_varint(&p);
        n += vx_put_varint(w->translated + n, w->number[token >> 1] << 1 | (token & 1));
    }
    return (int64_t)n;
}

int vx_words_put(vx_words *w, uint32_t row, const uint8_t *record, size_t n)
{
    vx_record r;
    int64_t done = vx_record_parse(&r, record, n);
    if (done)
        return (int)done;
    pthread_rwlock_wrlock(&w->lock);
    vx_words_account(w);
    done = vx_words_page(w, row);
    if (!done)
        done = translate(w, &r);
    if (done >= 0)
        done = vx_words_append(w, row, w->translated, (size_t)done);
    if (done >= 0)
        vx_words_name(w, row, (uint32_t)done);
    pthread_rwlock_unlock(&w->lock);
    return done < 0 ? (int)done : 0;
}

int vx_words_remove(vx_words *w, uint32_t row)
{
    uint32_t before = 0;
    if (row >= VX_WORDS_ROWS)
        return 0;
    atomic_fetch_add(&w->removing, 1); /* the document's part stays until this is back at 0 */
    _Atomic(uint32_t) *page = atomic_load_explicit(&w->pages[row / PAGE_ROWS], memory_order_acquire);
    if (page && (before = atomic_exchange(&page[row % PAGE_ROWS], 0))) {
        bury(w, before - 1);
        atomic_fetch_sub(&w->rows, 1);
        atomic_fetch_add_explicit(&w->removed, 1, memory_order_relaxed);
    }
    atomic_fetch_sub(&w->removing, 1);
    return before != 0;
}

int vx_words_has(vx_words *w, uint32_t row)
{
    return row < VX_WORDS_ROWS && vx_words_doc(w, row) != 0;
}

uint64_t vx_words_count(vx_words *w)
{
    return atomic_load(&w->rows);
}
