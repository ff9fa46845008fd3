/* Row tables: which file, and which bytes of it, each row of an index stands for.
 *
 * An index belongs to a directory and covers everything below it but what a nested index covers.  Its rows lie in two
 * ordinary files of the volume's hidden directory: the table and the stored vectors.  So rows change in the same epochs
 * as the files that they belong to, and checksums, encryption, backups and power cuts are the files' business.
 *
 * The table is kept in memory as it lies in its file.  The operations that remove, move or rewrite a file change its
 * rows under the filesystem's lock, in the same epoch, and tell the index at once through `gone`.  A row is taken into
 * use by vx_fs_put_records alone; one thread per table at a time may call that.  0 or -errno. */
#ifndef VEXFS_ROWS_H
#define VEXFS_ROWS_H

#include "vexfs/fs.h"

enum { VX_ROW_NONE = 0xffffffffu, VX_TABLE_PAGE = 4096 };

/* What is to be known of a row that has a file; one that is stale or away is not searched for now. */
enum {
    VX_ROW_CONTENT = 1, /* made from the file's content: void once that changes */
    VX_ROW_STALE = 2,   /* the content has changed since */
    VX_ROW_AWAY = 4,    /* the file lies outside of what the index covers */
    VX_ROW_RENAMED = 8  /* made from text, of a file that got another name since */
};

/* 32 bytes, as on disk; the first one of a file is found through a map, the others through `next`. */
typedef struct {
    uint64_t ino : 40, flags : 24;   /* ino 0: free */
    uint64_t dir : 40, version : 24; /* the directory that the file is in; how often the row was taken into use */
    uint32_t generation;             /* of the content, its low bits */
    uint32_t start, length;          /* bytes of the file; length 0: the whole file */
    uint32_t next;                   /* row of the same file, or VX_ROW_NONE */
} vx_row;
_Static_assert(sizeof(vx_row) == 32, "the row is a format: docs/format.md");

typedef struct vx_table vx_table;
/* A row went out of use.  Called under the filesystem's lock: it must neither wait nor call back. */
typedef void (*vx_row_gone_fn)(void *ctx, uint32_t row);

/* The hidden directory of the volume, made when there is none. */
int vx_fs_hidden(vx_fs *fs, uint64_t *ino);

typedef struct {
    uint64_t dir;            /* that the index belongs to */
    uint64_t rows, vectors;  /* inode numbers of the two files */
    uint64_t words;          /* of the log of keyword records, or 0 */
    uint32_t row_bytes;      /* of a stored vector */
} vx_table_options;

/* Reads the table; -EBADMSG: it is not one.  It belongs to the filesystem, and is freed with it or by close. */
int vx_table_open(vx_fs *fs, const vx_table_options *o, vx_table **out);
void vx_table_close(vx_fs *fs, vx_table *t);
/* Each of the places has a watcher, or none (`gone` NULL). */
enum { VX_TABLE_WATCHERS = 2 };
void vx_table_watch(vx_fs *fs, vx_table *t, uint32_t place, vx_row_gone_fn gone, void *ctx);

typedef struct {
    uint64_t changes; /* grows with every change of rows, directories or attributes */
    uint64_t tree;    /* grows when a directory moves: what lies below what */
    uint32_t rows;    /* in the table, free ones included */
    uint32_t live;    /* searched */
    uint32_t files;   /* with live rows */
    uint32_t free_rows, away, stale;
    uint32_t moved;   /* files waiting for vx_fs_moved */
    uint32_t moment;  /* grows when rows are given to other files than those that had them */
} vx_table_stats;
void vx_table_read(vx_fs *fs, vx_table *t, vx_table_stats *out);
/* Copies rows first..first+n of the table; how many there were. */
uint32_t vx_table_rows(vx_fs *fs, vx_table *t, uint32_t first, uint32_t n, vx_row *out);
/* How often each row was taken into use; VX_ROW_NONE where it is not searched.  How many there are. */
uint32_t vx_table_versions(vx_fs *fs, vx_table *t, uint32_t *out, uint32_t cap);
/* The rows of a file in order of the chain, at most cap; how many it has (any state). */
uint32_t vx_table_rows_of(vx_fs *fs, vx_table *t, uint64_t ino, uint32_t *out, uint32_t cap);
/* The table that covers a directory or the file in it, or NULL; NULL also where `ino` is unknown. */
vx_table *vx_table_over(vx_fs *fs, uint64_t ino);
uint64_t vx_table_dir(const vx_table *t);

/* Which live rows lie below `dir`: one bit a row, in ceil(rows / 64) words.  How many. */
int64_t vx_table_scope(vx_fs *fs, vx_table *t, uint64_t dir, uint64_t *bits, uint32_t rows);
/* Rows whose files' attributes were set, changed or removed since the last call, each once or more; the number, or -1:
 * more than were kept, look at all. */
