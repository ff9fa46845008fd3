/* Hardened buffers: each stands by itself, under guard, and is known by its address until it is handed out again.
 *
 *   with guard pages      | no access |  slack  | data up to the end of the page | no access |
 *   without               | front canary | data | back canary |
 *
 * Free buffers wait in a queue, oldest first, so that a late write falls into one that nobody has got yet.  Guard pages
 * are given to as many buffers as the tier counts; what goes beyond (a miss) makes do with canaries, because each
 * guarded buffer takes two entries of the process's limited memory map. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "pool_guard.h"

enum { POISON = 0xDB, CANARY_BYTES = 64, QUARANTINE = 16, KEPT_VIOLATIONS = 64 };

static const size_t TIER_BYTES[VX_POOL_TIERS] = {1024, 4096, 16384};

typedef struct {
    block *oldest, *newest;
    uint64_t free_n, used_n, used_peak, acquires, releases, misses;
} shelf;

struct vx_hard {
    pthread_mutex_t lock;
    block **slots;
    size_t slot_n, block_n;
    shelf shelf[VX_POOL_TIERS];
    uint64_t canary, serial, counts[VX_POOL_BAD_SIZE + 1];
    vx_pool_violation kept[KEPT_VIOLATIONS];
    uint64_t violations;
};

/* -- the table of addresses ------------------------------------------------------------------------------------ */

static size_t slot_of(const vx_hard *h, const void *data) {
    return ((uintptr_t)data >> 6) * 0x9E3779B97F4A7C15u % h->slot_n;
}

static block *find(const vx_hard *h, const void *data) {
    block *b = h->slots[slot_of(h, data)];
    while (b && b->data != data) b = b->next_in_slot;
    return b;
}

static void link_block(vx_hard *h, block *b) {
    block **slot = &h->slots[slot_of(h, b->data)];
    b->next_in_slot = *slot;
    *slot = b;
}

static void unlink_block(vx_hard *h, block *b) {
    block **at = &h->slots[slot_of(h, b->data)];
    while (*at != b) at = &(*at)->next_in_slot;
    *at = b->next_in_slot;
}

static void widen(vx_hard *h) {
    size_t old_n = h->slot_n;
    block **old = h->slots, **slots = calloc(old_n * 4, sizeof *slots);
    if (!slots) return; /* longer chains, nothing worse */
    h->slots = slots;
    h->slot_n = old_n * 4;
    for (size_t i = 0; i < old_n; i++) {
        for (block *b = old[i], *next; b; b = next) {
            next = b->next_in_slot;
            link_block(h, b);
        }
    }
    free(old);
}

/* -- what is found --------------------------------------------------------------------------------------------- */

static void report(vx_hard *h, block *b, uint32_t kind, int32_t offset) {
    if (kind != VX_POOL_DOUBLE_FREE && b->reported >> kind & 1) return;
    b->reported |= 1u << kind;
    h->counts[kind]++;
    h->kept[h->violations++ % KEPT_VIOLATIONS] = (vx_pool_violation){
        .kind = kind, .tag = b->tag, .tier = b->tier, .offset = offset, .size = b->size, .address = (uintptr_t)b->data,
        .time_ns = vx_now_ns(), .serial = b->serial};
}

static uint8_t canary_at(const vx_hard *h, const char *at) {
    return (uint8_t)(h->canary >> ((uintptr_t)at % 8 * 8)) ^ (uint8_t)((uintptr_t)at >> 3);
}

static void set_canaries(const vx_hard *h, const char *from, char *to) {
    for (char *at = (char *)from; at < to; at++) *at = (char)canary_at(h, at);
}

