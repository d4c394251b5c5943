// SPDX-License-Identifier: GPL-2.0
/*
 * The copy-on-write index. See tree.h for what it promises.
 *
 * Memory ordering: an owner drops its reference on a node or a page only after
 * it has finished to read it (the decrement is a release), and whoever then
 * finds itself the only owner reads the count with acquire semantics before
 * it writes in place.
 */
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "tree.h"

static struct kmem_cache *node_cache;
static atomic_long_t nr_nodes;

/**
 * cow_tree_setup() - get ready to make nodes
 *
 * Return: 0 or -ENOMEM.
 */
int cow_tree_setup(void)
{
	node_cache = kmem_cache_create("cowpool_node", sizeof(struct cow_node),
				       0, SLAB_ACCOUNT, NULL);
	return node_cache ? 0 : -ENOMEM;
}

/**
 * cow_tree_teardown() - undo cow_tree_setup(), when every tree is dropped
 */
void cow_tree_teardown(void)
{
	kmem_cache_destroy(node_cache);
}

/**
 * cow_tree_nodes() - number of nodes allocated now, in all trees
 */
unsigned long cow_tree_nodes(void)
{
	return atomic_long_read(&nr_nodes);
}

/**
 * cow_page_put() - drop one leaf slot's reference on a page
 * @page: the page
 *
 * Calls cow_pages_free() when it was the last one. From here on other owners
 * may write the page in place, so no page table of the caller may map it.
 */
void cow_page_put(struct page *page)
{
	if (atomic_long_dec_and_test(cow_page_slots(page)))
		cow_pages_free(&page, 1);
}

static bool page_is_sole(struct page *page)
{
	return atomic_long_read_acquire(cow_page_slots(page)) == 1;
}

static bool node_is_sole(struct cow_node *node)
{
	if (refcount_read(&node->refs) != 1)
		return false;
	/* Pairs with the release in node_put() or node_drop() before us. */
	smp_acquire__after_ctrl_dep();
	return true;
}

static struct cow_node *node_alloc(gfp_t gfp)
{
	struct cow_node *node = kmem_cache_alloc(node_cache, gfp);

	/* Most nodes hold little: slots are left as they are. */
	if (node) {
		refcount_set(&node->refs, 1);
		node->granted = 0;
		node->populated = 0;
		atomic_long_inc(&nr_nodes);
	}
	return node;
}

/* What a slot holds, a page or a node, or NULL. */
static void *node_entry(const struct cow_node *node, unsigned int i)
{
	return node->populated & BIT_ULL(i) ? node->slot[i] : NULL;
}

/**
 * struct page_batch - pages that nobody has any more
 * @nr: how many
 * @page: they; one by one they would cost much more to free
 */
struct page_batch {
	unsigned int nr;
	struct page *page[16];
};

static void page_batch_flush(struct page_batch *batch)
{
	if (batch->nr)
		cow_pages_free(batch->page, batch->nr);
	batch->nr = 0;
}

/* As cow_page_put(), but the page may be freed later. */
static void page_put(struct page *page, struct page_batch *batch)
{
	if (!atomic_long_dec_and_test(cow_page_slots(page)))
		return;
	if (batch->nr == ARRAY_SIZE(batch->page))
		page_batch_flush(batch);
	batch->page[batch->nr++] = page;
}

static void node_put(struct cow_node *node, unsigned int level,
		     struct page_batch *batch);

static void node_free(struct cow_node *node, unsigned int level,
		      struct page_batch *batch)
{
	u64 left = node->populated;

	for (; left; left &= left - 1) {
		void *entry = node->slot[__ffs64(left)];

		if (level)
			node_put(entry, level - 1, batch);
		else
			page_put(entry, batch);
	}
	kmem_cache_free(node_cache, node);
	atomic_long_dec(&nr_nodes);
	if (level)
		cond_resched();
}

static void node_put(struct cow_node *node, unsigned int level,
		     struct page_batch *batch)
{
	if (refcount_dec_and_test(&node->refs))
		node_free(node, level, batch);
}

/* One reference on a node goes, and all that goes with it. */
static void node_drop(struct cow_node *node, unsigned int level)
{
	if (refcount_dec_and_test(&node->refs)) {
		struct page_batch batch;

		batch.nr = 0;
		node_free(node, level, &batch);
		page_batch_flush(&batch);
	}
}

/* A second node with the same children, for one of @node's owners. */
static struct cow_node *node_dup(const struct cow_node *node,
				 unsigned int level, gfp_t gfp)
{
	struct cow_node *copy = node_alloc(gfp);
	u64 left = node->populated;

	if (!copy)
		return NULL;
	copy->populated = left;
	for (; left; left &= left - 1) {
		unsigned int i = __ffs64(left);
		void *child = node->slot[i];

		copy->slot[i] = child;
		if (level)
			refcount_inc(&((struct cow_node *)child)->refs);
		else
			atomic_long_inc(cow_page_slots(child));
	}
	return copy;
}

