/* Text to terms: words of any script, folded; the parts of identifiers; pairs of letters of scripts without spaces. */
#ifndef VEXFS_SRC_WORDS_TEXT_H
#define VEXFS_SRC_WORDS_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define VX_TERM_MOST 64u /* bytes; a longer term is cut before the code point that does not fit */

enum vx_token_flag {
    VX_TOKEN_SAME = 1,  /* stands at the position of the token before: the whole of an identifier, after its first part */
    VX_TOKEN_PLAIN = 2, /* never stemmed: not a word of letters a to z, or the whole of an identifier */
    VX_TOKEN_TAIL = 4,  /* the last letter of a run of pairs, by itself */
    VX_TOKEN_PAIR = 8,  /* two letters of such a run */
};

/* `term` may be changed where it stands, up to its length.  0, or an error that ends the reading. */
typedef int (*vx_token_fn)(void *ctx, uint8_t *term, uint32_t n, uint32_t flags);

/* Every token of `text` (UTF-8; what is malformed separates words), in order.  0, -ENOMEM or what `fn` answered. */
int vx_text_read(const uint8_t *text, size_t n, vx_token_fn fn, void *ctx);
/* Stems an English word of a to z where it stands; its new length. */
uint32_t vx_stem(uint8_t *term, uint32_t n);
/* What a stemmed word has in common with its other forms, where it stands; its length, 0 for what has no forms. */
uint32_t vx_root(uint8_t *term, uint32_t n);

#endif
