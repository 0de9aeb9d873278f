/* Cores, control-group quotas of both versions, and the limit of the address space. */
#include "tests/check.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/launcher.h"
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/threads.h"

static Err err;
static int roots;
static char *root;

/* A fresh root with the two files of /proc. */
static void begin(const char *groups, const char *mounts)
{
    char name[32];
    snprintf(name, sizeof name, "root%d", roots++);
    root = check_tmp_path(name);
    char *dir = mem_printf(&err, "%s/proc/self", root), *a = path_join(dir, "cgroup", &err),
         *b = path_join(dir, "mountinfo", &err);
    CHECK_OK(dir_make(dir, &err), &err);
    CHECK_OK(file_write_atomic(a, groups, (int64_t)strlen(groups), &err), &err);
    CHECK_OK(file_write_atomic(b, mounts, (int64_t)strlen(mounts), &err), &err);
    mem_free(a);
    mem_free(b);
    mem_free(dir);
}

static void put(const char *path, const char *text)
{
    char *whole = mem_printf(&err, "%s%s", root, path), *dir = path_dir(whole, &err);
    CHECK_OK(dir_make(dir, &err), &err);
    CHECK_OK(file_write_atomic(whole, text, (int64_t)strlen(text), &err), &err);
    mem_free(dir);
    mem_free(whole);
}

static void check_quota(double want)
{
    check_value("quota", machine_cpu_quota(root), want, 1e-12, 0);
}

#define V2 "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1 "33 24 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
#define OTHERS                                                \
    "23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n" \
    "30 24 0:27 / /sys/fs/cgroup/cpuset rw shared:5 - cgroup cgroup rw,cpuset\n"

static void quota_of_version_2(void **state)
{
    (void)state;
    begin("0::/user.slice/job_7/step_0\n", OTHERS V2);
    check_quota(0); /* no files: no quota */
    put("/sys/fs/cgroup/user.slice/job_7/step_0/cpu.max", "max 100000\n");
    check_quota(0);
    put("/sys/fs/cgroup/user.slice/job_7/cpu.max", "150000 100000\n");
    check_quota(1.5); /* a parent's counts */
    put("/sys/fs/cgroup/user.slice/cpu.max", "400000 100000\n");
    check_quota(1.5); /* the least */
    put("/sys/fs/cgroup/user.slice/job_7/step_0/cpu.max", "25000 50000\n");
    check_quota(0.5);
    begin("0::/\n", OTHERS V2); /* in a container with a namespace of its own */
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    check_quota(2);
    begin("0::/../../other\n", OTHERS V2); /* a path that leads out of what is mounted */
    put("/sys/fs/cgroup/cpu.max", "300000 100000\n");
    check_quota(3);
}

