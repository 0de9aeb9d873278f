/* Which part of the work a process does: --shard, Open MPI, MPICH, Slurm's steps, and all of them at once. */
#include "tests/check.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/shard.h"

static Err err;
static char said[4096];
static LogLevel said_level;

static void hear(void *user, LogLevel level, const char *line)
{
    (void)user;
    said_level = level;
    strncat(said, line, sizeof said - strlen(said) - 1);
}

static const Log listener = {.write = hear, .level = LOG_INFO};

/* The environment of a process, of the launchers' variables only: "NAME=VALUE" texts, NULL-terminated. */
static void set_environment(const char *const *pairs)
{
    static const char *const all[] = {
        "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK",      "PMI_SIZE",
        "SLURM_PROCID",         "SLURM_NTASKS",         "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        unsetenv(all[i]);
    for (; *pairs; pairs++) {
        char name[64];
        size_t n = strcspn(*pairs, "=");
        memcpy(name, *pairs, n);
        name[n] = 0;
        setenv(name, *pairs + n + 1, 1);
    }
}

#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define OPEN_MPI(k, n) "OMPI_COMM_WORLD_RANK=" k, "OMPI_COMM_WORLD_SIZE=" n
#define MPICH(k, n) "PMI_RANK=" k, "PMI_SIZE=" n
#define BATCH(n) "SLURM_PROCID=0", "SLURM_NTASKS=" n
#define STEP(k, n) "SLURM_PROCID=" k, "SLURM_NTASKS=7", "SLURM_STEP_ID=0", "SLURM_STEP_NUM_TASKS=" n

static void check_part(const char *text, const char *const *environment, int64_t want_k, int64_t want_n,
                       const char *want_said)
{
    int64_t k = -1, n = -1;
    set_environment(environment);
    said[0] = 0;
    CHECK_OK(shard_choose(text, &listener, &k, &n, &err), &err);
    assert_int_equal(k, want_k);
    assert_int_equal(n, want_n);
    if (!strstr(said, want_said) || (!*want_said && *said))
        fail_msg("said '%s', expected '%s'", said, want_said);
}

static void takes_the_launcher_that_gave_the_rank(void **state)
{
    (void)state;
    check_part(NULL, ENV(NULL), 0, 1, "");
    check_part(
        NULL, ENV(OPEN_MPI("1", "4")), 1, 4,
        "this process does part 2 of 4 (shard 1/4, from OMPI_COMM_WORLD_RANK); the other 3 parts are left to other "
        "processes");
    assert_int_equal(said_level, LOG_WARN); /* said with --quiet too */
    check_part(NULL, ENV(MPICH("0", "2")), 0, 2,
               "this process does part 1 of 2 (shard 0/2, from PMI_RANK); the other part is left to another process");
    check_part(NULL, ENV(STEP("2", "3")), 2, 3, "part 3 of 3 (shard 2/3, from SLURM_PROCID)");
    check_part(NULL, ENV(OPEN_MPI("0", "1")), 0, 1, "");
    check_part(NULL, ENV(STEP("0", "1")), 0, 1, "");
}

static void mpirun_inside_a_batch_script(void **state)
{
    (void)state;
    /* every rank inherits the script's SLURM_PROCID=0 */
    check_part(NULL, ENV(BATCH("2"), OPEN_MPI("1", "2")), 1, 2, "from OMPI_COMM_WORLD_RANK");
    check_part(NULL, ENV(BATCH("2"), MPICH("1", "2")), 1, 2, "from PMI_RANK");
    /* and so do the daemons that srun starts for it */
    check_part(NULL, ENV(STEP("0", "1"), OPEN_MPI("3", "4")), 3, 4, "from OMPI_COMM_WORLD_RANK");
    /* srun --mpi=pmi2 sets both, alike */
    check_part(NULL, ENV(STEP("1", "2"), MPICH("1", "2")), 1, 2, "part 2 of 2");
    check_part(NULL, ENV(MPICH("0", "9"), OPEN_MPI("1", "3")), 1, 3, "from OMPI_COMM_WORLD_RANK");
}

static void a_batch_script_does_everything(void **state)
{
    (void)state;
    check_part(NULL, ENV(BATCH("4")), 0, 1, "SLURM_NTASKS is 4, but srun did not start this process");
    check_part(NULL, ENV(BATCH("1")), 0, 1, "");
    check_part(NULL, ENV("SLURM_NTASKS=4"), 0, 1, "");                           /* a shell of salloc */
    check_part(NULL, ENV("SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=2"), 0, 1, ""); /* no step */
}

static void the_option_wins(void **state)
{
    (void)state;
    int64_t k, n;
    static const char *const bad[] = {
        "", "1", "1/", "/2", "2/2", "-1/2", "0/0", "1/2/3", "1/2x", " 0/1", "0/ 1", "0/-1", "99999999999999999999/2"};
    check_part("0/1", ENV(OPEN_MPI("1", "4"), STEP("2", "3")), 0, 1, "");
    check_part("3/16", ENV(BATCH("2")), 3, 16, "part 4 of 16 (shard 3/16, from --shard); the other 15 parts");
    assert_int_equal(said_level, LOG_INFO);
    check_part("0/2", ENV("PMI_RANK=1"), 0, 2, "from --shard");
    set_environment(ENV(NULL));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FAILS(shard_choose(bad[i], NULL, &k, &n, &err), ERR_USAGE, "expected K/N with 0 <= K < N", &err);
}

static void refuses_what_it_cannot_know(void **state)
{
    (void)state;
    int64_t k, n;
    set_environment(ENV(OPEN_MPI("2", "2")));
    CHECK_FAILS(shard_choose(NULL, NULL, &k, &n, &err), ERR_USAGE, "OMPI_COMM_WORLD_RANK is '2'", &err);
    set_environment(ENV(MPICH("x", "2")));
    CHECK_FAILS(shard_choose(NULL, NULL, &k, &n, &err), ERR_USAGE, "PMI_RANK is 'x'", &err);
    set_environment(ENV("PMI_RANK=1"));
    CHECK_FAILS(shard_choose(NULL, NULL, &k, &n, &err), ERR_USAGE, "PMI_RANK is set without PMI_SIZE", &err);
    set_environment(ENV("OMPI_COMM_WORLD_SIZE=2"));
    CHECK_FAILS(shard_choose(NULL, NULL, &k, &n, &err), ERR_USAGE, "OMPI_COMM_WORLD_SIZE is set without", &err);
    set_environment(ENV("SLURM_PROCID=1", "SLURM_STEP_ID=0"));
    CHECK_FAILS(shard_choose(NULL, NULL, &k, &n, &err), ERR_USAGE, "SLURM_PROCID is set without SLURM_STEP_NUM_TASKS",
                &err);
    /* a complete pair of another launcher settles it */
    check_part(NULL, ENV("PMI_RANK=1", STEP("1", "2")), 1, 2, "from SLURM_PROCID");
    set_environment(ENV(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_launcher_that_gave_the_rank), cmocka_unit_test(mpirun_inside_a_batch_script),
        cmocka_unit_test(a_batch_script_does_everything),        cmocka_unit_test(the_option_wins),
        cmocka_unit_test(refuses_what_it_cannot_know),
    };
    return check_run_live("base_shard", tests);
}
