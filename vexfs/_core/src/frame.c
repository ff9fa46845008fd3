/* Frames: where the stack stood on entry, the deepest mark since, and counters of each thread's own. */
#include "vexfs/frame.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "local.h"

/* Without a frame to ask: the defaults of the configuration. */
enum { DEFAULT_THRESHOLD = 1024, TIMED_EVERY = 64, PAINT_BYTES = 12288, OWN_BYTES = 512 };

static const uint8_t PAINT = 0xA7;

typedef struct {
    _Atomic uint64_t high_water, violations, total_bytes, timed, timed_ns, prevented, pooled, painted_count,
        painted_high_water, depth[VX_FRAME_BUCKETS], time[VX_FRAME_TIMES];
} op_counters;

typedef struct {
    vx_local local;
    uint32_t tick;
    op_counters op[VX_OP_MAX];
} thread_counters;

struct vx_frames {
    _Atomic uint32_t limit, threshold, mode, paint_every, time_every;
    _Atomic uint32_t chosen; /* more frames than one in TIMED_EVERY are painted or timed */
    vx_locals *locals;
    op_counters ended[VX_OP_MAX]; /* of threads that ended; like `since`, under the lock of `locals` */
    op_counters since[VX_OP_MAX]; /* as of the last clear */
};

static void raise_to(_Atomic uint64_t *peak, uint64_t v) {
    if (v > vx_peek(peak)) atomic_store_explicit(peak, v, memory_order_relaxed);
}

static void add_counters(op_counters *to, const op_counters *from) {
    vx_bump(&to->violations, vx_peek(&from->violations));
    vx_bump(&to->total_bytes, vx_peek(&from->total_bytes));
    vx_bump(&to->timed, vx_peek(&from->timed));
    vx_bump(&to->timed_ns, vx_peek(&from->timed_ns));
    vx_bump(&to->prevented, vx_peek(&from->prevented));
    vx_bump(&to->pooled, vx_peek(&from->pooled));
    vx_bump(&to->painted_count, vx_peek(&from->painted_count));
    raise_to(&to->high_water, vx_peek(&from->high_water));
    raise_to(&to->painted_high_water, vx_peek(&from->painted_high_water));
    for (int i = 0; i < VX_FRAME_BUCKETS; i++) vx_bump(&to->depth[i], vx_peek(&from->depth[i]));
    if (vx_peek(&from->timed))
        for (int i = 0; i < VX_FRAME_TIMES; i++) vx_bump(&to->time[i], vx_peek(&from->time[i]));
}

static void thread_ended(void *owner, vx_local *local) {
    vx_frames *f = owner;
    for (int op = 0; op < VX_OP_MAX; op++) add_counters(&f->ended[op], &((thread_counters *)local)->op[op]);
}

vx_frames *vx_frames_new(uint32_t limit_bytes, uint32_t heap_threshold) {
    vx_frames *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->locals = vx_locals_new(f, sizeof(thread_counters), thread_ended);
    vx_frames_configure(f, limit_bytes, heap_threshold, VX_FRAMES_COUNTED);
    vx_frames_time(f, TIMED_EVERY);
    if (f->locals) return f;
    vx_frames_free(f);
    return NULL;
}

void vx_frames_free(vx_frames *f) {
    if (!f) return;
    vx_locals_free(f->locals);
    free(f);
}

void vx_frames_configure(vx_frames *f, uint32_t limit_bytes, uint32_t heap_threshold, int mode) {
    atomic_store_explicit(&f->limit, limit_bytes, memory_order_relaxed);
    atomic_store_explicit(&f->threshold, heap_threshold, memory_order_relaxed);
    atomic_store_explicit(&f->mode, (uint32_t)mode, memory_order_relaxed);
}

static void look_closer(vx_frames *f) {
    uint32_t timed = atomic_load_explicit(&f->time_every, memory_order_relaxed);
    uint32_t painted = atomic_load_explicit(&f->paint_every, memory_order_relaxed);
    atomic_store_explicit(&f->chosen, painted || timed != TIMED_EVERY, memory_order_relaxed);
}

