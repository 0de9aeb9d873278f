/* A video or a folder of pictures beside a text file of the same name, and the UBC set. */
#ifndef WEFT_PREP_LAYOUT_PAIRS_H
#define WEFT_PREP_LAYOUT_PAIRS_H
#include "prep/layout/reader.h"

extern const Layout layout_pairs, layout_ubc;
#endif
