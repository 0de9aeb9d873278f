/* The weights of a model's component: which files of its folder hold them, and the index of a
 * sharded save.
 *
 * A folder can hold an older single file beside newer shards, since save_pretrained removes
 * nothing.  diffusers then reads the index, transformers the single file; Weft does what the
 * library that owns the component does, and says so. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/store/safetensors_internal.h"

#define INDEX_MARK ".safetensors.index."
enum { NAMES_SHOWN = 6, VARIANT_MAX = 40 };

/* ---- which files ----------------------------------------------------------------------------- */

typedef struct Found {
    char *single, *index; /* paths, or NULL when the file does not exist */
} Found;

static void found_fini(Found *f)
{
    mem_free(f->single);
    mem_free(f->index);
    *f = (Found){0};
}

/* *path stays only when the file exists.  "Could not look" is an error, never "does not exist". */
static int keep_if_exists(char **path, Err *err)
{
    struct stat st;
    if (stat(*path, &st) == 0)
        return 0;
    int rc = errno == ENOENT || errno == ENOTDIR ? 0 : err_errno(err, errno, "'%s'", *path);
    mem_free(*path);
    *path = NULL;
    return rc;
}

/* variant "" for the plain names, else as diffusers and transformers insert it: STEM.fp16.safetensors
 * and STEM.safetensors.index.fp16.json. */
static int look_for(Found *f, const char *folder, const char *stem, const char *variant, Err *err)
{
    const char *dot = *variant ? "." : "";
    f->single = mem_printf(err, "%s/%s%s%s.safetensors", folder, stem, dot, variant);
    f->index = mem_printf(err, "%s/%s" INDEX_MARK "%s%sjson", folder, stem, variant, dot);
    int rc = f->single && f->index ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = keep_if_exists(&f->single, err);
    if (rc == 0)
        rc = keep_if_exists(&f->index, err);
    return rc;
}

/* The variant in a file name ("fp16" in STEM.fp16.safetensors and in STEM.safetensors.index.fp16.json), or
 * 0.  Shards (STEM.fp16-00001-of-00002.safetensors) count only through their index. */
static int variant_of(char out[VARIANT_MAX], const char *name, const char *stem)
{
    size_t n = strlen(stem), mark = strlen(INDEX_MARK);
    if (strncmp(name, stem, n) != 0)
        return 0;
    name += n;
    const char *end;
    if (strncmp(name, INDEX_MARK, mark) == 0) {
        name += mark;
        end = str_ends_with(name, ".json") ? name + strlen(name) - strlen(".json") : name;
    } else if (*name == '.' && str_ends_with(++name, ".safetensors")) {
        end = name + strlen(name) - strlen(".safetensors");
    } else {
        return 0;
    }
    size_t length = (size_t)(end - name);
    if (length == 0 || length >= VARIANT_MAX || memchr(name, '.', length) || memchr(name, '-', length))
        return 0;
    memcpy(out, name, length);
    out[length] = '\0';
    return 1;
}

/* What a folder without readable weights holds, for the message. */
static int describe_folder(Str *out, char *const *names, int64_t n, Err *err)
{
    int64_t shown = 0;
    int rc = str_append(out, n ? "" : "it is empty", err);
    for (int64_t i = 0; i < n && rc == 0; i++)
        if (shown++ < NAMES_SHOWN)
            rc = str_printf(out, err, "%s%s", i ? ", " : "it holds ", names[i]);
    if (rc == 0 && shown > NAMES_SHOWN)
        rc = str_printf(out, err, " and %" PRId64 " more", shown - NAMES_SHOWN);
    return rc;
}

static const char *pickle_among(char *const *names, int64_t n)
{
    static const char *const endings[] = {".bin", ".pt", ".pth", ".ckpt", ".bin.index.json"};
    for (int64_t i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof endings / sizeof *endings; k++)
            if (str_ends_with(names[i], endings[k]))
                return names[i];
    return NULL;
}

