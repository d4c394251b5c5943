/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The copy-on-write index: a radix tree of private pages whose nodes are
 * shared between trees, as the pages are.
 *
 * Sharing a whole tree is one reference on its root. Before a slot is
 * written, every node on the path that has more than one owner is duplicated
 * (path copying). An empty slot stands for the page of the pool below.
 *
 * A page is *exclusive* to a tree when one leaf slot points to it and no node
 * on the path to that slot is shared: nobody else can reach it, so it may be
 * written in place.
 *
 * A slot is *granted* when its page may stand writable in page tables. Only
 * exclusive pages are granted, and cow_tree_revoke() must take all grants
 * back when a tree is shared. Hence a shared node never holds a grant, and
 * both sharing and revoking cost what was written since the last time, not
 * what the tree holds.
 *
 * Locking: the owner of a struct cow_tree serialises all calls on it. Trees
 * that share nodes need no common lock: a node with several owners is never
 * modified, and reference counts are atomic.
 */
#ifndef COWPOOL_TREE_H
#define COWPOOL_TREE_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/mm_types.h>
#include <linux/refcount.h>
#include <linux/types.h>

#define COW_NODE_SHIFT	6
#define COW_NODE_SLOTS	BIT(COW_NODE_SHIFT)
#define COW_NODE_MASK	(COW_NODE_SLOTS - 1)
/* Enough for 2^36 pages. */
#define COW_TREE_LEVELS	6

/**
 * struct cow_node - a node of the index
 * @refs: one for each slot of a parent node, and each root, that points here
 * @granted: bit n set: slot n is granted (in a leaf), or the subtree below
 *	slot n may hold a grant. Zero in whatever a second owner can see, and
 *	guarded by the owner's lock
 * @populated: bit n set: slot n holds something
 * @slot: in a leaf pages, above child nodes; anything where there are none: many
 *	nodes hold little, and are not cleared. Like @populated, immutable while
 *	@refs is above one, else guarded by the owner's lock
 */
struct cow_node {
	refcount_t refs;
	u64 granted;
	u64 populated;
	void *slot[COW_NODE_SLOTS];
};

/**
 * struct cow_path - the nodes that lead to one slot, as far as nobody shares them
 * @node: the nodes by level, the leaf at 0. Valid until the tree is modified
 * @index: the slot's index
 * @own: the lowest level in @node: nobody else has a node from there up. The
 *	tree's number of levels if there is no such node
 * @exclusive: there is a page in the slot, and it is exclusive
 */
struct cow_path {
	struct cow_node *node[COW_TREE_LEVELS];
	unsigned long index;
	unsigned int own;
	bool exclusive;
};

/**
 * struct cow_tree - one owner's view of an index
 * @root: topmost node, or NULL for an empty tree. Holds a reference
 * @levels: nodes from the root to a leaf, fixed by the size of the pool
 * @last: the path that was last made the tree's own, which it is still if @own
 *	there is 0. Writes come in clusters: most need not walk
 */
struct cow_tree {
	struct cow_node *root;
	unsigned int levels;
	struct cow_path last;
};

/* The longest run of indices that is told of as one. */
#define COW_RUN_MAX	512

/**
 * typedef cow_run_fn - called for a run of indices
 * @first: first index
 * @nr: number of indices; the next run touches this one only if it is COW_RUN_MAX
 * @arg: the caller's
 *
 * Return: 0 to go on, anything else to stop with that value.
 */
typedef int (*cow_run_fn)(unsigned long first, unsigned long nr, void *arg);

int cow_tree_setup(void);
void cow_tree_teardown(void);
unsigned long cow_tree_nodes(void);

void cow_tree_init(struct cow_tree *tree, unsigned long nr_pages);
void cow_tree_share(struct cow_tree *to, const struct cow_tree *from);
void cow_tree_drop(struct cow_tree *tree);

struct page *cow_tree_lookup(const struct cow_tree *tree, unsigned long index,
			     struct cow_path *path);
bool cow_tree_populated(const struct cow_tree *tree, unsigned long first,
			unsigned long last);
bool cow_tree_full(const struct cow_tree *tree, unsigned long first,
		   unsigned long last);
int cow_tree_unshare(struct cow_tree *tree, struct cow_path *path, gfp_t gfp);
void cow_path_grant(struct cow_tree *tree, struct cow_path *path);
int cow_tree_walk_grants(const struct cow_tree *tree, cow_run_fn fn,
			 void *arg);
void cow_tree_revoke(struct cow_tree *tree);
int cow_tree_diff(const struct cow_tree *a, const struct cow_tree *b,
		  unsigned long first, unsigned long last, cow_run_fn fn,
		  void *arg);
int cow_tree_restore(struct cow_tree *tree, const struct cow_tree *from,
		     unsigned long first, unsigned long last, gfp_t gfp);

/**
 * cow_tree_empty() - is there no page in a tree at all?
 * @tree: the tree
 */
static inline bool cow_tree_empty(const struct cow_tree *tree)
{
	return !tree->root;
}

static inline void cow_node_set(struct cow_node *node, unsigned int i, void *entry)
{
	node->slot[i] = entry;
	node->populated |= BIT_ULL(i);
}

/**
 * cow_path_set() - put a page into a slot
 * @path: from cow_tree_unshare()
 * @page: a page after cow_page_init(), whose reference passes to the slot
 *
 * What the slot held before keeps its count: the caller has looked it up and
 * calls cow_page_put() when it is no longer mapped.
 */
static inline void cow_path_set(struct cow_path *path, struct page *page)
{
	cow_node_set(path->node[0], path->index & COW_NODE_MASK, page);
}

/**
 * cow_path_granted() - may the slot's page stand writable in page tables?
 * @path: from cow_tree_lookup()
 */
static inline bool cow_path_granted(const struct cow_path *path)
{
	return !path->own &&
	       path->node[0]->granted & BIT_ULL(path->index & COW_NODE_MASK);
}

/*
 * The number of leaf slots that point to a page lives in its ->private, which
 * belongs to whoever allocated the page.
 */
static inline atomic_long_t *cow_page_slots(struct page *page)
{
	BUILD_BUG_ON(sizeof(page->private) != sizeof(atomic_long_t));
	return (atomic_long_t *)&page->private;
}

/**
 * cow_page_init() - prepare a new page for cow_path_set()
 * @page: an order-0 page that belongs to the caller
 *
 * The page counts one slot: the one that it is about to be put into.
 */
static inline void cow_page_init(struct page *page)
{
	atomic_long_set(cow_page_slots(page), 1);
}

void cow_page_put(struct page *page);

/* Provided by the owner of the pages: the last slots let go of @pages. */
void cow_pages_free(struct page **pages, unsigned int nr);

#endif
