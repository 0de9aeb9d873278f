/* Ranks without MPI: exchanges, agreement, and the sums of gradients, over shared memory. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/ranks/ranks_local.h"
#include "common/ranks/reducer.h"
#include "common/ranks/tree.h"

enum { MOST = 7, FLAT = 1003 };

/* ---- every rank a thread --------------------------------------------------------------------- */

typedef struct Seat {
    Hub *hub;
    int64_t rank;
    int (*work)(Ranks *r, void *user, Err *err);
    void *user;
    int rc;
    Err err;
} Seat;

static void *sit(void *arg)
{
    Seat *s = arg;
    Ranks *r = NULL;
    s->rc = ranks_local(&r, s->hub, s->rank, &s->err);
    if (s->rc == 0)
        s->rc = s->work(r, s->user, &s->err);
    ranks_close(&r);
    return NULL;
}

/* Runs `work` at all ranks; a small window, so that everything goes in several pieces. */
static void seats(Seat *s, int64_t size, int (*work)(Ranks *r, void *user, Err *err), void *user)
{
    pthread_t thread[MOST];
    Hub *hub = NULL;
    Err err = {0};
    CHECK_OK(hub_new(&hub, size, 400, &err), &err);
    for (int64_t i = 0; i < size; i++) {
        s[i] = (Seat){.hub = hub, .rank = i, .work = work, .user = user};
        assert_int_equal(pthread_create(&thread[i], NULL, sit, &s[i]), 0);
    }
    for (int64_t i = 0; i < size; i++)
        pthread_join(thread[i], NULL);
    hub_close(&hub);
}

static void all_ranks(int64_t size, int (*work)(Ranks *r, void *user, Err *err), void *user)
{
    Seat s[MOST];
    seats(s, size, work, user);
    for (int64_t i = 0; i < size; i++)
        CHECK_OK(s[i].rc, &s[i].err);
}

static int wrong(Err *err, const char *what, int64_t rank)
{
    return err_set(err, ERR_FORMAT, "%s at rank %" PRId64, what, rank);
}

/* ---- exchanges ------------------------------------------------------------------------------- */

static int sums(Ranks *r, Err *err)
{
    double wide[300];
    float narrow[300];
    uint16_t half[300];
    int rc;
    for (int i = 0; i < 300; i++) {
        wide[i] = (double)(i * (r->rank + 1));
        narrow[i] = (float)(r->rank + i);
        half[i] = float_to_bfloat((float)(r->rank + 1));
    }
    if ((rc = r->sum(r, wide, 300, DT_F64, RANKS_ALL, err)) < 0 ||
        (rc = r->sum(r, narrow, 300, DT_F32, r->size - 1, err)) < 0 || (rc = r->sum(r, half, 300, DT_BF16, 0, err)) < 0)
        return rc;
    double pairs = (double)(r->size * (r->size + 1) / 2), before = pairs - (double)r->size;
    for (int i = 0; i < 300; i++) {
        if (wide[i] != i * pairs)
            return wrong(err, "sum of doubles", r->rank);
        if (narrow[i] != (r->rank == r->size - 1 ? (float)(before + (double)(i * r->size)) : (float)(r->rank + i)))
            return wrong(err, "sum of floats", r->rank);
        if (half[i] != float_to_bfloat(r->rank == 0 ? (float)pairs : (float)(r->rank + 1)))
            return wrong(err, "sum of bfloats", r->rank);
    }
    return 0;
}

static int exchanges(Ranks *r, void *user, Err *err)
{
    int64_t mine[90], all[90 * MOST], next = (r->rank + 1) % r->size, before = (r->rank + r->size - 1) % r->size;
    int rc = sums(r, err);
    (void)user;
    for (int i = 0; i < 90; i++)
        mine[i] = 1000 * r->rank + i;
    if (rc == 0)
        rc = r->gather(r, all, mine, sizeof mine, err);
    for (int64_t i = 0; rc == 0 && i < 90 * r->size; i++)
        if (all[i] != 1000 * (i / 90) + i % 90)
            rc = wrong(err, "gather", r->rank);
    if (rc == 0 && r->size > 1) /* around in a ring: rank 0 sends first */
        rc = r->rank == 0 ? r->send(r, mine, sizeof mine, next, err) : r->receive(r, all, sizeof mine, before, err);
    if (rc == 0 && r->size > 1)
        rc = r->rank == 0 ? r->receive(r, all, sizeof mine, before, err) : r->send(r, mine, sizeof mine, next, err);
    for (int i = 0; rc == 0 && r->size > 1 && i < 90; i++)
        if (all[i] != 1000 * before + i)
            rc = wrong(err, "message", r->rank);
    if (rc == 0)
        rc = r->broadcast(r, mine, sizeof mine, r->size - 1, err);
    for (int i = 0; rc == 0 && i < 90; i++)
        if (mine[i] != 1000 * (r->size - 1) + i)
            rc = wrong(err, "broadcast", r->rank);
    return rc;
}

