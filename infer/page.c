#include "infer/page.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/html.h"
#include "common/base/str.h"

static const char style[] =
    ":root{--ink:#1d2327;--paper:#fff;--dim:#59636e;--line:#dfe3e8;--a:#2f6fb2;--b:#c8601a;--good:#2f7d43}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--paper:#15191d;--dim:#9aa5b1;--line:#2f363d;--a:#6aa9ec;"
    "--b:#f0914e;--good:#6cc080}}\n"
    "body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1240px;margin:24px "
    "auto;padding:0 16px}\n"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:32px 0 10px;border-bottom:1px solid "
    "var(--line);padding-bottom:4px}h3{font-size:15px;margin:18px 0 6px;font-weight:600}\n"
    "p{margin:6px 0;max-width:78ch}.dim,figcaption,th{color:var(--dim)}\n"
    ".sum{display:flex;flex-wrap:wrap;gap:8px 28px;max-width:none}.sum b{display:block;font-size:20px}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;margin:4px 0;font-size:14px}"
    "th,td{padding:2px 14px 2px 0;text-align:left;vertical-align:top}td.id{overflow-wrap:anywhere;min-width:9em}\n"
    "td.what{min-width:20em}td.note{min-width:16em}sup{line-height:0}"
    "@media(max-width:640px){td.what{display:none}th,td{padding-right:9px}}\n"
    "td.v{white-space:nowrap}td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\n"
    ".warn{border-left:3px solid var(--b);padding:2px 0 2px 10px;margin:8px 0}.flag{color:var(--b)}"
    ".good{color:var(--good)}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px 28px}\n"
    "figure{margin:0;max-width:620px}figcaption{font-weight:600}svg{display:block;width:100%;height:auto}"
    "svg text{font:11px system-ui,sans-serif;fill:var(--dim)}.grid{stroke:var(--line)}\n"
    "@media(max-width:640px){svg text{font-size:17px}}\n"
    "circle{fill:var(--a);fill-opacity:.55}rect.s0{fill:var(--a)}rect.s1{fill:var(--b)}.whisker{stroke:var(--ink)}\n"
    ".legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin:0 6px 0 14px;vertical-align:-1px}"
    ".legend i.s0{background:var(--a)}.legend i.s1{background:var(--b)}\n"
    "details{margin:14px 0}summary{cursor:pointer;font-weight:600}a{color:var(--a)}\n"
    ".pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr));gap:22px 28px}"
    ".pair p{overflow-wrap:anywhere}.sides{display:grid;grid-template-columns:1fr 1fr;gap:8px}"
    ".sides video{width:100%;height:auto;background:#000;border-radius:4px}.sides video.train{width:50%}"
    ".sides figcaption{font-size:13px}\n"
    ".near{display:flex;gap:8px;font-size:13px;margin:6px 0;overflow-wrap:anywhere}.near span{min-width:0}"
    ".near img{width:64px;height:auto;align-self:flex-start;border-radius:3px}\n"
    ".bar{max-width:none;position:sticky;top:0;background:var(--paper);padding:8px "
    "0;z-index:1}.bar.last{bottom:0;top:auto}"
    "fieldset{border:1px solid var(--line);border-radius:6px;min-width:0}label{margin-right:14px}"
    "button,select{font:inherit;padding:4px 12px;margin-right:8px}\n"
    "@media print{body{max-width:none;margin:0}figure,tr{break-inside:avoid}h2{break-after:avoid}.bar{display:none}\n"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n";

int page_begin(FILE *out, const char *title, const char *script, Err *err)
{
    Digest d;
    int rc = script ? sha256_bytes(script, (int64_t)strlen(script), &d, err) : 0;
    if (rc < 0)
        return rc;
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n", out);
    if (script) {
        fputs("<meta http-equiv=\"Content-Security-Policy\"\n content=\"default-src 'none'; style-src 'unsafe-inline'; "
              "img-src data:; media-src 'self' file:; script-src 'sha256-",
              out);
        html_base64(out, d.byte, sizeof d.byte);
        fputs("'\">\n", out);
    } else {
        fputs(HTML_POLICY, out);
    }
    fputs("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" "
          "content=\"light dark\"><title>",
          out);
    html_text(out, title);
    fprintf(out, "</title>\n<style>\n%s</style></head><body>\n", style);
    return 0;
}

