/* Inside the filesystem: inodes, dentries, extent maps, dirty pages, epochs.
 *
 * One lock guards everything here; it is never held over data I/O.  Operations change only memory.  A commit freezes
 * everything that changed as one consistent cut (an epoch), writes its data to segments, has it durable there or with
 * the metadata, and then applies one metadata transaction; what is changed and not yet committed cannot be evicted, so memory laid over the
 * last commit is always the truth. */
#ifndef VEXFS_ENGINE_H
#define VEXFS_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "vexfs/codec.h"
#include "vexfs/fs.h"
#include "vexfs/hmap.h"
#include "vexfs/meta.h"
#include "vexfs/rows.h"
#include "vexfs/segment.h"

enum {
    VX_PAGE = 4096,
    VX_REGION_SHIFT = 20,
    VX_REGION = 1 << VX_REGION_SHIFT,
    VX_REGION_PAGES = VX_REGION / VX_PAGE,
    VX_INLINE_MAX = 4096,
    VX_ROW_INLINE = 128, /* content up to here lies in the inode's row, longer inline content in a row of its own */
    VX_WRITE_PIECE = 4 << 20, /* the most that one write changes at once, seen from other threads and from a crash */
    VX_EXTENTS_PER_REGION = 64, /* more than that and the region is rewritten whole */
    VX_XATTR_TOTAL_MAX = 1 << 20,
    VX_LINK_MAX = 65000,
    VX_NO_FLOOR = 0x7fffffff,
    VX_INLINE_CACHE = 32 << 20, /* bytes of inline content kept in memory, beside what is not committed yet */
    VX_XATTR_CACHE = 64 << 20,  /* bytes of attributes kept in memory, likewise */
    VX_META_COST = 4096, /* bytes of the host's space reserved for a changed inode or dentry */
    VX_LOG_ROOM = 4 << 20 /* and for the log of metadata */
};
#define VX_REGION_CACHE(fs) ((fs)->o.inode_cache / 4 + 256)
#define VX_REGIONS ((uint32_t)1 << 24) /* of a file */
#define VX_FILE_MAX ((uint64_t)VX_REGIONS << VX_REGION_SHIFT) /* 16 TiB */
#define VX_INO_MAX ((uint64_t)1 << 39)

/* `len` bytes of a region from `off` on are the decoded bytes skip.. of the frame (seg, pos). */
typedef struct {
    uint32_t off, len, seg, pos, stored, skip;
} vx_extent;

/* The bytes lo..hi of a page that memory holds; buf NULL: none. */
typedef struct {
    char *buf;
    uint16_t lo, hi;
} vx_slot;

typedef struct vx_inode vx_inode;
typedef struct vx_dentry vx_dentry;

typedef struct vx_region {
    vx_inode *inode;
    struct vx_region *next, *prev;   /* of the inode */
    struct vx_region *lnext, *lprev; /* of all, most recently used first */
    struct vx_region *fnext;         /* of the epoch being committed */
    vx_slot *dirty, *frozen;         /* VX_REGION_PAGES each, or NULL */
    vx_extent *ext;
    uint32_t index, ext_n, ext_cap, ndirty, nfrozen;
    uint32_t loaded;
    uint32_t cut; /* the map was cut in this epoch */
} vx_region;

enum { VX_I_DIRTY = 1, VX_I_NEW = 2, VX_I_INLINE = 4, VX_I_XATTR = 8, VX_I_XLOADED = 16, VX_I_XDIRTY = 32,
       VX_I_DELETED = 64, VX_I_CUT = 128, VX_I_CONTENT = 256,
       VX_I_INL_DIRTY = 512,  /* the inline content is newer than its row */
       VX_I_INL_LISTED = 1024, /* it can be loaded again: among what memory may give up */
       /* What the last commit, or the one under way, may have in other tables: what a deletion has to look after. */
       VX_I_APART = 2048, VX_I_MAPPED = 4096, VX_I_XSTORED = 8192, VX_I_ORPHAN = 16384,
       VX_I_MOVED = 32768, /* among those that vx_fs_moved will give out, because of its content */
       VX_I_LINKABLE = 65536 /* it never had a name, and may be given one */ };

