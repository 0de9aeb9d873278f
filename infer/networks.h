/* The networks that evaluate judges videos with, where the user has their weights: CLIP, Inception v3, I3D.
 *
 * A video is decoded in a process of its own (infer/measure.h), which takes from the frames what the networks
 * read, scaled to their inputs, into memory that it shares with its parent (net_take_frame); the parent runs
 * the networks on it and keeps the features (net_run).  Each video is decoded once.
 *
 *   CLIP       frames 0, 6, 12, ... 42 (8 at most), cropped as CLIP crops and whole, padded to a square
 *   Inception  frames 0, 8, ... 40 (6 at most), stretched to 299x299 by TensorFlow 1's bilinear rule
 *   I3D        the first fvd_frames frames, stretched to 224x224 likewise; shorter videos are left out */
#ifndef WEFT_INFER_NETWORKS_H
#define WEFT_INFER_NETWORKS_H
#include <jansson.h>
#include "common/base/log.h"

enum {
    CLIP_STEP = 6,
    CLIP_FRAMES = 8,
    INCEPTION_STEP = 8,
    INCEPTION_FRAMES = 6,
    FVD_FRAMES = 48, /* unless the user says otherwise */
    FVD_FEW = 256,   /* below so many videos a Frechet distance says more about their number */
    SCORE_SPLITS = 10
};

typedef struct NetworkOptions {
    const char *clip, *inception, *i3d; /* folder, files; NULL: not asked for */
    const char *attributes;             /* lists (infer/attributes.h); NULL: the default */
    int64_t fvd_frames;                 /* at least 9; 0: without i3d */
    double bn_eps;                      /* of I3D; 0: as its file says */
} NetworkOptions;

/* The options that fill it, for a table whose structure has a member `networks`. */
#define OPTS_NETWORKS(structure)                                                                                    \
    OPTION(structure, networks.clip, OPT_STR, "clip", "DIR",                                                        \
           "CLIP (a folder of transformers, such as openai/clip-vit-large-patch14): CLIP score, consistency, "      \
           "attributes"),                                                                                           \
        OPTION(structure, networks.attributes, OPT_STR, "attributes", "FILE",                                       \
               "what CLIP is asked about (schemas/attributes); default: garment, fabric, pattern, style, sleeve, "  \
               "colour"),                                                                                           \
        OPTION(structure, networks.inception, OPT_STR, "inception", "FILE",                                         \
               "Inception v3 of the FID (pt_inception-2015-12-05-6726825d.pth): Inception Score, and FID to the "   \
               "references"),                                                                                       \
        OPTION(structure, networks.i3d, OPT_STR, "i3d", "FILE",                                                     \
               "I3D, Kinetics-400 (i3d_pretrained_400.pt, rgb_imagenet.pt, model_rgb.pth): FVD to the "             \
               "references"),                                                                                       \
        OPTION(structure, networks.fvd_frames, OPT_INT, "fvd-frames", "N",                                          \
               "frames of a video that FVD sees; values are only comparable for the same N", .min = 9, .max = 1000, \
               .dflt = "48"),                                                                                       \
        OPTION(structure, networks.bn_eps, OPT_NUM, "bn-eps", "X",                                                  \
               "epsilon of I3D's batch norms; 0: as its file says, else 0.001 (VideoGPT's port: 0.00001)",          \
               .dflt = "0")

typedef struct Networks Networks;
/* What cannot be opened is left out: a warning now, an entry of the report later (networks_left_out).  *out is
 * NULL where nothing is asked for.  device and threads: of backend_open; NULL: "cpu".  memory: a folder for digests of
 * weights (safetensors_digest_once). */
WEFT_MUST_CHECK int networks_open(Networks **out, const NetworkOptions *o, const char *device, int64_t threads,
                                  const char *memory, const Log *log, Err *err);
void networks_close(Networks **n);
int64_t networks_left_out(const Networks *n); /* of NULL: 0 */

/* The features of `videos` videos, and the memory their frames are taken into. */
typedef struct NetFeatures NetFeatures;
WEFT_MUST_CHECK int net_features_new(NetFeatures **out, Networks *n, int64_t videos, int references, Err *err);
void net_features_free(NetFeatures **f);
/* In the process that decodes video i: frame k = 0, 1, ..., RGB [H,W,3]. */
WEFT_MUST_CHECK int net_take_frame(const NetFeatures *f, int64_t i, int64_t k, const uint8_t *rgb, int64_t H, int64_t W,
                                   Err *err);
/* In the parent, once video i is whole.  prompt may be NULL. */
WEFT_MUST_CHECK int net_run(NetFeatures *f, int64_t i, const char *prompt, Err *err);
/* The frames of a video that is not measured are dropped. */
void net_drop(NetFeatures *f, int64_t i);
/* Whether a network reads texts and gives NetFigures. */
int networks_have_clip(const Networks *n);

/* One number a video, NAN where it has none. */
typedef enum NetFigure {
    NET_CLIP,        /* 100 x the mean cosine of frames and prompt */
    NET_CLIP_LEAST,  /* of the frame that fits least */
    NET_CLIP_WHOLE,  /* NET_CLIP on whole frames */
    NET_CONSISTENCY, /* mean cosine of frames that follow each other */
    NET_FIGURES
} NetFigure;
extern const struct NetFigureKind {
    const char *name, *what;
    int saturates;
} net_figure_kinds[NET_FIGURES];
double net_figure(const NetFeatures *f, int64_t i, NetFigure which);
int64_t net_tokens_cut(const NetFeatures *f, int64_t i); /* of its prompt, by CLIP's tokeniser */

/* {"sets": {"is_frames": {...}, "is_clip", "fid_frames", "kid_frames", "fvd_48f", "kvd_48f"}, "attributes": {...},
 * "weights": {...}, "protocol": {...}, "left_out": [...]}.  references may be NULL. */
WEFT_MUST_CHECK int networks_report(const Networks *n, const NetFeatures *f, const NetFeatures *references,
                                    uint64_t seed, json_t **out, Err *err);
#endif
