/* Plurals of English to their singular, and nothing else.  Source: Harman, "How effective is suffixing?", 1991 (the S
 * stemmer).  It joins what people expect to be joined, and never two words of different meaning. */
#include <string.h>

#include "words_text.h"

static int ends(const uint8_t *term, uint32_t n, const char *with)
{
    const size_t k = strlen(with);
    return n > k && !memcmp(term + n - k, with, k);
}

uint32_t vx_stem(uint8_t *term, uint32_t n)
{
    if (n < 4 || term[n - 1] != 's')
        return n;
    if (ends(term, n, "ies") && !ends(term, n, "eies") && !ends(term, n, "aies")) {
        if (n == 4)
            return n - 1; /* ties, lies, dies */
        term[n - 3] = 'y';
        return n - 2;
    }
    if (ends(term, n, "us") || ends(term, n, "ss"))
        return n;
    return n - 1;
}
