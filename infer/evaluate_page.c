/* evaluate.html. */
#include <math.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/html.h"
#include "common/base/mem.h"
#include "infer/evaluate.h"
#include "infer/page.h"

enum {
    ROWS_MAX = 2000, /* videos in the table; metrics.csv has all */
    CLOSEST_MAX = 24 /* samples shown with their closest clip; closest_clips.csv has all */
};

static void interval(FILE *out, const Summary *s)
{
    page_cell(out, s->mean);
    fputs("<td class=\"n\">", out);
    if (isfinite(s->low))
        fprintf(out, "%.6g to %.6g", s->low, s->high);
    fputs("</td>", out);
}

static void figure_row(FILE *out, const char *name, const char *unit, const char *what, int saturates, const Summary *s,
                       const Summary *reference, int references)
{
    fputs("<tr><td>", out);
    html_text(out, name);
    if (saturates)
        fputs("<sup>*</sup>", out);
    fputs("</td>", out);
    interval(out, s);
    if (references) {
        if (reference)
            interval(out, reference);
        else
            fputs("<td></td><td></td>", out);
    }
    fputs("<td>", out);
    html_text(out, unit);
    fprintf(out, "</td><td class=\"n\">%" PRId64 "%s</td><td class=\"dim what\">", s->n,
            s->n < FEW_VIDEOS ? " <span class=\"flag\">few</span>" : "");
    html_text(out, what);
    fputs("</td></tr>\n", out);
}

static void figures(FILE *out, const Measurements *m)
{
    const Evaluation *e = m->videos, *references = m->references;
    fputs("<h2>Figures</h2>\n<div class=\"wide\"><table><tr><th>figure</th><th class=\"n\">mean</th><th "
          "class=\"n\">95 % interval</th>",
          out);
    if (references)
        fputs("<th class=\"n\">references</th><th class=\"n\">95 % interval</th>", out);
    fputs("<th></th><th class=\"n\">videos</th><th></th></tr>\n", out);
    for (int k = 0; figure_kinds[k].name; k++)
        figure_row(out, figure_kinds[k].name, figure_kinds[k].unit, figure_kinds[k].what, figure_kinds[k].saturates,
                   &e->figure[k], references ? &references->figure[k] : NULL, references != NULL);
    if (references)
        figure_row(out, "colours", "", "distance of a video's colours to the references' mean, 0 to 1", 0, &e->colours,
                   NULL, 1);
    for (int k = 0; k < NET_FIGURES && networks_have_clip(m->networks); k++)
        figure_row(out, net_figure_kinds[k].name, "", net_figure_kinds[k].what, net_figure_kinds[k].saturates,
                   &e->network[k], references ? &references->network[k] : NULL, references != NULL);
    fputs("</table></div>\n<p class=\"dim\"><sup>*</sup> A video that stands still has the best value: read it beside "
          "the motion amount.</p>\n",
          out);
}

static void cell_of(FILE *out, const json_t *o, const char *key, double factor)
{
    const json_t *v = json_object_get(o, key);
    page_cell(out, json_is_number(v) ? factor * json_number_value(v) : NAN);
}

static void interval_of(FILE *out, const json_t *o, double factor)
{
    const json_t *low = json_object_get(o, "low"), *high = json_object_get(o, "high");
    fputs("<td class=\"n\">", out);
    if (low && high)
        fprintf(out, "%.6g to %.6g", factor * json_number_value(low), factor * json_number_value(high));
    fputs("</td>", out);
}

