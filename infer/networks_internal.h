/* Shared by networks.c (weights and features), networks_sets.c (figures of sets) and networks_report.c. */
#ifndef WEFT_INFER_NETWORKS_INTERNAL_H
#define WEFT_INFER_NETWORKS_INTERNAL_H
#include "common/base/jsonw.h"
#include "common/model/i3d.h"
#include "common/model/inception.h"
#include "infer/attributes.h"
#include "infer/networks.h"

enum { LEFT_OUT_MAX = 3 };

struct Networks {
    NetworkOptions o;
    Backend *be;
    ClipScorer *clip;
    Attributes attributes;
    Inception *inception;
    I3d *i3d;
    Arena *inception_work, *i3d_work;
    char clip_sha[65], inception_sha[65], i3d_sha[65];
    struct {
        const char *metrics; /* that are left out */
        char *why;
    } left[LEFT_OUT_MAX];
    int64_t n_left;
    const Log *log;
    /* what is taken from a video: bytes into its piece of shared memory */
    int64_t clip_at, inception_at, i3d_at, bytes;
};

/* What is kept of a video: about 75 kB with all networks. */
typedef struct NetVideo {
    int64_t clip_frames, inception_frames, cut;
    int has_prompt, has_i3d;
    double fit, least, fit_whole; /* cosines of frames and prompt */
    double consistency;           /* and of frames that follow each other */
    float *pool3, *logits;        /* [inception_frames, ...] */
    float *i3d;                   /* [400] */
} NetVideo;

struct NetFeatures {
    Networks *net;
    NetVideo *video;
    int64_t n;
    int references; /* these are the references */
    char *shared;   /* [n, net->bytes] */
    int64_t mapped;
};

/* ---- networks_sets.c ---- */
enum {
    NET_SUBSETS = 15,      /* of which a distance is extrapolated to infinitely many videos */
    NET_SUBSETS_LEAST = 20 /* videos on each side */
};
typedef enum FeatureKind { NET_POOL3, NET_I3D } FeatureKind;
/* is_frames, or with `mean` is_clip: of each video's mean distribution. */
WEFT_MUST_CHECK int net_put_score(JsonWriter *w, const NetFeatures *f, int mean, uint64_t seed, Err *err);
/* Frechet and kernel distance to the references (NULL: said), under these two keys. */
WEFT_MUST_CHECK int net_put_distances(JsonWriter *w, const NetFeatures *f, const NetFeatures *references,
                                      FeatureKind which, const char *frechet, const char *kernel, uint64_t seed,
                                      Err *err);
#endif
