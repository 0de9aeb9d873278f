/* What the demo's figures wear and do, how a caption says it, and which combinations are never
 * trained on.
 *
 * Two sets of looks:
 *   plain    every garment and motion, one colour or grey, which the caption does not name; no
 *            patterns, one kind of sleeves: "a woman in a dress walks"
 *   fashion  colours, patterns and sleeves, all named: "a woman in a red striped dress with long
 *            sleeves walks"
 * A colour, a pattern and a garment are a combination.  Of the four garments with the same colour and
 * pattern one is held out: 30 of 120 combinations, which no clip of split train shows. */
#ifndef WEFT_TESTS_DEMO_LOOK_H
#define WEFT_TESTS_DEMO_LOOK_H
#include <stdint.h>

typedef enum Colour { RED, YELLOW, GREEN, BLUE, PURPLE, BLACK, COLOURS } Colour;
typedef enum Pattern { PLAIN, STRIPED, DOTTED, FLORAL, CHECKED, PATTERNS } Pattern;
typedef enum Garment { DRESS, TOP, SKIRT, COAT, GARMENTS } Garment;
/* Of a dress or a top; a figure in a skirt wears a top with short sleeves, and a coat has long ones. */
typedef enum Sleeve { SLEEVELESS, SHORT_SLEEVES, LONG_SLEEVES, SLEEVES } Sleeve;
typedef enum Motion { WALKS, TURNS, MOTIONS } Motion;

typedef struct Look {
    Colour colour;
    Pattern pattern;
    Garment garment;
    Sleeve sleeve;
    Motion motion;
    /* What no caption names. */
    int grey;                               /* the garment is grey; only in the plain set */
    int skin, hair, hair_style;             /* 0 to 2 each */
    float phase, pace, yaw, x, scale, warm; /* of the walk; where the figure stands; tint of the studio */
} Look;

/* The words of captions, in the order of the enums. */
extern const char *const colour_words[COLOURS], *const pattern_words[PATTERNS], *const garment_words[GARMENTS],
                                                                                    *const sleeve_words[SLEEVES],
                                                                                        *const motion_words[MOTIONS];

enum { HELD_OUT_PROMPTS = 60, CAPTION_MAX = 96 };
typedef enum LookSet { SET_PLAIN, SET_FASHION } LookSet;

int look_has_sleeves(const Look *k); /* whether the caption names them */
int look_held_out(const Look *k);
void look_caption(LookSet set, const Look *k, char out[CAPTION_MAX]);
/* Clip `index` of the set drawn with `seed`.  held_out: of the held-out combinations instead (fashion). */
Look look_clip(LookSet set, uint64_t seed, int64_t index, int held_out);
/* Held-out caption `index` of HELD_OUT_PROMPTS: every combination with both motions.  Any first few of
 * them spread over garments, patterns and colours. */
Look look_prompt(int64_t index);
/* The attributes that a caption's words name, -1 where none does; the motion too. */
typedef struct Words {
    int colour, pattern, garment, sleeve, motion;
} Words;
Words caption_words(const char *caption);
#endif
