#include "cache/export.h"
#include <string.h>
#include "cache/export_layout.h"
#include "cache/view.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "common/store/safetensors.h"

typedef struct Export {
    View view;
    const char *out;
    AtomicFile *lines; /* clips.jsonl */
    int64_t n;
} Export;

/* One file's tensors; names and the turned latents are owned. */
typedef struct Bundle {
    SafeSource *tensor;
    int64_t n;
    void *latents;
    json_t *sums; /* checksums by database, as in the line */
} Bundle;

static int bundle_init(Bundle *b, int64_t n, Err *err)
{
    b->sums = json_pack("{s:[], s:[], s:[]}", "latents", "texts", "tokens");
    b->tensor = mem_calloc(n, sizeof *b->tensor, err);
    return b->tensor && b->sums ? 0 : err_set(err, ERR_NOMEM, "no memory for a clip's tensors");
}

static void bundle_fini(Bundle *b)
{
    for (int64_t i = 0; i < b->n; i++)
        mem_free((char *)b->tensor[i].name);
    mem_free(b->tensor);
    mem_free_aligned(b->latents);
    json_decref(b->sums);
}

static int add(Bundle *b, const char *sums, const RecordView *r, const json_t *key, Tensor t, const char *name,
               int64_t k, Err *err)
{
    char hex[17];
    int rc = export_checksum(hex, r->kind, &r->tensor, json_string_value(key), err);
    if (rc < 0)
        return rc;
    char *full = k < 0 ? mem_strdup(name, err) : mem_printf(err, "%s.%" PRId64, name, k);
    b->tensor[b->n++] = (SafeSource){full, t};
    if (!full || json_array_append_new(json_object_get(b->sums, sums), json_string(hex)) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a clip's tensors");
    return 0;
}

static int add_latents(Bundle *b, View *v, const char *id, const json_t *hex, Err *err)
{
    RecordView r;
    Tensor turned = {0};
    int rc = view_need_record(v, CACHE_LATENTS, hex, id, &r, err);
    if (rc == 0 && !(turned.data = b->latents = mem_alloc_aligned(tensor_bytes(&r.tensor), err)))
        rc = ERR_NOMEM;
    if (rc < 0)
        return rc;
    channels_first(&turned, &r.tensor);
    return add(b, "latents", &r, hex, turned, r.kind == RECORD_MOMENTS ? "moments" : "latents", -1, err);
}

static int add_each(Bundle *b, View *v, CacheDb db, const char *id, const json_t *hexes, Err *err)
{
    int rc = 0;
    for (size_t k = 0; rc == 0 && k < json_array_size(hexes); k++) {
        RecordView r;
        rc = view_need_record(v, db, json_array_get(hexes, k), id, &r, err);
        if (rc == 0)
            rc = add(b, db == CACHE_TEXT ? "texts" : "tokens", &r, json_array_get(hexes, k), r.tensor,
                     db == CACHE_TEXT ? "text" : "tokens", (int64_t)k, err);
    }
    return rc;
}

static int export_clip(void *user, const char *id, json_t *facts, Err *err)
{
    Export *x = user;
    Bundle b = {0};
    const json_t *texts = json_object_get(facts, "texts"), *tokens = json_object_get(facts, "tokens");
    if (interrupt_requested())
        return err_set(err, ERR_INTERRUPTED, "stopped after %" PRId64 " clip%s; run the same command again", x->n,
                       str_plural(x->n));
    char *file = mem_printf(err, "clips/%05" PRId64 ".safetensors", x->n++);
    char *path = file ? path_join(x->out, file, err) : NULL;
    int rc = path ? bundle_init(&b, (int64_t)(1 + json_array_size(texts) + json_array_size(tokens)), err) : ERR_NOMEM;
    if (rc == 0)
        rc = add_latents(&b, &x->view, id, json_object_get(facts, "latents"), err);
    if (rc == 0)
        rc = add_each(&b, &x->view, CACHE_TEXT, id, texts, err);
    if (rc == 0)
        rc = add_each(&b, &x->view, CACHE_TOKENS, id, tokens, err);
    if (rc == 0)
        rc = safetensors_write(path, b.tensor, b.n, NULL, err);
    if (rc == 0 &&
        (json_object_set_new(facts, "id", json_string(id)) < 0 ||
         json_object_set_new(facts, "file", json_string(file)) < 0 || json_object_set(facts, "checksums", b.sums) < 0))
        rc = err_set(err, ERR_NOMEM, "no memory for a clip's line");
    if (rc == 0)
        rc = json_write_line(facts, atomic_stream(x->lines), err);
    bundle_fini(&b);
    mem_free(path);
    mem_free(file);
    return rc;
}

/* Which a cache may lack. */
static int add_colour(json_t *all, View *v, Err *err)
{
    json_t *value = NULL;
    int rc = cache_get_meta(v->txn, "colour", &value, err);
    if (rc <= 0)
        return rc;
    return json_object_set_new(all, "colour", value) < 0 ? err_set(err, ERR_NOMEM, "no memory for the meta entries")
                                                         : 0;
}

static int export_meta(Export *x, Err *err)
{
    static const char *const keys[] = {"vae", "text", "encoding", "dataset", "rejected", "recipe"};
    json_t *all = json_pack("{s:i}", "version", 1), *empty = NULL;
    char *path = path_join(x->out, "export.json", err), *file = path_join(x->out, "empty.safetensors", err);
    int rc = all && path && file ? 0 : err_set(err, ERR_NOMEM, "no memory for the meta entries");
    RecordView r;
    for (size_t i = 0; rc == 0 && i < sizeof keys / sizeof *keys; i++) {
        json_t *value = NULL;
        rc = view_meta(&x->view, keys[i], &value, err);
        if (rc == 0 && json_object_set_new(all, keys[i], value) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the meta entries");
    }
    if (rc == 0)
        rc = add_colour(all, &x->view, err);
    empty = json_object_get(json_object_get(all, "text"), "empty");
    if (rc == 0)
        rc = view_need_record(&x->view, CACHE_TEXT, empty, "the empty prompt", &r, err);
    if (rc == 0)
        rc = safetensors_write(file, &(SafeSource){"text", r.tensor}, 1, NULL, err);
    char hex[17];
    if (rc == 0)
        rc = export_checksum(hex, r.kind, &r.tensor, json_string_value(empty), err);
    if (rc == 0)
        rc = json_object_set_new(all, "empty_checksum", json_string(hex)) < 0
                 ? err_set(err, ERR_NOMEM, "no memory for the meta entries")
                 : json_write_file(all, path, err);
    json_decref(all);
    mem_free(path);
    mem_free(file);
    return rc;
}

int cache_export(const char *dir, const char *out, FILE *results, Err *err)
{
    Export x = {.out = out};
    char *clips = path_join(out, "clips", err), *lines = path_join(out, "clips.jsonl", err);
    int rc = clips && lines ? view_open(&x.view, dir, err) : ERR_NOMEM;
    if (rc == 0)
        rc = dir_make(clips, err);
    if (rc == 0)
        rc = export_meta(&x, err);
    if (rc == 0)
        rc = atomic_open(&x.lines, lines, err);
    if (rc == 0)
        rc = view_each_clip(&x.view, export_clip, &x, err);
    if (rc == 0)
        rc = atomic_commit(&x.lines, err);
    if (rc == 0)
        fprintf(results, "%s: %" PRId64 " clip%s\n", out, x.n, str_plural(x.n));
    atomic_abort(&x.lines);
    view_close(&x.view);
    mem_free(clips);
    mem_free(lines);
    return rc;
}
