/* The videos that evaluate and compare measure, and what is known about each.
 *
 * An argument is
 *   a folder with index.json (schemas/sample-index), as weft-infer sample leaves it: its samples;
 *   any other folder: every video below it, in the order of their paths; a sample's record (STEM.json,
 *     schemas/sample) beside a video tells its prompt, seed and category.  Names that begin with a dot,
 *     links to folders and a sample's STEM.gif and STEM.webp beside its STEM.mp4 are left out;
 *   an index.json by name;
 *   a list, FILE.txt: one path a line, relative to the list;
 *   a list, FILE.jsonl: one object a line (schemas/video-list): {"video": path, "id", "prompt", "seed",
 *     "category"}, all but the path optional;
 *   any other file: one video. */
#ifndef WEFT_INFER_VIDEOS_H
#define WEFT_INFER_VIDEOS_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/args.h"
#include "common/base/log.h"

typedef struct VideoItem {
    char *path;     /* to open */
    char *id;       /* of the sample, else the path below the argument without its ending */
    char *prompt;   /* NULL: not known */
    char *category; /* NULL: none */
    int64_t seed;   /* -1: not known */
} VideoItem;

typedef struct VideoList {
    VideoItem *item;
    int64_t n, room;
} VideoList;

/* All videos of the arguments, in their order; none of them is opened.  ERR_NOTFOUND for an argument that does
 * not exist, ERR_USAGE when there are no videos at all (`what` names them: "videos", "references").  Free with
 * videos_fini, also on failure. */
WEFT_MUST_CHECK int videos_read(VideoList *out, const StrList *arguments, const char *what, Err *err);
/* Leaves out files that were in the list before, whatever their names for it: counted twice, one would narrow the
 * intervals.  Warns if there are any; `what` as above. */
WEFT_MUST_CHECK int videos_once(VideoList *v, const char *what, const Log *log, Err *err);
/* Gives prompts and categories to the videos whose id (or its last component) is that of a line of the file
 * (infer/prompts.h).  Warns about videos without one; ERR_USAGE when no id is found at all. */
WEFT_MUST_CHECK int videos_take_prompts(VideoList *v, const char *file, const Log *log, Err *err);
/* The sample's record (schemas/sample) beside a video: *out, for json_decref, or NULL when there is none.  A file of
 * another kind is none. */
WEFT_MUST_CHECK int video_record(const char *path, json_t **out, Err *err);
void videos_fini(VideoList *v);
void video_item_fini(VideoItem *v);
#endif
