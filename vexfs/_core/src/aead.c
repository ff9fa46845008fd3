/* AES-256-GCM, HKDF and random bytes through OpenSSL.
 *
 * Setting up a cipher context costs as much as encrypting several KiB, so a key keeps its idle contexts: as many per
 * direction as threads were ever inside at the same time. */
#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vexfs/codec.h"

#define IDLE_MAX 16

typedef struct {
    EVP_CIPHER_CTX *idle[IDLE_MAX];
    int count;
} shelf;

struct vx_aead {
    pthread_mutex_t lock;
    shelf shelves[2]; /* open, seal */
    uint8_t key[32];
};

vx_aead *vx_aead_new(const uint8_t key[32])
{
    vx_aead *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    memcpy(a->key, key, sizeof a->key);
    return a;
}

void vx_aead_free(vx_aead *a)
{
    if (!a)
        return;
    for (int way = 0; way < 2; way++)
        for (int i = 0; i < a->shelves[way].count; i++)
            EVP_CIPHER_CTX_free(a->shelves[way].idle[i]);
    pthread_mutex_destroy(&a->lock);
    OPENSSL_cleanse(a->key, sizeof a->key);
    free(a);
}

/* A context with the key set; NULL on ENOMEM or when OpenSSL lacks the cipher. */
static EVP_CIPHER_CTX *take(vx_aead *a, int seal)
{
    shelf *s = &a->shelves[seal];
    EVP_CIPHER_CTX *c = NULL;
    pthread_mutex_lock(&a->lock);
    if (s->count)
        c = s->idle[--s->count];
    pthread_mutex_unlock(&a->lock);
    if (c)
        return c;
    c = EVP_CIPHER_CTX_new();
    if (c && EVP_CipherInit_ex(c, EVP_aes_256_gcm(), NULL, a->key, NULL, seal) != 1) {
        EVP_CIPHER_CTX_free(c);
        c = NULL;
    }
    return c;
}

static void put_back(vx_aead *a, int seal, EVP_CIPHER_CTX *c)
{
    shelf *s = &a->shelves[seal];
    pthread_mutex_lock(&a->lock);
    int kept = s->count < IDLE_MAX;
    if (kept)
        s->idle[s->count++] = c;
    pthread_mutex_unlock(&a->lock);
    if (!kept)
        EVP_CIPHER_CTX_free(c);
}

/* Nonce, associated data and the text, up to but not including the tag. */
static int run(EVP_CIPHER_CTX *c, int seal, const uint8_t *nonce, const void *ad, size_t ad_n, const void *src,
               size_t n, void *dst)
{
    int out = 0;
    if (n > INT_MAX || ad_n > INT_MAX)
        return -EINVAL;
    if (EVP_CipherInit_ex(c, NULL, NULL, NULL, nonce, seal) != 1)
        return -EIO;
    if (ad_n && EVP_CipherUpdate(c, NULL, &out, ad, (int)ad_n) != 1)
        return -EIO;
    if (n && EVP_CipherUpdate(c, dst, &out, src, (int)n) != 1)
        return -EIO;
    return 0;
}

int vx_aead_seal(vx_aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const void *src, size_t n, void *dst,
                 uint8_t tag[16])
{
    uint8_t rest[16];
    int out = 0;
    EVP_CIPHER_CTX *c = take(a, 1);
    if (!c)
        return -ENOMEM;
    int err = run(c, 1, nonce, ad, ad_n, src, n, dst);
    if (!err && (EVP_CipherFinal_ex(c, rest, &out) != 1 || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, tag) != 1))
        err = -EIO;
    put_back(a, 1, c);
    return err;
}

int vx_aead_open(vx_aead *a, const uint8_t nonce[12], const void *ad, size_t ad_n, const void *src, size_t n, void *dst,
                 const uint8_t tag[16])
{
    uint8_t want[16], rest[16];
    int out = 0;
    memcpy(want, tag, sizeof want);
    EVP_CIPHER_CTX *c = take(a, 0);
    if (!c)
        return -ENOMEM;
    int err = run(c, 0, nonce, ad, ad_n, src, n, dst);
    if (!err && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, 16, want) != 1)
        err = -EIO;
    if (!err && EVP_CipherFinal_ex(c, rest, &out) != 1)
        err = -EBADMSG;
    put_back(a, 0, c);
    if (err && n)
        OPENSSL_cleanse(dst, n); /* text that failed its tag is never handed out */
    return err;
}

int vx_hkdf(const uint8_t key[32], const char *label, uint64_t number, uint8_t out[32])
{
    static const uint8_t salt[32];
    uint8_t prk[32], info[128];
    size_t label_n = strlen(label);
    unsigned n = 0;
    if (label_n + 9 > sizeof info)
        return -EINVAL;
    memcpy(info, label, label_n);
    for (int i = 0; i < 8; i++)
        info[label_n + (size_t)i] = (uint8_t)(number >> (8 * i));
    info[label_n + 8] = 1; /* the block counter of HKDF-Expand: 32 bytes are one block */
    int ok = HMAC(EVP_sha256(), salt, sizeof salt, key, 32, prk, &n) != NULL &&
             HMAC(EVP_sha256(), prk, sizeof prk, info, label_n + 9, out, &n) != NULL;
    OPENSSL_cleanse(prk, sizeof prk);
    return ok ? 0 : -EIO;
}

int vx_random(void *out, size_t n)
{
    uint8_t *p = out;
    while (n) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
    return 0;
}
