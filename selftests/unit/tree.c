// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations on trees that share nodes, against plain arrays.
 *
 *	tree [OPERATIONS [SEED]]
 *
 * Every tree has a model: an array of the pages that its slots must hold, and
 * of the grants. Checked after operations: content, exclusiveness (computed
 * from all models: a page is exclusive to a tree if no other tree shows it),
 * grants, and at the end that no node and no page is left.
 */
#include <stdio.h>
#include <string.h>

#include "tree.h"

/* Three levels, the last leaf cut off; small enough to compare whole trees. */
#define NR_TREES	12
#define NR_CASES	3
static const unsigned long sizes[NR_CASES] = { 50, 1000, 4200 };
#define MAX_PAGES	4200

unsigned long shim_allocations_left = ~0UL;

static unsigned long nr_pages, nr_live_pages, nr_checks, nr_refused;
static struct cow_tree trees[NR_TREES];
static struct page *model[NR_TREES][MAX_PAGES];
static bool granted[NR_TREES][MAX_PAGES];
static u64 random_state;

static u64 random_u64(void)
{
	/* xorshift64* */
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dULL;
}

static unsigned long below(unsigned long n)
{
	return random_u64() % n;
}

static void __attribute__((noreturn)) fail(const char *what, int tree,
					   unsigned long index)
{
	printf("not ok: %s, tree %d, index %lu\n", what, tree, index);
	exit(1);
}

/* Indices cluster, so that leaves fill up and paths are shared. */
static unsigned long random_index(void)
{
	if (below(4))
		return below(nr_pages);
	return min(below(nr_pages) / 64 * 64 + below(3), nr_pages - 1);
}

static struct page *page_new(void)
{
	struct page *page = calloc(1, sizeof(*page));

	cow_page_init(page);
	nr_live_pages++;
	return page;
}

void cow_pages_free(struct page **pages, unsigned int nr)
{
	while (nr--) {
		nr_live_pages--;
		free(pages[nr]);
	}
}

/*
 * May the tree write the page in place? Only if it is the only one to show
 * it. (The other direction does not hold in general: a node may be shared
 * with a tree that has since replaced this very page. It must hold once the
 * node was unshared, which check_write() sees to.)
 */
static bool shown_elsewhere(int tree, unsigned long index)
{
	int i;

	for (i = 0; i < NR_TREES; i++)
		if (i != tree && model[i][index] == model[tree][index])
			return true;
	return false;
}

static void check_slot(int tree, unsigned long index)
{
	struct cow_path path;
	struct page *page = cow_tree_lookup(&trees[tree], index, &path);

	nr_checks++;
	if (page != model[tree][index])
		fail("wrong page", tree, index);
	if (page != cow_tree_lookup(&trees[tree], index, NULL))
		fail("lookups differ", tree, index);
	if (path.exclusive && !page)
		fail("an empty slot is exclusive", tree, index);
	if (path.exclusive && shown_elsewhere(tree, index))
		fail("a shared page is exclusive", tree, index);
	if (granted[tree][index] && !cow_path_granted(&path))
		fail("a grant was lost", tree, index);
	if (granted[tree][index] && !path.exclusive)
		fail("a granted page is not exclusive", tree, index);
	if (!granted[tree][index] && cow_path_granted(&path))
		fail("a grant came from nowhere", tree, index);
}

/* A write: in place if exclusive, else by copy; sometimes out of memory. */
static void do_write(int tree, unsigned long index)
{
	struct cow_path path;
	struct page *old = cow_tree_lookup(&trees[tree], index, &path);
	struct page *page;

	if (path.exclusive) {
		cow_path_grant(&trees[tree], &path);
		granted[tree][index] = true;
		return;
	}
	if (!below(16))
		shim_allocations_left = below(3);
	if (cow_tree_unshare(&trees[tree], &path, GFP_KERNEL)) {
		shim_allocations_left = ~0UL;
		nr_refused++;
		check_slot(tree, index);
		return;
	}
	shim_allocations_left = ~0UL;
	page = page_new();
	cow_path_set(&path, page);
	cow_path_grant(&trees[tree], &path);
	if (old)
		cow_page_put(old);
	model[tree][index] = page;
	granted[tree][index] = true;
	check_slot(tree, index);
	cow_tree_lookup(&trees[tree], index, &path);
	if (!path.exclusive)
		fail("a page just written is not exclusive", tree, index);
}

/* As long as can be, and in some cases longer than what is told of as one run */
static void do_write_run(int tree)
{
	unsigned long index = below(nr_pages);
	unsigned long end = min(index + below(3 * COW_RUN_MAX), nr_pages);

	for (; index < end; index++)
		do_write(tree, index);
}

/* Runs come in order, and touch only where the first one is as long as can be. */
static void check_run(unsigned long first, unsigned long nr, unsigned long next,
		      unsigned long last_nr, int tree)
{
	if (nr > COW_RUN_MAX)
		fail("a run is too long", tree, first);
	if (last_nr && (first < next || (first == next && last_nr != COW_RUN_MAX)))
		fail("runs out of order or not joined", tree, first);
}

struct grants {
	int tree;
	unsigned long next;
	unsigned long nr;	/* of the last run */
};

/* Runs name just the grants. */
static int check_grant_run(unsigned long first, unsigned long nr, void *arg)
{
	struct grants *grants = arg;
	unsigned long i;

	check_run(first, nr, grants->next, grants->nr, grants->tree);
	for (i = grants->next; i < first; i++)
		if (granted[grants->tree][i])
			fail("a grant was not told", grants->tree, i);
	for (i = first; i < first + nr; i++)
		if (!granted[grants->tree][i])
			fail("told what is no grant", grants->tree, i);
	grants->next = first + nr;
	grants->nr = nr;
	return 0;
}

