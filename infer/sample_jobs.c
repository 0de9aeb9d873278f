/* The samples' keys, and which samples an earlier run has finished. */
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/store/cache.h"
#include "infer/sample_internal.h"

static int no_memory(Err *err, const Job *job)
{
    return err_set(err, ERR_NOMEM, "no memory for the record of sample '%s'", job->prompt->id);
}

int is_lossy(const Run *r)
{
    return r->o->guidance_share > 0 || r->o->reuse_every > 0;
}

int64_t prompt_steps(const Run *r, const Prompt *p)
{
    return p->steps ? p->steps : r->s.steps;
}

double prompt_guidance(const Run *r, const Prompt *p)
{
    return p->guidance >= 0 ? p->guidance : r->s.guidance;
}

static json_t *sampling_facts(const Run *r)
{
    json_t *s = json_deep_copy(recipe_get(r->recipe, "sampling"));
    if (s && json_object_set_new(s, "model_frames", json_integer(r->s.model_frames)) == 0)
        return s;
    json_decref(s);
    return NULL;
}

/* The facts with the job's own steps and guidance; new reference. */
static json_t *own_sampling(const Job *job, json_t *sampling)
{
    if (!job->prompt->steps && job->prompt->guidance < 0)
        return json_incref(sampling);
    json_t *own = json_copy(sampling);
    if (own && json_object_set_new(own, "num_inference_steps", json_integer(job->steps)) == 0 &&
        json_object_set_new(own, "guidance_scale", json_real(job->guidance)) == 0)
        return own;
    json_decref(own);
    return NULL;
}

/* What made it faster and not exact, if anything. */
static void put_lossy(const Run *r, JsonWriter *w)
{
    if (!is_lossy(r))
        return;
    jsonw_open(w, "lossy");
    if (r->o->guidance_share > 0)
        jsonw_num(w, "guidance_share", r->o->guidance_share);
    if (r->o->reuse_every)
        jsonw_int(w, "reuse_every", r->o->reuse_every);
    jsonw_close(w);
}

/* The record without "video", and its key: a digest of everything that shapes the pixels. */
static int make_record(Run *r, Job *job, json_t *weights, json_t *sampling, Err *err)
{
    Digest key;
    char hex[65];
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "id", job->prompt->id);
    jsonw_str(&w, "prompt", job->prompt->text);
    jsonw_str(&w, "negative_prompt", job->negative);
    jsonw_int(&w, "seed", job->prompt->seed);
    if (job->prompt->category)
        jsonw_str(&w, "category", job->prompt->category);
    if (job->prompt->clip)
        jsonw_str(&w, "clip", job->prompt->clip);
    if (r->cached)
        jsonw_str(&w, "embedding", cached_key(r->cached, job->prompt->text));
    jsonw_share(&w, "weights", weights);
    jsonw_str(&w, "backend", r->be->name);
    jsonw_take(&w, "sampling", own_sampling(job, sampling));
    put_lossy(r, &w);
    int rc = jsonw_finish(&w, &job->record, "a sample's record", err);
    if (rc < 0)
        return err_wrap(err, rc, "sample '%s'", job->prompt->id);
    json_t *parts = json_copy(job->record);
    json_object_del(parts, "category");
    json_object_del(parts, "clip");
    if (!parts || json_object_del(parts, "id") < 0 ||
        json_object_set_new(parts, "numerics", json_pack("[ii]", CACHE_LATENTS_REVISION, CACHE_TEXT_REVISION)) < 0 ||
        (r->be->direct_conv && json_object_set_new(parts, "convolution", json_string("direct")) < 0)) {
        json_decref(parts);
        return no_memory(err, job);
    }
    rc = cache_key(&key, parts, err);
    json_decref(parts);
    if (rc < 0)
        return rc;
    digest_hex(&key, hex);
    return json_object_set_new(job->record, "key", json_string(hex)) < 0 ? no_memory(err, job) : 0;
}

const char *job_key(const Job *job)
{
    return json_string_value(json_object_get(job->record, "key"));
}

