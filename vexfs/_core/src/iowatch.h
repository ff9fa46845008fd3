/* What watches the system calls: the recorder of traces and the fault injector. */
#ifndef VEXFS_SRC_IOWATCH_H
#define VEXFS_SRC_IOWATCH_H

#include <stdint.h>
#include <sys/uio.h>

typedef struct vx_iowatch vx_iowatch;

/* NULL when nothing watches; else the watch, locked until vx_iowatch_leave. */
vx_iowatch *vx_iowatch_enter(void);
void vx_iowatch_leave(vx_iowatch *w);
/* 0, or the -errno with which this call is to fail. */
int vx_iowatch_fault(vx_iowatch *w, int kind);

/* Called after success, in the call's own critical section. */
void vx_iowatch_opened(vx_iowatch *w, int kind, int fd, const char *path);
void vx_iowatch_closed(vx_iowatch *w, int fd);
void vx_iowatch_written(vx_iowatch *w, int fd, const struct iovec *iov, int count, uint64_t off, uint64_t n);
void vx_iowatch_on_file(vx_iowatch *w, int kind, int fd, uint64_t off);
void vx_iowatch_on_path(vx_iowatch *w, int kind, const char *path);
void vx_iowatch_renamed(vx_iowatch *w, const char *from, const char *to);
#endif