struct vx_inode {
    vx_attr a;
    uint64_t parent, slot; /* of one link */
    uint64_t alloc;        /* bytes in extents */
    uint64_t pin_epoch;    /* stays in memory until this epoch is committed */
    uint64_t floor_epoch;
    vx_inode *lnext, *lprev, *dnext, *dprev, *fnext, *inext, *iprev;
    vx_region *regions, *last;
    vx_dentry *pinned; /* of a directory: dentries changed and not yet committed */
    char *inl, *xattr; /* inl NULL with inl_n bytes: not in memory */
    uint32_t inl_n, inl_cap, xattr_n;
    uint32_t opens, refs, dirty_pages, frozen_pages, flags;
    uint32_t map_floor; /* committed maps of regions from here on are void (until floor_epoch is committed) */
    uint32_t cut;       /* lowest region cut off in this epoch */
    uint64_t row_at;    /* where the batch has the inode's row */
    uint64_t read_next; /* where a sequential reader would go on */
    uint32_t read_run;
};

enum { VX_D_DIRTY = 1, VX_D_NEGATIVE = 2, VX_D_STORED = 4, VX_D_PINNED = 8 };

struct vx_dentry {
    uint64_t parent, hash, slot, ino, pin_epoch;
    vx_dentry *hnext, *lnext, *lprev, *dnext, *dprev, *pnext, *pprev, *fnext;
    uint32_t type;
    uint16_t name_n, flags;
    char name[];
};

/* A growing record of metadata changes: what a commit applies. */
typedef struct {
    char *data;
    size_t n, cap;
    int failed;
} vx_batch;

typedef struct {
    uint64_t raw_total, raw_live, used;
    int64_t running; /* of raw_live, what the running epoch changed: not yet what a commit may write */
    uint64_t epoch;  /* of the last change of raw_live */
    uint32_t seg, dirty, gone, stuck;
} vx_segment_row;

enum { VX_EVENT_RING = 4096, VX_WATCHERS = 4 };
typedef struct {
    vx_event *ring;
    uint32_t head, tail;
    int used, lost, closed, content_only;
} vx_watcher;

struct vx_table {
    vx_table_options o;
    vx_inode *file, *vectors, *words; /* never evicted while the table is open */
    char *image;                      /* the table's file: a page of its own, then the rows */
    vx_row *row;
    uint32_t n, cap, number;
    uint32_t live, files, away, stale;
    uint32_t *free_rows; /* a ring: the one that has been free for longest is taken first */
    uint32_t free_head, free_n, free_cap;
    uint64_t *dirty; /* a bit for each page of the image that the next freeze writes */
    uint64_t changes;
    vx_row_gone_fn gone[VX_TABLE_WATCHERS];
    void *ctx[VX_TABLE_WATCHERS];
    uint32_t *touched;
    uint32_t touched_n, touched_cap;
    int touched_lost;
    uint32_t *given; /* per row: the moment at which it was given to another file; NULL while none was */
    uint32_t given_cap, moment;
};

struct vx_fs {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* commit progress, space for dirty pages */
    pthread_cond_t work;    /* for the committer */
    vx_fs_options o;
    char *dir, *segments_dir;
    vx_meta *meta;
    vx_segstore *store;
    uint8_t hash_key[16];

    vx_hmap inodes, regions, lookups, segments;
    vx_dentry **buckets;
    size_t bucket_mask, dentries;
    vx_inode *inode_head, *inode_tail, *inline_head, *inline_tail, *dirty_inodes, *dirty_inodes_tail;
    vx_dentry *dentry_head, *dentry_tail, *dirty_dentries, *dirty_dentries_tail;
    vx_region *region_head, *region_tail;
    size_t nregions;

