/* Preloaded: lets unlink, ftruncate and, where $VX_GATE/fdatasync.shut is there, fdatasync of segments wait at a gate.
 * The call NAME makes the file $VX_GATE/NAME.here, once, and goes on when $VX_GATE/NAME.go is there. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void wait_at(const char *name)
{
    char here[4096], go[4096];
    snprintf(here, sizeof here, "%s/%s.here", getenv("VX_GATE"), name);
    snprintf(go, sizeof go, "%s/%s.go", getenv("VX_GATE"), name);
    close(open(here, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    while (access(go, F_OK) < 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static int of_segment(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".seg") == 0;
}

static int is_segment(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    return of_segment(path);
}

int unlink(const char *path)
{
    if (of_segment(path))
        wait_at("unlink");
    return (int)syscall(SYS_unlink, path);
}

int ftruncate(int fd, off_t size)
{
    if (is_segment(fd))
        wait_at("ftruncate");
    return (int)syscall(SYS_ftruncate, fd, size);
}

int fdatasync(int fd)
{
    char shut[4096];
    snprintf(shut, sizeof shut, "%s/fdatasync.shut", getenv("VX_GATE"));
    if (access(shut, F_OK) == 0 && is_segment(fd))
        wait_at("fdatasync");
    return (int)syscall(SYS_fdatasync, fd);
}
