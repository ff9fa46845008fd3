/* The bytes of segment files.
 *
 * A frame's checksums are started from the segment and the position, so that a frame found in the wrong place is as
 * damaged as one with a flipped bit; under encryption the same two are associated data. */
#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "segformat.h"

#define SEG_MAGIC "VEXFSSEG"
#define FRAME_MAGIC 0x52465856u /* "VXFR" */

/* Offsets within a frame's header. */
enum {
    F_MAGIC = 0, F_CRC = 4, F_STORED = 8, F_DATA_CRC = 12, F_FLAGS = 16, F_ZERO = 20, F_TAG = 24,
    F_INNER = 40, F_INO = 40, F_OFF = 48, F_RAW = 56, F_COMPRESSION = 60
};
/* Offsets within the first block. */
enum {
    B_MAGIC = 0, B_VERSION = 8, B_SEG = 12, B_FLAGS = 16, B_BLOCK = 20, B_ID = 24, B_CRC = 60, B_USED = 64,
    B_COPY = 2048
};

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* -- the first block ------------------------------------------------------------------------------------------ */

void vx_segblock_make(uint8_t block[VX_SEG_BLOCK], uint32_t seg, int encrypted, const uint8_t id[VX_SEG_ID])
{
    memset(block, 0, VX_SEG_BLOCK);
    memcpy(block + B_MAGIC, SEG_MAGIC, 8);
    put32(block + B_VERSION, VX_SEG_VERSION);
    put32(block + B_SEG, seg);
    put32(block + B_FLAGS, encrypted ? VX_FRAME_ENCRYPTED : 0);
    put32(block + B_BLOCK, VX_SEG_BLOCK);
    memcpy(block + B_ID, id, VX_SEG_ID);
    put32(block + B_CRC, vx_crc32c(0, block, B_CRC));
    memcpy(block + B_COPY, block, B_USED);
}

static int check_copy(const uint8_t *block, uint32_t seg, int encrypted, uint8_t id[VX_SEG_ID])
{
    if (memcmp(block + B_MAGIC, SEG_MAGIC, 8) != 0)
        return -EBADMSG;
    if (get32(block + B_CRC) != vx_crc32c(0, block, B_CRC))
        return -EBADMSG;
    if (get32(block + B_VERSION) > VX_SEG_VERSION)
        return -ENOTSUP;
    uint32_t flags = get32(block + B_FLAGS);
    if (get32(block + B_VERSION) == 0 || get32(block + B_SEG) != seg || get32(block + B_BLOCK) != VX_SEG_BLOCK ||
        (flags & ~(uint32_t)VX_FRAME_ENCRYPTED))
        return -EBADMSG;
    if ((flags & VX_FRAME_ENCRYPTED) != (encrypted ? VX_FRAME_ENCRYPTED : 0u))
        return -ENOKEY;
    memcpy(id, block + B_ID, VX_SEG_ID);
    return 0;
}

int vx_segblock_check(const uint8_t *block, size_t n, uint32_t seg, int encrypted, uint8_t id[VX_SEG_ID])
{
    int err = n >= B_USED ? check_copy(block, seg, encrypted, id) : -EBADMSG;
    if (err == -EBADMSG && n >= B_COPY + B_USED) /* without the id no frame of an encrypted segment can be read */
        err = check_copy(block + B_COPY, seg, encrypted, id);
    return err;
}

vx_aead *vx_segblock_key(const uint8_t key[32], uint32_t seg, const uint8_t id[VX_SEG_ID])
{
    uint8_t a[32], b[32];
    vx_aead *made = NULL;
    /* The id takes part because a number can come back with other content: after a restore from a backup, or when a
     * power cut took a segment away.  The positions would then repeat as nonces under one key. */
    if (!vx_hkdf(key, "segment", seg, a) && !vx_hkdf(a, "segment id", get64(id), b) &&
        !vx_hkdf(b, "segment id", get64(id + 8), a))
        made = vx_aead_new(a);
    OPENSSL_cleanse(a, sizeof a);
    OPENSSL_cleanse(b, sizeof b);
    return made;
}

/* -- frames --------------------------------------------------------------------------------------------------- */

static uint32_t place_crc(uint32_t seg, uint32_t pos)
{
    uint8_t place[8];
    put32(place, seg);
    put32(place + 4, pos);
    return vx_crc32c(0, place, sizeof place);
}

typedef struct {
    uint8_t nonce[12], ad[20];
} binding;

static binding bound(const uint8_t *frame, uint32_t seg, uint32_t pos)
{
    binding b = {{0}, {0}};
    put32(b.nonce, pos);
    put32(b.ad, seg);
    put32(b.ad + 4, pos);
    memcpy(b.ad + 8, frame + F_MAGIC, 4);
    memcpy(b.ad + 12, frame + F_STORED, 4);
    memcpy(b.ad + 16, frame + F_FLAGS, 4);
    return b;
}

