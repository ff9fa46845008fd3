"""Checksums, authenticated encryption and compression of stored bytes, as the store itself calls them."""

import errno
import os

from cpython.bytes cimport PyBytes_AsString
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr


cdef const void *_start(const unsigned char[::1] data) noexcept:
    return &data[0] if data.shape[0] else NULL


cdef object _checked(int status):
    if status < 0:
        raise OSError(-status, os.strerror(-status))


cdef object _sized(bytes data, Py_ssize_t want, str what):
    if len(data) != want:
        raise ValueError(f"{what} must have {want} bytes, not {len(data)}")


def crc32c(const unsigned char[::1] data, uint32_t crc=0):
    """crc32c (Castagnoli) of `data`, going on from `crc`."""
    cdef const void *p = _start(data)
    cdef size_t n = data.shape[0]
    with nogil:
        crc = vx_crc32c(crc, p, n)
    return crc


def crc32c_table(const unsigned char[::1] data, uint32_t crc=0):
    """`crc32c` by tables: what runs where the CPU has no instruction for it."""
    cdef const void *p = _start(data)
    cdef size_t n = data.shape[0]
    with nogil:
        crc = vx_crc32c_table(crc, p, n)
    return crc


def crc32c_hardware():
    """Whether `crc32c` uses the CPU's instruction."""
    return bool(vx_crc32c_hardware())


def siphash(bytes key not None, const unsigned char[::1] data):
    """SipHash-2-4 of `data` under a 16-byte key."""
    _sized(key, 16, "a SipHash key")
    return vx_siphash(<const uint8_t *><char *>key, _start(data), data.shape[0])


def first_slot(bytes key not None, bytes name not None):
    """The first slot of a directory where `name` is looked for, whether it can be one or not."""
    _sized(key, 16, "a SipHash key")
    return vx_name_slot(<const uint8_t *><char *>key, <char *>name, len(name))


def first_slots(bytes key not None, list names not None, uint64_t[::1] out not None):
    """For each of `names` the first slot of a directory where it is looked for; 0 for what cannot be a name."""
    _sized(key, 16, "a SipHash key")
    cdef const uint8_t *k = <const uint8_t *><char *>key
    cdef const char *p
    cdef size_t n, at
    for at in range(<size_t>min(len(names), out.shape[0])):
        name = names[at]
        p, n = PyBytes_AsString(name), len(<bytes>name)
        if n == 0 or n > 255 or memchr(p, c"/", n) or memchr(p, 0, n) or (p[0] == c"." and n < 3 and p[n - 1] == c"."):
            out[at] = 0
            continue
        out[at] = vx_name_slot(k, p, n)


def hkdf(bytes key not None, str label not None, uint64_t number):
    """HKDF-SHA256 of a 32-byte key; the info is `label`, then `number` in eight little-endian bytes."""
    _sized(key, 32, "a key")
    cdef uint8_t[32] out
    cdef bytes name = label.encode()
    _checked(vx_hkdf(<const uint8_t *><char *>key, name, number, out))
    return (<char *>out)[:32]


def random(size_t n):
    """`n` random bytes from the kernel."""
    cdef bytearray out = bytearray(n)
    _checked(vx_random(<char *>out, n))
    return bytes(out)


def lz4(const unsigned char[::1] data, cap=None):
    """Compress to one lz4 block of at most `cap` bytes; None when it does not fit."""
    cdef size_t n = data.shape[0], room = n + n // 255 + 16 if cap is None else cap
    cdef bytearray out = bytearray(room)
    cdef char *q = out
    cdef const void *p = _start(data)
    with nogil:
        room = vx_lz4(p, n, q, room)
    return bytes(out[:room]) if room else None


def unlz4(const unsigned char[::1] data, size_t n):
    """Decompress one lz4 block to exactly `n` bytes.

    Raises
    ------
    OSError
        ``EBADMSG`` when the block is damaged or has another length.
    """
    cdef bytearray out = bytearray(n)
    cdef char *q = out
    cdef const void *p = _start(data)
    cdef size_t m = data.shape[0]
    cdef int status
    with nogil:
        status = vx_unlz4(p, m, q, n)
    _checked(status)
    return bytes(out)


cdef class Aead:
    """AES-256-GCM with one key; safe to use from several threads.

    Parameters
    ----------
    key : bytes
        32 bytes.
    """

    cdef vx_aead *_aead

    def __cinit__(self, bytes key not None):
        self._aead = NULL
        _sized(key, 32, "a key")
        self._aead = vx_aead_new(<const uint8_t *><char *>key)
        if self._aead is NULL:
            raise MemoryError

    def __dealloc__(self):
        vx_aead_free(self._aead)

    def seal(self, bytes nonce not None, const unsigned char[::1] data, const unsigned char[::1] ad=b""):
        """Encrypt; gives the text and, in its last 16 bytes, the tag."""
        _sized(nonce, 12, "a nonce")
        cdef size_t n = data.shape[0], ad_n = ad.shape[0]
        cdef bytearray out = bytearray(n + 16)
        cdef uint8_t *q = <uint8_t *><char *>out
        cdef const uint8_t *iv = <const uint8_t *><char *>nonce
        cdef const void *p = _start(data)
        cdef const void *a = _start(ad)
        cdef int status
        with nogil:
            status = vx_aead_seal(self._aead, iv, a, ad_n, p, n, q, q + n)
        _checked(status)
        return bytes(out)

    def open(self, bytes nonce not None, const unsigned char[::1] data, const unsigned char[::1] ad=b""):
        """Decrypt what `seal` gave.

        Raises
        ------
        OSError
            ``EBADMSG`` when key, nonce, text, tag or associated data are not those of `seal`.
        """
        _sized(nonce, 12, "a nonce")
        if data.shape[0] < 16:
            raise OSError(errno.EBADMSG, "shorter than the tag of 16 bytes")
        cdef size_t n = data.shape[0] - 16, ad_n = ad.shape[0]
        cdef bytearray out = bytearray(n)
        cdef uint8_t *q = <uint8_t *><char *>out
        cdef const uint8_t *iv = <const uint8_t *><char *>nonce
        cdef const uint8_t *p = &data[0]
        cdef const void *a = _start(ad)
        cdef int status
        with nogil:
            status = vx_aead_open(self._aead, iv, a, ad_n, p, n, q, p + n)
        _checked(status)
        return bytes(out)
