"""C declarations of checksums, encryption and compression."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "vexfs/codec.h" nogil:
    ctypedef struct vx_aead:
        pass

    uint32_t vx_crc32c(uint32_t crc, const void *data, size_t n)
    uint64_t vx_siphash(const uint8_t *key, const void *data, size_t n)
    uint64_t vx_name_slot(const uint8_t *key, const void *name, size_t n)
    vx_aead *vx_aead_new(const uint8_t *key)
    void vx_aead_free(vx_aead *a)
    int vx_aead_seal(vx_aead *a, const uint8_t *nonce, const void *ad, size_t ad_n, const void *src, size_t n,
                     void *dst, uint8_t *tag)
    int vx_aead_open(vx_aead *a, const uint8_t *nonce, const void *ad, size_t ad_n, const void *src, size_t n,
                     void *dst, const uint8_t *tag)
    int vx_hkdf(const uint8_t *key, const char *label, uint64_t number, uint8_t *out)
    int vx_random(void *out, size_t n)
    size_t vx_lz4(const void *src, size_t n, void *dst, size_t cap)
    int vx_unlz4(const void *src, size_t srcn, void *dst, size_t n)


cdef extern from "../src/crc32c.h" nogil:
    uint32_t vx_crc32c_table(uint32_t crc, const void *data, size_t n)
    int vx_crc32c_hardware()