static void ranks_exchange(void **state)
{
    (void)state;
    for (int64_t size = 1; size <= MOST; size++)
        all_ranks(size, exchanges, NULL);
}

static void processes_exchange(void **state)
{
    (void)state;
    Hub *hub = NULL;
    Err err = {0};
    pid_t child[3];
    CHECK_OK(hub_new(&hub, 3, 4096, &err), &err);
    for (int i = 0; i < 3; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            Seat s = {.hub = hub, .rank = i, .work = exchanges};
            sit(&s);
            _exit(s.rc == 0 ? 0 : 1);
        }
    }
    for (int i = 0; i < 3; i++) {
        int status = -1;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    hub_close(&hub);
}

static int joins_by_name(Ranks *r, void *user, Err *err)
{
    Hub *hub = NULL;
    Ranks *by_name = NULL;
    int rc = hub_join(&hub, user, r->rank, r->size, 1000, err);
    if (rc == 0)
        rc = ranks_local(&by_name, hub, r->rank, err);
    if (rc == 0)
        rc = exchanges(by_name, NULL, err);
    ranks_close(&by_name);
    hub_close(&hub);
    return rc;
}

static void a_hub_has_a_name(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "/weft-test-%ld", (long)getpid());
    all_ranks(3, joins_by_name, name);
    all_ranks(2, joins_by_name, name); /* the name was removed */
}

/* Rank 1 stops; the others get an error instead of waiting. */
static int stops(Ranks *r, void *user, Err *err)
{
    (void)user;
    if (r->rank == 1) {
        r->cancel(r);
        return 0;
    }
    char one = 0, all[MOST];
    return r->gather(r, all, &one, 1, err);
}

static void a_rank_that_stops_is_noticed(void **state)
{
    (void)state;
    Seat s[MOST];
    seats(s, 3, stops, NULL);
    CHECK_FAILS(s[0].rc, ERR_IO, "another rank has stopped", &s[0].err);
    CHECK_FAILS(s[2].rc, ERR_IO, "another rank has stopped", &s[2].err);
}

/* ---- agreement ------------------------------------------------------------------------------- */

static int agrees(Ranks *r, void *user, Err *err)
{
    int64_t bad = *(int64_t *)user;
    snprintf(r->host, sizeof r->host, "node%d", (int)r->rank);
    return ranks_agree(r, r->rank < bad ? 0 : err_set(err, ERR_USAGE, "no cache %d", (int)r->rank), err);
}

static int compares(Ranks *r, void *user, Err *err)
{
    int64_t other = *(int64_t *)user;
    RanksFact facts[] = {{"the program", "1.2"},
                         {"the recipe", r->rank == other ? "abcd" : "ef01"},
                         {"the cache", r->rank == other ? "y" : "x"}};
    snprintf(r->host, sizeof r->host, "node%d", (int)r->rank);
    return ranks_compare(r, facts, 3, err);
}

static void ranks_agree_or_say_who_does_not(void **state)
{
    (void)state;
    Seat s[MOST];
    int64_t none = MOST, two = 2, zero = 0;
    all_ranks(4, agrees, &none);
    seats(s, 4, agrees, &two);
    for (int i = 0; i < 4; i++)
        CHECK_FAILS(s[i].rc, ERR_USAGE, "rank 2 on node2: no cache 2", &s[i].err);
    all_ranks(4, compares, &none);
    seats(s, 4, compares, &two);
    for (int i = 0; i < 4; i++)
        CHECK_FAILS(s[i].rc, ERR_USAGE,
                    "rank 2 on node2 differs from rank 0 on node0 in the recipe (abcd, there ef01), the cache (y, "
                    "there x)",
                    &s[i].err);
    seats(s, 3, compares, &zero);
    CHECK_FAILS(s[2].rc, ERR_USAGE, "rank 1 on node1 differs from rank 0", &s[2].err);
    for (int i = 0; i < 2; i++) /* the same sentence everywhere */
        assert_string_equal(s[i].err.msg, "rank 1 on node1 differs from rank 0 on node0 in the recipe (ef01, there "
                                          "abcd), the cache (x, there y): start all ranks with the same program, "
                                          "options and files");
    assert_int_equal(ranks_agree(NULL, ERR_IO, NULL), ERR_IO);
    assert_int_equal(ranks_size(NULL), 1);
}

