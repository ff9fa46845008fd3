/* Change events for frontends that keep a cache of their own (the kernel's, behind a mount). */
#include <errno.h>
#include <string.h>

#include "vexfs/engine.h"

int vx_fs_events_attach(vx_fs *fs, int content_only)
{
    int rc = -EMFILE;
    pthread_mutex_lock(&fs->lock);
    for (int k = 0; k < VX_WATCHERS && rc < 0; k++) {
        vx_watcher *w = &fs->watchers[k];
        if (w->used)
            continue;
        w->ring = malloc(VX_EVENT_RING * sizeof *w->ring);
        if (!w->ring) {
            rc = -ENOMEM;
            break;
        }
        w->used = 1;
        w->head = w->tail = 0;
        w->lost = w->closed = 0;
        w->content_only = content_only;
        fs->nwatchers++;
        rc = k + 1;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

/* Whether the last event that nobody has taken yet says the same: a file that is written is written in many pieces. */
static int repeats(const vx_watcher *w, uint64_t ino, uint32_t content)
{
    const vx_event *last = &w->ring[(w->head - 1) % VX_EVENT_RING];
    return w->head != w->tail && last->kind == VX_EVENT_INODE && last->ino == ino && last->content == content;
}

static void push(vx_fs *fs, const vx_cred *c, uint32_t kind, uint64_t ino, uint32_t content, const char *name, size_t n)
{
    for (int k = 0; k < VX_WATCHERS; k++) {
        vx_watcher *w = &fs->watchers[k];
        if (!w->used || (c && c->origin == (uint32_t)k + 1) || (w->content_only && kind == VX_EVENT_INODE && !content))
            continue;
        if (kind == VX_EVENT_INODE && repeats(w, ino, content))
            continue;
        if (w->head - w->tail == VX_EVENT_RING) {
            w->lost = 1;
            continue;
        }
        vx_event *e = &w->ring[w->head++ % VX_EVENT_RING];
        e->kind = kind;
        e->content = content;
        e->ino = ino;
        e->name_n = (uint32_t)n;
        if (n)
            memcpy(e->name, name, n);
        pthread_cond_broadcast(&fs->event);
    }
}

void vx_event_inode(vx_fs *fs, const vx_cred *c, uint64_t ino, int content)
{
    if (fs->nwatchers)
        push(fs, c, VX_EVENT_INODE, ino, (uint32_t)content, NULL, 0);
}

void vx_event_entry(vx_fs *fs, const vx_cred *c, uint64_t parent, const char *name, size_t n)
{
    if (fs->nwatchers)
        push(fs, c, VX_EVENT_ENTRY, parent, 0, name, n);
}

int vx_fs_events_wait(vx_fs *fs, int origin, int timeout_ms, vx_event *out)
{
    if (origin < 1 || origin > VX_WATCHERS)
        return -EINVAL;
    vx_watcher *w = &fs->watchers[origin - 1];
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += timeout_ms / 1000;
    t.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    int rc = 0;
    pthread_mutex_lock(&fs->lock);
    while (w->used && !w->closed && w->head == w->tail && !w->lost && rc != ETIMEDOUT) {
        if (timeout_ms < 0)
            pthread_cond_wait(&fs->event, &fs->lock);
        else
            rc = pthread_cond_timedwait(&fs->event, &fs->lock, &t);
    }
    if (!w->used || w->closed) {
        rc = -ESHUTDOWN;
        free(w->ring);
        memset(w, 0, sizeof *w);
    } else if (w->lost) {
        w->lost = 0;
        w->tail = w->head;
        memset(out, 0, sizeof *out);
        rc = 1;
    } else if (w->head != w->tail) {
        *out = w->ring[w->tail++ % VX_EVENT_RING];
        rc = 1;
    } else {
        rc = 0;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

int vx_fs_events_take(vx_fs *fs, int origin, vx_event *out, int cap)
{
    if (origin < 1 || origin > VX_WATCHERS || cap < 1)
        return -EINVAL;
    vx_watcher *w = &fs->watchers[origin - 1];
    int n = 0;
    pthread_mutex_lock(&fs->lock);
    if (!w->used || w->closed) {
        n = -ESHUTDOWN;
        free(w->ring);
        memset(w, 0, sizeof *w);
    } else if (w->lost) {
        w->lost = 0;
        w->tail = w->head;
        memset(out, 0, sizeof *out);
        n = 1;
    } else {
        for (; n < cap && w->head != w->tail; n++)
            out[n] = w->ring[w->tail++ % VX_EVENT_RING];
    }
    pthread_mutex_unlock(&fs->lock);
    return n;
}

void vx_fs_events_detach(vx_fs *fs, int origin)
{
    if (origin < 1 || origin > VX_WATCHERS)
        return;
    pthread_mutex_lock(&fs->lock);
    if (fs->watchers[origin - 1].used && !fs->watchers[origin - 1].closed) {
        fs->watchers[origin - 1].closed = 1; /* the waiting thread frees the ring */
        fs->nwatchers--;
    }
    pthread_cond_broadcast(&fs->event);
    pthread_mutex_unlock(&fs->lock);
}
