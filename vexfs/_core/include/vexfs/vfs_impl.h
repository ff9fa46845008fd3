/* Shared by the two halves of the VFS: the files (vfs.c), and their locks and shared memory (vfs_lock.c). */
#ifndef VEXFS_VFS_IMPL_H
#define VEXFS_VFS_IMPL_H

#include <sqlite3.h>

#include "vexfs/vfs.h"

#define VX_SHM_LOCKS SQLITE_SHM_NLOCK
#define VX_SHM_REGIONS_MAX 4096 /* of 32 KiB: a log of 64 GiB */

typedef struct vx_vfs_file vx_vfs_file;

/* A file on disk, one for all connections that have it open. */
typedef struct vx_vfs_node {
    struct vx_vfs_node *next;
    char *path;
    int fd; /* -1: a log that does not exist, under a read-only volume */
    int refs, where; /* enum vx_vfs_where */
    vx_wal *wal;
    int shared; /* connections with at least a shared lock */
    vx_vfs_file *reserved, *exclusive;
    void **regions;
    int region_count, region_refs;
    int slot_shared[VX_SHM_LOCKS];
    vx_vfs_file *slot_owner[VX_SHM_LOCKS];
} vx_vfs_node;

/* A file as one connection has it open; SQLite allocates it. */
struct vx_vfs_file {
    sqlite3_file base;
    vx_vfs *vfs;
    vx_vfs_node *node;
    vx_vfs_fault fault;
    uint8_t *scratch; /* one frame; a connection is used by one thread at a time */
    int level;        /* SQLITE_LOCK_* */
    unsigned slots_shared, slots_owned;
    int mapped;
};

struct vx_vfs {
    sqlite3_vfs base;
    char name[32];
    vx_page_codec codec;
    pthread_mutex_t mutex; /* nodes, locks, regions */
    vx_vfs_node *nodes;
    vx_vfs_fault open_fault;
    uint32_t recovered;
    int read_only, registered;
};

int vx_vfs_lock(sqlite3_file *file, int level);
int vx_vfs_unlock(sqlite3_file *file, int level);
int vx_vfs_check_reserved(sqlite3_file *file, int *out);
int vx_vfs_shm_map(sqlite3_file *file, int region, int bytes, int extend, void volatile **out);
int vx_vfs_shm_lock(sqlite3_file *file, int offset, int n, int flags);
void vx_vfs_shm_barrier(sqlite3_file *file);
int vx_vfs_shm_unmap(sqlite3_file *file, int remove);

#endif
