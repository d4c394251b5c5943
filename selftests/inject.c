// SPDX-License-Identifier: GPL-2.0
/*
 * Failures injected into the operations on descriptors, and into SNAPSHOT, RESET
 * and DIRTY. See inject.h for how, and for what must not happen.
 */
#include "inject.h"

#define NAME "selftest-inject"

/* The descriptor's operations */

static int run_open(struct scene *s)
{
	s->made = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);
	return outcome_of(s->made);
}

/* With nothing else open the module mounts its file system. */
static void check_open_first(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	if (outcome)
		return;
	EXPECT_EQ(1, pread(s->made, &outcome, 1, 0));
	close(s->made);
}

static int run_create(struct scene *s)
{
	struct cowpool_create create = { .size = PAGES * PAGE, .mode = 0600, .name = NAME };

	return outcome_of(ioctl(s->fd, COWPOOL_IOC_CREATE, &create));
}

static void check_create(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	struct cowpool_info info = pool_info(_metadata, s->fd);

	EXPECT_STREQ(outcome ? COWPOOL_DEFAULT_NAME : NAME, info.name);
	if (!outcome)
		EXPECT_EQ(0, ioctl(s->fd, COWPOOL_IOC_DESTROY));
}

static int run_attach(struct scene *s)
{
	return outcome_of(pool_attach(s->fd, COWPOOL_DEFAULT_NAME));
}

static int run_info(struct scene *s)
{
	struct cowpool_info info = {};

	return outcome_of(ioctl(s->pool, COWPOOL_IOC_INFO, &info));
}

static int run_info_view(struct scene *s)
{
	struct cowpool_info info = { .addr = (uintptr_t)s->view, .flags = COWPOOL_INFO_VIEW };

	return outcome_of(ioctl(s->pool, COWPOOL_IOC_INFO, &info));
}

static int run_seal(struct scene *s)
{
	return outcome_of(ioctl(s->pool, COWPOOL_IOC_SEAL));
}

static int run_debugfs(struct scene *s)
{
	static const char *const files[] = { DEBUGFS "stats", DEBUGFS "pools", DEBUGFS "views" };
	char buffer[4096];
	int outcome = 0;

	(void)s;
	for (size_t i = 0; i < ARRAY_SIZE(files) && !outcome; i++) {
		int fd = open(files[i], O_RDONLY | O_CLOEXEC);

		outcome = outcome_of(fd);
		if (!outcome)
			outcome = outcome_of(read(fd, buffer, sizeof(buffer)));
		close(fd);
	}
	return outcome;
}

/* Reading and writing */

static char data[16 * 4096];

static void prepare_small(struct __test_metadata *_metadata, struct scene *s)
{
	close(s->fd);
	s->fd = pool_create(_metadata, SMALL, NULL, 0);
	for (size_t i = 0; i < sizeof(data) / PAGE; i++)
		page_set(page_at(data, i), TAG(4, i));
	s->done = 0;
}

/* Where data goes in the small pool: the folio's size depends on it. */
#define ODD		507
#define ODD_PAGES	7

static int run_write_folio(struct scene *s)
{
	return transferred(s, pwrite(s->fd, data, PAGE, 0), PAGE);
}

static int run_write_odd(struct scene *s)
{
	return transferred(s, pwrite(s->fd, data, ODD_PAGES * PAGE, ODD * PAGE), ODD_PAGES * PAGE);
}

static void expect_small(struct __test_metadata *_metadata, struct scene *s, size_t first,
			 size_t pages)
{
	EXPECT_EQ(pages, pool_info(_metadata, s->fd).filled_pages);
	for (size_t page = ODD - 1; page < SMALL + ODD - 1; page++) {
		size_t at = page % SMALL, i = at - first;

		EXPECT_EQ(at >= first && i < pages ? TAG(4, i) : 0,
			  pool_page_tag(_metadata, s->fd, at));
	}
}

static void check_write_folio(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	expect_small(_metadata, s, 0, !outcome);
}

static void check_write_odd(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	expect_small(_metadata, s, ODD, outcome < 0 ? 0 : s->done / PAGE);
}

static int run_read(struct scene *s)
{
	return transferred(s, pread(s->snapshot, data, 3 * PAGE, 2 * PAGE), 3 * PAGE);
}

static void check_read(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	for (size_t i = 0; outcome >= 0 && i < s->done / PAGE; i++)
		EXPECT_EQ(TAG(i == 1, 2 + i), page_tag(page_at(data, i)));
}

static void prepare_splice(struct __test_metadata *_metadata, struct scene *s)
{
	prepare_small(_metadata, s);
	ASSERT_EQ((ssize_t)PAGE, write(s->pipe[1], data, PAGE));
}

static int run_splice_write(struct scene *s)
{
	/* By the file position: the kernel reports an offset when all is done. */
	return transferred(s, splice(s->pipe[0], NULL, s->fd, NULL, PAGE, 0), PAGE);
}

static int run_splice_read(struct scene *s)
{
	lseek(s->snapshot, 3 * PAGE, SEEK_SET);
	return transferred(s, splice(s->snapshot, NULL, s->pipe[1], NULL, PAGE, 0), PAGE);
}

static void check_splice_read(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	if (outcome)
		return;
	EXPECT_EQ((ssize_t)PAGE, read(s->pipe[0], data, PAGE));
	EXPECT_EQ(TAG(1, 3), page_tag(data));
}