static void parts_are_even(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 40; n++)
        for (int64_t size = 1; size < 12; size++) {
            int64_t at = 0, first, last;
            for (int64_t k = 0; k < size; k++) {
                ranks_part(n, k, size, &first, &last);
                assert_int_equal(first, at);
                assert_in_range(last - first, n / size, (n + size - 1) / size);
                at = last;
            }
            assert_int_equal(at, n);
        }
    int64_t first, last;
    ranks_part(INT64_MAX, 2, 3, &first, &last);
    assert_true(last == INT64_MAX);
}

/* ---- the tree -------------------------------------------------------------------------------- */

static void a_rank_holds_the_largest_nodes_of_its_part(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 70; n++)
        for (int64_t size = 1; size <= n && size < 9; size++)
            for (int64_t k = 0; k < size; k++) {
                int64_t first, last, at;
                Tree t;
                ranks_part(n, k, size, &first, &last);
                tree_begin(&t, n, first, last);
                while (t.next < last)
                    assert_true(tree_add(&t) >= 0);
                at = first;
                for (int i = 0; i < t.n_held; i++) { /* they cover the part in order, and cannot be larger */
                    int64_t a, b, c, d;
                    TreeNode parent = {t.held[i].level + 1, t.held[i].index / 2};
                    tree_span(t.held[i], n, &a, &b);
                    tree_span(parent, n, &c, &d);
                    assert_int_equal(a, at);
                    assert_true(t.held[i].level == tree_root(n).level || c < first || d > last);
                    assert_int_equal(tree_find(&t, t.held[i]), i);
                    at = b;
                }
                assert_int_equal(at, last);
            }
    assert_int_equal(tree_places(16, 0, 16), 4);
    assert_int_equal(tree_places(16, 4, 8), 2);
    assert_int_equal(tree_places(1, 0, 1), 0);
    assert_int_equal(tree_places(5, 5, 5), 0);
}

/* ---- sums of gradients ----------------------------------------------------------------------- */

typedef struct Case {
    const char *device;
    int64_t samples;
    int tree, link; /* link: sums go from device to device */
    DType type;
    float *leaf;   /* [samples, FLAT] */
    float *result; /* [FLAT], written by each part's owner */
    int64_t bound[MOST + 1];
} Case;

/* Sample j's gradient is added, as a backward pass would. */
static int backward(Backend *be, const Tensor *grads, const float *leaf, Err *err)
{
    float old[FLAT];
    int rc = backend_get_f32(be, old, grads, err);
    for (int i = 0; i < FLAT; i++)
        old[i] += leaf[i];
    return rc < 0 ? rc : backend_put_f32(be, grads, old, err);
}

static int one_step(Ranks *r, Backend *be, Reducer *red, const Tensor *grads, const Case *c, Err *err)
{
    int64_t first, last, size = ranks_size(r), me = ranks_rank(r);
    int rc = 0;
    ranks_part(c->samples, me, size, &first, &last);
    reducer_begin(red, c->samples);
    for (int64_t j = first; j < last && rc == 0; j++) {
        rc = backward(be, grads, c->leaf + j * FLAT, err);
        if (rc == 0 && c->tree && j + 1 < last)
            rc = reducer_add(red, err);
    }
    reducer_range(red, 500, 300);
    reducer_range(red, 0, 500);
    reducer_range(red, 800, FLAT - 800);
    return rc < 0 ? rc : reducer_finish(red, err);
}

