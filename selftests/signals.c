// SPDX-License-Identifier: GPL-2.0
/*
 * Signals while faults are under way: handlers that write to the view
 * themselves, system calls that meet a bad page, and SIGKILL at any moment.
 */
#include "snapshot.h"

#include <sys/time.h>

#define PAGES 2048

FIXTURE(signals) {
	int fd;
	char *view;
};

FIXTURE_SETUP(signals)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(signals)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/*
 * The main program writes the front half of each page, the handler the back
 * half of some page, and neither loses anything.
 */
static char *handler_view;
static volatile sig_atomic_t handler_runs;
static unsigned char handler_wrote[PAGES];

static void handler(int sig)
{
	size_t page = (size_t)handler_runs * 7 % PAGES;

	(void)sig;
	handler_view[(page + 1) * PAGE - 1] = ++handler_wrote[page];
	handler_runs++;
}

static void expect_halves(struct __test_metadata *_metadata, char *view, int round)
{
	for (size_t page = 0; page < PAGES; page++) {
		unsigned char pool = (TAG(0, page) + PAGE / 8 - 1) >> 56;
		unsigned char *bytes = page_at(view, page);

		EXPECT_EQ(round, bytes[8]) TH_LOG("page %zu", page);
		EXPECT_EQ(handler_wrote[page] ?: pool, bytes[PAGE - 1])
			TH_LOG("page %zu", page);
	}
}

TEST_F(signals, handlers_that_write)
{
	struct itimerval timer = { { 0, 500 }, { 0, 500 } }, off = {};
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };

	handler_view = self->view;
	sigaction(SIGPROF, &action, NULL);
	setitimer(ITIMER_PROF, &timer, NULL);
	/* fork() makes every page fault again. */
	for (int round = 1; round <= 6 || handler_runs < 50; round++) {
		pid_t child;

		for (size_t page = 0; page < PAGES; page++)
			self->view[page * PAGE + 8] = round;
		do {
			child = fork();
		} while (child < 0 && errno == EINTR);
		ASSERT_LE(0, child);
		if (!child) {
			signal(SIGPROF, SIG_IGN);
			expect_halves(_metadata, self->view, round);
			_exit(0);
		}
		child_join(_metadata, child);
		ASSERT_GT(100, round) TH_LOG("%d signals", handler_runs);
	}
	setitimer(ITIMER_PROF, &off, NULL);
}

/*
 * A process is killed in the middle of its faults, or of a fork() or SNAPSHOT that has
 * many runs of pages to protect: everything comes back.
 */
TEST_F(signals, sigkill)
{
	struct {
		atomic_uint passes;	/* over all pages */
		atomic_bool sharing;	/* a fork() or SNAPSHOT is under way */
	} *child_is = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			   -1, 0);
	unsigned int while_sharing = 0;
	uint64_t frames, nodes, views;

	ASSERT_NE(MAP_FAILED, (void *)child_is);
	page_set(self->view, TAG(1, 0));
	frames = stat_value(_metadata, "private_frames");
	nodes = stat_value(_metadata, "nodes");
	views = stat_value(_metadata, "views");
	for (int round = 0; round < 30; round++) {
		pid_t child = child_fork(_metadata);
		int status;

		if (!child) {
			for (;;) {
				for (size_t page = 0; page < PAGES; page += 1 + round % 2)
					self->view[page * PAGE]++;
				child_is->passes++;
				child_is->sharing = true;
				if (round % 3 == 2)
					close(snapshot_try(self->fd, self->view));
				else if (!fork())
					_exit(0);
				child_is->sharing = false;
			}
		}
		/* Before, at, or after its first fork() or SNAPSHOT */
		if (round % 10) {
			while (!child_is->passes)
				sched_yield();
			usleep(100 * (round % 10 - 1));
		}
		ASSERT_EQ(0, kill(child, SIGKILL));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
		while_sharing += child_is->sharing;
		child_is->passes = 0;
		child_is->sharing = false;
	}
	EXPECT_LT(0, while_sharing);
	munmap(child_is, PAGE);
	/* Its own children were on their way out. */
	for (int i = 0; i < 1000 && (stat_value(_metadata, "views") != views ||
				     stat_value(_metadata, "nodes") != nodes); i++)
		usleep(10000);
	EXPECT_EQ(views, stat_value(_metadata, "views"));
	EXPECT_EQ(frames, stat_value(_metadata, "private_frames"));
	EXPECT_EQ(nodes, stat_value(_metadata, "nodes"));
	EXPECT_EQ(TAG(1, 0), page_tag(self->view));
	page_set(self->view, TAG(2, 0));
	EXPECT_EQ(1, private_pages(_metadata, self->fd, self->view));
}

/* A system call that meets a page it may not touch: EFAULT, and no signal. */
TEST_F(signals, system_calls_on_views)
{
	char *edge = page_at(self->view, 10);
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(0, mprotect(edge, PAGE, PROT_READ));
	ASSERT_EQ(0, munmap(page_at(self->view, 11), PAGE));
	ASSERT_EQ(200, write(ends[1], page_at(self->view, 9), 200));
	EXPECT_EQ(-1, read(ends[0], edge, 100));
	EXPECT_EQ(EFAULT, errno);
	/* Reading from it is fine, and what is behind it is not there. */
	EXPECT_EQ(100, write(ends[1], page_at(edge, 1) - 100, 100));
	EXPECT_EQ(-1, write(ends[1], page_at(edge, 1), 1));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(TAG(0, 10), page_tag(edge));
	EXPECT_EQ(0, private_pages(_metadata, self->fd, self->view));
	/* A system call writes to an untouched page: a copy like any other. */
	ASSERT_EQ(0, mprotect(edge, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_LT(0, read(ends[0], edge, 8));
	EXPECT_EQ(1, private_pages(_metadata, self->fd, self->view));
	close(ends[0]);
	close(ends[1]);
}

/* SIGSEGV on a protected page, whose handler lifts the protection. */
static void unprotect(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	mprotect((void *)((uintptr_t)info->si_addr & -PAGE), PAGE, PROT_READ | PROT_WRITE);
	handler_runs++;
}

TEST_F(signals, write_tracking)
{
	struct sigaction action = { .sa_sigaction = unprotect, .sa_flags = SA_SIGINFO };

	ASSERT_EQ(0, mprotect(self->view, PAGES * PAGE, PROT_READ));
	sigaction(SIGSEGV, &action, NULL);
	for (size_t page = 0; page < 1000; page += 10)
		page_set(page_at(self->view, page), TAG(1, page));
	signal(SIGSEGV, SIG_DFL);
	EXPECT_EQ(100, handler_runs);
	EXPECT_EQ(100, private_pages(_metadata, self->fd, self->view));
	for (size_t page = 0; page < 1000; page++)
		EXPECT_EQ(TAG(page % 10 ? 0 : 1, page), page_tag(page_at(self->view, page)));
}

TEST_HARNESS_MAIN
