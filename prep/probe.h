/* `weft-prep probe`: facts of one source, and what ingest would do with it.  Nothing is written. */
#ifndef WEFT_PREP_PROBE_H
#define WEFT_PREP_PROBE_H
#include <stdio.h>
#include "common/base/err.h"
#include "common/base/recipe.h"

/* One line to results, or all facts as JSON.  0: ingest would accept it, 3: it would reject it. */
WEFT_MUST_CHECK int prep_probe(const char *path, const Recipe *recipe, int json, FILE *results, Err *err);
#endif