    uint64_t next_ino, epoch, committed, durable;
    uint64_t inline_bytes, dirty_inline, frozen_inline, dirty_bytes, frozen_bytes, dirty_ops, files, used_bytes;
    uint64_t xattr_bytes; /* of the inodes in memory */
    uint64_t going_bytes; /* of used_bytes, what removed files hold until the running epoch is frozen */
    uint64_t host_free, host_kept, host_checked;
    uint64_t moving; /* bytes that reclaim is about to write anew */
    int64_t first_dirty_ns;
    int meta_stale, read_only, stopping;
    int held;          /* backups under way: no segment goes */
    int deleting;      /* who removes files of segments, without the lock */
    int gone_segments; /* rows of unlinked segments that no commit has taken away yet */
    int committing;  /* a thread is inside a commit */
    int untrimmed;   /* pages were released since the pools' surplus went back to the system */
    int armed;       /* the committer sleeps no longer than until the running epoch is due */
    int want_commit; /* somebody waits for one */
    int64_t synced_ns; /* when the log was last synced */
    int commit_err;  /* why the last one failed, 0 when it did not */
    int64_t retry_ns;
    uint64_t reclaim_after_ns; /* when what could not be copied for want of room is tried again; 0: nothing is */

    /* the epoch being committed; kept for another try when a commit fails */
    int batch_pending, batch_data_done;
    uint64_t tails_bytes; /* appended to segments, and in the log until a sync covers them there */
    int tails_torn;       /* a sync failed that was to cover them */
    int placing;         /* what is counted now belongs to the epoch being committed */
    uint64_t batch_used; /* used_bytes as of that epoch */
    vx_batch batch, oplog, frozen_oplog;
    vx_inode *frozen_inodes;
    vx_dentry *frozen_dentries;
    vx_region *frozen_regions;
    uint64_t batch_epoch;
    uint64_t forgotten; /* atomic: the last epoch whose oplog went since the volume was opened */

    vx_table **tables; /* by number; NULL where one was closed */
    uint32_t ntables, open_tables;
    vx_hmap rows_of;   /* inode -> (table number + 1) << 32 | its first row */
    vx_hmap covers;    /* directory -> vx_table */
    uint64_t tree;     /* grows when a directory moves */
    uint64_t *moved;   /* inodes for vx_fs_moved */
    uint32_t moved_n, moved_cap;
    vx_vector_hooks vector; /* of user.vexfs.vector */
    uint32_t in_vector;     /* calls of them under way */

    vx_watcher watchers[VX_WATCHERS];
    int nwatchers;
    pthread_cond_t event;
    pthread_t committer;
    int committer_runs;
    vx_fs_status s; /* counters only */
};

/* Before rows of the metadata are read: those of the last commit are, as memory may have let go of what it changed. */
static inline void vx_meta_latest(vx_fs *fs)
{
    if (fs->meta_stale) {
        vx_meta_refresh(fs->meta);
        fs->meta_stale = 0;
    }
}

/* fs_cache.c */
int vx_cache_init(vx_fs *fs);
void vx_cache_free(vx_fs *fs);
int vx_inode_get(vx_fs *fs, uint64_t ino, vx_inode **out);
int vx_inode_new(vx_fs *fs, uint64_t ino, vx_inode **out);
void vx_inode_drop(vx_fs *fs, vx_inode *i); /* frees it: nothing refers to it any more */
void vx_inode_dirty(vx_fs *fs, vx_inode *i);
/* Without links, opens and lookups the file goes.  1: it does, and a commit has to hear of it. */
int vx_inode_maybe_delete(vx_fs *fs, vx_inode *i);
void vx_inode_let_go(vx_fs *fs, vx_inode *i); /* the same, where nothing else was changed of which a commit hears */
/* The dentry, positive or negative; loads it when needed. */
int vx_dentry_get(vx_fs *fs, uint64_t parent, const char *name, size_t n, vx_dentry **out);
vx_dentry *vx_dentry_insert(vx_fs *fs, uint64_t parent, uint64_t hash, uint64_t slot, const char *name, size_t n);
vx_dentry *vx_dentry_find(vx_fs *fs, uint64_t parent, uint64_t hash, const char *name, size_t n);
vx_dentry *vx_dentry_at(vx_fs *fs, uint64_t parent, uint64_t slot); /* the one cached with that slot, or NULL */
/* Asks memory for what vx_dentry_at will look at: first where it begins, then (found) what is there. */
void vx_dentry_ahead(const vx_fs *fs, uint64_t parent, uint64_t slot, int found);
void vx_dentry_set(vx_fs *fs, vx_inode *dir, vx_dentry *d, uint64_t ino, uint32_t type); /* ino 0: remove */
void vx_dentry_unpin(vx_fs *fs, vx_dentry *d);
void vx_dentry_drop(vx_fs *fs, vx_dentry *d);
void vx_dentry_evict(vx_fs *fs, vx_dentry *d); /* drops it, or moves it away from the cold end */
void vx_cache_shrink(vx_fs *fs);
void vx_cache_drop(vx_fs *fs);
int64_t vx_now(void);
size_t vx_inode_pack(const vx_inode *i, char *out); /* out of VX_ROW_HEADER + vx_row_inline(i) bytes */
enum { VX_ROW_HEADER = 104 };
/* Bytes of inline content in the inode's row itself. */
static inline uint32_t vx_row_inline(const vx_inode *i)
{
    return (i->flags & VX_I_INLINE) && i->inl_n <= VX_ROW_INLINE && (i->inl || !i->inl_n) ? i->inl_n : 0;
}

