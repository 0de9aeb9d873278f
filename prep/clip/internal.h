/* Shared by the files of the clip pipeline: what is known of one clip while it is worked on, and
 * its JSON. */
#ifndef WEFT_PREP_CLIP_INTERNAL_H
#define WEFT_PREP_CLIP_INTERNAL_H
#include "prep/clip/choose.h"
#include "prep/clip/clip.h"
#include "prep/clip/frames.h"

typedef struct Scan {
    VideoInfo info;
    VideoCounts counts;
    Rational *times;
    uint8_t *damaged;
    int64_t n, cap, assumed;
    double clock_s; /* the last frame's time on the container's clock */
    /* frames decoded when the rest, after the first window, was told by its packets; 0: all were */
    int64_t skimmed;
    int64_t first, used; /* the part between Source.start and Source.end: frames first .. first + used - 1 */
} Scan;

/* Pictures made while the source was scanned: those the first window chooses, so that it need not
 * be decoded again. */
typedef struct Early {
    FitPlan fit;
    uint8_t *rgb;    /* [n,height,width,3] */
    int64_t *index;  /* [n] source frames, increasing */
    int64_t n, next; /* next: output frame to be chosen */
    int off;         /* none are made */
    Rational origin, last;
    int64_t last_index; /* the frame held, -1 none */
} Early;

typedef struct Work {
    const PrepConfig *cfg;
    const Source *src;
    const char *out_dir;
    /* of the window that is worked on: the source's, with "#k" where the recipe takes several */
    char id[SOURCE_ID_MAX + 16];
    int several;
    char *path;    /* of the source, as opened */
    Rational rate; /* of numbered pictures */
    char key[65];
    Scan scan;
    Early early;
    /* x, y, width, height of the upright picture that is fitted: Source.crop without bars; width 0:
     * all */
    int64_t part[4];
    int64_t bars[4]; /* cut away left, right, top, bottom */
    FitPlan fit;
    Pick *picks; /* [cfg->frames] */
    int64_t points, start, held;
    int64_t *starts, windows, window; /* grid points of the windows; which one is worked on */
    int again;                        /* it must be done again from the beginning, with everything decoded */
    int moved;                        /* the window is not where the recipe would have it */
    json_t *record;                   /* the result, filled step by step */
} Work;

/* What a source's facts and the part of it that is used say of the plan; hdr: it must be
 * tone-mapped.  0, or 1: it would be rejected. */
int clip_plan(const PrepConfig *cfg, const int64_t part[4], const VideoInfo *v, FitPlan *plan, int *hdr);
/* While scanning: each frame in order, before the next is read, then the end. */
int early_frame(Work *w, FrameReader *r, const FrameMark *m, Err *err);
int early_end(Work *w, FrameReader *r, Err *err);
void early_fini(Early *e);

/* Each step: 0 go on, 1 rejected (decision and reason are in the record), negative: the run cannot
 * go on. */
int clip_scan(Work *w, Err *err);
int clip_judge(Work *w, Err *err);
/* What is wrong with the window's frames. */
int clip_judge_window(Work *w, Err *err);
/* Puts the window at grid point `start`: picks, and the record's window, ledger and timing. */
int clip_window(Work *w, int64_t start, Err *err);
/* Measures the window's pictures and writes them when they are good enough; may move the window
 * once. */
int clip_make(Work *w, Err *err);

int clip_reject(Work *w, Err *err, Reason reason, const char *fmt, ...) WEFT_PRINTF(4, 5);
int clip_warn(Work *w, Err *err, Reason reason, const char *fmt, ...) WEFT_PRINTF(4, 5);
/* A source's failure becomes a rejection for `reason` with its sentence (ERR_LIMIT: limit,
 * ERR_UNSUPPORTED: unsupported, ERR_IO: unreadable); memory and interruption stay errors. */
int clip_reject_error(Work *w, Err *err, int rc, const Err *cause, Reason reason);
/* Sets a member of the record; takes the value over. */
int clip_put(Work *w, const char *key, json_t *value, Err *err);

/* The decoder's share of the recipe's limits; the process it runs in has the others. */
VideoLimits clip_limits(const PrepConfig *cfg);

json_t *clip_rational_json(Rational r);
json_t *clip_probe_json(const Scan *s);
/* bars NULL: they were not looked for. */
json_t *clip_geometry_json(const FitPlan *p, const int64_t bars[4]);
json_t *clip_ledger_json(const Pick *picks, int64_t n);
/* n: without those that are held. */
json_t *clip_timing_json(const Pick *picks, int64_t n);
/* How far an output frame may be from the source frame that stands for it, s (dataset.md 6.5). */
double clip_time_limit(const Work *w);

/* The picture for the report: PREPARED/thumbs/ID.png, named by the record's `contact`. */
typedef struct Contact Contact;
/* For pictures of this size or shape. */
int contact_open(Contact **out, int64_t width, int64_t height, Err *err);
/* Picture k of n; taken when it is the first, the middle or the last. */
void contact_add(Contact *t, int64_t k, int64_t n, const uint8_t *rgb, int64_t width, int64_t height);
int contact_write(const Contact *t, Work *w, Err *err);
void contact_close(Contact **t);
/* For a source that was rejected before output frames were made: of its own frames, where they can
 * be decoded. */
int contact_of_source(Work *w, Err *err);
#endif
