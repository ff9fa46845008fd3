/* Seals and opens the pages of meta.db and the frames of its log.
 *
 * Trailer of a page (40 bytes): kind, version, 2 zero, durable u32, nonce 12, tag 16, crc32c u32.  The checksum is over
 * what is stored, so damage can be told from a wrong key, and can be looked for without one. */
#include "vexfs/vfs.h"

#include <errno.h>
#include <string.h>

#define TRAILER_VERSION 1
#define AT_DURABLE 4
#define AT_NONCE 8
#define AT_TAG 20
#define AT_CRC 36
#define AD_BYTES 32
#define MAGIC_BYTES 16u

uint32_t vx_get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t vx_get_be32(const uint8_t *p)
{
    return (uint32_t)p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}

void vx_put_le32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}

int vx_page_codec_init(vx_page_codec *c, const uint8_t *key)
{
    memset(c, 0, sizeof *c);
    pthread_mutex_init(&c->mutex, NULL);
    if (!key)
        return 0;
    uint8_t sub[32];
    int rc = vx_hkdf(key, "vexfs/meta", 1, sub);
    if (!rc && !(c->aead = vx_aead_new(sub)))
        rc = -ENOMEM;
    explicit_bzero(sub, sizeof sub);
    if (rc)
        vx_page_codec_clear(c);
    return rc;
}

void vx_page_codec_clear(vx_page_codec *c)
{
    if (c->aead)
        vx_aead_free(c->aead);
    c->aead = NULL;
    pthread_mutex_destroy(&c->mutex);
}

/* A random prefix a run of 2^32 nonces: what can collide is the number of runs, not the number of pages written. */
static int next_nonce(vx_page_codec *c, uint8_t nonce[12])
{
    int rc = 0;
    pthread_mutex_lock(&c->mutex);
    if (c->count == 0)
        rc = vx_random(c->prefix, sizeof c->prefix);
    if (!rc) {
        memcpy(nonce, c->prefix, 8);
        vx_put_le32(nonce + 8, c->count++);
    }
    pthread_mutex_unlock(&c->mutex);
    return rc;
}

static void start_trailer(uint8_t *trailer, uint8_t kind, uint32_t durable)
{
    memset(trailer, 0, VX_PAGE_TRAILER);
    trailer[0] = kind;
    trailer[1] = TRAILER_VERSION;
    vx_put_le32(trailer + AT_DURABLE, durable);
}

/* What the tag binds beside the content: kind, version, durable, the number, and a frame's own page and generation. */
static void associate(uint8_t ad[AD_BYTES], const uint8_t *trailer, uint32_t number, const uint8_t *frame_header)
{
    memset(ad, 0, AD_BYTES);
    memcpy(ad, trailer, AT_NONCE);
    vx_put_le32(ad + 8, number);
    if (frame_header)
        memcpy(ad + 12, frame_header, 16);
}

static int seal_region(vx_page_codec *c, uint8_t *region, size_t n, uint8_t *trailer, uint32_t number,
                       const uint8_t *frame_header)
{
    if (!c->aead)
        return 0;
    uint8_t ad[AD_BYTES];
    int rc = next_nonce(c, trailer + AT_NONCE);
    if (rc)
        return rc;
    associate(ad, trailer, number, frame_header);
    return vx_aead_seal(c->aead, trailer + AT_NONCE, ad, sizeof ad, region, n, region, trailer + AT_TAG);
}

static int open_region(vx_page_codec *c, uint8_t *region, size_t n, const uint8_t *trailer, uint32_t number,
                       const uint8_t *frame_header)
{
    if (!c->aead)
        return 0;
    uint8_t ad[AD_BYTES];
    associate(ad, trailer, number, frame_header);
    int rc = vx_aead_open(c->aead, trailer + AT_NONCE, ad, sizeof ad, region, n, region, trailer + AT_TAG);
    return rc == -EBADMSG ? -EKEYREJECTED : rc;
}

static uint32_t page_crc(uint32_t number, const uint8_t *page)
{
    uint8_t le[4];
    vx_put_le32(le, number);
    return vx_crc32c(vx_crc32c(0, le, sizeof le), page, VX_PAGE_BODY + AT_CRC);
}

int vx_page_seal(vx_page_codec *c, uint32_t number, uint8_t page[VX_PAGE_BYTES])
{
    uint8_t *trailer = page + VX_PAGE_BODY;
    size_t skip = number == 1 && c->aead ? MAGIC_BYTES : 0;
    if (skip)
        memcpy(page, VX_PAGE_MAGIC, MAGIC_BYTES);
    start_trailer(trailer, 'D', 0);
    int rc = seal_region(c, page + skip, VX_PAGE_BODY - skip, trailer, number, NULL);
    if (rc)
        return rc;
    vx_put_le32(trailer + AT_CRC, page_crc(number, page));
    return 0;
}

int vx_page_open(vx_page_codec *c, uint32_t number, uint8_t page[VX_PAGE_BYTES])
{
    uint8_t *trailer = page + VX_PAGE_BODY;
    size_t skip = number == 1 && c->aead ? MAGIC_BYTES : 0;
    if (trailer[0] != 'D' || trailer[1] != TRAILER_VERSION || vx_get_le32(trailer + AT_CRC) != page_crc(number, page))
        return -EBADMSG;
    int rc = open_region(c, page + skip, VX_PAGE_BODY - skip, trailer, number, NULL);
    if (rc)
        return rc;
    if (skip)
        memcpy(page, VX_PAGE_PLAIN, MAGIC_BYTES);
    memset(trailer, 0, VX_PAGE_TRAILER);
    return 0;
}

/* The sealed region of a frame begins at SQLite's own checksum in the frame header: that sum of the plaintext would
 * otherwise tell an onlooker when two pages are equal. */
#define FRAME_SEALED_AT 16u
#define FRAME_SEALED (VX_FRAME_HEADER - FRAME_SEALED_AT + VX_PAGE_BODY)

int vx_walframe_seal(vx_page_codec *c, uint32_t number, uint32_t durable, uint8_t frame[VX_WAL_FRAME])
{
    uint8_t *trailer = frame + VX_FRAME_HEADER + VX_PAGE_BODY;
    start_trailer(trailer, 'W', durable);
    int rc = seal_region(c, frame + FRAME_SEALED_AT, FRAME_SEALED, trailer, number, frame);
    if (rc)
        return rc;
    vx_put_le32(trailer + AT_CRC, vx_crc32c(0, frame, VX_WAL_FRAME - 4));
    return 0;
}

int vx_frame_check(const uint8_t frame[VX_WAL_FRAME], uint32_t *durable)
{
    const uint8_t *trailer = frame + VX_FRAME_HEADER + VX_PAGE_BODY;
    if (trailer[0] != 'W' || trailer[1] != TRAILER_VERSION ||
        vx_get_le32(trailer + AT_CRC) != vx_crc32c(0, frame, VX_WAL_FRAME - 4))
        return -EBADMSG;
    *durable = vx_get_le32(trailer + AT_DURABLE);
    return 0;
}

int vx_walframe_open(vx_page_codec *c, uint32_t number, uint8_t frame[VX_WAL_FRAME])
{
    uint32_t durable;
    uint8_t *trailer = frame + VX_FRAME_HEADER + VX_PAGE_BODY;
    int rc = vx_frame_check(frame, &durable);
    if (!rc)
        rc = open_region(c, frame + FRAME_SEALED_AT, FRAME_SEALED, trailer, number, frame);
    if (!rc)
        memset(trailer, 0, VX_PAGE_TRAILER);
    return rc;
}