void vx_frames_paint(vx_frames *f, uint32_t every) {
    atomic_store_explicit(&f->paint_every, every, memory_order_relaxed);
    look_closer(f);
}

void vx_frames_time(vx_frames *f, uint32_t every) {
    atomic_store_explicit(&f->time_every, every ? every : TIMED_EVERY, memory_order_relaxed);
    look_closer(f);
}

/* -- buckets of time ------------------------------------------------------------------------------------------------ */

enum { TIME_OCTAVE = 7, TIME_SUB = 2 }; /* the first octave is 2^7 ns; 2^2 buckets each */

static unsigned time_bucket(uint64_t ns) {
    if (ns < (uint64_t)1 << TIME_OCTAVE) return 0;
    unsigned octave = 63 - (unsigned)__builtin_clzll(ns);
    unsigned i = 1 + ((octave - TIME_OCTAVE) << TIME_SUB) + (unsigned)(ns >> (octave - TIME_SUB) & 3);
    return i < VX_FRAME_TIMES ? i : VX_FRAME_TIMES - 1;
}

uint64_t vx_frame_time_limit(uint32_t bucket) {
    if (bucket >= VX_FRAME_TIMES - 1) return UINT64_MAX;
    unsigned octave = TIME_OCTAVE + (bucket >> TIME_SUB), part = bucket & 3;
    return ((uint64_t)(4 + part) << (octave - TIME_SUB)) - 1;
}

/* -- painting ------------------------------------------------------------------------------------------------------
 * What lies below the stack pointer belongs to nobody: the painted part is deeper than any promise, so that a broken one
 * is seen, and starts below what these functions use themselves.  The sanitizers must not mind. */

static __attribute__((noinline, no_sanitize("address", "undefined", "thread"))) uintptr_t paint_below(void) {
    uintptr_t top = (uintptr_t)__builtin_dwarf_cfa() - OWN_BYTES, low = top - PAINT_BYTES;
    for (volatile uint8_t *at = (volatile uint8_t *)top; (uintptr_t)at > low;) *--at = PAINT;
    return low;
}

static __attribute__((noinline, no_sanitize("address", "undefined", "thread"))) uintptr_t lowest_touched(uintptr_t from,
                                                                                                     uintptr_t to) {
    volatile const uint8_t *at = (volatile const uint8_t *)from;
    while ((uintptr_t)at < to && *at == PAINT) at++;
    return (uintptr_t)at;
}

/* -- the hot path --------------------------------------------------------------------------------------------------- */

static __attribute__((noinline)) void choose(vx_frame *frame, vx_frames *f, thread_counters *c) {
    uint32_t every = atomic_load_explicit(&f->paint_every, memory_order_relaxed);
    if (every && c->tick % every == 0) {
        frame->painted = (uint32_t)(frame->base - paint_below());
    }
    if (c->tick % atomic_load_explicit(&f->time_every, memory_order_relaxed) == 0) frame->started_ns = vx_now_ns();
}

static void put_down(vx_frame *frame, vx_frames *f, int op, uintptr_t base, op_counters *counters) {
    vx_at_hand *here = &vx_here;
    frame->owner = f;
    frame->counters = counters;
    frame->base = base;
    frame->deepest = (uintptr_t)__builtin_dwarf_cfa();
    frame->op = op;
    frame->painted = 0;
    frame->started_ns = 0;
    frame->innermost = &here->innermost;
    frame->outer = here->innermost;
    here->innermost = frame;
}

