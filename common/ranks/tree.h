/* The fixed tree that sums a step's samples: which sums are made depends on their number alone, not
 * on how many ranks share them.
 *
 * Leaf i is sample i of n.  Node (level, index) covers the leaves [index 2^level, (index+1) 2^level)
 * that exist; its sum is that of its two children, or of the left one where the right one has no
 * leaves.  A sum of two floats does not depend on their order, so neither does the tree's.
 *
 * A rank that has a contiguous part of the leaves adds what it can: it ends with the sums of the
 * largest nodes that lie in its part, at most 2 log2 n of them.  reducer.c joins those of all ranks. */
#ifndef WEFT_COMMON_RANKS_TREE_H
#define WEFT_COMMON_RANKS_TREE_H
#include <stdint.h>

typedef struct TreeNode {
    int level;
    int64_t index;
} TreeNode;
enum { TREE_DEPTH = 128 };

/* One rank's leaves [next, last) still to come, and the nodes it holds, from left to right. */
typedef struct Tree {
    int64_t leaves, next, last;
    TreeNode held[TREE_DEPTH];
    int n_held;
} Tree;

void tree_begin(Tree *t, int64_t leaves, int64_t first, int64_t last);
/* Leaf t->next (below t->last) was computed.  Returns how many of the nodes held so far are added to
 * it, the last one first; the sum is then held at place t->n_held - 1. */
int tree_add(Tree *t);
/* The place of a node that the rank holds, or -1. */
int tree_find(const Tree *t, TreeNode node);
/* The most nodes held at one time before the last leaf of [first, last) is computed: so many arrays
 * are needed beside the one that a leaf is computed in. */
int tree_places(int64_t leaves, int64_t first, int64_t last);
TreeNode tree_root(int64_t leaves);
TreeNode tree_child(TreeNode node, int right);
/* The leaves [*first, *last) of a node; none: *first >= *last. */
void tree_span(TreeNode node, int64_t leaves, int64_t *first, int64_t *last);
#endif
