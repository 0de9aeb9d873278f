/* The page of a run. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/html.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "train/curve.h"
#include "train/job.h"
#include "train/run_report.h"
#include "train/report_chart.h"

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n" HTML_POLICY
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" "
    "content=\"light "
    "dark\"><title>Training run</title>\n<style>\n"
    ":root{--ink:#1d2327;--paper:#fff;--dim:#59636e;--line:#dfe3e8;--c0:#2f6fb2;--c1:#c8601a;--c2:#3a8a4d;--c3:#8d97a3;"
    "--c4:#8455b0}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--paper:#15191d;--dim:#9aa5b1;--line:#2f363d;--c0:#6aa9ec;"
    "--c1:#f0914e;--c2:#6cc080;--c3:#77828e;--c4:#b48ae0}}\n"
    "body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1240px;margin:24px "
    "auto;padding:0 16px}\n"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:32px 0 10px;border-bottom:1px solid "
    "var(--line);padding-bottom:4px}\n"
    "p{margin:6px 0;max-width:78ch}.dim,figcaption,th{color:var(--dim)}.path{overflow-wrap:anywhere}\n"
    ".sum{display:flex;flex-wrap:wrap;gap:8px 28px;max-width:none}.sum b{display:block;font-size:20px}\n"
    ".row{display:flex;flex-wrap:wrap;align-items:flex-start;gap:16px 40px}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:16px 28px}\n"
    ".samples{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:12px 18px}"
    ".samples img{max-width:100%;height:auto;border-radius:4px}h3{font-size:15px;margin:14px 0 6px}\n"
    "figure{margin:0;max-width:620px}.row figure{flex:1 1 "
    "340px}figcaption{font-weight:600}svg{display:block;width:100%;height:auto}\n"
    "svg text{font:11px system-ui,sans-serif;fill:var(--dim)}.grid{stroke:var(--line)}\n"
    "polyline{fill:none;stroke-width:1.8;stroke-linejoin:round}.faint{opacity:.4}polyline.faint{stroke-width:1}\n"
    ".c0{stroke:var(--c0);background:var(--c0)}.c1{stroke:var(--c1);background:var(--c1)}"
    ".c2{stroke:var(--c2);background:var(--c2)}.c3{stroke:var(--c3);background:var(--c3)}"
    ".c4{stroke:var(--c4);background:var(--c4)}\n"
    "rect,circle{stroke:none}rect.c0,circle.c0{fill:var(--c0)}rect.c1,circle.c1{fill:var(--c1)}"
    "rect.c2,circle.c2{fill:var(--c2)}rect.c3,circle.c3{fill:var(--c3)}rect.c4,circle.c4{fill:var(--c4)}\n"
    ".legend{font-size:13px;display:flex;flex-wrap:wrap;gap:2px 16px}.legend "
    "i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}\n"
    "table{border-collapse:collapse;margin:4px 0;font-size:14px}th,td{padding:2px 14px 2px "
    "0;text-align:left;vertical-align:top;overflow-wrap:anywhere}\n"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.good{color:var(--c2)}.bad{color:var(--c1)}\n"
    "details{margin:14px 0}summary{cursor:pointer;font-weight:600}\n"
    "@media print{body{max-width:none;margin:0}figure,table{break-inside:avoid}h2{break-after:avoid}\n"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n"
    "</style></head><body>\n";

/* ---- numbers from lines ---------------------------------------------------------------------- */

