/* How fast one thread reads memory: nothing is done with what is read but what keeps the compiler from skipping it. */
#include <stddef.h>
#include <stdint.h>

typedef uint64_t wide __attribute__((vector_size(64), aligned(8), may_alias));

uint64_t read_all(const unsigned char *p, size_t bytes)
{
    wide a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i + 256 <= bytes; i += 256) {
        a ^= *(const wide *)(p + i);
        b ^= *(const wide *)(p + i + 64);
        c ^= *(const wide *)(p + i + 128);
        d ^= *(const wide *)(p + i + 192);
    }
    a ^= b ^ c ^ d;
    return a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];
}