void vx_frame_enter_at(vx_frame *frame, vx_frames *f, int op, uintptr_t base) {
    frame->owner = NULL;
    uint32_t mode = f ? atomic_load_explicit(&f->mode, memory_order_relaxed) : VX_FRAMES_OFF;
    if (VX_UNLIKELY(mode != VX_FRAMES_COUNTED)) {
        if (mode == VX_FRAMES_GUARDED) put_down(frame, f, op, base, NULL);
        return;
    }
    vx_at_hand *here = &vx_here;
    vx_local *local = here->last[VX_LOCAL_FRAMES];
    if (VX_UNLIKELY(!local || atomic_load_explicit(&local->owner, memory_order_relaxed) != f))
        local = vx_local_find(f->locals, VX_LOCAL_FRAMES);
    if (VX_UNLIKELY(!local)) return;
    thread_counters *c = (thread_counters *)local;
    put_down(frame, f, op, base, &c->op[(unsigned)op % VX_OP_MAX]);
    c->tick++;
    if (VX_UNLIKELY(c->tick % TIMED_EVERY == 0 || atomic_load_explicit(&f->chosen, memory_order_relaxed)))
        choose(frame, f, c);
}

static __attribute__((noinline)) void leave_chosen(vx_frame *frame, op_counters *c) {
    if (frame->painted) {
        uint64_t touched = frame->base - lowest_touched(frame->base - frame->painted, frame->base);
        vx_bump(&c->painted_count, 1);
        raise_to(&c->painted_high_water, touched);
    }
    if (frame->started_ns) {
        uint64_t took = vx_now_ns() - frame->started_ns;
        vx_bump(&c->timed, 1);
        vx_bump(&c->timed_ns, took);
        vx_bump(&c->time[time_bucket(took)], 1);
    }
}

static void count(vx_frame *frame, op_counters *c) {
    if (VX_UNLIKELY(frame->painted || frame->started_ns)) leave_chosen(frame, c);
    uint64_t depth = frame->base - frame->deepest;
    vx_bump(&c->total_bytes, depth);
    vx_bump(&c->depth[depth / 256 < VX_FRAME_BUCKETS ? depth / 256 : VX_FRAME_BUCKETS - 1], 1);
    raise_to(&c->high_water, depth);
    if (VX_UNLIKELY(depth > atomic_load_explicit(&frame->owner->limit, memory_order_relaxed)))
        vx_bump(&c->violations, 1);
}

void vx_frame_leave(vx_frame *frame) {
    if (!frame->owner) return;
    if (VX_LIKELY(frame->counters != NULL)) count(frame, frame->counters);
    *frame->innermost = frame->outer;
    if (frame->outer && frame->deepest < frame->outer->deepest) frame->outer->deepest = frame->deepest;
    frame->owner = NULL;
}

void vx_frame_mark(void) {
    vx_frame *frame = vx_here.innermost;
    uintptr_t here = (uintptr_t)__builtin_dwarf_cfa();
    if (frame && here < frame->deepest) frame->deepest = here;
}

/* -- scratch -------------------------------------------------------------------------------------------------------- */

int vx_frame_fits(size_t bytes) {
    vx_frame *frame = vx_here.innermost;
    if (!frame) return bytes <= DEFAULT_THRESHOLD;
    op_counters *c = frame->counters;
    if (bytes > atomic_load_explicit(&frame->owner->threshold, memory_order_relaxed)) {
        if (c) vx_bump(&c->pooled, 1);
        return 0;
    }
    uintptr_t lowest = (uintptr_t)__builtin_dwarf_cfa() - bytes;
    if (frame->base - lowest + VX_FRAME_RESERVE > atomic_load_explicit(&frame->owner->limit, memory_order_relaxed)) {
        if (c) vx_bump(&c->prevented, 1);
        return 0;
    }
    if (lowest < frame->deepest) frame->deepest = lowest;
    return 1;
}

void *vx_scratch_stack(vx_scratch *s, void *at) {
    *s = (vx_scratch){0};
    return at;
}

void *vx_scratch_take(vx_scratch *s, vx_pool *pool, size_t bytes) {
    *s = (vx_scratch){.pooled = vx_pool_acquire(pool, bytes, VX_TAG_FRAME), .size = bytes, .pool = pool};
    return s->pooled;
}

