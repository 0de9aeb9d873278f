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

/* ---- the search ------------------------------------------------------------------------------ */
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

typedef struct Clip {
    uint64_t hash[3];
    uint32_t place; /* its shade; in a table the slot that lists it */
    uint32_t rank;
} Clip;

enum {
    GROUPS_MAX = DUPLICATE_BITS_MAX / 2 + 1,
    BLOCKS_MAX = DUPLICATE_BITS_MAX + 1 + GROUPS_MAX,
    SLOTS = 4096, /* of a part of a table, which has about as many clips: 128 kB, in a core's own cache */
    PARTS_MAX = 1024,
    FEW = 500, /* so many clips are compared with all others in less time than tables take */
    SAMPLE = 10000,
    OPEN = -2
};

typedef struct Search {
    const Lookalike *item;
    int64_t n, bits, *of; /* of: OPEN where it is not decided yet */
    double colour;
    Rank *rank;                    /* [n], the most preferred first */
    uint64_t block[BLOCKS_MAX][3]; /* masks of the hash */
    int64_t blocks, groups, parts, clips;
    Clip *clip, *parted,
        *listed; /* [n] each: those not removed; by part; those of one part by slot.  Each by rank, too */
    int64_t part_end[PARTS_MAX + 1];
    uint32_t slot_end[SLOTS + 1];
    uint32_t *best; /* [n], by rank: the best rank of what looks alike so far; its own where there is none */
} Search;

/* The bits that vary most, in a sample, go to the blocks in turn. */
static void deal_out_bits(Search *s)
{
    Bit bit[LOOKALIKE_BITS];
    int64_t step = s->n / SAMPLE + 1, n = 0, set[LOOKALIKE_BITS] = {0};
    for (int64_t i = 0; i < s->n; i += step, n++)
        for (int b = 0; b < LOOKALIKE_BITS; b++)
            set[b] += (int64_t)(s->item[i].hash[b / 64] >> b % 64 & 1);
    for (int b = 0; b < LOOKALIKE_BITS; b++)
        bit[b] = (Bit){set[b] < n - set[b] ? set[b] : n - set[b], b};
    qsort(bit, LOOKALIKE_BITS, sizeof *bit, by_evenness);
    for (int b = 0; b < LOOKALIKE_BITS; b++)
        s->block[b % s->blocks][bit[b].at / 64] |= (uint64_t)1 << bit[b].at % 64;
}

static int search_open(Search *s, Err *err)
{
    if (s->n >= UINT32_MAX)
        return err_set(err, ERR_LIMIT, "too many clips to compare");
    s->groups = s->bits / 2 + 1;
    s->blocks = s->bits + 1 + s->groups;
    for (s->parts = 1; s->parts < PARTS_MAX && s->parts * SLOTS < s->n;)
        s->parts *= 2;
    s->rank = mem_calloc(s->n, sizeof *s->rank, err);
    s->clip = mem_calloc(s->n, sizeof *s->clip, err);
    s->parted = mem_calloc(s->n, sizeof *s->parted, err);
    s->listed = mem_calloc(s->n, sizeof *s->listed, err);
    s->best = mem_calloc(s->n, sizeof *s->best, err);
    if (!s->rank || !s->clip || !s->parted || !s->listed || !s->best)
        return ERR_NOMEM;
    for (int64_t i = 0; i < s->n; i++) {
        s->rank[i] = (Rank){s->item[i].pixels, s->item[i].bytes, i};
        s->of[i] = OPEN;
    }
    qsort(s->rank, (size_t)s->n, sizeof *s->rank, by_rank);
    deal_out_bits(s);
    return 0;
}

static void search_close(Search *s)
{
    mem_free(s->rank);
    mem_free(s->clip);
    mem_free(s->parted);
    mem_free(s->listed);
    mem_free(s->best);
}

/* Mean red in steps of the colour distance: clips that look alike are at most one step apart. */
static uint32_t shade(const Lookalike *item, double colour)
{
    return (uint32_t)(int64_t)floor(item->rgb[0] / (colour > 0.01 ? colour : 0.01));
}

/* Those that are kept or open. */
static void take_clips(Search *s)
{
    s->clips = 0;
    for (int64_t r = 0; r < s->n; r++) {
        const Lookalike *x = &s->item[s->rank[r].at];
        int64_t of = s->of[s->rank[r].at];
        s->best[r] = of == OPEN ? (uint32_t)r : 0;
        if (of < 0)
            s->clip[s->clips++] = (Clip){{x->hash[0], x->hash[1], x->hash[2]}, shade(x, s->colour), (uint32_t)r};
    }
}

#if defined(__x86_64__) /* an instruction that all of them have had since 2008 */
#define WITH_POPCNT __attribute__((target("popcnt")))
#else
#define WITH_POPCNT
#endif

