/* A thread paints its own stack, runs an operation in a frame, and looks how far down the paint is gone: the truth that
 * the accounting is held against.  Prints "<case> <accounted> <truth>". */
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "vexfs/frame.h"

enum { BELOW = 65536 };

static vx_frames *frames;
static vx_pool *pool;

static __attribute__((noinline)) int marked(int depth) {
    volatile char room[200];
    room[0] = (char)depth;
    vx_frame_mark();
    int below = depth > 1 ? marked(depth - 1) : 0;
    return below + room[0];
}

static __attribute__((noinline)) int silent(int depth) {
    volatile char room[200];
    room[0] = (char)depth;
    int below = depth > 1 ? silent(depth - 1) : 0;
    return below + room[0];
}

static __attribute__((noinline)) void with_scratch(size_t bytes) {
    vx_scratch s;
    volatile char *at = vx_frame_scratch(&s, pool, bytes);
    for (size_t i = 0; i < bytes; i++) at[i] = 1;
    vx_frame_mark();
    vx_scratch_end(&s);
}

/* The handler: its own locals count. */
static __attribute__((noinline)) void handler(int op, int (*fn)(int), int depth, size_t scratch) {
    volatile char own[300] = {0};
    (void)own[op];
    vx_frame frame;
    vx_frame_enter(&frame, frames, op);
    if (fn) fn(depth);
    if (scratch) with_scratch(scratch);
    vx_frame_leave(&frame);
}

static uintptr_t top; /* where the handler's frame starts */

static __attribute__((noinline)) void paint(void) {
    volatile unsigned char room[BELOW];
    for (size_t i = 0; i < BELOW; i++) room[i] = 0x5C;
    __asm__ volatile("" ::"m"(room));
    top = (uintptr_t)__builtin_dwarf_cfa();
}

static __attribute__((noinline)) uintptr_t deepest(void) {
    volatile unsigned char room[BELOW];
    __asm__ volatile("" : "=m"(room));
    size_t i = 0;
    while (i < BELOW && room[i] == 0x5C) i++;
    return (uintptr_t)(room + i);
}

static void measure(const char *name, int op, int (*fn)(int), int depth, size_t scratch, int painted) {
    handler(op, fn, depth, scratch); /* warm: this thread's counters are made on first use */
    vx_frames_clear(frames);
    vx_frames_paint(frames, painted ? 1 : 0);
    paint();
    handler(op, fn, depth, scratch);
    uintptr_t low = deepest();
    vx_frame_stats s;
    vx_frames_read(frames, op, &s);
    CHECK(s.count == 1, "%s: %llu frames", name, (unsigned long long)s.count);
    CHECK(painted == (int)s.painted_count, "%s: %llu painted", name, (unsigned long long)s.painted_count);
    printf("%s %llu %llu %llu %llu %llu\n", name, (unsigned long long)(painted ? s.painted_high_water : s.high_water),
           (unsigned long long)(top - low), (unsigned long long)s.violations, (unsigned long long)s.prevented,
           (unsigned long long)s.pooled);
}

static void *run(void *unused) {
    measure("shallow", 1, marked, 1, 0, 0);
    measure("middle", 2, marked, 5, 0, 0);
    measure("deep", 3, marked, 20, 0, 0);
    measure("scratch_small", 4, NULL, 0, 900, 0);
    measure("scratch_large", 5, NULL, 0, 3000, 0);
    vx_frames_configure(frames, 1400, 1024, 1);
    measure("scratch_tight", 6, NULL, 0, 1000, 0);
    vx_frames_configure(frames, 3072, 1024, 1);
    measure("silent", 7, silent, 20, 0, 0);
    measure("silent_painted", 8, silent, 20, 0, 1);
    return unused;
}

int main(void) {
    const uint32_t counts[] = {8, 8, 8};
    frames = vx_frames_new(3072, 1024);
    pool = vx_pool_new(counts, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, run, NULL);
    pthread_join(thread, NULL);
    vx_frames_free(frames);
    vx_pool_free(pool);
    return 0;
}
