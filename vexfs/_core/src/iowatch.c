/* The recorder of traces and the fault injector behind the system calls.
 *
 * Every extension module links its own copy of this file, yet a trace must hold the calls of all of them in one order.
 * So the one pointer to the state is a "unique" symbol: the dynamic linker binds all copies of it in a process to one
 * address, also between modules that cannot see each other's symbols. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iowatch.h"
#include "vexfs/io.h"

struct vx_iowatch {
    pthread_mutex_t lock;
    FILE *trace;       /* NULL: not recording */
    int trace_err;     /* the first error of the trace itself */
    char *root;        /* real path of the recorded directory */
    uint32_t *ids;     /* by descriptor: 0 unknown, OUTSIDE, or its id in the trace */
    size_t ids_n;
    uint32_t next_id;
    uint32_t fault_kinds;
    int64_t fault_after;
    int fault_err;     /* 0: no fault armed */
    char path[PATH_MAX], path2[PATH_MAX], dir[PATH_MAX];
};

#define OUTSIDE UINT32_MAX

typedef struct {
    _Atomic(vx_iowatch *) state; /* made on first use, then kept for the life of the process */
    atomic_int on;               /* recording or a fault armed */
} vx_iowatch_slot;

extern vx_iowatch_slot vx_iowatch_shared __attribute__((visibility("default")));
__asm__(".pushsection .bss.vx_iowatch_shared,\"aw\",%nobits\n"
        ".balign 16\n"
        ".weak vx_iowatch_shared\n"
        ".type vx_iowatch_shared,%gnu_unique_object\n"
        ".size vx_iowatch_shared,16\n"
        "vx_iowatch_shared:\n"
        ".zero 16\n"
        ".popsection\n");
_Static_assert(sizeof(vx_iowatch_slot) <= 16, "the assembler above reserves 16 bytes");

static vx_iowatch *state(void)
{
    vx_iowatch *w = atomic_load(&vx_iowatch_shared.state), *made;
    if (w)
        return w;
    made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    pthread_mutex_init(&made->lock, NULL);
    if (atomic_compare_exchange_strong(&vx_iowatch_shared.state, &w, made))
        return made;
    free(made);
    return w;
}

vx_iowatch *vx_iowatch_enter(void)
{
    if (!atomic_load_explicit(&vx_iowatch_shared.on, memory_order_relaxed))
        return NULL;
    vx_iowatch *w = atomic_load(&vx_iowatch_shared.state);
    pthread_mutex_lock(&w->lock);
    return w;
}

void vx_iowatch_leave(vx_iowatch *w)
{
    pthread_mutex_unlock(&w->lock);
}

int vx_iowatch_fault(vx_iowatch *w, int kind)
{
    if (!w->fault_err || !(w->fault_kinds >> kind & 1))
        return 0;
    if (w->fault_after > 0) {
        w->fault_after--;
        return 0;
    }
    return -w->fault_err;
}

/* -- the trace ------------------------------------------------------------------------------------------------ */

static void put(vx_iowatch *w, const void *data, size_t n)
{
    if (n && fwrite(data, 1, n, w->trace) != n && !w->trace_err)
        w->trace_err = errno ? -errno : -EIO;
}

static void put_number(vx_iowatch *w, uint64_t v, int bytes)
{
    uint8_t le[8];
    for (int i = 0; i < bytes; i++)
        le[i] = (uint8_t)(v >> (8 * i));
    put(w, le, (size_t)bytes);
}

static void put_header(vx_iowatch *w, int kind, uint32_t id, uint64_t off, uint64_t length)
{
    put_number(w, (uint64_t)kind, 4);
    put_number(w, id, 4);
    put_number(w, off, 8);
    put_number(w, length, 8);
}

/* The part of a real path below the root; NULL when it stands outside. */
static const char *below(const vx_iowatch *w, const char *real)
{
    size_t n = strlen(w->root);
    if (strncmp(real, w->root, n) != 0)
        return NULL;
    if (real[n] == 0)
        return ".";
    if (n == 1) /* the root directory itself ends in its slash */
        return real + 1;
    return real[n] == '/' ? real + n + 1 : NULL;
}

/* `path` below the root, or NULL.  Only its directory is resolved: the name may be gone, or a link. */
static const char *relative(vx_iowatch *w, const char *path, char *out)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (*name == 0 || !strcmp(name, ".") || !strcmp(name, ".."))
        return realpath(path, out) ? below(w, out) : NULL;
    if (n >= PATH_MAX)
        return NULL;
    memcpy(w->dir, path, n);
    w->dir[n] = 0;
    if (!realpath(!slash ? "." : n ? w->dir : "/", out))
        return NULL;
    size_t have = strlen(out);
    int room = PATH_MAX - (int)have;
    if (snprintf(out + have, (size_t)room, have > 1 ? "/%s" : "%s", name) >= room)
        return NULL;
    return below(w, out);
}

static void keep_id(vx_iowatch *w, int fd, uint32_t id)
{
    size_t need = (size_t)fd + 1;
    if (need > w->ids_n) {
        size_t n = need < 64 ? 64 : need * 2;
        uint32_t *more = realloc(w->ids, n * sizeof *more);
        if (!more) {
            w->trace_err = w->trace_err ? w->trace_err : -ENOMEM;
            return;
        }
        memset(more + w->ids_n, 0, (n - w->ids_n) * sizeof *more);
        w->ids = more;
        w->ids_n = n;
    }
    w->ids[fd] = id;
}