static unsigned int slot_of(unsigned long index, unsigned int level)
{
	return (index >> (level * COW_NODE_SHIFT)) & COW_NODE_MASK;
}

/* Indices below one slot of a node at @level. */
static unsigned long slot_span(unsigned int level)
{
	return 1UL << (level * COW_NODE_SHIFT);
}

/* The path that was last made the tree's own may not be that any more. */
static void last_forget(struct cow_tree *tree)
{
	tree->last.own = tree->levels;
}

/* Is @index in the leaf that was last made the tree's own? */
static bool last_covers(const struct cow_tree *tree, unsigned long index)
{
	return !tree->last.own &&
	       !((tree->last.index ^ index) >> COW_NODE_SHIFT);
}

/**
 * cow_tree_init() - make an empty tree
 * @tree: to be initialised
 * @nr_pages: number of indices, at least 1
 */
void cow_tree_init(struct cow_tree *tree, unsigned long nr_pages)
{
	unsigned int levels = 1;

	while (levels < COW_TREE_LEVELS && nr_pages > slot_span(levels))
		levels++;
	tree->root = NULL;
	tree->levels = levels;
	last_forget(tree);
}

/**
 * cow_tree_share() - make a second tree with the same content
 * @to: an empty tree of the same size
 * @from: the tree to share. cow_tree_revoke() must come before it is written
 *	again
 *
 * Takes constant time and cannot fail.
 */
void cow_tree_share(struct cow_tree *to, const struct cow_tree *from)
{
	last_forget(to);
	to->root = from->root;
	if (to->root)
		refcount_inc(&to->root->refs);
}

/**
 * cow_tree_drop() - let go of everything in a tree
 * @tree: is empty afterwards
 *
 * Context: may sleep. No page table may map what the tree held.
 */
void cow_tree_drop(struct cow_tree *tree)
{
	if (tree->root)
		node_drop(tree->root, tree->levels - 1);
	tree->root = NULL;
	last_forget(tree);
}

/**
 * cow_tree_lookup() - find the page at an index
 * @tree: the tree
 * @index: the index
 * @path: NULL, or to be filled in
 *
 * Return: the page, or NULL where the slot is empty.
 */
struct page *cow_tree_lookup(const struct cow_tree *tree, unsigned long index,
			     struct cow_path *path)
{
	unsigned int level = tree->levels;
	void *entry = tree->root;
	bool sole = path;

	if (path)
		path->own = level;
	if (last_covers(tree, index)) {
		if (path)
			*path = tree->last;
		entry = node_entry(tree->last.node[0], slot_of(index, 0));
		level = 0;
	}
	while (entry && level--) {
		struct cow_node *node = entry;

		sole = sole && node_is_sole(node);
		if (sole) {
			path->node[level] = node;
			path->own = level;
		}
		entry = node_entry(node, slot_of(index, level));
	}
	if (path) {
		path->index = index;
		path->exclusive = !path->own && entry && page_is_sole(entry);
	}
	return entry;
}

/*
 * The slots of a node, whose first index is @base, that a range touches, as a
 * bitmap. It touches some.
 */
static u64 slots_touched(unsigned int level, unsigned long base,
			 unsigned long first, unsigned long last)
{
	unsigned long from = first > base ? (first - base) / slot_span(level) : 0;
	unsigned long to = min((last - base) / slot_span(level),
			       COW_NODE_SLOTS - 1);

	return GENMASK_ULL(to, from);
}

static bool node_populated(struct cow_node *node, unsigned int level,
			   unsigned long base, unsigned long first,
			   unsigned long last)
{
	u64 left = node->populated & slots_touched(level, base, first, last);

	if (!level)
		return left;
	for (; left; left &= left - 1) {
		unsigned int i = __ffs64(left);

		if (node_populated(node->slot[i], level - 1,
				   base + i * slot_span(level), first, last))
			return true;
	}
	return false;
}

static bool node_full(struct cow_node *node, unsigned int level,
		      unsigned long base, unsigned long first,
		      unsigned long last)
{
	u64 left = slots_touched(level, base, first, last);

	if (~node->populated & left)
		return false;
	for (; level && left; left &= left - 1) {
		unsigned int i = __ffs64(left);

		if (!node_full(node->slot[i], level - 1,
			       base + i * slot_span(level), first, last))
			return false;
	}
	return true;
}

/**
 * cow_tree_full() - is there a page at every index of a range?
 * @tree: the tree
 * @first: first index
 * @last: last index
 */
