#include "cache/prepared.h"
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/schema_lines.h"

/* The state that the line readers below share. */
typedef struct Reading {
    Prepared *p;
    const char *dir;
    int64_t shard, shards;
    int64_t accepted;     /* clips seen so far */
    json_t *ids;          /* clip id -> true, to find an id that appears twice */
    json_t *texts;        /* caption -> index into p->text */
    json_t *shared;       /* text -> the same as a JSON string, which clips share */
    json_t *empty;        /* {} */
    char *has_tokens;     /* [p->n_text] */
    const void *ids_only; /* an Ids */
} Reading;

typedef int (*RecordFn)(Reading *r, const json_t *line, Err *err);
typedef struct Lines {
    Reading *r;
    RecordFn f;
} Lines;

static int one_line(void *user, const json_t *line, const char *where, Err *err)
{
    const Lines *l = user;
    int rc = l->f(l->r, line, err);
    return rc < 0 ? err_wrap(err, rc, "%s", where) : 0;
}

/* Calls f with every line of DIR/name, validated against the schema; members: as in
 * schema_each_line. */
static int each_line(Reading *r, const char *name, const char *schema_name, const char *const *members, RecordFn f,
                     Err *err)
{
    char *path = path_join(r->dir, name, err);
    int rc = path ? schema_each_line(path, schema_name, members, one_line, &(Lines){r, f}, err) : ERR_NOMEM;
    mem_free(path);
    return rc;
}

/* Index of a caption in p->text, added when it is new. */
static int text_index(Reading *r, const char *text, int64_t *index, Err *err)
{
    Prepared *p = r->p;
    const json_t *known = json_object_get(r->texts, text);
    if (known) {
        *index = (int64_t)json_integer_value(known);
        return 0;
    }
    PreparedText *grown = mem_realloc(p->text, p->n_text + 1, sizeof *grown, err);
    if (!grown)
        return ERR_NOMEM;
    p->text = grown;
    grown[p->n_text] = (PreparedText){.text = mem_strdup(text, err)};
    *index = p->n_text++;
    if (!grown[*index].text)
        return ERR_NOMEM;
    return json_object_set_new(r->texts, text, json_integer(*index)) < 0
               ? err_set(err, ERR_NOMEM, "no memory for the captions")
               : 0;
}

/* The member as clips share it: a new reference. */
static int share(Reading *r, const json_t *line, const char *key, json_t **out, Err *err)
{
    json_t *v = json_object_get(line, key), *known;
    *out = NULL;
    if (json_is_object(v) && json_object_size(v) == 0) {
        v = r->empty;
    } else if (json_is_string(v)) {
        known = json_object_get(r->shared, json_string_value(v));
        if (!known && json_object_set(r->shared, json_string_value(v), v) < 0)
            return err_set(err, ERR_NOMEM, "no memory for a clip's facts");
        v = known ? known : v;
    }
    *out = json_incref(v);
    return 0;
}

