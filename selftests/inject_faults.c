// SPDX-License-Identifier: GPL-2.0
/*
 * Failures injected into mmap() and what changes mappings, into page faults and
 * into fork(). See inject.h for how, and for what must not happen.
 */
#include "inject.h"

/* Mappings */

static int map(struct scene *s, int flags)
{
	s->map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, flags, s->pool, 0);
	if (s->map != MAP_FAILED)
		return 0;
	s->map = NULL;
	return -errno;
}

static int run_mmap(struct scene *s)
{
	return map(s, MAP_SHARED);
}

static int run_mmap_private(struct scene *s)
{
	return map(s, MAP_PRIVATE);
}

static void check_mmap(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	if (outcome)
		return;
	page_set(page_at(s->map, 1), TAG(5, 1));
	EXPECT_EQ(TAG(5, 1), page_tag(page_at(s->map, 1)));
	EXPECT_EQ(TAG(0, 3), page_tag(page_at(s->map, 3)));
}

static int run_munmap_part(struct scene *s)
{
	return outcome_of(munmap(page_at(s->view, PART), PART_PAGES * PAGE));
}

static void check_munmap_part(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	uint64_t private = private_pages(_metadata, s->pool, s->view);

	if (outcome)
		return;
	for (size_t page = PART; page < PART + PART_PAGES; page++)
		s->tags[page] = UNMAPPED;
	EXPECT_EQ(s->private - 3, private);
	s->private = private;
}

static int run_munmap(struct scene *s)
{
	return outcome_of(munmap(s->view, PAGES * PAGE));
}

static void check_munmap(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	if (outcome)
		return;
	EXPECT_EQ(0, pool_info(_metadata, s->pool).views);
	s->view = NULL;
}

static int run_mprotect(struct scene *s)
{
	return outcome_of(mprotect(page_at(s->view, PART), PART_PAGES * PAGE, PROT_READ));
}

static void check_mprotect(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	EXPECT_EQ(0, access_byte(page_at(s->view, OWN), LOAD));
	if (!outcome)
		EXPECT_EQ(SIGSEGV, access_byte(page_at(s->view, OWN), STORE));
	EXPECT_EQ(s->private, private_pages(_metadata, s->pool, s->view));
}

static void prepare_mremap(struct __test_metadata *_metadata, struct scene *s)
{
	s->map = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, s->map);
}

static int run_mremap(struct scene *s)
{
	return outcome_of((long)mremap(s->view, PAGES * PAGE, PAGES * PAGE,
				       MREMAP_MAYMOVE | MREMAP_FIXED, s->map));
}

/* Was there no memory to unmap the place that a part was moved from? */
static bool two_addresses(void *old)
{
	bool both = !access_byte(old, LOAD);

	if (both)
		ksft_print_msg("two addresses\n");
	return both;
}

static void check_mremap(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	char *old = s->view;

	if (outcome)
		return;
	EXPECT_EQ(1, pool_info(_metadata, s->pool).views);
	s->view = s->map;
	s->map = NULL;
	if (two_addresses(old)) {
		view_write(s, OWN, 6);
		EXPECT_EQ(s->tags[OWN], page_tag(page_at(old, OWN)));
		EXPECT_EQ(0, munmap(old, PAGES * PAGE));
	}
}

static int run_mremap_part(struct scene *s)
{
	return outcome_of((long)mremap(page_at(s->view, PART), PART_PAGES * PAGE,
				       PART_PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				       s->map));
}

static void check_mremap_part(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	bool both;

	if (outcome)
		return;
	both = two_addresses(page_at(s->view, PART));
	for (size_t i = 0; i < ARRAY_SIZE(watched); i++) {
		size_t page = watched[i];
		void *moved = page_at(s->map, page - PART);

		if (page < PART || page >= PART + PART_PAGES)
			continue;
		EXPECT_EQ(s->tags[page], page_tag(moved));
		if (both) {
			s->private += s->tags[page] == TAG(0, page);
			view_write(s, page, 6);
			EXPECT_EQ(s->tags[page], page_tag(moved));
		} else {
			s->tags[page] = UNMAPPED;
		}
	}
}

/* Faults, on s->page */

