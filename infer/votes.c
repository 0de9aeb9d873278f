/* Votes on blind pages: win rates, and strengths of several models. */
#include <math.h>
#include <string.h>

#include "common/base/bootstrap.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/metrics/paired.h"
#include "infer/compare.h"

enum { MODELS_MAX = 16, RESAMPLES = 999 };

typedef struct Count {
    json_t *keys;             /* study -> its key */
    json_t *models, *prompts; /* name -> number */
    json_t *voters, *seen;    /* what the result says of each; "study voter" already counted */
    double *wins;             /* [prompts][k][k]: how often i beat j, a tie being half a win for both */
    int64_t k, n_prompts, votes;
    int64_t tie[MODELS_MAX][MODELS_MAX];
} Count;

static int no_memory(Err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the votes");
}

static int number_of(json_t *numbers, const char *name, Err *err)
{
    if (json_object_get(numbers, name))
        return 0;
    return json_object_set_new(numbers, name, json_integer((json_int_t)json_object_size(numbers))) < 0 ? no_memory(err)
                                                                                                       : 0;
}

static int64_t look_up(const json_t *numbers, const json_t *name)
{
    return (int64_t)json_integer_value(json_object_get(numbers, json_string_value(name)));
}

static int add_key(Count *c, const char *path, Err *err)
{
    json_t *key = NULL;
    const json_t *p;
    size_t i;
    int rc = json_read_file(&key, path, err);
    if (rc == 0)
        rc = schema_check("blind-key", key, path, err);
    for (i = 0; i < 2 && rc == 0; i++)
        rc = number_of(c->models, json_string_value(json_array_get(json_object_get(key, "models"), i)), err);
    json_array_foreach (json_object_get(key, "pairs"), i, p)
        if (rc == 0)
            rc = number_of(c->prompts, json_string_value(json_object_get(p, "prompt")), err);
    if (rc == 0 && json_object_set(c->keys, json_string_value(json_object_get(key, "study")), key) < 0)
        rc = no_memory(err);
    json_decref(key);
    return rc;
}

static const json_t *pair_of(const json_t *key, const char *name)
{
    const json_t *p;
    size_t i;
    json_array_foreach (json_object_get(key, "pairs"), i, p)
        if (strcmp(json_string_value(json_object_get(p, "pair")), name) == 0)
            return p;
    return NULL;
}

/* One vote on a pair that is no catch pair. */
static void count_vote(Count *c, const json_t *key, const json_t *p, const char *choice)
{
    const json_t *models = json_object_get(key, "models");
    int64_t left = look_up(c->models, json_array_get(models, (size_t)json_integer_value(json_object_get(p, "left")))),
            right = look_up(c->models, json_array_get(models, (size_t)json_integer_value(json_object_get(p, "right")))),
            prompt = look_up(c->prompts, json_object_get(p, "prompt"));
    double share = strcmp(choice, "left") == 0 ? 1 : strcmp(choice, "right") == 0 ? 0 : 0.5, *wins;
    wins = c->wins + prompt * c->k * c->k;
    wins[left * c->k + right] += share;
    wins[right * c->k + left] += 1 - share;
    if (share == 0.5) {
        c->tie[left][right]++;
        c->tie[right][left]++;
    }
    c->votes++;
}

static int note_voter(Count *c, const json_t *file, int64_t votes, int64_t catches, int64_t caught, Err *err)
{
    JsonWriter w;
    json_t *o = NULL;
    jsonw_begin(&w);
    jsonw_str(&w, "voter", json_string_value(json_object_get(file, "voter")));
    jsonw_str(&w, "study", json_string_value(json_object_get(file, "study")));
    jsonw_int(&w, "votes", votes);
    jsonw_int(&w, "catch_pairs", catches);
    jsonw_int(&w, "catch_ties", caught);
    int rc = jsonw_finish(&w, &o, "a voter", err);
    return rc < 0 ? rc : json_array_append_new(c->voters, o) < 0 ? no_memory(err) : 0;
}