static int no_weights(const char *folder, const char *stem, char *const *names, int64_t n, Err *err)
{
    Str held = {0};
    const char *pickle = pickle_among(names, n);
    int rc = describe_folder(&held, names, n, err);
    if (rc == 0 && pickle)
        rc = err_set(err, ERR_NOTFOUND,
                     "'%s' has neither %s.safetensors nor %s.safetensors.index.json; %s. %s is a PyTorch pickle, which "
                     "Weft does not read: fetch the .safetensors files, or save the model again with "
                     "save_pretrained(..., safe_serialization=True)",
                     folder, stem, stem, held.data, pickle);
    else if (rc == 0)
        rc = err_set(err, ERR_NOTFOUND, "'%s' has neither %s.safetensors nor %s.safetensors.index.json; %s", folder,
                     stem, stem, held.data);
    str_fini(&held);
    return rc;
}

/* No plain name exists: the only variant in the folder is read, and named in the log. */
static int find_variant(Found *f, const char *folder, const char *stem, const Log *log, Err *err)
{
    char **names = NULL, variant[VARIANT_MAX] = "", other[VARIANT_MAX];
    int64_t n = 0;
    int rc = dir_list(folder, &names, &n, err), several = 0;
    for (int64_t i = 0; i < n && rc == 0 && !several; i++) {
        if (!variant_of(other, names[i], stem))
            continue;
        several = *variant && strcmp(variant, other) != 0;
        if (!several)
            memcpy(variant, other, sizeof variant);
    }
    if (rc == 0 && several)
        rc = err_set(
            err, ERR_USAGE,
            "'%s' has no %s.safetensors but several variants of it (%s, %s): keep one in the folder, or rename "
            "the one to use to %s.safetensors",
            folder, stem, variant, other, stem);
    else if (rc == 0 && !*variant)
        rc = no_weights(folder, stem, names, n, err);
    else if (rc == 0 && (rc = look_for(f, folder, stem, variant, err)) == 0)
        log_info(log, "'%s': reading the %s variant of the weights, the only one there", folder, variant);
    dir_list_free(&names, n);
    return rc;
}

/* ---- the sharded index ----------------------------------------------------------------------- */

static int is_plain_name(const char *s)
{
    return *s && strcmp(s, ".") != 0 && strcmp(s, "..") != 0 && !strchr(s, '/') && !strchr(s, '\\');
}

/* The distinct shard names of the map, each once, into s->shard. */
static int collect_shards(SafeTensors *s, const json_t *map, Err *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach ((json_t *)map, tensor, value) {
        const char *name = json_string_value(value);
        if (!name || !is_plain_name(name))
            return err_set(err, ERR_FORMAT, "weight_map '%.200s': expected a plain file name, found '%.200s'", tensor,
                           name ? name : "no string");
        int64_t i = 0;
        while (i < s->n_shard && strcmp(s->shard[i].name, name) != 0)
            i++;
        if (i < s->n_shard)
            continue;
        Shard *grown = mem_realloc(s->shard, s->n_shard + 1, sizeof *grown, err);
        if (!grown)
            return ERR_NOMEM;
        s->shard = grown;
        s->shard[i] = (Shard){.name = mem_strdup(name, err)};
        if (!s->shard[i].name)
            return ERR_NOMEM;
        s->n_shard++;
    }
    return 0;
}

/* Moves the shard's listed entries into s; those the map does not list are left out with a warning. */
static int adopt_entries(SafeTensors *s, const Shard *shard, const json_t *map, SafeEntry *entry, int64_t n,
                         const Log *log, Err *err)
{
    SafeEntry *grown = mem_realloc(s->entry, s->n + n, sizeof *grown, err);
    if (!grown)
        return ERR_NOMEM;
    s->entry = grown;
    for (int64_t i = 0; i < n; i++) {
        const char *owner = json_string_value(json_object_get(map, entry[i].name));
        if (!owner) {
            log_warn_once(log, "'%s': tensor '%s' is not in the index and is left out", shard->name, entry[i].name);
            continue;
        }
        if (strcmp(owner, shard->name) != 0)
            return err_set(err, ERR_FORMAT, "tensor '%s' is in '%s', the index places it in '%s'", entry[i].name,
                           shard->name, owner);
        s->entry[s->n++] = entry[i];
        entry[i].name = NULL; /* s owns it */
    }
    return 0;
}