static int run_load(struct scene *s)
{
	page_tag(page_at(s->view, s->page));
	return 0;
}

static int run_store(struct scene *s)
{
	page_set(page_at(s->view, s->page), TAG(3, s->page));
	return 0;
}

static int run_load_by_system(struct scene *s)
{
	return outcome_of(pwrite(s->file, page_at(s->view, s->page), PAGE, 0));
}

static int run_store_by_system(struct scene *s)
{
	return outcome_of(pread(s->file, page_at(s->view, s->page), PAGE, 0));
}

static int run_populate_read(struct scene *s)
{
	return outcome_of(madvise(page_at(s->view, s->page), PAGE, MADV_POPULATE_READ));
}

static int run_populate_write(struct scene *s)
{
	return outcome_of(madvise(page_at(s->view, s->page), PAGE, MADV_POPULATE_WRITE));
}

static int run_vmsplice(struct scene *s)
{
	struct iovec iovec = { page_at(s->view, s->page), PAGE };

	return transferred(s, vmsplice(s->pipe[1], &iovec, 1, 0), PAGE);
}

static char data[4096];

static void check_vmsplice(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	if (outcome)
		return;
	EXPECT_EQ((ssize_t)PAGE, read(s->pipe[0], data, PAGE));
	EXPECT_EQ(s->tags[s->page], page_tag(data));
}

static void check_populate_write(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	uint64_t copies = 3 + 1 + (s->page != OWN);

	if (outcome)
		return;
	/* One copy, however often it was tried. */
	EXPECT_EQ(copies, view_copies(_metadata, s->pool, s->view));
	s->private += s->tags[s->page] == TAG(0, s->page);
}

static void check_store(struct __test_metadata *_metadata, struct scene *s, int outcome)
{
	check_populate_write(_metadata, s, outcome);
	if (!outcome)
		s->tags[s->page] = TAG(3, s->page);
}

/* fork */

/* A child's status: the view has no content, as it is documented */
#define BROKEN	2

static int child_look(struct scene *s)
{
	bool broken = access_byte(s->view, LOAD);

	for (size_t i = 0; i < ARRAY_SIZE(watched); i++) {
		char *addr = page_at(s->view, watched[i]);

		if (broken && (access_byte(addr, LOAD) != SIGBUS ||
			       access_byte(addr, BLIND_STORE) != SIGBUS))
			return EXIT_FAILURE;
		if (!broken && page_tag(addr) != s->tags[watched[i]])
			return EXIT_FAILURE;
	}
	if (broken)
		return snapshot_try(s->pool, s->view) < 0 && errno == EIO ? BROKEN : EXIT_FAILURE;
	page_set(s->view, TAG(6, 0));
	return page_tag(s->view) == TAG(6, 0) ? 0 : EXIT_FAILURE;
}

/* In part: the child exists, but could not be given a view's content. */
static int fork_to(int (*look)(struct scene *s), struct scene *s)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (!child)
		_exit(look(s));
	waitpid(child, &status, 0);
	if (status == W_EXITCODE(BROKEN, 0))
		return PARTLY;
	return status ? -ECHILD : 0;
}

static int run_fork(struct scene *s)
{
	return fork_to(child_look, s);
}

/* A view of the snapshot, with a page of its own that somebody holds */
static void prepare_view_of_snapshot(struct __test_metadata *_metadata, struct scene *s)
{
	s->map = view_map(_metadata, s->snapshot, PAGES);
	page_set(page_at(s->map, OWN), TAG(4, OWN));
	page_hold(_metadata, s, page_at(s->map, OWN));
}

/* A part goes in which the snapshot has pages, but a view without content none. */
static int child_unmap(struct scene *s)
{
	struct cowpool_info info = {};

	if (!access_byte(s->map, LOAD))
		return 0;
	munmap(page_at(s->map, PART), PART_PAGES * PAGE);
	/* The parent's page */
	if (ioctl(s->snapshot, COWPOOL_IOC_INFO, &info) || info.counters.private_pages != 1)
		return EXIT_FAILURE;
	return BROKEN;
}

static int run_fork_and_unmap(struct scene *s)
{
	return fork_to(child_unmap, s);
}

FIXTURE(inject_faults) {
	struct scene scene;
};

