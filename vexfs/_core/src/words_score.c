/* The scoring kernels without special instructions; the others give the same numbers. */
#include "words_query.h"

static void sparse(const uint16_t *docs, const uint8_t *tfs, uint32_t n, const float *length, vx_bm25 m, int32_t *out)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = vx_contribution(tfs[i], length[docs[i]], m);
}

static void dense(const uint8_t *tfs, uint32_t n, const float *length, vx_bm25 m, int32_t *acc)
{
    for (uint32_t i = 0; i < n; i++)
        if (tfs[i])
            acc[i] += vx_contribution(tfs[i], length[i], m);
}

static uint32_t collect(int32_t *acc, uint32_t n, int32_t least, uint16_t *docs, int32_t *scores)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (acc[i] >= least) {
            docs[found] = (uint16_t)i;
            scores[found++] = acc[i];
        }
        acc[i] = 0;
    }
    return found;
}

const vx_score_kernels vx_score_scalar = {sparse, dense, collect};
