/* read_garments VIDEOS... [--out FILE.csv] [--readings FILE.csv]
 *
 * Reads from pixels alone what the figure of each video wears (tests/demo/draw/reader.h) and compares it with the
 * words of the video's prompt.  VIDEOS is what weft-infer evaluate takes: a folder of samples, a list, a video.
 *   --out       a table for `weft-infer compare --scores`: 1 where the prompt's word was read, 0 where not, empty
 *               where the prompt has none; the line "chance" says what guessing gives
 *   --readings  what was read, in words and numbers
 * Prints the share of right answers with 95 % intervals (Wilson). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/args.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/video.h"
#include "infer/csv.h"
#include "infer/videos.h"
#include "tests/demo/draw/reader.h"

typedef struct Options {
    const char *out, *readings, *prompts;
} Options;
static const Opt opts[] = {
    OPTION(Options, out, OPT_STR, "out", "FILE", "table for weft-infer compare --scores"),
    OPTION(Options, readings, OPT_STR, "readings", "FILE", "table of what was read"),
    OPTION(Options, prompts, OPT_STR, "prompts", "FILE", "prompts of videos by their ids (weft-infer evaluate)"),
    {0}};

enum { FIGURE, COLOUR, PATTERN, GARMENT, SLEEVE, SCORES };
static const char *const score_names[SCORES] = {"figure", "colour", "pattern", "garment", "sleeve"};
static const double chance[SCORES] = {NAN, 1.0 / COLOURS, 1.0 / PATTERNS, 1.0 / GARMENTS, 1.0 / SLEEVES};

typedef struct Read {
    Reading r;
    double score[SCORES]; /* NAN: the prompt does not say */
    Err err;              /* code 0: read */
} Read;

static int read_frames(const char *path, Reading *out, Err *err)
{
    enum { FRAMES_MOST = 64 };
    const int64_t bytes = READER_WIDTH * READER_HEIGHT * 3;
    VideoReader *v = NULL;
    VideoFrame f;
    int64_t n = 0;
    uint8_t *rgb = mem_calloc(FRAMES_MOST, bytes, err);
    int rc = rgb ? video_open(&v, path, &(VideoLimits){0}, err) : ERR_NOMEM, more = 1;
    while (rc == 0 && n < FRAMES_MOST && (more = video_next(v, &f, err)) == 1) {
        FitPlan plan = fit_plan(video_info(v), READER_WIDTH, READER_HEIGHT, FIT_COVER, 0.5, 0.5);
        rc = video_to_rgb(v, &f, &plan, rgb + n++ * bytes, err);
    }
    if (rc == 0 && more < 0)
        rc = more;
    if (rc == 0 && n == 0)
        rc = err_set(err, ERR_FORMAT, "'%s' has no frames", path);
    if (rc == 0)
        reader_read(out, rgb, n);
    video_close(&v);
    mem_free(rgb);
    return rc;
}

static double judge(int said, int found)
{
    return said < 0 ? NAN : said == found;
}

static void read_one(const VideoItem *v, Read *out)
{
    if (read_frames(v->path, &out->r, &out->err) < 0)
        return;
    Words w = caption_words(v->prompt ? v->prompt : "");
    out->score[FIGURE] = out->r.figure;
    out->score[COLOUR] = judge(w.colour, (int)out->r.colour);
    out->score[PATTERN] = judge(w.pattern, (int)out->r.pattern);
    out->score[GARMENT] = judge(w.garment, (int)out->r.garment);
    out->score[SLEEVE] = judge(w.sleeve, (int)out->r.sleeve);
}

/* Paths in a table are relative to its folder where the videos lie below it. */
static void put_path(FILE *out, const char *table, const char *path)
{
    const char *slash = strrchr(table, '/');
    size_t n = slash ? (size_t)(slash - table) + 1 : 0;
    csv_put_text(out, strncmp(table, path, n) == 0 ? path + n : path);
}

