/* report.html of a comparison. */
#include <math.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/html.h"
#include "common/base/mem.h"
#include "common/metrics/paired.h"
#include "infer/compare.h"
#include "infer/page.h"

enum {
    PROMPTS_LEAST = 6 /* fewer cannot give p below 0.05 */,
    CATEGORIES_MAX = 24,
    SHOWN_MAX = 500 /* pairs on the page; pairs.csv has all */
};

/* The two videos of a pair start, stop and jump together, and the right one follows the left one. */
static const char script[] =
    "const pairs=[...document.querySelectorAll('.sides')].map(s=>[...s.querySelectorAll('video:not(.train)')])"
    ".filter(p=>p.length==2);\n"
    "const follow=(a,b,d)=>{if(!b.seeking&&Math.abs(a.currentTime-b.currentTime)>d)b.currentTime=a.currentTime};\n"
    "for(const p of pairs){for(const[a,b]of[p,[p[1],p[0]]]){"
    "a.addEventListener('play',()=>{follow(a,b,.04);b.play()});"
    "a.addEventListener('pause',()=>b.pause());"
    "a.addEventListener('seeked',()=>{if(a.paused)follow(a,b,.04)});"
    "a.addEventListener('ratechange',()=>{b.playbackRate=a.playbackRate})}"
    "p[0].addEventListener('timeupdate',()=>{if(!p[0].paused)follow(p[0],p[1],.1)})}\n"
    "const train=document.querySelectorAll('.train');\n"
    "document.getElementById('play').addEventListener('click',()=>{for(const p of pairs){"
    "p[0].currentTime=p[1].currentTime=0;p[0].play()}for(const t of train)t.play()});\n"
    "document.getElementById('stop').addEventListener('click',()=>{for(const p of pairs)p[0].pause();"
    "for(const t of train)t.pause()});\n"
    "document.getElementById('rate').addEventListener('change',e=>{for(const p of pairs)for(const v of p)"
    "v.playbackRate=e.target.value});\n";

