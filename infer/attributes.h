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
    /* Of videos with this truth, how many there are and were judged right: [2 n], first of the videos, then of
     * the references. */
    int64_t *shown, *right;
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
/* Counts a video, or a reference, with this prompt; NULL: nothing is known of it. */
void attributes_count(Attributes *a, int reference, const char *prompt, const float *video);
/* {"fabric": {"n", "accuracy", "low", "high" (Wilson, 95 %), "macro", "chance", "majority"}, ...}, and
 * "mean" of the accuracies of those that have videos. */
json_t *attributes_json(const Attributes *a, int reference, Err *err);
#endif