int64_t vx_table_touched(vx_fs *fs, vx_table *t, uint32_t *out, uint32_t cap);
/* What somebody has to look at: files that moved across the edge of an index, files that hold vectors (by their names) and
 * changed or got a name, directories that came under an index or lost theirs: inode numbers; the number taken. */
uint32_t vx_fs_moved(vx_fs *fs, uint64_t *out, uint32_t cap);
/* Looks for a name of each of the files whose known one went, those below an index first: in one search, however many. */
int vx_fs_find_names(vx_fs *fs, const uint64_t *inos, uint32_t n);
/* A file was met by this name: it is known by it from here on if it lies below an index and the known one does not; 1: so it is. */
int vx_fs_met(vx_fs *fs, uint64_t parent, const char *name, size_t n);
/* Takes AWAY off the rows of a file that is back where the index covers it; how many rows wait to be searched again. */
int vx_table_return(vx_fs *fs, vx_table *t, uint64_t ino);

/* -- putting ---------------------------------------------------------------------------------------------------- */

enum { VX_PUT_CREATE = 1,   /* a name that does not exist is made, as an empty regular file */
       VX_PUT_EXCL = 2,     /* a name that exists is refused */
       VX_PUT_CONTENT = 4,  /* rows are made from the content, of the generation that the record names; with words: as text */
       VX_PUT_KEEP_ROWS = 8, /* attributes and content only */
       VX_PUT_APPEND = 16 /* no row is taken that was used before */ };

typedef struct {
    uint64_t ino;    /* 0: `name` in `parent`; the file on return.  Else `name`: that it had when its text was read, or NULL */
    uint64_t parent;
    const char *name, *xattrs, *content;
    uint64_t generation;
    uint32_t name_n, xattrs_n, content_n; /* xattrs: entries as in the xattr row, laid over those that the file has */
    uint32_t nrows;
    int32_t status; /* 0 or -errno of this record */
} vx_record;

typedef struct {
    uint32_t start, length;
} vx_span;

/* Files with their rows, as one change: every record or none, seen from a crash and from other threads.  With the
 * first record that cannot be, nothing has happened, its status is set and returned.  `stored` and `spans` have the rows
 * of all records one after the other (spans NULL: whole files); `words` likewise, words_n[k] bytes each (NULL: none).
 * rows_out gets the numbers.  At most VX_PUT_MAX rows and records a call. */
enum { VX_PUT_MAX = 65536 };
int vx_fs_put_records(vx_fs *fs, const vx_cred *c, vx_table *t, vx_record *r, size_t n, const vx_span *spans,
                      const void *stored, const char *words, const uint32_t *words_n, uint32_t flags,
                      uint32_t *rows_out);
/* After the index took rows in: those that went out of use meanwhile are told to it again. */
void vx_table_confirm(vx_fs *fs, vx_table *t, const uint32_t *rows, const uint64_t *inos, size_t n);
/* The log of keyword records goes on in another file.  Nobody may be putting meanwhile. */
int vx_table_words(vx_fs *fs, vx_table *t, uint64_t ino);
/* The next n rows of the table are nobody's. */
int vx_table_skip(vx_fs *fs, vx_table *t, uint32_t n);
/* Takes a file's rows away; the file stays. */
int vx_table_drop(vx_fs *fs, vx_table *t, uint64_t ino);

/* -- user.vexfs.vector ------------------------------------------------------------------------------------------ */

/* What stands behind the attribute; called without any lock, after the caller's rights were checked.  get: the value's
 * length, also for cap 0, or -errno.  set: value NULL takes the vectors away. */
typedef struct {
    int64_t (*get)(void *ctx, uint64_t ino, void *value, size_t cap);
    int (*set)(void *ctx, uint64_t ino, const void *value, size_t n);
    void *ctx;
} vx_vector_hooks;
/* NULL: no more, once calls under way have come back. */
void vx_fs_vector_hooks(vx_fs *fs, const vx_vector_hooks *hooks);

/* -- hits ------------------------------------------------------------------------------------------------------- */

enum { VX_HIT_PATH = 1, VX_HIT_XATTRS = 2 };
typedef struct {
    uint64_t ino, dir, generation;
    uint32_t row, start, length, path_n, xattrs_n, at; /* at: which of the rows asked for */
} vx_hit;
/* Non-zero stops.  The path begins with a slash. */
typedef int (*vx_hit_fn)(void *ctx, const vx_hit *hit, const char *path, const void *xattrs);
/* The files of rows.  A row that is not searched any more is left out, and so is one that was given to another file after
 * the moment `since`, before which whoever found it began to search; VX_ROW_NONE: as they are now. */
int vx_table_hits(vx_fs *fs, vx_table *t, const uint32_t *rows, size_t n, uint32_t since, uint32_t what, vx_hit_fn fn,
                  void *ctx);

#endif
