/* Locks and the WAL index for the connections of one process.
 *
 * One process owns a volume (its lock file is held elsewhere), so what SQLite keeps in fcntl locks and in a mapped -shm
 * file can be counters and heap memory: taking a lock costs no system call. */
#include "vexfs/vfs_impl.h"

#include <stdlib.h>
#include <string.h>

int vx_vfs_lock(sqlite3_file *file, int level)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    vx_vfs_node *n = f->node;
    int rc = SQLITE_OK;
    pthread_mutex_lock(&f->vfs->mutex);
    if (level <= f->level)
        goto done;
    rc = SQLITE_BUSY;
    if (n->exclusive && n->exclusive != f)
        goto done;
    if (level >= SQLITE_LOCK_RESERVED && n->reserved && n->reserved != f)
        goto done;
    if (level == SQLITE_LOCK_EXCLUSIVE && n->shared > (f->level >= SQLITE_LOCK_SHARED))
        goto done;
    rc = SQLITE_OK;
    if (f->level < SQLITE_LOCK_SHARED)
        n->shared++;
    if (level >= SQLITE_LOCK_RESERVED)
        n->reserved = f;
    if (level == SQLITE_LOCK_EXCLUSIVE)
        n->exclusive = f;
    f->level = level;
done:
    pthread_mutex_unlock(&f->vfs->mutex);
    return rc;
}

int vx_vfs_unlock(sqlite3_file *file, int level)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    vx_vfs_node *n = f->node;
    pthread_mutex_lock(&f->vfs->mutex);
    if (level < f->level) {
        if (n->exclusive == f)
            n->exclusive = NULL;
        if (n->reserved == f)
            n->reserved = NULL;
        if (level < SQLITE_LOCK_SHARED)
            n->shared--;
        f->level = level;
    }
    pthread_mutex_unlock(&f->vfs->mutex);
    return SQLITE_OK;
}

int vx_vfs_check_reserved(sqlite3_file *file, int *out)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    pthread_mutex_lock(&f->vfs->mutex);
    *out = f->node->reserved != NULL;
    pthread_mutex_unlock(&f->vfs->mutex);
    return SQLITE_OK;
}

static int grow(vx_vfs_node *n, int region, int bytes)
{
    if (region >= VX_SHM_REGIONS_MAX)
        return SQLITE_FULL;
    void **wider = realloc(n->regions, (size_t)(region + 1) * sizeof *wider);
    if (!wider)
        return SQLITE_IOERR_NOMEM;
    n->regions = wider;
    for (; n->region_count <= region; n->region_count++) {
        void *block = calloc(1, (size_t)bytes);
        if (!block)
            return SQLITE_IOERR_NOMEM;
        n->regions[n->region_count] = block;
    }
    return SQLITE_OK;
}

int vx_vfs_shm_map(sqlite3_file *file, int region, int bytes, int extend, void volatile **out)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    vx_vfs_node *n = f->node;
    int rc = SQLITE_OK;
    *out = NULL;
    pthread_mutex_lock(&f->vfs->mutex);
    if (!f->mapped) {
        f->mapped = 1;
        n->region_refs++;
    }
    if (region >= n->region_count && extend)
        rc = grow(n, region, bytes);
    if (!rc && region < n->region_count)
        *out = n->regions[region];
    pthread_mutex_unlock(&f->vfs->mutex);
    return rc;
}

static int slots_free_for(const vx_vfs_file *f, int offset, int n, int exclusive)
{
    for (int i = offset; i < offset + n; i++) {
        const vx_vfs_file *owner = f->node->slot_owner[i];
        int mine = (f->slots_shared >> i) & 1u;
        if ((owner && owner != f) || (exclusive && f->node->slot_shared[i] > mine))
            return 0;
    }
    return 1;
}

static void take_slot(vx_vfs_file *f, int i, int exclusive)
{
    unsigned bit = 1u << i;
    if (exclusive) {
        f->node->slot_owner[i] = f;
        f->slots_owned |= bit;
    } else if (!(f->slots_shared & bit)) {
        f->node->slot_shared[i]++;
        f->slots_shared |= bit;
    }
}

static void drop_slot(vx_vfs_file *f, int i, int exclusive)
{
    unsigned bit = 1u << i;
    if (exclusive && (f->slots_owned & bit)) {
        f->node->slot_owner[i] = NULL;
        f->slots_owned &= ~bit;
    } else if (!exclusive && (f->slots_shared & bit)) {
        f->node->slot_shared[i]--;
        f->slots_shared &= ~bit;
    }
}

int vx_vfs_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    int exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0, rc = SQLITE_OK;
    pthread_mutex_lock(&f->vfs->mutex);
    if ((flags & SQLITE_SHM_LOCK) && !slots_free_for(f, offset, n, exclusive))
        rc = SQLITE_BUSY;
    for (int i = offset; !rc && i < offset + n; i++)
        if (flags & SQLITE_SHM_LOCK)
            take_slot(f, i, exclusive);
        else
            drop_slot(f, i, exclusive);
    pthread_mutex_unlock(&f->vfs->mutex);
    return rc;
}

void vx_vfs_shm_barrier(sqlite3_file *file)
{
    (void)file;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

int vx_vfs_shm_unmap(sqlite3_file *file, int remove)
{
    vx_vfs_file *f = (vx_vfs_file *)file;
    vx_vfs_node *n = f->node;
    (void)remove; /* heap memory goes with its last user either way */
    pthread_mutex_lock(&f->vfs->mutex);
    if (f->mapped) {
        f->mapped = 0;
        for (int i = 0; i < VX_SHM_LOCKS; i++) {
            drop_slot(f, i, 0);
            drop_slot(f, i, 1);
        }
        if (--n->region_refs == 0) {
            for (int i = 0; i < n->region_count; i++)
                free(n->regions[i]);
            free(n->regions);
            n->regions = NULL;
            n->region_count = 0;
        }
    }
    pthread_mutex_unlock(&f->vfs->mutex);
    return SQLITE_OK;
}
