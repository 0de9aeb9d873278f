/* The checks made before the first second of work, and by --dry-run. */
#include <string.h>

#include "common/base/disk.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "infer/sample_internal.h"

static int check_latents_out(const char *path, Err *err)
{
    SafeTensors *old = NULL;
    if (file_is_dir(path))
        return err_set(err, ERR_USAGE, "--latents-out '%s' is a folder; give the name of a file", path);
    char *folder = path_dir(path, err);
    int rc = folder ? 0 : ERR_NOMEM;
    if (rc == 0 && !file_is_dir(folder))
        rc = err_set(err, ERR_NOTFOUND, "--latents-out '%s': the folder '%s' does not exist; make it first", path,
                     folder);
    if (rc == 0)
        rc = disk_check_writable(folder, "--latents-out", err);
    if (rc == 0 && file_exists(path)) {
        rc = safetensors_open(&old, path, err);
        if (rc < 0)
            err_wrap(err, rc, "--latents-out would replace a file that is no latents file");
    }
    safetensors_close(&old);
    mem_free(folder);
    return rc;
}

/* Steps that prompts ask for themselves, and the places of their categories' folders. */
static int check_prompts(const Run *r, Err *err)
{
    const Prompt *before = NULL;
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++) {
        const Prompt *p = &r->prompts.item[i];
        if (p->steps && (!before || before->steps != p->steps))
            rc = pipeline_check_steps(r->pipe, p->steps, err);
        if (rc == 0 && p->category && (!before || !before->category || strcmp(before->category, p->category) != 0)) {
            char *folder = path_join(r->o->out, p->category, err);
            rc = !folder ? ERR_NOMEM
                 : file_exists(folder) && !file_is_dir(folder)
                     ? err_set(err, ERR_USAGE, "'%s' is a file; it would be the folder of a category", folder)
                     : 0;
            mem_free(folder);
        }
        if (rc < 0)
            err_wrap(err, rc, "prompt '%s'", p->id);
        before = p;
    }
    return rc;
}

/* The list and the page, which are written last. */
static int check_pages(const char *out, Err *err)
{
    static const char *const pages[] = {"index.json", "index.html", "contact.png"};
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        char *path = path_join(out, pages[i], err);
        rc = !path ? ERR_NOMEM
             : file_is_dir(path)
                 ? err_set(err, ERR_USAGE, "'%s' is a folder; it would be the file that shows all videos", path)
                 : 0;
        mem_free(path);
    }
    return rc;
}

/* Embeddings of a cache: their shape, and those that guidance steers away from. */
static int check_cached(const Run *r, Err *err)
{
    int rc = cached_check_shape(r->cached, r->sizes.text_len, r->sizes.text_dim, err);
    if (rc == 0 && r->s.guidance > 1.0)
        rc = cached_check_text(r->cached, recipe_str(r->recipe, "sampling.negative_prompt"), err);
    for (int64_t i = r->shard; rc == 0 && i < r->prompts.n; i += r->shards)
        rc = cached_check_text(r->cached, r->prompts.item[i].text, err);
    return rc;
}

int sample_check(Run *r, Err *err)
{
    int rc = disk_check_writable(r->o->out, "--out", err);
    if (rc == 0)
        rc = check_pages(r->o->out, err);
    if (rc == 0)
        rc = sample_check_formats(r, err);
    if (rc == 0 && r->cached)
        rc = check_cached(r, err);
    if (rc == 0)
        rc = check_prompts(r, err);
    if (rc == 0 && r->o->latents_out)
        rc = check_latents_out(r->o->latents_out, err);
    return rc == 0 ? pipeline_check_parts(r->pipe, err) : rc;
}

/* ---- disk space ------------------------------------------------------------------------------ */

static int check_space(const char *where, int64_t need, Err *err)
{
    int64_t room;
    int rc = disk_free_bytes(where, &room, err);
    if (rc < 0 || room < 0 || room >= need)
        return rc;
    return err_set(err, ERR_IO, "'%s': %.1f MB are free, the samples to be made need at least %.1f MB", where,
                   (double)room / 1e6, (double)need / 1e6);
}

int sample_check_space(const Run *r, Err *err)
{
    /* A lower bound, so that no run is refused that would fit: the exact size of the latents, 0.05
     * % of the raw pixels for a video and 2 % for its pictures (both measured on a still, smooth
     * scene). */
    int64_t raw = r->s.num_frames * r->s.width * r->s.height * 3;
    int64_t latents = 4 * r->s.latent_frames * r->sizes.latent_channels * r->sizes.latent_height *
                      r->sizes.latent_width;
    int64_t one = raw / 2000 + (r->o->save_frames ? raw / 50 : 0);
    int64_t all = r->o->latents_out ? r->prompts.n * latents : 0;
    int rc = check_space(r->o->out, r->todo * (one + (r->o->latents_out ? latents : 0)), err);
    return rc == 0 && all && r->todo ? check_space(r->o->latents_out, all, err) : rc;
}
