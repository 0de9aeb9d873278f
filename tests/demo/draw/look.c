#include "tests/demo/draw/look.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "common/base/rng.h"

const char *const colour_words[] = {"red", "yellow", "green", "blue", "purple", "black"};
const char *const pattern_words[] = {"plain", "striped", "dotted", "floral", "checked"};
const char *const garment_words[] = {"dress", "top", "skirt", "coat"};
const char *const sleeve_words[] = {"without sleeves", "with short sleeves", "with long sleeves"};
const char *const motion_words[] = {"walks", "turns"};

int look_has_sleeves(const Look *k)
{
    return k->garment == DRESS || k->garment == TOP;
}

int look_held_out(const Look *k)
{
    return (k->colour + k->pattern + k->garment) % GARMENTS == 0;
}

void look_caption(LookSet set, const Look *k, char out[CAPTION_MAX])
{
    if (set == SET_PLAIN)
        snprintf(out, CAPTION_MAX, "a woman in a %s %s", garment_words[k->garment], motion_words[k->motion]);
    else
        snprintf(out, CAPTION_MAX, "a woman in a %s %s %s%s%s %s", colour_words[k->colour], pattern_words[k->pattern],
                 garment_words[k->garment], look_has_sleeves(k) ? " " : "",
                 look_has_sleeves(k) ? sleeve_words[k->sleeve] : "", motion_words[k->motion]);
}

/* Sleeves as the garment has them. */
static Sleeve sleeve_of(Garment g, int wanted)
{
    return g == COAT ? LONG_SLEEVES : g == SKIRT ? SHORT_SLEEVES : (Sleeve)wanted;
}

Look look_clip(LookSet set, uint64_t seed, int64_t index, int held_out)
{
    enum { COMBINATIONS = COLOURS * PATTERNS * GARMENTS };
    Philox draw = philox_stream(seed, RNG_TEST, (uint64_t)set * 2 + (uint64_t)held_out, (uint64_t)index);
    Look k = {0};
    if (set == SET_PLAIN) {
        k.garment = (Garment)(index % GARMENTS);
        k.motion = (Motion)(index / GARMENTS % MOTIONS);
        k.colour = (Colour)philox_below(&draw, 0, COLOURS);
        k.grey = philox_below(&draw, 1, COLOURS + 1) == 0;
        k.sleeve = sleeve_of(k.garment, SHORT_SLEEVES);
    } else {
        /* Each round shows every combination of its kind once, in an order of its own. */
        int64_t order[COMBINATIONS],
            kept = 0, per_round = held_out ? COMBINATIONS / GARMENTS : COMBINATIONS - COMBINATIONS / GARMENTS;
        int64_t round = index / per_round, wanted = index % per_round;
        Philox shuffle = philox_stream(seed, RNG_TEST, 4 + (uint64_t)held_out, (uint64_t)round);
        philox_permutation(&shuffle, order, COMBINATIONS);
        for (int64_t i = 0; i < COMBINATIONS; i++) {
            k.colour = (Colour)(order[i] % COLOURS);
            k.pattern = (Pattern)(order[i] / COLOURS % PATTERNS);
            k.garment = (Garment)(order[i] / COLOURS / PATTERNS);
            if (look_held_out(&k) == held_out && kept++ == wanted)
                break;
        }
        k.motion = (Motion)philox_below(&draw, 0, MOTIONS);
        k.sleeve = sleeve_of(k.garment, (int)philox_below(&draw, 1, SLEEVES));
    }
    k.skin = (int)philox_below(&draw, 2, 3);
    k.hair = (int)philox_below(&draw, 3, 3);
    k.hair_style = (int)philox_below(&draw, 4, 3);
    k.phase = philox_uniform(&draw, 5);
    k.pace = philox_uniform(&draw, 6);
    k.yaw = philox_uniform(&draw, 7) * 2 - 1;
    k.x = philox_uniform(&draw, 8) * 2 - 1;
    k.scale = philox_uniform(&draw, 9) * 2 - 1;
    k.warm = philox_uniform(&draw, 10) * 2 - 1;
    return k;
}

/* How often the looks so far share garment, pattern or colour with this one; once more than often is worse. */
static int crowding(const int garments[], const int patterns[], const int colours[], const Look *k)
{
    int g = garments[k->garment], p = patterns[k->pattern], c = colours[k->colour];
    return g * g + p * p + c * c + g + p + c;
}

Look look_prompt(int64_t index)
{
    enum { HELD = HELD_OUT_PROMPTS / MOTIONS };
    int garments[GARMENTS] = {0}, patterns[PATTERNS] = {0}, colours[COLOURS] = {0}, used[COLOURS][PATTERNS] = {{0}};
    Look best = {0};
    for (int64_t i = 0; i <= index % HELD; i++) {
        int least = -1;
        for (int j = 0; j < COLOURS * PATTERNS; j++) { /* patterned ones first where counts are equal */
            Look k = {.colour = (Colour)(j % COLOURS), .pattern = (Pattern)((j / COLOURS + 1) % PATTERNS)};
            k.garment = (Garment)((2 * GARMENTS - (k.colour + k.pattern) % GARMENTS) % GARMENTS);
            int crowd = crowding(garments, patterns, colours, &k);
            if (!used[k.colour][k.pattern] && (least < 0 || crowd < least))
                least = crowd, best = k;
        }
        used[best.colour][best.pattern] = 1;
        garments[best.garment]++, patterns[best.pattern]++, colours[best.colour]++;
    }
    best.motion = (Motion)((index % HELD + index / HELD) % MOTIONS);
    best.sleeve = sleeve_of(best.garment, (int)((index % HELD / 2 + index / HELD) % SLEEVES));
    return best;
}

/* Whether the caption holds the words, and no letter stands beside them. */
static int says(const char *caption, const char *words)
{
    size_t n = strlen(words);
    for (const char *p = caption; (p = strstr(p, words)); p++)
        if ((p == caption || !isalpha((unsigned char)p[-1])) && !isalpha((unsigned char)p[n]))
            return 1;
    return 0;
}

static int which(const char *caption, const char *const words[], int n)
{
    for (int i = 0; i < n; i++)
        if (says(caption, words[i]))
            return i;
    return -1;
}

Words caption_words(const char *caption)
{
    return (Words){which(caption, colour_words, COLOURS), which(caption, pattern_words, PATTERNS),
                   which(caption, garment_words, GARMENTS), which(caption, sleeve_words, SLEEVES),
                   which(caption, motion_words, MOTIONS)};
}
