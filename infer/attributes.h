/* Does a video show what its prompt asks for?  CLIP chooses among the values of an attribute (its fabric,
 * colour, ...); the truth is the one value whose words stand in the prompt.  Which attributes and values:
 * schemas/attributes. */
#ifndef WEFT_INFER_ATTRIBUTES_H
#define WEFT_INFER_ATTRIBUTES_H
#include <jansson.h>
#include "infer/clip_score.h"

typedef struct Attribute {
    const char *name; /* borrowed from the JSON */
    int64_t n;        /* values */
    float *vector;    /* [n, width]: of each value, of length 1 */
    int64_t *right;   /* [n] videos of this truth that were judged right */
    int64_t *shown;   /* [n] videos of this truth */
} Attribute;

typedef struct Attributes {
    json_t *json; /* the lists */
    Attribute *attribute;
    int64_t n, width;
} Attributes;

/* path: a file (schemas/attributes), or NULL for the default lists.  attributes_fini in every case. */
WEFT_MUST_CHECK int attributes_open(Attributes *a, const char *path, ClipScorer *s, Err *err);
void attributes_fini(Attributes *a);
/* The value of attribute k that a prompt asks for: the only one whose words it has, as whole words whatever
 * their case; -1 for none or several. */
int64_t attributes_truth(const Attributes *a, int64_t k, const char *prompt);
/* The value that is nearest to a video's vector, and its share of the softmax. */
int64_t attributes_judge(const Attributes *a, int64_t k, const float *video, double scale, double *share);
/* Counts a video with this prompt; NULL: nothing is known of it. */
void attributes_count(Attributes *a, const char *prompt, const float *video);
/* {"fabric": {"n", "accuracy", "low", "high" (Wilson, 95 %), "macro", "chance", "majority"}, ...}, and
 * "mean" of the accuracies of those that have videos. */
json_t *attributes_json(const Attributes *a, Err *err);
#endif