void vx_scratch_end(vx_scratch *s) {
    if (s->pooled) vx_pool_release(s->pool, s->pooled, s->size);
    s->pooled = NULL;
}

/* -- counters ------------------------------------------------------------------------------------------------------- */

/* Peaks start anew: a thread that raises one at this very moment may raise it again. */
static void forget_peaks(op_counters *c) {
    for (int op = 0; op < VX_OP_MAX; op++) {
        atomic_store_explicit(&c[op].high_water, 0, memory_order_relaxed);
        atomic_store_explicit(&c[op].painted_high_water, 0, memory_order_relaxed);
    }
}

/* With the list locked, `first` its first block. */
static void sum_all(vx_frames *f, vx_local *first, int op, op_counters *sum) {
    memset((void *)sum, 0, sizeof *sum);
    add_counters(sum, &f->ended[op]);
    for (vx_local *local = first; local; local = local->next_of_owner)
        add_counters(sum, &((thread_counters *)local)->op[op]);
}

static void report(const op_counters *now, const op_counters *then, vx_frame_stats *out) {
    uint64_t timed = vx_peek(&now->timed) - vx_peek(&then->timed);
    uint64_t count = 0;
    for (int i = 0; i < VX_FRAME_BUCKETS; i++) {
        uint64_t frames = vx_peek(&now->depth[i]) - vx_peek(&then->depth[i]);
        out->depth[i] += frames;
        count += frames;
    }
    out->count += count;
    out->violations += vx_peek(&now->violations) - vx_peek(&then->violations);
    out->total_bytes += vx_peek(&now->total_bytes) - vx_peek(&then->total_bytes);
    out->prevented += vx_peek(&now->prevented) - vx_peek(&then->prevented);
    out->pooled += vx_peek(&now->pooled) - vx_peek(&then->pooled);
    out->painted_count += vx_peek(&now->painted_count) - vx_peek(&then->painted_count);
    if (timed) out->time_ns += (vx_peek(&now->timed_ns) - vx_peek(&then->timed_ns)) * count / timed;
    if (vx_peek(&now->high_water) > out->high_water) out->high_water = vx_peek(&now->high_water);
    if (vx_peek(&now->painted_high_water) > out->painted_high_water)
        out->painted_high_water = vx_peek(&now->painted_high_water);
}

void vx_frames_read(vx_frames *f, int op, vx_frame_stats *out) {
    memset(out, 0, sizeof *out);
    vx_local *first = vx_locals_lock(f->locals);
    for (int i = 0; i < VX_OP_MAX; i++) {
        if (op >= 0 && op != i) continue;
        op_counters sum;
        sum_all(f, first, i, &sum);
        report(&sum, &f->since[i], out);
    }
    vx_locals_unlock(f->locals);
}

void vx_frames_read_times(vx_frames *f, int op, vx_frame_times *out) {
    memset(out, 0, sizeof *out);
    vx_local *first = vx_locals_lock(f->locals);
    for (int i = 0; i < VX_OP_MAX; i++) {
        if (op >= 0 && op != i) continue;
        op_counters sum;
        sum_all(f, first, i, &sum);
        const op_counters *then = &f->since[i];
        out->timed += vx_peek(&sum.timed) - vx_peek(&then->timed);
        out->total_ns += vx_peek(&sum.timed_ns) - vx_peek(&then->timed_ns);
        for (int k = 0; k < VX_FRAME_TIMES; k++) out->bucket[k] += vx_peek(&sum.time[k]) - vx_peek(&then->time[k]);
    }
    vx_locals_unlock(f->locals);
}

void vx_frames_clear(vx_frames *f) {
    vx_local *first = vx_locals_lock(f->locals);
    for (int op = 0; op < VX_OP_MAX; op++) sum_all(f, first, op, &f->since[op]);
    forget_peaks(f->ended);
    for (vx_local *local = first; local; local = local->next_of_owner) forget_peaks(((thread_counters *)local)->op);
    vx_locals_unlock(f->locals);
}
