#include "common/base/keyset.h"
#include <string.h>
#include "common/base/mem.h"

/* The slot of a key, or the free one where it belongs. */
static uint32_t *slot_of(const KeySet *s, const struct KeyHalf *key)
{
    uint64_t at = key->word[0] & (uint64_t)(s->slots - 1); /* digests are random */
    while (s->slot[at] && memcmp(&s->key[s->slot[at] - 1], key, sizeof *key) != 0)
        at = (at + 1) & (uint64_t)(s->slots - 1);
    return &s->slot[at];
}

/* Room for one key more, with an eighth of the slots free. */
static int make_room(KeySet *s, Err *err)
{
    if (mem_grow(&s->key, s->n, &s->room, sizeof *s->key, err) < 0)
        return ERR_NOMEM;
    if (s->n + 1 <= s->slots / 8 * 7)
        return 0;
    int64_t slots = s->slots ? 2 * s->slots : 512;
    if (slots > (int64_t)1 << 32)
        return err_set(err, ERR_LIMIT, "more than %" PRId64 " keys", s->n);
    uint32_t *slot = mem_calloc(slots, sizeof *slot, err);
    if (!slot)
        return ERR_NOMEM;
    mem_free(s->slot);
    s->slot = slot;
    s->slots = slots;
    for (int64_t i = 0; i < s->n; i++)
        *slot_of(s, &s->key[i]) = (uint32_t)(i + 1);
    return 0;
}

static struct KeyHalf half_of(const Digest *key)
{
    struct KeyHalf half;
    memcpy(&half, key, sizeof half);
    return half;
}

int keyset_add(KeySet *s, const Digest *key, Err *err)
{
    struct KeyHalf half = half_of(key);
    int rc = make_room(s, err);
    uint32_t *slot = rc == 0 ? slot_of(s, &half) : NULL;
    if (rc == 0 && *slot == 0) {
        s->key[s->n] = half;
        *slot = (uint32_t)++s->n;
    }
    return rc;
}

int keyset_add_hex(KeySet *s, const char *hex, Err *err)
{
    Digest key;
    int rc = digest_parse(hex, &key, err);
    return rc < 0 ? rc : keyset_add(s, &key, err);
}

int64_t keyset_find(const KeySet *s, const Digest *key)
{
    struct KeyHalf half = half_of(key);
    return s->n ? (int64_t)*slot_of(s, &half) - 1 : -1;
}

void keyset_fini(KeySet *s)
{
    mem_free(s->key);
    mem_free(s->slot);
    *s = (KeySet){0};
}
