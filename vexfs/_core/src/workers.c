/* A job lives on its caller's stack: nothing is allocated to share work out. */
#include <pthread.h>
#include <stdlib.h>

#include "workers.h"

#define STACK_BYTES (256u * 1024)

typedef struct job {
    struct job *next;
    vx_part_fn fn;
    void *ctx;
    uint32_t parts, taken; /* parts handed out */
    uint32_t inside, helpers;
} job;

struct vx_workers {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    job *jobs; /* those with parts left and room for a helper */
    vx_errand_fn errand;
    void *errand_ctx;
    uint32_t nudges, threads;
    int stopping;
    pthread_t thread[];
};

/* Under the lock. */
static void unlist(vx_workers *w, job *j)
{
    for (job **at = &w->jobs; *at; at = &(*at)->next)
        if (*at == j) {
            *at = j->next;
            return;
        }
}

/* Runs parts of `j` until none is left; enters and returns under the lock. */
static void take_parts(vx_workers *w, job *j)
{
    while (j->taken < j->parts) {
        uint32_t part = j->taken++;
        pthread_mutex_unlock(&w->lock);
        j->fn(j->ctx, part);
        pthread_mutex_lock(&w->lock);
    }
}

static void help(vx_workers *w, job *j)
{
    j->inside++;
    if (j->inside >= j->helpers)
        unlist(w, j);
    take_parts(w, j);
    j->inside--;
    unlist(w, j);
    if (j->inside == 0)
        pthread_cond_broadcast(&w->done);
}

static void *main_loop(void *arg)
{
    vx_workers *w = arg;
    pthread_mutex_lock(&w->lock);
    while (!w->stopping) {
        if (w->jobs) {
            help(w, w->jobs);
        } else if (w->nudges) {
            w->nudges--;
            pthread_mutex_unlock(&w->lock);
            w->errand(w->errand_ctx);
            pthread_mutex_lock(&w->lock);
        } else {
            pthread_cond_wait(&w->work, &w->lock);
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

vx_workers *vx_workers_new(uint32_t threads, vx_errand_fn errand, void *ctx)
{
    vx_workers *w = calloc(1, sizeof *w + threads * sizeof(pthread_t));
    pthread_attr_t attr;
    if (!w)
        return NULL;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    pthread_cond_init(&w->done, NULL);
    w->errand = errand;
    w->errand_ctx = ctx;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    while (w->threads < threads && pthread_create(&w->thread[w->threads], &attr, main_loop, w) == 0)
        w->threads++;
    pthread_attr_destroy(&attr);
    if (w->threads == 0) {
        vx_workers_free(w);
        return NULL;
    }
    return w;
}

void vx_workers_free(vx_workers *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = 1;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (uint32_t i = 0; i < w->threads; i++)
        pthread_join(w->thread[i], NULL);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->done);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void vx_workers_share(vx_workers *w, vx_part_fn fn, void *ctx, uint32_t parts, uint32_t helpers)
{
    job j = {.fn = fn, .ctx = ctx, .parts = parts, .helpers = helpers};
    if (parts <= 1 || helpers == 0) {
        for (uint32_t part = 0; part < parts; part++)
            fn(ctx, part);
        return;
    }
    pthread_mutex_lock(&w->lock);
    j.next = w->jobs;
    w->jobs = &j;
    for (uint32_t i = 0; i < helpers && i + 1 < parts; i++)
        pthread_cond_signal(&w->work);
    take_parts(w, &j);
    unlist(w, &j);
    while (j.inside)
        pthread_cond_wait(&w->done, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

void vx_workers_nudge(vx_workers *w)
{
    pthread_mutex_lock(&w->lock);
    w->nudges++;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
}