static void fill(uint8_t *header, const vx_frame_head *h)
{
    memset(header, 0, VX_FRAME_HEADER);
    put32(header + F_MAGIC, FRAME_MAGIC);
    put32(header + F_STORED, h->stored);
    put32(header + F_FLAGS, h->flags);
    put64(header + F_INO, h->ino);
    put64(header + F_OFF, h->off);
    put32(header + F_RAW, h->raw_len);
    put32(header + F_COMPRESSION, h->compression);
}

static void finish(uint8_t *header, uint32_t place, uint32_t data_crc)
{
    put32(header + F_DATA_CRC, data_crc);
    put32(header + F_CRC, vx_crc32c(place, header + F_STORED, F_INNER - F_STORED));
}

int vx_frame_seal(uint8_t *frame, vx_aead *aead, uint32_t seg, uint32_t pos, const vx_frame_head *h)
{
    fill(frame, h);
    if (aead) {
        binding b = bound(frame, seg, pos);
        int err = vx_aead_seal(aead, b.nonce, b.ad, sizeof b.ad, frame + F_INNER, h->stored - F_INNER,
                               frame + F_INNER, frame + F_TAG);
        if (err)
            return err;
    }
    uint32_t place = place_crc(seg, pos);
    finish(frame, place, vx_crc32c(place, frame + F_INNER, h->stored - F_INNER));
    return 0;
}

void vx_frame_seal_pieces(uint8_t header[VX_FRAME_HEADER], uint32_t seg, uint32_t pos, const vx_frame_head *h,
                          const struct iovec *iov, uint32_t iovcnt)
{
    fill(header, h);
    uint32_t place = place_crc(seg, pos), crc = vx_crc32c(place, header + F_INNER, VX_FRAME_HEADER - F_INNER);
    for (uint32_t i = 0; i < iovcnt; i++)
        crc = vx_crc32c(crc, iov[i].iov_base, iov[i].iov_len);
    finish(header, place, crc);
}

void vx_frame_pad(uint8_t *frame, uint32_t seg, uint32_t pos, uint32_t n)
{
    vx_frame_head h = {.stored = n, .flags = VX_FRAME_PADDING};
    memset(frame, 0, n);
    fill(frame, &h);
    finish(frame, place_crc(seg, pos), 0);
}

int vx_frame_peek(const uint8_t *frame, uint32_t seg, uint32_t pos, vx_frame_head *h)
{
    if (get32(frame + F_MAGIC) != FRAME_MAGIC)
        return -EBADMSG;
    if (get32(frame + F_CRC) != vx_crc32c(place_crc(seg, pos), frame + F_STORED, F_INNER - F_STORED))
        return -EBADMSG;
    memset(h, 0, sizeof *h);
    h->stored = get32(frame + F_STORED);
    h->flags = get32(frame + F_FLAGS);
    if (h->flags & ~(uint32_t)(VX_FRAME_ENCRYPTED | VX_FRAME_PADDING) || get32(frame + F_ZERO) ||
        h->stored < VX_FRAME_HEADER || h->stored > VX_FRAME_STORED_MAX)
        return -EBADMSG;
    return 0;
}

int vx_frame_inner(const uint8_t *frame, vx_frame_head *h)
{
    h->stored = get32(frame + F_STORED);
    h->flags = get32(frame + F_FLAGS);
    h->ino = get64(frame + F_INO);
    h->off = get64(frame + F_OFF);
    h->raw_len = get32(frame + F_RAW);
    h->compression = get32(frame + F_COMPRESSION);
    uint32_t data = h->stored - VX_FRAME_HEADER;
    if (h->raw_len == 0 || h->raw_len > VX_FRAME_MAX || h->compression > 1 ||
        (h->compression ? data >= h->raw_len : data != h->raw_len))
        return -EBADMSG;
    return 0;
}

int vx_frame_open(uint8_t *frame, size_t n, vx_aead *aead, uint32_t seg, uint32_t pos, vx_frame_head *h)
{
    if (n < VX_FRAME_HEADER || vx_frame_peek(frame, seg, pos, h) || h->stored != n || (h->flags & VX_FRAME_PADDING))
        return -EBADMSG;
    if (vx_crc32c(place_crc(seg, pos), frame + F_INNER, n - F_INNER) != get32(frame + F_DATA_CRC))
        return -EBADMSG;
    if (!(h->flags & VX_FRAME_ENCRYPTED) != !aead)
        return -EBADMSG; /* a frame in clear has no place in an encrypted segment: anyone could have put it there */
    if (aead) {
        binding b = bound(frame, seg, pos);
        int err = vx_aead_open(aead, b.nonce, b.ad, sizeof b.ad, frame + F_INNER, n - F_INNER, frame + F_INNER,
                               frame + F_TAG);
        if (err)
            return err;
    }
    return vx_frame_inner(frame, h);
}
