#include "vexfs/measure.h"

#include <errno.h>
#include <stdlib.h>

#include "clock.h"

/* The compiler must not see that nobody looks at the buffer. */
#define USE(p) __asm__ volatile("" ::"r"(p) : "memory")

uint64_t vx_measure_pool(vx_pool *p, size_t size, uint64_t rounds) {
    uint64_t from = vx_now_ns();
    for (uint64_t i = 0; i < rounds; i++) {
        void *buf = vx_pool_acquire(p, size, VX_TAG_TEST);
        USE(buf);
        vx_pool_release(p, buf, size);
    }
    return vx_now_ns() - from;
}

uint64_t vx_measure_burst(vx_pool *p, size_t size, uint64_t depth, uint64_t rounds) {
    char **held = calloc(depth, sizeof *held);
    uint64_t from = vx_now_ns(), failed = !held;
    for (uint64_t r = 0; r < rounds && !failed; r++) {
        for (uint64_t i = 0; i < depth; i++) {
            held[i] = vx_pool_acquire(p, size, VX_TAG_TEST);
            if (held[i])
                *held[i] = 1;
            else
                failed = 1;
        }
        for (uint64_t i = 0; i < depth; i++) vx_pool_release(p, held[i], size);
    }
    uint64_t took = vx_now_ns() - from;
    free(held);
    return failed ? 0 : took;
}

static __attribute__((noinline)) void one_frame(vx_frames *f, int op, uint32_t marks) {
    vx_frame frame;
    vx_frame_enter(&frame, f, op);
    while (marks--) vx_frame_mark();
    vx_frame_leave(&frame);
}

uint64_t vx_measure_frame(vx_frames *f, int op, uint32_t marks, uint64_t rounds) {
    uint64_t from = vx_now_ns();
    for (uint64_t i = 0; i < rounds; i++) one_frame(f, op, marks);
    return vx_now_ns() - from;
}

/* Sleeps, so that on a small machine the producers leave the worker a processor; what falls due meanwhile comes as a
 * burst, as it does from real producers. */
static void pace(uint64_t due) {
    uint64_t now = vx_now_ns();
    if (now >= due) return;
    struct timespec t = {.tv_sec = (time_t)((due - now) / 1000000000u), .tv_nsec = (long)((due - now) % 1000000000u)};
    nanosleep(&t, NULL);
}

int vx_measure_enqueue(vx_bridge *b, uint32_t kind, uint64_t key, uint32_t classes, double rate, uint64_t rounds,
                       uint64_t *spent_ns) {
    uint64_t start = vx_now_ns(), cost = 1000;
    for (int i = 0; i < 16; i++) {
        uint64_t from = vx_now_ns(), took = vx_now_ns() - from;
        cost = took < cost ? took : cost;
    }
    *spent_ns = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        if (rate > 0) pace(start + (uint64_t)((double)i * 1e9 / rate));
        vx_item item = {.key = key + i, .arg = i, .kind = kind, .cls = (uint16_t)(i % classes)};
        uint64_t from = vx_now_ns();
        int rc = vx_bridge_enqueue(b, &item, 1);
        uint64_t took = vx_now_ns() - from;
        if (rc) return rc;
        *spent_ns += took > cost ? took - cost : 0;
    }
    return 0;
}

void vx_measure_discard(void *ctx, const vx_item *items, size_t n) {
    (void)ctx;
    (void)items;
    (void)n;
}