int jobs_any_files(const Run *r)
{
    for (int64_t i = r->shard; i < r->prompts.n; i += r->shards) {
        char *record = sample_path(r, r->prompts.item[i].id, ".json", NULL);
        int there = record && (file_exists(record) || partial_exists(r, r->prompts.item[i].id));
        mem_free(record);
        if (there)
            return 1;
    }
    return 0;
}

/* Sets job->done. */
static int find_done(Run *r, Job *job, Err *err)
{
    char *path = sample_path(r, job->prompt->id, ".json", err);
    json_t *old = NULL;
    int rc = path ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(path)) {
        rc = json_read_file(&old, path, err);
        if (rc == 0)
            rc = schema_check("sample", old, path, err);
        int same = rc == 0 && strcmp(json_string_value(json_object_get(old, "key")), job_key(job)) == 0;
        if (rc == 0 && !same && !r->o->overwrite)
            rc = err_set(err, ERR_USAGE,
                         "'%s' was made with another prompt, seed, model or settings; choose another --out or give "
                         "--overwrite",
                         path);
        if (rc == 0 && same && sample_files_whole(r, job, old))
            job->done = !r->o->latents_out || job->latents_kept || partial_finished(r, job);
        else if (rc == 0 && same)
            log_warn(r->log, "sample '%s': its files are missing or changed; it is made again", job->prompt->id);
    }
    if (rc == 0 && !job->done && !r->o->overwrite)
        rc = partial_check(r, job, err);
    /* a run that ended between writing the latents file and removing the partial file left it */
    if (rc == 0 && job->done && (job->latents_kept || !r->o->latents_out) && !r->o->common.dry_run &&
        partial_exists(r, job->prompt->id))
        rc = partial_remove(r, job->prompt->id, err);
    json_decref(old);
    mem_free(path);
    return rc;
}

/* The digests of what made a cache's embeddings. */
static int add_text_weights(const Run *r, json_t *weights, Err *err)
{
    const json_t *facts = cached_facts(r->cached);
    if (json_object_set(weights, "text_encoder", json_object_get(facts, "weights_sha256")) < 0 ||
        json_object_set(weights, "tokenizer", json_object_get(facts, "tokenizer_sha256")) < 0)
        return err_set(err, ERR_NOMEM, "no memory for the samples' records");
    return 0;
}

int jobs_open(Run *r, Err *err)
{
    json_t *weights = NULL, *sampling = sampling_facts(r);
    char *beside = path_dir(r->o->out, err); /* remembers the weights' digests */
    const char *negative = recipe_str(r->recipe, "sampling.negative_prompt");
    r->job = mem_calloc(r->prompts.n, sizeof *r->job, err);
    int rc = r->job ? 0 : ERR_NOMEM;
    if (rc == 0 && !sampling)
        rc = err_set(err, ERR_NOMEM, "no memory for the samples' records");
    if (rc == 0)
        rc = beside ? pipeline_weights(r->pipe, beside, &weights, err) : ERR_NOMEM;
    if (rc == 0 && r->cached)
        rc = add_text_weights(r, weights, err);
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++) {
        Job *job = &r->job[i];
        job->prompt = &r->prompts.item[i];
        job->negative = job->prompt->negative ? job->prompt->negative : negative ? negative : "";
        job->steps = prompt_steps(r, job->prompt);
        job->guidance = prompt_guidance(r, job->prompt);
        if ((job->elsewhere = i % r->shards != r->shard))
            continue;
        rc = make_record(r, job, weights, sampling, err);
    }
    if (rc == 0)
        rc = latents_find_kept(r, err);
    for (int64_t i = r->shard; rc == 0 && i < r->prompts.n; i += r->shards) {
        rc = find_done(r, &r->job[i], err);
        if (rc == 0 && !r->job[i].done) {
            r->todo++;
            r->steps_todo += r->job[i].steps;
        }
    }
    json_decref(weights);
    mem_free(beside);
    json_decref(sampling);
    return rc;
}

void jobs_close(Run *r)
{
    for (int64_t i = 0; r->job && i < r->prompts.n; i++)
        json_decref(r->job[i].record);
    mem_free(r->job);
    r->job = NULL;
}
