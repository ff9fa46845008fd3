/* Threads that append, read, prefetch, sync, drop and delete in one segment store, for the sanitizers to watch.
 *
 * usage: segment_stress DIRECTORY ROUNDS MODE   MODE: a number, bit 0 lz4, bit 1 encryption, bit 2 direct I/O */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vexfs/io.h"
#include "vexfs/segment.h"

#define SLOTS 512
#define BYTES_MAX 20000

typedef struct {
    vx_frame_get where;
    uint32_t n, seed;
} slot;

static vx_segstore *store;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static slot slots[SLOTS];
static atomic_int stop, wrong;
static int rounds;

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Half of the frames compress. */
static void fill(uint8_t *p, uint32_t n, uint32_t seed)
{
    uint32_t state = seed;
    for (uint32_t i = 0; i < n; i++)
        p[i] = (uint8_t)(seed & 1 ? next(&state) : (i / 16) * seed);
}

static void expect(int ok, const char *what, int err)
{
    if (!ok) {
        fprintf(stderr, "%s: %d\n", what, err);
        atomic_store(&wrong, 1);
    }
}

static void *append(void *arg)
{
    uint32_t state = (uint32_t)(uintptr_t)arg;
    uint8_t *data = malloc(8 * BYTES_MAX);
    for (int round = 0; round < rounds; round++) {
        vx_frame_put puts[8];
        struct iovec iov[8];
        uint32_t seeds[8];
        uint32_t count = 1 + next(&state) % 8;
        memset(puts, 0, sizeof puts);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t n = 1 + next(&state) % BYTES_MAX;
            seeds[i] = next(&state);
            fill(data + i * BYTES_MAX, n, seeds[i]);
            iov[i] = (struct iovec){data + i * BYTES_MAX, n};
            puts[i] = (vx_frame_put){.ino = seeds[i], .off = n, .iov = &iov[i], .iovcnt = 1, .raw_len = n};
        }
        int err = vx_segstore_append(store, puts, count);
        expect(!err || err == -ENOSPC, "append", err);
        pthread_mutex_lock(&lock);
        for (uint32_t i = 0; i < count && !err; i++)
            slots[next(&state) % SLOTS] =
                (slot){{.ino = puts[i].ino, .off = puts[i].off, .seg = puts[i].seg, .pos = puts[i].pos,
                        .stored = puts[i].stored}, puts[i].raw_len, seeds[i]};
        pthread_mutex_unlock(&lock);
        if (round % 5 == 0 || round < 10) {
            err = vx_segstore_sync(store);
            expect(!err, "sync", err);
        }
    }
    atomic_store(&stop, 1);
    free(data);
    return NULL;
}

static void *read_back(void *arg)
{
    uint32_t state = (uint32_t)(uintptr_t)arg;
    uint8_t *got = malloc(8 * BYTES_MAX), *want = malloc(BYTES_MAX);
    while (!atomic_load(&stop)) {
        slot some[8];
        vx_frame_get gets[8];
        pthread_mutex_lock(&lock);
        for (int i = 0; i < 8; i++)
            some[i] = slots[next(&state) % SLOTS];
        pthread_mutex_unlock(&lock);
        for (int i = 0; i < 8; i++) {
            gets[i] = some[i].where;
            gets[i].dst = got + i * BYTES_MAX;
            gets[i].len = some[i].n;
        }
        if (next(&state) % 4 == 0)
            vx_segstore_prefetch(store, gets, 8);
        vx_segstore_read(store, gets, 8);
        for (int i = 0; i < 8; i++) {
            if (!some[i].n || gets[i].err == -ENOENT) /* its segment has been deleted */
                continue;
            fill(want, some[i].n, some[i].seed);
            expect(!gets[i].err && memcmp(want, gets[i].dst, some[i].n) == 0, "read", gets[i].err);
        }
    }
    free(got);
    free(want);
    return NULL;
}

static int first_of(void *ctx, uint32_t seg, uint64_t bytes)
{
    uint32_t *lowest = ctx;
    (void)bytes;
    if (seg < *lowest)
        *lowest = seg;
    return 0;
}

static int no_damage(void *ctx, const vx_frame_info *f)
{
    (void)ctx;
    return f->err;
}

static void *disturb(void *arg)
{
    uint32_t state = (uint32_t)(uintptr_t)arg;
    while (!atomic_load(&stop)) {
        vx_segstore_stats st;
        uint32_t seg = UINT32_MAX;
        vx_segstore_read_stats(store, &st);
        vx_segstore_list(store, first_of, &seg);
        switch (next(&state) % 6) {
        case 0: vx_segstore_drop_cache(store); break;
        case 1: vx_segstore_configure(store, 100000 + next(&state) % 1000000, next(&state) % 2); break;
        case 2: vx_segstore_seal(store); break;
        case 3: vx_io_fault(1u << VX_IO_WRITE, next(&state) % 20, ENOSPC); break;
        case 4: vx_io_fault(0, 0, 0); break;
        default:
            if (st.segments > 6 && vx_segstore_pin(store, seg) == 0) {
                int err = vx_segstore_delete(store, seg);
                expect(!err || err == -ENOENT, "delete", err);
                err = vx_segstore_scan(store, seg, 1, no_damage, NULL);
                expect(!err, "scan", err);
                vx_segstore_unpin(store, seg);
            }
        }
    }
    vx_io_fault(0, 0, 0);
    return NULL;
}

int main(int argc, char **argv)
{
    static const uint8_t key[32] = {1, 2, 3};
    if (argc != 4)
        return 2;
    rounds = atoi(argv[2]);
    int mode = atoi(argv[3]);
    vx_segstore_options o = {.dir = argv[1], .key = mode & 2 ? key : NULL, .segment_bytes = 300000,
                             .cache_bytes = 500000, .compression = mode & 1, .direct_io = mode >> 2 & 1};
    int err = vx_segstore_open(&store, &o);
    if (err) {
        fprintf(stderr, "open: %s\n", strerror(-err));
        return 1;
    }
    void *(*const work[])(void *) = {append, append, read_back, read_back, disturb};
    pthread_t threads[5];
    for (uintptr_t i = 0; i < 5; i++)
        pthread_create(&threads[i], NULL, work[i], (void *)(i + 1));
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    vx_segstore_close(store);
    return atomic_load(&wrong);
}
