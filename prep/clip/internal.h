/* Shared by the files of prep/clip: the values that are handed from step to step.
 *
 *   scan_source(job, mode) -> Scan      times, damage and facts of the whole source        scan.c
 *   plan_windows(job, scan) -> WindowPlan   which part is fitted how, where windows begin  plan.c
 *   make_window(job, scan, plan, k) -> ClipResult   pictures, judged and written           make.c
 *   clip_json(job, result)              the record, written at the end                     json.c
 *
 * A step returns 0 or a negative code; negative: the run cannot go on (no memory, the output cannot
 * be written).  What is wrong with the source is a Rejection in the step's value, and the steps
 * after it are left out. */
#ifndef WEFT_PREP_CLIP_INTERNAL_H
#define WEFT_PREP_CLIP_INTERNAL_H
#include "common/base/hash.h"
#include "prep/clip/choose.h"
#include "prep/clip/clip.h"
#include "prep/clip/frames.h"
#include "prep/picture/evening.h"

/* One source and how it is processed. */
typedef struct ClipJob {
    const PrepConfig *cfg;
    const Source *src;
    const char *out_dir; /* the dataset's folder; NULL: nothing is written */
    char *path;          /* of the source, as opened */
    Rational rate;       /* of numbered pictures */
} ClipJob;

/* ---- verdicts (verdict.c) -------------------------------------------------------------------- */
typedef struct Rejection {
    Reason code;
    char text[ERR_MSG_MAX]; /* "": not rejected */
} Rejection;
typedef struct Note {
    Reason code;
    char *text;
} Note;
typedef struct Notes {
    Note *item;
    int64_t n, cap;
} Notes;

int is_rejected(const Rejection *r);
/* The sentence names the source by its path in the source folder, also where a message of a library
 * named it by the path it was opened with. */
void reject(const ClipJob *job, Rejection *r, Reason code, const char *fmt, ...) WEFT_PRINTF(4, 5);
/* A source's failure becomes a rejection with the failure's sentence; the reason is `code`, except for
 * ERR_LIMIT (limit), ERR_UNSUPPORTED (unsupported) and ERR_IO (unreadable).  Lack of memory and
 * interruption stay errors and are returned. */
WEFT_MUST_CHECK int reject_error(const ClipJob *job, Rejection *r, int rc, const Err *cause, Reason code, Err *err);
WEFT_MUST_CHECK int note_add(Notes *n, Err *err, Reason code, const char *fmt, ...) WEFT_PRINTF(4, 5);
int notes_have(const Notes *n, Reason code);
void notes_remove(Notes *n, Reason code);
void notes_fini(Notes *n);

/* ---- identity (identity.c) ------------------------------------------------------------------- */
typedef struct ClipIdentity {
    int64_t size;    /* bytes; -1: could not be read */
    char sha256[65]; /* ""; could not be read */
    char key[65];    /* of everything that shapes the clip */
    char entry[256]; /* SourceIdentity.entry */
    int hashed;      /* the source was read for it */
    Rejection rejected;
} ClipIdentity;

WEFT_MUST_CHECK int clip_identify(const ClipJob *job, ClipIdentity *out, Err *err);
/* The key of a source with these bytes. */
WEFT_MUST_CHECK int clip_key(const ClipJob *job, const char *sha256, char key[65], Err *err);

/* ---- the first pass (scan.c, early.c) -------------------------------------------------------- */
/* Pictures made while the source is scanned: those the first window chooses, so that it need not be
 * decoded again. */
typedef struct Early {
    FitPlan fit;
    uint8_t *rgb;    /* [n,height,width,3] */
    int64_t *index;  /* [n] source frames, increasing */
    int64_t n, next; /* next: output frame to be chosen */
    int off;         /* no early pictures are made */
    Rational origin, last;
    int64_t last_index; /* the frame held, -1 none */
} Early;

/* How a scan treats the frames after the first window, and those in it that are not chosen. */
typedef enum ScanMode {
    SCAN_THIN, /* as SCAN_SKIM, and passes over those that no other frame needs */
    SCAN_SKIM, /* reads the packets of those after it only, where that gives exact times */
    SCAN_FULL  /* decodes every frame */
} ScanMode;

