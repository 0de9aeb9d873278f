/* Any bytes as a file of prompts, one a line and as JSON objects: refused with a sentence, or a list
 * whose ids are distinct file names and whose texts are UTF-8. */
#include <string.h>
#include "common/base/str.h"
#include "infer/prompts.h"
#include "tests/fuzz/temporary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const PromptList *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        const Prompt *q = &p->item[i];
        const char *name = q->category ? q->id + strlen(q->category) + 1 : q->id;
        if (!name[0] || name[0] == '.' || strchr(name, '/') || strlen(name) > 230 || q->seed < 0)
            abort();
        if (q->category && (!q->category[0] || q->category[0] == '.' || strchr(q->category, '/')))
            abort();
        if (!str_is_utf8(q->text, (int64_t)strlen(q->text)))
            abort();
        for (int64_t k = 0; k < i && p->n < 200; k++)
            if (strcmp(q->id, p->item[k].id) == 0)
                abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"prompts.txt", "prompts.jsonl"};
    const StrList none = {0};
    for (int i = 0; i < 2; i++) {
        PromptList p;
        Err err = {0};
        int rc = prompts_read(&p, &none, fuzz_file(names[i], data, size), 7, i + 1, &err);
        if (rc == 0)
            check(&p);
        else if (rc != err.code || !err.msg[0])
            abort();
        prompts_fini(&p);
    }
    return 0;
}
