/* Black bars burnt into the picture (letter-, pillar- and window-boxing), found in a few pictures
 * of a source.
 *
 *   BarMeter *m;  bar_meter_open(&m, width, height, err);
 *   for some pictures: bar_meter_add(m, rgb);   bar_meter_find(m, bars, &wider);
 *   bar_meter_close(&m);
 *
 * A line (row or column) is dark when its brightest pixel has a luma below 24 of 255 in at least
 * nine tenths of the pictures.  The dark lines along a side are a bar when the picture behind them
 * begins along a straight line, not as a shape in front of a dark background.  Both sides of an
 * axis give the same number of lines, an even one, at most 15 % of the axis each; a bar on one side
 * only is left alone. */
#ifndef WEFT_PREP_PICTURE_BARS_H
#define WEFT_PREP_PICTURE_BARS_H
#include <stdint.h>
#include "common/base/err.h"

typedef struct BarMeter BarMeter;
WEFT_MUST_CHECK int bar_meter_open(BarMeter **out, int64_t width, int64_t height, Err *err);
void bar_meter_close(BarMeter **m);
/* rgb [height,width,3] */
void bar_meter_add(BarMeter *m, const uint8_t *rgb);
/* bars: lines to cut away left, right, top, bottom.  *wider: the bars are wider than what may be
 * cut. */
void bar_meter_find(const BarMeter *m, int64_t bars[4], int *wider);
#endif