/* fs_extent.c */
int vx_region_get(vx_fs *fs, vx_inode *i, uint32_t index, int load, vx_region **out);
/* The first region from `from` on in which something may be; VX_REGIONS: none, or -errno. */
int64_t vx_region_next(vx_fs *fs, vx_inode *i, uint32_t from);
void vx_region_drop(vx_fs *fs, vx_region *r);
void vx_region_evict(vx_fs *fs, vx_region *r);
int vx_region_load(vx_fs *fs, vx_region *r);
int vx_extents_unpack(const void *data, size_t n, vx_extent **ext, uint32_t *count, uint32_t *cap);
size_t vx_extents_bytes(uint32_t n);
void vx_extents_pack(const vx_extent *ext, uint32_t n, char *out);
/* Lays e over the map; bytes no longer referenced are reported per segment through vx_segment_live. */
int vx_extents_lay(vx_fs *fs, vx_region *r, const vx_extent *e);
/* All regions from `from` on, in memory and committed: dirty pages dropped, extents dead. */
int vx_extents_forget(vx_fs *fs, vx_inode *i, uint32_t from);
int vx_extents_cut(vx_fs *fs, vx_region *r, uint32_t from, uint32_t to); /* forget the bytes from..to of a region */
const vx_extent *vx_extents_at(const vx_region *r, uint32_t off, uint32_t *hole); /* hole: bytes to the next one */
void vx_segment_live(vx_fs *fs, uint32_t seg, int64_t live, int64_t total, uint64_t used);

/* fs_read.c */
int64_t vx_data_read(vx_fs *fs, vx_inode *i, uint64_t off, char *dst, size_t n); /* lock held; released to read */

/* fs_data.c and fs_write.c */
/* An inline file that outgrew its row: its bytes become the first dirty page. */
int vx_leave_inline(vx_fs *fs, vx_inode *i);
int vx_data_truncate(vx_fs *fs, vx_inode *i, uint64_t size); /* lock held; may release it to wait */
/* Waits until the epoch being committed has placed what it has of the file, which is referred to meanwhile. */
int vx_data_settle(vx_fs *fs, vx_inode *i);
/* Memory and the map forget everything at and behind `from`; nothing of the file is frozen. */
int vx_data_cut(vx_fs *fs, vx_inode *i, uint64_t from);
void vx_pages_free(vx_fs *fs, vx_region *r, vx_slot **slots, uint32_t from, uint32_t to);
int vx_space_check(vx_fs *fs, uint64_t bytes);
int vx_space_over(const vx_fs *fs, uint64_t bytes); /* so much more is above the volume's limit */
void vx_space_begin(vx_fs *fs);
uint64_t vx_space_kept(const vx_fs *fs); /* bytes of the host that no content is written to */
void vx_space_look(vx_fs *fs); /* what the host has now */
int vx_space_short(const vx_fs *fs); /* as it was looked at last */
int vx_space_make(vx_fs *fs, uint64_t bytes); /* as vx_space_check; reclaims what it can before it refuses; may wait */
int vx_space_host(vx_fs *fs, uint64_t bytes); /* as vx_space_make, of the host alone: for what adds no content */
uint64_t vx_blocks(const vx_inode *i);

