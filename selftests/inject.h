/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every allocation, and every copy from or to user memory, fails once; with
 * inject_more(), the next allocation does, too.
 *
 * /proc/thread-self/fail-nth makes the n-th of them fail that the thread comes
 * to. Each operation is done with n = 1, 2, 3 and so on, until there is none
 * left to fail. It either succeeds all the same, or gives a documented errno;
 * then nothing has changed, and the next try succeeds. Either way everything
 * comes back in the end.
 *
 * A page fault in user mode that fails for want of memory is repeated by the
 * kernel. So there the program must not notice anything; system calls that
 * touch the same page must report it.
 */
#ifndef COWPOOL_TEST_INJECT_H
#define COWPOOL_TEST_INJECT_H

#include "snapshot.h"

#include <sys/rseq.h>
#include <sys/uio.h>

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define MAKE_IT_FAIL	"/proc/thread-self/make-it-fail"

enum {
	PAGES = 1536,
	/* Of another pool, to be written to: a 2 MiB folio and a rest */
	SMALL = 520,
	/* More than any operation has, by far */
	POINTS_MAX = 5000,
};

/* Outcome of an operation, beside 0 and negative errnos: it did a part. */
#define PARTLY 1

/*
 * What operations act upon. The view has private pages, of which all but one
 * are shared with a snapshot, and so are most nodes of the index.
 */
struct scene {
	int pool;		/* what the view shows */
	char *view;
	int snapshot;
	int fd;			/* on the default pool, or on a small one */
	int file;		/* one page of a tmpfs */
	int pipe[2];
	size_t page;		/* what faults are about */
	char *map;		/* what the operation made, if anything */
	int made;
	size_t done;		/* bytes, if it did a part */
	uint64_t tags[PAGES];	/* what the view has to show */
	uint64_t private;	/* the view's private pages */
};

/* A tag that tells that a page is not mapped */
#define UNMAPPED	(TAG_TORN - 1)

static const uint64_t first_private[] = { 3, 100, 600 };
/* Private, and not in the snapshot */
#define OWN	4
/* In a range that has nothing private */
#define CLEAN	1100
/* Private pages, their neighbours, and the ends of nodes and folios */
static const size_t watched[] = {
	0, 1, 2, 3, OWN, 5, 63, 64, 99, 100, 101, 511, 512, 600, 601, 1023, CLEAN,
	PAGES - 1,
};

/* What an operation may do */
enum {
	MEMORY = 1,		/* report ENOMEM, */
	FAULT = 2,		/* EFAULT, */
	AGAIN = 4,		/* EAGAIN, */
	LATE = 8,		/* EFAULT when all is done, */
	IN_PARTS = 16,		/* an error when some of it is done, */
	BARE = 32,		/* do without a scene: nothing of the module's is in use */
	OURS = 64,		/* count only what the module itself is at */
	SELDOM = 128,		/* have nothing that can fail, on some kernels */
};

struct operation {
	const char *name;
	void (*prepare)(struct __test_metadata *_metadata, struct scene *s);
	int (*run)(struct scene *s);
	/* Looks at what has become of it. Whatever it left unchanged is seen to. */
	void (*check)(struct __test_metadata *_metadata, struct scene *s, int outcome);
	unsigned int may;	/* of the flags below */
};

/* Fault injection */

static int nth_fd;
/* If what comes after the n-th is to fail, too, or -1 */
static int more_fd = -1;

static inline bool setting_write(const char *name, const char *value)
{
	char path[128];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		n = write(fd, value, strlen(value));
	close(fd);
	return n > 0;
}

static inline void number_write(int fd, unsigned int number)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", number);

	if (pwrite(fd, text, len, 0) != len)
		abort();
}

static inline void inject_start(unsigned int n)
{
	if (more_fd >= 0) {
		/* The n-th is one of these. */
		if (!setting_write("failslab/times", "2") ||
		    !setting_write("fail_page_alloc/times", "2"))
			abort();
		number_write(more_fd, 1);
	}
	number_write(nth_fd, n);
}

/*
 * Returns whether the failure has come. If not, it may yet come to the copy
 * that tells so.
 */
