/* What the copy check found, for people and programs. */
#include <math.h>
#include <string.h>

#include "common/base/bootstrap.h"
#include "common/base/file.h"
#include "common/base/html.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "infer/copies_internal.h"
#include "infer/csv.h"
#include "infer/page.h"

enum { FEW_CLIPS = 20 /* below, the 5th percentile is little more than the least */ };

/* Counts and distances of one side. */
typedef struct SideFacts {
    int64_t compared, encoded, closer;
    double least, median; /* NAN for none */
} SideFacts;

static int side_facts(const Copies *c, int side, SideFacts *out, Err *err)
{
    const CopySide *s = &c->side[side];
    double *x = mem_calloc(s->n, sizeof *x, err);
    *out = (SideFacts){.least = NAN, .median = NAN};
    if (!x)
        return ERR_NOMEM;
    for (int64_t i = 0; i < s->n; i++) {
        const Closest *k = copies_closest(c, side, i);
        if (!k)
            continue;
        x[out->compared++] = k->distance;
        out->encoded += k->encoded;
        out->closer += k->closer;
    }
    sort_ascending(x, out->compared);
    if (out->compared) {
        out->least = x[0];
        out->median = percentile(x, out->compared, 0.5);
    }
    mem_free(x);
    return 0;
}

static double training(const Copies *c, double share)
{
    return percentile(c->training, c->n_training, share);
}

/* ---- JSON, CSV -------------------------------------------------------------------------------- */
static const char protocol[] =
    "distance: root mean square difference of all values of the latents, as the transformer sees them; a training "
    "clip's are its posterior's mean, or the draw that the cache holds; a sample's are those that were kept, or its "
    "video is encoded by the same VAE (of a video that lacks the model's last frame, the last one twice); share: of "
    "the "
    "training clips whose nearest other one lies as close or closer; closer: at or below their 5th percentile. "
    "Mirrored, cropped or shifted copies are not found";

static void put_samples(JsonWriter *w, const Copies *c, const char *const *name)
{
    jsonw_open_array(w, "samples");
    for (int side = 0; side < COPY_SIDES; side++)
        for (int64_t i = 0; i < c->side[side].n; i++) {
            const Closest *k = copies_closest(c, side, i);
            const VideoItem *v = k ? &c->side[side].e->videos.item[i] : NULL;
            if (!k)
                continue;
            jsonw_open(w, NULL);
            jsonw_str(w, "side", name[side]);
            jsonw_str(w, "id", v->id);
            jsonw_str(w, "video", v->path);
            jsonw_str(w, "clip", copies_clip_id(c, k->clip));
            jsonw_num(w, "distance", k->distance);
            jsonw_num(w, "share", k->share);
            jsonw_bool(w, "closer", k->closer);
            jsonw_str(w, "latents", k->encoded ? "encoded" : "kept");
            jsonw_close(w);
        }
    jsonw_close(w);
}

