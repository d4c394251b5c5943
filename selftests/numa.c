// SPDX-License-Identifier: GPL-2.0
/*
 * Memory nodes: copies are where the memory policy of the view's VMA says, else
 * that of the task, else near to who writes, as with anonymous memory.
 */
#include "cgroup.h"
#include "nodes.h"
#include "snapshot.h"

#include <linux/mempolicy.h>
#include <sys/uio.h>

#define PAGES		200
/* After so many copies frames are allocated ahead. */
#define MANY		80

#define SKIP_REASON	"takes two nodes, the first with a processor"

/* The node that holds what is mapped at an address, or a negative errno. */
static int node_of(void *addr)
{
	int node;

	return syscall(SYS_move_pages, 0, 1UL, &addr, NULL, &node, 0) ? -errno : node;
}

struct policy {
	int mode;
	unsigned long nodes;	/* a bit each */
};

static void view_policy(struct __test_metadata *_metadata, void *addr, size_t pages,
			struct policy policy)
{
	ASSERT_EQ(0, syscall(SYS_mbind, addr, pages * PAGE, policy.mode,
			     policy.nodes ? &policy.nodes : NULL, 64, 0))
		TH_LOG("mbind: %s", strerror(errno));
}

static void task_policy(struct __test_metadata *_metadata, struct policy policy)
{
	ASSERT_EQ(0, syscall(SYS_set_mempolicy, policy.mode,
			     policy.nodes ? &policy.nodes : NULL, 64))
		TH_LOG("set_mempolicy: %s", strerror(errno));
}

/* Where a policy for nodes 0 and 1 puts a page of a mapping. */
static int node_by(struct policy policy, size_t page)
{
	if (policy.mode == MPOL_INTERLEAVE)
		return page % 2;
	return policy.nodes == 2;
}

static void expect_placed(struct __test_metadata *_metadata, char *view,
			  struct policy policy, int writer, size_t first, size_t end)
{
	for (size_t page = first; page < end; page++) {
		EXPECT_EQ(TAG(writer, page), page_tag(page_at(view, page)));
		EXPECT_EQ(node_by(policy, page), node_of(page_at(view, page)))
			TH_LOG("page %zu", page);
	}
}

/* Writes pages until most of a batch is left ahead; returns the next one. */
static size_t spares_make(struct __test_metadata *_metadata, char *view)
{
	size_t at = MANY;

	pages_set(view, 0, MANY, 1);
	for (; stat_value(_metadata, "spare_frames") < 5; at++) {
		ASSERT_GT(PAGES / 2, at);
		pages_set(view, at, 1, 1);
	}
	return at;
}

FIXTURE(policy) {
	int fd;
	char *view;
};

FIXTURE_VARIANT(policy) {
	struct policy policy;
	bool task;		/* the task's rather than the VMA's */
};

FIXTURE_VARIANT_ADD(policy, bind_1) { { MPOL_BIND, 2 }, false };
FIXTURE_VARIANT_ADD(policy, interleave) { { MPOL_INTERLEAVE, 3 }, false };
FIXTURE_VARIANT_ADD(policy, task_bind_1) { { MPOL_BIND, 2 }, true };
FIXTURE_VARIANT_ADD(policy, task_interleave) { { MPOL_INTERLEAVE, 3 }, true };

FIXTURE_SETUP(policy)
{
	if (!two_nodes())
		SKIP(return, SKIP_REASON);
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(policy)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

static void policy_begin(struct __test_metadata *_metadata, char *view,
			 struct policy policy, bool task)
{
	if (task)
		task_policy(_metadata, policy);
	else
		view_policy(_metadata, view, PAGES, policy);
}

/* Anonymous memory shows that the expectation is the kernel's. */
TEST_F(policy, of_anonymous_memory)
{
	char *anon = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct policy policy = variant->policy;
	size_t shift = 0;

	ASSERT_NE(MAP_FAILED, anon);
	ASSERT_EQ(0, madvise(anon, PAGES * PAGE, MADV_NOHUGEPAGE));
	policy_begin(_metadata, anon, policy, variant->task);
	pages_set(anon, 0, PAGES, 1);
	/* Its pages are numbered from address 0. */
	if (policy.mode == MPOL_INTERLEAVE)
		shift = node_of(anon);
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(node_by(policy, page + shift), node_of(page_at(anon, page)));
	munmap(anon, PAGES * PAGE);
}

TEST_F(policy, first_write)
{
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	pages_set(self->view, 0, PAGES, 1);
	expect_placed(_metadata, self->view, variant->policy, 1, 0, PAGES);
}

TEST_F(policy, write_after_read)
{
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), page_tag(page_at(self->view, page)));
	pages_set(self->view, 0, PAGES, 1);
	expect_placed(_metadata, self->view, variant->policy, 1, 0, PAGES);
}

