#include "common/base/launcher.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

static int64_t was_bound_to, now_has; /* cores, by launcher_unbind; 0: it changed nothing */

static int64_t number_of(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);
    char *end;
    long n = text ? strtol(text, &end, 10) : 0;
    return text && end != text && *end == 0 && n >= 0 ? n : otherwise;
}

/* The variables of Open MPI and of MPICH's hydra. */
void launcher_local(int64_t *rank, int64_t *size)
{
    *size = number_of("OMPI_COMM_WORLD_LOCAL_SIZE", number_of("MPI_LOCALNRANKS", 1));
    *rank = number_of("OMPI_COMM_WORLD_LOCAL_RANK", number_of("MPI_LOCALRANKID", 0));
    if (*size < 1 || *rank >= *size)
        *rank = 0, *size = 1;
}

static int is_mpirun(void)
{
    return getenv("OMPI_COMM_WORLD_LOCAL_SIZE") || getenv("MPI_LOCALNRANKS");
}

/* mpirun, or its helper on this machine, is the parent, and is not bound itself. */
static int parent_cores(cpu_set_t *out)
{
    return sched_getaffinity(getppid(), sizeof *out, out) == 0 && CPU_COUNT(out) > 0;
}

/* How many hardware threads the core of this CPU has: "0,32" or "0-1". */
static int threads_of_core(int cpu)
{
    char path[96], text[64] = "";
    int a, b, n = 1;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "re");
    if (f && fgets(text, sizeof text, f)) {
        if (sscanf(text, "%d-%d", &a, &b) == 2)
            n = b - a + 1;
        else
            for (const char *p = text; (p = strchr(p, ',')) != NULL; p++)
                n++;
    }
    if (f)
        fclose(f);
    return n;
}

static int is_one_core(const cpu_set_t *set)
{
    int cpu = 0;
    while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, set))
        cpu++;
    return CPU_COUNT(set) <= threads_of_core(cpu);
}

void launcher_part(const cpu_set_t *node, int64_t rank, int64_t size, cpu_set_t *out)
{
    int64_t all = CPU_COUNT(node), first = all * rank / size, last = all * (rank + 1) / size, i = 0;
    CPU_ZERO(out);
    if (last == first) /* more processes than cores */
        first = rank % all, last = first + 1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, node)) {
            if (i >= first && i < last)
                CPU_SET(cpu, out);
            i++;
        }
}

/* --bind-to, which mpirun passes on. */
static int user_chose_binding(void)
{
    return getenv("OMPI_MCA_hwloc_base_binding_policy") || getenv("OMP_PLACES") || getenv("OMP_PROC_BIND") ||
           getenv("GOMP_CPU_AFFINITY");
}

void launcher_unbind(void)
{
    cpu_set_t mine, node, part;
    int64_t rank, size;
    if (!is_mpirun() || user_chose_binding() || sched_getaffinity(0, sizeof mine, &mine) != 0 || !is_one_core(&mine) ||
        !parent_cores(&node))
        return;
    launcher_local(&rank, &size);
    launcher_part(&node, rank, size, &part);
    if (CPU_COUNT(&part) <= CPU_COUNT(&mine) || sched_setaffinity(0, sizeof part, &part) != 0)
        return;
    was_bound_to = CPU_COUNT(&mine);
    now_has = CPU_COUNT(&part);
#ifdef _OPENMP
    omp_set_num_threads((int)now_has); /* its default was taken from the one core when it was loaded */
#endif
}

int64_t launcher_share(void)
{
    cpu_set_t node;
    int64_t rank, size, share;
    if (!is_mpirun() || !parent_cores(&node))
        return 0;
    launcher_local(&rank, &size);
    share = CPU_COUNT(&node) / size;
    return share > 0 ? share : 1;
}

int launcher_note(const Log *log)
{
    cpu_set_t mine;
    int64_t share = launcher_share();
    if (now_has) {
        log_info(log,
                 "mpirun bound this process to %" PRId64 " core%s; it uses its share of the machine instead, %" PRId64
                 " (--bind-to core keeps it there)",
                 was_bound_to, was_bound_to == 1 ? "" : "s", now_has);
        return 1;
    }
    if (share > 1 && sched_getaffinity(0, sizeof mine, &mine) == 0 && CPU_COUNT(&mine) < share) {
        log_warn(
            log,
            "this process may use %d of the %" PRId64
            " cores that would be its share of the machine: give mpirun --bind-to none, or --map-by slot:PE=%" PRId64,
            CPU_COUNT(&mine), share, share);
        return 1;
    }
    return 0;
}