int copies_json(const Copies *c, const char *const *name, json_t **out, Err *err)
{
    JsonWriter w;
    int rc = 0;
    jsonw_begin(&w);
    jsonw_str(&w, "cache", c->o->cache);
    jsonw_open(&w, "training");
    jsonw_int(&w, "clips", c->n_same);
    jsonw_int(&w, "other_sizes", c->n - c->n_same);
    jsonw_int(&w, "measured", c->n_training);
    jsonw_num(&w, "least", training(c, 0));
    jsonw_num(&w, "p5", training(c, 0.05));
    jsonw_num(&w, "median", training(c, 0.5));
    jsonw_num(&w, "most", training(c, 1));
    if (c->n_same < FEW_CLIPS)
        jsonw_str(&w, "note", "few training clips: their 5th percentile is little more than the least distance");
    jsonw_close(&w);
    jsonw_str(&w, "protocol", protocol);
    jsonw_open(&w, "sides");
    for (int side = 0; side < COPY_SIDES && rc == 0; side++) {
        SideFacts f;
        if (!c->side[side].source || (rc = side_facts(c, side, &f, err)) < 0)
            continue;
        jsonw_open(&w, name[side]);
        jsonw_int(&w, "compared", f.compared);
        jsonw_int(&w, "encoded", f.encoded);
        jsonw_int(&w, "closer", f.closer);
        jsonw_num(&w, "least", f.least);
        jsonw_num(&w, "median", f.median);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    put_samples(&w, c, name);
    int written = jsonw_finish(&w, out, "the copy check", err);
    if (rc < 0 && written == 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc < 0 ? rc : written;
}

int copies_write_csv(const Copies *c, const char *const *name, const char *path, Err *err)
{
    AtomicFile *f = NULL;
    int rc = atomic_open(&f, path, err);
    if (rc < 0)
        return rc;
    FILE *out = atomic_stream(f);
    fputs("side,id,video,clip,distance,share,closer,latents\n", out);
    for (int side = 0; side < COPY_SIDES; side++)
        for (int64_t i = 0; i < c->side[side].n; i++) {
            const Closest *k = copies_closest(c, side, i);
            if (!k)
                continue;
            fprintf(out, "%s,", name[side]);
            csv_put_text(out, c->side[side].e->videos.item[i].id);
            putc(',', out);
            csv_put_text(out, c->side[side].e->videos.item[i].path);
            putc(',', out);
            csv_put_text(out, copies_clip_id(c, k->clip));
            csv_put_number(out, k->distance);
            csv_put_number(out, k->share);
            fprintf(out, ",%d,%s\n", k->closer, k->encoded ? "encoded" : "kept");
        }
    return atomic_commit(&f, err);
}

void copies_print(const Copies *c, const char *const *name, FILE *out)
{
    SideFacts f;
    for (int side = 0; side < COPY_SIDES; side++) {
        Err ignored = {0};
        if (!c->side[side].source || side_facts(c, side, &f, &ignored) < 0 || !f.compared)
            continue;
        fprintf(out,
                "  copy check, %s: %" PRId64 " of %" PRId64 " closer to a training clip than 95 %% of the training "
                "clips are to each other; least distance %.4g, theirs "
                "%.4g to %.4g\n",
                name[side], f.closer, f.compared, f.least, training(c, 0), training(c, 1));
    }
}

/* ---- page ------------------------------------------------------------------------------------- */
static void row(FILE *out, const char *name, int64_t n, double least, double p5, double median, int64_t closer)
{
    fputs("<tr><td>", out);
    html_text(out, name);
    fprintf(out, "</td><td class=\"n\">%" PRId64 "</td>", n);
    page_cell(out, least);
    page_cell(out, p5);
    page_cell(out, median);
    if (closer < 0)
        fputs("<td></td></tr>\n", out);
    else
        fprintf(out, "<td class=\"n%s\">%" PRId64 "</td></tr>\n", closer ? " flag" : "", closer);
}

void copies_summary_html(const Copies *c, const char *const *name, FILE *out)
{
    fputs("<h2>Copies of training clips</h2>\n<p>How far each sample is from the training clip closest to it, and how "
          "far the training clips are from each other. A sample that is closer than 95 % of the training clips are to "
          "their nearest is marked: look at both.</p>\n<div class=\"wide\"><table><tr><th></th><th "
          "class=\"n\">videos</th><th class=\"n\">least distance</th><th class=\"n\">5th percentile</th><th "
          "class=\"n\">median</th><th class=\"n\">marked</th></tr>\n",
          out);
    row(out, "training clips", c->n_training, training(c, 0), training(c, 0.05), training(c, 0.5), -1);
    for (int side = 0; side < COPY_SIDES; side++) {
        SideFacts f;
        Err ignored = {0};
        if (c->side[side].source && side_facts(c, side, &f, &ignored) == 0)
            row(out, name[side], f.compared, f.least, NAN, f.median, f.closer);
    }
    fputs("</table></div>\n", out);
    if (c->n_same < FEW_CLIPS)
        fprintf(out, "<p class=\"warn\">%" PRId64 " training clips: too few for a percentile.</p>\n", c->n_same);
    if (c->n > c->n_same)
        fprintf(out, "<p class=\"dim\">%" PRId64 " training clips of other sizes were left out.</p>\n",
                c->n - c->n_same);
    fputs("<details><summary>How closeness is measured</summary><p>", out);
    html_text(out, protocol);
    fputs(".</p></details>\n", out);
}

static void put16(uint8_t *to, int64_t x)
{
    to[0] = (uint8_t)(x & 255);
    to[1] = (uint8_t)(x >> 8 & 255);
}

/* rgb [h,w,3] as <img> with a BMP inside: 54 bytes of head, then rows from the lowest, BGR, to whole words. */
static int picture(FILE *out, const uint8_t *rgb, int64_t w, int64_t h, const char *alt, Err *err)
{
    int64_t stride = (3 * w + 3) / 4 * 4, size = 54 + stride * h;
    uint8_t *bmp = mem_calloc(size, 1, err);
    if (!bmp)
        return ERR_NOMEM;
    memcpy(bmp, "BM", 2);
    put16(bmp + 2, size);
    put16(bmp + 4, size >> 16);
    bmp[10] = 54;
    bmp[14] = 40;
    put16(bmp + 18, w);
    put16(bmp + 22, h);
    bmp[26] = 1;
    bmp[28] = 24;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            for (int64_t k = 0; k < 3; k++)
                bmp[54 + (h - 1 - y) * stride + 3 * x + k] = rgb[(y * w + x) * 3 + 2 - k];
    fputs("<img src=\"data:image/bmp;base64,", out);
    html_base64(out, bmp, size);
    fputs("\" alt=\"", out);
    html_text(out, alt);
    fputs("\">", out);
    mem_free(bmp);
    return 0;
}

/* The first latents of a training clip in rough colours. */
static int clip_picture(Copies *c, int64_t clip, FILE *out, Err *err)
{
    int64_t points = c->size.h * c->size.w;
    float *z = mem_calloc(copies_values(c), sizeof *z, err);
    uint8_t *rgb = mem_calloc(points, 3, err);
    int rc = z && rgb ? copies_load_clip(c, clip, z, err) : ERR_NOMEM;
    if (rc == 0) {
        latent_colour_apply(&c->colour, rgb, z, points, 1 / c->scale);
        rc = picture(out, rgb, c->size.w, c->size.h, "the training clip's first picture", err);
    }
    mem_free(rgb);
    mem_free(z);
    return rc;
}

int copies_closest_html(Copies *c, int side, int64_t i, int with_sample, FILE *out, Err *err)
{
    const Closest *k = copies_closest(c, side, i);
    int rc = 0;
    if (!k)
        return 0;
    fputs("<div class=\"near\">", out);
    if (with_sample && k->picture)
        rc = picture(out, k->picture, c->size.w, c->size.h, "the sample's first picture", err);
    if (rc == 0 && c->has_colour)
        rc = clip_picture(c, k->clip, out, err);
    fputs("<span>closest training clip<br>", out);
    html_bdi(out, copies_clip_id(c, k->clip));
    fprintf(out, "<br>distance %.4g%s<br><span class=\"%s\">%.0f %% of the training clips have another as close</span>",
            k->distance, k->encoded ? "" : " (kept latents)", k->closer ? "flag" : "dim", 100 * k->share);
    fputs("</span></div>", out);
    return rc;
}
