/* The option table: strict parsing, help, exit statuses. */
#include "tests/check.h"
#include <fcntl.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/program.h"
#include "common/base/build.h"

typedef struct Options {
    CommonOptions common;
    const char *out, *mode;
    int64_t count;
    double ratio;
    StrList tag;
    int force;
} Options;

static const Opt opts[] = {
    OPTS_COMMON,
    {"out", 'o', OPT_STR, offsetof(Options, out), .required = 1, .meta = "DIR", .help = "where it goes"},
    {"mode", 0, OPT_ENUM, offsetof(Options, mode), .choices = "fast|slow", .dflt = "slow", .help = "how"},
    {"count", 'n', OPT_INT, offsetof(Options, count), .min = 1, .max = 10, .dflt = "3", .meta = "N",
     .help = "how many"},
    {"ratio", 0, OPT_NUM, offsetof(Options, ratio), .min = 0, .max = 1, .meta = "X", .help = "which share"},
    {"tag", 0, OPT_LIST, offsetof(Options, tag), .meta = "NAME", .help = "may be repeated"},
    {"force", 'f', OPT_FLAG, offsetof(Options, force), .help = "anyway"},
    OPTION_KEY("steps", "N", "sampling.num_inference_steps", "how long"),
    OPTION_KEY("sampler", NULL, "sampling.scheduler", "which", .choices = "ddim|dpm"),
    OPTION_KEY("dynamic", NULL, "sampling.use_dynamic_cfg", "rising"),
    {0},
};

static Err err;

#define ARGV(...) ((char *[]){__VA_ARGS__, NULL})

static int parse(Options *o, StrList *positional, char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    return args_parse(opts, o, sizeof *o, argc, argv, positional, &err);
}

static void refuse(char **argv, const char *part)
{
    Options o;
    StrList positional;
    CHECK_FAILS(parse(&o, &positional, argv), ERR_USAGE, part, &err);
    assert_true(!positional.item && !o.tag.item && !o.common.set.item && !o.common.keys.item);
}

static void parses(void **state)
{
    (void)state;
    Options o;
    StrList p;
    char **argv = ARGV("a", "--out=x=y", "-n", "7", "--tag", "t1", "-", "--tag=t2", "-f", "--ratio", "0.25", "--",
                       "--mode", "-n");
    CHECK_OK(parse(&o, &p, argv), &err);
    assert_string_equal(o.out, "x=y");
    assert_string_equal(o.mode, "slow");
    assert_int_equal(o.count, 7);
    assert_true(o.ratio == 0.25);
    assert_int_equal(o.force, 1);
    assert_int_equal(o.tag.n, 2);
    assert_string_equal(o.tag.item[1], "t2");
    assert_int_equal(p.n, 4);
    assert_string_equal(p.item[1], "-");
    assert_string_equal(p.item[3], "-n");
    assert_int_equal(o.common.seed, -1);
    assert_string_equal(o.common.device, "auto");
    args_fini(opts, &o);
    args_free_list(&p);
    CHECK_OK(parse(&o, &p, ARGV("-oDIR", "-n5", "--seed", "9007199254740992", "--set", "a.b=-1")), &err);
    assert_string_equal(o.out, "DIR");
    assert_int_equal(o.count, 5);
    assert_true(o.common.seed == 9007199254740992);
    assert_string_equal(o.common.set.item[0], "a.b=-1");
    args_fini(opts, &o);
    args_free_list(&p);
}

/* Options that stand for a recipe key: as triples, in the order given. */
static void keys(void **state)
{
    (void)state;
    static const char *const want[] = {"dynamic", "sampling.use_dynamic_cfg",     "true",
                                       "steps",   "sampling.num_inference_steps", "7",
                                       "sampler", "sampling.scheduler",           "euler"};
    Options o;
    StrList p;
    CHECK_OK(parse(&o, &p, ARGV("-o", "x", "--dynamic", "--steps=7", "--sampler", "euler")), &err);
    assert_int_equal(o.common.keys.n, 9);
    for (int i = 0; i < 9; i++)
        assert_string_equal(o.common.keys.item[i], want[i]);
    args_fini(opts, &o);
    args_free_list(&p);
    refuse(ARGV("-o", "x", "--steps", "1", "--steps", "2"), "--steps is given twice");
    refuse(ARGV("-o", "x", "--steps"), "--steps needs a value (N)");
    refuse(ARGV("-o", "x", "--dynamic=1"), "--dynamic takes no value");
}

