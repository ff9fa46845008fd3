/* The tables of words_unicode.c, spread out for one look-up a code point: pages of 256, made once for the process. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "words_fold.h"

#define PAGE 256u
#define PAGES 1024u /* planes 0 to 3 */

typedef struct {
    const char *folded; /* into the literals of the table */
    uint8_t n, kind;
} cell;

static cell *pages[PAGES];
static int failed;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static cell *cell_at(uint32_t cp)
{
    cell **page = &pages[cp / PAGE];
    if (!*page && !(*page = calloc(PAGE, sizeof **page))) {
        failed = -ENOMEM;
        return NULL;
    }
    return *page + cp % PAGE;
}

static void spread(const vx_cp_range *r, uint8_t kind)
{
    for (; r->last; r++)
        for (uint32_t cp = r->first; cp <= r->last; cp++) {
            cell *c = cell_at(cp);
            if (c)
                c->kind = kind;
        }
}

static void make(void)
{
    spread(vx_cp_words, VX_CP_WORD);
    spread(vx_cp_grams, VX_CP_GRAM);
    spread(vx_cp_drops, VX_CP_DROP);
    for (const vx_cp_fold *f = vx_cp_folds; f->folds; f++) {
        uint32_t cp = f->first;
        for (const char *s = f->folds; *s; cp++) {
            const size_t n = strcspn(s, " ");
            cell *c = cell_at(cp);
            if (c && *s != '=') {
                c->folded = s;
                c->n = (uint8_t)n;
            }
            s += n + (s[n] == ' ');
        }
    }
}

int vx_fold_ready(void)
{
    pthread_once(&once, make);
    return failed;
}

int vx_fold(uint32_t cp, const uint8_t **folded, uint32_t *n)
{
    *folded = NULL;
    *n = 0;
    if (cp >= PAGE * PAGES || !pages[cp / PAGE])
        return VX_CP_APART;
    const cell *c = &pages[cp / PAGE][cp % PAGE];
    *folded = (const uint8_t *)c->folded;
    *n = c->n;
    return c->kind;
}
