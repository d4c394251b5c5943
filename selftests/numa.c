// SPDX-License-Identifier: GPL-2.0
/*
 * Memory nodes: copies are where the memory policy of the view's VMA says, else
 * that of the task, else near to who writes, as with anonymous memory; and what
 * the kernel does to balance nodes changes nothing.
 */
#include "snapshot.h"

#include <linux/mempolicy.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define PAGES		200
/* After so many copies frames are allocated ahead. */
#define MANY		80

/* Runs on a processor of the node from now on, if it has one. */
static bool run_on(int node)
{
	cpu_set_t set;
	unsigned int on;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (!sched_setaffinity(0, sizeof(set), &set) &&
		    !syscall(SYS_getcpu, NULL, &on, NULL) && (int)on == node)
			return true;
	}
	return false;
}

/* Whether there are nodes 0 and 1, and the caller runs on node 0. */
static bool two_nodes(void)
{
	return !access("/sys/devices/system/node/node1/meminfo", F_OK) && run_on(0);
}

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

static void write_pages(char *view, int writer, size_t first, size_t end)
{
	for (size_t page = first; page < end; page++)
		page_set(page_at(view, page), TAG(writer, page));
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

FIXTURE(policy) {
	int fd;
	char *view;
};

FIXTURE_VARIANT(policy) {
	struct policy policy;
	bool task;		/* the task's rather than the VMA's */
};

FIXTURE_VARIANT_ADD(policy, bind_0) { { MPOL_BIND, 1 }, false };
FIXTURE_VARIANT_ADD(policy, bind_1) { { MPOL_BIND, 2 }, false };
FIXTURE_VARIANT_ADD(policy, preferred_1) { { MPOL_PREFERRED, 2 }, false };
FIXTURE_VARIANT_ADD(policy, interleave) { { MPOL_INTERLEAVE, 3 }, false };
FIXTURE_VARIANT_ADD(policy, task_bind_0) { { MPOL_BIND, 1 }, true };
FIXTURE_VARIANT_ADD(policy, task_bind_1) { { MPOL_BIND, 2 }, true };
FIXTURE_VARIANT_ADD(policy, task_preferred_1) { { MPOL_PREFERRED, 2 }, true };
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
	write_pages(anon, 1, 0, PAGES);
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
	write_pages(self->view, 1, 0, PAGES);
	expect_placed(_metadata, self->view, variant->policy, 1, 0, PAGES);
}

TEST_F(policy, write_after_read)
{
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), page_tag(page_at(self->view, page)));
	write_pages(self->view, 1, 0, PAGES);
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

	for (size_t end = MANY; ; end++) {
		ASSERT_GT(PAGES / 2, end);
		write_pages(self->view, 1, end == MANY ? 0 : end - 1, end);
		spares = stat_value(_metadata, "spare_frames");
		/* Some more than half of a batch */
		if (spares > 4)
			break;
	}
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	write_pages(self->view, 1, PAGES / 2, PAGES - 20);
	expect_placed(_metadata, self->view, variant->policy, 1, PAGES / 2, PAGES - 20);
	EXPECT_EQ(spares, stat_value(_metadata, "spare_frames"));

	/* They are used when the policy is gone. */
	policy_begin(_metadata, self->view, none, variant->task);
	write_pages(self->view, 1, PAGES - 20, PAGES - 20 + spares);
	EXPECT_EQ(0, stat_value(_metadata, "spare_frames"));
	expect_placed(_metadata, self->view, none, 1, PAGES - 20, PAGES - 20 + spares);
}

