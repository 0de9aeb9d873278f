#include "prep/reason.h"

#include <string.h>

enum { REJECT = 1, NOTE = 2, BOTH = REJECT | NOTE };
enum { KEPT, REDONE };
enum { OTHER, PIXELS };

static const struct {
    const char *code, *sentence;
    int kind, next_run, about;
} table[REASON_COUNT] = {
#define REASON(id, code, kind, next_run, about, sentence) [REASON_##id] = {code, sentence, kind, next_run, about},
#include "prep/reasons.def"
};

const char *reason_code(Reason r)
{
    return table[r].code;
}

Reason reason_find(const char *code)
{
    int r = 0;
    while (r < REASON_COUNT && strcmp(table[r].code, code) != 0)
        r++;
    return (Reason)r;
}

const char *reason_sentence(Reason r)
{
    return table[r].sentence;
}

int reason_rejects(Reason r)
{
    return (table[r].kind & REJECT) != 0;
}

int reason_notes(Reason r)
{
    return (table[r].kind & NOTE) != 0;
}

int reason_is_redone(Reason r)
{
    return table[r].next_run == REDONE;
}

int reason_is_about_pixels(Reason r)
{
    return table[r].about == PIXELS;
}
