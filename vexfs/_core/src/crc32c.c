/* crc32c: slicing-by-8 tables everywhere, the CPU's own instruction where it has one.
 *
 * The instruction takes three cycles but can start one every cycle, so three stretches are summed side by side and
 * then joined: moving a checksum over N zero bytes is a multiplication by x^(8N) modulo the polynomial, which one
 * carry-less product and one more crc step do. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "crc32c.h"
#include "vexfs/codec.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define POLY 0x82F63B78u /* Castagnoli, bits reversed */

static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++)
            v = (v >> 1) ^ (POLY & (0u - (v & 1)));
        table[0][i] = v;
    }
    for (int row = 1; row < 8; row++)
        for (uint32_t i = 0; i < 256; i++)
            table[row][i] = (table[row - 1][i] >> 8) ^ table[0][table[row - 1][i] & 255];
}

uint32_t vx_crc32c_table(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    pthread_once(&table_once, fill_table);
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
              table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; n; n--, p++)
        crc = (crc >> 8) ^ table[0][(crc ^ *p) & 255];
    return ~crc;
}

#if defined(__x86_64__)

/* Stretches of N bytes: the constants are x^(8N - 33) and x^(16N - 33) modulo the polynomial, bits reversed; the
 * crc step that reduces the product supplies the missing 33. */
#define LONG 4096
#define LONG_1 0x82f89c77u
#define LONG_2 0x54a86326u
#define SHORT 256
#define SHORT_1 0xb9e02b86u
#define SHORT_2 0xdd7e3b0cu

#define HW __attribute__((target("sse4.2,pclmul")))

static HW uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static HW uint64_t shifted(uint64_t crc, uint32_t by)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi64_si128((long long)by), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

/* Three stretches of `n` bytes each, joined. */
static HW uint64_t three(uint64_t crc, const uint8_t *p, size_t n, uint32_t by1, uint32_t by2)
{
    uint64_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < n; i += 8) {
        a = _mm_crc32_u64(a, load64(p + i));
        b = _mm_crc32_u64(b, load64(p + n + i));
        c = _mm_crc32_u64(c, load64(p + 2 * n + i));
    }
    return shifted(a, by2) ^ shifted(b, by1) ^ c;
}

HW uint32_t vx_crc32c_sse42(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t v = (uint32_t)~crc;
    for (; n >= 3 * LONG; n -= 3 * LONG, p += 3 * LONG)
        v = three(v, p, LONG, LONG_1, LONG_2);
    for (; n >= 3 * SHORT; n -= 3 * SHORT, p += 3 * SHORT)
        v = three(v, p, SHORT, SHORT_1, SHORT_2);
    for (; n >= 8; n -= 8, p += 8)
        v = _mm_crc32_u64(v, load64(p));
    uint32_t low = (uint32_t)v;
    for (; n; n--, p++)
        low = _mm_crc32_u8(low, *p);
    return ~low;
}

int vx_crc32c_hardware(void)
{
    static atomic_int known; /* 0 not asked yet, 1 no, 2 yes */
    int k = atomic_load_explicit(&known, memory_order_relaxed);
    if (!k) {
        __builtin_cpu_init();
        k = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") ? 2 : 1;
        atomic_store_explicit(&known, k, memory_order_relaxed);
    }
    return k == 2;
}

uint32_t vx_crc32c(uint32_t crc, const void *data, size_t n)
{
    return vx_crc32c_hardware() ? vx_crc32c_sse42(crc, data, n) : vx_crc32c_table(crc, data, n);
}

#else

int vx_crc32c_hardware(void)
{
    return 0;
}

uint32_t vx_crc32c_sse42(uint32_t crc, const void *data, size_t n)
{
    return vx_crc32c_table(crc, data, n);
}

uint32_t vx_crc32c(uint32_t crc, const void *data, size_t n)
{
    return vx_crc32c_table(crc, data, n);
}

#endif