TEST_F(policy, populate)
{
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	ASSERT_EQ(0, madvise(self->view, PAGES * PAGE, MADV_POPULATE_WRITE));
	expect_placed(_metadata, self->view, variant->policy, 0, 0, PAGES);
	EXPECT_EQ(PAGES, private_pages(_metadata, self->fd, self->view));
}

/* Frames that were allocated ahead are not used against a policy set later. */
TEST_F(policy, after_frames_were_allocated_ahead)
{
	struct policy none = { MPOL_DEFAULT, 0 };
	uint64_t spares;

	spares_make(_metadata, self->view);
	spares = stat_value(_metadata, "spare_frames");
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	pages_set(self->view, PAGES / 2, PAGES / 2 - 20, 1);
	expect_placed(_metadata, self->view, variant->policy, 1, PAGES / 2, PAGES - 20);
	EXPECT_EQ(spares, stat_value(_metadata, "spare_frames"));

	/* They are used when the policy is gone. */
	policy_begin(_metadata, self->view, none, variant->task);
	pages_set(self->view, PAGES - 20, spares, 1);
	EXPECT_EQ(0, stat_value(_metadata, "spare_frames"));
	expect_placed(_metadata, self->view, none, 1, PAGES - 20, PAGES - 20 + spares);
}

/* A child has the parent's policies, for what it inherits and for the rest. */
TEST_F(policy, in_a_child)
{
	pid_t child;

	/* The parent's pages are elsewhere. */
	pages_set(self->view, 0, PAGES / 2, 1);
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	child = child_fork(_metadata);
	if (!child) {
		for (size_t page = 0; page < PAGES / 4; page++)
			EXPECT_EQ(TAG(1, page), page_tag(page_at(self->view, page)));
		pages_set(self->view, 0, PAGES, 2);
		expect_placed(_metadata, self->view, variant->policy, 2, 0, PAGES);
		_exit(0);
	}
	child_join(_metadata, child);
	expect_placed(_metadata, self->view, (struct policy){ MPOL_DEFAULT, 0 }, 1,
		      0, PAGES / 2);
}

/* Pages that a snapshot has kept are copied again. */
TEST_F(policy, after_a_snapshot)
{
	int snapshot;
	char *past;

	pages_set(self->view, 0, PAGES / 2, 1);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	pages_set(self->view, 0, PAGES, 2);
	expect_placed(_metadata, self->view, variant->policy, 2, 0, PAGES);

	past = view_map(_metadata, snapshot, PAGES);
	policy_begin(_metadata, past, variant->policy, variant->task);
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(page < PAGES / 2, page), page_tag(page_at(past, page)));
	pages_set(past, 0, PAGES, 3);
	expect_placed(_metadata, past, variant->policy, 3, 0, PAGES);
	munmap(past, PAGES * PAGE);
	close(snapshot);
}