/* A child has the parent's policies, for what it inherits and for the rest. */
TEST_F(policy, in_a_child)
{
	pid_t child;

	/* The parent's pages are elsewhere. */
	write_pages(self->view, 1, 0, PAGES / 2);
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	child = child_fork(_metadata);
	if (!child) {
		for (size_t page = 0; page < PAGES / 4; page++)
			EXPECT_EQ(TAG(1, page), page_tag(page_at(self->view, page)));
		write_pages(self->view, 2, 0, PAGES);
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

	write_pages(self->view, 1, 0, PAGES / 2);
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	policy_begin(_metadata, self->view, variant->policy, variant->task);
	write_pages(self->view, 2, 0, PAGES);
	expect_placed(_metadata, self->view, variant->policy, 2, 0, PAGES);

	past = view_map(_metadata, snapshot, PAGES);
	policy_begin(_metadata, past, variant->policy, variant->task);
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(page < PAGES / 2, page), page_tag(page_at(past, page)));
	write_pages(past, 3, 0, PAGES);
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
	write_pages(self->view, 1, 6, 8);
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

/* A pool's frames are where the policy of who fills it says. */
TEST_F(policy, of_who_fills_a_pool)
{
	int fd = pool_create(_metadata, PMD_PAGES + 3, NULL, 0);
	struct policy policy = variant->policy;
	char *view;

	if (!variant->task || policy.mode == MPOL_INTERLEAVE)
		SKIP(return, "a policy that says nothing of a pool's page");
	task_policy(_metadata, policy);
	pool_fill(_metadata, fd, 0, PMD_PAGES + 3);
	view = view_map(_metadata, fd, PMD_PAGES + 3);
	expect_placed(_metadata, view, policy, 0, 0, PMD_PAGES + 3);
	munmap(view, (PMD_PAGES + 3) * PAGE);
	close(fd);
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
	size_t at = MANY;

	write_pages(self->view, 1, 0, MANY);
	while (stat_value(_metadata, "spare_frames") < 5) {
		write_pages(self->view, 1, at, at + 1);
		at++;
	}
	expect_placed(_metadata, self->view, near, 1, 0, at);
	if (!run_on(1))
		SKIP(return, "takes a processor on each of two nodes");
	write_pages(self->view, 1, at, at + 20);
	expect_placed(_metadata, self->view, far, 1, at, at + 20);
	ASSERT_TRUE(run_on(0));
	write_pages(self->view, 1, at + 20, at + 40);
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

	write_pages(self->view, 1, 0, PAGES / 2);
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

static bool file_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) > 0;

	close(fd);
	return done;
}

/* The first word of a file. */
static void file_read(const char *path, char *value, size_t size)
{
	FILE *file = fopen(path, "r");

	value[0] = '\0';
	if (!file)
		return;
	if (!fgets(value, size, file))
		value[0] = '\0';
	fclose(file);
	value[strcspn(value, "\n")] = '\0';
}

/*
 * A group of tasks with a node of its own. The first such group patches the
 * kernel's code, which two emulated processors may not survive: so it is made
 * while there is one.
 */
#define CGROUP	"/sys/fs/cgroup/"
#define GROUP	CGROUP "cowpool-numa/"
#define CPU1	"/sys/devices/system/cpu/cpu1/online"

FIXTURE(cpuset) {
	int fd;
	char *view;
};

