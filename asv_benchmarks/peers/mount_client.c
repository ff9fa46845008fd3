/* The clients of the mount benchmark: tight loops of system calls, so that what is measured is the filesystem.
 *
 *   mount_client KIND DIRECTORY SEED COUNT FILES
 *
 * Prepares nothing by itself unless KIND is `prepare`.  Waits for one byte on its standard input, does COUNT operations,
 * and prints the seconds they took.  Any failing call ends it with a message and status 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define FAIL(what, name) do { fprintf(stderr, "mount_client: %s %s: %s\n", what, name, strerror(errno)); exit(1); } while (0)

typedef struct {
    const char *dir;
    uint64_t state;
    long count, files;
    char name[4200];
    char *block; /* aligned for O_DIRECT */
} client;

static uint64_t next(client *c)
{
    c->state ^= c->state << 13;
    c->state ^= c->state >> 7;
    c->state ^= c->state << 17;
    return c->state;
}

static const char *file(client *c, const char *kind, long i)
{
    snprintf(c->name, sizeof c->name, "%s/%s%06ld", c->dir, kind, i);
    return c->name;
}

static void read_file(client *c, const char *name)
{
    int fd = open(name, O_RDONLY);
    if (fd < 0 || read(fd, c->block, BLOCK) != BLOCK || close(fd) < 0)
        FAIL("read", name);
}

static void write_file(client *c, const char *name, int flags)
{
    int fd = open(name, O_WRONLY | flags, 0644);
    if (fd < 0 || write(fd, c->block, BLOCK) != BLOCK || close(fd) < 0)
        FAIL("write", name);
}

static void prepare(client *c)
{
    if (mkdir(c->dir, 0755) < 0 && errno != EEXIST)
        FAIL("mkdir", c->dir);
    for (long i = 0; i < c->files; i++)
        write_file(c, file(c, "f", i), O_CREAT | O_TRUNC);
}

/* 40 % read, 20 % stat, 20 % overwrite, 10 % create, 10 % unlink of what was created.  The created files form a queue,
 * so that their number stays level. */
static void mixed(client *c)
{
    long created = 0, removed = 0;
    struct stat st;
    for (long i = 0; i < c->count; i++) {
        uint64_t r = next(c);
        long which = (long)((r >> 8) % (uint64_t)c->files);
        unsigned kind = (unsigned)(r % 10);
        if (kind < 4)
            read_file(c, file(c, "f", which));
        else if (kind < 6) {
            if (stat(file(c, "f", which), &st) < 0)
                FAIL("stat", c->name);
        } else if (kind < 8)
            write_file(c, file(c, "f", which), 0);
        else if (kind == 8 || removed == created)
            write_file(c, file(c, "new", created++), O_CREAT | O_EXCL);
        else if (unlink(file(c, "new", removed++)) < 0)
            FAIL("unlink", c->name);
    }
    while (removed < created)
        unlink(file(c, "new", removed++));
}

static void lookup(client *c)
{
    struct stat st;
    for (long i = 0; i < c->count; i++)
        if (stat(file(c, "f", i % c->files), &st) < 0)
            FAIL("stat", c->name);
}

static void getattr(client *c)
{
    struct statx st;
    int fd = open(file(c, "f", 0), O_RDONLY);
    if (fd < 0)
        FAIL("open", c->name);
    for (long i = 0; i < c->count; i++)
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st) < 0)
            FAIL("statx", c->name);
    close(fd);
}

static void read_direct(client *c)
{
    int fd = open(file(c, "f", 0), O_RDONLY | O_DIRECT);
    if (fd < 0)
        FAIL("open", c->name);
    for (long i = 0; i < c->count; i++)
        if (pread(fd, c->block, BLOCK, 0) != BLOCK)
            FAIL("pread", c->name);
    close(fd);
}

static void write_block(client *c)
{
    int fd = open(file(c, "f", 0), O_WRONLY);
    if (fd < 0)
        FAIL("open", c->name);
    for (long i = 0; i < c->count; i++)
        if (pwrite(fd, c->block, BLOCK, 0) != BLOCK)
            FAIL("pwrite", c->name);
    close(fd);
}

static void create_files(client *c)
{
    for (long i = 0; i < c->count; i++) {
        int fd = open(file(c, "c", i), O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd < 0)
            FAIL("create", c->name);
        close(fd);
    }
}

static void rename_files(client *c)
{
    char to[4200];
    for (long i = 0; i < c->count; i++) {
        snprintf(to, sizeof to, "%s/r%06ld", c->dir, i);
        if (rename(file(c, "c", i), to) < 0)
            FAIL("rename", c->name);
    }
}

static void unlink_files(client *c)
{
    for (long i = 0; i < c->count; i++)
        if (unlink(file(c, "r", i)) < 0)
            FAIL("unlink", c->name);
}

