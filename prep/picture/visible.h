/* How much of the picture the subject takes up, as far as picture statistics tell: the share that
 * differs from the background.
 *
 *   Visible *v;  visible_open(&v, width, height, n, err);
 *   for each of the n pictures: visible_add(v, rgb);
 *   method = visible_find(v, share);   visible_close(&v);
 *
 * Pictures are looked at in cells, at most 48 across and 72 down.  Where the border above, left and
 * right is of one colour in nine tenths of the pictures (a studio, floor and all), the background
 * is that colour.  Otherwise the camera is assumed to stand still: the background of a cell is what
 * it shows most often, unless that stands out from its surroundings by an outline and what the cell
 * shows at another time does not (somebody who stands still and then leaves).  With this method only
 * what moves at some time is counted. */
#ifndef WEFT_PREP_PICTURE_VISIBLE_H
#define WEFT_PREP_PICTURE_VISIBLE_H
#include <stdint.h>
#include "common/base/err.h"

typedef struct Visible Visible;
typedef enum VisibleMethod { VISIBLE_PLAIN, VISIBLE_MOVING } VisibleMethod;
WEFT_MUST_CHECK int visible_open(Visible **out, int64_t width, int64_t height, int64_t n, Err *err);
void visible_close(Visible **v);
/* rgb [height,width,3]; at most n of them. */
void visible_add(Visible *v, const uint8_t *rgb);
/* Adds the latest picture once more. */
void visible_repeat(Visible *v);
/* share: 0..1 of each picture that was added. */
VisibleMethod visible_find(Visible *v, double *share);
/* After visible_find: 1 with the mean colour, over all pictures, of what differs from the background;
 * 0 when nothing differs. */
int visible_colour(const Visible *v, double rgb[3]);
#endif
