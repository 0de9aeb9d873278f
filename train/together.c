#include <inttypes.h>
#include <string.h>

#include "common/base/build.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "train/checkpoint.h"
#include "train/identity.h"
#include "train/together.h"

/* ---- the start ------------------------------------------------------------------------------- */

static int digest_of(const json_t *json, char hex[65], Err *err)
{
    char *text = json_canonical(json, err);
    int rc = text ? sha256_hex(text, (int64_t)strlen(text), hex, err) : ERR_NOMEM;

    mem_free(text);
    return rc;
}

static int build_digest(char hex[65], Err *err)
{
    BuildIdentity build;
    json_t *json = NULL;
    int rc;

    build_identity(&build);
    rc = build_identity_json(&build, &json, err);
    if (rc == 0)
        rc = digest_of(json, hex, err);
    json_decref(json);
    return rc;
}

/* state.json lists all other files of the checkpoint with their digests. */
static int checkpoint_digest(const char *out, int64_t step, char hex[65], Err *err)
{
    char *path = mem_printf(err, "%s/checkpoint-%" PRId64 "/weft_state/state.json", out, step);
    int rc = path ? 0 : ERR_NOMEM;

    strcpy(hex, "none");
    if (rc == 0 && step)
        rc = sha256_file_hex(path, hex, err);
    mem_free(path);
    return rc;
}

static int compare(Job *j, const char *out, int64_t step, Err *err)
{
    char build[65] = "", recipe[65] = "", model[65] = "", checkpoint[65] = "", steps[32];
    RanksFact facts[] = {{"the program or the processor (--version)", build},
                         {"the device", j->be->name},
                         {"the recipe", recipe},
                         {"the model", model},
                         {"the caches", j->data->digest},
                         {"the number of steps", steps},
                         {"the checkpoint", checkpoint}};
    int rc = j->identity
                 ? 0
                 : identity_make(&j->identity, &j->schedule, j->start, j->lora_weights, j->memory, &j->log.log, err);

    snprintf(steps, sizeof steps, "%" PRId64, j->steps);
    if (rc == 0)
        rc = build_digest(build, err);
    if (rc == 0)
        rc = digest_of(recipe_json(j->recipe), recipe, err);
    if (rc == 0)
        rc = digest_of(j->identity, model, err);
    if (rc == 0)
        rc = checkpoint_digest(out, step, checkpoint, err);
    rc = ranks_agree(j->ranks, rc, err);
    return rc < 0 ? rc : ranks_compare(j->ranks, facts, (int)(sizeof facts / sizeof *facts), err);
}

int together_start(Job *j, const char *out, int64_t *step, Err *err)
{
    int rc;

    if (!j->ranks)
        return 0;
    rc = j->ranks->broadcast(j->ranks, step, sizeof *step, 0, err);
    return rc < 0 ? rc : compare(j, out, *step, err);
}

/* ---- a step ---------------------------------------------------------------------------------- */

int together_step(const Share *s, double *loss, int64_t n, double *sum, int *stop, Err *err)
{
    int rc;

    loss[n] = *stop != 0;
    loss[n + 1] = *stop;
    rc = share_sum(s, loss, n + TOGETHER_EXTRA, err);
    *sum = 0;
    for (int64_t i = 0; i < n && rc == 0; i++)
        *sum += loss[i];
    *stop = loss[n] > 0 ? (int)(loss[n + 1] / loss[n]) : 0;
    return rc;
}

int together_bad(TrainState *s, Err *err)
{
    Ranks *r = s->share.c.ranks;
    char *all = r ? mem_calloc(r->size, sizeof s->bad, err) : NULL;
    int rc = !r ? 0 : all ? r->gather(r, all, s->bad, sizeof s->bad, err) : ERR_NOMEM;

    for (int64_t k = ranks_size(r) - 1; all && rc == 0 && k >= 0; k--)
        if (all[k * (int64_t)sizeof s->bad])
            memcpy(s->bad, all + k * (int64_t)sizeof s->bad, sizeof s->bad);
    mem_free(all);
    return rc;
}

/* ---- a checkpoint ---------------------------------------------------------------------------- */

enum { NO_MORE = -1 };

static int64_t part_bytes(const OptimizerPart *part)
{
    return tensor_bytes(&part->whole);
}

int together_fetch(const TrainState *s, int64_t i, const OptimizerPart *part, void *room, Err *err)
{
    Ranks *r = s->share.c.ranks;
    int64_t owner = share_owner(&s->share, part->param);
    int rc = r->send(r, &i, sizeof i, owner, err);

    return rc < 0 ? rc : r->receive(r, room, part_bytes(part), owner, err);
}

static int serve_part(const TrainState *s, int64_t i, Err *err)
{
    Ranks *r = s->share.c.ranks;
    OptimizerPart part = checkpoint_part(s, i);
    int64_t bytes = part_bytes(&part);
    void *room = s->be->host ? NULL : mem_alloc_aligned(bytes, err);
    int rc = s->be->host || room ? 0 : ERR_NOMEM;

    if (rc == 0 && room)
        rc = s->be->download(s->be, room, part.data, bytes, err);
    if (rc == 0)
        rc = r->send(r, room ? room : part.data, bytes, 0, err);
    mem_free_aligned(room);
    return rc;
}

int together_serve(const TrainState *s, Err *err)
{
    Ranks *r = s->share.c.ranks;
    int64_t i = 0;
    int rc = 0;

    while (rc == 0) {
        rc = r->receive(r, &i, sizeof i, 0, err);
        if (rc < 0 || i == NO_MORE)
            return rc;
        rc = serve_part(s, i, err);
    }
    return rc;
}

int together_dismiss(const TrainState *s, Err *err)
{
    Ranks *r = s->share.c.ranks;
    int64_t no_more = NO_MORE;
    int rc = 0;

    for (int64_t k = 1; k < ranks_size(r) && rc == 0; k++)
        rc = r->send(r, &no_more, sizeof no_more, k, err);
    return rc;
}
