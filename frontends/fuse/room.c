/* The room that a mount has for a request of the kernel.
 *
 * libfuse 2 answers 132 KiB when it is asked how large the buffer for requests must be, and llfuse asks when a worker
 * begins.  This library is loaded with its names in front of libfuse's, so that llfuse asks here: a request may then
 * bring a write of 1 MiB.  What is greeted on /dev/fuse must not promise the kernel more than there is room for, so it is
 * noted whether llfuse did ask here. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

enum { WRITE_MOST = 1 << 20, HEAD = 4 << 10 };

#define SEEN __attribute__((visibility("default")))

static atomic_int asked;

SEEN size_t fuse_chan_bufsize(const void *channel);
SEEN size_t fuse_chan_bufsize(const void *channel)
{
    Dl_info by;
    (void)channel;
    if (dladdr(__builtin_return_address(0), &by) && by.dli_fname && strstr(by.dli_fname, "llfuse"))
        atomic_store(&asked, 1);
    return WRITE_MOST + HEAD;
}

/* The most bytes that a write may bring; 0 where llfuse has its buffers from elsewhere. */
SEEN size_t vexfs_room_for_writes(void);
SEEN size_t vexfs_room_for_writes(void)
{
    return atomic_load(&asked) ? WRITE_MOST : 0;
}
