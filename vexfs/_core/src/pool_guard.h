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

#endif
