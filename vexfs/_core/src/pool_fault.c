/* A touch of a guard page kills the process, as it should; this names the buffer and its owner first.
 *
 * One handler per copy of this code, in front of the one that was there (Python's faulthandler, say), which runs next. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "pool_guard.h"

enum { WATCHED_MOST = 16 };

static _Atomic(vx_hard *) watched[WATCHED_MOST];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct sigaction before[2]; /* of SIGSEGV and SIGBUS */

/* Only what may be called in a signal handler. */
static char *put_text(char *at, const char *text) {
    size_t n = strlen(text);
    memcpy(at, text, n);
    return at + n;
}

static char *put_number(char *at, int64_t v) {
    char digits[24];
    int n = 0;
    uint64_t rest = v < 0 ? (uint64_t)-v : (uint64_t)v;
    do {
        digits[n++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (v < 0) *at++ = '-';
    while (n) *at++ = digits[--n];
    return at;
}

static void tell(const vx_pool_violation *v) {
    char line[256], *at = line;
    at = put_text(at, "vexfs: memory pool: ");
    at = put_text(at, vx_pool_violation_name(v->kind));
    at = put_text(at, " of a buffer of ");
    at = put_number(at, (int64_t)v->size);
    at = put_text(at, " bytes, owner ");
    at = put_text(at, vx_pool_tag_name(v->tag));
    at = put_text(at, ", acquired as number ");
    at = put_number(at, (int64_t)v->serial);
    at = put_text(at, ", touched at offset ");
    at = put_number(at, v->offset);
    *at++ = '\n';
    ssize_t written = write(STDERR_FILENO, line, (size_t)(at - line));
    (void)written; /* nothing else can be done about it here */
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    vx_pool_violation v;
    for (int i = 0; i < WATCHED_MOST; i++) {
        vx_hard *h = atomic_load(&watched[i]);
        if (h && vx_hard_blame(h, (uintptr_t)info->si_addr, &v)) tell(&v);
    }
    /* Back to whoever handled this before: the instruction faults again on return. */
    sigaction(signal, &before[signal == SIGBUS], NULL);
}

static void install(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &before[0]);
    sigaction(SIGBUS, &action, &before[1]);
}

void vx_fault_watch(vx_hard *h) {
    pthread_once(&once, install);
    vx_hard *none = NULL;
    for (int i = 0; i < WATCHED_MOST; i++)
        if (atomic_load(&watched[i]) == h) return;
    for (int i = 0; i < WATCHED_MOST; i++, none = NULL)
        if (atomic_compare_exchange_strong(&watched[i], &none, h)) return;
    /* More guarded pools than that: their faults kill just the same, without a name. */
}

void vx_fault_unwatch(vx_hard *h) {
    for (int i = 0; i < WATCHED_MOST; i++) {
        vx_hard *mine = h;
        if (atomic_compare_exchange_strong(&watched[i], &mine, NULL)) return;
    }
}
