#include "local.h"

#include <stdlib.h>
#include <string.h>

struct vx_locals {
    pthread_mutex_t lock;
    _Atomic uint32_t refs; /* the object and one for each block */
    void *owner;           /* NULL once the object is gone */
    vx_local *first;
    size_t bytes;
    vx_local_fn retire;
};

VX_TLS vx_at_hand vx_here;
static VX_TLS vx_local *mine;
static pthread_key_t at_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int key_made;

static void unref(vx_locals *l) {
    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1) return;
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static void forget(const vx_local *local) {
    for (int k = 0; k < VX_LOCAL_KINDS; k++)
        if (vx_here.last[k] == local) vx_here.last[k] = NULL;
}

static void drop(vx_local *local) {
    vx_locals *l = local->locals;
    pthread_mutex_lock(&l->lock);
    if (l->owner) {
        l->retire(l->owner, local);
        vx_local **at = &l->first;
        while (*at != local) at = &(*at)->next_of_owner;
        *at = local->next_of_owner;
    }
    pthread_mutex_unlock(&l->lock);
    forget(local);
    unref(l);
    free(local);
}

static void thread_ends(void *unused) {
    (void)unused;
    while (mine) {
        vx_local *local = mine;
        mine = local->next_of_thread;
        drop(local);
    }
}

static void make_key(void) { key_made = pthread_key_create(&at_exit, thread_ends) == 0; }

vx_locals *vx_locals_new(void *owner, size_t bytes, vx_local_fn retire) {
    vx_locals *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    pthread_mutex_init(&l->lock, NULL);
    atomic_init(&l->refs, 1);
    l->owner = owner;
    l->bytes = (bytes + VX_LINE - 1) / VX_LINE * VX_LINE;
    l->retire = retire;
    return l;
}

void vx_locals_free(vx_locals *l) {
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    for (vx_local *local = l->first; local; local = local->next_of_owner)
        atomic_store_explicit(&local->owner, NULL, memory_order_relaxed);
    l->first = NULL;
    l->owner = NULL;
    pthread_mutex_unlock(&l->lock);
    unref(l);
}

static vx_local *make(vx_locals *l) {
    pthread_once(&once, make_key);
    if (!key_made || pthread_setspecific(at_exit, &mine)) return NULL;
    vx_local *local = aligned_alloc(VX_LINE, l->bytes);
    if (!local) return NULL;
    memset(local, 0, l->bytes);
    local->locals = l;
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    pthread_mutex_lock(&l->lock);
    atomic_init(&local->owner, l->owner);
    local->next_of_owner = l->first;
    l->first = local;
    pthread_mutex_unlock(&l->lock);
    local->next_of_thread = mine;
    mine = local;
    return local;
}

vx_local *vx_local_find(vx_locals *l, int kind) {
    vx_local *found = NULL;
    for (vx_local **at = &mine; *at;) {
        vx_local *local = *at;
        if (local->locals == l) {
            found = local;
        } else if (!atomic_load_explicit(&local->owner, memory_order_relaxed)) {
            *at = local->next_of_thread;
            drop(local);
            continue;
        }
        at = &local->next_of_thread;
    }
    if (!found) found = make(l);
    if (found) vx_here.last[kind] = found;
    return found;
}

vx_local *vx_locals_lock(vx_locals *l) {
    pthread_mutex_lock(&l->lock);
    return l->first;
}

void vx_locals_unlock(vx_locals *l) { pthread_mutex_unlock(&l->lock); }
