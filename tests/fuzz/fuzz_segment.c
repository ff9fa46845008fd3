/* libFuzzer: any bytes as a segment file, with the checksums put right now and then so that the parser behind them is
 * reached.  First byte: what to do; the rest: the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "segformat.h"
#include "vexfs/segment.h"

#define SEG 3u

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

/* Makes a frame at `pos` out of whatever stands there. */
static void mend(uint8_t *frame, size_t room, uint32_t pos)
{
    uint8_t place[8];
    if (room < VX_FRAME_HEADER)
        return;
    memcpy(frame, "VXFR", 4);
    uint32_t stored = get32(frame + 8) % (uint32_t)(room + 1);
    if (stored < VX_FRAME_HEADER)
        stored = VX_FRAME_HEADER;
    put32(frame + 8, stored);
    put32(frame + 16, get32(frame + 16) & 3);
    put32(frame + 20, 0);
    put32(frame + 60, get32(frame + 60) & 1);
    put32(frame + 56, get32(frame + 56) % (VX_FRAME_MAX + 2));
    put32(place, SEG);
    put32(place + 4, pos);
    uint32_t crc = vx_crc32c(0, place, 8);
    put32(frame + 12, vx_crc32c(crc, frame + 40, stored - 40));
    put32(frame + 4, vx_crc32c(crc, frame + 8, 32));
}

static int walk(void *ctx, const vx_frame_info *f)
{
    vx_segstore *s = ctx;
    if (f->err)
        return 0;
    if (f->raw_len == 0 || f->raw_len > VX_FRAME_MAX)
        abort(); /* nothing like that may get past the checks */
    uint8_t *dst = malloc(f->raw_len);
    vx_frame_get g = {.ino = f->ino, .off = f->off, .seg = SEG, .pos = f->pos, .stored = f->stored,
                      .len = f->raw_len, .dst = dst};
    vx_segstore_read(s, &g, 1);
    free(dst);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t key[32] = {7};
    static char dir[] = "/tmp/vexfs-fuzz-XXXXXX", path[64];
    if (!path[0]) {
        if (!mkdtemp(dir))
            abort();
        snprintf(path, sizeof path, "%s/%08x.seg", dir, SEG);
    }
    if (n < 1 || n > 300000)
        return 0;
    uint8_t what = *data++;
    n--;
    size_t size = n + (what & 2 ? VX_SEG_BLOCK : 0);
    uint8_t *file = malloc(size + VX_SEG_BLOCK);
    if (what & 2) {
        vx_segblock_make(file, SEG, what & 1, key);
        memcpy(file + VX_SEG_BLOCK, data, n);
    } else {
        memcpy(file, data, n);
    }
    for (size_t pos = VX_SEG_BLOCK; what & 4 && pos + VX_FRAME_HEADER <= size;
         pos += vx_frame_aligned(get32(file + pos + 8)))
        mend(file + pos, size - pos, (uint32_t)pos);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(file, 1, size, f) != size || fclose(f))
        abort();
    free(file);
    vx_segstore *s;
    vx_segstore_options o = {.dir = dir, .key = what & 1 ? key : NULL, .io_depth = 1, .read_only = 1};
    if (vx_segstore_open(&s, &o))
        abort();
    vx_segstore_scan(s, SEG, what >> 3 & 1, walk, s);
    vx_segstore_close(s);
    unlink(path);
    return 0;
}