static int reduces(Ranks *r, void *user, Err *err)
{
    Case *c = user;
    Backend *be = NULL;
    Reducer *red = NULL;
    Tensor grads = {0};
    void *data = NULL;
    int64_t me = ranks_rank(r), a = c->bound[me], b = c->bound[me + 1];
    int linked = 0, rc = backend_open(&be, c->device, 1, NULL, err);
    float host[FLAT];
    if (rc == 0 && (rc = be->alloc(be, FLAT * 4, &data, err)) == 0) {
        grads = tensor_of(data, c->type, 1, FLAT);
        rc = reducer_open(&red, r, be, &grads, c->bound, &c->samples, 1, c->tree, err);
    }
    if (rc == 0 && c->link && (rc = reducer_link(r, be, &linked, err, err)) == 0 && linked)
        reducer_use_link(red);
    if (rc == 0 && c->link && !linked)
        rc = wrong(err, "no link", me);
    for (int again = 0; again < 2 && rc == 0; again++) { /* a second step must not see the first */
        memset(host, 0, sizeof host);
        rc = backend_put_f32(be, &grads, host, err);
        if (rc == 0)
            rc = one_step(r, be, red, &grads, c, err);
    }
    if (rc == 0)
        rc = backend_get_f32(be, host, &grads, err);
    if (rc == 0)
        memcpy(c->result + a, host + a, (size_t)(b - a) * sizeof *host);
    if (rc == 0) /* the owners' parts, shared: now every rank has them all */
        rc = reducer_share(r, be, &grads, c->bound, linked, err);
    if (rc == 0)
        rc = backend_get_f32(be, host, &grads, err);
    for (int k = 0; rc == 0 && k < ranks_size(r); k++)
        if (k == me && memcmp(host + a, c->result + a, (size_t)(b - a) * sizeof *host) != 0)
            rc = wrong(err, "a part that changed when it was shared", me);
    reducer_close(&red);
    if (data)
        be->release(be, data);
    backend_close(&be);
    return rc;
}

/* The tree's sum by its definition. */
static float by_definition(const Case *c, TreeNode node, int i)
{
    int64_t first, last, a, b;
    tree_span(node, c->samples, &first, &last);
    if (node.level == 0)
        return c->leaf[first * FLAT + i];
    tree_span(tree_child(node, 1), c->samples, &a, &b);
    float left = by_definition(c, tree_child(node, 0), i);
    return a < b ? left + by_definition(c, tree_child(node, 1), i) : left;
}

static void case_open(Case *c, int64_t samples)
{
    Philox p = philox_stream(3, RNG_TEST, 0, (uint64_t)samples);
    c->samples = samples;
    c->leaf = mem_calloc(samples * FLAT, sizeof(float), NULL);
    c->result = mem_calloc(FLAT, sizeof(float), NULL);
    philox_fill_normal(&p, 0, c->leaf, samples * FLAT);
}

static void case_close(Case *c)
{
    mem_free(c->leaf);
    mem_free(c->result);
}

/* Parts of odd sizes; with three ranks and more rank 1 owns nothing. */
static void cut(Case *c, int64_t size)
{
    c->bound[0] = 0;
    for (int64_t k = 1; k < size; k++)
        c->bound[k] = size > 2 && k == 2 ? c->bound[1] : FLAT * k / size + k;
    c->bound[size] = FLAT;
}

static void reduce_over(Case *c, int64_t size)
{
    Err err = {0};
    cut(c, size);
    memset(c->result, 0, FLAT * sizeof(float));
    if (size == 1)
        CHECK_OK(reduces(NULL, c, &err), &err);
    else
        all_ranks(size, reduces, c);
}

/* A tree of bfloats: each of at most log2 n levels of sums rounds to 8 bits, leaves too. */
static void check_rounded(const Case *c, const float *got)
{
    double want[FLAT];
    for (int i = 0; i < FLAT; i++)
        want[i] = by_definition(c, tree_root(c->samples), i);
    check_near("a tree of bfloats", got, want, FLAT, 0.1, 0);
}

static void the_tree_gives_the_same_bits_for_any_ranks(void **state)
{
    (void)state;
    static const int64_t samples[] = {1, 2, 3, 5, 8, 13, 16};
    for (size_t k = 0; k < sizeof samples / sizeof *samples; k++) {
        Case c = {.device = "cpu", .tree = 1, .type = DT_F32};
        float want[FLAT];
        case_open(&c, samples[k]);
        for (int i = 0; i < FLAT; i++)
            want[i] = by_definition(&c, tree_root(c.samples), i);
        for (int64_t size = 1; size <= MOST; size++) {
            reduce_over(&c, size);
            assert_memory_equal(c.result, want, sizeof want);
        }
        c.type = DT_BF16;
        reduce_over(&c, 1);
        memcpy(want, c.result, sizeof want);
        check_rounded(&c, want);
        for (int64_t size = 2; size <= MOST; size++) {
            reduce_over(&c, size);
            assert_memory_equal(c.result, want, sizeof want);
        }
        case_close(&c);
    }
}