static inline bool inject_stop(void)
{
	char left[16] = {};
	bool hit = pread(nth_fd, left, sizeof(left) - 1, 0) > 0 && !atoi(left);

	pwrite(nth_fd, "0", 1, 0);
	if (more_fd >= 0)
		number_write(more_fd, 0);
	return hit;
}

/* Addresses of functions */
struct text {
	uint64_t start, end;
};

static const struct text anywhere = { 0, UINT64_MAX };
static const struct text nowhere;

static inline bool range_write(const char *kind, const char *name, struct text range)
{
	char path[64], value[32];
	bool good;

	snprintf(path, sizeof(path), "%s/%s-start", kind, name);
	snprintf(value, sizeof(value), "%#" PRIx64, range.start);
	good = setting_write(path, value);
	snprintf(path, sizeof(path), "%s/%s-end", kind, name);
	snprintf(value, sizeof(value), "%#" PRIx64, range.end);
	return good && setting_write(path, value);
}

/*
 * Everything may fail, whatever it is for, without a word in the log, if it is
 * for functions in @below and not for those in @except. That affects nobody who
 * is not told to fail.
 */
static inline bool inject_settings(struct text below, struct text except)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	char name[64];
	bool good = true;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		snprintf(name, sizeof(name), "%s/verbose", kinds[i]);
		good &= setting_write(name, "0") && range_write(kinds[i], "require", below) &&
			range_write(kinds[i], "reject", except);
	}
	return good && setting_write("failslab/ignore-gfp-wait", "N") &&
	       setting_write("fail_page_alloc/ignore-gfp-wait", "N") &&
	       setting_write("fail_page_alloc/ignore-gfp-highmem", "N") &&
	       setting_write("fail_page_alloc/min-order", "0");
}

/* Below functions of the module only, or anywhere. */
static inline bool inject_below_module(bool only)
{
	struct text module = anywhere;
	uint64_t size;
	FILE *file;

	if (only) {
		file = fopen("/sys/module/cowpool/sections/.text", "r");
		if (!file || fscanf(file, "%" SCNx64, &module.start) != 1)
			return false;
		fclose(file);
		file = fopen("/sys/module/cowpool/coresize", "r");
		if (!file || fscanf(file, "%" SCNu64, &size) != 1)
			return false;
		fclose(file);
		module.end = module.start + size;
	}
	return inject_settings(module, nowhere);
}

/* The scene */

static const char *const gauges[] = {
	"pools", "views", "private_pages", "private_frames", "filled_pages",
	/* From here on, what a failed operation may leave to a later one */
	"pool_frames", "nodes",
};

#define GAUGES		ARRAY_SIZE(gauges)
#define GAUGES_EXACT	5

static inline void gauges_read(struct __test_metadata *_metadata, uint64_t *values)
{
	for (size_t i = 0; i < GAUGES; i++)
		values[i] = stat_value(_metadata, gauges[i]);
}

static inline void expect_gauges(struct __test_metadata *_metadata, const uint64_t *before,
				 size_t nr, const char *name, unsigned int n)
{
	uint64_t now[GAUGES];

	gauges_read(_metadata, now);
	for (size_t i = 0; i < nr; i++) {
		EXPECT_EQ(before[i], now[i])
			TH_LOG("%s, %u: %s", name, n, gauges[i]);
	}
}

static inline void view_write(struct scene *s, size_t page, int writer)
{
	page_set(page_at(s->view, page), TAG(writer, page));
	s->tags[page] = TAG(writer, page);
}

static inline void scene_make(struct __test_metadata *_metadata, struct scene *s)
{
	uint64_t content[PAGE / 8];

	s->fd = device_open(_metadata);
	s->made = -1;
	s->map = NULL;
	s->view = view_map(_metadata, s->pool, PAGES);
	for (size_t page = 0; page < PAGES; page++)
		s->tags[page] = TAG(0, page);
	for (size_t i = 0; i < ARRAY_SIZE(first_private); i++)
		view_write(s, first_private[i], 1);
	s->snapshot = snapshot_take(_metadata, s->pool, s->view);
	view_write(s, OWN, 2);
	s->private = ARRAY_SIZE(first_private) + 1;
	ASSERT_EQ(0, pipe(s->pipe));
	s->file = memfd_create("inject", 0);
	page_set(content, TAG(3, s->page));
	ASSERT_EQ((ssize_t)PAGE, pwrite(s->file, content, PAGE, 0));
}