/* Looks through list[0..n), which is in the order of rank, for a better best of `a`. */
WITH_POPCNT static void look_through(Search *s, const Clip *a, const Clip *list, int64_t n)
{
    for (const Clip *b = list; b < list + n && b->rank < a->rank; b++) {
        if (__builtin_popcountll(a->hash[0] ^ b->hash[0]) + __builtin_popcountll(a->hash[1] ^ b->hash[1]) +
                __builtin_popcountll(a->hash[2] ^ b->hash[2]) >
            s->bits)
            continue;
        if (b->rank >= s->best[a->rank])
            return;
        const int64_t i = s->rank[a->rank].at, k = s->rank[b->rank].at;
        const Lookalike *p = &s->item[i], *q = &s->item[k];
        if (s->of[k] < 0 && p->source != q->source && lookalike_colour(p, q) < s->colour) {
            s->best[a->rank] = b->rank;
            return;
        }
    }
}

/* ---- tables ---------------------------------------------------------------------------------- */

static uint64_t mixed(const Clip *c, const uint64_t mask[3])
{
    uint64_t h = (c->hash[0] & mask[0]) * 0x9e3779b97f4a7c15u;
    h = ((h ^ h >> 32) + (c->hash[1] & mask[1])) * 0xd6e8feb86659fd93u;
    return ((h ^ h >> 32) + (c->hash[2] & mask[2])) * 0xa0761d6478bd642fu;
}

/* A part for clips with the same bits under the mask; which slot of it, the shade says as well: slots
 * of neighbouring shades lie side by side, and the first beside the last. */
static void deal_to_parts(Search *s, const uint64_t mask[3])
{
    memset(s->part_end, 0, sizeof s->part_end);
    for (int64_t i = 0; i < s->clips; i++)
        s->part_end[(mixed(&s->clip[i], mask) >> 48) % (uint64_t)s->parts + 1]++;
    for (int64_t p = 1; p <= s->parts; p++)
        s->part_end[p] += s->part_end[p - 1];
    for (int64_t i = 0; i < s->clips; i++) { /* part_end[p] is where part p begins until its clips are there */
        uint64_t h = mixed(&s->clip[i], mask);
        Clip *to = &s->parted[s->part_end[(h >> 48) % (uint64_t)s->parts]++];
        *to = s->clip[i];
        to->place = (uint32_t)((h >> 20) + to->place) % SLOTS;
    }
}

static void list_part(Search *s, const Clip *clip, int64_t n)
{
    memset(s->slot_end, 0, sizeof s->slot_end);
    for (int64_t i = 0; i < n; i++)
        s->slot_end[clip[i].place + 1]++;
    for (int k = 1; k <= SLOTS; k++)
        s->slot_end[k] += s->slot_end[k - 1];
    for (int64_t i = 0; i < n; i++)
        s->listed[s->slot_end[clip[i].place]++] = clip[i];
}

static void compare_part(Search *s, const Clip *clip, int64_t n)
{
    list_part(s, clip, n);
    for (int64_t i = 0; i < n; i++)
        for (uint32_t k = SLOTS - 1; k <= SLOTS + 1; k++) {
            uint32_t slot = (s->listed[i].place + k) % SLOTS, begin = slot ? s->slot_end[slot - 1] : 0;
            look_through(s, &s->listed[i], s->listed + begin, s->slot_end[slot] - begin);
        }
}

/* One table for each two blocks of a group. */
static void compare_by_tables(Search *s)
{
    for (int64_t i = 0; i < s->blocks; i++)
        for (int64_t j = i + s->groups; j < s->blocks; j += s->groups) {
            const uint64_t *a = s->block[i], *b = s->block[j], mask[3] = {a[0] | b[0], a[1] | b[1], a[2] | b[2]};
            deal_to_parts(s, mask);
            for (int64_t p = 0, begin = 0; p < s->parts; begin = s->part_end[p++])
                compare_part(s, s->parted + begin, s->part_end[p] - begin);
        }
}

/* ---- decisions ------------------------------------------------------------------------------- */

/* What the found decides: kept is who looks like none, removed who looks like a kept one.  It stays
 * open where the best it looks like was removed or is open itself. */
static int is_open(Search *s, int64_t r)
{
    int64_t *of = &s->of[s->rank[r].at], best = s->rank[s->best[r]].at;
    if (*of == OPEN && s->best[r] == r)
        *of = -1;
    else if (*of == OPEN && s->of[best] == -1)
        *of = best;
    return *of == OPEN;
}

/* The open ones in the order of rank, each against all before it, which are decided. */
static void decide_one_by_one(Search *s)
{
    for (int64_t i = 0; i < s->clips; i++) {
        const Clip *a = &s->clip[i];
        if (s->of[s->rank[a->rank].at] == OPEN)
            look_through(s, a, s->clip, i);
        (void)is_open(s, a->rank);
    }
}

int duplicates_find(const Lookalike *item, int64_t n, int64_t bits, double colour, int64_t *of, Err *err)
{
    Search s = {.item = item, .n = n, .bits = bits, .colour = colour, .of = of};
    if (bits < 0 || bits > DUPLICATE_BITS_MAX)
        return err_set(err, ERR_USAGE, "at most %d bits may differ", DUPLICATE_BITS_MAX);
    int rc = search_open(&s, err);
    for (int64_t open = rc == 0 ? n : 0; open > 0;) {
        take_clips(&s);
        if (open <= FEW) {
            decide_one_by_one(&s);
            break;
        }
        compare_by_tables(&s);
        open = 0;
        for (int64_t r = 0; r < n; r++)
            open += is_open(&s, r);
    }
    search_close(&s);
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
