/* The inside of the keyword index.
 *
 * A put gives the row a new document number: documents are only ever appended, in parts of 65,536, so that posting lists
 * grow at their end and nothing moves under a reader.  A row names its living document; a document that its row does not
 * name is dead.  Counts (df, lengths) follow when the dead are accounted, before the next search.  A part that is mostly
 * dead is emptied by appending its living documents again, and dropped; its number is given again when no list has it.
 *
 * Postings of a term in a part: up to 2 in place; up to 256 sorted in one block; above, by windows of 4096 documents,
 * sorted or, where an eighth of the window has the term, one byte a document. */
#ifndef VEXFS_SRC_WORDS_INTERNAL_H
#define VEXFS_SRC_WORDS_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "vexfs/words.h"
#include "words_text.h"

#define PART_DOCS 65536u
#define PART_BITS 16
#define WINDOW 4096u
#define WINDOWS (PART_DOCS / WINDOW)
#define BLOCK 256u /* documents with one bound */
#define FEW 2u
#define SPARSE_MOST 256u
#define DENSE_LEAST 512u
#define NONE 0xffffffffu
#define VARINT_MOST 5u /* bytes */
#define VX_TERM_LEAD 3u /* bytes that a chain of terms has in common: what is shorter is looked for among all terms */
#define PAGES 65536u
#define PAGE_ROWS 65536u

typedef struct {
    void *data; /* docs[cap] then tfs[cap]; or, dense, WINDOW tfs */
    uint16_t n, cap;
    uint8_t dense, bound[WINDOW / BLOCK]; /* of tf / (tf + norm) in 255ths, upwards, at the part's average */
} vx_window;

typedef struct {
    vx_window w[WINDOWS];
} vx_wide;

/* One term's postings in one part. */
typedef struct {
    uint16_t part, cap;
    uint32_t n; /* <= FEW: few; <= SPARSE_MOST: sparse; else wide */
    union {
        struct {
            uint16_t doc[FEW];
            uint8_t tf[FEW];
        } few;
        uint8_t *sparse; /* docs[cap] then tfs[cap] */
        vx_wide *wide;
    } u;
} vx_seg;

typedef struct {
    uint32_t name; /* in the arena of names */
    uint32_t next; /* in the chain of terms that begin alike: number + 1 */
    uint32_t kin;  /* in the chain of terms whose roots hash alike: number + 1 */
    uint32_t df;
    uint16_t segs;
    uint8_t len, caps; /* caps: log2 of the room for segs, when there are more than one */
    union {
        vx_seg one;
        vx_seg *many;
    } u;
} vx_term;

typedef struct {
    vx_term *term;
    uint32_t n, cap;
    uint32_t unused; /* a number to be given again + 1, then by `next`; such a term has no length */
    uint8_t *names;
    size_t names_n, names_cap;
    uint64_t *slots; /* hash in the upper half, number + 1 in the lower */
    uint32_t *roots; /* of chains, by the hash of a root; as many as slots: number + 1, 0 ends one */
    uint32_t mask;
    uint32_t *heads; /* of chains, by the first three bytes: number + 1, 0 ends one */
    uint64_t seed;
} vx_terms;

typedef struct {
    uint32_t n, dead; /* documents appended; of them, accounted as dead */
    float slope; /* k1 * b / average */
    double average;   /* that the bounds were made at */
    uint32_t *row;
    float *length;
    uint32_t *at; /* of the document's tokens in seq; one more than documents */
    _Atomic(uint32_t) *link; /* to the next dead document */
    uint8_t *seq; /* varints: term number << 1 | same position */
    size_t seq_cap;
} vx_part;

typedef struct {
    uint32_t term, tf;
} vx_count;

struct vx_words {
    pthread_rwlock_t lock;
    pthread_mutex_t mending; /* one maintain at a time */
    vx_terms terms;
    vx_part *parts[PAGES];
    uint32_t parts_n;
    uint32_t current; /* the part that grows, or NONE */
    int dumping;      /* numbers of parts are not given again meanwhile */
    uint64_t docs, tokens; /* accounted living, and their lengths */
    _Atomic(_Atomic(uint32_t) *) pages[PAGES]; /* of a row: its document + 1 */
    _Atomic(uint64_t) rows, removed;
    _Atomic(uint32_t) unaccounted; /* stack of dead documents, by link; NONE ends it */
    _Atomic(uint32_t) removing;    /* how many are in vx_words_remove */
    vx_count *counts;              /* of the document at work; the lock must be held for writing */
    uint32_t *place;               /* of a term in counts, if it is there */
    uint32_t counts_cap, place_cap;
    uint8_t *translated; /* a record's tokens in the index's own numbers */
    size_t translated_cap;
    uint32_t *number; /* of a record's terms */
    size_t number_cap;
    int avx2;
    uint32_t moving, moved; /* the part being emptied, or NONE, and how far */
    uint32_t sweep;         /* next term whose lists of dropped parts are freed, or NONE */
};