/* Figures of the whole set, and attributes. */
static void networks(FILE *out, const json_t *nets)
{
    const char *name;
    const json_t *v, *attributes = json_object_get(nets, "attributes");
    size_t i;
    if (json_object_size(json_object_get(nets, "sets"))) {
        fputs("<h2>The set as a whole</h2>\n<div class=\"wide\"><table><tr><th></th><th class=\"n\">value</th><th "
              "class=\"n\">95 % interval</th><th class=\"n\">for infinitely many videos</th><th "
              "class=\"n\">videos</th><th class=\"n\">references</th><th class=\"n\">halves of the references</th>"
              "<th></th></tr>\n",
              out);
        json_object_foreach ((json_t *)json_object_get(nets, "sets"), name, v) {
            fprintf(out, "<tr><td>%s</td>", name);
            cell_of(out, v, "value", 1);
            interval_of(out, v, 1);
            cell_of(out, v, "infinite", 1);
            cell_of(out, v, "n", 1);
            cell_of(out, v, "references", 1);
            cell_of(out, v, "floor", 1);
            fputs("<td>", out);
            for (int k = 0; k < 2; k++) {
                const json_t *note = json_object_get(v, k ? "infinite_note" : "note");
                html_text(out, note ? json_string_value(note) : "");
                fputs(note && !k ? ". " : "", out);
            }
            fputs("</td></tr>\n", out);
        }
        fputs("</table></div>\n", out);
    }
    if (attributes) {
        fputs("<h2>Attributes that CLIP finds</h2>\n<div class=\"wide\"><table><tr><th></th>"
              "<th class=\"n\">right, %</th><th class=\"n\">95 % interval</th><th class=\"n\">videos</th>"
              "<th class=\"n\">by chance, %</th><th class=\"n\">always the most frequent, %</th></tr>\n",
              out);
        json_object_foreach ((json_t *)attributes, name, v)
            if (json_object_get(v, "chance")) {
                fprintf(out, "<tr><td>%s</td>", name);
                cell_of(out, v, "accuracy", 100);
                interval_of(out, v, 100);
                cell_of(out, v, "n", 1);
                cell_of(out, v, "chance", 100);
                cell_of(out, v, "majority", 100);
                fputs("</tr>\n", out);
            }
        fputs("</table></div>\n", out);
    }
    json_array_foreach (json_object_get(nets, "left_out"), i, v) {
        fputs("<p class=\"warn\">Left out: ", out);
        html_text(out, json_string_value(json_object_get(v, "metrics")));
        fputs(". ", out);
        html_text(out, json_string_value(json_object_get(v, "why")));
        fputs("</p>\n", out);
    }
}

static int charts(FILE *out, const Evaluation *e, Err *err)
{
    PageDot *dot = mem_calloc(e->videos.n, sizeof *dot, err);
    if (!dot)
        return ERR_NOMEM;
    fputs("<h2>Each video a dot</h2>\n<div class=\"charts\">\n", out);
    for (int chart = 0; chart < 2; chart++) {
        for (int64_t i = 0; i < e->videos.n; i++) {
            const Measured *m = &e->measured[i];
            dot[i] = (PageDot){NAN, NAN, e->videos.item[i].id};
            if (m->done == 1)
                dot[i] = (PageDot){m->f.motion, chart ? m->f.smoothness : m->f.ssim, e->videos.item[i].id};
        }
        page_scatter(out, chart ? "Smoothness and motion" : "SSIM and motion", "motion, pixels a frame →",
                     chart ? "smoothness" : "SSIM", dot, e->videos.n);
    }
    fputs("</div>\n", out);
    mem_free(dot);
    return 0;
}

/* "name" or "name, prompt" */
static void video_name(FILE *out, const VideoItem *v)
{
    fputs("<td class=\"id\">", out);
    html_bdi(out, v->id);
    if (v->prompt) {
        fputs("<br><span class=\"dim\">", out);
        html_bdi(out, v->prompt);
        fputs("</span>", out);
    }
    fputs("</td>", out);
}

static void videos(FILE *out, const Measurements *all)
{
    const Evaluation *e = all->videos;
    int references = all->references != NULL, clip = networks_have_clip(all->networks);
    int64_t shown = 0;
    fputs("<h2>Videos</h2>\n<div class=\"wide\"><table><tr><th>video</th><th class=\"n\">frames</th><th "
          "class=\"n\">size</th><th class=\"n\">motion</th><th class=\"n\">SSIM</th><th class=\"n\">least SSIM</th><th "
          "class=\"n\">PSNR</th><th class=\"n\">flicker</th><th class=\"n\">smoothness</th><th "
          "class=\"n\">sharpness</th>",
          out);
    fputs(references ? "<th class=\"n\">colours</th>" : "", out);
    fputs(clip ? "<th class=\"n\">CLIP score</th>" : "", out);
    fputs("<th></th></tr>\n", out);
    for (int64_t i = 0; i < e->videos.n && shown < ROWS_MAX; i++) {
        const Measured *m = &e->measured[i];
        if (m->done != 1)
            continue;
        shown++;
        fputs("<tr>", out);
        video_name(out, &e->videos.item[i]);
        fprintf(out, "<td class=\"n\">%" PRId64 "</td><td class=\"n\">%" PRId64 "×%" PRId64 "</td>", m->f.frames,
                m->f.width, m->f.height);
        page_cell(out, m->f.motion);
        page_cell(out, m->f.ssim);
        fputs("<td class=\"n\">", out);
        page_number(out, m->f.ssim_min);
        if (m->f.ssim_min_at >= 0)
            fprintf(out, " <span class=\"dim\">%" PRId64 "→%" PRId64 "</span>", m->f.ssim_min_at, m->f.ssim_min_at + 1);
        fputs("</td>", out);
        page_cell(out, m->f.psnr);
        page_cell(out, m->f.flicker);
        page_cell(out, m->f.smoothness);
        page_cell(out, m->f.sharpness);
        if (references)
            page_cell(out, m->colours);
        if (clip)
            page_cell(out, net_figure(e->features, i, NET_CLIP));
        fputs(m->f.difference == 0           ? "<td class=\"flag\">frozen</td></tr>\n"
              : evaluation_near_static(e, i) ? "<td class=\"flag\">near-static</td></tr>\n"
              : m->f.frames == 1             ? "<td class=\"flag\">one frame</td></tr>\n"
                                             : "<td></td></tr>\n",
              out);
    }
    fputs("</table></div>\n", out);
    if (shown < e->n_measured)
        fprintf(out, "<p class=\"dim\">The first %" PRId64 " of %" PRId64 "; metrics.csv has all.</p>\n", shown,
                e->n_measured);
}

