/* The bytes of segment files: block header and frames.  Pure functions over memory; docs/format-segments.md has the
 * layout. */
#ifndef VEXFS_SRC_SEGFORMAT_H
#define VEXFS_SRC_SEGFORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "vexfs/codec.h"
#include "vexfs/segment.h"

#define VX_SEG_VERSION 1u
#define VX_SEG_ID 16u
#define VX_FRAME_HEADER 64u
#define VX_FRAME_ALIGN 64u  /* frames begin at multiples of this */
#define VX_FRAME_STORED_MAX (VX_FRAME_HEADER + VX_FRAME_MAX)

enum { VX_FRAME_ENCRYPTED = 1, VX_FRAME_PADDING = 2 };

typedef struct {
    uint64_t ino, off;
    uint32_t raw_len, compression; /* as in the options: 0 none, 1 lz4 */
    uint32_t stored, flags;        /* header and data, without the gap up to the next multiple of 64 */
} vx_frame_head;

static inline uint64_t vx_frame_aligned(uint64_t n)
{
    return (n + (VX_FRAME_ALIGN - 1)) & ~(uint64_t)(VX_FRAME_ALIGN - 1);
}

/* The first block of segment `seg`. */
void vx_segblock_make(uint8_t block[VX_SEG_BLOCK], uint32_t seg, int encrypted, const uint8_t id[VX_SEG_ID]);
/* 0; -EBADMSG damaged or not this segment; -ENOTSUP written by a newer version; -ENOKEY encrypted and no key at hand,
 * or the other way round.  The block holds its 64 meaningful bytes twice. */
int vx_segblock_check(const uint8_t *block, size_t n, uint32_t seg, int encrypted, uint8_t id[VX_SEG_ID]);
/* The key of one segment file: from the volume's, the segment's number and the random id of this very file. */
vx_aead *vx_segblock_key(const uint8_t key[32], uint32_t seg, const uint8_t id[VX_SEG_ID]);

/* Writes the header.  The data stands behind it already (`aead` encrypts it where it stands), or, without `aead`,
 * elsewhere in the pieces of `iov`. */
int vx_frame_seal(uint8_t *frame, vx_aead *aead, uint32_t seg, uint32_t pos, const vx_frame_head *h);
void vx_frame_seal_pieces(uint8_t header[VX_FRAME_HEADER], uint32_t seg, uint32_t pos, const vx_frame_head *h,
                          const struct iovec *iov, uint32_t iovcnt);
/* Fills the `n` bytes (a multiple of 64, at least 64) up to the end of a block of direct I/O. */
void vx_frame_pad(uint8_t *frame, uint32_t seg, uint32_t pos, uint32_t n);
/* Reads the outer header alone: 0 with stored and flags set, or -EBADMSG.  n >= VX_FRAME_HEADER. */
int vx_frame_peek(const uint8_t *frame, uint32_t seg, uint32_t pos, vx_frame_head *h);
/* Reads the inner header of a plain frame, or of one that is decrypted: 0 with the rest of `h` set, or -EBADMSG. */
int vx_frame_inner(const uint8_t *frame, vx_frame_head *h);
/* Verifies a whole frame of `n` bytes and decrypts it where it stands: 0 or -EBADMSG.  The data of h->stored -
 * VX_FRAME_HEADER bytes then follows the header. */
int vx_frame_open(uint8_t *frame, size_t n, vx_aead *aead, uint32_t seg, uint32_t pos, vx_frame_head *h);
#endif
