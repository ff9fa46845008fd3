/* One hardened buffer. */
#ifndef VEXFS_SRC_POOL_GUARD_H
#define VEXFS_SRC_POOL_GUARD_H

#include "pool_internal.h"

typedef struct block {
    struct block *next_in_slot, *next_free;
    char *data, *front, *back; /* canaries fill front..data and data + size..back */
    void *map;
    size_t map_bytes, size; /* map_bytes 0: from the allocator, without guard pages */
    uint32_t tier, tag, options, used, reported;
    uint64_t acquired_ns, serial;
} block;

/* Whose guarded buffer an address that must not be touched belongs to, and what touching it means; the violation is
 * counted and kept.  For the fault handler: gives up rather than wait for a lock.  0 when it is none of ours. */
int vx_hard_blame(vx_hard *h, uintptr_t address, vx_pool_violation *out);
/* From now on a fault in a guarded buffer of `h` is named on stderr before the process dies of it. */
void vx_fault_watch(vx_hard *h);
void vx_fault_unwatch(vx_hard *h);

#endif
