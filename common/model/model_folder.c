#include "common/model/model_folder.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum { REVISION_MAX = 4096 };

static int has_folder(const char *dir, const char *name, Err *err)
{
    char *path = path_join(dir, name, err);
    int is = path ? file_is_dir(path) : ERR_NOMEM;
    mem_free(path);
    return is;
}

/* ---- a cache entry: models--OWNER--NAME/{refs,snapshots,blobs} -------------------------------- */

/* The revision that refs/main names, when its snapshot exists. */
static int main_revision(char **out, const char *entry, Err *err)
{
    char *ref = path_join(entry, "refs/main", err), *text = NULL, *path = NULL;
    int64_t size = 0;
    int rc = ref ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(ref))
        rc = file_read(ref, REVISION_MAX, &text, &size, err);
    if (rc == 0 && text) {
        text[strcspn(text, " \r\n")] = '\0';
        rc = path_check_relative(text, err);
    }
    if (rc == 0 && text && !(path = mem_printf(err, "%s/snapshots/%s", entry, text)))
        rc = ERR_NOMEM;
    if (rc == 0 && path && file_is_dir(path)) {
        *out = path;
        path = NULL;
    }
    mem_free(path);
    mem_free(text);
    mem_free(ref);
    return rc;
}

/* The only snapshot, where refs/main does not decide. */
static int only_revision(char **out, const char *entry, Err *err)
{
    char *snapshots = path_join(entry, "snapshots", err), **names = NULL;
    int64_t n = 0;
    int rc = snapshots ? dir_list(snapshots, &names, &n, err) : ERR_NOMEM;
    if (rc == 0 && n == 0)
        rc = err_set(err, ERR_NOTFOUND,
                     "'%s' is a Hugging Face cache entry without a snapshot: the download is not whole", entry);
    else if (rc == 0 && n > 1)
        rc = err_set(err, ERR_USAGE, "'%s' holds %" PRId64 " snapshots (%s, %s%s): give the folder of one of them",
                     snapshots, n, names[0], names[1], n > 2 ? ", ..." : "");
    else if (rc == 0)
        rc = (*out = path_join(snapshots, names[0], err)) ? 0 : ERR_NOMEM;
    dir_list_free(&names, n);
    mem_free(snapshots);
    return rc;
}

static int choose_snapshot(char **out, const char *entry, const Log *log, Err *err)
{
    int rc = main_revision(out, entry, err);
    if (rc == 0 && !*out)
        rc = only_revision(out, entry, err);
    if (rc == 0)
        log_info(log, "'%s' is a Hugging Face cache entry: the model is read from '%s'", entry, *out);
    return rc;
}

/* A folder of such entries: names them. */
static int refuse_cache_root(const char *dir, Err *err)
{
    char **names = NULL;
    int64_t n = 0, found = 0;
    Str list = {0};
    int rc = dir_list(dir, &names, &n, err);
    for (int64_t i = 0; i < n && rc == 0; i++)
        if (strncmp(names[i], "models--", 8) == 0 && found++ < 5)
            rc = str_printf(&list, err, "%s%s", found > 1 ? ", " : "", names[i]);
    if (rc == 0 && found)
        rc = err_set(err, ERR_USAGE,
                     "'%s' is a Hugging Face cache with %" PRId64 " models (%s%s): give the folder of one", dir, found,
                     list.data, found > 5 ? ", ..." : "");
    str_fini(&list);
    dir_list_free(&names, n);
    return rc;
}

/* ---- a hub id: OWNER/NAME -------------------------------------------------------------------- */

static int is_hub_id(const char *s)
{
    int slashes = 0;
    if (*s == '.' || *s == '/' || *s == '~' || str_ends_with(s, "/"))
        return 0;
    for (; *s; s++) {
        slashes += *s == '/';
        if (*s != '/' && !isalnum((unsigned char)*s) && !strchr("-_.", *s))
            return 0;
    }
    return slashes == 1;
}

/* Where Hugging Face's tools keep downloads, in the order in which they look; i counts up from 0,
 * *out NULL: the environment does not say. */
static int hub_root(char **out, int i, Err *err)
{
    static const struct {
        const char *variable, *below;
    } roots[] = {{"HF_HUB_CACHE", NULL},
                 {"HUGGINGFACE_HUB_CACHE", NULL},
                 {"HF_HOME", "hub"},
                 {"XDG_CACHE_HOME", "huggingface/hub"},
                 {"HOME", ".cache/huggingface/hub"}};
    *out = NULL;
    if (i >= (int)(sizeof roots / sizeof *roots))
        return 0;
    const char *dir = getenv(roots[i].variable);
    if (dir && *dir && !(*out = roots[i].below ? path_join(dir, roots[i].below, err) : mem_strdup(dir, err)))
        return ERR_NOMEM;
    return 1;
}