static int write_table(const char *path, const VideoList *v, const Read *read, int words, Err *err)
{
    AtomicFile *f = NULL;
    int rc = atomic_open(&f, path, err);
    if (rc < 0)
        return rc;
    FILE *out = atomic_stream(f);
    fprintf(out, "video");
    for (int k = 0; k < SCORES; k++)
        fprintf(out, ",%s", score_names[k]);
    fputs(words ? ",white,contrast,rows,columns,orange,upper_arms,lower_arms,prompt\n" : "\nchance", out);
    for (int k = 0; !words && k < SCORES; k++)
        csv_put_number(out, chance[k]);
    if (!words)
        putc('\n', out);
    for (int64_t i = 0; i < v->n; i++) {
        const Reading *r = &read[i].r;
        put_path(out, path, v->item[i].path);
        for (int k = 0; !words && k < SCORES; k++)
            csv_put_number(out, read[i].err.code ? NAN : read[i].score[k]);
        if (words) {
            fprintf(out, ",%d,%s,%s,%s,%s,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,", r->figure, colour_words[r->colour],
                    pattern_words[r->pattern], garment_words[r->garment], sleeve_words[r->sleeve], (double)r->white,
                    (double)r->contrast, (double)r->rows, (double)r->columns, (double)r->orange, (double)r->upper_arms,
                    (double)r->lower_arms);
            csv_put_text(out, v->item[i].prompt);
        }
        putc('\n', out);
    }
    return atomic_commit(&f, err);
}

static void print_scores(const VideoList *v, const Read *read)
{
    for (int k = 0; k < SCORES; k++) {
        double n = 0, right = 0, z = 1.959964;
        for (int64_t i = 0; i < v->n; i++)
            if (!read[i].err.code && !isnan(read[i].score[k]))
                n++, right += read[i].score[k];
        if (n == 0)
            continue;
        double p = right / n, middle = (p + z * z / (2 * n)) / (1 + z * z / n),
               half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n);
        printf("  %-8s %5.1f %%  [%5.1f, %5.1f]  %3.0f of %3.0f", score_names[k], 100 * p, 100 * (middle - half),
               100 * (middle + half), right, n);
        if (!isnan(chance[k]))
            printf("   chance %4.1f %%", 100 * chance[k]);
        putchar('\n');
    }
}

static int read_all(const Options *o, const StrList *arguments, Err *err)
{
    VideoList v = {0};
    Read *read = NULL;
    StderrLog log;
    log_to_stderr(&log, "read_garments", LOG_WARN, 0);
    int rc = videos_read(&v, arguments, "videos", err);
    if (rc == 0 && o->prompts)
        rc = videos_take_prompts(&v, o->prompts, &log.log, err);
    if (rc == 0 && !(read = mem_calloc(v.n, sizeof *read, err)))
        rc = ERR_NOMEM;
    if (rc == 0) {
#pragma omp parallel for schedule(dynamic)
        for (int64_t i = 0; i < v.n; i++)
            read_one(&v.item[i], &read[i]);
        for (int64_t i = 0; i < v.n; i++)
            if (read[i].err.code)
                fprintf(stderr, "read_garments: warning: %s\n", read[i].err.msg);
    }
    if (rc == 0 && o->out)
        rc = write_table(o->out, &v, read, 0, err);
    if (rc == 0 && o->readings)
        rc = write_table(o->readings, &v, read, 1, err);
    if (rc == 0)
        print_scores(&v, read);
    mem_free(read);
    videos_fini(&v);
    return rc;
}

int main(int argc, char **argv)
{
    Err err = {0};
    Options o;
    StrList rest = {0};
    int rc = args_parse(opts, &o, sizeof o, argc - 1, argv + 1, &rest, &err);
    if (rc < 0 || rest.n < 1) {
        fprintf(stderr, "read_garments: %s\nusage: read_garments VIDEOS... [--out FILE] [--readings FILE]\n",
                rc < 0 ? err.msg : "videos are expected");
        return 2;
    }
    if ((rc = read_all(&o, &rest, &err)) < 0)
        fprintf(stderr, "read_garments: error: %s\n", err.msg);
    args_free_list(&rest);
    return rc < 0;
}
