/* What is made from prep/reasons.def, as text: shared by tests/tools/reasons.c, which writes it, and
 * tests/unit/prep/test_reasons.c, which compares it. */
#ifndef WEFT_TESTS_REASON_TEXT_H
#define WEFT_TESTS_REASON_TEXT_H
#include "common/base/str.h"
#include "prep/reason.h"

#define REASON_TABLE_HEAD "| code | then the clip is | meaning |\n|---|---|---|"
#define REASON_ENUM_HEAD "\"code\": {\"enum\": ["

/* The table's rows, each behind a line break. */
static inline int reason_table(Str *out, Err *err)
{
    int rc = 0;
    for (int i = 0; i < REASON_COUNT && rc == 0; i++) {
        Reason r = (Reason)i;
        rc = str_printf(out, err, "\n| `%s` | %s | %s |", reason_code(r),
                        !reason_notes(r)     ? "rejected"
                        : !reason_rejects(r) ? "noted"
                                             : "rejected or noted",
                        reason_sentence(r));
    }
    return rc;
}

/* The schema's enum, six codes a line. */
static inline int reason_enum(Str *out, Err *err)
{
    int rc = 0;
    for (int i = 0; i < REASON_COUNT && rc == 0; i++)
        rc = str_printf(out, err, "%s%s\"%s\"", i ? "," : "", i % 6 ? " " : "\n      ", reason_code((Reason)i));
    return rc;
}
#endif
