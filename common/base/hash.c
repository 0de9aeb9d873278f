#include "common/base/hash.h"
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#include "common/base/file.h"
#include "common/base/mem.h"

uint64_t hash_xxh3(const void *bytes, int64_t size)
{
    return XXH3_64bits(bytes, (size_t)size);
}

uint64_t hash_xxh3_seeded(const void *bytes, int64_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, (size_t)size, seed);
}

static EVP_MD *algorithm;
static pthread_once_t looked_up = PTHREAD_ONCE_INIT;

/* Once: looking SHA-256 up takes longer than hashing a caption.  OpenSSL frees it when the program ends. */
static void look_up(void)
{
    algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
}

int sha256_init(Sha256 *s, Err *err)
{
    pthread_once(&looked_up, look_up);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    s->impl = NULL;
    if (!ctx || EVP_DigestInit_ex(ctx, algorithm ? algorithm : EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        return err_set(err, ERR_NOMEM, "SHA-256: no context");
    }
    s->impl = ctx;
    return 0;
}

void sha256_update(Sha256 *s, const void *bytes, int64_t size)
{
    EVP_DigestUpdate(s->impl, bytes, (size_t)size); /* fails only after final, which is our own bug */
}

void sha256_final(Sha256 *s, Digest *out)
{
    EVP_DigestFinal_ex(s->impl, out->byte, NULL);
    sha256_fini(s);
}

void sha256_fini(Sha256 *s)
{
    EVP_MD_CTX_free(s->impl);
    s->impl = NULL;
}

int sha256_bytes(const void *bytes, int64_t size, Digest *out, Err *err)
{
    Sha256 s = {0};
    int rc = sha256_init(&s, err);
    if (rc < 0)
        return rc;
    sha256_update(&s, bytes, size);
    sha256_final(&s, out);
    return 0;
}

#define FILE_BLOCK (1 << 20)

int sha256_stream(FILE *f, const char *path, Digest *out, Err *err)
{
    Sha256 s = {0};
    char *block = mem_calloc(FILE_BLOCK, 1, err);
    int rc = block ? sha256_init(&s, err) : ERR_NOMEM;
    for (size_t n; rc == 0 && (n = fread(block, 1, FILE_BLOCK, f)) > 0;)
        sha256_update(&s, block, (int64_t)n);
    if (rc == 0 && ferror(f))
        rc = err_errno(err, errno, "reading '%s'", path);
    else if (rc == 0)
        sha256_final(&s, out);
    sha256_fini(&s);
    mem_free(block);
    return rc;
}

int sha256_file(const char *path, Digest *out, Err *err)
{
    FILE *f;
    int rc = file_open(&f, path, err);
    if (rc < 0)
        return rc;
    rc = sha256_stream(f, path, out, err);
    fclose(f);
    return rc;
}

void digest_hex(const Digest *d, char out[65])
{
    for (int i = 0; i < 32; i++) {
        out[2 * i] = "0123456789abcdef"[d->byte[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[d->byte[i] & 15];
    }
    out[64] = 0;
}

void sha256_final_hex(Sha256 *s, char out[65])
{
    Digest d;
    sha256_final(s, &d);
    digest_hex(&d, out);
}

int sha256_hex(const void *bytes, int64_t size, char out[65], Err *err)
{
    Digest d;
    int rc = sha256_bytes(bytes, size, &d, err);
    if (rc == 0)
        digest_hex(&d, out);
    return rc;
}

int sha256_file_hex(const char *path, char out[65], Err *err)
{
    Digest d;
    int rc = sha256_file(path, &d, err);
    if (rc == 0)
        digest_hex(&d, out);
    return rc;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

int digest_parse(const char *hex, Digest *out, Err *err)
{
    Digest d;
    if (strnlen(hex, 65) != 64)
        return err_set(err, ERR_FORMAT, "a SHA-256 is 64 hex digits, found '%.80s'", hex);
    for (int i = 0; i < 32; i++) {
        int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return err_set(err, ERR_FORMAT, "a SHA-256 is 64 hex digits, found '%s'", hex);
        d.byte[i] = (uint8_t)(high << 4 | low);
    }
    *out = d;
    return 0;
}