static inline void scene_drop(struct scene *s)
{
	close(s->pipe[0]);
	close(s->pipe[1]);
	close(s->file);
	close(s->snapshot);
	close(s->fd);
	if (s->made >= 0)
		close(s->made);
	if (s->map)
		munmap(s->map, PAGES * PAGE);
	if (s->view)
		munmap(s->view, PAGES * PAGE);
}

/* @half: the view may show the pool's content instead of its own. */
static inline void expect_scene(struct __test_metadata *_metadata, struct scene *s, bool half,
				const char *name, unsigned int n)
{
	for (size_t i = 0; i < ARRAY_SIZE(watched) && s->view; i++) {
		size_t page = watched[i];
		uint64_t expected = s->tags[page], seen;

		if (expected == UNMAPPED)
			continue;
		seen = page_tag(page_at(s->view, page));
		if (half && seen == TAG(0, page))
			continue;
		EXPECT_EQ(expected, seen) TH_LOG("%s, %u: page %zu", name, n, page);
	}
	for (size_t i = 0; i < ARRAY_SIZE(first_private); i++) {
		size_t page = first_private[i];

		EXPECT_EQ(TAG(1, page), pool_page_tag(_metadata, s->snapshot, page))
			TH_LOG("%s, %u: snapshot, page %zu", name, n, page);
		EXPECT_EQ(TAG(0, page), pool_page_tag(_metadata, s->pool, page))
			TH_LOG("%s, %u: pool, page %zu", name, n, page);
	}
	EXPECT_EQ(TAG(0, OWN), pool_page_tag(_metadata, s->snapshot, OWN));
}

static inline struct cowpool_counters counters(struct __test_metadata *_metadata, struct scene *s)
{
	struct cowpool_counters c = view_info(_metadata, s->pool, s->view).counters;

	/* Looking at pages counts, and so does what a call did before it failed. */
	c.read_faults = 0;
	c.copies_reset = 0;
	c.forks = 0;
	c.copies_pinned = 0;
	return c;
}

static inline bool documented(unsigned int may, int outcome)
{
	switch (outcome) {
	case -ENOMEM:
		return may & MEMORY;
	case -EFAULT:
		return may & FAULT;
	case -EAGAIN:
		return may & AGAIN;
	default:
		return outcome == PARTLY;
	}
}

/* After an error nothing has changed, but for what @may says. */
static inline void expect_nothing_done(struct __test_metadata *_metadata, struct scene *s,
				       const struct operation *op, unsigned int n, int outcome,
				       const uint64_t *values,
				       const struct cowpool_counters *before)
{
	bool half = op->may & IN_PARTS || (op->may & LATE && outcome == -EFAULT);
	struct cowpool_counters after;

	if (!half)
		expect_gauges(_metadata, values, GAUGES_EXACT, op->name, n);
	if (op->may & BARE)
		return;
	after = counters(_metadata, s);
	if (!half)
		EXPECT_EQ(0, memcmp(before, &after, sizeof(after)))
			TH_LOG("%s, %u: counters", op->name, n);
	expect_scene(_metadata, s, half, op->name, n);
}

