/* Compares what a recipe says of its run with the run. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "train/expected.h"

/* A number as people write it: 16, "16" or "~16"; -1: none. */
static int64_t number(const json_t *v, int *about)
{
    const char *text = json_string_value(v);

    *about = text && *text == '~';
    if (json_is_integer(v))
        return json_integer_value(v);
    return text ? strtoll(text + *about, NULL, 10) : -1;
}

/* Refuses or warns when the recipe's number is not `really`; `why` explains it. */
static int compare(const Job *j, const char *key, int64_t really, int fewer_is_fine, const char *why, Err *err)
{
    char path[64];
    int about;
    int64_t says;

    snprintf(path, sizeof path, "expected.%s", key);
    says = number(recipe_get(j->recipe, path), &about);
    if (says < 0 || says == really)
        return 0;
    if (!about && !(fewer_is_fine && really < says))
        return err_set(err, ERR_USAGE,
                       "the recipe says %s %" PRId64 ", but this run has %" PRId64
                       ": %s; change one of them, or write '~%" PRId64 "' for a number that is only about right",
                       key, says, really, why, says);
    log_warn(&j->log.log, "the recipe says %s %s%" PRId64 ", but this run has %" PRId64 ": %s", key,
             about ? "about " : "", says, really, why);
    return 0;
}

int expected_check(const Job *j, Err *err)
{
    char why[256];
    int rc;

    snprintf(why, sizeof why, "batch_size %" PRId64 " x gradient_accumulation_steps %" PRId64, j->batch, j->accumulate);
    rc = compare(j, "effective_batch_size", j->batch * j->accumulate, 0, why, err);
    if (rc == 0)
        rc = compare(j, "training_videos", j->data->n, 1, "the clips to train on in the caches", err);
    snprintf(why, sizeof why,
             "%" PRId64 " clips make %" PRId64 " steps an epoch, and the run has at most %" PRId64 " epochs%s",
             j->data->n, j->epoch_steps, j->epochs, j->max_steps > 0 ? " and stops at max_steps" : "");
    if (rc == 0)
        rc = compare(j, "total_steps", j->steps, 0, why, err);
    return rc;
}

/* ---- quantities ------------------------------------------------------------------------------ */

/* The number, and the unit behind it in *unit. */
static double quantity(const char *text, const char **unit)
{
    char *end;
    double v = strtod(text + (*text == '~'), &end);

    *unit = end + strspn(end, " ");
    return v;
}

double expected_seconds(const char *text)
{
    const char *unit;
    double v = text ? quantity(text, &unit) : -1;

    if (v < 0)
        return -1;
    return v * (*unit == 'd' ? 86400 : *unit == 'h' ? 3600 : *unit == 'm' ? 60 : 1);
}

double expected_bytes(const char *text)
{
    static const char prefixes[] = "KMGT";
    const char *unit;
    double v = text ? quantity(text, &unit) : -1, each;

    if (v < 0)
        return -1;
    each = unit[1] == 'i' ? 1024 : 1000;
    for (const char *p = prefixes; *p && v >= 0; p++) {
        v *= each;
        if (toupper((unsigned char)*unit) == *p)
            break;
    }
    return v;
}