static void quota_of_version_1(void **state)
{
    (void)state;
    begin("5:cpuset:/a\n4:cpu,cpuacct:/slurm/job_7\n0::/elsewhere\n", OTHERS V1 V2);
    check_quota(0);
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us", "100000\n");
    check_quota(0);
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_quota_us", "250000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_period_us", "100000\n");
    check_quota(2.5);
    put("/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us", "120000\n");
    check_quota(1.2);
    /* docker without a namespace: the group's path is the host's, its own group is what is mounted */
    begin("4:cpu,cpuacct:/docker/abc\n",
          "33 24 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    check_quota(0.5);
}

static void odd_files_mean_no_quota(void **state)
{
    (void)state;
    root = check_tmp_path("nothing");
    check_quota(0);
    begin("", "");
    check_quota(0);
    begin("garbage\n0:\n::\n", "x - y\n - cgroup2\n1 2 3 - cgroup2 a b\n" V2);
    check_quota(0);
    begin("0::/a\n", OTHERS V2);
    put("/sys/fs/cgroup/a/cpu.max", "100000\n"); /* no period */
    check_quota(0);
    put("/sys/fs/cgroup/a/cpu.max", "x y\n");
    check_quota(0);
}

static void affinity_is_kept(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    int64_t before = machine_cores();
    assert_true(machine_threads() >= 1 && machine_threads() <= before);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(machine_cores(), 1);
    machine_unbind(); /* the user's own choice: stays */
    assert_int_equal(machine_cores(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(machine_cores(), before);
}

/* In a child: the limit cannot be raised again. */
static void small_address_space_is_refused(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    check_skip("sanitizers need an address space without limit");
#endif
    CHECK_OK(machine_check_address_space(1000000, &err), &err); /* no limit: anything goes */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        FILE *f = fopen("/proc/self/statm", "r");
        long pages = 0;
        if (!f || fscanf(f, "%ld", &pages) != 1)
            _exit(9);
        fclose(f);
        rlim_t used = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
        struct rlimit limit = {used + (1 << 30), used + (1 << 30)};
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            _exit(9);
        int few = machine_check_address_space(2, &err), many = machine_check_address_space(32, &err);
        _exit(few != 0                                                     ? 1
              : many != ERR_LIMIT                                          ? 2
              : !strstr(err.msg, "4416 MB that BLAS needs for 32 threads") ? 3
                                                                           : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* What this program prints when it is started with an argument: cores, the default number of threads, and
 * the cores of a process that was unbound. */
static int report_cores(void)
{
    cpu_set_t set;
    launcher_unbind();
    int64_t cores = machine_cores(), threads = threads_choose(0);
    machine_unbind();
    sched_getaffinity(0, sizeof set, &set);
    printf("%" PRId64 " %" PRId64 " %d\n", cores, threads, CPU_COUNT(&set));
    return 0;
}

static void run_with(const char *environment, int64_t *cores, int64_t *threads, int *unbound)
{
    char self[1024], line[128] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    char *command = mem_printf(&err, "env -u OMP_NUM_THREADS %s '%s' cores", environment, self);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    assert_int_equal(pclose(f), 0);
    mem_free(command);
    assert_int_equal(sscanf(line, "%" SCNd64 " %" SCNd64 " %d", cores, threads, unbound), 3);
}

/* mpirun's processes share the machine, whether it bound them to one core (taskset does it here) or to
 * none.  The parent, which is this test, may use all cores. */
static void ranks_share_the_cores(void **state)
{
    (void)state;
    static const struct {
        const char *environment;
        int part, parts; /* of the cores; parts 0: one core */
    } cases[] = {
        {"OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=1 taskset -c 0", 0, 1},
        {"OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 taskset -c 1", 1, 2},
        {"OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=1 OMPI_MCA_hwloc_base_binding_policy=core taskset -c "
         "0",
         0, 0},
        {"taskset -c 0", 0, 0}, /* nobody started it: one core is what was asked for */
    };
    int64_t all, all_threads, cores, threads;
    int unbound;
    run_with("", &all, &all_threads, &unbound);
    if (all < 2 || all_threads != all || system("taskset -c 1 true 2>/dev/null") != 0)
        check_skip("two cores and taskset are needed");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t want = cases[i].parts
                           ? all * (cases[i].part + 1) / cases[i].parts - all * cases[i].part / cases[i].parts
                           : 1;
        run_with(cases[i].environment, &cores, &threads, &unbound);
        if (cores != want || threads != want)
            fail_msg("%s: %" PRId64 " cores, %" PRId64 " threads, expected %" PRId64, cases[i].environment, cores,
                     threads, want);
    }
    run_with("MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2", &cores, &threads, &unbound);
    assert_int_equal(cores, all); /* MPICH does not bind: the threads are what is shared */
    assert_int_equal(threads, all / 2);
}

static void a_part_of_the_cores(void **state)
{
    (void)state;
    cpu_set_t node, part;
    CPU_ZERO(&node);
    for (int cpu = 3; cpu < 10; cpu++)
        CPU_SET(cpu, &node);
    launcher_part(&node, 0, 3, &part); /* 7 cores: 2, 2, 3 */
    assert_true(CPU_COUNT(&part) == 2 && CPU_ISSET(3, &part) && CPU_ISSET(4, &part));
    launcher_part(&node, 2, 3, &part);
    assert_true(CPU_COUNT(&part) == 3 && CPU_ISSET(7, &part) && CPU_ISSET(9, &part));
    launcher_part(&node, 8, 9, &part); /* more ranks than cores */
    assert_int_equal(CPU_COUNT(&part), 1);
}

/* libgomp binds the main thread to one core before main; its affinity is then no count of cores. */
static void openmp_binding_is_no_limit(void **state)
{
    (void)state;
    static const char *const bindings[] = {"OMP_PROC_BIND=true", "OMP_PROC_BIND=close OMP_PLACES=cores",
                                           "OMP_PROC_BIND=spread OMP_PLACES=threads", "OMP_PLACES=sockets"};
    int64_t plain_cores, plain_threads, cores, threads;
    int unbound;
#ifndef _OPENMP
    check_skip("built without OpenMP");
#endif
    run_with("", &plain_cores, &plain_threads, &unbound);
    assert_int_equal(plain_cores, unbound);
    for (size_t i = 0; i < sizeof bindings / sizeof *bindings; i++) {
        run_with(bindings[i], &cores, &threads, &unbound);
        assert_int_equal(cores, plain_cores);
        assert_int_equal(threads, plain_threads);
        assert_int_equal(unbound, plain_cores);
    }
    run_with("GOMP_CPU_AFFINITY=0", &cores, &threads, &unbound);
    assert_int_equal(cores, 1); /* one core is what was asked for */
    run_with("OMP_PROC_BIND=true OMP_NUM_THREADS=3", &cores, &threads, &unbound);
    assert_int_equal(threads, 3);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return report_cores();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quota_of_version_2),         cmocka_unit_test(quota_of_version_1),
        cmocka_unit_test(odd_files_mean_no_quota),    cmocka_unit_test(affinity_is_kept),
        cmocka_unit_test(openmp_binding_is_no_limit), cmocka_unit_test(ranks_share_the_cores),
        cmocka_unit_test(a_part_of_the_cores),        cmocka_unit_test(small_address_space_is_refused),
    };
    return check_run_live("base_machine", tests);
}
