#include "common/base/digest_set.h"
#include <string.h>
#include "common/base/mem.h"

enum { SLOTS_FIRST = 256 }; /* their number is a power of two */

/* The slot that holds d, or the empty one where it belongs.  A digest's bytes are as good as random. */
static Digest *find(const DigestSet *s, const Digest *d)
{
    static const Digest empty;
    uint64_t at;
    memcpy(&at, d->byte, sizeof at);
    for (;; at++) {
        Digest *slot = &s->slot[at & (uint64_t)(s->slots - 1)];
        if (memcmp(slot, d, sizeof *d) == 0 || memcmp(slot, &empty, sizeof empty) == 0)
            return slot;
    }
}

static int grow(DigestSet *s, Err *err)
{
    static const Digest empty;
    DigestSet larger = {.n = s->n, .slots = s->slots ? 2 * s->slots : SLOTS_FIRST, .zeros = s->zeros};
    if (!(larger.slot = mem_calloc(larger.slots, sizeof *larger.slot, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < s->slots; i++)
        if (memcmp(&s->slot[i], &empty, sizeof empty) != 0)
            *find(&larger, &s->slot[i]) = s->slot[i];
    mem_free(s->slot);
    *s = larger;
    return 0;
}

int digest_set_add(DigestSet *s, const Digest *d, Err *err)
{
    static const Digest empty;
    if (memcmp(d, &empty, sizeof empty) == 0) {
        int is_new = !s->zeros;
        s->zeros = 1;
        return is_new;
    }
    int rc = 4 * (s->n + 1) > 3 * s->slots ? grow(s, err) : 0;
    if (rc < 0)
        return rc;
    Digest *slot = find(s, d);
    if (memcmp(slot, d, sizeof *d) == 0)
        return 0;
    *slot = *d;
    s->n++;
    return 1;
}

void digest_set_fini(DigestSet *s)
{
    mem_free(s->slot);
    *s = (DigestSet){0};
}
