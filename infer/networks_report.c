/* What the networks found, as JSON. */
#include <stdio.h>

#include "common/base/jsonw.h"
#include "infer/networks_internal.h"

static void put_protocol(JsonWriter *w, const Networks *n)
{
    char text[400];
    jsonw_open(w, "protocol");
    if (n->clip) {
        snprintf(text, sizeof text,
                 "frames 0, %d, ... of each video, %d at most, %" PRId64 " pixels square; unit vectors; prompts "
                 "cut to the model's tokens with the end mark kept",
                 CLIP_STEP, CLIP_FRAMES, clip_scorer_size(n->clip));
        jsonw_str(w, "clip", text);
        jsonw_str(w, "attributes",
                  "the value nearest to the mean vector of a video's frames (centre crop) against the one "
                  "value whose words are in the prompt; interval: Wilson, 95 %");
    }
    if (n->inception) {
        snprintf(text, sizeof text,
                 "frames 0, %d, ... of each video, %d at most, stretched to 299x299 (TensorFlow 1's bilinear), "
                 "(x - 128)/128; score: logits without bias, up to %d splits of two or more whole videos in an order "
                 "drawn with "
                 "the seed, population standard deviation, is_frames over frames, is_clip over the mean distributions "
                 "of videos; distances: pool3",
                 INCEPTION_STEP, INCEPTION_FRAMES, SCORE_SPLITS);
        jsonw_str(w, "inception", text);
    }
    if (n->i3d) {
        snprintf(text, sizeof text,
                 "the first %" PRId64 " frames, stretched to 224x224 (TensorFlow 1's bilinear), 2x/255 - 1; 400 logits "
                 "averaged over time; bn_eps %g; covariances with n - 1; videos with fewer frames are left out",
                 n->o.fvd_frames, i3d_eps(n->i3d));
        jsonw_str(w, "i3d", text);
    }
    jsonw_str(w, "numbers",
              n->be->act == DT_BF16 ? "the networks compute in bfloat16, with sums in float32"
                                    : "the networks compute in float32");
    if (n->inception || n->i3d) {
        jsonw_str(w, "interval",
                  "95 %, percentile bootstrap over videos, 9999 resamples drawn with the seed, of the figure's "
                  "first-order change (influence values; frames of a video are drawn together): how far the figure "
                  "moves with other videos of the same number. What the number itself adds is not in it");
        snprintf(
            text, sizeof text,
            "a line in 1/n through the distances of %d random subsets of n = N/4 to N videos of each side, N being "
            "the smaller number, at 1/n = 0; from %d videos on",
            NET_SUBSETS, NET_SUBSETS_LEAST);
        jsonw_str(w, "infinite", text);
    }
    jsonw_close(w);
    jsonw_open(w, "weights"); /* SHA-256 */
    if (n->clip)
        jsonw_str(w, "clip", n->clip_sha);
    if (n->inception)
        jsonw_str(w, "inception", n->inception_sha);
    if (n->i3d)
        jsonw_str(w, "i3d", n->i3d_sha);
    jsonw_close(w);
    jsonw_open_array(w, "left_out");
    for (int64_t i = 0; i < n->n_left; i++) {
        jsonw_open(w, NULL);
        jsonw_str(w, "metrics", n->left[i].metrics);
        jsonw_str(w, "why", n->left[i].why);
        jsonw_close(w);
    }
    jsonw_close(w);
}

int networks_report(const Networks *n, const NetFeatures *f, const NetFeatures *references, uint64_t seed, json_t **out,
                    Err *err)
{
    JsonWriter w;
    char fvd[40], kvd[40];
    int rc = 0;
    snprintf(fvd, sizeof fvd, "fvd_%" PRId64 "f", n->o.fvd_frames);
    snprintf(kvd, sizeof kvd, "kvd_%" PRId64 "f", n->o.fvd_frames);
    jsonw_begin(&w);
    jsonw_open(&w, "sets");
    if (n->inception && !(rc = net_put_score(&w, f, 0, seed, err)) && !(rc = net_put_score(&w, f, 1, seed, err)))
        rc = net_put_distances(&w, f, references, NET_POOL3, "fid_frames", "kid_frames", seed, err);
    if (n->i3d && !rc)
        rc = net_put_distances(&w, f, references, NET_I3D, fvd, kvd, seed, err);
    jsonw_close(&w);
    if (n->clip)
        jsonw_take(&w, "attributes", attributes_json(&n->attributes, 0, err));
    if (n->clip && references)
        jsonw_take(&w, "attributes_of_references", attributes_json(&n->attributes, 1, err));
    put_protocol(&w, n);
    int written = jsonw_finish(&w, out, "the networks' figures", err);
    if (rc && !written) {
        json_decref(*out);
        *out = NULL;
    }
    return rc ? rc : written;
}