bool cow_tree_full(const struct cow_tree *tree, unsigned long first,
		   unsigned long last)
{
	return tree->root && node_full(tree->root, tree->levels - 1, 0, first,
				       last);
}

/**
 * cow_tree_populated() - is there any page in a range?
 * @tree: the tree
 * @first: first index
 * @last: last index
 *
 * Return: true if any slot from @first to @last holds a page.
 */
bool cow_tree_populated(const struct cow_tree *tree, unsigned long first,
			unsigned long last)
{
	return tree->root && node_populated(tree->root, tree->levels - 1, 0,
					    first, last);
}

/**
 * cow_tree_unshare() - make the path to a slot the tree's own
 * @tree: the tree
 * @path: from cow_tree_lookup(); the tree was not modified since
 * @gfp: how to allocate nodes
 *
 * Adds the nodes that are missing and duplicates those that have other owners.
 *
 * Return: 0, or -ENOMEM with the content of the tree unchanged. @path is of no use
 * then.
 */
int cow_tree_unshare(struct cow_tree *tree, struct cow_path *path, gfp_t gfp)
{
	if (last_covers(tree, path->index))
		return 0;
	while (path->own) {
		unsigned int level = path->own - 1;
		unsigned int i = slot_of(path->index, path->own);
		struct cow_node *above = NULL, *node = tree->root, *own;

		if (path->own < tree->levels) {
			above = path->node[path->own];
			node = node_entry(above, i);
		}
		own = node ? node_dup(node, level, gfp) : node_alloc(gfp);
		if (!own)
			return -ENOMEM;
		if (above)
			cow_node_set(above, i, own);
		else
			tree->root = own;
		if (node)
			node_drop(node, level);
		path->node[level] = own;
		path->own = level;
	}
	tree->last = *path;
	return 0;
}

/**
 * cow_path_grant() - note that the slot's page may stand writable
 * @tree: the tree
 * @path: an exclusive path in it
 */
void cow_path_grant(struct cow_tree *tree, struct cow_path *path)
{
	unsigned int level;

	for (level = 0; level < tree->levels; level++) {
		u64 bit = BIT_ULL(slot_of(path->index, level));

		/* Whoever set it set all above it too. */
		if (path->node[level]->granted & bit)
			break;
		path->node[level]->granted |= bit;
	}
}

/*
 * Joins runs that touch, so that a caller's work per run is done once. Up to a limit:
 * a caller that stops within a run, and goes on behind that, has it walked anew.
 */
struct run {
	unsigned long first;
	unsigned long nr;
	cow_run_fn fn;
	void *arg;
};

static int run_flush(struct run *run)
{
	unsigned long nr = run->nr;

	run->nr = 0;
	return nr ? run->fn(run->first, nr, run->arg) : 0;
}

static int run_add(struct run *run, unsigned long first, unsigned long nr)
{
	int err;

	if (run->nr && run->nr < COW_RUN_MAX && run->first + run->nr == first) {
		run->nr += nr;
		return 0;
	}
	err = run_flush(run);
	run->first = first;
	run->nr = nr;
	return err;
}

static inline int leaf_walk_grants(const struct cow_node *leaf, unsigned long base,
				   struct run *run)
{
	u64 left = leaf->granted;
	int err = 0;

	for (; !err && left; left &= left - 1)
		err = run_add(run, base + __ffs64(left), 1);
	return err;
}

/* A leaf often has one grant only: it is not worth a call. */
static int node_walk_grants(const struct cow_node *node, unsigned int level,
			    unsigned long base, struct run *run)
{
	u64 left = node->granted;
	int err = 0;

	if (!level)
		return leaf_walk_grants(node, base, run);
	for (; !err && left; left &= left - 1) {
		unsigned int i = __ffs64(left);
		unsigned long first = base + i * slot_span(level);

		if (level > 1)
			err = node_walk_grants(node->slot[i], level - 1, first, run);
		else
			err = leaf_walk_grants(node->slot[i], first, run);
		cond_resched();
	}
	return err;
}

/**
 * cow_tree_walk_grants() - call a function for every run of granted slots
 * @tree: the tree
 * @fn: the function. Must not modify the tree
 * @arg: passed to it
 *
 * Return: 0, or what @fn returned to stop.
 */
int cow_tree_walk_grants(const struct cow_tree *tree, cow_run_fn fn,
			 void *arg)
{
	struct run run = { .fn = fn, .arg = arg };
	int err = 0;

	if (tree->root)
		err = node_walk_grants(tree->root, tree->levels - 1, 0, &run);
	return err ?: run_flush(&run);
}

