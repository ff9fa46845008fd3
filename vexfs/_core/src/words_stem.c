/* English words to their singular, which is what texts are indexed by, and to their root, by which a query finds other
 * forms.  Plurals: Harman, "How effective is suffixing?", 1991 (the S stemmer).  They join what people expect to be joined,
 * and never two words of different meaning.  Roots join more than that now and then; other forms count less therefore. */
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

static int is_vowel(uint8_t c)
{
    return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y';
}

static int has_vowel(const uint8_t *term, uint32_t n)
{
    while (n && !is_vowel(term[n - 1]))
        n--;
    return n > 0;
}

uint32_t vx_root(uint8_t *term, uint32_t n)
{
    static const struct {
        const char *ending;
        uint32_t least; /* of the word that is left */
    } cut[] = {{"ation", 4}, {"ion", 5}, {"ly", 4}, {"ing", 3}, {"ed", 3}};
    if (n < 3)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        if (term[i] < 'a' || term[i] > 'z')
            return 0;
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        const uint32_t left = n - (uint32_t)strlen(cut[i].ending);
        if (!ends(term, n, cut[i].ending) || left < cut[i].least || !has_vowel(term, left))
            continue;
        n = left;
        if (n > 3 && term[n - 1] == term[n - 2] && !is_vowel(term[n - 1]) && !strchr("lsz", term[n - 1]))
            n--; /* running: run; but pass, buzz */
        break;
    }
    if (n > 3 && (term[n - 1] == 'e' || (term[n - 1] == 'l' && term[n - 2] == 'l')))
        n--; /* making, make: mak; controlling, control; installing, install: instal */
    else if (n > 3 && term[n - 1] == 'y' && !is_vowel(term[n - 2]))
        term[n - 1] = 'i'; /* copied, copy: copi */
    return n;
}