static void refuses(void **state)
{
    (void)state;
    refuse(ARGV("x"), "--out DIR is needed: where it goes");
    refuse(ARGV("--uot", "x"), "unknown option '--uot'; did you mean '--out'?");
    refuse(ARGV("--something-else", "x"), "unknown option '--something-else'");
    refuse(ARGV("-z"), "unknown option '-z'");
    refuse(ARGV("-o", "x", "--out", "y"), "--out is given twice");
    refuse(ARGV("-f", "-f", "-o", "x"), "--force is given twice");
    refuse(ARGV("--tag", "t", "--out"), "--out needs a value (DIR)");
    refuse(ARGV("--out", ""), "--out needs a value (DIR), found ''");
    refuse(ARGV("--out="), "--out needs a value (DIR), found ''");
    refuse(ARGV("-o", "x", "--tag", ""), "--tag needs a value");
    refuse(ARGV("-o", "x", "a", ""), "argument 4 is empty");
    refuse(ARGV("-o", "x", "--", ""), "argument 4 is empty");
    refuse(ARGV("--force=1", "-o", "x"), "--force takes no value");
    refuse(ARGV("-fx", "-o", "x"), "--force takes no value");
    refuse(ARGV("--mode", "quick"), "--mode: expected fast|slow, found 'quick'");
    refuse(ARGV("--mode", "fas"), "expected fast|slow");
    refuse(ARGV("--mode", ""), "expected fast|slow");
    refuse(ARGV("--count", "3x"), "--count: expected a whole number, found '3x'");
    refuse(ARGV("--count", ""), "whole number");
    refuse(ARGV("--count", "1e3"), "whole number");
    refuse(ARGV("--count", " 3"), "whole number");
    refuse(ARGV("--count", "99999999999999999999"), "does not fit 64 bits");
    refuse(ARGV("--count", "11"), "--count: 11 is not within 1 to 10");
    refuse(ARGV("--count=-1"), "not within");
    refuse(ARGV("--ratio", "nan"), "--ratio: expected a number");
    refuse(ARGV("--ratio", "1e999"), "expected a number");
    refuse(ARGV("--ratio", "1.5"), "not within 0 to 1");
    refuse(ARGV("--seed", "-2"), "not within");
    refuse(ARGV("--seed", "9007199254740993"), "not within -1 to 9007199254740992");
    refuse(ARGV("--device", "gpu"), "auto|cpu|cuda|sim|ref");
}

/* ---- a whole program ------------------------------------------------------------------------- */

static int run(void *options, const StrList *positional, Err *e)
{
    const Options *o = options;
    args_print(opts, o, stdout);
    if (strcmp(o->out, "fail") == 0)
        return err_set(e, ERR_IO, "the disk is gone");
    if (strcmp(o->out, "misuse") == 0)
        return err_set(e, ERR_USAGE, "no such thing");
    if (strcmp(o->out, "mute") == 0)
        return ERR_DEVICE;
    return positional->n == 2 ? 3 : 0;
}

static int write_block(void *options, const StrList *positional, Err *e)
{
    (void)options;
    (void)e;
    printf("%*s", atoi(positional->item[0]), "x");
    return 0;
}

static const Command commands[] = {
    {.name = "ingest",
     .summary = "takes videos in",
     .usage = "[options] SOURCE...",
     .opts = opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = 2,
     .run = run},
    {.name = "report",
     .summary = "tells about them",
     .usage = "[options]",
     .opts = opts,
     .options_size = sizeof(Options),
     .run = run},
    {.name = "block",
     .summary = "writes N bytes in one call",
     .usage = "N",
     .opts = no_opts,
     .min_positional = 1,
     .max_positional = 1,
     .run = write_block},
    COMMAND_KEYS,
    {0},
};

/* program_main with both streams caught; returns its status. */
static int status_with(const char *stdout_path, char **argv, char out[8192], char errors[8192])
{
    char *buffers[2] = {out, errors};
    int argc = 0, saved[2], fd[2];
    while (argv[argc])
        argc++;
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        saved[i] = dup(i + 1);
        fd[i] = open(i ? check_tmp_path("stderr") : stdout_path, O_RDWR | O_CREAT | O_TRUNC, 0666);
        assert_true(saved[i] >= 0 && fd[i] >= 0);
        dup2(fd[i], i + 1);
    }
    static const Program program = {.name = "weft-test", .about = "Tests the table.", .commands = commands};
    int status = program_main(&program, argc, argv);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        dup2(saved[i], i + 1);
        close(saved[i]);
        ssize_t n = i == 0 && strcmp(stdout_path, "/dev/full") == 0 ? 0 : pread(fd[i], buffers[i], 8191, 0);
        assert_true(n >= 0 || i == 0);
        buffers[i][n > 0 && n < 8192 ? n : 0] = 0;
        close(fd[i]);
    }
    return status;
}

