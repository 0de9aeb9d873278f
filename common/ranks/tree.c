#include "common/ranks/tree.h"

TreeNode tree_root(int64_t leaves)
{
    TreeNode root = {0, 0};
    while (((int64_t)1 << root.level) < leaves)
        root.level++;
    return root;
}

TreeNode tree_child(TreeNode node, int right)
{
    return (TreeNode){node.level - 1, 2 * node.index + right};
}

void tree_span(TreeNode node, int64_t leaves, int64_t *first, int64_t *last)
{
    *first = node.index << node.level;
    *last = (node.index + 1) << node.level;
    if (*last > leaves)
        *last = leaves;
}

void tree_begin(Tree *t, int64_t leaves, int64_t first, int64_t last)
{
    t->leaves = leaves;
    t->next = first;
    t->last = last;
    t->n_held = 0;
}

static int is(TreeNode a, int level, int64_t index)
{
    return a.level == level && a.index == index;
}

int tree_add(Tree *t)
{
    TreeNode node = {0, t->next++}, root = tree_root(t->leaves);
    int added = 0;
    while (node.level < root.level) {
        if (node.index % 2) { /* a right child: its sibling may be another rank's */
            if (!t->n_held || !is(t->held[t->n_held - 1], node.level, node.index - 1))
                break;
            t->n_held--;
            added++;
        } else if ((node.index + 1) << node.level < t->leaves) {
            break; /* its sibling is still to come */
        }
        node = (TreeNode){node.level + 1, node.index / 2};
    }
    t->held[t->n_held++] = node;
    return added;
}

int tree_find(const Tree *t, TreeNode node)
{
    for (int i = 0; i < t->n_held; i++)
        if (is(t->held[i], node.level, node.index))
            return i;
    return -1;
}

int tree_places(int64_t leaves, int64_t first, int64_t last)
{
    Tree t;
    int most = 0;
    tree_begin(&t, leaves, first, last);
    while (t.next < last) {
        if (t.n_held > most)
            most = t.n_held;
        tree_add(&t);
    }
    return most;
}