static int add_votes(Count *c, const char *path, Err *err)
{
    json_t *file = NULL, *v;
    const char *name, *study, *voter;
    char *who = NULL;
    int64_t votes = 0, catches = 0, caught = 0;
    int rc = json_read_file(&file, path, err);
    if (rc == 0)
        rc = schema_check("votes", file, path, err);
    study = json_string_value(json_object_get(file, "study"));
    voter = json_string_value(json_object_get(file, "voter"));
    const json_t *key = study ? json_object_get(c->keys, study) : NULL;
    if (rc == 0 && !key)
        rc = err_set(err, ERR_USAGE, "'%s' has votes on page %s, whose key.json is not among the keys given", path,
                     study);
    if (rc == 0)
        rc = (who = mem_printf(err, "%s %s", study, voter)) ? 0 : ERR_NOMEM;
    if (rc == 0 && json_object_get(c->seen, who))
        rc = err_set(err, ERR_USAGE, "'%s': the votes of '%s' on this page are counted already", path, voter);
    if (rc == 0 && json_object_set_new(c->seen, who, json_true()) < 0)
        rc = no_memory(err);
    json_object_foreach (json_object_get(file, "votes"), name, v) {
        const json_t *p = rc == 0 ? pair_of(key, name) : NULL;
        if (rc < 0)
            break;
        if (!p) {
            rc = err_set(err, ERR_FORMAT, "'%s' has a vote on pair '%s', which its page does not have", path, name);
        } else if (json_is_true(json_object_get(p, "catch"))) {
            catches++;
            caught += strcmp(json_string_value(v), "tie") == 0;
        } else {
            count_vote(c, key, p, json_string_value(v));
            votes++;
        }
    }
    if (rc == 0)
        rc = note_voter(c, file, votes, catches, caught, err);
    mem_free(who);
    json_decref(file);
    return rc;
}

/* ---- results ---------------------------------------------------------------------------------- */
static const char *model_name(const Count *c, int64_t i)
{
    const char *name;
    json_t *number;
    json_object_foreach (c->models, name, number)
        if (json_integer_value(number) == i)
            return name;
    return "";
}

/* How often model b is preferred to a: the mean over prompts of each prompt's share. */
static int put_rate(JsonWriter *w, const Count *c, int64_t a, int64_t b, uint64_t seed, FILE *results, Err *err)
{
    double *share = mem_calloc(c->n_prompts, sizeof *share, err), won[2] = {0}, rate = 0, p = NAN, low = NAN,
           high = NAN;
    int64_t n = 0, all;
    int rc = share ? 0 : ERR_NOMEM;
    for (int64_t i = 0; i < c->n_prompts && rc == 0; i++) {
        double x = c->wins[(i * c->k + a) * c->k + b], y = c->wins[(i * c->k + b) * c->k + a];
        won[0] += x;
        won[1] += y;
        if (x + y > 0) {
            rate += y / (x + y);
            share[n++] = y / (x + y) - 0.5;
        }
    }
    all = (int64_t)(won[0] + won[1] + 0.5);
    if (rc == 0 && n > 0) {
        rate /= (double)n;
        rc = paired_p_value(share, n, seed, &p, err);
        if (rc == 0 && n > 1)
            rc = bootstrap_mean(share, n, seed, &low, &high, err);
        double ties = (double)c->tie[a][b] / 2;
        jsonw_open(w, NULL);
        jsonw_str(w, "base", model_name(c, a));
        jsonw_str(w, "tuned", model_name(c, b));
        jsonw_int(w, "votes", all);
        jsonw_int(w, "wins_base", (int64_t)(won[0] - ties + 0.5));
        jsonw_int(w, "wins_tuned", (int64_t)(won[1] - ties + 0.5));
        jsonw_int(w, "ties", c->tie[a][b]);
        jsonw_int(w, "prompts", n);
        jsonw_num(w, "win_rate", rate);
        if (n > 1) {
            jsonw_num(w, "low", low + 0.5);
            jsonw_num(w, "high", high + 0.5);
        } else {
            jsonw_null(w, "low");
            jsonw_null(w, "high");
        }
        jsonw_num(w, "p", p);
        jsonw_close(w);
        fprintf(results, "%s against %s: preferred in %.1f %%", model_name(c, b), model_name(c, a), 100 * rate);
        if (n > 1)
            fprintf(results, " [%.1f, %.1f]", 100 * (low + 0.5), 100 * (high + 0.5));
        fprintf(results, " of %" PRId64 " vote%s on %" PRId64 " prompt%s (%" PRId64 " tie%s), p %.3g\n", all,
                str_plural(all), n, str_plural(n), c->tie[a][b], str_plural(c->tie[a][b]), p);
    }
    mem_free(share);
    return rc;
}

/* The wins of all prompts, or of as many drawn ones (resample r of the stream). */
static void sum_wins(const Count *c, const Philox *draw, int64_t r, double *wins)
{
    memset(wins, 0, (size_t)(c->k * c->k) * sizeof *wins);
    for (int64_t i = 0; i < c->n_prompts; i++) {
        int64_t at = draw ? (int64_t)philox_below(draw, (uint64_t)(r * c->n_prompts + i), (uint64_t)c->n_prompts) : i;
        for (int64_t j = 0; j < c->k * c->k; j++)
            wins[j] += c->wins[at * c->k * c->k + j];
    }
}

