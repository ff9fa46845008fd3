/* What stands in front of libfuse 2, so that llfuse asks here: the room that a mount has for a request of the kernel, and
 * requests as they come.
 *
 * libfuse 2 answers 132 KiB when it is asked how large the buffer for requests must be, and llfuse asks when a worker
 * begins.  This library is loaded with its names in front of libfuse's, so that llfuse asks here: a request may then
 * bring a write of 1 MiB.  What is greeted on /dev/fuse must not promise the kernel more than there is room for, so it is
 * noted whether llfuse did ask here. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

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

/* -- requests ---------------------------------------------------------------------------------------------------- */

/* As libfuse 2 has it. */
typedef struct {
    size_t size;
    int flags;
    void *mem;
    int fd;
    off_t pos;
} fuse_buffer;

typedef int (*taker_fn)(void *context, void *request, size_t n, size_t room, int device);
typedef int (*receive_fn)(void *session, fuse_buffer *buffer, void **channel);
typedef int (*descriptor_fn)(void *channel);

static _Atomic(taker_fn) taker;
static _Atomic(void *) taker_context;
static receive_fn receive;
static descriptor_fn descriptor;
static atomic_int come;
static pthread_once_t found = PTHREAD_ONCE_INIT;

static void find(void)
{
    void *fuse = dlopen("libfuse.so.2", RTLD_LAZY | RTLD_LOCAL);
    if (!fuse)
        return;
    *(void **)&receive = dlsym(fuse, "fuse_session_receive_buf");
    *(void **)&descriptor = dlsym(fuse, "fuse_chan_fd");
}

/* Whatever `take` answers with 1 has been answered, and llfuse never hears of it.  NULL: it hears of everything. */
SEEN void vexfs_take_requests(taker_fn take, void *context);
SEEN void vexfs_take_requests(taker_fn take, void *context)
{
    if (take)
        atomic_store(&taker_context, context);
    atomic_store(&taker, take);
}

/* Whether requests come this way at all. */
SEEN int vexfs_requests_come(void);
SEEN int vexfs_requests_come(void)
{
    return atomic_load(&come);
}

/* Called by llfuse without the interpreter's lock. */
SEEN int fuse_session_receive_buf(void *session, fuse_buffer *buffer, void **channel);
SEEN int fuse_session_receive_buf(void *session, fuse_buffer *buffer, void **channel)
{
    pthread_once(&found, find);
    atomic_store(&come, 1);
    if (!receive || !descriptor)
        return -ENOSYS;
    const fuse_buffer whole = *buffer;
    void *const from = *channel;
    for (;;) {
        const int n = receive(session, buffer, channel);
        const taker_fn take = atomic_load(&taker);
        if (n <= 0 || !take || !take(atomic_load(&taker_context), buffer->mem, (size_t)n, whole.size, descriptor(*channel)))
            return n;
        *buffer = whole;
        *channel = from;
    }
}