/* A page that a pipe holds is copied for the other side at fork and SNAPSHOT. */
TEST_F(policy, copies_of_held_pages)
{
	struct iovec pages = { page_at(self->view, 6), 2 * PAGE };
	struct policy pool = { MPOL_DEFAULT, 0 };
	int ends[2], snapshot;
	char *past;
	pid_t child;

	policy_begin(_metadata, self->view, variant->policy, variant->task);
	/* Two VMAs, the latter with the pages */
	ASSERT_EQ(0, mprotect(self->view, PAGE, PROT_READ));
	pages_set(self->view, 6, 2, 1);
	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ((ssize_t)(2 * PAGE), vmsplice(ends[1], &pages, 1, 0));
	child = child_fork(_metadata);
	if (!child) {
		expect_placed(_metadata, self->view, variant->policy, 1, 6, 8);
		_exit(0);
	}
	child_join(_metadata, child);
	EXPECT_EQ(2, view_info(_metadata, self->fd, self->view).counters.copies_pinned);

	snapshot = snapshot_take(_metadata, self->fd, self->view);
	EXPECT_EQ(4, view_info(_metadata, self->fd, self->view).counters.copies_pinned);
	past = view_map(_metadata, snapshot, PAGES);
	expect_placed(_metadata, past, variant->policy, 1, 6, 8);
	expect_placed(_metadata, past, pool, 0, 8, 9);
	munmap(past, PAGES * PAGE);
	close(snapshot);
	close(ends[0]);
	close(ends[1]);
}

FIXTURE(numa) {
	int fd;
	char *view;
};