static void the_tree_works_on_a_device(void **state)
{
    (void)state;
    Case c = {.device = "sim", .tree = 1, .type = DT_F32};
    float want[FLAT];
    case_open(&c, 5);
    for (int i = 0; i < FLAT; i++)
        want[i] = by_definition(&c, tree_root(c.samples), i);
    reduce_over(&c, 1);
    assert_memory_equal(c.result, want, sizeof want);
    case_close(&c);
}

/* The simulator is one device a process. */
static void by_processes(Case *c, int64_t size)
{
    Hub *hub = NULL;
    Err err = {0};
    pid_t child[MOST];
    CHECK_OK(hub_new(&hub, size, 4096, &err), &err);
    for (int64_t i = 0; i < size; i++)
        if ((child[i] = fork()) == 0) {
            Seat s = {.hub = hub, .rank = i, .work = reduces, .user = c};
            sit(&s);
            if (s.rc < 0)
                fprintf(stderr, "rank %" PRId64 ": %s\n", i, s.err.msg);
            _exit(s.rc == 0 ? 0 : 1);
        }
    for (int64_t i = 0; i < size; i++) {
        int status = -1;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    hub_close(&hub);
}

static float *shared_floats(int64_t n)
{
    float *p = mmap(NULL, (size_t)n * sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    return p;
}

/* The stand-in adds in rank order; NCCL in an order of its own. */
static void devices_are_linked(void **state)
{
    (void)state;
    static const DType types[] = {DT_F32, DT_BF16};
    for (int64_t size = 2; size <= 3; size++)
        for (int k = 0; k < 2; k++) {
            Case c = {.device = "sim", .type = types[k], .link = 1};
            double want[FLAT] = {0};
            case_open(&c, 5);
            mem_free(c.result);
            c.result = shared_floats(FLAT);
            cut(&c, size);
            for (int64_t i = 0; i < 5 * FLAT; i++)
                want[i % FLAT] += (double)c.leaf[i];
            by_processes(&c, size);
            check_near("sums of linked devices", c.result, want, FLAT, k ? 0.06 : 5e-6, 0);
            munmap(c.result, FLAT * sizeof(float));
            c.result = NULL;
            case_close(&c);
        }
}

static void plain_sums_are_near(void **state)
{
    (void)state;
    for (int64_t samples = 3; samples <= 9; samples += 6)
        for (int half = 0; half < 2; half++) {
            Case c = {.device = "cpu", .type = half ? DT_BF16 : DT_F32};
            double want[FLAT] = {0};
            case_open(&c, samples);
            for (int64_t i = 0; i < samples * FLAT; i++)
                want[i % FLAT] += (double)c.leaf[i];
            for (int64_t size = 1; size <= 5; size++) {
                reduce_over(&c, size);
                /* each of `samples` additions rounds the sum, of size sqrt(samples), to 24 or 8 bits */
                check_near("sums", c.result, want, FLAT, half ? 0.06 : 1e-6 * (double)samples, 0);
            }
            case_close(&c);
        }
}

static void memory_is_known_before(void **state)
{
    (void)state;
    int64_t samples[] = {4, 3};
    assert_int_equal(reducer_bytes(400, 0, 1, samples, 2, 1, 1), 2 * 400);
    assert_int_equal(reducer_bytes(400, 0, 2, samples, 2, 1, 1), 400);
    assert_int_equal(reducer_bytes(400, 1, 4, samples, 2, 1, 1), 0);
    assert_int_equal(reducer_bytes(400, 0, 2, samples, 2, 0, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* first: a process that used OpenMP cannot be forked into ones that do */
        cmocka_unit_test(devices_are_linked),
        cmocka_unit_test(ranks_exchange),
        cmocka_unit_test(processes_exchange),
        cmocka_unit_test(a_hub_has_a_name),
        cmocka_unit_test(a_rank_that_stops_is_noticed),
        cmocka_unit_test(ranks_agree_or_say_who_does_not),
        cmocka_unit_test(parts_are_even),
        cmocka_unit_test(a_rank_holds_the_largest_nodes_of_its_part),
        cmocka_unit_test(the_tree_gives_the_same_bits_for_any_ranks),
        cmocka_unit_test(the_tree_works_on_a_device),
        cmocka_unit_test(plain_sums_are_near),
        cmocka_unit_test(memory_is_known_before),
    };
    return check_run_live("ranks", tests);
}
