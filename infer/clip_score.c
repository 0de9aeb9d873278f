#include "infer/clip_score.h"

#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/model/clip.h"
#include "common/text/clip_tokenizer.h"

struct ClipScorer {
    Clip *clip;
    ClipTokenizer *tokenizer;
    Arena *work;
    int32_t *ids; /* [positions] */
    double scale;
};

double clip_cosine(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

void clip_normalise(float *v, int64_t n)
{
    double length = sqrt(clip_cosine(v, v, n));
    for (int64_t i = 0; i < n && length > 0; i++)
        v[i] = (float)((double)v[i] / length);
}

/* Working memory for the longer of the two towers, found on the plan back end. */
static int plan_memory(ClipScorer *s, Backend *be, const char *folder, Err *err)
{
    Backend *plan = NULL;
    Clip *shape = NULL;
    Arena *counted = NULL;
    int rc = backend_open(&plan, "plan", 1, NULL, err);
    if (rc)
        return rc;
    plan->act = be->act;
    if ((rc = clip_open(&shape, plan, folder, err)) || (rc = arena_new(&counted, plan, 0, "CLIP", err)))
        goto fail;
    if ((rc = clip_text(shape, counted, NULL, NULL, NULL, s->ids, clip_config(shape)->positions, err)) ||
        (rc = clip_image(shape, counted, NULL, NULL, NULL, NULL, err)))
        goto fail;
    rc = arena_new(&s->work, be, arena_high(counted), "CLIP", err);
fail:
    arena_free(&counted);
    clip_close(&shape);
    backend_close(&plan);
    return rc;
}

static int read_scale(ClipScorer *s, Err *err)
{
    float log_scale;
    int rc = params_get(clip_params(s->clip), params_find(clip_params(s->clip), "logit_scale"), &log_scale, err);
    s->scale = rc ? 0 : exp((double)log_scale);
    return rc;
}

int clip_scorer_open(ClipScorer **out, Backend *be, const char *folder, Err *err)
{
    ClipScorer *s = *out = mem_calloc(1, sizeof *s, err);
    int rc = s ? clip_open(&s->clip, be, folder, err) : ERR_NOMEM;
    if (!rc)
        rc = clip_tokenizer_open(&s->tokenizer, folder, err);
    if (!rc && clip_tokenizer_eos(s->tokenizer) >= clip_config(s->clip)->vocab)
        rc = err_set(err, ERR_FORMAT, "'%s': the tokeniser has %d ids, the model's vocabulary %" PRId64, folder,
                     clip_tokenizer_eos(s->tokenizer) + 1, clip_config(s->clip)->vocab);
    if (!rc && !(s->ids = mem_calloc(clip_config(s->clip)->positions, sizeof *s->ids, err)))
        rc = ERR_NOMEM;
    if (rc || (rc = plan_memory(s, be, folder, err)) || (rc = read_scale(s, err)))
        clip_scorer_close(out);
    return rc;
}

void clip_scorer_close(ClipScorer **s)
{
    if (!*s)
        return;
    arena_free(&(*s)->work);
    clip_tokenizer_close(&(*s)->tokenizer);
    clip_close(&(*s)->clip);
    mem_free((*s)->ids);
    mem_free(*s);
    *s = NULL;
}

int64_t clip_scorer_width(const ClipScorer *s)
{
    return clip_config(s->clip)->projection;
}

int64_t clip_scorer_size(const ClipScorer *s)
{
    return clip_config(s->clip)->image_size;
}

double clip_scorer_scale(const ClipScorer *s)
{
    return s->scale;
}

static int make_unit(float *v, int64_t n, Err *err)
{
    if (!isfinite(clip_cosine(v, v, n)))
        return err_set(err, ERR_FORMAT, "CLIP gave a vector that is not finite: a weight of it is damaged");
    clip_normalise(v, n);
    return 0;
}

int clip_scorer_text(ClipScorer *s, const char *text, float *unit, int64_t *cut, Err *err)
{
    int64_t used;
    int rc = clip_tokenizer_encode_padded(s->tokenizer, text, (int64_t)strlen(text), s->ids,
                                          clip_config(s->clip)->positions, &used, cut, err);
    /* What follows the end mark cannot be seen from there: the mask is causal. */
    if (!rc && !(rc = clip_text(s->clip, s->work, unit, NULL, NULL, s->ids, used, err)))
        rc = make_unit(unit, clip_scorer_width(s), err);
    return rc;
}

int clip_scorer_image(ClipScorer *s, const float *pixels, float *unit, Err *err)
{
    int rc = clip_image(s->clip, s->work, unit, NULL, NULL, pixels, err);
    return rc ? rc : make_unit(unit, clip_scorer_width(s), err);
}