static int fill_clip(Reading *r, PreparedClip *c, const json_t *line, Err *err)
{
    const json_t *clip = json_object_get(line, "clip"), *captions = json_object_get(line, "captions");
    const char *file = json_string_value(json_object_get(clip, "file"));
    int rc;
    if (!file)
        return err_set(err, ERR_FORMAT, "clip '%s' is accepted but has no file",
                       json_string_value(json_object_get(line, "id")));
    if ((rc = path_check_relative(file, err)) < 0)
        return rc;
    if ((rc = share(r, line, "split", &c->split, err)) < 0 ||
        (rc = share(r, line, "category", &c->category, err)) < 0 ||
        (rc = share(r, line, "attributes", &c->attributes, err)) < 0)
        return rc;
    if (!(c->id = mem_strdup(json_string_value(json_object_get(line, "id")), err)))
        return ERR_NOMEM;
    if (!(c->path = path_join(r->dir, file, err)))
        return ERR_NOMEM;
    c->frames = json_integer_value(json_object_get(clip, "frames"));
    c->height = json_integer_value(json_object_get(clip, "height"));
    c->width = json_integer_value(json_object_get(clip, "width"));
    c->fps = json_integer_value(json_object_get(clip, "fps"));
    if (!(c->pixels_sha256 = mem_strdup(json_string_value(json_object_get(clip, "pixels_sha256")), err)))
        return ERR_NOMEM;
    int64_t n = (int64_t)json_array_size(captions);
    c->n_text = n ? n : 1; /* a clip without a caption gets the empty one */
    if (!(c->text = mem_calloc(c->n_text, sizeof *c->text, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++)
        if ((rc = text_index(r, json_string_value(json_array_get(captions, (size_t)i)), &c->text[i], err)) < 0)
            return rc;
    return 0;
}

static int manifest_line(Reading *r, const json_t *line, Err *err)
{
    Prepared *p = r->p;
    const char *id = json_string_value(json_object_get(line, "id"));
    if (json_object_get(r->ids, id))
        return err_set(err, ERR_FORMAT, "the id '%s' appears twice", id);
    if (json_object_set_new(r->ids, id, json_true()) < 0)
        return err_set(err, ERR_NOMEM, "no memory for the clips' ids");
    if (strcmp(json_string_value(json_object_get(line, "decision")), "accept") != 0)
        return 0;
    if (r->accepted++ % r->shards != r->shard)
        return 0;
    PreparedClip *grown = mem_realloc(p->clip, p->n + 1, sizeof *grown, err);
    if (!grown)
        return ERR_NOMEM;
    p->clip = grown;
    p->clip[p->n] = (PreparedClip){0};
    return fill_clip(r, &p->clip[p->n++], line, err);
}

/* Refuses two tokenisers in one dataset, another length than the recipe's, and ids that do not end
 * in </s>.  Captions that no clip of this shard uses are skipped. */
static int tokens_line(Reading *r, const json_t *line, Err *err)
{
    Prepared *p = r->p;
    const char *text = json_string_value(json_object_get(line, "text"));
    const char *tokenizer = json_string_value(json_object_get(line, "tokenizer_sha256"));
    const char *encoder = json_string_value(json_object_get(line, "text_encoder"));
    const json_t *ids = json_object_get(line, "ids"), *known = json_object_get(r->texts, text);
    int64_t length = json_integer_value(json_object_get(line, "length")), n = (int64_t)json_array_size(ids);
    if (!encoder) /* written before there was a choice */
        encoder = text_kind_key(TEXT_T5);
    if (strcmp(encoder, text_kind_key(p->form.kind)) != 0)
        return err_set(err, ERR_USAGE,
                       "ids are of %s, but the model's text encoder is %s: run weft-prep tokenize with the model's "
                       "tokeniser",
                       text_kind_name(text_kind_parse(encoder)), text_kind_name(p->form.kind));
    if (length != p->form.length)
        return err_set(err, ERR_USAGE,
                       "ids are padded to %" PRId64 ", but model.text_length is %" PRId64 ": set it to %" PRId64
                       ", or run weft-prep tokenize with this recipe",
                       length, p->form.length, length);
    if (p->tokenizer_sha256[0] && strcmp(p->tokenizer_sha256, tokenizer) != 0)
        return err_set(
            err, ERR_FORMAT,
            "this line was made with another tokeniser than the lines before it; run weft-prep tokenize again");
    memcpy(p->tokenizer_sha256, tokenizer, 65);
    if (n > length || json_integer_value(json_array_get(ids, (size_t)n - 1)) != p->form.last)
        return err_set(err, ERR_FORMAT, "expected at most %" PRId64 " ids with the end mark (%d) last", length,
                       p->form.last);
    if (!known)
        return 0;
    PreparedText *t = &p->text[json_integer_value(known)];
    mem_free(t->ids);
    if (!(t->ids = mem_calloc(n, sizeof *t->ids, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++) {
        int64_t id = json_integer_value(json_array_get(ids, (size_t)i));
        if (id > INT32_MAX)
            return err_set(err, ERR_FORMAT, "the id %" PRId64 " is too large", id);
        t->ids[i] = (int32_t)id;
    }
    t->n = n;
    t->cut = json_integer_value(json_object_get(line, "cut"));
    mem_free(t->cut_text);
    if (!(t->cut_text = mem_strdup(json_string_value(json_object_get(line, "cut_text")), err)))
        return ERR_NOMEM;
    r->has_tokens[json_integer_value(known)] = 1;
    return 0;
}

static const char *const clip_members[] = {
    "id",          "decision",   "split",       "category", "captions",           "attributes", "clip.file",
    "clip.frames", "clip.width", "clip.height", "clip.fps", "clip.pixels_sha256", NULL};
static const char *const id_members[] = {"id", "decision", "clip.pixels_sha256", NULL};

static int check_manifest(const Prepared *p, const char *dir, Err *err)
{
    const char *want = json_string_value(json_object_get(json_object_get(p->dataset, "manifest"), "sha256"));
    char *path = path_join(dir, "manifest.jsonl", err), hex[65];
    if (!path)
        return ERR_NOMEM;
    int rc = sha256_file_hex(path, hex, err);
    if (rc == 0 && strcmp(hex, want) != 0)
        rc = err_set(err, ERR_FORMAT,
                     "'%s' is not the manifest that dataset.json was written for: run weft-prep ingest again", path);
    mem_free(path);
    return rc;
}

static int read_dataset(json_t **dataset, const char *dir, Err *err)
{
    char *path = path_join(dir, "dataset.json", err);
    if (!path)
        return ERR_NOMEM;
    int rc = json_read_file(dataset, path, err);
    if (rc == ERR_NOTFOUND)
        err_wrap(err, rc, "not a finished prepared dataset (weft-prep ingest makes one)");
    if (rc == 0)
        rc = schema_check("dataset", *dataset, path, err);
    mem_free(path);
    return rc;
}

int prepared_adopt(Recipe *recipe, const char *dir, Err *err)
{
    static const char *const paths[] = {"clip.width",        "clip.height",       "clip.fps", "clip.num_frames",
                                        "clip.model_frames", "model.text_length", NULL};
    static const char *const without_text[] = {"clip.width",      "clip.height",       "clip.fps",
                                               "clip.num_frames", "clip.model_frames", NULL};
    json_t *dataset = NULL;
    int rc = read_dataset(&dataset, dir, err);
    if (rc == 0)
        rc = recipe_adopt(recipe, json_object_get(dataset, "recipe"),
                          recipe_given(recipe, "model.text_length") ? without_text : paths, dir, err);
    json_decref(dataset);
    return rc;
}

static int check_tokens(const Reading *r, Err *err)
{
    const Prepared *p = r->p;
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t k = 0; k < p->clip[i].n_text; k++)
            if (!r->has_tokens[p->clip[i].text[k]])
                return err_set(err, ERR_FORMAT,
                               "clip '%s': its caption \"%.80s\" is not in tokens.jsonl: run weft-prep tokenize",
                               p->clip[i].id, p->text[p->clip[i].text[k]].text);
    return 0;
}

void prepared_empty(PreparedText *t, const TextForm *form)
{
    t->n = 0;
    if (form->first >= 0)
        t->ids[t->n++] = form->first;
    t->ids[t->n++] = form->last;
    prepared_pad(t, form, t->ids);
}

void prepared_pad(const PreparedText *t, const TextForm *form, int32_t *out)
{
    if (out != t->ids)
        memcpy(out, t->ids, (size_t)t->n * sizeof *out);
    for (int64_t i = t->n; i < form->length; i++)
        out[i] = form->pad;
}

static int make_empty(PreparedText *t, const TextForm *form, Err *err)
{
    if (!(t->ids = mem_calloc(form->length, sizeof *t->ids, err)))
        return ERR_NOMEM;
    prepared_empty(t, form);
    return 0;
}

int prepared_open(Prepared **out, const char *dir, int64_t shard, int64_t shards, const TextForm *form, Err *err)
{
    *out = NULL;
    Prepared *p = mem_calloc(1, sizeof *p, err);
    if (!p)
        return ERR_NOMEM;
    p->form = form ? *form : (TextForm){.length = 1};
    Reading r = {.p = p,
                 .dir = dir,
                 .shard = shard,
                 .shards = shards,
                 .ids = json_object(),
                 .texts = json_object(),
                 .shared = json_object(),
                 .empty = json_object()};
    int64_t empty;
    int rc = r.ids && r.texts && r.shared && r.empty ? 0 : err_set(err, ERR_NOMEM, "no memory to read '%s'", dir);
    if (rc == 0)
        rc = read_dataset(&p->dataset, dir, err);
    if (rc == 0)
        rc = check_manifest(p, dir, err);
    if (rc == 0)
        rc = text_index(&r, "", &empty, err);
    if (rc == 0)
        rc = each_line(&r, "manifest.jsonl", "manifest", clip_members, manifest_line, err);
    if (rc == 0 && !(r.has_tokens = mem_calloc(p->n_text, 1, err)))
        rc = ERR_NOMEM;
    if (rc == 0 && form && (rc = make_empty(&p->text[0], form, err)) == 0) {
        r.has_tokens[0] = 1;
        rc = each_line(&r, "tokens.jsonl", "tokens", NULL, tokens_line, err);
        if (rc == ERR_NOTFOUND)
            err_wrap(err, rc, "run weft-prep tokenize first");
    }
    if (rc == 0 && form)
        rc = check_tokens(&r, err);
    json_decref(r.ids);
    json_decref(r.texts);
    json_decref(r.shared);
    json_decref(r.empty);
    mem_free(r.has_tokens);
    if (rc < 0) {
        prepared_close(&p);
        return err_wrap(err, rc, "'%s'", dir);
    }
    *out = p;
    return 0;
}

int64_t prepared_rgb_bytes(const Prepared *p)
{
    int64_t most = 1;
    for (int64_t i = 0; i < p->n; i++) {
        int64_t bytes = p->clip[i].frames * p->clip[i].height * p->clip[i].width * 3;
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* ---- ids alone ------------------------------------------------------------------------------- */

typedef struct Ids {
    PreparedIdFn *f;
    void *user;
} Ids;

static int id_line(Reading *r, const json_t *line, Err *err)
{
    const Ids *ids = r->ids_only;
    if (strcmp(json_string_value(json_object_get(line, "decision")), "accept") != 0)
        return 0;
    return ids->f(ids->user, json_string_value(json_object_get(line, "id")),
                  json_string_value(json_object_get(json_object_get(line, "clip"), "pixels_sha256")), err);
}

int prepared_each_id(const char *dir, PreparedIdFn *f, void *user, Err *err)
{
    Prepared p = {0};
    Ids ids = {f, user};
    Reading r = {.p = &p, .dir = dir, .ids_only = &ids};
    int rc = read_dataset(&p.dataset, dir, err);
    if (rc == 0)
        rc = check_manifest(&p, dir, err);
    if (rc == 0)
        rc = each_line(&r, "manifest.jsonl", "manifest", id_members, id_line, err);
    json_decref(p.dataset);
    return rc < 0 ? err_wrap(err, rc, "'%s'", dir) : 0;
}

void prepared_close(Prepared **pp)
{
    Prepared *p = *pp;
    if (!p)
        return;
    for (int64_t i = 0; i < p->n; i++) {
        mem_free(p->clip[i].id);
        mem_free(p->clip[i].path);
        mem_free((char *)p->clip[i].pixels_sha256);
        mem_free(p->clip[i].text);
        json_decref(p->clip[i].split);
        json_decref(p->clip[i].category);
        json_decref(p->clip[i].attributes);
    }
    for (int64_t i = 0; i < p->n_text; i++) {
        mem_free(p->text[i].text);
        mem_free(p->text[i].ids);
        mem_free(p->text[i].cut_text);
    }
    mem_free(p->clip);
    mem_free(p->text);
    json_decref(p->dataset);
    mem_free(p);
    *pp = NULL;
}
