/* Checksums, compression and authenticated encryption of stored bytes. */
#ifndef VEXFS_CODEC_H
#define VEXFS_CODEC_H

#include <stddef.h>
#include <stdint.h>

/* crc32c (Castagnoli), hardware instruction when the machine has it.  Start with crc = 0; may be chained. */
uint32_t vx_crc32c(uint32_t crc, const void *data, size_t n);
/* SipHash-2-4 with a 16-byte key. */
uint64_t vx_siphash(const uint8_t key[16], const void *data, size_t n);
/* The first of the slots of a directory that a name may have: a hash of 60 bits of it, whose low two are clear. */
#define VX_SLOTS 4u
uint64_t vx_name_slot(const uint8_t key[16], const void *name, size_t n);

/* AES-256-GCM.  A key object is thread-safe (contexts are kept per thread or per call inside). */
typedef struct vx_aead vx_aead;
vx_aead *vx_aead_new(const uint8_t key[32]);
void vx_aead_free(vx_aead *a);
/* dst gets n bytes (may equal src); tag 16 bytes; nonce 12 bytes.  0 or -errno; open answers -EBADMSG on a wrong tag. */
int vx_aead_seal(vx_aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const void *src, size_t n, void *dst,
                 uint8_t tag[16]);
int vx_aead_open(vx_aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const void *src, size_t n, void *dst,
                 const uint8_t tag[16]);
/* HKDF-SHA256 of a 32-byte key with a label and a number: 32 bytes out.  0 or -errno. */
int vx_hkdf(const uint8_t key[32], const char *label, uint64_t number, uint8_t out[32]);
int vx_random(void *out, size_t n);

/* lz4 block.  Returns the compressed size, or 0 when it does not fit `cap`. */
size_t vx_lz4(const void *src, size_t n, void *dst, size_t cap);
/* Returns 0, or -EBADMSG unless exactly `n` bytes come out. */
int vx_unlz4(const void *src, size_t srcn, void *dst, size_t n);

#endif