static void node_revoke(struct cow_node *node, unsigned int level)
{
	while (level && node->granted) {
		node_revoke(node->slot[__ffs64(node->granted)], level - 1);
		node->granted &= node->granted - 1;
		cond_resched();
	}
	node->granted = 0;
}

/**
 * cow_tree_revoke() - forget all grants
 * @tree: the tree
 *
 * No entry of a page table lets anybody write to these pages any more.
 */
void cow_tree_revoke(struct cow_tree *tree)
{
	last_forget(tree);
	if (tree->root)
		node_revoke(tree->root, tree->levels - 1);
}

static int node_diff(const struct cow_node *a, const struct cow_node *b,
		     unsigned int level, unsigned long base,
		     unsigned long first, unsigned long last, struct run *run)
{
	u64 left = ((a ? a->populated : 0) | (b ? b->populated : 0)) &
		   slots_touched(level, base, first, last);
	int err = 0;

	for (; !err && left; left &= left - 1) {
		unsigned int i = __ffs64(left);
		unsigned long index = base + i * slot_span(level);
		void *in_a = a ? node_entry(a, i) : NULL;
		void *in_b = b ? node_entry(b, i) : NULL;

		if (in_a == in_b)
			continue;
		if (level) {
			err = node_diff(in_a, in_b, level - 1, index, first,
					last, run);
			cond_resched();
		} else {
			err = run_add(run, index, 1);
		}
	}
	return err;
}

/**
 * cow_tree_diff() - call a function for every run in which two trees differ
 * @a: a tree
 * @b: a tree of the same size
 * @first: first index to look at
 * @last: last index to look at
 * @fn: the function. Must not modify the trees
 * @arg: passed to it
 *
 * What the trees share is skipped as a whole.
 *
 * Return: 0, or what @fn returned to stop.
 */
int cow_tree_diff(const struct cow_tree *a, const struct cow_tree *b,
		  unsigned long first, unsigned long last, cow_run_fn fn,
		  void *arg)
{
	struct run run = { .fn = fn, .arg = arg };
	int err = 0;

	if (a->root != b->root)
		err = node_diff(a->root, b->root, a->levels - 1, 0, first,
				last, &run);
	return err ?: run_flush(&run);
}

/*
 * Makes @entry, a node or page at @level (-1: a page), the same as @from.
 *
 * Return: what is to be in its place.
 */
static void *entry_restore(void *entry, void *from, int level,
			   unsigned long base, unsigned long first,
			   unsigned long last, struct page_batch *batch)
{
	struct cow_node *node = entry;
	struct cow_node *other = from;
	u64 left;

	if (entry == from)
		return entry;
	if (first <= base && last >= base + slot_span(level + 1) - 1) {
		if (from && level < 0)
			atomic_long_inc(cow_page_slots(from));
		else if (from)
			refcount_inc(&other->refs);
		if (entry && level < 0)
			page_put(entry, batch);
		else if (entry)
			node_put(node, level, batch);
		return from;
	}
	left = (node->populated | (other ? other->populated : 0)) &
	       slots_touched(level, base, first, last);
	for (; left; left &= left - 1) {
		unsigned int i = __ffs64(left);
		unsigned long index = base + i * slot_span(level);

		entry = entry_restore(node_entry(node, i),
				      other ? node_entry(other, i) : NULL,
				      level - 1, index, first, last, batch);
		if (entry)
			cow_node_set(node, i, entry);
		else
			node->populated &= ~BIT_ULL(i);
		if (first <= index &&
		    last >= index + slot_span(level) - 1)
			node->granted &= ~BIT_ULL(i);
	}
	return node;
}

/**
 * cow_tree_restore() - make a range the same as in another tree
 * @tree: the tree
 * @from: a tree of the same size, which holds no grant
 * @first: first index
 * @last: last index
 * @gfp: how to allocate nodes
 *
 * The range loses its grants. No page table may map what it held.
 *
 * Return: 0, or -ENOMEM with the content of the tree unchanged.
 */
int cow_tree_restore(struct cow_tree *tree, const struct cow_tree *from,
		     unsigned long first, unsigned long last, gfp_t gfp)
{
	struct page_batch batch;
	struct cow_path path;

	if (tree->root == from->root)
		return 0;
	/* Every node that the range cuts is on one of these two paths. */
	cow_tree_lookup(tree, first, &path);
	if (cow_tree_unshare(tree, &path, gfp))
		return -ENOMEM;
	cow_tree_lookup(tree, last, &path);
	if (cow_tree_unshare(tree, &path, gfp))
		return -ENOMEM;
	last_forget(tree);
	batch.nr = 0;
	tree->root = entry_restore(tree->root, from->root, tree->levels - 1, 0,
				   first, last, &batch);
	page_batch_flush(&batch);
	return 0;
}