/* Lets @op fail at each point, on a scene of its own each time. Returns how often it did. */
static inline unsigned int walk(struct __test_metadata *_metadata, struct scene *s,
				const struct operation *op)
{
	struct cowpool_counters before = {};
	const bool bare = op->may & BARE;
	unsigned int n, failures = 0;
	bool hit = true;

	ASSERT_TRUE(inject_below_module(op->may & OURS));
	for (n = 1; hit; n++) {
		uint64_t outside[GAUGES], inside[GAUGES];
		int outcome;

		gauges_read(_metadata, outside);
		if (!bare) {
			scene_make(_metadata, s);
			if (op->prepare)
				op->prepare(_metadata, s);
			before = counters(_metadata, s);
		}
		gauges_read(_metadata, inside);

		inject_start(n);
		outcome = op->run(s);
		hit = inject_stop();

		if (outcome) {
			EXPECT_TRUE(hit && documented(op->may, outcome))
				TH_LOG("%s, %u: %s", op->name, n,
				       outcome == PARTLY ? "in part" : strerror(-outcome));
			failures++;
			if (outcome < 0)
				expect_nothing_done(_metadata, s, op, n, outcome, inside, &before);
			if (op->check)
				op->check(_metadata, s, outcome);
			/* Without an injection it works, as if nothing had been. */
			outcome = op->run(s);
			EXPECT_EQ(0, outcome)
				TH_LOG("%s, %u: again: %s", op->name, n, strerror(-outcome));
		}
		if (op->check)
			op->check(_metadata, s, outcome);
		if (!bare) {
			if (s->view)
				EXPECT_EQ(s->private, private_pages(_metadata, s->pool, s->view))
					TH_LOG("%s, %u", op->name, n);
			expect_scene(_metadata, s, false, op->name, n);
			scene_drop(s);
		}
		expect_gauges(_metadata, outside, GAUGES, op->name, n);
		ASSERT_GT(POINTS_MAX, n);
	}
	/* The last one was not hit. */
	ksft_print_msg("%s: %u injection points, %u reported\n", op->name, n - 2, failures);
	return failures;
}

static inline int outcome_of(long ret)
{
	return ret < 0 ? -errno : 0;
}

static inline int transferred(struct scene *s, ssize_t n, size_t asked)
{
	if (n < 0)
		return -errno;
	s->done = n;
	return s->done == asked ? 0 : PARTLY;
}

/* A part in the middle, which cuts nodes that the snapshot has, too. */
#define PART		2
#define PART_PAGES	99

/* A page that somebody holds has to be copied at once. */
static inline void page_hold(struct __test_metadata *_metadata, struct scene *s, void *addr)
{
	struct iovec iovec = { addr, PAGE };

	ASSERT_EQ((ssize_t)PAGE, vmsplice(s->pipe[1], &iovec, 1, 0));
}

static inline void prepare_held(struct __test_metadata *_metadata, struct scene *s)
{
	page_hold(_metadata, s, page_at(s->view, OWN));
}

static inline void walk_all(struct __test_metadata *_metadata, struct scene *s,
			    const struct operation *ops, size_t nr)
{
	s->pool = pool_filled(_metadata, PAGES);
	for (size_t i = 0; i < nr; i++) {
		unsigned int failures = walk(_metadata, s, &ops[i]);

		EXPECT_LT(ops[i].may & SELDOM ? -1 : 0, (int)failures)
			TH_LOG("%s", ops[i].name);
	}
}

/*
 * The kernel kills who has an area for restartable sequences that it cannot write
 * to, be it made to fail.
 */
static inline void rseq_end(void)
{
	struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);

	if (__rseq_size)
		syscall(SYS_rseq, area, sizeof(*area), RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}

/* Whether the kernel can do it; if so, all allocations are in. */
static inline bool inject_begin(struct __test_metadata *_metadata)
{
	nth_fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (nth_fd < 0)
		return false;
	rseq_end();
	ASSERT_TRUE(inject_settings(anywhere, nowhere))
		TH_LOG("fault injection: %s", strerror(errno));
	return true;
}

/*
 * From now on the next allocation of the same kind fails with the n-th, and two of the
 * other kind. All would, but only of a task that is told to, and as often as each kind
 * has times left.
 */
static inline void inject_more(struct __test_metadata *_metadata)
{
	more_fd = open(MAKE_IT_FAIL, O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, more_fd);
	ASSERT_TRUE(setting_write("failslab/task-filter", "Y"));
	ASSERT_TRUE(setting_write("fail_page_alloc/task-filter", "Y"));
	ASSERT_TRUE(setting_write("failslab/probability", "100"));
	ASSERT_TRUE(setting_write("fail_page_alloc/probability", "100"));
}

#endif
