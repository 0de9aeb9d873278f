/* Reason codes: why a clip is rejected, and what is noted about one that is accepted.  The table is
 * prep/reasons.def; the enum of schemas/manifest.schema.json and the table in datasets.md are made
 * from it. */
#ifndef WEFT_PREP_REASON_H
#define WEFT_PREP_REASON_H

typedef enum Reason {
#define REASON(id, code, kind, next_run, about, sentence) REASON_##id,
#include "prep/reasons.def"
    REASON_COUNT
} Reason;

/* "missing", ... */
const char *reason_code(Reason r);
/* The reason with this code, or REASON_COUNT. */
Reason reason_find(const char *code);
/* What it means, for people: one sentence. */
const char *reason_sentence(Reason r);
/* Whether it can be why a clip is rejected; whether it can be a note. */
int reason_rejects(Reason r);
int reason_notes(Reason r);
/* Whether a clip that was rejected for it is looked at again by the next run, although source and
 * recipe are the same. */
int reason_is_redone(Reason r);
/* Whether a note of it stays with the clip's pixels when a later run keeps them. */
int reason_is_about_pixels(Reason r);
#endif