static void check_total(const SafeTensors *s, const json_t *index, const char *path, const Log *log)
{
    const json_t *total = json_object_get(json_object_get(index, "metadata"), "total_size");
    int64_t bytes = 0;
    for (int64_t i = 0; i < s->n; i++)
        bytes += tensor_bytes(&s->entry[i].tensor);
    if (json_is_number(total) && json_number_value(total) != (double)bytes)
        log_warn_once(log, "'%s': total_size is %.0f, the shards hold %" PRId64 " bytes", path,
                      json_number_value(total), bytes);
}

/* Names of the map that no shard held, all in one message. */
static int check_all_present(const SafeTensors *s, const json_t *map, Err *err)
{
    Str missing = {0};
    const char *tensor;
    json_t *value;
    int64_t n = 0;
    int rc = 0;
    json_object_foreach ((json_t *)map, tensor, value) {
        if (safetensors_find(s, tensor))
            continue;
        if (n++ < 10)
            rc = str_printf(&missing, err, "%s'%s' in '%s'", n > 1 ? ", " : "", tensor, json_string_value(value));
        if (rc < 0)
            break;
    }
    if (rc == 0 && n > 0)
        rc = err_set(err, ERR_FORMAT, "%" PRId64 " tensors of the index are missing: %s%s", n, missing.data,
                     n > 10 ? ", ..." : "");
    str_fini(&missing);
    return rc;
}

static int open_index(SafeTensors *s, const char *folder, const char *path, const Log *log, Err *err)
{
    json_t *index = NULL;
    int rc = json_read_file(&index, path, err);
    if (rc < 0)
        return rc;
    const json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map)) {
        rc = err_set(err, ERR_FORMAT, "weight_map is missing or not an object");
        goto fail;
    }
    if ((rc = collect_shards(s, map, err)) < 0)
        goto fail;
    for (int64_t i = 0; i < s->n_shard; i++) {
        SafeEntry *entry = NULL;
        int64_t n = 0;
        char *file = path_join(folder, s->shard[i].name, err);
        rc = file ? shard_open(&s->shard[i], file, &entry, &n, err) : ERR_NOMEM;
        mem_free(file);
        if (rc == 0)
            rc = adopt_entries(s, &s->shard[i], map, entry, n, log, err);
        entries_free(entry, entry ? n : 0);
        if (rc < 0)
            goto fail;
    }
    qsort(s->entry, (size_t)s->n, sizeof *s->entry, entry_by_name);
    if ((rc = check_all_present(s, map, err)) < 0)
        goto fail;
    check_total(s, index, path, log);
fail:
    json_decref(index);
    return rc < 0 ? err_wrap(err, rc, "'%s'", path) : 0;
}

/* diffusers prefers the index, transformers (whose stem is "model") the single file. */
static int prefers_index(const char *stem)
{
    return strcmp(stem, "model") != 0;
}

int safetensors_open_folder(SafeTensors **out, const char *folder, const char *stem, const Log *log, Err *err)
{
    *out = NULL;
    SafeTensors *s = NULL;
    Found f = {0};
    int rc = look_for(&f, folder, stem, "", err);
    if (rc == 0 && !f.single && !f.index)
        rc = find_variant(&f, folder, stem, log, err);
    if (rc < 0)
        goto fail;
    int index = f.index && (!f.single || prefers_index(stem));
    if (f.single && f.index)
        log_warn_once(log, "'%s' holds both %s and %s: %s is read, as %s does; remove the other if it is out of date",
                      folder, path_base(f.single), path_base(f.index), path_base(index ? f.index : f.single),
                      prefers_index(stem) ? "diffusers" : "transformers");
    if (!index)
        rc = safetensors_open(&s, f.single, err);
    else if (!(s = mem_calloc(1, sizeof *s, err)))
        rc = ERR_NOMEM;
    else
        rc = open_index(s, folder, f.index, log, err);
fail:
    found_fini(&f);
    if (rc < 0)
        safetensors_close(&s);
    *out = s;
    return rc;
}