FIXTURE_SETUP(cpuset)
{
	if (!two_nodes())
		SKIP(return, SKIP_REASON);
	if (!file_write(CGROUP "cgroup.subtree_control", "+cpuset"))
		SKIP(return, "no cpuset controller at " CGROUP);
	file_write(CPU1, "0");
	ASSERT_EQ(0, mkdir(GROUP, 0755)) TH_LOG("%s", strerror(errno));
	file_write(CPU1, "1");
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN_PARENT(cpuset)
{
	file_write(CPU1, "0");
	rmdir(GROUP);
	file_write(CPU1, "1");
	file_write(CGROUP "cgroup.subtree_control", "-cpuset");
}

/* Frames that were allocated ahead are not used where the cpuset forbids it. */
TEST_F(cpuset, after_frames_were_allocated_ahead)
{
	struct policy far = { MPOL_BIND, 2 };
	size_t at = MANY;

	write_pages(self->view, 1, 0, MANY);
	while (stat_value(_metadata, "spare_frames") < 5) {
		write_pages(self->view, 1, at, at + 1);
		at++;
	}
	ASSERT_TRUE(file_write(GROUP "cpuset.mems", "1"));
	ASSERT_TRUE(file_write(GROUP "cgroup.procs", "0"));
	ASSERT_TRUE(run_on(0));
	write_pages(self->view, 1, at, at + 40);
	expect_placed(_metadata, self->view, far, 1, at, at + 40);
	/* The group goes when the task has left it. */
	ASSERT_TRUE(file_write(CGROUP "cgroup.procs", "0"));
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/*
 * The kernel takes access away from pages by and by, to see by the faults who
 * uses them, and would move them.
 */

#define BALANCING	"/sys/kernel/debug/sched/numa_balancing/"

enum {
	SCAN_DELAY,
	PERIOD_MIN,
	PERIOD_MAX,
	SETTINGS
};

static const char *const setting_paths[SETTINGS] = {
	[SCAN_DELAY] = BALANCING "scan_delay_ms",
	[PERIOD_MIN] = BALANCING "scan_period_min_ms",
	[PERIOD_MAX] = BALANCING "scan_period_max_ms",
};

/* A range for a page table with all kinds of pages, and one that is only read. */
#define SPAN	(2 * PMD_PAGES + 100)

FIXTURE(balancing) {
	int fd;
	char before[SETTINGS][32];
};

FIXTURE_SETUP(balancing)
{
	char on[8];

	if (!two_nodes())
		SKIP(return, SKIP_REASON);
	file_read("/proc/sys/kernel/numa_balancing", on, sizeof(on));
	if (strcmp(on, "1"))
		SKIP(return, "the kernel does not balance nodes");
	for (size_t i = 0; i < SETTINGS; i++) {
		file_read(setting_paths[i], self->before[i], sizeof(self->before[i]));
		if (!file_write(setting_paths[i], "10"))
			SKIP(return, "cannot write to %s", setting_paths[i]);
	}
	self->fd = pool_filled(_metadata, SPAN);
}

FIXTURE_TEARDOWN_PARENT(balancing)
{
	for (size_t i = 0; i < SETTINGS && self->before[i][0]; i++)
		file_write(setting_paths[i], self->before[i]);
}

struct balanced {
	char *view;
	pthread_barrier_t step;
	atomic_bool stop;
	atomic_uint round;
	atomic_ullong wrong;
	atomic_ullong faults;	/* on pages that were mapped already */
};

struct hammer {
	struct balanced *shared;
	size_t number;
	pthread_t thread;
};

/* Which of two threads writes a page, or -1 for one that nobody writes. */
static int writer_of(size_t page)
{
	return page < PMD_PAGES || page >= 2 * PMD_PAGES ? page % 4 < 2 ? (int)page % 4 : -1 :
							   -1;
}

static long faults_of_thread(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt;
}

/* Writes own pages, looks at those that nobody writes, several times. */
static void *hammer(void *arg)
{
	struct hammer *hammer = arg;
	struct balanced *shared = hammer->shared;
	char *view = shared->view;

	run_on(hammer->number);
	for (;;) {
		long faults = 0;

		pthread_barrier_wait(&shared->step);
		if (shared->stop)
			break;
		for (unsigned int pass = 0; pass < 4; pass++) {
			if (pass == 1)
				faults = faults_of_thread();
			for (size_t page = 0; page < SPAN; page++) {
				void *at = page_at(view, page);
				int writer = writer_of(page);
				uint64_t tag = TAG(shared->round * 8 + pass + 1, page);

				if (writer == (int)hammer->number) {
					page_set(at, tag);
					shared->wrong += page_tag(at) != tag;
				} else if (writer < 0) {
					shared->wrong += page_tag(at) != TAG(0, page);
				}
			}
		}
		shared->faults += faults_of_thread() - faults;
		pthread_barrier_wait(&shared->step);
	}
	return NULL;
}

/* All pages after round @round, or as the pool has them if it is 0. */
static size_t pages_wrong(char *view, unsigned int round)
{
	size_t wrong = 0;

	for (size_t page = 0; page < SPAN; page++) {
		int writer = round && writer_of(page) >= 0 ? (int)round * 8 + 4 : 0;

		wrong += page_tag(page_at(view, page)) != TAG(writer, page);
	}
	return wrong;
}

/*
 * Faults that a page costs once it is mapped are the balancing's. They must not
 * copy, share or lose anything: the counters are what they are without.
 */
TEST_F(balancing, changes_nothing)
{
	/* Enough not to be those on stacks and code */
	const unsigned long long enough = 500;
	const unsigned int most = 60;
	struct balanced shared = { .view = view_map(_metadata, self->fd, SPAN) };
	struct hammer hammers[2];
	uint64_t written = 0, kept = 0, forks = 0;
	struct cowpool_counters counters;
	int snapshot;
	char *past;
	pid_t child;

	for (size_t page = 0; page < SPAN; page++)
		written += writer_of(page) >= 0;
	/* For the new settings to hold, the process has to be new. */
	child = child_fork(_metadata);
	if (child) {
		child_join(_metadata, child);
		munmap(shared.view, SPAN * PAGE);
		close(self->fd);
		return;
	}
	pthread_barrier_init(&shared.step, NULL, ARRAY_SIZE(hammers) + 1);
	for (size_t i = 0; i < ARRAY_SIZE(hammers); i++) {
		hammers[i] = (struct hammer){ &shared, i, 0 };
		ASSERT_EQ(0, pthread_create(&hammers[i].thread, NULL, hammer, &hammers[i]));
	}
	while (shared.round < most && (shared.round < 6 || shared.faults < enough)) {
		unsigned int round = ++shared.round;

		pthread_barrier_wait(&shared.step);
		pthread_barrier_wait(&shared.step);
		EXPECT_EQ(0, pages_wrong(shared.view, round));
		switch (round % 3) {
		case 0:
			snapshot = snapshot_take(_metadata, self->fd, shared.view);
			past = view_map(_metadata, snapshot, SPAN);
			EXPECT_EQ(0, pages_wrong(past, round));
			munmap(past, SPAN * PAGE);
			close(snapshot);
			break;
		case 1:
			EXPECT_EQ((long)written, reset_try(self->fd, shared.view, SPAN,
							   COWPOOL_RESET_KEEP));
			EXPECT_EQ(0, pages_wrong(shared.view, 0));
			kept += written;
			break;
		case 2:
			child = child_fork(_metadata);
			if (!child) {
				EXPECT_EQ(0, pages_wrong(shared.view, round));
				page_set(page_at(shared.view, 2), TAG(9, 2));
				EXPECT_EQ(TAG(9, 2), page_tag(page_at(shared.view, 2)));
				_exit(0);
			}
			child_join(_metadata, child);
			EXPECT_EQ(0, pages_wrong(shared.view, round));
			break;
		}
		forks += round % 3 != 1;
	}
	shared.stop = true;
	pthread_barrier_wait(&shared.step);
	for (size_t i = 0; i < ARRAY_SIZE(hammers); i++)
		pthread_join(hammers[i].thread, NULL);
	ksft_print_msg("%u rounds, %llu faults by balancing\n", shared.round,
		       (unsigned long long)shared.faults);
	EXPECT_EQ(0, shared.wrong);

	counters = view_info(_metadata, self->fd, shared.view).counters;
	EXPECT_EQ(written, counters.copies_first_touch + counters.copies_after_read);
	EXPECT_EQ(written, counters.private_pages);
	EXPECT_EQ(kept, counters.copies_reset);
	EXPECT_EQ(0, counters.copies_pinned);
	/* What the last fork or snapshot shared, nobody has written since. */
	EXPECT_EQ((forks - (shared.round % 3 != 1)) * written, counters.reuses);
	/* How often the kernel does it depends on what else the machine does. */
	if (shared.faults < enough)
		SKIP(_exit(0), "%llu faults by balancing are too few",
		     (unsigned long long)shared.faults);
	_exit(0);
}

TEST_HARNESS_MAIN
