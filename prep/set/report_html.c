/* The report as pages: everything from files is escaped, pictures are data: URIs, charts are inline
 * SVG, nothing is loaded. */
#include <string.h>
#include "common/base/html.h"
#include "common/base/json.h"
#include "prep/set/report.h"
#include "prep/set/report_picture.h"

enum { FRONT = 24, PAGE = 200 }; /* clips of each reason on the first page, and in all on others */

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n" HTML_POLICY
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Prepared dataset</title>\n<style>\n"
    "body{font:15px/1.45 system-ui,sans-serif;color:#222;background:#fff;max-width:1200px;margin:24px auto;padding:0 "
    "20px}\n"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:32px 0 10px;border-bottom:1px solid "
    "#ccc;padding-bottom:4px}\n"
    "h3{font-size:14px;margin:0 0 4px}p{margin:6px 0}.sum b{font-size:20px}.sum span{margin-right:28px}\n"
    "table{border-collapse:collapse;margin:4px 0}th,td{padding:3px 12px 3px 0;text-align:left;vertical-align:top}\n"
    "th{color:#555;font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr.t td{border-top:1px "
    "solid #999}\n"
    ".row{display:flex;flex-wrap:wrap;align-items:flex-start;gap:20px 40px}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:14px}\n"
    ".pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(540px,1fr));gap:14px 28px}\n"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:4px}\n"
    ".card{border:1px solid #ddd;border-radius:6px;padding:8px;overflow-wrap:anywhere;font-size:13px}\n"
    ".card img{display:block;max-width:100%;max-height:128px;margin-bottom:6px;outline:1px solid #eee}\n"
    ".none{height:128px;margin-bottom:6px;background:#f2f2f2;color:#777;display:flex;align-items:center;justify-"
    "content:center}\n"
    ".reason{margin:18px 0 6px;font-size:15px}details{margin:14px "
    "0}summary{cursor:pointer;font-weight:600}.nav{margin:10px 0}a{color:#205a9c}\n"
    ".id{font-weight:600}.bad{color:#a11}.warn{color:#8a5a00}.dim{color:#666}svg text{font:11px "
    "system-ui,sans-serif;fill:#555}\n"
    "@media print{@page{margin:12mm}body{max-width:none;margin:0;padding:0;font-size:11px}\n"
    ".grid{grid-template-columns:repeat(3,1fr);gap:8px}.pairs{grid-template-columns:1fr 1fr;gap:8px 16px}\n"
    ".row{gap:10px 20px}svg{width:200px}\n"
    ".card,svg,table,.pair{break-inside:avoid}h2{break-after:avoid}.card{font-size:10px}.card "
    "img{max-height:80px}.none{height:80px}\n"
    ".nav,details{display:none}h3{break-after:avoid}\n"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n"
    "</style></head><body>\n";

