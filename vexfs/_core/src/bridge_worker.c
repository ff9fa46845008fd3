/* The thread that hands items on: whose turn it is, how long to wait, what goes together. */
#include <sched.h>
#include <string.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <time.h>

#include "bridge_internal.h"
#include "clock.h"

/* While items come closer together than BUSY_NS, a worker that runs dry naps for as long as a few of them take, instead
 * of going to sleep: its producers need not wake it for each item, which costs them microseconds.  When items come
 * further apart it sleeps, and the lone item wakes it. */
enum { BUSY_NS = 100000, NAP_ITEMS = 4, NAP_MIN_NS = 20000, NAP_MAX_NS = 100000,
       LAZY_NAP_NS = 1000000 };

static uint64_t depth_of(vx_bridge *b, int i) {
    uint64_t done = atomic_load_explicit(&b->done[i], memory_order_relaxed);
    return vx_queue_pushed(&b->queue[i]) - done;
}

/* -- configuration --------------------------------------------------------------------------------------------------- */

static void reload(vx_bridge *b, vx_bridge_work *w) {
    pthread_mutex_lock(&b->control);
    w->serial = atomic_load(&b->config_serial);
    w->config = b->config;
    pthread_mutex_unlock(&b->control);
    for (uint32_t i = w->config.classes; i < VX_CLASS_COUNT; i++) w->config.weights[i] = 1;
    memset(w->credit, 0, sizeof w->credit);
}

static void retire_rings(vx_bridge *b) {
    for (int i = 0; i < VX_CLASS_COUNT; i++) {
        vx_ring *r;
        while ((r = vx_queue_drained(&b->queue[i]))) {
            pthread_mutex_lock(&b->control);
            r->next_spare = b->queue[i].spare;
            b->queue[i].spare = r;
            pthread_mutex_unlock(&b->control);
        }
    }
}

/* -- whose turn ------------------------------------------------------------------------------------------------------ */

/* How long the class's oldest item may still wait for company; 0: hand it on. */
static uint64_t patience(vx_bridge *b, const vx_bridge_work *w, int i, const vx_cell *oldest) {
    if (!w->config.lazy_sync || atomic_load(&b->waiting) || depth_of(b, i) >= w->config.batch_size) return 0;
    uint64_t age = vx_now_ns() - oldest->at_ns;
    return age < w->config.sync_threshold_ns ? w->config.sync_threshold_ns - age : 0;
}

/* The first class with something to hand on and credit left.  When only classes without credit have something, all get
 * new credit: a class waits for at most the others' weights.  -1: none; then *nap_ns says when one will be. */
static int next_class(vx_bridge *b, vx_bridge_work *w, int drain, uint64_t *nap_ns) {
    int broke = -1;
    *nap_ns = 0;
    for (int i = 0; i < VX_CLASS_COUNT; i++) {
        const vx_cell *oldest = vx_queue_peek(&b->queue[i]);
        if (!oldest) continue;
        uint64_t wait_ns = drain ? 0 : patience(b, w, i, oldest);
        if (wait_ns) {
            if (!*nap_ns || wait_ns < *nap_ns) *nap_ns = wait_ns;
        } else if (w->credit[i]) {
            return i;
        } else if (broke < 0) {
            broke = i;
        }
    }
    if (broke < 0) return -1;
    for (int i = 0; i < VX_CLASS_COUNT; i++) w->credit[i] = (uint64_t)w->config.weights[i] * w->config.batch_size;
    return broke;
}

/* -- handing on ------------------------------------------------------------------------------------------------------ */

static void tell_progress(vx_bridge *b) {
    if (!atomic_load(&b->waiting)) return;
    pthread_mutex_lock(&b->lock);
    pthread_cond_broadcast(&b->progress);
    pthread_mutex_unlock(&b->lock);
}

static void call(vx_bridge *b, int cls, const vx_item *items, const uint64_t *at_ns, uint32_t n) {
    vx_bridge_target *target = &b->target[items[0].kind];
    vx_class_figures *f = &b->figure[cls];
    uint64_t now = vx_now_ns();
    pthread_mutex_lock(&b->figures);
    for (uint32_t i = 0; i < n; i++) vx_hist_add(&f->latency, now > at_ns[i] ? now - at_ns[i] : 0);
    f->batches++;
    pthread_mutex_unlock(&b->figures);
    vx_handler fn = atomic_load_explicit(&target->fn, memory_order_acquire);
    if (fn)
        fn(target->ctx, items, n);
    else /* its handler was taken away while somebody still enqueued, against the contract */
        atomic_fetch_add_explicit(&b->rejected[cls], n, memory_order_relaxed);
}

/* Splits the batch by kind.  An item may overtake others only when none of them has its key; a small Bloom filter
 * answers that, and where it errs the item merely waits for the next pass. */
