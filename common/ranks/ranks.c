/* Finding the job's other processes, and agreeing with them. */
#include "common/ranks/ranks.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/base/plugin.h"
#include "common/base/shard.h"
#include "common/base/str.h"

#define MPI_OBJECT "libweft-mpi.so"
typedef int (*MpiOpen)(Ranks **out, Err *err);

/* ---- opening --------------------------------------------------------------------------------- */

/* The object stays loaded until the program ends: MPI keeps threads and handlers. */
static int open_mpi(Ranks **out, int64_t rank, int64_t size, Err *err)
{
    char why[512] = "";
    int found;
    void *object = plugin_open(MPI_OBJECT, &found, why, sizeof why);
    MpiOpen open_it = NULL;
    if (object)
        *(void **)&open_it = dlsym(object, "weft_mpi_open");
    if (!open_it)
        return err_set(err, ERR_UNSUPPORTED,
                       "this is process %" PRId64 " of %" PRId64
                       " of a Slurm or MPI job, which needs %s (%s): 'make' builds it where MPI is installed "
                       "(libopenmpi-dev); or start one process, or give --shard 0/1",
                       rank + 1, size, MPI_OBJECT, why[0] ? why : "it has no weft_mpi_open");
    int rc = open_it(out, err);
    if (rc == 0 && (*out)->size != size) {
        int mpich = strcmp((*out)->name, "MPICH") == 0;
        err_set(err, ERR_UNSUPPORTED,
                "the launcher started %" PRId64 " processes, but %s, which " MPI_OBJECT
                " was built for, counts %" PRId64 ": start them with its mpirun, or with 'srun --mpi=%s'; 'make "
                "MPI=%s' builds it for the other MPI",
                size, (*out)->name, (*out)->size, mpich ? "pmi2" : "pmix", mpich ? "ompi" : "mpich");
        ranks_close(out);
        return ERR_UNSUPPORTED;
    }
    return rc;
}

int ranks_open(Ranks **out, const char *shard, Err *err)
{
    int64_t rank, size;
    *out = NULL;
    int rc = shard_choose(shard, NULL, &rank, &size, err);
    if (rc < 0 || size == 1)
        return rc;
    if (shard)
        return err_set(err, ERR_UNSUPPORTED,
                       "--shard %s: a training run is not made in parts; give it all caches, and start its processes "
                       "with mpirun or srun",
                       shard);
    return open_mpi(out, rank, size, err);
}

void ranks_close(Ranks **r)
{
    if (*r)
        (*r)->close(*r);
    *r = NULL;
}

void ranks_add(void *to, const void *from, int64_t n, DType type)
{
    const uint16_t *half = from;
    uint16_t *half_to = to;
    if (type == DT_F32)
        for (int64_t i = 0; i < n; i++)
            ((float *)to)[i] += ((const float *)from)[i];
    else if (type == DT_F64)
        for (int64_t i = 0; i < n; i++)
            ((double *)to)[i] += ((const double *)from)[i];
    else
        for (int64_t i = 0; i < n; i++)
            half_to[i] = float_to_bfloat(bfloat_to_float(half_to[i]) + bfloat_to_float(half[i]));
}

void ranks_part(int64_t n, int64_t rank, int64_t size, int64_t *first, int64_t *last)
{
    int64_t each = n / size, more = n % size; /* not n * rank / size, which may overflow */
    *first = rank * each + (rank < more ? rank : more);
    *last = *first + each + (rank < more);
}

/* ---- agreeing -------------------------------------------------------------------------------- */

typedef struct Word {
    int32_t code;
    char host[RANKS_HOST_MAX];
    char msg[ERR_MSG_MAX];
} Word;

int ranks_agree(Ranks *r, int code, Err *err)
{
    if (!r || r->size == 1)
        return code;
    Word *all = mem_calloc(r->size + 1, sizeof *all, NULL), *mine = all ? all + r->size : NULL;
    int rc = all ? 0 : err_set(err, ERR_NOMEM, "out of memory"), failed = 0;
    if (rc < 0) /* this rank cannot even answer */
        return rc;
    mine->code = code;
    memcpy(mine->host, r->host, sizeof mine->host);
    if (code < 0 && err)
        memcpy(mine->msg, err->msg, sizeof mine->msg);
    rc = r->gather(r, all, mine, sizeof *mine, err);
    for (int64_t i = 0; rc == 0 && !failed && i < r->size; i++) {
        if (all[i].code >= 0)
            continue;
        failed = all[i].code;
        if (err)
            err_clear(err);
        err_set(err, failed, "rank %" PRId64 " on %s: %s", i, all[i].host,
                all[i].msg[0] ? all[i].msg : err_name(failed));
    }
    mem_free(all);
    r->all_know = rc == 0 && failed;
    return rc < 0 ? rc : failed;
}

static void fact_put(char *to, const RanksFact *facts, int n)
{
    for (int i = 0; i < n; i++)
        snprintf(to + i * RANKS_FACT_MAX, RANKS_FACT_MAX, "%s", facts[i].text);
}

/* What of rank k's facts is not as rank 0's, appended to `out`. */
static int differences(Str *out, const char *first, const char *other, const RanksFact *facts, int n, Err *err)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < n; i++) {
        const char *a = first + i * RANKS_FACT_MAX, *b = other + i * RANKS_FACT_MAX;
        if (strcmp(a, b) != 0)
            rc = str_printf(out, err, "%s%s (%.40s, there %.40s)", out->len ? ", " : "", facts[i].what, b, a);
    }
    return rc;
}

int ranks_compare(Ranks *r, const RanksFact *facts, int n, Err *err)
{
    if (!r || r->size == 1)
        return 0;
    int64_t each = (int64_t)n * RANKS_FACT_MAX + RANKS_HOST_MAX;
    char *all = mem_calloc(r->size + 1, each, err), *mine = all ? all + r->size * each : NULL;
    if (!all)
        return ERR_NOMEM;
    fact_put(mine, facts, n);
    memcpy(mine + each - RANKS_HOST_MAX, r->host, RANKS_HOST_MAX);
    int rc = r->gather(r, all, mine, each, err);
    Str found = {0};
    r->all_know = rc == 0;
    for (int64_t i = 1; rc == 0 && !found.len && i < r->size; i++) {
        rc = differences(&found, all, all + i * each, facts, n, err);
        if (rc == 0 && found.len)
            rc = err_set(err, ERR_USAGE,
                         "rank %" PRId64 " on %s differs from rank 0 on %s in %s: start all ranks with the same "
                         "program, options and files",
                         i, all + (i + 1) * each - RANKS_HOST_MAX, all + each - RANKS_HOST_MAX, found.data);
    }
    str_fini(&found);
    mem_free(all);
    return rc;
}