/* The front is searched from the buffer outwards: the nearest damage tells most. */
static void check_used(vx_hard *h, block *b) {
    if (!(b->options & VX_POOL_CANARIES)) return;
    for (const char *at = b->data - 1; at >= b->front; at--) {
        if ((uint8_t)*at == canary_at(h, at)) continue;
        report(h, b, VX_POOL_UNDERFLOW, (int32_t)(at - b->data));
        break;
    }
    for (const char *at = b->data + b->size; at < b->back; at++) {
        if ((uint8_t)*at == canary_at(h, at)) continue;
        report(h, b, VX_POOL_OVERFLOW, (int32_t)(at - b->data));
        break;
    }
}

static void check_free(vx_hard *h, block *b) {
    if (b->options & VX_POOL_GUARD_PAGES || !(b->options & (VX_POOL_POISON | VX_POOL_ZERO_ON_FREE))) return;
    uint8_t want = b->options & VX_POOL_ZERO_ON_FREE ? 0 : POISON;
    for (size_t i = 0; i < b->size; i++) {
        if ((uint8_t)b->data[i] == want) continue;
        report(h, b, VX_POOL_USE_AFTER_FREE, (int32_t)i);
        return;
    }
}

/* -- blocks ------------------------------------------------------------------------------------------------------ */

static block *make_guarded(uint32_t tier) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (TIER_BYTES[tier] + CANARY_BYTES + page - 1) / page * page, whole = room + 2 * page;
    block *b = calloc(1, sizeof *b);
    char *at = b ? mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    if (at == MAP_FAILED || mprotect(at + page, room, PROT_READ | PROT_WRITE)) {
        if (at != MAP_FAILED) munmap(at, whole);
        free(b);
        return NULL;
    }
    *b = (block){.map = at, .map_bytes = whole, .front = at + page, .back = at + page + room, .tier = tier};
    return b;
}

static block *make_bare(uint32_t tier) {
    size_t whole = TIER_BYTES[tier] + 2 * CANARY_BYTES;
    block *b = calloc(1, sizeof *b);
    char *at = b ? aligned_alloc(VX_LINE, whole) : NULL;
    if (!at) {
        free(b);
        return NULL;
    }
    *b = (block){.map = at, .front = at, .back = at + whole, .tier = tier};
    return b;
}

static void destroy(vx_hard *h, block *b) {
    if (b->data) unlink_block(h, b);
    if (b->map_bytes)
        munmap(b->map, b->map_bytes);
    else
        free(b->map);
    h->block_n--;
    free(b);
}

static block *oldest_free(vx_hard *h, shelf *s) {
    block *b = s->oldest;
    s->oldest = b->next_free;
    if (!s->oldest) s->newest = NULL;
    s->free_n--;
    check_free(h, b);
    return b;
}

/* A free block of the wanted kind that has waited long enough, or a new one. */
static block *pick(vx_hard *h, uint32_t tier, int guarded) {
    shelf *s = &h->shelf[tier];
    while (s->free_n > QUARANTINE) {
        block *b = oldest_free(h, s);
        if (!!b->map_bytes == guarded) return b;
        destroy(h, b);
    }
    block *b = guarded ? make_guarded(tier) : NULL;
    if (!b) b = make_bare(tier);
    if (b && ++h->block_n > h->slot_n) widen(h);
    return b;
}

static int place(vx_hard *h, block *b, size_t size, int tag, uint32_t options) {
    if (b->options & VX_POOL_GUARD_PAGES && b->data &&
        mprotect(b->front, (size_t)(b->back - b->front), PROT_READ | PROT_WRITE))
        return 0;
    if (b->data) unlink_block(h, b);
    size_t rounded = (size + VX_LINE - 1) / VX_LINE * VX_LINE;
    b->data = b->map_bytes ? b->back - rounded : b->front + CANARY_BYTES;
    b->size = size;
    b->tag = tag >= 0 && tag < VX_TAG_COUNT ? (uint32_t)tag : VX_TAG_OTHER;
    b->options = b->map_bytes ? options : options & ~(uint32_t)VX_POOL_GUARD_PAGES;
    b->used = 1;
    b->reported = 0;
    b->acquired_ns = vx_now_ns();
    b->serial = ++h->serial;
    if (options & VX_POOL_CANARIES) {
        set_canaries(h, b->front, b->data);
        set_canaries(h, b->data + size, b->back);
    }
    link_block(h, b);
    return 1;
}