typedef struct Scan {
    int opened; /* info and counts are known */
    VideoInfo info;
    VideoCounts counts;
    Rational *times;
    uint8_t *damaged;
    int64_t n, cap, assumed;
    double clock_s;      /* the last frame's time by the container's timestamps */
    Rational first_time; /* the first frame's time on the file's clock */
    Rational from, to;   /* Source.start and Source.end, counted from the first frame; den 0: no limit */
    /* frames decoded when the rest, after the first window, was skimmed; 0: all were decoded */
    int64_t skimmed;
    int64_t first, used; /* the part between Source.start and Source.end: frames first .. first + used - 1 */
    Early early;
    int64_t gaps, first_gap; /* gaps in an otherwise even rate; the frame before the first */
    ScanMode mode;
    int thin;         /* frames may have been passed over */
    int restart_full; /* skimming was not exact; scan again with SCAN_FULL */
    Notes notes;
    Rejection rejected;
} Scan;

WEFT_MUST_CHECK int scan_source(const ClipJob *job, ScanMode mode, Scan *out, Err *err);
void scan_fini(Scan *s);
/* Sets s->gaps and s->first_gap. */
WEFT_MUST_CHECK int scan_find_gaps(Scan *s, Err *err);
/* Adds a note when there are signs that frames of the source are missing.  span: its length in
 * seconds. */
WEFT_MUST_CHECK int scan_note_missing(Scan *s, double span, Err *err);
/* The times of the used part. */
const Rational *scan_times(const Scan *s);

/* While scanning: whether pictures are made at all, each frame in order before the next is read, and
 * the end of the source. */
void early_begin(const ClipJob *job, Early *e);
WEFT_MUST_CHECK int early_frame(const ClipJob *job, Scan *s, FrameReader *r, const FrameMark *m, Err *err);
WEFT_MUST_CHECK int early_end(const ClipJob *job, Early *e, FrameReader *r, Err *err);
void early_fini(Early *e);

/* ---- the plan (plan.c, fit.c) ---------------------------------------------------------------- */
typedef struct WindowPlan {
    int fitted; /* part, bars and fit are known */
    /* x, y, width, height of the upright picture that is fitted: Source.crop without bars; width 0:
     * all */
    int64_t part[4];
    int64_t bars[4]; /* cut away left, right, top, bottom */
    FitPlan fit;
    int64_t points, held;     /* grid points of the used part; last output frames that repeat a picture */
    int64_t *starts, windows; /* [windows] grid points where windows begin */
    Notes notes;
    Rejection rejected;
} WindowPlan;

WEFT_MUST_CHECK int plan_windows(const ClipJob *job, const Scan *scan, WindowPlan *out, Err *err);
void plan_fini(WindowPlan *p);
/* From the facts known before decoding: how the part is fitted, or why it cannot be. */
void fit_judge(const ClipJob *job, const VideoInfo *v, const int64_t part[4], FitPlan *fit, Rejection *rejected);
/* Looks for black bars and takes them off plan->part and plan->fit. */
WEFT_MUST_CHECK int fit_trim_bars(const ClipJob *job, const Scan *scan, WindowPlan *plan, Err *err);

/* ---- a window (make.c, pass.c, contact.c) ---------------------------------------------------- */
typedef struct ClipResult {
    char id[SOURCE_ID_MAX + 16]; /* the source's, with "#k" where the recipe takes several windows */
    const ClipIdentity *identity;
    const Scan *scan;       /* NULL: not scanned */
    const WindowPlan *plan; /* NULL: not planned */
    int placed;             /* the window is known: index, start, start_time and picks */
    int64_t index, start;   /* start: grid point */
    Rational start_time;
    Pick *picks; /* [cfg->frames] */
    char **captions;
    int64_t n_captions;
    int moved;  /* the window does not begin where clip.window puts it */
    int evened; /* evening is known */
    Evening evening;
    int measured; /* figures, verdict and duplicates are known */
    FrameFigures *figures;
    Verdict verdict;
    int64_t duplicates;   /* output frames that show the same source frame as the one before */
    char *contact, *file; /* in the dataset's folder; NULL: not written */
    int64_t file_bytes;
    char pixels_sha256[65];
    int restart_full; /* another window is wanted and the scan skimmed: scan again with SCAN_FULL */
    Notes notes;
    Rejection rejected;
} ClipResult;

