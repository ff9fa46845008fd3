/* Unicode for the keyword index: what a code point is to a word, and what it is folded to. */
#ifndef VEXFS_SRC_WORDS_FOLD_H
#define VEXFS_SRC_WORDS_FOLD_H

#include <stdint.h>

typedef struct {
    uint32_t first, last;
} vx_cp_range;

typedef struct {
    uint32_t first;
    const char *folds;
} vx_cp_fold;

/* words_unicode.c; each ends with zeros. */
extern const vx_cp_range vx_cp_words[], vx_cp_grams[], vx_cp_drops[];
extern const vx_cp_fold vx_cp_folds[];

enum vx_cp_kind { VX_CP_APART, VX_CP_WORD, VX_CP_GRAM, VX_CP_DROP };

/* Makes the tables, once for the process; 0 or -ENOMEM. */
int vx_fold_ready(void);
/* The kind of a code point; `*folded` is what it is folded to, UTF-8, `*n` bytes, or NULL when it stays. */
int vx_fold(uint32_t cp, const uint8_t **folded, uint32_t *n);

/* One code point of UTF-8; *p moves behind it.  What is malformed gives 0 and moves one byte. */
static inline uint32_t vx_utf8(const uint8_t **p, const uint8_t *end)
{
    const uint8_t *s = *p;
    const uint32_t a = s[0];
    *p = s + 1;
    if (a < 0x80)
        return a;
    const int more = a >= 0xf0 ? 3 : a >= 0xe0 ? 2 : 1;
    if (a < 0xc2 || a > 0xf4 || end - s <= more)
        return 0;
    uint32_t cp = a & (0x3fu >> more);
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        cp = cp << 6 | (s[i] & 0x3fu);
    }
    if ((more == 2 && (cp < 0x800 || cp - 0xd800 < 0x800)) || (more == 3 && cp - 0x10000 >= 0x100000))
        return 0;
    *p = s + more + 1;
    return cp;
}

#endif