void page_end(FILE *out, const char *script)
{
    if (script)
        fprintf(out, "<script>%s</script>\n", script);
    fputs("</body></html>\n", out);
}

int page_link(FILE *out, const char *folder, const char *file, Err *err)
{
    char from[PATH_MAX], to[PATH_MAX];
    if (!realpath(folder, from))
        return err_errno(err, errno, "'%s'", folder);
    if (!realpath(file, to))
        return err_errno(err, errno, "'%s'", file);
    size_t shared = 0, n = strlen(from);
    for (size_t i = 0; from[i] == to[i] && from[i]; i++)
        if (from[i] == '/')
            shared = i + 1;
    if (strncmp(from, to, n) == 0 && to[n] == '/')
        shared = n + 1;
    for (size_t i = shared; i < n; i++)
        if (i == shared || from[i] == '/')
            fputs("../", out);
    for (const char *c = to + shared; *c; c++)
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/", *c))
            putc(*c, out);
        else
            fprintf(out, "%%%02X", (unsigned)(unsigned char)*c);
    return 0;
}

void page_fact(FILE *out, int64_t value, const char *one, const char *many)
{
    fprintf(out, "<span><b>%" PRId64 "</b> %s</span>", value, value == 1 ? one : many);
}

void page_number(FILE *out, double x)
{
    if (isfinite(x))
        fprintf(out, "%.6g", x);
    else
        fputs("–", out);
}

void page_cell(FILE *out, double x)
{
    fputs("<td class=\"n\">", out);
    page_number(out, x);
    fputs("</td>", out);
}

/* ---- charts ----------------------------------------------------------------------------------- */
typedef struct Axis {
    double from, to, step;
} Axis;

static Axis axis(double least, double most)
{
    Axis a = {least, most, 0};
    double span = most - least > 0 ? most - least : fabs(most) > 0 ? fabs(most) : 1, size = pow(10, floor(log10(span)));
    a.step = span / size < 2 ? size / 4 : span / size < 5 ? size / 2 : size;
    a.from = floor(least / a.step) * a.step;
    a.to = ceil(most / a.step) * a.step;
    if (a.to <= a.from)
        a.to = a.from + a.step;
    return a;
}

static double share(const Axis *a, double x)
{
    return (x - a->from) / (a->to - a->from);
}

void page_scatter(FILE *out, const char *title, const char *x_name, const char *y_name, const PageDot *dot, int64_t n)
{
    enum { W = 560, H = 300, L = 52, R = 12, T = 10, B = 40 };
    double x0 = 0, x1 = 0, y0 = INFINITY, y1 = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(dot[i].x) && isfinite(dot[i].y)) {
            x1 = fmax(x1, dot[i].x);
            y0 = fmin(y0, dot[i].y);
            y1 = fmax(y1, dot[i].y);
        }
    if (!isfinite(y0))
        return;
    Axis x = axis(x0, x1), y = axis(y0, y1);
    fputs("<figure><figcaption>", out);
    html_text(out, title);
    fprintf(out, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\">", W, H);
    for (double v = y.from; v <= y.to + y.step / 2; v += y.step) {
        double at = H - B - share(&y, v) * (H - B - T);
        fprintf(out,
                "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%.4g</text>",
                L, W - R, at, at, L - 6, at + 4, fabs(v) < y.step / 1e6 ? 0 : v);
    }
    for (double v = x.from; v <= x.to + x.step / 2; v += x.step)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>", L + share(&x, v) * (W - L - R),
                H - B + 16, fabs(v) < x.step / 1e6 ? 0 : v);
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", W - R, H - 6);
    html_text(out, x_name);
    fprintf(out, "</text><text x=\"%d\" y=\"%d\">", 2, H - 6);
    html_text(out, y_name);
    fputs(" ↑</text>", out);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(dot[i].x) && isfinite(dot[i].y)) {
            fprintf(out, "<circle r=\"4\" cx=\"%.1f\" cy=\"%.1f\"><title>", L + share(&x, dot[i].x) * (W - L - R),
                    H - B - share(&y, dot[i].y) * (H - B - T));
            html_text(out, dot[i].label);
            fputs("</title></circle>", out);
        }
    fputs("</svg></figure>\n", out);
}