static int run_snapshot(struct scene *s)
{
	s->made = snapshot_try(s->pool, s->view);
	return outcome_of(s->made);
}

static void check_snapshot(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	for (size_t i = 0; i < ARRAY_SIZE(watched) && !outcome; i++) {
		EXPECT_EQ(s->tags[watched[i]],
			  pool_page_tag(_metadata, s->made, watched[i]));
	}
}

static int run_reset(struct scene *s)
{
	return outcome_of(reset_try(s->pool, s->view, PAGES, 0));
}

static int run_reset_part(struct scene *s)
{
	return outcome_of(reset_try(s->pool, page_at(s->view, PART), PART_PAGES, 0));
}

static int run_reset_keep(struct scene *s)
{
	return outcome_of(reset_try(s->pool, s->view, PAGES, COWPOOL_RESET_KEEP));
}

static void now_reset(struct scene *s, size_t first, size_t pages, uint64_t private)
{
	for (size_t page = first; page < first + pages; page++)
		s->tags[page] = TAG(0, page);
	s->private = private;
}

static void check_reset(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	(void)_metadata;
	if (!outcome)
		now_reset(s, 0, PAGES, 0);
}

static void check_reset_part(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	(void)_metadata;
	if (!outcome)
		now_reset(s, PART, PART_PAGES, 1);
}

static void check_reset_keep(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	(void)_metadata;
	if (!outcome)
		now_reset(s, 0, PAGES, 1);
}

static struct cowpool_range ranges[8];

static int dirty(struct scene *s, unsigned int flags)
{
	int n = dirty_try(s->pool, s->view, PAGES, flags, ranges, ARRAY_SIZE(ranges), NULL);

	s->done = n;
	return outcome_of(n);
}

static int run_dirty(struct scene *s)
{
	return dirty(s, 0);
}

static int run_dirty_content(struct scene *s)
{
	return dirty(s, COWPOOL_DIRTY_CONTENT);
}

static void check_dirty(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	if (outcome)
		return;
	ASSERT_EQ(3, s->done);
	EXPECT_EQ((uintptr_t)page_at(s->view, 3), ranges[0].start);
	EXPECT_EQ((uintptr_t)page_at(s->view, OWN + 1), ranges[0].end);
	EXPECT_EQ((uintptr_t)page_at(s->view, 600), ranges[2].start);
}

FIXTURE(inject) {
	struct scene scene;
};

FIXTURE_SETUP(inject)
{
	if (!inject_begin(_metadata))
		SKIP(return, "no " FAIL_NTH ": a kernel without fault injection");
}

FIXTURE_TEARDOWN_PARENT(inject)
{
	pool_forget(NAME);
}

TEST_F(inject, first_open)
{
	const struct operation op = {
		"first open", NULL, run_open, check_open_first, MEMORY | FAULT | BARE
	};

	EXPECT_LT(0, walk(_metadata, &self->scene, &op));
}

TEST_F_TIMEOUT(inject, descriptors, 600)
{
	const struct operation ops[] = {
		{ "open", NULL, run_open, NULL, MEMORY | FAULT },
		{ "CREATE", NULL, run_create, check_create, MEMORY | FAULT },
		{ "ATTACH", NULL, run_attach, NULL, FAULT },
		{ "INFO", NULL, run_info, NULL, FAULT },
		{ "INFO of a view", NULL, run_info_view, NULL, FAULT },
		{ "SEAL", NULL, run_seal, NULL, SELDOM },
		{ "debugfs", NULL, run_debugfs, NULL, MEMORY | FAULT },
	};

	walk_all(_metadata, &self->scene, ops, ARRAY_SIZE(ops));
}

TEST_F_TIMEOUT(inject, reading_and_writing, 600)
{
	const struct operation ops[] = {
		{ "write of a 2 MiB folio", prepare_small, run_write_folio, check_write_folio,
		  MEMORY | FAULT },
		{ "write of odd pages", prepare_small, run_write_odd, check_write_odd,
		  MEMORY | FAULT },
		{ "read", NULL, run_read, check_read, FAULT },
		{ "splice to a pool", prepare_splice, run_splice_write, check_write_folio,
		  MEMORY | FAULT },
		{ "splice from a pool", NULL, run_splice_read, check_splice_read, MEMORY | FAULT },
	};

	walk_all(_metadata, &self->scene, ops, ARRAY_SIZE(ops));
}

TEST_F_TIMEOUT(inject, ioctls_on_views, 600)
{
	const struct operation ops[] = {
		{ "SNAPSHOT", NULL, run_snapshot, check_snapshot, MEMORY | FAULT },
		{ "SNAPSHOT with a held page", prepare_held, run_snapshot, check_snapshot,
		  MEMORY | FAULT },
		{ "RESET", NULL, run_reset, check_reset, FAULT | LATE },
		{ "RESET of a part", NULL, run_reset_part, check_reset_part,
		  MEMORY | FAULT | LATE },
		{ "RESET KEEP", NULL, run_reset_keep, check_reset_keep,
		  MEMORY | FAULT | LATE | IN_PARTS },
		{ "DIRTY", NULL, run_dirty, check_dirty, MEMORY | FAULT },
		{ "DIRTY CONTENT", NULL, run_dirty_content, check_dirty, MEMORY | FAULT },
	};

	walk_all(_metadata, &self->scene, ops, ARRAY_SIZE(ops));
}

TEST_HARNESS_MAIN
