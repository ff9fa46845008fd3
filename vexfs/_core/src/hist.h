/* A log-linear histogram of constant size: 32 buckets an octave, so a bucket's middle is within 1.6 % of its values.
 * One writer at a time; the owner locks. */
#ifndef VEXFS_SRC_HIST_H
#define VEXFS_SRC_HIST_H

#include <stdint.h>

#define VX_HIST_SUB 32u
#define VX_HIST_BUCKETS ((37 - 5) * VX_HIST_SUB + VX_HIST_SUB) /* up to 2^37 ns, more than two minutes */

typedef struct {
    uint64_t count, sum, max, bucket[VX_HIST_BUCKETS];
} vx_hist;

static inline uint32_t vx_hist_index(uint64_t v) {
    if (v < VX_HIST_SUB) return (uint32_t)v;
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(v);
    uint32_t i = (octave - 4) * VX_HIST_SUB + (uint32_t)((v >> (octave - 5)) & (VX_HIST_SUB - 1));
    return i < VX_HIST_BUCKETS ? i : VX_HIST_BUCKETS - 1;
}

/* The middle of bucket i. */
static inline uint64_t vx_hist_value(uint32_t i) {
    if (i < 2 * VX_HIST_SUB) return i;
    uint32_t octave = i / VX_HIST_SUB + 4;
    uint64_t width = (uint64_t)1 << (octave - 5);
    return (VX_HIST_SUB + i % VX_HIST_SUB) * width + width / 2;
}

static inline void vx_hist_add(vx_hist *h, uint64_t v) {
    h->count++;
    h->sum += v;
    if (v > h->max) h->max = v;
    h->bucket[vx_hist_index(v)]++;
}

static inline void vx_hist_merge(vx_hist *to, const vx_hist *from) {
    to->count += from->count;
    to->sum += from->sum;
    if (from->max > to->max) to->max = from->max;
    for (uint32_t i = 0; i < VX_HIST_BUCKETS; i++) to->bucket[i] += from->bucket[i];
}

/* The value that `percent` of the samples do not exceed; 0 without samples. */
static inline uint64_t vx_hist_percentile(const vx_hist *h, double percent) {
    if (!h->count) return 0;
    percent = percent < 0 ? 0 : percent > 100 ? 100 : percent;
    uint64_t rank = (uint64_t)((double)h->count * percent / 100 + 0.999999), seen = 0;
    rank = rank < 1 ? 1 : rank > h->count ? h->count : rank;
    for (uint32_t i = 0; i < VX_HIST_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= rank) return vx_hist_value(i) < h->max ? vx_hist_value(i) : h->max;
    }
    return h->max;
}

#endif