/* For a window, or (scan or plan NULL, or either rejected) for the source as a whole. */
void result_begin(ClipResult *r, const ClipJob *job, const ClipIdentity *id, const Scan *scan, const WindowPlan *plan);
void result_fini(ClipResult *r);
/* The captions for the seconds start to end of the source; none: a note, or a rejection unless it is
 * rejected already. */
WEFT_MUST_CHECK int result_captions(ClipResult *r, const ClipJob *job, double start_s, double end_s, Err *err);
/* The picture for the report of a source that was rejected before its own were made. */
WEFT_MUST_CHECK int result_contact(ClipResult *r, const ClipJob *job, Err *err);
/* Rejects a window with these times [n] when it has fewer frames a second than clip.min_fps. */
void window_judge_rate(const ClipJob *job, const Rational *times, int64_t n, Rejection *r);
/* Rejects a window for a hole, or for a rate that comes and goes: an output frame of picks[n] that is
 * further than 1/16 s and half of the window's mean period from its source frame.  Returns that output
 * frame, -1 when there is none. */
int64_t window_judge_times(const ClipJob *job, const Pick *picks, int64_t n, Rejection *r);
/* Measures the whole source for the clean window nearest to the result's: *start, -1 when there is
 * none. */
WEFT_MUST_CHECK int window_survey(const ClipJob *job, ClipResult *r, int64_t *start, Err *err);
/* Window `index` of the plan. */
WEFT_MUST_CHECK int make_window(const ClipJob *job, const ClipIdentity *id, const Scan *scan, const WindowPlan *plan,
                                int64_t index, ClipResult *out, Err *err);

/* The contact sheet's picture, PREPARED/thumbs/ID.png. */
typedef struct Contact Contact;
/* For pictures of this size or shape. */
WEFT_MUST_CHECK int contact_open(Contact **out, int64_t width, int64_t height, Err *err);
/* Picture k of n; kept when it is the first, the middle or the last. */
void contact_add(Contact *t, int64_t k, int64_t n, const uint8_t *rgb, int64_t width, int64_t height);
/* *file: its name in the dataset's folder. */
WEFT_MUST_CHECK int contact_write(const Contact *t, const char *out_dir, const char *id, char **file, Err *err);
void contact_close(Contact **t);
/* Of the source's own frames, whole; *file NULL where none could be decoded. */
WEFT_MUST_CHECK int contact_of_source(const ClipJob *job, const Scan *scan, const char *id, char **file, Err *err);

/* The chosen frames of a source as pixels, one after another: measured, and written when `out` is
 * set between pass_open and pass_run. */
typedef struct Pass {
    const ClipJob *job;
    const Scan *scan;
    const FitPlan *fit;
    const Pick *picks; /* [n] */
    int64_t n, k;      /* output frames wanted, made */
    VideoWriter *out;  /* NULL: only measured */
    Contact *contact;  /* NULL: none */
    Visible *visible;  /* NULL: not looked for */
    uint8_t *rgb;      /* [height,width,3] */
    int64_t bytes;
    Meter *meter;
    FrameFigures *figures; /* [n] */
    Sha256 sha;
    int64_t duplicates;
    Evening *measured;   /* not NULL: the pictures are only measured for it */
    const Evening *even; /* not NULL: applied to every picture */
    Rejection rejected;
} Pass;
WEFT_MUST_CHECK int pass_open(Pass *p, const ClipJob *job, const Scan *scan, const FitPlan *fit, const Pick *picks,
                              int64_t n, Err *err);
WEFT_MUST_CHECK int pass_run(Pass *p, Err *err);
void pass_close(Pass *p);

/* ---- the record (json.c, reuse.c) ------------------------------------------------------------ */
/* The manifest's members that a clip's processing gives, for prep/set/record.h; clip_process lists
 * them. */
WEFT_MUST_CHECK int clip_json(const ClipJob *job, const ClipResult *r, json_t **out, Err *err);
/* *out: the records of an earlier run when all its results for the source are still valid; NULL
 * otherwise.
 * prior: its manifest lines, valid, or NULL. */
WEFT_MUST_CHECK int clip_reuse(const ClipJob *job, const ClipIdentity *id, const json_t *prior, json_t **out, Err *err);

/* The recipe's limits that the decoder enforces; the others are limits of its process. */
VideoLimits clip_limits(const PrepConfig *cfg);
#endif
