#include "cache/prepared.h"
#include <stdio.h>
#include <string.h>
#include "cache/prepared_internal.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"

int files_find(const KeySet *s, const char *text, int64_t *number, Digest *key, Err *err)
{
    int rc = sha256_bytes(text, (int64_t)strlen(text), key, err);
    *number = rc == 0 ? keyset_find(s, key) : -1;
    return rc;
}

int prepared_find_clip(const Prepared *p, const char *id, int64_t *i, Err *err)
{
    Digest key;
    int rc = files_find(&p->files->id, id, i, &key, err);
    if (*i >= 0)
        *i = p->files->number[*i];
    return rc;
}

/* ---- clips ----------------------------------------------------------------------------------- */

static const char *const clip_members[] = {
    "id",          "decision",   "split",       "category", "captions",           "attributes", "clip.file",
    "clip.frames", "clip.width", "clip.height", "clip.fps", "clip.pixels_sha256", NULL};

const char *prepared_caption(const PreparedClip *c, int64_t k)
{
    const char *text = json_string_value(json_array_get(json_object_get(c->line, "captions"), (size_t)k));
    return text ? text : "";
}

/* Takes over the line. */
static int fill_clip(const Prepared *p, json_t *line, PreparedClip *c, Err *err)
{
    const json_t *clip = json_object_get(line, "clip"), *captions = json_object_get(line, "captions");
    const char *file = json_string_value(json_object_get(clip, "file"));
    int64_t n = (int64_t)json_array_size(captions);
    int rc;
    *c = (PreparedClip){.line = line,
                        .id = json_string_value(json_object_get(line, "id")),
                        .split = json_object_get(line, "split"),
                        .category = json_object_get(line, "category"),
                        .attributes = json_object_get(line, "attributes"),
                        .pixels_sha256 = json_string_value(json_object_get(clip, "pixels_sha256")),
                        .frames = json_integer_value(json_object_get(clip, "frames")),
                        .height = json_integer_value(json_object_get(clip, "height")),
                        .width = json_integer_value(json_object_get(clip, "width")),
                        .fps = json_integer_value(json_object_get(clip, "fps")),
                        .n_text = n ? n : 1}; /* a clip without a caption gets the empty one */
    if (!file)
        return err_set(err, ERR_FORMAT, "clip '%s' is accepted but has no file", c->id);
    if ((rc = path_check_relative(file, err)) < 0)
        return rc;
    c->path = path_join(p->files->dir, file, err);
    c->text = mem_calloc(c->n_text, sizeof *c->text, err);
    return c->path && c->text ? 0 : ERR_NOMEM;
}

void prepared_clip_fini(PreparedClip *c)
{
    json_decref(c->line);
    mem_free(c->path);
    mem_free(c->text);
    *c = (PreparedClip){0};
}

PreparedClip prepared_size(const Prepared *p)
{
    return (PreparedClip){.frames = p->size[0], .height = p->size[1], .width = p->size[2]};
}

int prepared_clip(Prepared *p, int64_t i, PreparedClip *out, Err *err)
{
    json_t *line;
    *out = (PreparedClip){0};
    int rc = schema_file_line(p->files->manifest, &p->files->clip[i], &line, err);
    if (rc == 0)
        rc = fill_clip(p, line, out, err);
    for (int64_t k = 0; rc == 0 && k < out->n_text; k++) {
        rc = prepared_find_text(p, prepared_caption(out, k), &out->text[k], err);
        if (rc == 0 && out->text[k] < 0)
            rc = err_set(err, ERR_FORMAT, "clip '%s' has other captions than before: run this again", out->id);
    }
    if (rc < 0)
        prepared_clip_fini(out);
    return rc;
}

typedef struct Reading {
    Prepared *p;
    struct PreparedFiles *f;
    int64_t shard, shards, accepted; /* accepted: clips seen so far */
} Reading;

static int add_clip(Reading *r, json_t *line, Err *err)
{
    Prepared *p = r->p;
    PreparedClip c;
    int rc = fill_clip(p, json_incref(line), &c, err);
    for (int64_t k = 0; rc == 0 && k < c.n_text; k++)
        rc = files_add_text(p, prepared_caption(&c, k), err);
    if (rc == 0)
        rc = mem_grow(&r->f->clip, p->n, &r->f->clip_room, sizeof *r->f->clip, err);
    if (rc == 0) {
        int64_t bytes = c.frames * c.height * c.width * 3;
        if (p->n == 0)
            memcpy(p->size, (int64_t[]){c.frames, c.height, c.width}, sizeof p->size);
        if (p->other_size < 0 && (c.frames != p->size[0] || c.height != p->size[1] || c.width != p->size[2]))
            p->other_size = p->n;
        p->rgb_bytes = bytes > p->rgb_bytes ? bytes : p->rgb_bytes;
        r->f->clip[p->n++] = schema_file_place(r->f->manifest);
    }
    prepared_clip_fini(&c);
    return rc;
}