static int status_of(char **argv, char out[8192], char errors[8192])
{
    return status_with(check_tmp_path("stdout"), argv, out, errors);
}

static void whole_program(void **state)
{
    (void)state;
    static char out[8192], errors[8192];
    assert_int_equal(status_of(ARGV("weft-test"), out, errors), 2);
    assert_non_null(strstr(errors, "ingest"));
    assert_int_equal(status_of(ARGV("weft-test", "--help"), out, errors), 0);
    assert_non_null(strstr(out, "ingest       takes videos in\n"));
    assert_string_equal(errors, "");
    assert_int_equal(status_of(ARGV("weft-test", "--version"), out, errors), 0);
    assert_memory_equal(out, "weft-test " WEFT_VERSION "\n  compiler ", 21 + sizeof WEFT_VERSION);
    assert_non_null(strstr(out, "\n  jansson "));
    assert_int_equal(status_of(ARGV("weft-test", "ingets", "x"), out, errors), 2);
    assert_non_null(
        strstr(errors, "weft-test: error: unknown command 'ingets'; did you mean 'ingest'?\ntry 'weft-test --help'\n"));
    assert_int_equal(status_of(ARGV("weft-test", "--frobnicate"), out, errors), 2);
    assert_int_equal(status_of(ARGV("weft-test", "ingest", "--uot", "x", "--help"), out, errors), 0);
    for (const Opt *o = opts; o->name; o++) { /* help names every option */
        char name[64];
        snprintf(name, sizeof name, "--%s", o->name);
        assert_non_null(strstr(out, name));
        assert_non_null(strstr(out, o->help));
    }
    assert_non_null(strstr(out, "  -n, --count N               how many [1..10] (default 3)\n"));
    assert_int_equal(status_of(ARGV("weft-test", "ingest", "a", "--bad"), out, errors), 2);
    assert_non_null(strstr(errors, "try 'weft-test ingest --help'\n"));
    assert_int_equal(status_of(ARGV("weft-test", "ingest", "-o", "x"), out, errors), 2);
    assert_non_null(strstr(errors, "0 arguments given, at least 1 needed: [options] SOURCE..."));
    assert_int_equal(status_of(ARGV("weft-test", "ingest", "-o", "x", "a", "b", "c"), out, errors), 2);
    assert_non_null(strstr(errors, "unexpected argument 'c'"));
    assert_int_equal(status_of(ARGV("weft-test", "ingest", "-o", "x", "a", "--tag", "p", "--tag", "q"), out, errors),
                     0);
    assert_non_null(strstr(out, "\nout = x\nmode = slow\ncount = 3\nratio = 0\ntag = p q\nforce = no\n"));
    assert_int_equal(status_of(ARGV("weft-test", "ingest", "-o", "x", "a", "b"), out, errors), 3);
    assert_int_equal(status_of(ARGV("weft-test", "ingest", "-o", "fail", "a"), out, errors), 1);
    assert_string_equal(errors, "weft-test: error: the disk is gone\n");
    assert_int_equal(status_of(ARGV("weft-test", "ingest", "-o", "mute", "a"), out, errors), 1);
    assert_string_equal(errors, "weft-test: error: device failed\n");
    assert_int_equal(status_of(ARGV("weft-test", "report", "-o", "misuse"), out, errors), 2);
    assert_non_null(strstr(errors, "no such thing\ntry 'weft-test report --help'"));
}

/* glibc writes what is larger than its buffer at once: a failure then leaves nothing to flush. */
static void lost_output_is_a_failure(void **state)
{
    (void)state;
    static char out[8192], errors[8192];
    static char *sizes[] = {"1", "4095", "4096", "4097", "5000", "8192", "65536"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(status_with("/dev/full", ARGV("weft-test", "block", sizes[i]), out, errors), 1);
        assert_non_null(strstr(errors, "weft-test: error: writing to standard output"));
        clearerr(stdout);
        assert_int_equal(status_of(ARGV("weft-test", "block", sizes[i]), out, errors), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(keys),
        cmocka_unit_test(refuses),
        cmocka_unit_test(whole_program),
        cmocka_unit_test(lost_output_is_a_failure),
    };
    return check_run_live("base_args", tests);
}