static const char *member(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int64_t whole(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

static void note(FILE *out, const char *class, const json_t *n)
{
    fprintf(out, "<p class=\"%s\"><b>", class);
    html_text(out, member(n, "code"));
    fputs("</b> ", out);
    html_bdi(out, member(n, "text"));
    fputs("</p>", out);
}

static int card(const char *dir, const json_t *clip, FILE *out, Err *err)
{
    const json_t *v;
    size_t k;
    fputs("<div class=\"card\">", out);
    int rc = report_picture(dir, member(clip, "contact"), out, err);
    fputs("<span class=\"id\">", out);
    html_bdi(out, member(clip, "id"));
    fputs("</span> <span class=\"dim\">", out);
    html_text(out, member(clip, "split"));
    if (member(clip, "category")) {
        fputs(" · ", out);
        html_bdi(out, member(clip, "category"));
    }
    fputs("</span>", out);
    if (json_is_object(json_object_get(clip, "reason")))
        note(out, "bad", json_object_get(clip, "reason"));
    json_array_foreach (json_object_get(clip, "warnings"), k, v)
        note(out, "warn", v);
    json_array_foreach (json_object_get(clip, "captions"), k, v) {
        fputs("<p>", out);
        html_bdi(out, json_string_value(v));
        fputs("</p>", out);
    }
    fputs("</div>\n", out);
    return rc;
}

static int cards(const char *dir, const json_t *list, FILE *out, Err *err)
{
    const json_t *clip;
    size_t i;
    int rc = 0;
    fputs("<div class=\"grid\">\n", out);
    json_array_foreach (list, i, clip)
        rc = rc < 0 ? rc : card(dir, clip, out, err);
    fputs("</div>\n", out);
    return rc;
}

/* first .. last - 1 of the list */
static int pairs(const char *dir, const json_t *list, size_t first, size_t last, FILE *out, Err *err)
{
    static const char *const sides[2][2] = {{"contact", "id"}, {"kept_contact", "kept"}};
    int rc = 0;
    fputs("<div class=\"pairs\">\n", out);
    for (size_t i = first; i < last && rc == 0; i++) {
        const json_t *pair = json_array_get(list, i);
        fputs("<div class=\"pair\">", out);
        for (int side = 0; side < 2 && rc == 0; side++) {
            fputs("<div class=\"card\">", out);
            rc = report_picture(dir, member(pair, sides[side][0]), out, err);
            fputs("<span class=\"id\">", out);
            html_bdi(out, member(pair, sides[side][1]));
            fputs("</span><p class=\"dim\">", out);
            html_bdi(out, side ? "kept" : member(pair, "text"));
            fputs("</p></div>", out);
        }
        fputs("</div>\n", out);
    }
    fputs("</div>\n", out);
    return rc;
}

/* ---- pages ----------------------------------------------------------------------------------- */
/* The subject of a page: clips rejected for one reason, or pairs that look alike (reason
 * NULL): number first .. last - 1 of them. */
typedef struct Part {
    const char *reason;
    size_t first, last, all;
    int64_t page;
} Part;

static const char *reason_of(const json_t *clip)
{
    return member(json_object_get(clip, "reason"), "code");
}

/* Calls `see` for each part; every reason begins a page.  Returns the number of pages. */
static int64_t each_part(const json_t *content, void (*see)(void *user, const Part *p), void *user)
{
    const json_t *duplicates = json_object_get(content, "duplicates");
    const char *reason;
    json_t *n;
    int64_t page = 1;
    json_object_foreach (json_object_get(json_object_get(content, "counts"), "reasons"), reason, n) {
        const size_t all = (size_t)json_integer_value(n);
        for (size_t first = 0; all > FRONT && first < all; first += PAGE)
            see(user, &(Part){reason, first, first + PAGE < all ? first + PAGE : all, all, ++page});
    }
    const size_t all = json_array_size(duplicates);
    for (size_t first = 0; all > FRONT && first < all; first += PAGE / 2)
        see(user, &(Part){NULL, first, first + PAGE / 2 < all ? first + PAGE / 2 : all, all, ++page});
    return page;
}

static void see_nothing(void *user, const Part *p)
{
    (void)user, (void)p;
}

int64_t report_pages(const json_t *content)
{
    return each_part(content, see_nothing, NULL);
}

void report_page_name(int64_t page, char name[40])
{
    snprintf(name, 40, page > 1 ? "report-%" PRId64 ".html" : "report.html", page);
}

/* The part on a page, or, with page 0, the first of a reason. */
typedef struct Find {
    int64_t page;
    const char *reason;
    Part part;
} Find;

static void find_part(void *user, const Part *p)
{
    Find *f = user;
    int same = !f->reason == !p->reason && (!p->reason || strcmp(p->reason, f->reason) == 0);
    if (f->page ? p->page == f->page : same && p->first == 0)
        f->part = *p;
}

/* "The first 24 of 700: all of them", linked; nothing where the front page has all. */
static void link_to_all(FILE *out, const json_t *content, const char *reason)
{
    Find f = {.reason = reason};
    char name[40];
    each_part(content, find_part, &f);
    report_page_name(f.part.page, name);
    if (f.part.page)
        fprintf(out, "<p>These are the first %d of %zu. <a href=\"%s\">All of them</a></p>\n", FRONT, f.part.all, name);
}

/* Clips rejected for a reason: number first .. last - 1. */
static int rejected_for(const char *dir, const json_t *rejected, const char *reason, size_t first, size_t last,
                        FILE *out, Err *err)
{
    const json_t *clip;
    size_t i, n = 0;
    int rc = 0;
    fputs("<div class=\"grid\">\n", out);
    json_array_foreach (rejected, i, clip)
        if (rc == 0 && reason_of(clip) && strcmp(reason_of(clip), reason) == 0 && n++ >= first && n <= last)
            rc = card(dir, clip, out, err);
    fputs("</div>\n", out);
    return rc;
}

static void move_on(FILE *out, int64_t page, int64_t pages)
{
    char name[40];
    fputs("<p class=\"nav\"><a href=\"report.html\">Report</a>", out);
    if (page > 2) {
        report_page_name(page - 1, name);
        fprintf(out, " · <a href=\"%s\">previous page</a>", name);
    }
    if (page < pages) {
        report_page_name(page + 1, name);
        fprintf(out, " · <a href=\"%s\">next page</a>", name);
    }
    fputs("</p>\n", out);
}

static int further_page(const char *dir, const json_t *content, int64_t page, FILE *out, Err *err)
{
    Find f = {.page = page};
    const int64_t pages = each_part(content, find_part, &f);
    const Part *p = &f.part;
    move_on(out, page, pages);
    fputs(p->reason ? "<h1>Rejected clips: " : "<h1>Clips that look alike", out);
    html_text(out, p->reason);
    fprintf(out, "</h1>\n<p class=\"dim\">%zu to %zu of %zu · page %" PRId64 " of %" PRId64 "</p>\n", p->first + 1,
            p->last, p->all, page, pages);
    int rc = p->reason ? rejected_for(dir, json_object_get(content, "rejected"), p->reason, p->first, p->last, out, err)
                       : pairs(dir, json_object_get(content, "duplicates"), p->first, p->last, out, err);
    move_on(out, page, pages);
    return rc;
}

/* ---- tables and charts ----------------------------------------------------------------------- */
static void tally(FILE *out, const char *title, const json_t *counts)
{
    const char *key;
    json_t *n;
    if (json_object_size(counts) == 0)
        return;
    fputs("<table><tr><th>", out);
    html_text(out, title);
    fputs("</th><th class=\"n\">clips</th></tr>", out);
    json_object_foreach ((json_t *)(uintptr_t)counts, key, n) {
        fputs("<tr><td>", out);
        html_bdi(out, *key ? key : "(none)");
        fprintf(out, "</td><td class=\"n\">%" PRId64 "</td></tr>", (int64_t)json_integer_value(n));
    }
    fputs("</table>\n", out);
}

static void categories(FILE *out, const json_t *rows)
{
    static const char *const splits[] = {"train", "val", "test"};
    const char *key;
    json_t *row;
    int64_t sum[3] = {0};
    fputs("<table><tr><th>category</th><th class=\"n\">train</th><th class=\"n\">val</th><th class=\"n\">test</th>"
          "<th class=\"n\">all</th></tr>",
          out);
    json_object_foreach ((json_t *)(uintptr_t)rows, key, row) {
        int64_t all = 0;
        fputs("<tr><td>", out);
        html_bdi(out, *key ? key : "(none given)");
        fputs("</td>", out);
        for (int s = 0; s < 3; s++) {
            int64_t n = whole(row, splits[s]);
            fprintf(out, "<td class=\"n\">%" PRId64 "</td>", n);
            sum[s] += n;
            all += n;
        }
        fprintf(out, "<td class=\"n\">%" PRId64 "</td></tr>", all);
    }
    fputs("<tr class=\"t\"><td>all</td>", out);
    for (int s = 0; s < 3; s++)
        fprintf(out, "<td class=\"n\">%" PRId64 "</td>", sum[s]);
    fprintf(out, "<td class=\"n\">%" PRId64 "</td></tr></table>\n", sum[0] + sum[1] + sum[2]);
}

static void chart(FILE *out, const json_t *h)
{
    enum { WIDTH = 260, HEIGHT = 90 };
    const json_t *counts = json_object_get(h, "counts");
    size_t n = json_array_size(counts), i;
    const json_t *v;
    int64_t top = 1;
    json_array_foreach (counts, i, v)
        top = json_integer_value(v) > top ? (int64_t)json_integer_value(v) : top;
    fputs("<div><h3>", out);
    html_text(out, member(h, "name"));
    fprintf(out, " <span class=\"dim\">%s</span></h3>", member(h, "unit"));
    if (n == 0) {
        fputs(strstr(member(h, "unit"), "token")
                  ? "<p class=\"dim\">not counted yet: weft-prep tokenize does</p></div>\n"
                  : "<p class=\"dim\">nothing measured</p></div>\n",
              out);
        return;
    }
    fprintf(out, "<svg width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">", WIDTH, HEIGHT + 18, WIDTH,
            HEIGHT + 18);
    /* all values equal: one bar */
    double bar = n > 1 ? (double)WIDTH / (double)n : 24, left = n > 1 ? 0 : (WIDTH - bar) / 2;
    json_array_foreach (counts, i, v) {
        double tall = (double)json_integer_value(v) / (double)top * (HEIGHT - 14);
        fprintf(out,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#4a78a8\"><title>%" PRId64
                "</title></rect>",
                left + (double)i * bar, HEIGHT - tall, bar - 1, tall, (int64_t)json_integer_value(v));
    }
    fprintf(out, "<line x1=\"0\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#999\"/>", HEIGHT, WIDTH, HEIGHT);
    const double low = json_number_value(json_object_get(h, "min")),
                 high = json_number_value(json_object_get(h, "max"));
    if (n == 1) {
        fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%.4g, all %" PRId64 "</text></svg></div>\n",
                WIDTH / 2, HEIGHT + 14, low, whole(h, "values"));
        return;
    }
    fprintf(out,
            "<text x=\"0\" y=\"%d\">%.4g</text><text x=\"%d\" y=\"%d\" text-anchor=\"middle\">mean %.4g, n %" PRId64
            "</text>",
            HEIGHT + 14, low, WIDTH / 2, HEIGHT + 14, json_number_value(json_object_get(h, "mean")),
            whole(h, "values"));
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.4g</text>", WIDTH, HEIGHT + 14, high);
    fprintf(out, "<text x=\"%d\" y=\"10\" text-anchor=\"end\">tallest %" PRId64 "</text></svg></div>\n", WIDTH, top);
}

static int front_lists(const char *dir, const json_t *content, FILE *out, Err *err)
{
    const json_t *counts = json_object_get(content, "counts"), *rejected = json_object_get(content, "rejected"),
                 *accepted = json_object_get(content, "accepted"), *duplicates = json_object_get(content, "duplicates");
    const char *reason;
    json_t *n;
    int rc = 0;
    if (json_array_size(duplicates)) {
        fprintf(out, "<h2>Clips that look alike (%zu)</h2>\n", json_array_size(duplicates));
        link_to_all(out, content, NULL);
        rc = pairs(dir, duplicates, 0, json_array_size(duplicates) < FRONT ? json_array_size(duplicates) : FRONT, out,
                   err);
    }
    if (json_array_size(rejected))
        fprintf(out, "<h2>Rejected clips (%zu)</h2>\n", json_array_size(rejected));
    json_object_foreach (json_object_get(counts, "reasons"), reason, n) {
        fputs("<h3 class=\"reason\">", out);
        html_text(out, reason);
        fprintf(out, " <span class=\"dim\">%" PRId64 "</span></h3>\n", (int64_t)json_integer_value(n));
        link_to_all(out, content, reason);
        rc = rc < 0 ? rc : rejected_for(dir, rejected, reason, 0, FRONT, out, err);
    }
    if (rc == 0 && json_array_size(accepted)) {
        fprintf(out, "<h2>Accepted clips (%zu of %" PRId64 ")</h2>\n", json_array_size(accepted),
                whole(counts, "accepted"));
        rc = cards(dir, accepted, out, err);
    }
    return rc;
}

static int front_page(const char *dir, const json_t *content, FILE *out, Err *err)
{
    const json_t *counts = json_object_get(content, "counts"), *timing = json_object_get(content, "timing"), *h;
    const char *key;
    json_t *values;
    size_t i;
    fputs("<h1>Prepared dataset</h1><p class=\"dim\">layout ", out);
    html_text(out, member(content, "layout"));
    if (member(content, "layout_found")) {
        fputs(": ", out);
        html_bdi(out, member(content, "layout_found"));
    }
    fprintf(out,
            "</p>\n<p class=\"sum\"><span><b>%" PRId64 "</b> sources</span><span><b>%" PRId64 "</b> accepted</span>"
            "<span><b>%" PRId64 "</b> rejected</span></p>\n",
            whole(counts, "sources"), whole(counts, "accepted"), whole(counts, "rejected"));
    fputs("<h2>Accepted clips by category and split</h2>\n", out);
    categories(out, json_object_get(counts, "categories"));
    fputs("<h2>Why clips were rejected, and what was noted</h2><div class=\"row\">\n", out);
    tally(out, "rejected because", json_object_get(counts, "reasons"));
    tally(out, "accepted, noted", json_object_get(counts, "warnings"));
    fputs("</div>\n", out);
    if (json_object_size(json_object_get(content, "attributes"))) {
        fputs("<h2>Attributes of accepted clips</h2><div class=\"row\">\n", out);
        json_object_foreach (json_object_get(content, "attributes"), key, values)
            tally(out, key, values);
        fputs("</div>\n", out);
    }
    fputs("<h2>Figures</h2><div class=\"row\">\n", out);
    json_array_foreach (json_object_get(content, "histograms"), i, h)
        chart(out, h);
    fprintf(out,
            "</div>\n<p>Timing of accepted clips: frames lie %.2f ms from their wanted times on average, %.2f ms at "
            "most.</p>\n",
            1e3 * json_number_value(json_object_get(timing, "mean_abs_error_s")),
            1e3 * json_number_value(json_object_get(timing, "max_abs_error_s")));
    static const char *const sections[] = {"clip", "captions", "quality", "limits", NULL};
    int rc = html_recipe(out, json_object_get(content, "recipe"), sections, err);
    return rc < 0 ? rc : front_lists(dir, content, out, err);
}

int report_html(const char *dir, const json_t *content, int64_t page, FILE *out, Err *err)
{
    fputs(head, out);
    int rc = page > 1 ? further_page(dir, content, page, out, err) : front_page(dir, content, out, err);
    fputs("</body></html>\n", out);
    return rc;
}