/* fs_content.c: the content of small files and of symbolic links */
int vx_inline_room(vx_fs *fs, vx_inode *i, size_t n);
void vx_inline_free(vx_fs *fs, vx_inode *i);
int vx_inline_load(vx_fs *fs, vx_inode *i); /* has it in memory, and keeps it warm */
void vx_inline_dirty(vx_fs *fs, vx_inode *i); /* it was changed, or will be before the lock is released */
void vx_inline_clean(vx_fs *fs, vx_inode *i); /* it is committed */
void vx_inline_shrink(vx_fs *fs);
void vx_inline_drop(vx_fs *fs);

/* fs_commit.c */
void vx_mutated(vx_fs *fs, uint64_t ino); /* one operation changed something */
int vx_commit_until(vx_fs *fs, uint64_t epoch, int durable); /* lock held, released while waiting */
void *vx_committer(void *fs);
/* As much as memory keeps of what is not committed: who adds to it waits, or is refused while commits fail. */
static inline int vx_many_bytes(const vx_fs *fs)
{
    return fs->dirty_bytes + fs->dirty_inline + fs->frozen_bytes + fs->frozen_inline > fs->o.dirty_limit;
}
static inline int vx_many_ops(const vx_fs *fs)
{
    return fs->dirty_ops > 4ull * fs->o.commit_ops;
}
void vx_throttle(vx_fs *fs); /* waits while too much is dirty; lock held */
void vx_wake_committer(vx_fs *fs);
/* Item kinds on the bridge, and the handler of mutations. */
enum { VX_KIND_MUTATION = 0 };
void vx_fs_on_mutations(void *ctx, const vx_item *items, size_t n);

/* fs_batch.c */
/* Appends a record; data NULL leaves room for n bytes.  Answers where its bytes begin in b->data. */
size_t vx_batch_put(vx_batch *b, uint32_t kind, uint64_t a, uint64_t c, uint64_t d, uint32_t type, const void *data,
                    size_t n);
int vx_batch_apply(vx_fs *fs, const vx_batch *b);
enum { VX_B_INODE = 1, VX_B_INODE_GONE, VX_B_DENTRY, VX_B_DENTRY_GONE, VX_B_MAP, VX_B_MAP_GONE, VX_B_CUT, VX_B_XATTR,
       VX_B_XATTR_GONE, VX_B_ORPHAN, VX_B_ORPHAN_GONE, VX_B_SEGMENT, VX_B_SEGMENT_GONE, VX_B_INT,
       VX_B_CONTENT, VX_B_CONTENT_GONE, VX_B_TAIL, VX_B_TAILS_GONE };
void vx_oplog(vx_fs *fs, int op, uint64_t ino, uint64_t a, uint64_t b, uint64_t c, int64_t time_ns, const void *x,
              size_t xn, const void *y, size_t yn);

/* fs_reclaim.c */
int vx_reclaim_step(vx_fs *fs); /* between commits; 1: did something.  Lock held, and let go of meanwhile */
int vx_reclaim_wanted(const vx_fs *fs);
int vx_reclaim_segment(vx_fs *fs, uint32_t seg);
/* Unlinks segments without live bytes, at most so many; how many.  Lock held, and let go of meanwhile. */
uint32_t vx_reclaim_empty(vx_fs *fs, uint32_t most);

/* The bytes of a page as a whole in memory, so that any of them can be changed by vx_write_held.  -EAGAIN: the lock
 * was away, and what was looked at before may have changed. */
int vx_page_whole(vx_fs *fs, vx_inode *i, uint64_t at);
/* Writes without waiting and without any check; the pages hold no gap there.  Lock held throughout. */
int vx_write_held(vx_fs *fs, vx_inode *i, uint64_t off, const void *src, size_t n);

