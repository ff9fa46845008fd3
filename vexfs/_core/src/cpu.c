/* What the processor offers, less what the operating system does not keep: a register that is lost at a context
 * switch is no feature. */
#include "vexfs/simd.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

#define LEAF1_ECX_FMA (1u << 12)
#define LEAF1_ECX_POPCNT (1u << 23)
#define LEAF1_ECX_OSXSAVE (1u << 27)
#define LEAF1_ECX_F16C (1u << 29)
#define LEAF7_EBX_AVX2 (1u << 5)
#define LEAF7_EBX_AVX512F (1u << 16)
#define LEAF7_EBX_AVX512DQ (1u << 17)
#define LEAF7_EBX_AVX512BW (1u << 30)
#define LEAF7_EBX_AVX512VL (1u << 31)
#define LEAF7_ECX_VBMI (1u << 1)
#define LEAF7_ECX_VNNI (1u << 11)
#define LEAF7_ECX_VPOPCNTDQ (1u << 14)
#define LEAF7_1_EAX_BF16 (1u << 5)
#define XCR0_YMM 0x06u /* xmm, ymm */
#define XCR0_ZMM 0xe6u /* and the masks, the upper zmm halves, zmm16 to zmm31 */

static uint64_t read_xcr0(void)
{
    uint32_t lo, hi;
    /* The bytes of xgetbv: assemblers without XSAVE know no such word. */
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static uint32_t if_set(uint32_t reg, uint32_t bit, uint32_t feature)
{
    return reg & bit ? feature : 0;
}

static uint32_t maker(void)
{
    uint32_t a, b = 0, c, d = 0;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx && d == signature_INTEL_edx ? VX_CPU_INTEL : 0;
}

uint32_t vx_cpu_detect(void)
{
    uint32_t a, b, c, d, found = maker();
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return found;
    const uint32_t leaf1 = c;
    found |= if_set(leaf1, LEAF1_ECX_POPCNT, VX_CPU_POPCNT);
    const uint64_t xcr0 = leaf1 & LEAF1_ECX_OSXSAVE ? read_xcr0() : 0;
    if ((xcr0 & XCR0_YMM) != XCR0_YMM)
        return found;
    found |= VX_CPU_OS_AVX | if_set(leaf1, LEAF1_ECX_FMA, VX_CPU_FMA) | if_set(leaf1, LEAF1_ECX_F16C, VX_CPU_F16C);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return found;
    found |= if_set(b, LEAF7_EBX_AVX2, VX_CPU_AVX2);
    if ((xcr0 & XCR0_ZMM) != XCR0_ZMM)
        return found;
    found |= VX_CPU_OS_AVX512 | if_set(b, LEAF7_EBX_AVX512F, VX_CPU_AVX512F);
    found |= if_set(b, LEAF7_EBX_AVX512DQ, VX_CPU_AVX512DQ) | if_set(b, LEAF7_EBX_AVX512BW, VX_CPU_AVX512BW);
    found |= if_set(b, LEAF7_EBX_AVX512VL, VX_CPU_AVX512VL) | if_set(c, LEAF7_ECX_VNNI, VX_CPU_AVX512VNNI);
    found |= if_set(c, LEAF7_ECX_VPOPCNTDQ, VX_CPU_AVX512VPOPCNTDQ) | if_set(c, LEAF7_ECX_VBMI, VX_CPU_AVX512VBMI);
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
        found |= if_set(a, LEAF7_1_EAX_BF16, VX_CPU_AVX512BF16);
    return found;
}

#elif defined(__aarch64__)

/* Advanced SIMD is part of the ARMv8-A base that AArch64 Linux asks for. */
uint32_t vx_cpu_detect(void)
{
    return VX_CPU_NEON;
}

#else

uint32_t vx_cpu_detect(void)
{
    return 0;
}

#endif