static void dispatch(vx_bridge *b, vx_bridge_work *w, int cls, uint32_t n) {
    while (n) {
        uint32_t kind = w->items[0].kind, taken = 0, left = 0;
        uint64_t passed_over[64] = {0};
        for (uint32_t i = 0; i < n; i++) {
            uint64_t bit = w->items[i].key * 0x9E3779B97F4A7C15u >> 52;
            if (w->items[i].kind == kind && !(passed_over[bit / 64] >> bit % 64 & 1)) {
                w->group[taken] = w->items[i];
                w->group_at_ns[taken++] = w->at_ns[i];
            } else {
                passed_over[bit / 64] |= (uint64_t)1 << bit % 64;
                w->items[left] = w->items[i];
                w->at_ns[left++] = w->at_ns[i];
            }
        }
        call(b, cls, w->group, w->group_at_ns, taken);
        n = left;
    }
}

static void hand_on(vx_bridge *b, vx_bridge_work *w, int cls) {
    uint64_t depth = depth_of(b, cls);
    uint32_t most = w->config.batch_size < w->credit[cls] ? w->config.batch_size : (uint32_t)w->credit[cls];
    uint32_t n = vx_queue_take(&b->queue[cls], w->items, w->at_ns, most);
    tell_progress(b); /* there is room again */
    w->credit[cls] -= n;
    w->since_idle += n;
    /* This thread hands on nothing else before these are handled, so their keys may change class now. */
    for (uint32_t i = 0; i < n; i++)
        atomic_fetch_sub_explicit(vx_bridge_slot(b, w->items[i].key), 256, memory_order_release);
    dispatch(b, w, cls, n);
    vx_class_figures *f = &b->figure[cls];
    pthread_mutex_lock(&b->figures);
    f->handled += n;
    if (depth > f->high_water) f->high_water = depth;
    pthread_mutex_unlock(&b->figures);
    atomic_fetch_add(&b->done[cls], n);
    tell_progress(b);
}

/* -- nothing to do --------------------------------------------------------------------------------------------------- */

static void nap(vx_bridge *b, uint64_t ns) {
    uint64_t at = vx_now_ns() + ns;
    struct timespec until = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
    pthread_mutex_lock(&b->lock);
    if (!atomic_load(&b->stopping) && !atomic_load(&b->waiting)) pthread_cond_timedwait(&b->wake, &b->lock, &until);
    pthread_mutex_unlock(&b->lock);
}

static int anything(vx_bridge *b, const vx_bridge_work *w) {
    if (atomic_load(&b->stopping) || atomic_load(&b->config_serial) != w->serial) return 1;
    for (int i = 0; i < VX_CLASS_COUNT; i++)
        if (vx_queue_peek(&b->queue[i])) return 1;
    return 0;
}

static void sleep_until_woken(vx_bridge *b, vx_bridge_work *w) {
    pthread_mutex_lock(&b->lock);
    atomic_store(&b->asleep, 1);
    while (!anything(b, w) && atomic_load(&b->asleep)) pthread_cond_wait(&b->wake, &b->lock);
    atomic_store(&b->asleep, 0);
    pthread_mutex_unlock(&b->lock);
}

static void rest(vx_bridge *b, vx_bridge_work *w, uint64_t lazy_ns) {
    if (lazy_ns) {
        /* Short enough to notice that a batch has filled before its time; what is due within a millisecond is not looked
         * after in between: each look costs a switch of threads. */
        uint64_t slice = w->config.sync_threshold_ns / 8;
        slice = slice > LAZY_NAP_NS ? slice : LAZY_NAP_NS;
        nap(b, lazy_ns < slice ? lazy_ns : slice);
        return;
    }
    uint64_t now = vx_now_ns(), elapsed = now - w->idle_at_ns, handed_on = w->since_idle;
    w->idle_at_ns = now;
    w->since_idle = 0;
    if (!handed_on || elapsed / handed_on >= BUSY_NS) {
        sleep_until_woken(b, w);
        return;
    }
    uint64_t ns = elapsed / handed_on * NAP_ITEMS;
    nap(b, ns < NAP_MIN_NS ? NAP_MIN_NS : ns > NAP_MAX_NS ? NAP_MAX_NS : ns);
}

void vx_bridge_run(vx_bridge *b, int drain) {
    vx_bridge_work *w = b->work;
#ifdef __linux__
    /* The default slack of 50 us would double a nap. */
    if (!drain) prctl(PR_SET_TIMERSLACK, 1000ul);
#endif
    while (drain || !atomic_load(&b->stopping)) {
        retire_rings(b);
        if (atomic_load(&b->config_serial) != w->serial) reload(b, w);
        uint64_t lazy_ns;
        int cls = next_class(b, w, drain, &lazy_ns);
        if (cls >= 0) {
            hand_on(b, w, cls);
        } else if (!drain) {
            rest(b, w, lazy_ns);
        } else {
            uint64_t left = 0;
            for (int i = 0; i < VX_CLASS_COUNT; i++) left += depth_of(b, i);
            if (!left) return;
            sched_yield(); /* somebody has claimed a cell and not filled it yet */
        }
    }
}