/* fs_rows.c: what an operation on a file means for its rows; lock held */
void vx_rows_gone(vx_fs *fs, uint64_t ino);                          /* the last name went */
void vx_rows_unnamed(vx_fs *fs, const vx_inode *i, uint64_t dir);    /* one of several names, in `dir`, went */
void vx_rows_moved(vx_fs *fs, const vx_inode *i, uint64_t from);     /* it has another directory */
void vx_rows_stale(vx_fs *fs, vx_inode *i);                          /* its content changed */
/* A file or directory was given the name `now`, in the place of the one in `from` or (`was` NULL) beside its others. */
void vx_rows_named(vx_fs *fs, vx_inode *i, uint64_t from, const vx_dentry *was, const vx_dentry *now);
/* From here on it is known by the name `now`, until here by `was` (of 0 bytes: by none). */
void vx_rows_known(vx_fs *fs, vx_inode *i, const char *was, size_t was_n, const vx_dentry *now);
void vx_rows_touched(vx_fs *fs, uint64_t ino);                       /* its attributes changed */
vx_table *vx_rows_over(vx_fs *fs, uint64_t ino);                     /* of the innermost index above; or NULL */
int vx_holds_vectors(const char *name, size_t n);                    /* whether a file of that name is one of vectors */
int vx_rows_freeze(vx_fs *fs);                                       /* changed pages of tables become dirty pages */
void vx_rows_free(vx_fs *fs);
int vx_row_release(vx_fs *fs, vx_table *t, uint64_t ino);            /* all rows of a file become free */
uint32_t vx_rows_reusable(vx_table *t);                        /* free rows at the head of the ring to take */
int vx_rows_reserve(vx_table *t, uint32_t more);                     /* so many can be taken behind the last */
uint32_t vx_row_take(vx_table *t, int reuse);                        /* the next free row, or one behind the last */
void vx_row_dirty(vx_table *t, uint32_t row);
/* Number of the table and first row of a file; 0 when it has none. */
static inline uint64_t vx_rows_find(const vx_fs *fs, uint64_t ino)
{
    return fs->open_tables ? vx_hmap_get(&fs->rows_of, ino) : 0;
}

/* fs_vector.c: the attribute user.vexfs.vector, which rows stand behind.  Lock held; released while a hook works. */
int vx_is_vector(const char *name, size_t n);
int64_t vx_vector_get(vx_fs *fs, const vx_inode *i, void *value, size_t cap);
int vx_vector_set(vx_fs *fs, const vx_inode *i, const void *value, size_t n, uint32_t flags);
int vx_vector_listed(const vx_fs *fs, uint64_t ino); /* the file has vectors that somebody gave it */
#define VX_VECTOR_NAME "user.vexfs.vector"

/* fs_xattr.c */
int vx_xattr_load(vx_fs *fs, vx_inode *i);
int vx_xattr_check(const char *entries, size_t n); /* well formed, names allowed, values not too long */
/* Whether a file, NULL: a new one, can have them laid over those that it has. */
int vx_xattr_fits(const vx_inode *i, const char *entries, size_t n);
int vx_xattr_lay(vx_fs *fs, vx_inode *i, const char *entries, size_t n);

/* fs_name.c */
/* What an overlay takes for a removed name, the device 0:0: made where there is room, and given the name `d`. */
int vx_whiteout_make(vx_fs *fs, const vx_cred *c, vx_inode *dir, vx_inode **out);
void vx_whiteout_name(vx_fs *fs, const vx_cred *c, vx_inode *dir, vx_dentry *d, const char *name, size_t n,
                      vx_inode *i);
int vx_make_file(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, uint32_t mode, int hidden,
                 vx_inode **out); /* of a name that vx_dentry_get did not find; `hidden` allows the reserved name */

/* fs_event.c */
void vx_event_inode(vx_fs *fs, const vx_cred *c, uint64_t ino, int content);
void vx_event_entry(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n);

/* fs_attr.c */
int vx_may(const vx_cred *c, const vx_inode *i, uint32_t mask);
void vx_fill_attr(const vx_inode *i, vx_attr *out);
void vx_touch(vx_fs *fs, vx_inode *i, int64_t now, int content); /* mtime and ctime */
int vx_in_group(const vx_cred *c, uint32_t gid);
void vx_drop_privileges(vx_inode *i); /* setuid, setgid bits after a write or chown */