/* Of each line that has the number: its step and the number. */
typedef struct Column {
    double *x, *y;
    int64_t n;
} Column;

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static const char *member(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* The member `key` of the lines, or of their member `inside`. */
static int column(Column *c, const json_t *lines, const char *inside, const char *key, Err *err)
{
    int64_t n = (int64_t)json_array_size(lines);
    const json_t *line;
    size_t i;

    *c = (Column){mem_calloc(n, sizeof(double), err), mem_calloc(n, sizeof(double), err), 0};
    if (!c->x || !c->y)
        return ERR_NOMEM;
    json_array_foreach (lines, i, line) {
        const json_t *v = json_object_get(inside ? json_object_get(line, inside) : line, key);
        if (json_is_number(v)) {
            c->x[c->n] = number(line, "step");
            c->y[c->n++] = json_number_value(v);
        }
    }
    return 0;
}

static void column_free(Column *c)
{
    mem_free(c->x);
    mem_free(c->y);
}

static const json_t *last_of(const json_t *lines)
{
    return json_array_get(lines, json_array_size(lines) - 1); /* NULL when there is none */
}

/* The mean of a member of the lines' "time". */
static double mean_time(const json_t *lines, const char *key)
{
    const json_t *line;
    double sum = 0;
    size_t i;

    json_array_foreach (lines, i, line)
        sum += number(json_object_get(line, "time"), key);
    return i ? sum / (double)i : 0;
}

static double step_seconds(const json_t *line)
{
    double rate = number(json_object_get(line, "time"), "samples_per_second");

    return rate > 0 ? number(line, "samples") / rate : 0;
}

/* ---- sections -------------------------------------------------------------------------------- */

static void fact(FILE *out, const char *value, const char *what)
{
    fputs("<span><b>", out);
    html_text(out, value);
    fputs("</b> ", out);
    html_text(out, what);
    fputs("</span>", out);
}

static void summary(FILE *out, const RunFacts *f)
{
    const json_t *last = last_of(f->steps), *held_out = last_of(f->held_out),
                 *stopped = json_object_get(f->run, "stopped");
    char text[96];

    fputs("<h1>Training run</h1><p class=\"dim path\">", out);
    html_bdi(out, member(f->run, "pretrained_weights"));
    fputs(" on ", out);
    html_bdi(out, member(f->run, "device"));
    if (stopped) {
        fprintf(out, "</p>\n<p class=\"path\"><b class=\"bad\">Failed at step %.0f:</b> ", number(stopped, "step"));
        html_bdi(out, member(stopped, "reason"));
    }
    fputs("</p>\n<p class=\"sum\">", out);
    snprintf(text, sizeof text, "%.0f of %.0f", number(last, "step"), number(f->run, "steps"));
    fact(out, text, "steps");
    fact(out, job_si(number(f->run, "samples"), "", text), "clips");
    fact(out, job_si(number(f->run, "parameters"), "", text), "parameters trained");
    if (last) {
        fact(out, curve_loss(number(last, "loss_smoothed"), text), "loss, smoothed");
        snprintf(text, sizeof text, "%.3g", mean_time(f->steps, "samples_per_second"));
        fact(out, text, "samples a second");
    }
    if (held_out)
        fact(out, curve_loss(number(held_out, "loss"), text), "held-out loss");
    fputs("</p>\n", out);
}

static int curves(FILE *out, const RunFacts *f, Err *err)
{
    enum { LOSS, SMOOTHED, HELD_OUT, EMA, LR, NORM, COLUMNS };
    static const char *const key[] = {"loss", "loss_smoothed", "loss", "loss", "lr", "grad_norm"};
    Column c[COLUMNS] = {0};
    int rc = 0;

    for (int k = 0; rc == 0 && k < COLUMNS; k++)
        rc = column(&c[k], k == HELD_OUT || k == EMA ? f->held_out : f->steps, k == EMA ? "ema" : NULL, key[k], err);
    if (rc == 0) {
        Series training[] = {{"a step", c[LOSS].x, c[LOSS].y, c[LOSS].n, 0, 1, 0},
                             {"smoothed", c[SMOOTHED].x, c[SMOOTHED].y, c[SMOOTHED].n, 0, 0, 0}};
        Series held_out[] = {{"held-out", c[HELD_OUT].x, c[HELD_OUT].y, c[HELD_OUT].n, 1, 0, 1},
                             {"averaged weights (EMA)", c[EMA].x, c[EMA].y, c[EMA].n, 2, 0, 1}};
        Series lr[] = {{"", c[LR].x, c[LR].y, c[LR].n, 2, 0, 0}},
               norm[] = {{"", c[NORM].x, c[NORM].y, c[NORM].n, 4, 0, 0}};
        fputs("<h2>Curves</h2>\n<div class=\"charts\">\n", out);
        chart_lines(out, "Training loss", training, 2, 0);
        chart_lines(out, "Held-out loss", held_out, c[EMA].n > 0 ? 2 : 1, 0);
        chart_lines(out, "Learning rate", lr, 1, 1);
        chart_lines(out, "Gradient norm before clipping", norm, 1, 1);
        fputs("</div>\n", out);
    }
    for (int k = 0; k < COLUMNS; k++)
        column_free(&c[k]);
    return rc;
}

/* What the latest measurement of the weights, or of their average, says, in a sentence. */
static void verdict(FILE *out, const char *of, double step, const json_t *line)
{
    const json_t *change = json_object_get(line, "change");
    double mean = number(change, "mean"), low = number(change, "low"), high = number(change, "high");

    fprintf(out, "<p>After step %.0f the held-out loss%s is <b>%.4f</b>", step, of, number(line, "loss"));
    if (!change) {
        fputs(".</p>\n", out);
        return;
    }
    fprintf(out, ", %+.4f against the start of the run", mean);
    if (!json_object_get(change, "low"))
        fputs(". One clip says little: an interval needs two or more.</p>\n", out);
    else if (high < 0)
        fprintf(out, " (95 %% %+.4f to %+.4f): <b class=\"good\">lower than it was</b>.</p>\n", low, high);
    else if (low > 0)
        fprintf(out,
                " (95 %% %+.4f to %+.4f): <b class=\"bad\">higher than it was</b>. The weights fit the training clips "
                "at the cost of others.</p>\n",
                low, high);
    else
        fprintf(out, " (95 %% %+.4f to %+.4f): <b>no clear difference</b>.</p>\n", low, high);
}

enum { DECILES = 10 };

static void deciles(const json_t *line, double out[DECILES])
{
    for (size_t k = 0; k < DECILES; k++) {
        const json_t *v = json_array_get(json_object_get(line, "deciles"), k);
        out[k] = json_is_number(v) ? json_number_value(v) : NAN;
    }
}

static void cell(FILE *out, const char *format, double x)
{
    fputs("<td class=\"n\">", out);
    if (isfinite(x))
        fprintf(out, format, x);
    fputs("</td>", out);
}

static void decile_table(FILE *out, const double *before, const double *after, int64_t step)
{
    fprintf(out,
            "<table><tr><th>noise</th><th class=\"n\">step 0</th><th class=\"n\">step %" PRId64
            "</th><th class=\"n\">change</th></tr>",
            step);
    for (int k = 0; k < DECILES; k++) {
        fprintf(out, "<tr><td>%d–%d %%</td>", 10 * k, 10 * k + 10);
        cell(out, "%.4f", before[k]);
        cell(out, "%.4f", after[k]);
        cell(out, "%+.4f", after[k] - before[k]);
        fputs("</tr>", out);
    }
    fputs("</table>\n", out);
}

static void held_out_section(FILE *out, const json_t *lines)
{
    const json_t *first = json_array_get(lines, 0), *last = last_of(lines);
    static const char *const label[] = {"step 0", "latest"};
    double before[DECILES], after[DECILES];

    if (!last)
        return;
    fputs("<h2>Held-out loss</h2>\n", out);
    verdict(out, "", number(last, "step"), last);
    if (json_object_get(last, "ema"))
        verdict(out, " of the averaged weights", number(last, "step"), json_object_get(last, "ema"));
    fprintf(
        out,
        "<p class=\"dim\">Measured on %zu clip%s that training never sees, each at %zu timesteps, with the same noise "
        "every time. The interval is a percentile bootstrap over clips of the paired differences.</p>\n",
        json_array_size(json_object_get(last, "clips")),
        json_array_size(json_object_get(last, "clips")) == 1 ? "" : "s",
        json_array_size(json_array_get(json_object_get(last, "timesteps"), 0)));
    if (number(first, "step") != 0 || first == last)
        return;
    deciles(first, before);
    deciles(last, after);
    fputs("<div class=\"row\">\n", out);
    chart_pairs(out, "By tenth of the noise schedule", label, before, after, DECILES, "little noise", "noise alone");
    decile_table(out, before, after, (int64_t)json_integer_value(json_object_get(last, "step")));
    fputs("</div>\n", out);
}

static void time_section(FILE *out, const json_t *steps)
{
    Part part[] = {{"waiting for data", mean_time(steps, "data")},
                   {"forward", mean_time(steps, "forward")},
                   {"backward", mean_time(steps, "backward")},
                   {"optimiser", mean_time(steps, "optimizer")},
                   {"other", 0}};
    double all = 0, mfu = mean_time(steps, "mfu");
    const json_t *line;
    char text[32];
    size_t i;

    json_array_foreach (steps, i, line)
        all += step_seconds(line);
    if (i == 0)
        return;
    all /= (double)i;
    part[4].value = fmax(0, all - part[0].value - part[1].value - part[2].value - part[3].value);
    fputs("<h2>Where the time goes</h2>\n", out);
    fprintf(out, "<p>A step takes %.3g s on average: %.3g samples and %s a second", all,
            mean_time(steps, "samples_per_second"), job_si(mean_time(steps, "flops"), "FLOP", text));
    if (mfu > 0)
        fprintf(out, ", %.1f %% of the card's peak", 100 * mfu);
    fputs(".</p>\n", out);
    chart_parts(out, "Seconds of an average step", part, 5);
}

static const char *amount(double value, int is_time, char out[32])
{
    return is_time ? time_duration(value, out) : job_si(value, "B", out);
}

/* "predicted | measured | difference" */
static void prediction_row(FILE *out, const char *what, const json_t *pair, int is_time)
{
    double predicted = number(pair, "predicted"), measured = number(pair, "measured");
    char a[32], b[32];

    fprintf(out, "<tr><td>%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td>", what,
            predicted > 0 ? amount(predicted, is_time, a) : "", amount(measured, is_time, b));
    if (predicted > 0)
        fprintf(out, "<td class=\"n\">%+.1f %%</td>", 100 * (measured / predicted - 1));
    fputs("</tr>", out);
}

static void prediction_section(FILE *out, const json_t *p)
{
    if (!p)
        return;
    fputs("<h2>Prediction and reality</h2>\n<table><tr><th></th><th class=\"n\">predicted</th><th "
          "class=\"n\">measured</th><th class=\"n\">difference</th></tr>",
          out);
    prediction_row(out, "memory", json_object_get(p, "memory_bytes"), 0);
    prediction_row(out, "a step", json_object_get(p, "step_seconds"), 1);
    prediction_row(out, "the run", json_object_get(p, "run_seconds"), 1);
    fputs("</table><p class=\"dim\">Of the last process that worked on the run; the run's predicted time is without "
          "checkpoints.</p>\n",
          out);
}

enum { SHOWN = 12 }; /* samples of a prompt, the first and the last among them */

/* Which of `all` samples is shown as number j. */
static int64_t shown_at(int64_t j, int64_t all)
{
    int64_t shown = all < SHOWN ? all : SHOWN;

    return shown > 1 ? j * (all - 1) / (shown - 1) : 0;
}

static int sample_figure(FILE *out, const char *run, const json_t *line, Err *err)
{
    const char *picture = member(line, "picture");
    char alt[64], *path = NULL;
    int rc = 0;

    snprintf(alt, sizeof alt, "step %.0f", number(line, "step"));
    fprintf(out, "<figure><figcaption>%s</figcaption>", alt);
    if (picture)
        rc = (path = path_join(run, picture, err)) ? html_png(out, path, alt, err) : ERR_NOMEM;
    if (rc == 0)
        fputs("<p class=\"dim\">no picture</p>", out);
    if (member(line, "video")) {
        fputs("<a href=\"", out);
        html_text(out, member(line, "video"));
        fputs("\">video</a>", out);
    }
    fputs("</figure>", out);
    mem_free(path);
    return rc < 0 ? rc : 0;
}

/* Those of one prompt, in the order of the steps; *all of them. */
static int prompt_samples(FILE *out, const char *run, const json_t *lines, int64_t prompt, int64_t *all, Err *err)
{
    const json_t *line;
    int64_t at = 0, shown = 0;
    size_t i;
    int rc = 0;

    *all = 0;
    json_array_foreach (lines, i, line)
        *all += (int64_t)number(line, "number") == prompt;
    json_array_foreach (lines, i, line) {
        if (rc < 0 || (int64_t)number(line, "number") != prompt)
            continue;
        if (at == 0) {
            fputs("<h3>", out);
            html_bdi(out, member(line, "prompt"));
            fputs("</h3><div class=\"samples\">", out);
        }
        if (at == shown_at(shown, *all)) {
            rc = sample_figure(out, run, line, err);
            shown++;
        }
        if (++at == *all)
            fputs("</div>\n", out);
    }
    return rc;
}

static int samples_section(FILE *out, const char *run, const json_t *lines, Err *err)
{
    int64_t n = 1;
    int rc = 0;

    if (json_array_size(lines) == 0)
        return 0;
    fputs("<h2>Samples</h2>\n<p class=\"dim\">The same noise every time: what changes is the weights. Without "
          "validation.decode latents are shown in rough colours, without the VAE.</p>\n",
          out);
    for (int64_t prompt = 0; rc == 0 && n > 0; prompt++)
        rc = prompt_samples(out, run, lines, prompt, &n, err);
    return rc;
}

static void build_section(FILE *out, const json_t *build)
{
    const char *key;
    json_t *v;

    fputs("<details><summary>Build</summary><table>", out);
    json_object_foreach ((json_t *)(uintptr_t)build, key, v) {
        fputs("<tr><td>", out);
        html_text(out, key);
        fputs("</td><td>", out);
        html_bdi(out, json_string_value(v));
        fputs("</td></tr>", out);
    }
    fputs("</table></details>\n", out);
}

int run_report_html(const char *run, const RunFacts *f, FILE *out, Err *err)
{
    static const char *const sections[] = {"training", "validation", "sampling", "cache", NULL};
    int rc;

    fputs(head, out);
    summary(out, f);
    rc = curves(out, f, err);
    held_out_section(out, f->held_out);
    if (rc == 0)
        rc = samples_section(out, run, f->samples, err);
    time_section(out, f->steps);
    prediction_section(out, f->prediction);
    if (rc == 0)
        rc = html_recipe(out, json_object_get(f->run, "recipe"), sections, err);
    build_section(out, json_object_get(f->run, "build"));
    fputs("</body></html>\n", out);
    return rc;
}
