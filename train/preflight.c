/* The checks before a run. */
#include <inttypes.h>
#include <sys/stat.h>

#include "common/base/disk.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "train/checkpoint.h"
#include "train/identity.h"
#include "train/pipeline.h"
#include "train/preflight.h"
#include "train/resume.h"

/* A cache has a lock and files of its own. */
static int check_no_cache(const char *out, Err *err)
{
    char *data = path_join(out, "data.mdb", err);
    int rc = data ? file_look(data, err) : ERR_NOMEM;

    mem_free(data);
    return rc <= 0 ? rc : err_set(err, ERR_USAGE, "--out '%s' is a cache; give the run a folder of its own", out);
}

int preflight_check(Preflight *p, const Job *j, const char *out, Err *err)
{
    const Log *log = &j->log.log;
    char *transformer = path_join(j->start, "transformer", err), *final = path_join(out, "final", err);
    int rc = transformer && final ? disk_check_writable(out, "--out", err) : ERR_NOMEM;

    *p = (Preflight){0};
    if (rc == 0)
        rc = check_no_cache(out, err);
    if (rc == 0)
        rc = dit_check_weights(&j->dit, transformer, log, err);
    if (rc == 0 && !j->lora.rank) /* final/ is then the adapter alone */
        rc = pipeline_parts_check(j->base, log, &p->copied, err);
    if (rc == 0)
        rc = checkpoint_count(out, &p->existing, err);
    if (rc == 0)
        rc = file_look(final, err);
    mem_free(transformer);
    mem_free(final);
    return rc < 0 ? rc : 0;
}

int preflight_choose(Preflight *p, Job *j, const char *out, json_t **stored, Err *err)
{
    const Log *log = &j->log.log;
    int rc = 0;

    *stored = NULL;
    if (p->existing)
        rc = checkpoint_newest(out, log, &p->step, stored, err);
    if (rc == 0 && (p->step || !j->plan)) /* a plan reads no weights that it does not compare */
        rc = identity_make(&j->identity, &j->schedule, j->start, j->lora_weights, j->memory, log, err);
    if (rc == 0 && p->step)
        rc = resume_check(j, *stored, p->step, err);
    return rc;
}

/* ---- the disk -------------------------------------------------------------------------------- */

/* How many checkpoints the run will save, and how many of them lie there at one time at most beyond
 * those that are there now. */
static int64_t saves(const Preflight *p, const Job *j)
{
    int64_t n = j->steps / j->checkpoint_every - p->step / j->checkpoint_every;

    return j->steps > p->step && j->steps % j->checkpoint_every ? n + 1 : n;
}

static int64_t added(const Preflight *p, const Job *j)
{
    int64_t n = saves(p, j), now = p->existing, most;

    if (j->keep < 1 || n == 0)
        return n;
    now = now < j->keep ? now : j->keep;                  /* those beyond the limit go at the start */
    most = now + n < j->keep + 1 ? now + n : j->keep + 1; /* a new one is complete before an old one goes */
    return most - now;
}

static void model_bytes(const Job *j, int64_t *checkpoint, int64_t *final)
{
    int lora = j->lora.rank > 0;
    int half = !lora && (j->be->act == DT_BF16 || j->how & DIT_BF16_VALUES); /* of the transformer's file */
    int masters = lora || (j->be->act == DT_BF16 && !(j->how & DIT_BF16_VALUES));

    *final = j->parameters * ((half ? 2 : 4) + (j->c.ema.on ? 4 : 0));
    *checkpoint = *final + j->optimizer_file_bytes + (masters ? j->parameters * 4 : 0) +
                  (lora && j->c.ema.on ? j->parameters * 4 : 0);
}

int64_t preflight_bytes(const Preflight *p, const Job *j, int may_share)
{
    int64_t checkpoint, final;

    model_bytes(j, &checkpoint, &final);
    return added(p, j) * checkpoint + final + (may_share ? 0 : p->copied);
}

/* A copy within one file system may take no room (FICLONE). */
static int may_share(const char *base, const char *out)
{
    struct stat a, b;

    return stat(base, &a) == 0 && (stat(out, &b) < 0 || a.st_dev == b.st_dev);
}

int preflight_space(const Preflight *p, const Job *j, const char *out, Err *err)
{
    int64_t room, need = preflight_bytes(p, j, may_share(j->base, out)), checkpoint, final;
    char a[32], b[32], c[32];
    int rc = disk_free_bytes(out, &room, err);

    if (rc < 0 || room < 0 || room >= need)
        return rc;
    model_bytes(j, &checkpoint, &final);
    return err_set(err, ERR_LIMIT,
                   "'%s': %s are free, but the run needs %s (%" PRId64 " more checkpoint%s of %s, and final/); set "
                   "training.checkpoints_total_limit, a larger training.checkpointing_steps, or another --out",
                   out, job_si((double)room, "B", a), job_si((double)need, "B", b), added(p, j),
                   str_plural(added(p, j)), job_si((double)checkpoint, "B", c));
}

void preflight_print(const Preflight *p, const Job *j, FILE *out)
{
    int64_t checkpoint, final, n = saves(p, j);
    char a[32], b[32], c[32];

    model_bytes(j, &checkpoint, &final);
    if (p->step)
        fprintf(out, "start              goes on from checkpoint-%" PRId64 "\n", p->step);
    fprintf(out, "disk               %" PRId64 " checkpoint%s of %s to save, final/ of %s; %s in all at one time\n", n,
            str_plural(n), job_si((double)checkpoint, "B", a), job_si((double)(final + p->copied), "B", b),
            job_si((double)preflight_bytes(p, j, 0), "B", c));
}