void *vx_hard_acquire(vx_pool *p, uint32_t tier, size_t size, int tag) {
    vx_hard *h = p->hard;
    uint32_t options = atomic_load_explicit(&p->options, memory_order_relaxed);
    uint32_t capacity = atomic_load_explicit(&p->tier[tier].capacity, memory_order_relaxed);
    pthread_mutex_lock(&h->lock);
    shelf *s = &h->shelf[tier];
    int hit = s->used_n < capacity;
    block *b = pick(h, tier, hit && options & VX_POOL_GUARD_PAGES);
    if (b && !place(h, b, size, tag, options)) {
        destroy(h, b);
        b = NULL;
    }
    if (b) {
        s->acquires++;
        s->misses += !hit;
        if (++s->used_n > s->used_peak) s->used_peak = s->used_n;
    }
    void *data = b ? b->data : NULL;
    pthread_mutex_unlock(&h->lock);
    return data;
}

static void close_block(block *b) {
    if (b->options & VX_POOL_ZERO_ON_FREE)
        memset(b->data, 0, b->size);
    else if (b->options & VX_POOL_POISON)
        memset(b->data, POISON, b->size);
    if (b->options & VX_POOL_GUARD_PAGES) mprotect(b->front, (size_t)(b->back - b->front), PROT_NONE);
}

int vx_hard_release(vx_pool *p, void *buf, size_t size) {
    vx_hard *h = p->hard;
    pthread_mutex_lock(&h->lock);
    block *b = find(h, buf);
    if (b && !b->used) {
        report(h, b, VX_POOL_DOUBLE_FREE, 0);
    } else if (b) {
        shelf *s = &h->shelf[b->tier];
        check_used(h, b);
        if (size != b->size) report(h, b, VX_POOL_BAD_SIZE, 0);
        close_block(b);
        b->used = 0;
        b->next_free = NULL;
        *(s->newest ? &s->newest->next_free : &s->oldest) = b;
        s->newest = b;
        s->free_n++;
        s->used_n--;
        s->releases++;
        while (s->free_n > QUARANTINE + p->tier[b->tier].capacity) destroy(h, oldest_free(h, s));
    }
    pthread_mutex_unlock(&h->lock);
    return b != NULL;
}

/* -- the table's life, and what it tells ---------------------------------------------------------------------- */

vx_hard *vx_hard_new(void) {
    vx_hard *h = calloc(1, sizeof *h);
    if (!h) return NULL;
    h->slot_n = 1021;
    h->slots = calloc(h->slot_n, sizeof *h->slots);
    h->canary = (vx_now_ns() ^ (uintptr_t)h) * 0x9E3779B97F4A7C15u;
    pthread_mutex_init(&h->lock, NULL);
    if (h->slots) return h;
    vx_hard_free(h);
    return NULL;
}