int vx_set_size(vx_fs *fs, const vx_cred *c, vx_inode *i, uint64_t size);
int vx_open_inode(vx_fs *fs, const vx_cred *c, vx_inode *i, uint32_t flags);

/* fs_name.c */
int vx_dir_get(vx_fs *fs, const vx_cred *c, uint64_t ino, uint32_t mask, vx_inode **out);
int vx_lookup_at(vx_fs *fs, vx_inode *dir, const char *name, size_t n, vx_inode **out);
int vx_name_check(const char *name, size_t n);
/* The name of one link, at `out` (of VX_NAME_MAX bytes); its length or -errno. */
int vx_name_of(vx_fs *fs, const vx_inode *i, char *out);
int vx_new_name_check(const char *name, size_t n);
/* Directory and dentry for a change of a name; checks that the directory is alive and may be written. */
int vx_change_begin(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n, vx_inode **dir,
                    vx_dentry **d);
/* Room before pointers are held: waiting and committing release the lock.  An error: commits fail, and memory keeps as many
 * operations as it will; whether the volume and the host have room is for vx_space_check to tell. */
int vx_make_room(vx_fs *fs);
int vx_sticky(const vx_cred *c, const vx_inode *dir, const vx_inode *i);
/* Takes the name away from its file; the file goes with its last name, unless it is open. */
void vx_drop_name(vx_fs *fs, const vx_cred *c, vx_inode *dir, vx_dentry *d, vx_inode *i, int64_t now);

#define VX_HIDDEN ".vexfs"
static inline int vx_is_hidden(const char *name, size_t n)
{
    return n == sizeof VX_HIDDEN - 1 && !memcmp(name, VX_HIDDEN, n);
}

static inline int is_dot(const char *name, size_t n)
{
    return n == 1 && name[0] == '.';
}

static inline int is_dotdot(const char *name, size_t n)
{
    return n == 2 && name[0] == '.' && name[1] == '.';
}

/* Whether what a row of the metadata has for a name is one: nothing else is kept, copied or shown as such. */
static inline int vx_row_named(const vx_dentry_row *row)
{
    return row->name_n && row->name_n <= VX_NAME_MAX && !memchr(row->name, '/', row->name_n) &&
           !memchr(row->name, 0, row->name_n) && !is_dot(row->name, row->name_n) && !is_dotdot(row->name, row->name_n);
}

void vx_remember(vx_fs *fs, const vx_cred *c, uint64_t ino);

/* How much of `over` an operation evicts.  In proportion: one that puts or describes thousands brings thousands. */
static inline size_t vx_shrink_steps(size_t over)
{
    return 64 + over / 8;
}

static inline int vx_many_inodes(const vx_fs *fs)
{
    return fs->inodes.used > fs->o.inode_cache || fs->xattr_bytes > VX_XATTR_CACHE;
}

static inline int vx_cache_full(const vx_fs *fs)
{
    return vx_many_inodes(fs) || (fs->inline_tail && fs->inline_bytes > VX_INLINE_CACHE);
}

/* Somebody holds the lock: waits for it, and counts for how long. */
void vx_lock_contended(vx_fs *fs);

/* The only place where clean things are evicted: an operation that begins holds no pointers yet, and one that waits
 * holds references. */
__attribute__((always_inline)) static inline void vx_op_enter(vx_fs *fs, vx_frame *f, int op)
{
    vx_frame_enter(f, fs->o.frames, op);
    if (pthread_mutex_trylock(&fs->lock))
        vx_lock_contended(fs);
    fs->s.ops[op]++;
    if (vx_cache_full(fs) || fs->dentries > 2 * fs->o.inode_cache || fs->nregions > VX_REGION_CACHE(fs))
        vx_cache_shrink(fs);
}

static inline int vx_op_leave(vx_fs *fs, vx_frame *f, int rc)
{
    vx_frame_mark();
    if (rc < 0)
        fs->s.errnos[rc > -VX_ERRNO_MAX ? -rc : 0]++;
    pthread_mutex_unlock(&fs->lock);
    vx_frame_leave(f);
    return rc;
}
#endif
