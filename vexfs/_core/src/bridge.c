/* What callers reach: enqueue, barrier, life and configuration, figures. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge_internal.h"
#include "clock.h"

/* -- life ---------------------------------------------------------------------------------------------------------- */

static int check_config(const vx_bridge_config *c) {
    if (c->capacity < 1 || c->capacity > 1u << 24 || c->classes < 1 || c->classes > VX_CLASS_COUNT) return -EINVAL;
    if (c->batch_size < 1 || c->batch_size > VX_BRIDGE_BATCH_MAX) return -EINVAL;
    for (uint32_t i = 0; i < c->classes; i++)
        if (c->weights[i] < 1 || c->weights[i] > 1000) return -EINVAL;
    return 0;
}

static void init_condition(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

vx_bridge *vx_bridge_new(const vx_bridge_config *c) {
    if (check_config(c)) return NULL;
    size_t bytes = (sizeof(vx_bridge) + VX_LINE - 1) / VX_LINE * VX_LINE;
    vx_bridge *b = aligned_alloc(VX_LINE, bytes);
    if (!b) return NULL;
    memset((void *)b, 0, bytes);
    b->work = calloc(1, sizeof *b->work);
    pthread_mutex_init(&b->lock, NULL);
    pthread_mutex_init(&b->life, NULL);
    pthread_mutex_init(&b->control, NULL);
    pthread_mutex_init(&b->figures, NULL);
    init_condition(&b->wake);
    init_condition(&b->progress);
    b->config = *c;
    atomic_store(&b->classes, c->classes);
    atomic_store(&b->config_serial, 1);
    /* Classes not in use yet take the least room; they grow when they are configured. */
    int rc = b->work ? 0 : -ENOMEM;
    for (uint32_t i = 0; i < VX_CLASS_COUNT && !rc; i++)
        rc = vx_queue_open(&b->queue[i], i < c->classes ? c->capacity : 2);
    if (!rc) return b;
    vx_bridge_free(b);
    return NULL;
}

void vx_bridge_free(vx_bridge *b) {
    if (!b) return;
    vx_bridge_stop(b);
    if (b->queue[VX_CLASS_COUNT - 1].oldest) {
        atomic_store(&b->worker, (uintptr_t)pthread_self());
        vx_bridge_run(b, 1);
    }
    for (int i = 0; i < VX_CLASS_COUNT; i++) vx_queue_close(&b->queue[i]);
    pthread_cond_destroy(&b->wake);
    pthread_cond_destroy(&b->progress);
    pthread_mutex_destroy(&b->lock);
    pthread_mutex_destroy(&b->life);
    pthread_mutex_destroy(&b->control);
    pthread_mutex_destroy(&b->figures);
    free(b->work);
    free(b);
}

/* Everything queued is handled on return: by the worker, or here when there is none. */
static int settle(vx_bridge *b) {
    if (vx_bridge_by_worker(b)) return -EDEADLK;
    int rc = 0;
    pthread_mutex_lock(&b->life);
    if (atomic_load(&b->running)) {
        rc = vx_bridge_barrier(b, 0);
    } else {
        atomic_store(&b->worker, (uintptr_t)pthread_self());
        vx_bridge_run(b, 1);
        atomic_store(&b->worker, 0);
    }
    pthread_mutex_unlock(&b->life);
    return rc;
}

int vx_bridge_handler(vx_bridge *b, uint32_t kind, vx_handler fn, void *ctx) {
    if (kind >= VX_KIND_MAX) return -EINVAL;
    vx_bridge_target *t = &b->target[kind];
    int rc = 0;
    if (!fn) {
        if (!atomic_load(&t->fn)) return 0;
        atomic_store(&t->open, 0);
        rc = settle(b);
    }
    pthread_mutex_lock(&b->control);
    if (fn && atomic_load(&b->running) && atomic_load(&t->fn)) rc = -EBUSY;
    if (!rc) {
        if (fn) t->ctx = ctx;
        atomic_store_explicit(&t->fn, fn, memory_order_release);
        atomic_store_explicit(&t->open, fn != NULL, memory_order_release);
    }
    pthread_mutex_unlock(&b->control);
    return rc;
}

static void *worker_thread(void *bridge) {
    vx_bridge *b = bridge;
    atomic_store(&b->worker, (uintptr_t)pthread_self());
    vx_bridge_run(b, 0);
    atomic_store(&b->worker, 0);
    return NULL;
}

int vx_bridge_start(vx_bridge *b) {
    if (vx_bridge_by_worker(b)) return -EDEADLK;
    int rc = 0;
    pthread_mutex_lock(&b->life);
    if (!atomic_load(&b->running)) {
        atomic_store(&b->stopping, 0);
        rc = -pthread_create(&b->thread, NULL, worker_thread, b);
        atomic_store(&b->running, !rc);
    }
    pthread_mutex_unlock(&b->life);
    return rc;
}

int vx_bridge_stop(vx_bridge *b) {
    if (vx_bridge_by_worker(b)) return -EDEADLK;
    int rc = 0;
    pthread_mutex_lock(&b->life);
    if (atomic_load(&b->running)) {
        atomic_store(&b->stopping, 1);
        vx_bridge_rouse(b);
        rc = -pthread_join(b->thread, NULL);
        atomic_store(&b->running, 0);
    }
    pthread_mutex_unlock(&b->life);
    return rc;
}

int vx_bridge_configure(vx_bridge *b, const vx_bridge_config *c) {
    int rc = check_config(c);
    if (rc) return rc;
    pthread_mutex_lock(&b->control);
    for (uint32_t i = 0; i < c->classes && !rc; i++) rc = vx_queue_resize(&b->queue[i], c->capacity);
    if (!rc) {
        b->config = *c;
        atomic_store(&b->classes, c->classes);
        atomic_fetch_add(&b->config_serial, 1);
    }
    pthread_mutex_unlock(&b->control);
    vx_bridge_rouse(b);
    return rc;
}

/* -- waiting -------------------------------------------------------------------------------------------------------- */

void vx_bridge_rouse(vx_bridge *b) {
    pthread_mutex_lock(&b->lock);
    atomic_store(&b->asleep, 0);
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

static struct timespec deadline_of(uint64_t timeout_ns) {
    uint64_t at = vx_now_ns() + timeout_ns;
    return (struct timespec){.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
}

static int passed(vx_bridge *b, const uint64_t target[VX_CLASS_COUNT]) {
    for (int i = 0; i < VX_CLASS_COUNT; i++)
        if (atomic_load(&b->done[i]) < target[i]) return 0;
    return 1;
}

int vx_bridge_barrier(vx_bridge *b, uint64_t timeout_ns) {
    if (vx_bridge_by_worker(b)) return -EDEADLK;
    uint64_t target[VX_CLASS_COUNT];
    for (int i = 0; i < VX_CLASS_COUNT; i++) target[i] = vx_queue_pushed(&b->queue[i]);
    if (passed(b, target)) {
        atomic_fetch_add_explicit(&b->barriers, 1, memory_order_relaxed);
        return 0;
    }
    struct timespec until = deadline_of(timeout_ns);
    atomic_fetch_add(&b->waiting, 1);
    vx_bridge_rouse(b);
    int rc = 0;
    pthread_mutex_lock(&b->lock);
    while (!passed(b, target) && !rc)
        rc = timeout_ns ? pthread_cond_timedwait(&b->progress, &b->lock, &until)
                        : pthread_cond_wait(&b->progress, &b->lock);
    if (rc && passed(b, target)) rc = 0;
    if (!rc) atomic_fetch_add_explicit(&b->barriers, 1, memory_order_relaxed);
    pthread_mutex_unlock(&b->lock);
    atomic_fetch_sub(&b->waiting, 1);
    return -rc;
}

/* -- enqueue -------------------------------------------------------------------------------------------------------- */

/* Enters the key into its slot; answers the class to queue in. */
static uint32_t join_key(_Atomic uint64_t *slot, uint32_t cls) {
    uint64_t seen = atomic_load_explicit(slot, memory_order_relaxed);
    for (;;) {
        uint64_t next = (seen >> 8 ? seen : cls) + 256;
        if (atomic_compare_exchange_weak_explicit(slot, &seen, next, memory_order_acq_rel, memory_order_relaxed))
            return (uint32_t)(next & 255);
    }
}

static __attribute__((noinline)) int push_waiting(vx_bridge *b, vx_queue *q, const vx_item *item, uint32_t cls) {
    atomic_fetch_add_explicit(&b->waits[cls], 1, memory_order_relaxed);
    atomic_fetch_add(&b->waiting, 1);
    vx_bridge_rouse(b);
    pthread_mutex_lock(&b->lock);
    while (vx_queue_push(q, item, vx_now_ns())) pthread_cond_wait(&b->progress, &b->lock);
    pthread_mutex_unlock(&b->lock);
    atomic_fetch_sub(&b->waiting, 1);
    return 0;
}

int vx_bridge_enqueue(vx_bridge *b, const vx_item *item, int wait) {
    if (VX_UNLIKELY(item->kind >= VX_KIND_MAX ||
                    !atomic_load_explicit(&b->target[item->kind].open, memory_order_relaxed)))
        return -EINVAL;
    uint32_t classes = atomic_load_explicit(&b->classes, memory_order_relaxed);
    uint32_t cls = item->cls < classes ? item->cls : classes - 1;
    _Atomic uint64_t *slot = vx_bridge_slot(b, item->key);
    cls = join_key(slot, cls);
    vx_queue *q = &b->queue[cls];
    int rc = vx_queue_push(q, item, vx_now_ns());
    if (VX_UNLIKELY(rc)) {
        /* A handler that waited for room would wait for itself. */
        if (wait && !vx_bridge_by_worker(b)) {
            rc = push_waiting(b, q, item, cls);
        } else {
            atomic_fetch_sub_explicit(slot, 256, memory_order_relaxed);
            atomic_fetch_add_explicit(&b->rejected[cls], 1, memory_order_relaxed);
            return rc;
        }
    }
    /* One of the producers that find the worker asleep pays for waking it; nobody pays while it is awake. */
    if (VX_UNLIKELY(atomic_load(&b->asleep)) && atomic_exchange(&b->asleep, 0)) vx_bridge_rouse(b);
    return rc;
}

/* -- figures -------------------------------------------------------------------------------------------------------- */

static void add_class(vx_bridge *b, int i, vx_bridge_stats *out) {
    const vx_class_figures *f = &b->figure[i];
    uint64_t pushed = vx_queue_pushed(&b->queue[i]), done = atomic_load(&b->done[i]);
    out->enqueued += pushed - f->pushed_since;
    out->handled += f->handled - f->handled_since;
    out->batches += f->batches;
    out->rejected += atomic_load_explicit(&b->rejected[i], memory_order_relaxed);
    out->waits += atomic_load_explicit(&b->waits[i], memory_order_relaxed);
    out->depth += pushed > done ? pushed - done : 0;
    out->high_water += f->high_water;
    out->latency_count += f->latency.count;
    out->latency_sum_ns += f->latency.sum;
    if (f->latency.max > out->latency_max_ns) out->latency_max_ns = f->latency.max;
}

void vx_bridge_read(vx_bridge *b, int cls, vx_bridge_stats *out) {
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&b->figures);
    for (int i = 0; i < VX_CLASS_COUNT; i++)
        if (cls < 0 || cls == i) add_class(b, i, out);
    pthread_mutex_unlock(&b->figures);
    out->barriers = atomic_load_explicit(&b->barriers, memory_order_relaxed);
}

uint64_t vx_bridge_percentile(vx_bridge *b, int cls, double percent) {
    if (cls >= VX_CLASS_COUNT) return 0;
    vx_hist *sum = calloc(1, sizeof *sum);
    if (!sum) return 0;
    pthread_mutex_lock(&b->figures);
    for (int i = 0; i < VX_CLASS_COUNT; i++)
        if (cls < 0 || cls == i) vx_hist_merge(sum, &b->figure[i].latency);
    pthread_mutex_unlock(&b->figures);
    uint64_t value = vx_hist_percentile(sum, percent);
    free(sum);
    return value;
}

void vx_bridge_reset(vx_bridge *b) {
    pthread_mutex_lock(&b->figures);
    for (int i = 0; i < VX_CLASS_COUNT; i++) {
        vx_class_figures *f = &b->figure[i];
        uint64_t handled = f->handled;
        memset(f, 0, sizeof *f);
        f->handled = f->handled_since = handled;
        f->pushed_since = handled; /* what waits now is counted again: handled never passes enqueued */
        atomic_store(&b->rejected[i], 0);
        atomic_store(&b->waits[i], 0);
    }
    pthread_mutex_unlock(&b->figures);
    atomic_store(&b->barriers, 0);
}
