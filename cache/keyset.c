#include "cache/keyset.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(Digest));
}

int keyset_add(KeySet *s, const Digest *key, Err *err)
{
    if (s->n == s->room) {
        int64_t room = s->room ? 2 * s->room : 256;
        Digest *grown = mem_realloc(s->key, room, sizeof *grown, err);
        if (!grown)
            return ERR_NOMEM;
        s->key = grown;
        s->room = room;
    }
    s->key[s->n++] = *key;
    return 0;
}

int keyset_add_hex(KeySet *s, const char *hex, Err *err)
{
    Digest key;
    int rc = digest_parse(hex, &key, err);
    return rc < 0 ? rc : keyset_add(s, &key, err);
}

void keyset_sort(KeySet *s)
{
    if (s->n > 0)
        qsort(s->key, (size_t)s->n, sizeof *s->key, compare);
    int64_t kept = 0;
    for (int64_t i = 0; i < s->n; i++)
        if (kept == 0 || compare(&s->key[kept - 1], &s->key[i]) != 0)
            s->key[kept++] = s->key[i];
    s->n = kept;
}

int64_t keyset_find(const KeySet *s, const Digest *key)
{
    const Digest *at = s->n ? bsearch(key, s->key, (size_t)s->n, sizeof *s->key, compare) : NULL;
    return at ? at - s->key : -1;
}

void keyset_fini(KeySet *s)
{
    mem_free(s->key);
    *s = (KeySet){0};
}
