#include "prep/set/duplicates.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/line.h"

/* ---- distance -------------------------------------------------------------------------------- */
static int64_t ones(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return (int64_t)(((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

int64_t lookalike_distance(const Lookalike *a, const Lookalike *b)
{
    return ones(a->hash[0] ^ b->hash[0]) + ones(a->hash[1] ^ b->hash[1]) + ones(a->hash[2] ^ b->hash[2]);
}

static double distance(const double a[3], const double b[3])
{
    double sum = 0;
    for (int c = 0; c < 3; c++)
        sum += (a[c] - b[c]) * (a[c] - b[c]);
    return sqrt(sum);
}

double lookalike_colour(const Lookalike *a, const Lookalike *b)
{
    double whole = distance(a->rgb, b->rgb), seen = a->seen && b->seen ? distance(a->seen_rgb, b->seen_rgb) : 0;
    return seen > whole ? seen : whole;
}

/* ---- the index ------------------------------------------------------------------------------- */
typedef struct Rank {
    int64_t pixels, bytes, at;
} Rank;

static int by_rank(const void *a, const void *b)
{
    const Rank *x = a, *y = b;
    if (x->pixels != y->pixels)
        return x->pixels > y->pixels ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

typedef struct Bit {
    int64_t evenness; /* how many clips are on the rarer side */
    int at;
} Bit;

static int by_evenness(const void *a, const void *b)
{
    const Bit *x = a, *y = b;
    if (x->evenness != y->evenness)
        return x->evenness > y->evenness ? -1 : 1;
    return x->at - y->at;
}

/* A clip as a slot lists it: five sixths of its hash, which tells nearly all clips apart without a look
 * elsewhere in memory. */
typedef struct Entry {
    uint64_t hash[2];
    uint32_t low, rank; /* low: of the third word of the hash */
} Entry;

/* Where a slot's entries lie among all, and how many there are; in the order of rank. */
typedef struct Slot {
    uint32_t start, n;
} Slot;

typedef struct Index {
    int64_t bands, size;                      /* size: of slots, a power of two */
    uint64_t mask[DUPLICATE_BITS_MAX + 1][3]; /* the bits of a band */
    Slot *slot;                               /* [size + 2]: the slots of neighbouring shades lie side by side */
    Entry *entry;
} Index;

static int bit_of(const Lookalike *x, int at)
{
    return (int)(x->hash[at / 64] >> at % 64 & 1);
}

/* Mean red in steps of the colour distance: clips that look alike are at most one step apart. */
static int64_t shade(const Lookalike *item, double colour)
{
    return (int64_t)floor(item->rgb[0] / (colour > 0.01 ? colour : 0.01));
}

/* For each band of a clip's hash the slot of its shade, which stands between those of the next shades. */
static void slots(const Index *x, const Lookalike *item, double colour, int64_t *slot)
{
    uint64_t step = (uint64_t)shade(item, colour);
    for (int64_t b = 0; b < x->bands; b++) {
        const uint64_t *mask = x->mask[b];
        uint64_t h = (item->hash[0] & mask[0]) * 0x9e3779b97f4a7c15u;
        h = ((h ^ h >> 32) + (item->hash[1] & mask[1])) * 0xd6e8feb86659fd93u;
        h = ((h ^ h >> 32) + (item->hash[2] & mask[2]) + (uint64_t)b) * 0xa0761d6478bd642fu;
        h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
        slot[b] = 1 + (int64_t)(((h >> 20) + step) & (uint64_t)(x->size - 1));
    }
}

static void deal_out_bits(Index *x, const Lookalike *item, int64_t n)
{
    Bit bit[LOOKALIKE_BITS];
    for (int b = 0; b < LOOKALIKE_BITS; b++) {
        int64_t set = 0;
        for (int64_t i = 0; i < n; i++)
            set += bit_of(&item[i], b);
        bit[b] = (Bit){set < n - set ? set : n - set, b};
    }
    qsort(bit, LOOKALIKE_BITS, sizeof *bit, by_evenness);
    for (int b = 0; b < LOOKALIKE_BITS; b++)
        x->mask[b % x->bands][bit[b].at / 64] |= (uint64_t)1 << bit[b].at % 64;
}

/* Empty, with room in each slot for all that can come. */
static int index_open(Index *x, const Lookalike *item, int64_t n, int64_t bands, double colour, Err *err)
{
    int64_t entries, slot[DUPLICATE_BITS_MAX + 1];
    x->bands = bands;
    if (mem_mul(n, bands, &entries) < 0 || entries > UINT32_MAX)
        return err_set(err, ERR_LIMIT, "too many clips to compare");
    for (x->size = 64; x->size < entries;)
        x->size *= 2;
    x->slot = mem_calloc(x->size + 2, sizeof *x->slot, err);
    x->entry = mem_calloc(entries, sizeof *x->entry, err);
    if (!x->slot || !x->entry)
        return ERR_NOMEM;
    deal_out_bits(x, item, n);
    for (int64_t i = 0; i < n; i++) {
        slots(x, &item[i], colour, slot);
        for (int64_t b = 0; b < bands; b++)
            x->slot[slot[b]].n++;
    }
    uint32_t start = 0;
    for (int64_t k = 0; k < x->size + 2; k++) {
        uint32_t room = x->slot[k].n;
        x->slot[k] = (Slot){start, 0};
        start += room;
    }
    return 0;
}

/* The better of rank `best` and what a slot and those of the next shades list. */
#if defined(__x86_64__) /* an instruction that all of them have had since 2008 */
__attribute__((target("popcnt")))
#endif
static int64_t
nearest(const Index *x, const Lookalike *item, const Rank *rank, int64_t slot, const Lookalike *a, int64_t bits,
        double colour, int64_t best)
{
    for (int64_t k = slot - 1; k <= slot + 1; k++) {
        const Entry *e = x->entry + x->slot[k].start, *end = e + x->slot[k].n;
        for (; e < end && e->rank < best; e++) {
            if (__builtin_popcountll(e->hash[0] ^ a->hash[0]) + __builtin_popcountll(e->hash[1] ^ a->hash[1]) +
                    __builtin_popcount(e->low ^ (uint32_t)a->hash[2]) >
                bits)
                continue;
            const Lookalike *q = &item[rank[e->rank].at];
            if (lookalike_distance(a, q) <= bits && q->source != a->source && lookalike_colour(a, q) < colour)
                best = e->rank;
        }
    }
    return best;
}

/* Memory is asked for what a clip's turn will read while others have theirs: the slots AHEAD turns
 * before, what they list half as many. */
enum { AHEAD = 8 };

typedef struct Turns {
    const Index *x;
    const Lookalike *item;
    const Rank *rank;
    int64_t n;
    double colour;
    int64_t slot[AHEAD][DUPLICATE_BITS_MAX + 1]; /* of the clip of rank r at r % AHEAD */
} Turns;

static void ask_for_slots(Turns *t, int64_t r)
{
    if (r >= t->n)
        return;
    int64_t *slot = t->slot[r % AHEAD];
    slots(t->x, &t->item[t->rank[r].at], t->colour, slot);
    for (int64_t b = 0; b < t->x->bands; b++)
        __builtin_prefetch(&t->x->slot[slot[b]]);
}

static void ask_for_entries(const Turns *t, int64_t r)
{
    for (int64_t b = 0; r < t->n && b < t->x->bands; b++) {
        const Slot *s = &t->x->slot[t->slot[r % AHEAD][b]];
        for (int k = -1; k <= 1; k++)
            __builtin_prefetch(&t->x->entry[s[k].start]);
    }
}

static void add_entry(Index *x, const int64_t *slot, const Lookalike *a, int64_t rank)
{
    for (int64_t b = 0; b < x->bands; b++) {
        Slot *s = &x->slot[slot[b]];
        x->entry[s->start + s->n++] = (Entry){{a->hash[0], a->hash[1]}, (uint32_t)a->hash[2], (uint32_t)rank};
    }
}

int duplicates_find(const Lookalike *item, int64_t n, int64_t bits, double colour, int64_t *of, Err *err)
{
    Index x = {0};
    if (bits < 0 || bits > DUPLICATE_BITS_MAX)
        return err_set(err, ERR_USAGE, "at most %d bits may differ", DUPLICATE_BITS_MAX);
    Rank *rank = mem_calloc(n, sizeof *rank, err);
    int rc = rank ? index_open(&x, item, n, bits + 1, colour, err) : ERR_NOMEM;
    for (int64_t i = 0; i < n && rc == 0; i++)
        rank[i] = (Rank){item[i].pixels, item[i].bytes, i};
    if (rc == 0)
        qsort(rank, (size_t)n, sizeof *rank, by_rank);
    Turns turns = {.x = &x, .item = item, .rank = rank, .n = rc == 0 ? n : 0, .colour = colour};
    for (int64_t r = 0; r < AHEAD - 1; r++)
        ask_for_slots(&turns, r);
    for (int64_t r = 0; r < n && rc == 0; r++) {
        const Lookalike *a = &item[rank[r].at];
        const int64_t *slot = turns.slot[r % AHEAD];
        int64_t best = n;
        ask_for_slots(&turns, r + AHEAD - 1);
        ask_for_entries(&turns, r + AHEAD / 2);
        for (int64_t b = 0; b < x.bands; b++)
            best = nearest(&x, item, rank, slot[b], a, bits, colour, best);
        of[rank[r].at] = best < n ? rank[best].at : -1;
        if (best == n)
            add_entry(&x, slot, a, r);
    }
    mem_free(x.slot);
    mem_free(x.entry);
    mem_free(rank);
    return rc;
}

/* ---- manifest lines -------------------------------------------------------------------------- */
typedef struct Set {
    Lookalike *item;
    int64_t *line, *of; /* the item's place among the lines; duplicates_find's answer */
    char **id;
    int64_t n;
    json_t *sources; /* path -> number */
} Set;

static int add_line(Set *set, const char *text, int64_t at, Err *err)
{
    json_t *record;
    int rc = json_parse(&record, text, (int64_t)strlen(text), "manifest line", err);
    if (rc < 0)
        return rc;
    ManifestLine line;
    line_read(&line, record);
    if (!line.rejected && line.measured) {
        const LineQuality *q = &line.quality;
        Lookalike *x = &set->item[set->n];
        x->seen = q->has_colour;
        for (int i = 0; i < 3; i++) {
            x->hash[i] = q->hashes[i];
            x->rgb[i] = q->mean_rgb[i];
            x->seen_rgb[i] = q->visible_rgb[i];
        }
        x->pixels = line.probe.width * line.probe.height;
        x->bytes = line.source_size;
        if (!json_object_get(set->sources, line.source_path) &&
            json_object_set_new_nocheck(set->sources, line.source_path,
                                        json_integer((json_int_t)json_object_size(set->sources))) < 0)
            rc = err_set(err, ERR_NOMEM, "out of memory for the list of sources");
        x->source = json_integer_value(json_object_get(set->sources, line.source_path));
        set->line[set->n] = at;
        set->id[set->n] = mem_strdup(line.id, err);
        if (!set->id[set->n++])
            rc = ERR_NOMEM;
    }
    json_decref(record);
    return rc;
}

static int mark_line(char **line, const Set *set, int64_t i, const QualityLimits *l, const Log *log, Err *err)
{
    const Lookalike *a = &set->item[i], *b = &set->item[set->of[i]];
    json_t *record;
    char text[512];
    int rc = json_parse(&record, *line, (int64_t)strlen(*line), "manifest line", err);
    if (rc < 0)
        return rc;
    snprintf(text, sizeof text, "looks like '%s': %" PRId64 " of %d bits differ, colours are %.2f apart%s",
             set->id[set->of[i]], lookalike_distance(a, b), LOOKALIKE_BITS, lookalike_colour(a, b),
             l->duplicates == FOUND_WARN ? "" : "; that one is kept");
    rc = l->duplicates == FOUND_WARN ? line_add_note(record, REASON_NEAR_DUPLICATE, text, err)
                                     : line_reject(record, REASON_NEAR_DUPLICATE, text, err);
    char *marked = rc < 0 ? NULL : json_text(record, 0, err);
    json_decref(record);
    if (!marked)
        return ERR_NOMEM;
    mem_free(*line);
    *line = marked;
    log_warn(log, "clip '%s' %s: near_duplicate: %s", set->id[i],
             l->duplicates == FOUND_WARN ? "is noted" : "is rejected", text);
    return 0;
}

int duplicates_mark(char **lines, int64_t n, const QualityLimits *limits, const Log *log, Err *err)
{
    if (limits->duplicates == FOUND_IGNORE)
        return 0;
    Set set = {.item = mem_calloc(n, sizeof *set.item, err),
               .line = mem_calloc(n, sizeof *set.line, err),
               .of = mem_calloc(n, sizeof *set.of, err),
               .id = mem_calloc(n, sizeof *set.id, err),
               .sources = json_object()};
    int rc = set.item && set.line && set.of && set.id && set.sources
                 ? 0
                 : err_set(err, ERR_NOMEM, "out of memory for the set of clips");
    for (int64_t i = 0; i < n && rc == 0; i++)
        rc = add_line(&set, lines[i], i, err);
    if (rc == 0)
        rc = duplicates_find(set.item, set.n, limits->duplicate_bits, limits->duplicate_colour, set.of, err);
    for (int64_t i = 0; i < set.n && rc == 0; i++)
        if (set.of[i] >= 0)
            rc = mark_line(&lines[set.line[i]], &set, i, limits, log, err);
    for (int64_t i = 0; i < set.n; i++)
        mem_free(set.id[i]);
    mem_free(set.item);
    mem_free(set.line);
    mem_free(set.of);
    mem_free(set.id);
    json_decref(set.sources);
    return rc;
}