/* Names and attributes of all entries; prints also the time until the first entry came. */
static double list_all(client *c, double (*now)(void))
{
    double start = now(), first = 0;
    struct dirent *e;
    struct stat st;
    long n = 0;
    DIR *d = opendir(c->dir);
    if (!d)
        FAIL("opendir", c->dir);
    while ((e = readdir(d))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (n++ == 0)
            first = now() - start;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            FAIL("fstatat", e->d_name);
    }
    closedir(d);
    if (n != c->files) {
        fprintf(stderr, "mount_client: %s has %ld entries, expected %ld\n", c->dir, n, c->files);
        exit(1);
    }
    return first;
}

/* COUNT blocks of 1 MiB, then fsync; words of a vocabulary, which compress as text does. */
static void fill(client *c, char *big, size_t n)
{
    char words[2048][12];
    for (size_t k = 0; k < 2048; k++) {
        size_t letters = 2 + next(c) % 9;
        for (size_t i = 0; i < letters; i++)
            words[k][i] = (char)('a' + next(c) % 26);
        words[k][letters] = ' ';
        words[k][letters + 1] = 0;
    }
    for (size_t at = 0; at < n;) {
        const char *word = words[next(c) % 2048 * (next(c) % 2048) / 2048]; /* some are frequent, most are rare */
        for (; *word && at < n; word++)
            big[at++] = *word;
    }
}

static void write_big(client *c)
{
    size_t n = 1 << 20;
    char *big = aligned_alloc(4096, n);
    int fd = open(file(c, "big", 0), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || !big)
        FAIL("open", c->name);
    fill(c, big, n);
    for (long i = 0; i < c->count; i++) {
        ((uint64_t *)big)[i % 1000] = next(c);
        if (write(fd, big, n) != (ssize_t)n)
            FAIL("write", c->name);
    }
    if (fsync(fd) < 0 || close(fd) < 0)
        FAIL("fsync", c->name);
    free(big);
}

static void read_big(client *c)
{
    size_t n = 1 << 20;
    char *big = aligned_alloc(4096, n);
    int fd = open(file(c, "big", 0), O_RDONLY);
    ssize_t got = 0;
    if (fd < 0 || !big)
        FAIL("open", c->name);
    for (long i = 0; i < c->count; i++)
        if ((got = read(fd, big, n)) != (ssize_t)n)
            FAIL("read", c->name);
    close(fd);
    free(big);
}

/* Random 4 KiB writes into one file of FILES blocks, each made durable before the next. */
static void sync_random(client *c)
{
    int fd = open(file(c, "s", 0), O_WRONLY | O_CREAT, 0644);
    if (fd < 0)
        FAIL("open", c->name);
    for (long i = 0; i < c->count; i++) {
        off_t at = (off_t)(next(c) % (uint64_t)c->files) * BLOCK;
        memcpy(c->block, &i, sizeof i);
        if (pwrite(fd, c->block, BLOCK, at) != BLOCK || fsync(fd) < 0)
            FAIL("pwrite and fsync", c->name);
    }
    close(fd);
}

/* COUNT files written and made durable, one after another. */
static void sync_files(client *c)
{
    for (long i = 0; i < c->count; i++) {
        int fd = open(file(c, "y", i), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd < 0 || write(fd, c->block, BLOCK) != BLOCK || fsync(fd) < 0 || close(fd) < 0)
            FAIL("write and fsync", c->name);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const struct { const char *name; void (*run)(client *); } KINDS[] = {
    {"prepare", prepare}, {"mixed", mixed}, {"lookup", lookup}, {"getattr", getattr}, {"read", read_direct},
    {"write", write_block}, {"create", create_files}, {"rename", rename_files}, {"unlink", unlink_files},
    {"write_big", write_big}, {"read_big", read_big}, {"sync_random", sync_random}, {"sync_files", sync_files},
};

int main(int argc, char **argv)
{
    client c = {0};
    char go;
    if (argc != 6) {
        fprintf(stderr, "usage: mount_client KIND DIRECTORY SEED COUNT FILES\n");
        return 2;
    }
    c.dir = argv[2];
    c.state = strtoull(argv[3], NULL, 10) * 0x9E3779B97F4A7C15ULL + 1;
    c.count = strtol(argv[4], NULL, 10);
    c.files = strtol(argv[5], NULL, 10);
    c.block = aligned_alloc(4096, BLOCK);
    memset(c.block, 'x', BLOCK);
    printf("ready\n");
    fflush(stdout);
    if (read(0, &go, 1) != 1)
        return 1;
    double start = now(), first = 0;
    if (!strcmp(argv[1], "list"))
        first = list_all(&c, now);
    else {
        size_t k = 0, kinds = sizeof KINDS / sizeof *KINDS;
        while (k < kinds && strcmp(KINDS[k].name, argv[1]))
            k++;
        if (k == kinds) {
            fprintf(stderr, "mount_client: unknown kind %s\n", argv[1]);
            return 2;
        }
        KINDS[k].run(&c);
    }
    printf("%.9f %.9f\n", now() - start, first);
    return 0;
}