static void rejected(FILE *out, const char *title, const Evaluation *e)
{
    if (!e || !e->n_rejected)
        return;
    fprintf(out, "<h2>%s</h2>\n<table>", title);
    for (int64_t i = 0; i < e->videos.n; i++)
        if (e->measured[i].done == 2) {
            fputs("<tr><td class=\"id\">", out);
            html_bdi(out, e->videos.item[i].path);
            fputs("</td><td>", out);
            html_text(out, e->measured[i].why);
            fputs("</td></tr>\n", out);
        }
    fputs("</table>\n", out);
}

/* The samples that are nearest to a training clip, each beside it. */
static int copies(FILE *out, const Measurements *m, Err *err)
{
    int64_t n = m->videos->videos.n, shown = 0;
    char *done = mem_calloc(n, 1, err);
    int rc = done ? 0 : ERR_NOMEM;
    copies_summary_html(m->copies, measured_names, out);
    fputs("<div class=\"charts\">\n", out);
    for (; rc == 0 && shown < CLOSEST_MAX; shown++) {
        int64_t best = -1;
        for (int64_t i = 0; i < n; i++) {
            const Closest *c = done[i] ? NULL : copies_closest(m->copies, 0, i);
            if (c && (best < 0 || c->distance < copies_closest(m->copies, 0, best)->distance))
                best = i;
        }
        if (best < 0)
            break;
        done[best] = 1;
        fputs("<div><div class=\"id\">", out);
        html_bdi(out, m->videos->videos.item[best].id);
        fputs("</div>", out);
        rc = copies_closest_html(m->copies, 0, best, 1, out, err);
        fputs("</div>\n", out);
    }
    fputs("</div>\n", out);
    if (shown < m->videos->n_measured)
        fprintf(out, "<p class=\"dim\">The %" PRId64 " closest of %" PRId64 "; closest_clips.csv has all.</p>\n", shown,
                m->videos->n_measured);
    mem_free(done);
    return rc;
}

int evaluate_write_page(const char *path, const Measurements *m, const json_t *report, Err *err)
{
    const Evaluation *e = m->videos, *references = m->references;
    AtomicFile *f = NULL;
    const json_t *v;
    size_t i;
    int rc = atomic_open(&f, path, err);
    if (rc < 0)
        return rc;
    FILE *out = atomic_stream(f);
    rc = page_begin(out, "Videos measured", NULL, err);
    fputs("<h1>Videos measured</h1>\n<p class=\"sum\">", out);
    page_fact(out, e->n_measured, "video measured", "videos measured");
    if (references)
        page_fact(out, references->n_measured, "reference", "references");
    page_fact(out, e->n_rejected, "rejected", "rejected");
    page_fact(out, e->n_near_static, "near-static", "near-static");
    fputs("</p>\n", out);
    json_array_foreach (json_object_get(report, "warnings"), i, v) {
        fputs("<p class=\"warn\">", out);
        html_text(out, json_string_value(v));
        fputs(".</p>\n", out);
    }
    figures(out, m);
    networks(out, json_object_get(report, "networks"));
    if (rc == 0)
        rc = charts(out, e, err);
    if (rc == 0 && m->copies)
        rc = copies(out, m, err);
    videos(out, m);
    rejected(out, "Videos that could not be measured", e);
    rejected(out, "References that could not be measured", references);
    page_protocol(out, json_object_get(report, "protocol"),
                  json_object_get(json_object_get(report, "networks"), "protocol"),
                  (int64_t)json_integer_value(json_object_get(report, "seed")));
    page_end(out, NULL);
    if (rc == 0)
        return atomic_commit(&f, err);
    atomic_abort(&f);
    return rc;
}
