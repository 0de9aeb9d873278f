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
/* One sentence that explains the code to the user. */
const char *reason_sentence(Reason r);
/* Whether a clip can be rejected with this code; whether the code can be noted about a clip. */
int reason_rejects(Reason r);
int reason_notes(Reason r);
/* Whether the next run processes a clip rejected with this code again, although its source and the
 * recipe have not changed. */
int reason_is_redone(Reason r);
/* Whether a later run that keeps the clip's pixels also keeps this note. */
int reason_is_about_pixels(Reason r);
#endif
