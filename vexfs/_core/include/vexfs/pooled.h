/* Static embeddings: a text's vector is the mean of the vectors of its tokens.
 *
 * Tokens are found by byte-pair merges, word by word (a word is what stands between white space, with the mark U+2581
 * before it), so that no token spans two words.  Any number of threads: all that changes is which words are remembered. */
#ifndef VEXFS_POOLED_H
#define VEXFS_POOLED_H

#include <stddef.h>
#include <stdint.h>

/* Words longer than this many bytes are cut: what follows is merged on its own. */
#define VX_WORD_MAX 96

typedef struct vx_pooled vx_pooled;

typedef struct vx_vocabulary {
    const char *text;       /* all tokens, one behind the other */
    const uint32_t *ends;   /* where each ends */
    uint32_t count;         /* of tokens; the token of byte b is bytes + b, for characters that are no token */
    uint32_t bytes;
    const char *merges;     /* a line each, the earliest first: the left token, a space, the right one; no last end */
    size_t merges_n;
} vx_vocabulary;

/* NULL on ENOMEM, or where the vocabulary contradicts itself (errno EINVAL): a merge knows no such tokens. */
vx_pooled *vx_pooled_new(const vx_vocabulary *v, uint32_t dim);
/* The tokens' vectors, count x dim, one behind the other: to be filled before texts are embedded. */
float *vx_pooled_rows(vx_pooled *p);
void vx_pooled_free(vx_pooled *p);
/* The tokens of UTF-8 text: at most `cap` are written, all are counted. */
size_t vx_pooled_tokens(vx_pooled *p, const char *text, size_t n, uint32_t *ids, size_t cap);
/* out[dim]: the mean of its tokens' rows at length 1, zeros where there are none.  Answers how many tokens. */
size_t vx_pooled_embed(vx_pooled *p, const char *text, size_t n, float *out);

#endif