/* "OWNER/NAME" -> "ROOT/models--OWNER--NAME". */
static char *entry_of(const char *root, const char *id, Err *err)
{
    const char *slash = strchr(id, '/');
    return mem_printf(err, "%s/models--%.*s--%s", root, (int)(slash - id), id, slash + 1);
}

/* An owner that renamed itself: downloads lie under the name that was asked for. */
static char *other_id(const char *id, Err *err)
{
    static const char *const owners[2] = {"THUDM/", "zai-org/"};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(owners[i]);
        if (strncmp(id, owners[i], n) == 0)
            return mem_printf(err, "%s%s", owners[1 - i], id + n);
    }
    return mem_strdup(id, err);
}

/* The snapshot of `id` below `root`; *out stays NULL when there is none. */
static int find_below(char **out, const char *root, const char *id, const Log *log, Err *err)
{
    char *entry = entry_of(root, id, err);
    int rc = !entry ? ERR_NOMEM : file_is_dir(entry) ? choose_snapshot(out, entry, log, err) : 0;
    mem_free(entry);
    return rc;
}

static int find_hub_id(char **out, const char *id, const Log *log, Err *err)
{
    Str looked = {0};
    char *root = NULL, *other = other_id(id, err);
    int rc = other ? 0 : ERR_NOMEM;
    for (int i = 0; rc == 0 && !*out && (rc = hub_root(&root, i, err)) == 1; i++) {
        rc = root ? find_below(out, root, id, log, err) : 0;
        if (rc == 0 && root && !*out)
            rc = find_below(out, root, other, log, err);
        if (rc == 0 && root && !*out)
            rc = str_printf(&looked, err, "%s%s", looked.len ? ", " : "", root);
        mem_free(root);
    }
    mem_free(other);
    if (rc == 0 && !*out)
        rc = err_set(err, ERR_NOTFOUND,
                     "'%s' is not a folder, and Hugging Face's cache does not hold it (looked in: %s). Weft downloads "
                     "nothing: fetch it with 'hf download %s --local-dir DIR' and give DIR as the model",
                     id, looked.len ? looked.data : "nowhere, since HF_HOME and HOME are not set", id);
    str_fini(&looked);
    return rc;
}

int model_folder_find(char **out, const char *given, const Log *log, Err *err)
{
    *out = NULL;
    if (!file_exists(given)) {
        if (is_hub_id(given))
            return find_hub_id(out, given, log, err);
        return err_set(err, ERR_NOTFOUND,
                       "model folder '%s' does not exist: give a folder in diffusers' layout, or the OWNER/NAME of a "
                       "model in Hugging Face's cache (Weft downloads nothing; 'hf download zai-org/CogVideoX-2b "
                       "--local-dir DIR' does)",
                       given);
    }
    if (!file_is_dir(given))
        return err_set(err, ERR_USAGE, "'%s' is a file, expected the folder of a model", given);
    int snapshots = has_folder(given, "snapshots", err), rc = snapshots < 0 ? snapshots : 0;
    if (snapshots == 1)
        return choose_snapshot(out, given, log, err);
    if (rc == 0)
        rc = refuse_cache_root(given, err);
    if (rc == 0 && !(*out = mem_strdup(given, err)))
        rc = ERR_NOMEM;
    return rc;
}

/* ---- a recipe -------------------------------------------------------------------------------- */

/* "CogVideoX-2b" of "THUDM/CogVideoX-2b", and no folder of that name is here. */
static int names_one_model(const char *name, const char *weights)
{
    return name && weights && !strchr(name, '/') && is_hub_id(weights) &&
           strcasecmp(strchr(weights, '/') + 1, name) == 0 && !file_exists(name);
}

const char *model_folder_weights(const Recipe *recipe)
{
    const char *weights = recipe_str(recipe, "training.pretrained_weights");
    return names_one_model(recipe_str(recipe, "training.base_model"), weights) ? NULL : weights;
}

const char *model_folder_base(const Recipe *recipe, const char *option, int training)
{
    const char *weights = recipe_str(recipe, "training.pretrained_weights");
    const char *own = model_folder_weights(recipe) ? recipe_str(recipe, "training.base_model") : weights;
    const char *model = recipe_str(recipe, "model.base_model");
    if (!weights)
        own = recipe_str(recipe, "training.base_model");
    const char *const order[] = {option, training ? own : model, training ? model : own, weights};
    for (int i = 0; i < 4; i++)
        if (order[i])
            return order[i];
    return NULL;
}

int model_folder_of_recipe(char **out, const Recipe *recipe, const char *option, int training, const Log *log, Err *err)
{
    const char *given = model_folder_base(recipe, option, training);
    *out = NULL;
    return given ? model_folder_find(out, given, log, err)
                 : err_set(err, ERR_USAGE, "no %smodel: give --model FOLDER or set %s.base_model in the recipe",
                           training ? "base " : "", training ? "training" : "model");
}