static double member(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static int64_t whole(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

/* ---- the table -------------------------------------------------------------------------------- */
static void percent(FILE *out, double x)
{
    fputs("<td class=\"n\">", out);
    if (isfinite(x))
        fprintf(out, "%+.1f %%", x);
    fputs("</td>", out);
}

/* What the interval says, where one direction is better. */
static void verdict(FILE *out, const json_t *m)
{
    const char *better = json_string_value(json_object_get(m, "better"));
    double low = member(m, "low"), high = member(m, "high");
    int clear = (low > 0) - (high < 0), want = strcmp(better, "higher") == 0  ? 1
                                               : strcmp(better, "lower") == 0 ? -1
                                                                              : 0;
    if (!isfinite(low) || whole(m, "prompts") < PROMPTS_LEAST)
        fputs("<td class=\"dim v\">too few</td>", out);
    else if (!clear)
        fputs("<td class=\"dim v\">no clear difference</td>", out);
    else if (!want)
        fputs(clear > 0 ? "<td>higher</td>" : "<td>lower</td>", out);
    else
        fputs(clear == want ? "<td class=\"good\">better</td>" : "<td class=\"flag\">worse</td>", out);
}

static void table(FILE *out, const json_t *report)
{
    const char *name;
    json_t *m;
    fputs("<h2>Figures</h2>\n<div class=\"wide\"><table><tr><th>figure</th><th class=\"n\">base</th><th "
          "class=\"n\">tuned</th><th class=\"n\">difference</th><th class=\"n\">95 % interval</th><th "
          "class=\"n\">improvement</th><th class=\"n\">p</th><th class=\"n\">prompts</th><th></th></tr>\n",
          out);
    json_object_foreach (json_object_get(report, "metrics"), name, m) {
        fputs("<tr><td>", out);
        html_text(out, name);
        if (json_is_true(json_object_get(m, "saturates")))
            fputs("<sup>*</sup>", out);
        fputs("</td>", out);
        page_cell(out, member(m, "before"));
        page_cell(out, member(m, "after"));
        fputs("<td class=\"n\">", out);
        if (isfinite(member(m, "difference")))
            fprintf(out, "%+.4g", member(m, "difference"));
        fputs("</td><td class=\"n\">", out);
        if (isfinite(member(m, "low")))
            fprintf(out, "%+.4g to %+.4g", member(m, "low"), member(m, "high"));
        fputs("</td>", out);
        percent(out, member(m, "improvement_percent"));
        fputs("<td class=\"n\">", out);
        if (isfinite(member(m, "p")))
            fprintf(out, "%.3g", member(m, "p"));
        fprintf(out, "</td><td class=\"n\">%" PRId64 "</td>", whole(m, "prompts"));
        verdict(out, m);
        fputs("</tr>\n", out);
    }
    fputs(
        "</table></div>\n<p class=\"dim\"><sup>*</sup> A video that stands still has the best value: read it beside "
        "the motion amount. Improvement is given where one direction is better. Of twenty figures that do not differ, "
        "one has p below 0.05 by chance.</p>\n",
        out);
}

/* ---- scores ----------------------------------------------------------------------------------- */
static void with_interval(FILE *out, const json_t *m, const char *value, const char *low, const char *high)
{
    fputs("<td class=\"n\">", out);
    page_number(out, member(m, value));
    if (isfinite(member(m, low)))
        fprintf(out, " <span class=\"dim\">%.6g to %.6g</span>", member(m, low), member(m, high));
    fputs("</td>", out);
}

/* What others' scores say of the two runs. */
static void scores(FILE *out, const json_t *report)
{
    const json_t *all = json_object_get(report, "scores");
    const char *name;
    json_t *m;
    if (!all)
        return;
    fputs("<h2>Scores</h2>\n<div class=\"wide\"><table><tr><th>score</th><th class=\"n\">chance</th><th "
          "class=\"n\">base</th><th class=\"n\">tuned</th><th class=\"n\">difference</th><th class=\"n\">p</th><th "
          "class=\"n\">prompts</th></tr>\n",
          out);
    json_object_foreach ((json_t *)(uintptr_t)all, name, m) {
        fputs("<tr><td>", out);
        html_text(out, name);
        fputs("</td>", out);
        page_cell(out, member(m, "chance"));
        with_interval(out, m, "before", "before_low", "before_high");
        with_interval(out, m, "after", "after_low", "after_high");
        with_interval(out, m, "difference", "low", "high");
        page_cell(out, member(m, "p"));
        fprintf(out, "<td class=\"n\">%" PRId64 "</td></tr>\n", whole(m, "prompts"));
    }
    fputs("</table></div>\n<p class=\"dim\">Means of scores that were given to the command (<code>--scores</code>), "
          "higher is better, with 95 % intervals.</p>\n",
          out);
}

/* ---- sets ------------------------------------------------------------------------------------- */
/* Figures of each run as a whole, and what its weights' absence leaves out. */
static void sets(FILE *out, const json_t *networks)
{
    const json_t *base = json_object_get(networks, "base"), *tuned = json_object_get(networks, "tuned"), *v;
    const char *name;
    size_t i;
    if (!networks)
        return;
    fputs("<h2>Each run as a whole</h2>\n<div class=\"wide\"><table><tr><th>figure</th><th class=\"n\">base</th><th "
          "class=\"n\">tuned</th><th></th></tr>\n",
          out);
    json_object_foreach ((json_t *)(uintptr_t)json_object_get(base, "sets"), name, v) {
        const char *note = json_string_value(json_object_get(v, "note"));
        fputs("<tr><td>", out);
        html_text(out, name);
        fputs("</td>", out);
        with_interval(out, v, "value", "low", "high");
        with_interval(out, json_object_get(json_object_get(tuned, "sets"), name), "value", "low", "high");
        fputs("<td class=\"dim note\">", out);
        html_text(out, note ? note : "");
        fputs("</td></tr>\n", out);
    }
    json_object_foreach ((json_t *)(uintptr_t)json_object_get(base, "attributes"), name, v) {
        if (!isfinite(member(v, "accuracy")))
            continue;
        fputs("<tr><td>accuracy: ", out);
        html_text(out, name);
        fputs("</td>", out);
        with_interval(out, v, "accuracy", "low", "high");
        with_interval(out, json_object_get(json_object_get(tuned, "attributes"), name), "accuracy", "low", "high");
        fputs("<td></td></tr>\n", out);
    }
    fputs("</table></div>\n<p class=\"dim\">With 95 % intervals over videos.</p>\n", out);
    json_array_foreach (json_object_get(base, "left_out"), i, v) {
        fputs("<p class=\"warn\">Left out: ", out);
        html_text(out, json_string_value(json_object_get(v, "metrics")));
        fputs(".</p>\n", out);
    }
}

/* ---- bars ------------------------------------------------------------------------------------- */
static PageBar bar_of(const char *label, const Change *x)
{
    return (PageBar){label,
                     {x->side[0].mean, x->side[1].mean},
                     {x->side[0].low, x->side[1].low},
                     {x->side[0].high, x->side[1].high}};
}

static int bars(FILE *out, const Comparison *c, const json_t *report, uint64_t seed, Err *err)
{
    static const char *const shown[] = {"motion", "smoothness", "ssim", "sharpness", NULL};
    PageBar bar[CATEGORIES_MAX + 1];
    fputs("<h2>By category</h2>\n<div class=\"charts\">\n", out);
    for (int k = 0; figure_kinds[k].name; k++) {
        const char *category;
        json_t *unused;
        int64_t n = 0;
        Change x;
        int rc = 0, wanted = 0;
        for (int i = 0; shown[i]; i++)
            wanted |= strcmp(shown[i], figure_kinds[k].name) == 0;
        if (!wanted)
            continue;
        rc = change_of(&x, c, k, NULL, seed, err);
        bar[n++] = bar_of("all", &x);
        json_object_foreach (json_object_get(report, "categories"), category, unused) {
            if (rc < 0 || n > CATEGORIES_MAX)
                break;
            rc = change_of(&x, c, k, category, seed, err);
            bar[n++] = bar_of(category, &x);
        }
        if (rc < 0)
            return rc;
        page_bars(out, figure_kinds[k].name, side_names, bar, n);
    }
    fputs("</div>\n", out);
    return 0;
}

/* ---- pairs ------------------------------------------------------------------------------------ */
/* The training clip closest to a sample, where --train-clips has it. */
static int closest_video(FILE *out, const Comparison *c, const char *folder, int side, int64_t at, Err *err)
{
    const Closest *k = c->clips ? copies_closest(c->copies, side, at) : NULL;
    char *path = k ? mem_printf(err, "%s/%s.mp4", c->clips, copies_clip_id(c->copies, k->clip)) : NULL;
    int rc = k && !path ? ERR_NOMEM : 0;
    if (path && file_exists(path)) {
        fputs("<video class=\"train\" muted loop playsinline controls preload=\"metadata\" src=\"", out);
        rc = page_link(out, folder, path, err);
        fputs("\"></video>", out);
    }
    mem_free(path);
    return rc;
}

static int one_side(FILE *out, const Comparison *c, const char *folder, int64_t i, int side, Err *err)
{
    int64_t at = c->pair[i].at[side];
    const Measured *m = &c->side[side].measured[at];
    int rc = 0;
    fprintf(out, "<figure><figcaption>%s</figcaption>", side_names[side]);
    if (m->done == 1) {
        fputs("<video muted loop playsinline controls preload=\"metadata\" src=\"", out);
        rc = page_link(out, folder, c->side[side].videos.item[at].path, err);
        fprintf(out, "\" width=\"%" PRId64 "\" height=\"%" PRId64 "\"></video><span class=\"dim\">motion ", m->f.width,
                m->f.height);
        page_number(out, m->f.motion);
        fputs(" · SSIM ", out);
        page_number(out, m->f.ssim);
        for (int64_t k = 0; k < c->scores->n; k++)
            if (isfinite(c->scores->item[k].value[side][at])) {
                fprintf(out, " · %s ", c->scores->item[k].name);
                page_number(out, c->scores->item[k].value[side][at]);
            }
        fputs(evaluation_near_static(&c->side[side], at) ? " <span class=\"flag\">near-static</span></span>"
                                                         : "</span>",
              out);
    } else {
        fputs("<p class=\"flag\">", out);
        html_text(out, m->why);
        fputs("</p>", out);
    }
    if (rc == 0 && c->copies)
        rc = copies_closest_html(c->copies, side, at, 0, out, err);
    if (rc == 0 && c->copies)
        rc = closest_video(out, c, folder, side, at, err);
    fputs("</figure>", out);
    return rc;
}

static int pairs(FILE *out, const Comparison *c, const char *folder, Err *err)
{
    int rc = 0;
    fputs(
        "<h2>Side by side</h2>\n<p class=\"bar\"><button id=\"play\">Play all</button><button id=\"stop\">Stop</button>"
        "<select id=\"rate\" aria-label=\"speed\"><option value=\"1\">full speed</option><option "
        "value=\"0.5\">half</option><option value=\"0.25\">quarter</option></select></p>\n<div class=\"pairs\">\n",
        out);
    for (int64_t i = 0; i < c->n && i < SHOWN_MAX && rc == 0; i++) {
        const VideoItem *v = &c->side[0].videos.item[c->pair[i].at[0]];
        fputs("<div class=\"pair\"><p>", out);
        html_bdi(out, pair_title(c, i));
        fputs("<br><span class=\"dim\">", out);
        if (pair_category(c, i)) {
            html_bdi(out, pair_category(c, i));
            fputs(v->seed >= 0 ? " · " : "", out);
        }
        if (v->seed >= 0)
            fprintf(out, "seed %" PRId64, v->seed);
        fputs("</span></p><div class=\"sides\">", out);
        for (int side = 0; side < 2 && rc == 0; side++)
            rc = one_side(out, c, folder, i, side, err);
        fputs("</div></div>\n", out);
    }
    fputs("</div>\n", out);
    if (c->n > SHOWN_MAX)
        fprintf(out, "<p class=\"dim\">The first %d of %" PRId64 " pairs; pairs.csv has all.</p>\n", SHOWN_MAX, c->n);
    return rc;
}

/* ---- notes ------------------------------------------------------------------------------------ */
static void votes_needed(FILE *out, const Comparison *c)
{
    static const double rate[] = {0.82, 0.65, 0.60, 0.55};
    fputs("<details><summary>How many votes a difference needs</summary><p>Figures do not say which video people "
          "prefer; votes do (<code>--blind</code>). To find a true preference with 80 % probability at the 5 % level, "
          "ties left out:</p><table><tr><th class=\"n\">preferred by</th><th class=\"n\">votes on pairs</th></tr>",
          out);
    for (size_t i = 0; i < sizeof rate / sizeof *rate; i++)
        fprintf(out, "<tr><td class=\"n\">%.0f %%</td><td class=\"n\">%" PRId64 "</td></tr>", 100 * rate[i],
                paired_votes_needed(rate[i]));
    fprintf(out, "</table><p>This comparison has %" PRId64 " pairs.</p></details>\n", c->n);
}

/* To the tuned model's curves. */
static int run_link(FILE *out, const Comparison *c, const char *folder, Err *err)
{
    char *target = c->run ? path_join(c->run, "report.html", err) : NULL;
    if (!target)
        return c->run ? ERR_NOMEM : 0;
    fputs("<p><a href=\"", out);
    int rc = page_link(out, folder, target, err);
    fputs("\">How the tuned model was trained: loss and held-out loss</a></p>\n", out);
    mem_free(target);
    return rc;
}

static void summary(FILE *out, const Comparison *c, const json_t *report)
{
    const json_t *v;
    size_t i;
    fputs("<h1>Before and after</h1>\n<p class=\"dim\">", out);
    html_bdi(out, c->name[0]);
    fputs(" against ", out);
    html_bdi(out, c->name[1]);
    fputs("</p>\n<p class=\"sum\">", out);
    page_fact(out, c->n, "pair", "pairs");
    page_fact(out, c->prompts, "prompt", "prompts");
    page_fact(out, c->alone[0] + c->alone[1], "video without a partner", "videos without a partner");
    fputs("</p>\n", out);
    json_array_foreach (json_object_get(report, "warnings"), i, v) {
        fputs("<p class=\"warn\">", out);
        html_text(out, json_string_value(v));
        fputs(".</p>\n", out);
    }
}

int comparison_write_page(const Comparison *c, const char *folder, const json_t *report, Err *err)
{
    AtomicFile *f = NULL;
    char *path = path_join(folder, "report.html", err);
    int rc = path ? atomic_open(&f, path, err) : ERR_NOMEM;
    if (rc == 0) {
        FILE *out = atomic_stream(f);
        rc = page_begin(out, "Before and after", script, err);
        summary(out, c, report);
        if (rc == 0)
            rc = run_link(out, c, folder, err);
        scores(out, report);
        table(out, report);
        sets(out, json_object_get(report, "networks"));
        if (c->copies)
            copies_summary_html(c->copies, side_names, out);
        if (rc == 0)
            rc = bars(out, c, report, (uint64_t)whole(report, "seed"), err);
        if (rc == 0)
            rc = pairs(out, c, folder, err);
        votes_needed(out, c);
        const json_t *networks = json_object_get(json_object_get(report, "networks"), "base");
        page_protocol(out, json_object_get(report, "protocol"), json_object_get(networks, "protocol"),
                      whole(report, "seed"));
        page_end(out, script);
    }
    if (rc == 0)
        rc = atomic_commit(&f, err);
    atomic_abort(&f);
    mem_free(path);
    return rc;
}