static void do_revoke(int tree)
{
	struct grants grants = { .tree = tree };
	unsigned long i;

	cow_tree_walk_grants(&trees[tree], check_grant_run, &grants);
	for (i = grants.next; i < nr_pages; i++)
		if (granted[tree][i])
			fail("a grant was not told", tree, i);
	cow_tree_revoke(&trees[tree]);
	memset(granted[tree], 0, sizeof(granted[tree]));
}

static void do_drop(int tree)
{
	cow_tree_drop(&trees[tree]);
	memset(model[tree], 0, sizeof(model[tree]));
	memset(granted[tree], 0, sizeof(granted[tree]));
}

static void do_share(int to, int from)
{
	if (to == from)
		return;
	do_drop(to);
	do_revoke(from);
	cow_tree_share(&trees[to], &trees[from]);
	memcpy(model[to], model[from], sizeof(model[to]));
}

static void check_range(int tree)
{
	unsigned long first = below(nr_pages);
	unsigned long last = min(first + below(600), nr_pages - 1);
	bool populated = false, full = true;
	unsigned long i;

	for (i = first; i <= last; i++) {
		populated = populated || model[tree][i];
		full = full && model[tree][i];
	}
	if (cow_tree_populated(&trees[tree], first, last) != populated ||
	    cow_tree_full(&trees[tree], first, last) != full)
		fail("wrong about a range", tree, first);
}

struct diff {
	int a, b;
	unsigned long next;
	unsigned long nr;	/* of the last run */
};

static void check_same(const struct diff *diff, unsigned long to)
{
	unsigned long i;

	for (i = diff->next; i < to; i++)
		if (model[diff->a][i] != model[diff->b][i])
			fail("a difference was not told", diff->a, i);
}

static int check_diff_run(unsigned long first, unsigned long nr, void *arg)
{
	struct diff *diff = arg;
	unsigned long i;

	check_run(first, nr, diff->next, diff->nr, diff->a);
	check_same(diff, first);
	for (i = first; i < first + nr; i++)
		if (model[diff->a][i] == model[diff->b][i])
			fail("told what is no difference", diff->a, i);
	diff->next = first + nr;
	diff->nr = nr;
	return 0;
}

static void check_diff(int a, int b)
{
	unsigned long first = below(nr_pages);
	unsigned long last = min(first + below(3000), nr_pages - 1);
	struct diff diff = { .a = a, .b = b, .next = first };

	cow_tree_diff(&trees[a], &trees[b], first, last, check_diff_run,
		      &diff);
	check_same(&diff, last + 1);
}

static void do_restore(int to, int from)
{
	unsigned long first = below(nr_pages);
	unsigned long last = min(first + below(3000), nr_pages - 1);
	unsigned long i;

	if (to == from)
		return;
	do_revoke(from);
	if (!below(8))
		shim_allocations_left = below(4);
	if (cow_tree_restore(&trees[to], &trees[from], first, last,
			     GFP_KERNEL)) {
		shim_allocations_left = ~0UL;
		nr_refused++;
		check_slot(to, first);
		return;
	}
	shim_allocations_left = ~0UL;
	for (i = first; i <= last; i++) {
		/* What is the same already keeps its grant. */
		if (model[to][i] != model[from][i])
			granted[to][i] = false;
		model[to][i] = model[from][i];
	}
	for (i = 0; i < 8; i++)
		check_slot(to, below(nr_pages));
}

static void run_case(unsigned long operations)
{
	unsigned long i;
	int tree;

	for (tree = 0; tree < NR_TREES; tree++)
		cow_tree_init(&trees[tree], nr_pages);
	for (; operations; operations--) {
		unsigned long kind = below(1000);

		tree = below(NR_TREES);
		if (!kind && !below(20))
			do_write_run(tree);
		else if (kind < 700)
			do_write(tree, random_index());
		else if (kind < 980)
			check_slot(tree, random_index());
		else if (kind < 990)
			check_range(tree);
		else if (kind < 993)
			check_diff(tree, below(NR_TREES));
		else if (kind < 995)
			do_restore(tree, below(NR_TREES));
		else if (kind < 999)
			do_share(below(NR_TREES), tree);
		else
			do_drop(tree);
	}
	for (tree = 0; tree < NR_TREES; tree++)
		for (i = 0; i < nr_pages; i++)
			check_slot(tree, i);
	for (tree = 0; tree < NR_TREES; tree++)
		do_drop(tree);
	if (cow_tree_nodes() || nr_live_pages)
		fail("nodes or pages are left", cow_tree_nodes(),
		     nr_live_pages);
}

int main(int argc, char **argv)
{
	unsigned long operations = argc > 1 ? strtoul(argv[1], NULL, 0) :
					      10000000;
	unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	int i;

	random_state = seed * 0x9e3779b97f4a7c15ULL | 1;
	if (cow_tree_setup())
		return 1;
	for (i = 0; i < NR_CASES; i++) {
		nr_pages = sizes[i];
		run_case(operations / NR_CASES + 1);
	}
	cow_tree_teardown();
	printf("ok: %lu operations, seed %lu, %lu slots checked, ", operations,
	       seed, nr_checks);
	printf("%lu allocations refused, no node or page left\n", nr_refused);
	return 0;
}