/* -- words_terms.c */
int vx_terms_init(vx_terms *t);
void vx_terms_clear(vx_terms *t); /* of terms and their lists */
void vx_terms_free(vx_terms *t);  /* what is left of a cleared one */
uint32_t vx_terms_find(const vx_terms *t, const uint8_t *name, uint32_t n);
/* The number of a term, new if need be; NONE on ENOMEM. */
uint32_t vx_terms_put(vx_terms *t, const uint8_t *name, uint32_t n);
/* Room for so many terms at once, as far as a first guess may go.  0 or -ENOMEM. */
int vx_terms_reserve(vx_terms *t, uint32_t n);
/* Forgets terms that no list is left of, if they are most: their numbers are given again.  0 or -ENOMEM. */
int vx_terms_prune(vx_terms *t);
/* Calls fn for each term that begins so, until it answers not 0. */
int vx_terms_begin(const vx_terms *t, const uint8_t *name, uint32_t n, int (*fn)(void *ctx, uint32_t term), void *ctx);
/* The same for each form of a word, itself included. */
int vx_terms_forms(const vx_terms *t, const uint8_t *name, uint32_t n, int (*fn)(void *ctx, uint32_t term), void *ctx);
static inline vx_seg *vx_term_segs(vx_term *t)
{
    return t->caps ? t->u.many : &t->u.one;
}
uint64_t vx_term_hash(uint64_t seed, const uint8_t *s, uint32_t n);

/* -- words_record.c */
typedef struct {
    uint32_t terms, tokens;
    const uint8_t *names, *seq, *end;
} vx_record;
/* Checks every byte; 0, -EBADMSG or -EINVAL. */
int vx_record_parse(vx_record *r, const uint8_t *data, size_t n);
/* One varint of at most 32 bits, in the shortest form, that ends before `end`; 0 or -EBADMSG. */
static inline int vx_varint_checked(const uint8_t **p, const uint8_t *end, uint32_t *v)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < VARINT_MOST && *p < end; i++) {
        const uint8_t b = *(*p)++;
        sum |= (uint64_t)(b & 0x7f) << (7 * i);
        if (b < 0x80) {
            *v = (uint32_t)sum;
            return sum <= UINT32_MAX && (b || !i) ? 0 : -EBADMSG;
        }
    }
    return -EBADMSG;
}
static inline uint32_t vx_varint(const uint8_t **p)
{
    uint32_t v = 0;
    for (int shift = 0;; shift += 7) {
        const uint8_t b = *(*p)++;
        v |= (uint32_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
}
static inline uint32_t vx_put_varint(uint8_t *out, uint32_t v)
{
    uint32_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

/* -- words_lists.c */
/* One window of a list, ready to score. */
typedef struct {
    const uint16_t *docs; /* numbers in the part; NULL when dense */
    const uint8_t *tfs;
    uint32_t n;
} vx_slice;
int vx_seg_append(vx_seg *s, const vx_part *p, uint16_t doc, uint32_t times);
void vx_seg_free(vx_seg *s);
void vx_seg_bounds(vx_seg *s, const vx_part *p);
size_t vx_seg_memory(const vx_seg *s);
/* The term's list in this part; NULL when there is none. */
vx_seg *vx_term_seg(vx_term *t, uint32_t part);
/* The same, made if need be; NULL on ENOMEM. */
vx_seg *vx_term_seg_made(vx_term *t, uint32_t part);

/* -- words.c */
static inline uint32_t vx_words_doc(vx_words *w, uint32_t row)
{
    _Atomic(uint32_t) *page = atomic_load_explicit(&w->pages[row / PAGE_ROWS], memory_order_acquire);
    return page ? atomic_load_explicit(&page[row % PAGE_ROWS], memory_order_acquire) : 0;
}
static inline int vx_words_lives(vx_words *w, uint32_t row, uint32_t doc)
{
    return vx_words_doc(w, row) == doc + 1;
}
int vx_words_page(vx_words *w, uint32_t row); /* makes room for a row */
/* Brings counts up to date with removals; the lock must be held for writing. */
void vx_words_account(vx_words *w);
static inline double vx_words_average(const vx_words *w)
{
    return w->docs && w->tokens ? (double)w->tokens / (double)w->docs : 1.0;
}
void vx_words_clear(vx_words *w); /* the lock must be held for writing, and nobody be removing */
int vx_words_new_part(vx_words *w, double average);
void vx_part_free(vx_part *p);
/* Room to count the terms of a document of n bytes of tokens: its death needs it, too, and cannot fail.  0 or -ENOMEM. */
int vx_words_room(vx_words *w, size_t n);
/* A new document of tokens (varints as in seq) and so many positions, which no row names, no list has and no count knows
 * yet.  The lock must be held for writing.  Its number, or -errno. */
int64_t vx_words_place(vx_words *w, uint32_t row, const uint8_t *seq, size_t n, uint32_t length);
/* The same, in the lists of its terms and counted. */
int64_t vx_words_append(vx_words *w, uint32_t row, const uint8_t *seq, size_t n);
/* The row names the document from now on. */
void vx_words_name(vx_words *w, uint32_t row, uint32_t doc);
/* One document is dead, and counts no more. */
void vx_words_discount(vx_words *w, uint32_t doc);
void vx_part_bounds(vx_words *w, uint32_t part, double average);

#endif
