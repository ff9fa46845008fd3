/* The inside of the segment store, shared by the files segment*.c. */
#ifndef VEXFS_SRC_SEGSTORE_H
#define VEXFS_SRC_SEGSTORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "framecache.h"
#include "segformat.h"
#include "vexfs/segment.h"
#include "workers.h"

#define VX_SEG_BUCKETS 1024u
#define VX_SEG_OPEN_MAX 256u  /* descriptors kept open beyond those in use */
#define VX_PREFETCH_MAX 256u
#define VX_SMALL_BYTES (64u << 10) /* what is synced in pieces up to this size gets zeros written ahead */

/* One segment file.  Everything but `seg`, `id` and `aead` is guarded by the store's lock. */
typedef struct vx_segfile {
    struct vx_segfile *chain;      /* in its bucket */
    struct vx_segfile *dirty_next; /* in the list of files with data that no sync has covered */
    struct vx_segfile *sync_next;  /* in the list of the sync that runs */
    char *path;                    /* of one that is to be unlinked */
    uint32_t seg;
    int fd;                        /* -1 while closed */
    int bulk_fd;                   /* of the active file: for large batches, past the page cache; or -1 */
    uint32_t refs, pins, writers;  /* users of fd; readers' claims on the file; batches being written */
    uint64_t end;                  /* where the next batch goes */
    uint64_t good;                 /* end of the last batch that was written; the file's size, but for zeros */
    uint64_t zeroed;               /* zeros were written ahead up to here */
    uint64_t allocated;            /* the file has room up to here, though nothing was written */
    uint64_t synced;               /* `good` at the last sync */
    uint32_t small_syncs;          /* syncs in a row that found little to do */
    uint8_t opening, deleted, dirty, broken;
    int sync_err;                  /* a sync failed: its data may be lost, for good */
    vx_aead *aead;
    uint8_t id[VX_SEG_ID];
} vx_segfile;

/* Memory that a batch is put together in, aligned to a block; recycled, for fresh pages cost as much as lz4. */
typedef struct vx_staging {
    struct vx_staging *next;
    uint8_t *bytes;
} vx_staging;

/* Bytes that a segment's file may lack. */
typedef struct vx_lent {
    struct vx_lent *next;
    uint32_t seg, pos, n;
    uint8_t bytes[];
} vx_lent;

typedef struct {
    _Atomic uint64_t cache_hits, cache_misses, frames_written, frames_read, bytes_written, bytes_stored, bytes_read,
        syncs, sync_waits, checksum_errors, prefetches;
} vx_segcounters;

struct vx_segstore {
    char *dir;
    uint8_t key[32];
    int encrypted, read_only, direct;
    int bulk;                      /* large batches go past the page cache */
    uint32_t io_threads;
    _Atomic uint32_t compression;
    uint64_t segment_bytes;
    uint32_t cpus;
    vx_pool *pool;
    vx_framecache *cache;
    vx_lent *lent;
    vx_workers *workers;
    vx_segcounters count;

    pthread_mutex_t append_lock; /* places are handed out; taken before `lock` */

    pthread_mutex_t lock;
    pthread_cond_t opened;
    vx_segfile *buckets[VX_SEG_BUCKETS];
    vx_segfile *active, *dirty, *gone; /* gone: taken from the table, to be unlinked without the lock */
    uint64_t next_segment, disk_bytes;
    uint32_t files, open_files, close_hand;

    pthread_cond_t synced;
    uint64_t append_gen, synced_gen; /* batches finished; batches that a sync has covered */
    int syncing, dir_dirty;
    uint32_t lost;                   /* files with a sync_err */
    int lost_err;

    pthread_mutex_t prefetch_lock;
    vx_frame_get prefetch[VX_PREFETCH_MAX];
    uint32_t prefetch_head, prefetch_n;

    pthread_mutex_t staging_lock;
    vx_staging *staging;
};

static inline void vx_count(_Atomic uint64_t *c, uint64_t n)
{
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

/* -- segfile.c: the files ------------------------------------------------------------------------------------- */
char *vx_segfile_path(const vx_segstore *s, uint32_t seg); /* to be freed; NULL on ENOMEM */
int vx_segfiles_list(vx_segstore *s);                      /* fills the table from the directory */
void vx_segfiles_free(vx_segstore *s);
/* Under the lock. */
vx_segfile *vx_segfile_find(vx_segstore *s, uint32_t seg);
void vx_segfile_reap(vx_segstore *s, vx_segfile *f); /* lets it go when it is deleted and nobody uses it */
void vx_segfile_drop(vx_segstore *s, vx_segfile *f); /* gives a reference back, which may let it go */
void vx_segfile_mark_dirty(vx_segstore *s, vx_segfile *f);
vx_segfile *vx_segfile_seal(vx_segstore *s); /* ends the active file, if there is one: what is to be cut, or NULL */
void vx_segfile_end_bulk(vx_segstore *s, vx_segfile *f); /* closes bulk_fd unless somebody will use it */
void vx_segfiles_close_idle(vx_segstore *s); /* when too many descriptors are open */
/* Gives the lock back, and unlinks what was let go, which takes milliseconds for a large file. */
int vx_segfile_leave(vx_segstore *s);
/* Without the lock: takes away what lies behind the end of a file that was sealed; NULL is none. */
void vx_segfile_cut(vx_segstore *s, vx_segfile *f);
/* Takes the lock: the file, open and with its key, and a reference to it. */
int vx_segfile_get(vx_segstore *s, uint32_t seg, vx_segfile **out);
void vx_segfile_put(vx_segstore *s, vx_segfile *f);
/* Makes the next segment and makes it the active one.  Under append_lock. */
int vx_segfile_create(vx_segstore *s);

/* -- segappend.c ---------------------------------------------------------------------------------------------- */
void vx_staging_free(vx_segstore *s);

/* -- segread.c ------------------------------------------------------------------------------------------------ */
void vx_lent_free(vx_segstore *s);
/* What was lent of the `n` bytes at `from`, over the `got` that the file has; how many there are now. */
size_t vx_lent_lay(const vx_segstore *s, uint32_t seg, uint64_t from, uint8_t *bytes, size_t got, size_t n);
void vx_segstore_run_prefetch(void *store);
#endif