void vx_hard_free(vx_hard *h) {
    if (!h) return;
    vx_fault_unwatch(h);
    for (size_t i = 0; h->slots && i < h->slot_n; i++)
        while (h->slots[i]) destroy(h, h->slots[i]);
    free(h->slots);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

int vx_hard_blame(vx_hard *h, uintptr_t address, vx_pool_violation *out) {
    if (pthread_mutex_trylock(&h->lock)) return 0;
    int found = 0;
    for (size_t i = 0; i < h->slot_n && !found; i++) {
        for (block *b = h->slots[i]; b && !found; b = b->next_in_slot) {
            if (address - (uintptr_t)b->map >= b->map_bytes) continue;
            uint32_t kind = !b->used                           ? VX_POOL_USE_AFTER_FREE
                            : address >= (uintptr_t)b->back    ? VX_POOL_OVERFLOW
                            : address < (uintptr_t)b->front    ? VX_POOL_UNDERFLOW
                                                               : 0;
            if (!kind) continue;
            report(h, b, kind, (int32_t)((intptr_t)address - (intptr_t)b->data));
            *out = h->kept[(h->violations - 1) % KEPT_VIOLATIONS];
            found = 1;
        }
    }
    pthread_mutex_unlock(&h->lock);
    return found;
}

void vx_hard_stats(vx_pool *p, vx_pool_stats *out) {
    vx_hard *h = p->hard;
    pthread_mutex_lock(&h->lock);
    for (int i = 0; i < VX_POOL_TIERS; i++) {
        const shelf *s = &h->shelf[i];
        vx_pool_tier_stats *t = &out->tier[i];
        t->acquires += s->acquires;
        t->releases += s->releases;
        t->misses += s->misses;
        t->in_use += s->used_n;
        t->high_water += s->used_peak;
    }
    out->overflows = h->counts[VX_POOL_OVERFLOW];
    out->underflows = h->counts[VX_POOL_UNDERFLOW];
    out->use_after_free = h->counts[VX_POOL_USE_AFTER_FREE];
    out->double_free = h->counts[VX_POOL_DOUBLE_FREE];
    out->bad_size += h->counts[VX_POOL_BAD_SIZE];
    pthread_mutex_unlock(&h->lock);
}

void vx_hard_restart_peaks(vx_hard *h) {
    pthread_mutex_lock(&h->lock);
    for (int i = 0; i < VX_POOL_TIERS; i++) h->shelf[i].used_peak = h->shelf[i].used_n;
    pthread_mutex_unlock(&h->lock);
}

size_t vx_pool_check(vx_pool *p) {
    vx_hard *h = p->hard;
    if (!h) return 0;
    pthread_mutex_lock(&h->lock);
    uint64_t before = h->violations;
    for (size_t i = 0; i < h->slot_n; i++)
        for (block *b = h->slots[i]; b; b = b->next_in_slot) (b->used ? check_used : check_free)(h, b);
    size_t found = (size_t)(h->violations - before);
    pthread_mutex_unlock(&h->lock);
    return found;
}

size_t vx_pool_violations(vx_pool *p, vx_pool_violation *out, size_t n) {
    vx_hard *h = p->hard;
    if (!h) return 0;
    pthread_mutex_lock(&h->lock);
    uint64_t kept = h->violations < KEPT_VIOLATIONS ? h->violations : KEPT_VIOLATIONS;
    kept = kept < n ? kept : n;
    for (uint64_t i = 0; i < kept; i++) out[i] = h->kept[(h->violations - kept + i) % KEPT_VIOLATIONS];
    pthread_mutex_unlock(&h->lock);
    return (size_t)kept;
}

void vx_pool_owners(vx_pool *p, vx_pool_owner out[VX_TAG_COUNT]) {
    memset(out, 0, VX_TAG_COUNT * sizeof *out);
    vx_hard *h = p->hard;
    if (!h) return;
    uint64_t now = vx_now_ns();
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < h->slot_n; i++) {
        for (const block *b = h->slots[i]; b; b = b->next_in_slot) {
            if (!b->used || !(b->options & VX_POOL_TRACKING)) continue;
            vx_pool_owner *o = &out[b->tag];
            o->count++;
            o->bytes += b->size;
            if (now - b->acquired_ns > o->oldest_ns) o->oldest_ns = now - b->acquired_ns;
        }
    }
    pthread_mutex_unlock(&h->lock);
}

const char *vx_pool_violation_name(uint32_t kind) {
    static const char *const names[] = {"none", "overflow", "underflow", "use after free", "double free", "wrong size"};
    return kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

const char *vx_pool_tag_name(uint32_t tag) {
    static const char *const names[VX_TAG_COUNT] = {"other", "page", "frame", "request", "query", "test"};
    return tag < VX_TAG_COUNT ? names[tag] : "unknown";
}
