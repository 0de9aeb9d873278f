/* The simulator's settings and counters: what tests set and read (control.h), and the WEFT_SIM_*
 * variables. */
#include <stdlib.h>

#include "common/base/err.h"
#include "common/ops/cuda/sim/block.h"

namespace sim
{

SimConfig config = {SIM_GREEDY, 1, 0, 2, 80};
Skip skip;
uint64_t rng_state = 88172645463325252ull;

bool skipped(SimSkip what, const char *file, int line)
{
    int i = 0;
    if (skip.what != what)
        return false;
    while (i < B.places && (B.place[i].file != file || B.place[i].line != line))
        i++;
    if (i == B.places && i < MAX_PLACES)
        B.place[B.places++] = Place{file, line};
    if (i != skip.which)
        return false;
    skip.hits++;
    return true;
}

} // namespace sim

using namespace sim;

bool sim_event_is_skipped(void)
{
    const bool now = skip.what == SIM_SKIP_EVENT && skip.events++ == skip.which;
    skip.hits += now;
    return now;
}

void sim_skip(SimSkip what, int which)
{
    skip.what = what;
    skip.which = which;
    skip.hits = 0;
    skip.events = 0;
}
uint64_t sim_skipped(void)
{
    return skip.hits;
}

SimConfig sim_config(void)
{
    return config;
}
void sim_configure(const SimConfig *c)
{
    config = *c;
    rng_state = 88172645463325252ull ^ c->seed * 0x9E3779B97F4A7C15ull;
    if (!rng_state)
        rng_state = 1;
}
SimStats sim_stats(void)
{
    return stats;
}
void sim_stats_reset(void)
{
    stats = SimStats{};
}
const char *sim_fault(void)
{
    return fault;
}
void sim_clear(void)
{
    fault[0] = 0;
}
namespace
{
const char *refused, *expected, *value; /* a variable of the environment, NULL none */
__attribute__((constructor)) void configure_from_environment(void)
{
    static const char *const names[] = {"ascending", "descending", "random", "greedy"};
    SimConfig c = config;
    const char *schedule = getenv("WEFT_SIM_SCHEDULE"), *seed = getenv("WEFT_SIM_SEED"),
               *streams = getenv("WEFT_SIM_STREAMS"), *capability = getenv("WEFT_SIM_CAPABILITY");
    char *end = nullptr;
    int known = !schedule;
    for (int i = 0; schedule && i < 4; i++)
        if (strcmp(schedule, names[i]) == 0)
            c.schedule = (SimSchedule)i, known = 1;
    if (!known)
        refused = "WEFT_SIM_SCHEDULE", expected = "ascending, descending, random or greedy", value = schedule;
    if (seed)
        c.seed = strtoull(seed, &end, 10);
    if (seed && (!*seed || *end))
        refused = "WEFT_SIM_SEED", expected = "a whole number", value = seed;
    if (capability)
        c.capability = strcmp(capability, "90") == 0 ? 90 : 80;
    if (capability && strcmp(capability, "80") != 0 && strcmp(capability, "90") != 0)
        refused = "WEFT_SIM_CAPABILITY", expected = "80 or 90", value = capability;
    if (streams)
        c.eager_streams = strcmp(streams, "eager") == 0;
    if (streams && !c.eager_streams && strcmp(streams, "lazy") != 0)
        refused = "WEFT_SIM_STREAMS", expected = "lazy or eager", value = streams;
    sim_configure(&c);
}
} // namespace

extern "C" int sim_environment(Err *err)
{
    return refused ? err_set(err, ERR_USAGE, "%s is '%s', expected %s", refused, value, expected) : 0;
}
