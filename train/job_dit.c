/* The transformer that a job trains: all of it, or LoRA adapters on it. */
#include "common/base/mem.h"
#include "train/job_internal.h"

int job_read_lora(Job *j, Err *err)
{
    const Recipe *r = j->recipe;
    const json_t *alpha = recipe_get(r, "training.lora_alpha"), *list = recipe_get(r, "training.lora_target_modules");
    DitLora *l = &j->lora;

    j->lora_weights = recipe_str(r, "training.lora_weights");
    l->rank = recipe_int(r, "training.lora_rank");
    l->alpha = json_is_number(alpha) ? json_number_value(alpha) : (double)l->rank;
    l->seed = j->seed;
    l->targets = (int64_t)json_array_size(list);
    if (!(j->lora_target = mem_calloc(l->targets, sizeof *j->lora_target, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < l->targets; i++)
        j->lora_target[i] = json_string_value(json_array_get(list, (size_t)i));
    l->target = j->lora_target;
    if (j->lora_weights && !l->rank)
        return err_set(
            err, ERR_USAGE,
            "training.lora_weights is '%s', but training.lora_rank is 0, which trains all weights: set it to "
            "the rank of that file",
            j->lora_weights);
    return 0;
}

int job_make_dit(const Job *j, Backend *be, int how, Dit **out, Err *err)
{
    int rc = dit_new_filled(out, be, &j->dit, j->lora.rank ? DIT_MAPPED : how, err);

    if (rc == 0 && j->lora.rank)
        rc = dit_add_lora(*out, &j->lora, how, err);
    if (rc < 0)
        dit_close(out);
    return rc;
}

int job_open_dit(const Job *j, const char *transformer, int fresh, Dit **out, Err *err)
{
    int rc = dit_open(out, j->be, transformer, j->lora.rank ? DIT_MAPPED : j->how, err);

    if (rc == 0 && j->lora.rank)
        rc = dit_add_lora(*out, &j->lora, j->how, err);
    if (rc == 0 && j->lora_weights && fresh)
        rc = dit_load_lora(*out, j->lora_weights, err);
    if (rc < 0)
        dit_close(out);
    return rc;
}
