/* Faults in an ordinary pool, which only the sanitizer can see. */
#include <string.h>

#include "check.h"
#include "vexfs/pool.h"

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: %s overflow|use_after_release", argv[0]);
    const uint32_t counts[] = {128, 64, 32};
    vx_pool *pool = vx_pool_new(counts, 0);
    volatile char *buf = vx_pool_acquire(pool, 100, VX_TAG_TEST);
    buf[99] = 1;
    if (!strcmp(argv[1], "overflow")) buf[104] = 1;
    vx_pool_release(pool, (void *)buf, 100);
    if (!strcmp(argv[1], "use_after_release")) buf[5] = 1;
    vx_pool_free(pool);
    return 0;
}