/* Digits behind the point that make four in all. */
static int decimals(double x)
{
    return fabs(x) >= 1000 ? 0 : fabs(x) >= 100 ? 1 : fabs(x) >= 10 ? 2 : fabs(x) >= 1 ? 3 : 4;
}

void page_bars(FILE *out, const char *title, const char *const side[2], const PageBar *bar, int64_t n)
{
    enum { W = 560, L = 130, R = 84, ROW = 40, T = 4 };
    double most = 0, least = 0;
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++) {
            double high = isfinite(bar[i].high[k]) ? bar[i].high[k] : bar[i].value[k],
                   low = isfinite(bar[i].low[k]) ? bar[i].low[k] : bar[i].value[k];
            most = isfinite(high) ? fmax(most, high) : most;
            least = isfinite(low) ? fmin(least, low) : least;
        }
    Axis x = axis(least, most > least ? most : least + 1);
    fputs("<figure><figcaption>", out);
    html_text(out, title);
    fputs("</figcaption><div class=\"legend dim\">", out);
    for (int k = 0; k < 2; k++) {
        fprintf(out, "<i class=\"s%d\"></i>", k);
        html_text(out, side[k]);
    }
    fprintf(out, "</div><svg viewBox=\"0 0 %d %d\" role=\"img\">", W, (int)(n * ROW) + 2 * T);
    for (int64_t i = 0; i < n; i++) {
        double top = T + (double)(i * ROW), zero = L + share(&x, 0) * (W - L - R);
        char label[64];
        str_escape(label, 24, bar[i].label, 0); /* what fits */
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", L - 8, top + ROW / 2.0);
        html_text(out, label);
        fputs("</text>", out);
        for (int k = 0; k < 2; k++) {
            double y = top + 3 + k * 15, end = L + share(&x, bar[i].value[k]) * (W - L - R);
            if (!isfinite(bar[i].value[k]))
                continue;
            fprintf(out, "<rect class=\"s%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"13\"/>", k, fmin(zero, end),
                    y, fmax(1, fabs(end - zero)));
            if (isfinite(bar[i].low[k]))
                fprintf(out, "<line class=\"whisker\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                        L + share(&x, bar[i].low[k]) * (W - L - R), L + share(&x, bar[i].high[k]) * (W - L - R),
                        y + 6.5, y + 6.5);
            fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>", W - 2, y + 10,
                    decimals(bar[i].value[k]), bar[i].value[k]);
        }
    }
    fputs("</svg></figure>\n", out);
}

void page_protocol(FILE *out, const json_t *own, const json_t *networks, int64_t seed)
{
    const json_t *const parts[2] = {own, networks};
    const char *key;
    json_t *v;
    fputs("<details><summary>How the figures are made</summary><table>", out);
    for (int k = 0; k < 2; k++)
        json_object_foreach ((json_t *)(uintptr_t)parts[k], key, v) {
            fputs("<tr><td>", out);
            html_text(out, key);
            fputs("</td><td>", out);
            html_text(out, json_string_value(v));
            fputs("</td></tr>", out);
        }
    fprintf(out, "<tr><td>seed</td><td>%" PRId64 "</td></tr></table></details>\n", seed);
}