static int manifest_line(void *user, const json_t *line, const char *where, Err *err)
{
    Reading *r = user;
    struct PreparedFiles *f = r->f;
    const char *id = json_string_value(json_object_get(line, "id"));
    Digest key;
    int64_t known;
    int rc = files_find(&f->id, id, &known, &key, err);
    if (rc == 0 && known >= 0)
        rc = err_set(err, ERR_FORMAT, "the id '%s' appears twice", id);
    if (rc == 0)
        rc = mem_grow(&f->number, f->id.n, &f->lines_room, sizeof *f->number, err);
    if (rc == 0)
        rc = keyset_add(&f->id, &key, err);
    int wanted = rc == 0 && strcmp(json_string_value(json_object_get(line, "decision")), "accept") == 0 &&
                 r->accepted++ % r->shards == r->shard;
    if (rc == 0)
        f->number[f->id.n - 1] = wanted ? (int32_t)r->p->n : -1;
    if (wanted)
        rc = add_clip(r, (json_t *)line, err);
    return rc < 0 ? err_wrap(err, rc, "%s", where) : 0;
}

/* ---- the dataset ----------------------------------------------------------------------------- */

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

static int open_manifest(SchemaFile **out, const char *path, const json_t *dataset, const char *const *members,
                         Err *err)
{
    const char *want = json_string_value(json_object_get(json_object_get(dataset, "manifest"), "sha256"));
    Digest d;
    char hex[65];
    int rc = schema_file_open(out, path, "manifest", members, err);
    if (rc == 0)
        rc = schema_file_sha256(*out, &d, err);
    if (rc < 0)
        return rc;
    digest_hex(&d, hex);
    return strcmp(hex, want) == 0
               ? 0
               : err_set(err, ERR_FORMAT,
                         "'%s' is not the manifest that dataset.json was written for: run weft-prep ingest again",
                         path);
}

int prepared_open(Prepared **out, const char *dir, int64_t shard, int64_t shards, const TextForm *form, Err *err)
{
    *out = NULL;
    Prepared *p = mem_calloc(1, sizeof *p, err);
    struct PreparedFiles *f = p ? p->files = mem_calloc(1, sizeof *f, err) : NULL;
    Reading r = {.p = p, .f = f, .shard = shard, .shards = shards};
    int rc = f ? 0 : ERR_NOMEM;
    if (rc == 0) {
        p->form = form ? *form : (TextForm){.length = 1};
        p->other_size = -1;
        p->rgb_bytes = 1;
        f->dir = mem_strdup(dir, err);
        f->manifest_path = path_join(dir, "manifest.jsonl", err);
        f->tokens_path = path_join(dir, "tokens.jsonl", err);
        rc = f->dir && f->manifest_path && f->tokens_path ? 0 : ERR_NOMEM;
    }
    if (rc == 0)
        rc = read_dataset(&p->dataset, dir, err);
    if (rc == 0)
        rc = open_manifest(&f->manifest, f->manifest_path, p->dataset, clip_members, err);
    if (rc == 0)
        rc = files_add_text(p, "", err);
    if (rc == 0)
        rc = schema_file_each(f->manifest, manifest_line, &r, err);
    if (rc == 0) {
        f->captions = p->n_text;
        rc = form ? files_read_tokens(p, err) : 0;
    }
    if (rc < 0) {
        prepared_close(&p);
        return err_wrap(err, rc, "'%s'", dir);
    }
    *out = p;
    return 0;
}

void prepared_close(Prepared **pp)
{
    Prepared *p = *pp;
    struct PreparedFiles *f = p ? p->files : NULL;
    if (f) {
        for (int64_t i = 0; f->added && i < p->n_text - f->captions; i++)
            prepared_text_fini(&f->added[i]);
        schema_file_close(&f->manifest);
        schema_file_close(&f->tokens);
        keyset_fini(&f->id);
        keyset_fini(&f->text);
        mem_free(f->dir);
        mem_free(f->manifest_path);
        mem_free(f->tokens_path);
        mem_free(f->number);
        mem_free(f->clip);
        mem_free(f->ids);
        mem_free(f->added);
        mem_free(f);
    }
    if (p)
        json_decref(p->dataset);
    mem_free(p);
    *pp = NULL;
}

/* ---- ids alone ------------------------------------------------------------------------------- */

static const char *const id_members[] = {"id", "decision", "clip.pixels_sha256", NULL};

typedef struct Ids {
    PreparedIdFn *f;
    void *user;
} Ids;

static int id_line(void *user, const json_t *line, const char *where, Err *err)
{
    const Ids *ids = user;
    if (strcmp(json_string_value(json_object_get(line, "decision")), "accept") != 0)
        return 0;
    int rc = ids->f(ids->user, json_string_value(json_object_get(line, "id")),
                    json_string_value(json_object_get(json_object_get(line, "clip"), "pixels_sha256")), err);
    return rc < 0 ? err_wrap(err, rc, "%s", where) : 0;
}

int prepared_each_id(const char *dir, PreparedIdFn *f, void *user, Err *err)
{
    Ids ids = {f, user};
    json_t *dataset = NULL;
    SchemaFile *manifest = NULL;
    char *path = path_join(dir, "manifest.jsonl", err);
    int rc = path ? read_dataset(&dataset, dir, err) : ERR_NOMEM;
    if (rc == 0)
        rc = open_manifest(&manifest, path, dataset, id_members, err);
    if (rc == 0)
        rc = schema_file_each(manifest, id_line, &ids, err);
    schema_file_close(&manifest);
    json_decref(dataset);
    mem_free(path);
    return rc < 0 ? err_wrap(err, rc, "'%s'", dir) : 0;
}