FIXTURE_SETUP(numa)
{
	if (!two_nodes())
		SKIP(return, SKIP_REASON);
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(numa)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/* A pool's frames are where the policy of who fills it says. */
TEST_F(numa, of_who_fills_a_pool)
{
	int fd = pool_create(_metadata, PMD_PAGES + 3, NULL, 0);
	struct policy far = { MPOL_BIND, 2 };
	char *view;

	task_policy(_metadata, far);
	pool_fill(_metadata, fd, 0, PMD_PAGES + 3);
	view = view_map(_metadata, fd, PMD_PAGES + 3);
	expect_placed(_metadata, view, far, 0, 0, PMD_PAGES + 3);
	munmap(view, (PMD_PAGES + 3) * PAGE);
	close(fd);
}

/* Each part of a view has a policy of its own, and moves with it. */
TEST_F(numa, parts)
{
	struct policy near = { MPOL_DEFAULT, 0 }, far = { MPOL_BIND, 2 };
	struct policy both = { MPOL_INTERLEAVE, 3 };
	char *room = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	view_policy(_metadata, page_at(self->view, 50), 50, far);
	view_policy(_metadata, page_at(self->view, 100), 50, both);
	for (size_t page = 0; page < PAGES; page += 2)
		page_set(page_at(self->view, page), TAG(1, page));
	/* A VMA's page numbers go with it, so interleaving does. */
	ASSERT_EQ(page_at(room, 1), mremap(page_at(self->view, 100), 50 * PAGE, 50 * PAGE,
					   MREMAP_MAYMOVE | MREMAP_FIXED, page_at(room, 1)));
	for (size_t page = 0; page < PAGES; page++) {
		bool moved = page >= 100 && page < 150;
		void *at = moved ? page_at(room, page - 99) : page_at(self->view, page);

		page_set(at, TAG(1, page));
		EXPECT_EQ(node_by(moved ? both : page / 50 == 1 ? far : near, page),
			  node_of(at))
			TH_LOG("page %zu", page);
		EXPECT_EQ(TAG(1, page), page_tag(at));
	}
	munmap(room, PAGES * PAGE);
}

/* Without a policy, copies are near to the one who writes, whoever did before. */
TEST_F(numa, local_after_frames_were_allocated_ahead)
{
	struct policy near = { MPOL_DEFAULT, 0 }, far = { MPOL_BIND, 2 };
	size_t at;

	if (!run_on(1) || !run_on(0))
		SKIP(return, "takes a processor on each of two nodes");
	at = spares_make(_metadata, self->view);
	expect_placed(_metadata, self->view, near, 1, 0, at);
	ASSERT_TRUE(run_on(1));
	pages_set(self->view, at, 20, 1);
	expect_placed(_metadata, self->view, far, 1, at, at + 20);
	ASSERT_TRUE(run_on(0));
	pages_set(self->view, at + 20, 20, 1);
	expect_placed(_metadata, self->view, near, 1, at + 20, at + 40);
	/* Those that were of no use went back. */
	EXPECT_GT(8, stat_value(_metadata, "spare_frames"));
}

/*
 * What asks the kernel to move pages is told that they stay, or nothing: none
 * does.
 */
TEST_F(numa, nothing_moves)
{
	const unsigned long from = 1, to = 2;
	uint64_t frames[PAGES];
	void *pages[PAGES];
	int nodes[PAGES], status[PAGES];

	pages_set(self->view, 0, PAGES / 2, 1);
	for (size_t page = 0; page < PAGES; page++) {
		pages[page] = page_at(self->view, page);
		nodes[page] = 1;
		page_tag(pages[page]);
		frames[page] = frame_of(_metadata, pages[page]);
	}
	EXPECT_NE(-1, syscall(SYS_move_pages, 0, (unsigned long)PAGES, pages, nodes,
			      status, 1 << 1 /* MPOL_MF_MOVE */));
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_GT(0, status[page]);
	EXPECT_NE(-1, syscall(SYS_migrate_pages, 0, 64UL, &from, &to));
	EXPECT_EQ(-1, syscall(SYS_mbind, self->view, PAGES * PAGE, MPOL_BIND, &to, 64UL,
			      MPOL_MF_MOVE | MPOL_MF_STRICT));
	EXPECT_EQ(EIO, errno);
	for (size_t page = 0; page < PAGES; page++) {
		EXPECT_EQ(TAG(page < PAGES / 2, page), page_tag(pages[page]));
		EXPECT_EQ(frames[page], frame_of(_metadata, pages[page]));
		EXPECT_EQ(0, node_of(pages[page]));
	}
}

/*
 * For the first cpuset and after the last one the kernel patches its code, which an
 * emulated processor may not survive while it runs there: so all but one are taken
 * away meanwhile, in a VM.
 */
static void other_processors(struct __test_metadata *_metadata, const char *online)
{
	char path[64];

	if (!getenv("COWPOOL_VM"))
		return;
	for (int cpu = 1; ; cpu++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
		if (access(path, W_OK))
			break;
		file_write(_metadata, path, online);
	}
}

FIXTURE(cpuset) {
	int fd;
	char *view;
	bool set;
	bool had;	/* cpusets were on */
};

FIXTURE_SETUP(cpuset)
{
	self->set = false;
	if (!two_nodes())
		SKIP(return, SKIP_REASON);
	if (!cgroup_can(_metadata, "cpuset"))
		SKIP(return, "no cgroup2 with cpuset at " CGROUP_ROOT);
	self->had = cgroup_lists(_metadata, CGROUP_ROOT "cgroup.subtree_control", "cpuset");
	self->set = true;
	other_processors(_metadata, "0");
	cgroup_make(_metadata, "cpuset");
	other_processors(_metadata, "1");
	file_write(_metadata, CGROUP "cpuset.mems", "1");
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN_PARENT(cpuset)
{
	if (!self->set)
		return;
	other_processors(_metadata, "0");
	cgroup_remove(_metadata);
	if (!self->had)
		file_write(_metadata, CGROUP_ROOT "cgroup.subtree_control", "-cpuset");
	other_processors(_metadata, "1");
}

/* Moves the caller, who may be anywhere then: older kernels forget his processors. */
static void cpuset_enter(struct __test_metadata *_metadata, const char *procs)
{
	file_write(_metadata, procs, "0");
	ASSERT_TRUE(run_on(0));
}

/* Frames are of a node that the task may use, also those allocated ahead before. */
TEST_F(cpuset, is_obeyed)
{
	struct policy near = { MPOL_DEFAULT, 0 }, far = { MPOL_BIND, 2 };
	size_t at = spares_make(_metadata, self->view);
	char *anon = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cpuset_enter(_metadata, CGROUP "cgroup.procs");
	*anon = 1;
	ASSERT_EQ(1, node_of(anon));
	pages_set(self->view, at, 20, 1);
	expect_placed(_metadata, self->view, far, 1, at, at + 20);
	/* What was there before has not moved. */
	expect_placed(_metadata, self->view, near, 1, 0, at);

	cpuset_enter(_metadata, CGROUP_ROOT "cgroup.procs");
	pages_set(self->view, at + 20, 20, 1);
	expect_placed(_metadata, self->view, near, 1, at + 20, at + 40);
	munmap(anon, PAGE);
}

TEST_HARNESS_MAIN