FIXTURE_SETUP(inject_faults)
{
	if (!inject_begin(_metadata))
		SKIP(return, "no " FAIL_NTH ": a kernel without fault injection");
}

FIXTURE_TEARDOWN(inject_faults)
{
	close(self->scene.pool);
}

static const struct operation mapping_ops[] = {
	{ "mmap", NULL, run_mmap, check_mmap, MEMORY },
	{ "mmap, MAP_PRIVATE", NULL, run_mmap_private, check_mmap, MEMORY },
	{ "munmap of a part", NULL, run_munmap_part, check_munmap_part, MEMORY },
	{ "munmap", NULL, run_munmap, check_munmap, MEMORY | SELDOM },
	{ "mprotect of a part", NULL, run_mprotect, check_mprotect, MEMORY },
	{ "mremap", prepare_mremap, run_mremap, check_mremap, MEMORY },
	{ "mremap of a part", prepare_mremap, run_mremap_part, check_mremap_part,
	  MEMORY },
};

TEST_F_TIMEOUT(inject_faults, mappings, 600)
{
	walk_all(_metadata, &self->scene, mapping_ops, ARRAY_SIZE(mapping_ops));
}

/* As when there is no memory to undo what there was no memory to do. */
TEST_F_TIMEOUT(inject_faults, mappings_twice, 600)
{
	inject_more(_metadata);
	walk_all(_metadata, &self->scene, mapping_ops, ARRAY_SIZE(mapping_ops));
}

/* A page, and whether it has an entry. */
static void prepare_read(struct __test_metadata *_metadata, struct scene *s)
{
	EXPECT_EQ(s->tags[s->page], page_tag(page_at(s->view, s->page)));
}

static void prepare_no_entry(struct __test_metadata *_metadata, struct scene *s)
{
	ASSERT_EQ(0, madvise(s->view, PAGES * PAGE, MADV_DONTNEED));
}

TEST_F_TIMEOUT(inject_faults, faults, 900)
{
	const struct operation ops[] = {
		{ "load", NULL, run_load, NULL, 0 },
		{ "store", NULL, run_store, check_store, 0 },
		{ "load by a system call", NULL, run_load_by_system, NULL, FAULT },
		{ "store by a system call", NULL, run_store_by_system, check_store, FAULT },
		{ "MADV_POPULATE_READ", NULL, run_populate_read, NULL, MEMORY | FAULT },
		{ "MADV_POPULATE_WRITE", NULL, run_populate_write, check_populate_write,
		  MEMORY | FAULT },
		{ "vmsplice", NULL, run_vmsplice, check_vmsplice, MEMORY | FAULT },
	};
	const struct {
		const char *what;
		size_t page;
		void (*prepare)(struct __test_metadata *_metadata, struct scene *s);
	} states[] = {
		{ "untouched", CLEAN, prepare_no_entry },
		{ "read", CLEAN, prepare_read },
		{ "untouched beside private ones", 5, prepare_no_entry },
		{ "shared with a snapshot", 100, prepare_no_entry },
		{ "shared, read", 600, prepare_read },
		{ "own", OWN, prepare_no_entry },
	};

	unsigned int failures = 0;

	self->scene.pool = pool_filled(_metadata, PAGES);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(states); k++) {
			struct operation op = ops[i];
			char name[64];

			snprintf(name, sizeof(name), "%s, %s", op.name, states[k].what);
			op.name = name;
			op.prepare = states[k].prepare;
			self->scene.page = states[k].page;
			failures += walk(_metadata, &self->scene, &op);
		}
	}
	EXPECT_LT(0, failures);
}

TEST_F_TIMEOUT(inject_faults, forks, 1500)
{
	const struct operation ops[] = {
		{ "fork", NULL, run_fork, NULL, MEMORY | AGAIN },
		{ "fork with a held page", prepare_held, run_fork, NULL, MEMORY | OURS },
		{ "fork of a view of a snapshot", prepare_view_of_snapshot, run_fork_and_unmap,
		  NULL, MEMORY | OURS },
	};

	walk_all(_metadata, &self->scene, ops, ARRAY_SIZE(ops));
}

TEST_HARNESS_MAIN
