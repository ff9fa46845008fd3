/* The variants of crc32c, apart, so that a test can compare them. */
#ifndef VEXFS_SRC_CRC32C_H
#define VEXFS_SRC_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t vx_crc32c_table(uint32_t crc, const void *data, size_t n);
/* Call it only when vx_crc32c_hardware() says 1: x86-64 with SSE4.2 and PCLMUL. */
uint32_t vx_crc32c_sse42(uint32_t crc, const void *data, size_t n);
int vx_crc32c_hardware(void);
#endif
