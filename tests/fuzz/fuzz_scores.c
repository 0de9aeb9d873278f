/* Any bytes as a table of scores: refused with a sentence, or finite numbers of videos that are there. */
#include <math.h>
#include <stdlib.h>
#include "infer/scores.h"
#include "tests/fuzz/temporary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *table = fuzz_file("scores.csv", data, size);
    VideoItem item = {.path = (char *)(uintptr_t)table, .id = (char *)(uintptr_t) "x", .seed = -1};
    VideoList side[2] = {{&item, 1, 1}, {&item, 1, 1}}; /* the line "scores.csv" is of both */
    Scores s;
    Err err = {0};
    int rc = scores_read(&s, &(StrList){&table, 1}, side, NULL, &err);
    if (rc < 0 && (rc != err.code || !err.msg[0]))
        abort();
    for (int64_t i = 0; rc == 0 && i < s.n; i++)
        if (!s.item[i].name[0] || isinf(s.item[i].chance) || isinf(s.item[i].value[0][0]) ||
            isnan(s.item[i].value[0][0]) != isnan(s.item[i].value[1][0]))
            abort();
    scores_fini(&s);
    return 0;
}
