/* Threads take buffers, sign them, pass them on through a shared table and check the signatures of what they find, while
 * others come and go, resize the pool, read and reset its counters and switch its options.  A buffer with two owners
 * shows as a wrong signature; at the end nothing is in use. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "check.h"
#include "vexfs/pool.h"

enum { TABLE = 64, THREADS = 3, GENERATIONS = 6, ROUNDS = 4000 };

typedef struct {
    uint64_t serial;
    size_t size;
    uint64_t tail; /* at the end of the buffer in truth: kept here for small ones */
} mark;

static vx_pool *pool;
static _Atomic(void *) table[TABLE];
static _Atomic uint64_t serial;
static _Atomic int over;

static uint32_t next(uint32_t *seed) { return *seed = *seed * 1664525u + 1013904223u; }

static void sign(void *buf, size_t size) {
    mark *m = buf;
    m->serial = atomic_fetch_add(&serial, 1);
    m->size = size;
    memcpy((char *)buf + size - 8, &m->serial, 8);
}

static void verify_and_release(void *buf) {
    mark *m = buf;
    uint64_t tail;
    memcpy(&tail, (char *)buf + m->size - 8, 8);
    CHECK(tail == m->serial, "two owners of one buffer: %llu and %llu", (unsigned long long)tail,
          (unsigned long long)m->serial);
    vx_pool_release(pool, buf, m->size);
}

static void *work(void *arg) {
    static const size_t sizes[] = {64, 1000, 1024, 1025, 4096, 5000, 16384, 20000};
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        size_t size = sizes[next(&seed) >> 8 & 7];
        void *buf = vx_pool_acquire(pool, size, VX_TAG_TEST);
        CHECK(buf, "no memory");
        CHECK((uintptr_t)buf % 64 == 0, "%p is not aligned", buf);
        sign(buf, size);
        buf = atomic_exchange(&table[next(&seed) >> 8 & (TABLE - 1)], buf);
        if (buf) verify_and_release(buf);
    }
    return NULL;
}

static void *disturb(void *arg) {
    (void)arg;
    uint32_t seed = 7;
    static const uint32_t options[] = {0, VX_POOL_ZERO_ON_FREE, VX_POOL_OFF, 0, VX_POOL_CANARIES | VX_POOL_TRACKING, 0};
    for (int i = 0; !atomic_load(&over); i++) {
        uint32_t counts[] = {next(&seed) >> 8 & 31, next(&seed) >> 8 & 15, next(&seed) >> 8 & 7};
        CHECK(vx_pool_resize(pool, counts) == 0, "resize");
        CHECK(vx_pool_set_options(pool, options[i % 6]) == 0, "options");
        vx_pool_stats s;
        vx_pool_read_stats(pool, &s);
        for (int t = 0; t < VX_POOL_TIERS; t++)
            CHECK(s.tier[t].hits + s.tier[t].misses == s.tier[t].acquires, "tier %d: counts do not add up", t);
        if (i % 3 == 0) vx_pool_reset_stats(pool);
        if (i % 5 == 0) vx_pool_trim(pool);
        vx_pool_check(pool);
    }
    return NULL;
}

int main(void) {
    const uint32_t counts[] = {128, 64, 32};
    pool = vx_pool_new(counts, 0);
    CHECK(pool, "no pool");
    pthread_t disturber, threads[THREADS];
    pthread_create(&disturber, NULL, disturb, NULL);
    for (int g = 0; g < GENERATIONS; g++) {
        for (int i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(g * THREADS + i + 1));
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    }
    atomic_store(&over, 1);
    pthread_join(disturber, NULL);
    for (int i = 0; i < TABLE; i++)
        if (table[i]) verify_and_release(table[i]);
    vx_pool_stats s;
    vx_pool_read_stats(pool, &s);
    for (int t = 0; t < VX_POOL_TIERS; t++)
        CHECK(s.tier[t].in_use == 0, "tier %d: %llu still in use", t, (unsigned long long)s.tier[t].in_use);
    CHECK(!s.overflows && !s.underflows && !s.double_free && !s.use_after_free && !s.bad_size, "violations");
    vx_pool_free(pool);
    return 0;
}
