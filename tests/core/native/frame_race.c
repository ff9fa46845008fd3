/* Threads nest frames while others read and clear the counters; objects end before and after their threads. */
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "vexfs/frame.h"

enum { THREADS = 3, ROUNDS = 30000 };

static vx_frames *frames;
static vx_pool *pool;
static _Atomic int over;
static pthread_barrier_t gate;

static void __attribute__((noinline)) inner(int op) {
    vx_frame frame;
    vx_frame_enter(&frame, frames, op);
    vx_scratch s;
    volatile char *at = vx_frame_scratch(&s, pool, (size_t)(op * 100));
    at[0] = 1;
    vx_frame_mark();
    vx_scratch_end(&s);
    vx_frame_leave(&frame);
}

static void *work(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        vx_frame frame;
        vx_frame_enter(&frame, frames, 1 + (int)(uintptr_t)arg);
        inner(20);
        vx_frame_leave(&frame);
    }
    pthread_barrier_wait(&gate); /* the counters are complete */
    pthread_barrier_wait(&gate); /* the objects are gone; the thread ends after them */
    return NULL;
}

static void *disturb(void *arg) {
    (void)arg;
    for (int i = 0; !atomic_load(&over); i++) {
        vx_frame_stats s;
        vx_frames_read(frames, i % 2 ? -1 : 1, &s);
        vx_frames_paint(frames, i % 3 ? 0 : 16);
    }
    return NULL;
}

int main(void) {
    const uint32_t counts[] = {8, 8, 8};
    frames = vx_frames_new(3072, 1024);
    pool = vx_pool_new(counts, 0);
    pthread_barrier_init(&gate, NULL, THREADS + 1);
    pthread_t threads[THREADS], disturber;
    pthread_create(&disturber, NULL, disturb, NULL);
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    pthread_barrier_wait(&gate);
    atomic_store(&over, 1);
    pthread_join(disturber, NULL);
    vx_frame_stats s;
    vx_frames_read(frames, 20, &s);
    CHECK(s.count == (uint64_t)THREADS * ROUNDS, "%llu frames", (unsigned long long)s.count);
    CHECK(s.pooled == s.count, "%llu of %llu scratches from the pool", (unsigned long long)s.pooled,
          (unsigned long long)s.count);
    vx_frames_clear(frames);
    vx_frames_read(frames, -1, &s);
    CHECK(s.count == 0 && s.high_water == 0, "not cleared");
    vx_frames_free(frames);
    vx_pool_free(pool);
    pthread_barrier_wait(&gate);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    return 0;
}
