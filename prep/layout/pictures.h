/* Folders of numbered pictures: which files of a folder are its frames, and in which order. */
#ifndef WEFT_PREP_LAYOUT_PICTURES_H
#define WEFT_PREP_LAYOUT_PICTURES_H
#include <stdint.h>
#include "common/base/err.h"

/* Whether the name is that of a numbered picture: .png, .jpg or .jpeg behind digits; the length of
 * what stands before the digits. */
int picture_number(const char *name, int64_t *number, int64_t *prefix);
/* How many of the names are a folder's frames, each marked: those of digits alone, or "frame_" and
 * digits; where there is none of these, two or more with the same text before their digits
 * ("img00001.jpg", "walk-7.png"), if all numbered pictures have it. */
int64_t pictures_among(char **names, int64_t n, uint8_t *marks);
/* The frames of a folder in numeric order ("7.png", "007.jpg", "frame_7.png": number 7); other
 * files are ignored. */
typedef struct Picture {
    int64_t number;
    char *name;
} Picture;
WEFT_MUST_CHECK int pictures_list(const char *path, Picture **out, int64_t *n, Err *err);
void pictures_free(Picture **p, int64_t n);
#endif
