/* `weft-prep probe`: everything about one source, and what ingest would do with it, as JSON.
 * Nothing is written. */
#ifndef WEFT_PREP_PROBE_H
#define WEFT_PREP_PROBE_H
#include <stdio.h>
#include "common/base/err.h"
#include "common/base/recipe.h"

/* 0 ingest would accept it, 3 it would be rejected. */
int probe(const char *path, const Recipe *recipe, FILE *results, Err *err);
#endif
