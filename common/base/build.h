/* Which build is running, and on what: the facts that decide the last bits of a result.
 *
 * Two runs from the same seed give the same bits when these facts are the same.  weft-train stores
 * them in run.json and in each checkpoint, and a resume compares them with its own; --version prints
 * them. */
#ifndef WEFT_COMMON_BASE_BUILD_H
#define WEFT_COMMON_BASE_BUILD_H
#include <stdio.h>
#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/str.h"

#define WEFT_VERSION "0.2.0"

enum { BUILD_FACTS = 8, BUILD_FACT_MAX = 256 };

/* `value` is "" where a fact could not be found out, or the program does not use that library. */
typedef struct BuildFact {
    const char *name; /* "version", "compiler", "flags", "blas", "processor", "ffmpeg", "lmdb", "jansson" */
    char value[BUILD_FACT_MAX];
} BuildFact;

typedef struct BuildIdentity {
    BuildFact fact[BUILD_FACTS];
} BuildIdentity;

/* Versions of libraries are those of the libraries loaded now, not those of their headers.  The BLAS
 * fact names the processor type whose kernels OpenBLAS chose, the flags name what -march=native
 * stood for. */
void build_identity(BuildIdentity *out);
/* The same as an object {"version": "0.2.0", "compiler": "gcc 12.2.0", ...}; unknown facts are left out. */
WEFT_MUST_CHECK int build_identity_json(const BuildIdentity *identity, json_t **out, Err *err);
/* Compares the facts that decide training's bits (version, compiler, flags, blas, processor) with
 * those in `stored`, an object as above (NULL: none are known).  Returns how many differ, or
 * ERR_NOMEM; appends "compiler 'gcc 12.2.0' before, 'gcc 14.2.0' now; ..." to `text`.  A fact that is
 * known on one side only differs. */
WEFT_MUST_CHECK int build_identity_changes(const BuildIdentity *identity, const json_t *stored, Str *text, Err *err);
/* "  compiler   gcc 12.2.0" lines, one a known fact but the version. */
void build_identity_print(const BuildIdentity *identity, FILE *out);
#endif
