/* Finds what is not finite by sums of squares. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/ops/ops.h"
#include "train/nonfinite.h"

/* 1 when the tensor holds something that is not finite.  Frozen weights may have a type that is not
 * trained: they are not looked at. */
static int is_bad(TrainState *s, const Tensor *t, Err *err)
{
    double sum = 0;
    int rc = 0;

    if (t->data && (t->dtype == DT_F32 || t->dtype == DT_BF16))
        rc = op_sum_squares(s->be, &sum, t, err);
    return rc < 0 ? rc : !isfinite(sum);
}

/* N of "...transformer_blocks.N...", or -1. */
static int64_t block_of(const char *name)
{
    const char *at = strstr(name, "transformer_blocks.");

    return at ? strtoll(at + strlen("transformer_blocks."), NULL, 10) : -1;
}

static void name_param(TrainState *s, const char *what, const Param *p)
{
    int64_t block = block_of(p->name);

    if (block >= 0)
        snprintf(s->bad, sizeof s->bad, "%s %s (block %" PRId64 ")", what, p->name, block);
    else
        snprintf(s->bad, sizeof s->bad, "%s %s", what, p->name);
}

static int look_at_weights(TrainState *s, Err *err)
{
    const ParamSet *sets[] = {dit_params(s->dit), dit_trainable(s->dit)};
    int rc = 0;

    for (int k = 0; k < 2 && rc == 0 && !s->bad[0]; k++)
        for (int64_t i = 0; i < sets[k]->n && rc == 0 && !s->bad[0]; i++)
            if ((rc = is_bad(s, &sets[k]->param[i].value, err)) > 0) {
                name_param(s, "the weight", &sets[k]->param[i]);
                rc = 0;
            }
    return rc;
}

int nonfinite_in_forward(TrainState *s, const TrainBatch *batch, const DitTape *tape, Err *err)
{
    int64_t block = 0, layers = dit_config(s->dit)->layers;
    int rc;

    if (s->bad[0])
        return 0;
    if ((rc = is_bad(s, &batch->x0, err)) > 0)
        snprintf(s->bad, sizeof s->bad, "the latents");
    else if (rc == 0 && (rc = is_bad(s, &batch->text, err)) > 0)
        snprintf(s->bad, sizeof s->bad, "the text embeddings");
    if (rc == 0)
        rc = look_at_weights(s, err);
    if (rc != 0 || s->bad[0])
        return rc < 0 ? rc : 0;
    if ((rc = dit_find_nonfinite(s->dit, tape, &block, err)) < 0)
        return rc;
    if (rc == 0)
        snprintf(s->bad, sizeof s->bad, "the model's output");
    else if (block == 0)
        snprintf(s->bad, sizeof s->bad, "what the patch and text embeddings make");
    else
        snprintf(s->bad, sizeof s->bad, "the output of block %" PRId64 " of %" PRId64, block - 1, layers);
    return 0;
}

/* When the backward pass comes to a parameter: the head's first, then blocks from the last to the first,
 * then the embeddings. */
static int64_t backward_rank(const char *name)
{
    int64_t block = block_of(name);

    if (block >= 0)
        return block;
    return strstr(name, "proj_out") || strstr(name, "norm_out") || strstr(name, "norm_final") ? INT64_MAX : -1;
}

int nonfinite_in_gradients(TrainState *s, Err *err)
{
    const ParamSet *ps = dit_trainable(s->dit);
    const Param *first = NULL;

    for (int64_t i = 0; i < ps->n && !s->bad[0]; i++) {
        const Param *p = &ps->param[i];
        int rc = is_bad(s, &p->grad, err);
        if (rc < 0)
            return rc;
        if (rc > 0 && (!first || backward_rank(p->name) > backward_rank(first->name)))
            first = p;
    }
    if (first)
        name_param(s, "the gradient of", first);
    return 0;
}
