/* Producers in several classes and kinds, barriers, reconfiguration and restarts at once.  Every item carries a serial
 * of its key: the handler sees each exactly once and in order, and after a barrier nothing enqueued before is open. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "vexfs/bridge.h"

enum { PRODUCERS = 3, KEYS = 50, ITEMS = 20000 };

static vx_bridge *bridge;
static uint64_t handled[PRODUCERS][KEYS]; /* the worker's; read by others after a barrier */
static _Atomic uint64_t total;
static _Atomic int over;

static void handle(void *ctx, const vx_item *items, size_t n) {
    CHECK(n >= 1 && n <= 100, "a batch of %zu", n);
    for (size_t i = 0; i < n; i++) {
        CHECK(items[i].kind == (uint32_t)(uintptr_t)ctx, "wrong handler");
        uint64_t *last = &handled[items[i].key / KEYS][items[i].key % KEYS];
        CHECK(items[i].arg == *last + 1, "key %llu: item %llu after %llu", (unsigned long long)items[i].key,
              (unsigned long long)items[i].arg, (unsigned long long)*last);
        *last = items[i].arg;
    }
    atomic_fetch_add(&total, n);
}

static void *produce(void *arg) {
    uint64_t me = (uintptr_t)arg, made[KEYS] = {0};
    uint32_t seed = (uint32_t)me + 1;
    for (int i = 0; i < ITEMS; i++) {
        seed = seed * 1664525u + 1013904223u;
        uint64_t k = (seed >> 8) % KEYS;
        vx_item item = {.key = me * KEYS + k, .arg = ++made[k], .kind = seed >> 20 & 1, .cls = (seed >> 22) % 5};
        int rc;
        if (i % 3) {
            rc = vx_bridge_enqueue(bridge, &item, 1);
        } else {
            while ((rc = vx_bridge_enqueue(bridge, &item, 0))) nanosleep(&(struct timespec){0, 100000}, NULL);
        }
        CHECK(rc == 0, "enqueue: %d", rc);
        if (i % 200 == 199) {
            rc = vx_bridge_barrier(bridge, 0);
            CHECK(rc == 0, "barrier: %d", rc);
            for (int j = 0; j < KEYS; j++)
                CHECK(handled[me][j] == made[j], "after the barrier key %d stands at %llu, not %llu", j,
                      (unsigned long long)handled[me][j], (unsigned long long)made[j]);
        }
    }
    return NULL;
}

static void *disturb(void *arg) {
    vx_bridge_config c = *(vx_bridge_config *)arg;
    for (int i = 0; !atomic_load(&over); i++) {
        c.capacity = 1u << (2 + i % 9);
        c.batch_size = i % 4 ? (uint32_t)(1 + i % 3) : 100; /* small ones show a barrier that errs by one */
        c.classes = (uint32_t)(1 + i % 5);
        c.lazy_sync = i % 4 == 0;
        for (uint32_t k = 0; k < c.classes; k++) c.weights[k] = 1 + (uint32_t)i % 3;
        CHECK(vx_bridge_configure(bridge, &c) == 0, "configure");
        if (i % 3 == 0) {
            CHECK(vx_bridge_stop(bridge) == 0, "stop");
            CHECK(vx_bridge_start(bridge) == 0, "start");
        }
        uint64_t slowest = vx_bridge_percentile(bridge, -1, 99); /* first: the longest latency only grows */
        vx_bridge_stats s;
        vx_bridge_read(bridge, -1, &s);
        CHECK(s.handled <= s.enqueued, "handled more than was enqueued");
        CHECK(slowest <= s.latency_max_ns, "percentile");
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
    return NULL;
}

/* Several restart it and settle it at the same time. */
static void *restart(void *arg) {
    uint32_t spare = 2 + (uint32_t)(uintptr_t)arg;
    while (!atomic_load(&over)) {
        CHECK(vx_bridge_stop(bridge) == 0, "stop");
        CHECK(vx_bridge_handler(bridge, spare, handle, NULL) == 0, "handler");
        CHECK(vx_bridge_start(bridge) == 0, "start");
        CHECK(vx_bridge_handler(bridge, spare, NULL, NULL) == 0, "handler away");
        nanosleep(&(struct timespec){0, 200000}, NULL);
    }
    return NULL;
}

int main(void) {
    vx_bridge_config c = {.capacity = 64, .batch_size = 32, .classes = 3, .weights = {3, 2, 1},
                          .sync_threshold_ns = 300000};
    bridge = vx_bridge_new(&c);
    CHECK(bridge, "no bridge");
    for (uint32_t kind = 0; kind < 2; kind++)
        CHECK(vx_bridge_handler(bridge, kind, handle, (void *)(uintptr_t)kind) == 0, "handler");
    CHECK(vx_bridge_start(bridge) == 0, "start");
    pthread_t disturber, restarters[2], producers[PRODUCERS];
    pthread_create(&disturber, NULL, disturb, &c);
    for (uintptr_t i = 0; i < 2; i++) pthread_create(&restarters[i], NULL, restart, (void *)i);
    for (uintptr_t i = 0; i < PRODUCERS; i++) pthread_create(&producers[i], NULL, produce, (void *)i);
    for (int i = 0; i < PRODUCERS; i++) pthread_join(producers[i], NULL);
    atomic_store(&over, 1);
    pthread_join(disturber, NULL);
    for (int i = 0; i < 2; i++) pthread_join(restarters[i], NULL);
    /* What is queued when the bridge ends is handled first. */
    vx_bridge_free(bridge);
    CHECK(total == (uint64_t)PRODUCERS * ITEMS, "%llu of %d items handled", (unsigned long long)total, PRODUCERS * ITEMS);
    return 0;
}
