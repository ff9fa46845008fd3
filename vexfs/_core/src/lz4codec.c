/* lz4 blocks through the system's library. */
#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <stdlib.h>

#include "vexfs/codec.h"

size_t vx_lz4(const void *src, size_t n, void *dst, size_t cap)
{
    if (n == 0 || n > LZ4_MAX_INPUT_SIZE || cap == 0)
        return 0;
    int room = cap > INT_MAX ? INT_MAX : (int)cap;
    /* lz4's 16 KiB of working state: more than a handler's stack may use, or a module's thread-local storage. */
    void *state = malloc((size_t)LZ4_sizeofState());
    int out = state ? LZ4_compress_fast_extState(state, src, dst, (int)n, room, 1) : 0;
    free(state);
    return out > 0 ? (size_t)out : 0;
}

int vx_unlz4(const void *src, size_t srcn, void *dst, size_t n)
{
    if (srcn > INT_MAX || n > INT_MAX)
        return -EBADMSG;
    int out = LZ4_decompress_safe(src, dst, (int)srcn, (int)n);
    return out >= 0 && (size_t)out == n ? 0 : -EBADMSG;
}
