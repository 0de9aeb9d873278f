/* The size and hash of a source, and the key of the clip made from it. */
#include <string.h>
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "prep/clip/internal.h"
#include "prep/clip/source_hash.h"

static int64_t *pair(int64_t out[2], Rational r)
{
    out[0] = r.num;
    out[1] = r.den;
    return out;
}

int clip_key(const ClipJob *job, const char *sha256, char key[65], Err *err)
{
    const Source *s = job->src;
    int64_t two[2];
    JsonWriter w;
    json_t *parts;
    jsonw_begin(&w);
    jsonw_str(&w, "recipe", job->cfg->recipe_sha256);
    jsonw_str(&w, "source", sha256);
    jsonw_ints(&w, "crop", s->crop, 4);
    jsonw_str(&w, "kind", s->kind == SOURCE_FRAMES ? "frames" : "video");
    jsonw_ints(&w, "rate", pair(two, job->rate), 2);
    jsonw_ints(&w, "start", pair(two, s->start), 2);
    jsonw_ints(&w, "end", pair(two, s->end), 2);
    jsonw_int(&w, "revision", PREP_REVISION);
    int rc = jsonw_finish(&w, &parts, "a clip's key", err);
    if (rc < 0)
        return rc;
    char *text = json_canonical(parts, err);
    rc = text ? sha256_hex(text, (int64_t)strlen(text), key, err) : ERR_NOMEM;
    mem_free(text);
    json_decref(parts);
    return rc;
}

/* Rejects the source when it cannot be read, is empty, too large, or not the bytes it should be. */
static int judge(const ClipJob *job, ClipIdentity *id, int rc, const Err *cause, Err *err)
{
    const Source *s = job->src;
    Rejection *r = &id->rejected;
    const int64_t most = job->cfg->max_file_bytes;
    if (s->reject_code)
        reject(job, r, reason_find(s->reject_code), "%s", s->reject_text);
    else if (rc == ERR_NOTFOUND)
        reject(job, r, REASON_MISSING, "'%s' does not exist", s->path);
    else if (rc < 0)
        return reject_error(job, r, rc, cause, s->kind == SOURCE_FRAMES ? REASON_BAD_PICTURES : REASON_NOT_A_VIDEO,
                            err);
    else if (most && id->size > most)
        reject(job, r, REASON_LIMIT, "'%s' has %" PRId64 " bytes, more than limits.file_mb allows", s->path, id->size);
    else if (id->size == 0)
        reject(job, r, REASON_EMPTY_FILE, "'%s' has 0 bytes", s->path);
    else if (s->expect_sha256 && strcmp(s->expect_sha256, id->sha256) != 0)
        reject(job, r, REASON_HASH_MISMATCH, "the bytes hash to %s, the metadata says %s", id->sha256,
               s->expect_sha256);
    return 0;
}

int clip_identify(const ClipJob *job, ClipIdentity *out, Err *err)
{
    const Source *s = job->src;
    SourceIdentity found;
    Err cause = {0};
    *out = (ClipIdentity){.size = -1};
    int rc = source_identify(job->cfg->seen, s->path, job->path, s->kind, &found, &cause);
    if (rc == 0) {
        out->size = found.size;
        out->hashed = found.hashed;
        memcpy(out->entry, found.entry, sizeof out->entry);
        digest_hex(&found.sha256, out->sha256);
    }
    int keyed = clip_key(job, out->sha256, out->key, err);
    return keyed < 0 ? keyed : judge(job, out, rc, &cause, err);
}