/* Strengths of all models, with intervals over prompts: resamples that do not connect all models are left out. */
static int put_strengths(JsonWriter *w, const Count *c, uint64_t seed, FILE *results, Err *err)
{
    double wins[MODELS_MAX * MODELS_MAX], strength[MODELS_MAX], again[MODELS_MAX],
        *drawn = mem_calloc(c->k * RESAMPLES, sizeof *drawn, err);
    Philox draw = philox_stream(seed, RNG_BOOTSTRAP, 2, 0);
    int64_t n = 0;
    if (!drawn)
        return ERR_NOMEM;
    sum_wins(c, NULL, 0, wins);
    int rc = bradley_terry(wins, c->k, strength, err);
    for (int64_t r = 0; r < RESAMPLES && rc == 0; r++) {
        Err ignored = {0};
        sum_wins(c, &draw, r, wins);
        if (bradley_terry(wins, c->k, again, &ignored) == 0) {
            for (int64_t i = 0; i < c->k; i++)
                drawn[i * RESAMPLES + n] = again[i];
            n++;
        } else if (ignored.code == ERR_NOMEM) {
            rc = no_memory(err);
        }
    }
    for (int64_t i = 0; i < c->k && rc == 0; i++) {
        sort_ascending(drawn + i * RESAMPLES, n);
        jsonw_open(w, NULL);
        jsonw_str(w, "model", model_name(c, i));
        jsonw_num(w, "strength", strength[i]);
        if (n > 1) {
            jsonw_num(w, "low", percentile(drawn + i * RESAMPLES, n, 0.025));
            jsonw_num(w, "high", percentile(drawn + i * RESAMPLES, n, 0.975));
        } else {
            jsonw_null(w, "low");
            jsonw_null(w, "high");
        }
        jsonw_close(w);
        if (c->k > 2)
            fprintf(results, "%s: strength %.3f\n", model_name(c, i), strength[i]);
    }
    mem_free(drawn);
    return rc;
}

static int write_result(const Count *c, const char *folder, uint64_t seed, FILE *results, Err *err)
{
    JsonWriter w;
    json_t *out = NULL;
    char *path = path_join(folder, "votes.json", err);
    int rc = path ? 0 : ERR_NOMEM;
    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_int(&w, "seed", (int64_t)seed);
    jsonw_int(&w, "votes", c->votes);
    jsonw_share(&w, "voters", c->voters);
    jsonw_open_array(&w, "comparisons");
    for (int64_t a = 0; a < c->k; a++)
        for (int64_t b = a + 1; b < c->k && rc == 0; b++)
            rc = put_rate(&w, c, a, b, seed, results, err);
    jsonw_close(&w);
    jsonw_open_array(&w, "models");
    if (rc == 0)
        rc = put_strengths(&w, c, seed, results, err);
    jsonw_close(&w);
    int written = jsonw_finish(&w, &out, "votes.json", err);
    rc = rc < 0 ? rc : written;
    if (rc == 0)
        rc = schema_check("votes-result", out, path, err);
    if (rc == 0 && (rc = dir_make(folder, err)) == 0)
        rc = json_write_file(out, path, err);
    json_decref(out);
    mem_free(path);
    return rc;
}

int votes_count(const StrList *votes, const StrList *keys, const char *folder, uint64_t seed, FILE *results, Err *err)
{
    Count c = {.keys = json_object(),
               .models = json_object(),
               .prompts = json_object(),
               .voters = json_array(),
               .seen = json_object()};
    int rc = c.keys && c.models && c.prompts && c.voters && c.seen ? 0 : no_memory(err);
    for (int64_t i = 0; i < keys->n && rc == 0; i++)
        rc = add_key(&c, keys->item[i], err);
    c.k = (int64_t)json_object_size(c.models);
    c.n_prompts = (int64_t)json_object_size(c.prompts);
    if (rc == 0 && (c.k < 2 || c.k > MODELS_MAX))
        rc = err_set(err, ERR_USAGE, "the keys name %" PRId64 " models, expected 2 to %d", c.k, MODELS_MAX);
    if (rc == 0)
        rc = (c.wins = mem_calloc(c.n_prompts * c.k * c.k, sizeof *c.wins, err)) ? 0 : ERR_NOMEM;
    for (int64_t i = 0; i < votes->n && rc == 0; i++)
        rc = add_votes(&c, votes->item[i], err);
    if (rc == 0 && c.votes == 0)
        rc = err_set(err, ERR_FORMAT, "there is no vote in '%s' but on pairs that show one video twice",
                     votes->item[0]);
    if (rc == 0)
        rc = write_result(&c, folder, seed, results, err);
    mem_free(c.wins);
    json_decref(c.keys);
    json_decref(c.models);
    json_decref(c.prompts);
    json_decref(c.voters);
    json_decref(c.seen);
    return rc;
}