/* Begins a descriptor in the trace; `name` NULL: it stands outside. */
static uint32_t begin(vx_iowatch *w, int kind, int fd, const char *name)
{
    uint32_t id = name ? w->next_id++ : OUTSIDE;
    if (name) {
        put_header(w, kind, id, 0, strlen(name));
        put(w, name, strlen(name));
    }
    keep_id(w, fd, id);
    return id;
}

/* The id of a descriptor, or OUTSIDE; one that was open before the recording began is looked up. */
static uint32_t id_of(vx_iowatch *w, int fd)
{
    if ((size_t)fd < w->ids_n && w->ids[fd])
        return w->ids[fd];
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, w->path, PATH_MAX - 1);
    const char *name = NULL;
    if (n > 0) {
        w->path[n] = 0;
        if (access(w->path, F_OK) == 0) /* a removed file reads "... (deleted)" */
            name = below(w, w->path);
    }
    return begin(w, VX_IO_OPEN, fd, name);
}

void vx_iowatch_opened(vx_iowatch *w, int kind, int fd, const char *path)
{
    if (w->trace)
        begin(w, kind, fd, relative(w, path, w->path));
}

void vx_iowatch_closed(vx_iowatch *w, int fd)
{
    if (!w->trace || fd < 0 || (size_t)fd >= w->ids_n)
        return;
    if (w->ids[fd] && w->ids[fd] != OUTSIDE)
        put_header(w, VX_IO_CLOSE, w->ids[fd], 0, 0);
    w->ids[fd] = 0;
}

void vx_iowatch_written(vx_iowatch *w, int fd, const struct iovec *iov, int count, uint64_t off, uint64_t n)
{
    uint32_t id = w->trace ? id_of(w, fd) : OUTSIDE;
    if (id == OUTSIDE)
        return;
    put_header(w, VX_IO_WRITE, id, off, n);
    for (int i = 0; i < count && n; i++) {
        size_t part = iov[i].iov_len < n ? iov[i].iov_len : n;
        put(w, iov[i].iov_base, part);
        n -= part;
    }
}

void vx_iowatch_on_file(vx_iowatch *w, int kind, int fd, uint64_t off)
{
    uint32_t id = w->trace ? id_of(w, fd) : OUTSIDE;
    if (id != OUTSIDE)
        put_header(w, kind, id, off, 0);
}

void vx_iowatch_on_path(vx_iowatch *w, int kind, const char *path)
{
    const char *name = w->trace ? relative(w, path, w->path) : NULL;
    if (name) {
        put_header(w, kind, 0, 0, strlen(name));
        put(w, name, strlen(name));
    }
}

void vx_iowatch_renamed(vx_iowatch *w, const char *from, const char *to)
{
    const char *a = w->trace ? relative(w, from, w->path) : NULL;
    const char *b = a ? relative(w, to, w->path2) : NULL;
    if (b) {
        put_header(w, VX_IO_RENAME, 0, 0, strlen(a) + 1 + strlen(b));
        put(w, a, strlen(a) + 1);
        put(w, b, strlen(b));
    }
}

/* -- switches ------------------------------------------------------------------------------------------------- */

/* Under the lock. */
static void switch_on_or_off(vx_iowatch *w)
{
    atomic_store(&vx_iowatch_shared.on, w->trace != NULL || w->fault_err != 0);
}

int vx_io_record_start(const char *trace, const char *root)
{
    vx_iowatch *w = state();
    int err = 0;
    if (!w)
        return -ENOMEM;
    pthread_mutex_lock(&w->lock);
    if (w->trace) {
        err = -EBUSY;
    } else {
        char *real = realpath(root, NULL);
        w->trace = real ? fopen(trace, "wbe") : NULL;
        if (w->trace) {
            w->root = real;
            w->trace_err = 0;
            w->next_id = 1;
        } else {
            err = -errno;
            free(real);
        }
        switch_on_or_off(w);
    }
    pthread_mutex_unlock(&w->lock);
    return err;
}

int vx_io_record_mark(const void *data, size_t n)
{
    vx_iowatch *w = vx_iowatch_enter();
    int err = -EINVAL;
    if (!w)
        return err;
    if (w->trace) {
        put_header(w, VX_IO_MARK, 0, 0, n);
        put(w, data, n);
        err = w->trace_err;
    }
    vx_iowatch_leave(w);
    return err;
}

int vx_io_record_stop(void)
{
    vx_iowatch *w = vx_iowatch_enter();
    int err = -EINVAL;
    if (!w)
        return err;
    if (w->trace) {
        err = w->trace_err;
        if (fclose(w->trace) != 0 && !err)
            err = -errno;
        free(w->root);
        free(w->ids);
        w->trace = NULL;
        w->root = NULL;
        w->ids = NULL;
        w->ids_n = 0;
        switch_on_or_off(w);
    }
    vx_iowatch_leave(w);
    return err;
}

void vx_io_fault(uint32_t kinds, int64_t after, int err)
{
    vx_iowatch *w = state();
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->fault_kinds = kinds;
    w->fault_after = after;
    w->fault_err = err;
    switch_on_or_off(w);
    pthread_mutex_unlock(&w->lock);
}
