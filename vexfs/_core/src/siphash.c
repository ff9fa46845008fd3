/* SipHash-2-4.  Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012. */
#include "vexfs/codec.h"

static uint64_t load64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static uint64_t rotated(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

typedef struct {
    uint64_t a, b, c, d;
} sip;

static void rounds(sip *s, int n)
{
    while (n--) {
        s->a += s->b;
        s->b = rotated(s->b, 13) ^ s->a;
        s->a = rotated(s->a, 32);
        s->c += s->d;
        s->d = rotated(s->d, 16) ^ s->c;
        s->a += s->d;
        s->d = rotated(s->d, 21) ^ s->a;
        s->c += s->b;
        s->b = rotated(s->b, 17) ^ s->c;
        s->c = rotated(s->c, 32);
    }
}

uint64_t vx_siphash(const uint8_t key[16], const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t k0 = load64(key), k1 = load64(key + 8), last = (uint64_t)n << 56;
    sip s = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t m = load64(p);
        s.d ^= m;
        rounds(&s, 2);
        s.a ^= m;
    }
    for (size_t i = 0; i < n; i++)
        last |= (uint64_t)p[i] << (8 * i);
    s.d ^= last;
    rounds(&s, 2);
    s.a ^= last;
    s.c ^= 0xff;
    rounds(&s, 4);
    return s.a ^ s.b ^ s.c ^ s.d;
}

uint64_t vx_name_slot(const uint8_t key[16], const void *name, size_t n)
{
    const uint64_t slot = vx_siphash(key, name, n) & 0x3ffffffffffffffcu;
    return slot ? slot : VX_SLOTS; /* cookies below are those of "." and ".." */
}
