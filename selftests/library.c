// SPDX-License-Identifier: GPL-2.0
/*
 * libcowpool: every function, with what it promises and how it fails.
 */
#include "cowpool_test.h"

#include <sys/uio.h>

#include "../tools/lib/cowpool.h"

#define PAGES 100

/* The errno of a call that must fail; 0 if it does not. */
#define ERROR(call) ((call) == -1 ? errno : 0)
#define ERROR_OF_POINTER(call) (!(call) ? errno : 0)

FIXTURE(library) {
	int fd;
	char *view;
	size_t size;
};

FIXTURE_SETUP(library)
{
	self->size = PAGES * PAGE;
	self->fd = cowpool_create(NULL, self->size, 0);
	ASSERT_LE(0, self->fd) TH_LOG("cowpool_create: %s", strerror(errno));
	pool_fill(_metadata, self->fd, 0, PAGES);
	self->view = cowpool_map(self->fd, 0, 0);
	ASSERT_NE(NULL, self->view);
}

FIXTURE_TEARDOWN(library)
{
	EXPECT_EQ(0, munmap(self->view, self->size));
	EXPECT_EQ(0, close(self->fd));
	pool_forget("library");
}

static void expect_tags(struct __test_metadata *_metadata, char *memory,
			size_t first, size_t pages, int writer)
{
	for (size_t page = first; page < first + pages; page++) {
		EXPECT_EQ(TAG(writer, page), page_tag(page_at(memory, page)))
			TH_LOG("page %zu", page);
	}
}

static int open_descriptors(void)
{
	int nr = 0;

	for (int fd = 0; fd < 1024; fd++)
		nr += fcntl(fd, F_GETFD) != -1;
	return nr;
}

/* Pools */

TEST_F(library, named_pools)
{
	char text[] = "some text", back[sizeof(text)];
	struct cowpool_info info;
	int fd, other;

	fd = cowpool_create("library", 1, 0600);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EEXIST, ERROR(cowpool_create("library", 1, 0600)));
	ASSERT_EQ(0, cowpool_fill(fd, PAGE - sizeof(text), text, sizeof(text)));
	EXPECT_EQ(ENOSPC, ERROR(cowpool_fill(fd, PAGE - 1, text, 2)));
	EXPECT_EQ(ENOSPC, ERROR(cowpool_fill(fd, PAGE, text, 1)));
	ASSERT_EQ(0, cowpool_fill(fd, PAGE - sizeof(text), text, sizeof(text)));

	other = cowpool_open("library");
	ASSERT_LE(0, other);
	ASSERT_EQ(0, cowpool_info(other, NULL, &info));
	EXPECT_EQ(PAGE, info.size);
	EXPECT_STREQ("library", info.name);
	EXPECT_EQ((ssize_t)sizeof(text),
		  pread(other, back, sizeof(back), PAGE - sizeof(text)));
	EXPECT_STREQ(text, back);

	ASSERT_EQ(0, cowpool_seal(other));
	EXPECT_EQ(EPERM, ERROR(cowpool_fill(fd, 0, text, 1)));
	ASSERT_EQ(0, cowpool_destroy(fd));
	EXPECT_EQ(ENOENT, ERROR(cowpool_destroy(fd)));
	EXPECT_EQ(ENOENT, ERROR(cowpool_open("library")));
	close(other);
	close(fd);
}

TEST_F(library, pools_that_cannot_be)
{
	char name[COWPOOL_NAME_SIZE + 1];

	memset(name, 'x', COWPOOL_NAME_SIZE);
	name[COWPOOL_NAME_SIZE] = 0;
	EXPECT_EQ(EINVAL, ERROR(cowpool_create(NULL, 0, 0)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_create(NULL, UINT64_MAX, 0)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_create("", 1, 0)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_create(name, 1, 0)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_create("a/b", 1, 0)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_create("library", 1, 01000)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_open("")));
	EXPECT_EQ(EINVAL, ERROR(cowpool_open(name)));
	EXPECT_EQ(EBADF, ERROR(cowpool_fill(-1, 0, "", 1)));
	EXPECT_EQ(EBADF, ERROR(cowpool_seal(-1)));
	EXPECT_EQ(EBADF, ERROR(cowpool_destroy(-1)));
	EXPECT_EQ(ETXTBSY, ERROR(cowpool_fill(self->fd, 0, "", 1)));
}

TEST_F(library, fill_from)
{
	const size_t size = 3 * PAGE + 5;
	char *text = malloc(size), *back = malloc(size);
	int file = memfd_create("source", MFD_CLOEXEC);
	int fd = cowpool_create(NULL, size, 0);
	int small = cowpool_create(NULL, PAGE, 0);

	ASSERT_LE(0, fd);
	ASSERT_LE(0, small);
	memset(text, 'x', size);
	ASSERT_EQ((ssize_t)size, write(file, text, size));
	/* From where it stands */
	ASSERT_EQ(7, lseek(file, 7, SEEK_SET));
	EXPECT_EQ((int64_t)size - 7, cowpool_fill_from(fd, file));
	EXPECT_EQ(0, cowpool_fill_from(fd, file));
	ASSERT_EQ((ssize_t)size, pread(fd, back, size, 0));
	EXPECT_EQ(0, memcmp(text, back, size - 7));
	EXPECT_EQ(0, back[size - 7]);
	lseek(file, 0, SEEK_SET);
	EXPECT_EQ(ENOSPC, ERROR(cowpool_fill_from(small, file)));
	EXPECT_EQ(EBADF, ERROR(cowpool_fill_from(fd, -1)));
	close(small);
	close(fd);
	close(file);
	free(back);
	free(text);
}

/* Views */

TEST_F(library, map_a_part)
{
	char *part = cowpool_map(self->fd, 2 * PAGE, 10 * PAGE);
	char *rest = cowpool_map(self->fd, 0, 90 * PAGE);

	ASSERT_NE(NULL, part);
	ASSERT_NE(NULL, rest);
	EXPECT_EQ(TAG(0, 11), page_tag(page_at(part, 1)));
	EXPECT_EQ(TAG(0, 99), page_tag(page_at(rest, 9)));
	EXPECT_EQ(EINVAL, ERROR_OF_POINTER(cowpool_map(self->fd, PAGE, 1)));
	EXPECT_EQ(EINVAL, ERROR_OF_POINTER(cowpool_map(self->fd, 2 * PAGE,
						       99 * PAGE)));
	EXPECT_EQ(EINVAL, ERROR_OF_POINTER(cowpool_map(self->fd, 0, self->size)));
	EXPECT_EQ(EBADF, ERROR_OF_POINTER(cowpool_map(-1, 0, 0)));
	/* Neither is all of the pool: no blocks. */
	EXPECT_EQ(EINVAL, ERROR(cowpool_free(part)));
	EXPECT_EQ(EINVAL, ERROR_OF_POINTER(cowpool_dup(rest)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_delta_save(part, 1, 0)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_delta_apply(part, 0)));
	munmap(rest, 10 * PAGE);
	munmap(part, 2 * PAGE);
}

TEST_F(library, stats)
{
	struct cowpool_counters of_view, of_pool;

	page_set(page_at(self->view, 3), TAG(1, 3));
	ASSERT_EQ(0, cowpool_stats(self->fd, page_at(self->view, 50), &of_view));
	ASSERT_EQ(0, cowpool_stats(self->fd, NULL, &of_pool));
	EXPECT_EQ(1, of_view.private_pages);
	EXPECT_EQ(1, of_view.copies_first_touch);
	EXPECT_EQ(0, memcmp(&of_view, &of_pool, sizeof(of_view)));
	EXPECT_EQ(ENOENT, ERROR(cowpool_stats(self->fd, &of_view, &of_pool)));
	EXPECT_EQ(EBADF, ERROR(cowpool_stats(-1, NULL, &of_pool)));
}

TEST_F(library, snapshot)
{
	char *frozen;
	int fd;

	pages_set(self->view, 0, 10, 1);
	fd = cowpool_snapshot(page_at(self->view, 70));
	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	pages_set(self->view, 5, 10, 2);
	frozen = cowpool_map(fd, 0, 0);
	ASSERT_NE(NULL, frozen);
	expect_tags(_metadata, frozen, 0, 10, 1);
	expect_tags(_metadata, frozen, 10, PAGES - 10, 0);
	EXPECT_EQ(EPERM, ERROR(cowpool_fill(fd, 0, "", 1)));
	EXPECT_EQ(0, cowpool_free(frozen));
	close(fd);
	EXPECT_EQ(ENOENT, ERROR(cowpool_snapshot(&fd)));
	EXPECT_EQ(ENOENT, ERROR(cowpool_snapshot(NULL)));
}

TEST_F(library, reset)
{
	pages_set(self->view, 0, 20, 1);
	EXPECT_EQ(5, cowpool_reset(page_at(self->view, 15), 10 * PAGE, 0));
	EXPECT_EQ(15, private_pages(_metadata, self->fd, self->view));
	EXPECT_EQ(15, cowpool_reset(self->view, self->size, COWPOOL_RESET_KEEP));
	EXPECT_EQ(15, private_pages(_metadata, self->fd, self->view));
	expect_tags(_metadata, self->view, 0, PAGES, 0);
	EXPECT_EQ(15, cowpool_reset(self->view, self->size, 0));
	EXPECT_EQ(0, cowpool_reset(self->view, self->size, 0));
	expect_tags(_metadata, self->view, 0, PAGES, 0);

	EXPECT_EQ(EINVAL, ERROR(cowpool_reset(self->view, 0, 0)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_reset(self->view + 1, PAGE, 0)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_reset(self->view, PAGE, ~0U)));
	EXPECT_EQ(ENOENT, ERROR(cowpool_reset(NULL, PAGE, 0)));
}

TEST_F(library, dirty)
{
	struct cowpool_range ranges[2];
	char *end = self->view + self->size;
	void *at = self->view;
	size_t pages = 0, nr = 0;

	/* 25 single pages, and two that are one range; half of them as before */
	for (size_t page = 0; page < PAGES; page += 4)
		pages_set(self->view, page, 1, page % 8 ? 1 : 0);
	pages_set(self->view, 1, 1, 1);
	while (at != end) {
		int n = cowpool_dirty(at, end - (char *)at, ranges, 2, 0, &at);

		ASSERT_LT(0, n);
		for (int i = 0; i < n; i++) {
			pages += (ranges[i].end - ranges[i].start) / PAGE;
			nr++;
		}
	}
	EXPECT_EQ(26, pages);
	EXPECT_EQ(25, nr);

	EXPECT_EQ(2, cowpool_dirty(self->view, 10 * PAGE, ranges, 2,
				   COWPOOL_DIRTY_CONTENT, &at));
	EXPECT_EQ((uintptr_t)page_at(self->view, 1), ranges[0].start);
	EXPECT_EQ((uintptr_t)page_at(self->view, 2), ranges[0].end);
	EXPECT_EQ((uintptr_t)page_at(self->view, 4), ranges[1].start);
	EXPECT_EQ((uintptr_t)page_at(self->view, 5), ranges[1].end);
	EXPECT_EQ((void *)page_at(self->view, 10), at);

	EXPECT_EQ(EINVAL, ERROR(cowpool_dirty(self->view, PAGE, ranges, 0, 0, &at)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_dirty(self->view, PAGE, ranges, 2, ~0U, &at)));
	EXPECT_EQ(ENOENT, ERROR(cowpool_dirty(NULL, PAGE, ranges, 2, 0, &at)));
	EXPECT_EQ(EFAULT, ERROR(cowpool_dirty(self->view, PAGE, NULL, 2, 0, &at)));
	EXPECT_EQ((void *)page_at(self->view, 10), at);
}

/* Blocks */

TEST_F(library, alloc)
{
	char *block = cowpool_alloc(self->size - 1);

	ASSERT_NE(NULL, block);
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(0, page_tag(page_at(block, page)));
	pages_set(block, 0, PAGES, 1);
	expect_tags(_metadata, block, 0, PAGES, 1);
	EXPECT_EQ(0, cowpool_free(block));
	EXPECT_EQ(SIGSEGV, access_byte(block, LOAD));
	EXPECT_EQ(SIGSEGV, access_byte(block + self->size - PAGE, LOAD));

	EXPECT_EQ(EINVAL, ERROR_OF_POINTER(cowpool_alloc(0)));
	EXPECT_EQ(EINVAL, ERROR_OF_POINTER(cowpool_alloc(SIZE_MAX)));
}

TEST_F(library, dup)
{
	char *block = cowpool_alloc(self->size), *copy, *second;

	ASSERT_NE(NULL, block);
	pages_set(block, 0, PAGES, 1);
	copy = cowpool_dup(block);
	ASSERT_NE(NULL, copy);
	EXPECT_EQ(0, private_pages(_metadata, self->fd, copy));
	pages_set(copy, 0, 20, 2);
	pages_set(block, 10, 20, 3);
	EXPECT_EQ(20, view_copies(_metadata, self->fd, copy));
	second = cowpool_dup(copy);
	ASSERT_NE(NULL, second);
	pages_set(copy, 0, 5, 4);

	expect_tags(_metadata, block, 0, 10, 1);
	expect_tags(_metadata, block, 10, 20, 3);
	expect_tags(_metadata, block, 30, PAGES - 30, 1);
	expect_tags(_metadata, copy, 0, 5, 4);
	expect_tags(_metadata, copy, 5, 15, 2);
	EXPECT_EQ(0, cowpool_free(copy));
	expect_tags(_metadata, second, 0, 20, 2);
	EXPECT_EQ(0, cowpool_free(block));
	expect_tags(_metadata, second, 20, PAGES - 20, 1);
	EXPECT_EQ(0, cowpool_free(second));
}

/* A chain of blocks, each a copy of the one before, is freed in every order. */
TEST_F(library, free_in_any_order)
{
	char *block[4];

	for (unsigned int order = 0; order < 4 * 4 * 4 * 4; order++) {
		unsigned int seen = 0;

		for (size_t i = 0; i < 4; i++)
			seen |= 1 << ((order >> 2 * i) & 3);
		if (seen != 15)
			continue;
		for (size_t i = 0; i < 4; i++) {
			block[i] = i ? cowpool_dup(block[i - 1]) :
				       cowpool_alloc(8 * PAGE);
			ASSERT_NE(NULL, block[i]);
			pages_set(block[i], i, 8 - i, i + 1);
		}
		for (size_t i = 0; i < 4; i++) {
			size_t n = (order >> 2 * i) & 3;

			for (size_t page = 0; page < 8; page++)
				EXPECT_EQ(TAG(page < n ? page + 1 : n + 1, page),
					  page_tag(page_at(block[n], page)));
			EXPECT_EQ(0, cowpool_free(block[n]));
		}
	}
}

TEST_F(library, free_of_others)
{
	void *plain = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	char *next = cowpool_map(self->fd, 0, 0), *hole;

	ASSERT_NE(MAP_FAILED, plain);
	ASSERT_NE(NULL, next);
	EXPECT_EQ(0, cowpool_free(NULL));
	EXPECT_EQ(ENOENT, ERROR(cowpool_free(plain)));
	EXPECT_EQ(ENOENT, ERROR_OF_POINTER(cowpool_dup(plain)));
	EXPECT_EQ(ENOENT, ERROR_OF_POINTER(cowpool_dup(NULL)));
	/* Inside of a block; whatever comes behind it is another view. */
	EXPECT_EQ(EINVAL, ERROR(cowpool_free(self->view + 1)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_free(next + PAGE)));
	EXPECT_EQ(EINVAL, ERROR_OF_POINTER(cowpool_dup(next + 1)));
	/* Something else in the middle of it */
	hole = cowpool_map(self->fd, 0, 0);
	ASSERT_NE(NULL, hole);
	ASSERT_EQ(hole + PAGE, mmap(hole + PAGE, PAGE, PROT_READ,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(EINVAL, ERROR(cowpool_free(hole)));
	EXPECT_EQ(0, hole[PAGE]);
	munmap(hole, self->size);
	expect_tags(_metadata, self->view, 0, PAGES, 0);
	expect_tags(_metadata, next, 0, PAGES, 0);
	/* All of a pool is as good as a block. */
	EXPECT_EQ(0, cowpool_free(next));
	munmap(plain, PAGE);
}

TEST_F(library, blocks_across_fork)
{
	char *block = cowpool_alloc(self->size);
	pid_t pid;

	ASSERT_NE(NULL, block);
	pages_set(block, 0, PAGES, 1);
	pid = child_fork(_metadata);
	if (!pid) {
		char *copy = cowpool_dup(block);

		ASSERT_NE(NULL, copy);
		pages_set(block, 0, 10, 2);
		expect_tags(_metadata, copy, 0, PAGES, 1);
		EXPECT_EQ(0, cowpool_free(block));
		EXPECT_EQ(0, cowpool_free(copy));
		_exit(0);
	}
	child_join(_metadata, pid);
	expect_tags(_metadata, block, 0, PAGES, 1);
	EXPECT_EQ(0, cowpool_free(block));
}

/* A block that fork() could not give its content can be given back, and no more. */
TEST_F(library, block_without_content)
{
	const char *limit = "/sys/module/cowpool/parameters/max_total_mib";
	char *block = cowpool_alloc(self->size), was[24];
	int full = pool_filled(_metadata, (1 << 20) / PAGE), ends[2];
	struct iovec held = { block, PAGE };
	pid_t pid;

	ASSERT_NE(NULL, block);
	pages_set(block, 0, PAGES, 1);
	/* What a pipe holds has to be copied for the child. */
	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ((ssize_t)PAGE, vmsplice(ends[1], &held, 1, 0));
	snprintf(was, sizeof(was), "%" PRIu64, file_value(_metadata, limit, ""));
	/* There is more already. */
	file_write(_metadata, limit, "1");
	pid = child_fork(_metadata);
	file_write(_metadata, limit, was);
	if (!pid) {
		int fd = memfd_create("delta", 0);

		EXPECT_EQ(SIGBUS, access_byte(block, LOAD));
		EXPECT_EQ(EIO, ERROR_OF_POINTER(cowpool_dup(block)));
		EXPECT_EQ(EIO, ERROR(cowpool_snapshot(block)));
		EXPECT_EQ(EIO, ERROR(cowpool_reset(block, self->size, 0)));
		EXPECT_EQ(EIO, ERROR(cowpool_delta_save(block, fd, 0)));
		EXPECT_EQ(EINVAL, ERROR(cowpool_free(block + PAGE)));
		EXPECT_EQ(0, cowpool_free(block));
		EXPECT_EQ(SIGSEGV, access_byte(block, LOAD));
		_exit(0);
	}
	child_join(_metadata, pid);
	expect_tags(_metadata, block, 0, PAGES, 1);
	EXPECT_EQ(0, cowpool_free(block));
	close(ends[0]);
	close(ends[1]);
	close(full);
}

#define THREADS 4
#define ROUNDS 15

struct duplicator {
	pthread_t thread;
	char *block;
	uint64_t number;
	bool good;
};

/* Takes copies, and copies of copies, while another one changes the block. */
static void *duplicate(void *arg)
{
	struct duplicator *me = arg;

	me->good = true;
	for (size_t round = 0; round < ROUNDS && me->good; round++) {
		char *copy = cowpool_dup(me->block);
		char *second = copy ? cowpool_dup(copy) : NULL;

		if (!second) {
			me->good = false;
			break;
		}
		page_set(page_at(copy, 1), TAG(me->number, round));
		/* The copies show one instant of the block, whatever it does. */
		for (size_t page = 0; page < PAGES; page++) {
			uint64_t first = *(uint64_t *)page_at(second, 0);
			uint64_t word = *(uint64_t *)page_at(second, page);

			me->good &= word == first || word == first - 1;
		}
		me->good &= page_tag(page_at(copy, 1)) == TAG(me->number, round);
		me->good &= !cowpool_free(round % 2 ? copy : second);
		me->good &= !cowpool_free(round % 2 ? second : copy);
	}
	return NULL;
}

TEST_F(library, threads_dup_at_once)
{
	struct duplicator duplicators[THREADS];
	char *block = cowpool_alloc(self->size);
	int descriptors = open_descriptors();
	uint64_t n = 0;

	ASSERT_NE(NULL, block);
	for (size_t i = 0; i < THREADS; i++) {
		duplicators[i].block = block;
		duplicators[i].number = i + 1;
		ASSERT_EQ(0, pthread_create(&duplicators[i].thread, NULL,
					    duplicate, &duplicators[i]));
	}
	/* Pages count up in turn: at any time no two are more than 1 apart. */
	while (pthread_tryjoin_np(duplicators[0].thread, NULL)) {
		n++;
		for (size_t page = 0; page < PAGES; page++)
			atomic_store((_Atomic uint64_t *)page_at(block, page), n);
	}
	EXPECT_TRUE(duplicators[0].good);
	for (size_t i = 1; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(duplicators[i].thread, NULL));
		EXPECT_TRUE(duplicators[i].good);
	}
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(n, *(uint64_t *)page_at(block, page));
	EXPECT_EQ(0, cowpool_free(block));
	EXPECT_EQ(descriptors, open_descriptors());
}

/* Whatever a call had opened when it failed is closed again. */
TEST_F(library, failures_leave_nothing)
{
	int descriptors = open_descriptors();
	struct rlimit old, few = { 0 };
	struct cowpool_range range;
	void *next;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	few.rlim_max = old.rlim_max;
	pages_set(self->view, 0, 1, 1);
	/* One more may be opened each time, until there are enough. */
	for (few.rlim_cur = 0; few.rlim_cur < 32; few.rlim_cur++) {
		void *copy, *block;
		int fd;

		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &few));
		fd = cowpool_snapshot(self->view);
		EXPECT_TRUE(fd >= 0 || errno == EMFILE);
		close(fd);
		EXPECT_TRUE(cowpool_dirty(self->view, PAGE, &range, 1, 0,
					  &next) == 1 || errno == EMFILE);
		copy = cowpool_dup(self->view);
		EXPECT_TRUE(copy || errno == EMFILE);
		block = cowpool_alloc(PAGE);
		EXPECT_TRUE(block || errno == EMFILE);
		if (few.rlim_cur == 31)
			EXPECT_TRUE(fd >= 0 && copy && block);
		/* What could be made can be freed. */
		EXPECT_EQ(0, cowpool_free(copy));
		EXPECT_EQ(0, cowpool_free(block));
	}
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	EXPECT_EQ(descriptors, open_descriptors());
	/* The view of the fixture */
	EXPECT_EQ(1, stat_value(_metadata, "views"));
}

/* Deltas */

static int delta_file(struct __test_metadata *_metadata, void *view,
		      unsigned int flags)
{
	int file = memfd_create("delta", MFD_CLOEXEC);

	ASSERT_LE(0, file);
	ASSERT_EQ(0, cowpool_delta_save(view, file, flags))
		TH_LOG("cowpool_delta_save: %s", strerror(errno));
	return file;
}

static off_t file_size(int file)
{
	struct stat st;

	return fstat(file, &st) ? -1 : st.st_size;
}

TEST_F(library, delta)
{
	char *other = cowpool_map(self->fd, 0, 0);
	int all, content;

	ASSERT_NE(NULL, other);
	pages_set(self->view, 7, 3, 1);
	pages_set(self->view, 50, 40, 1);
	pages_set(self->view, PAGES - 1, 1, 1);
	pages_set(self->view, 20, 2, 0);
	all = delta_file(_metadata, self->view, 0);
	content = delta_file(_metadata, self->view, COWPOOL_DIRTY_CONTENT);
	EXPECT_EQ((off_t)(64 + 4 * 16 + 46 * PAGE + 32), file_size(all));
	EXPECT_EQ((off_t)(64 + 3 * 16 + 44 * PAGE + 32), file_size(content));

	ASSERT_EQ(0, cowpool_delta_apply(other, content))
		TH_LOG("cowpool_delta_apply: %s", strerror(errno));
	EXPECT_EQ(0, memcmp(self->view, other, self->size));
	EXPECT_EQ(44, private_pages(_metadata, self->fd, other));
	EXPECT_EQ(44, cowpool_reset(other, self->size, 0));
	ASSERT_EQ(0, cowpool_delta_apply(other, all));
	EXPECT_EQ(0, memcmp(self->view, other, self->size));
	EXPECT_EQ(46, private_pages(_metadata, self->fd, other));
	close(content);
	close(all);
	cowpool_free(other);
}

TEST_F(library, delta_of_nothing)
{
	int file = delta_file(_metadata, self->view, 0);

	EXPECT_EQ(64 + 32, file_size(file));
	EXPECT_EQ(0, cowpool_delta_apply(self->view, file));
	EXPECT_EQ(0, private_pages(_metadata, self->fd, self->view));
	close(file);
}

/* More ranges than a buffer of the library holds */
TEST_F(library, delta_of_many_ranges)
{
	const size_t pages = 2000;
	char *block = cowpool_alloc(pages * PAGE), *other;
	int file;

	ASSERT_NE(NULL, block);
	other = cowpool_dup(block);
	ASSERT_NE(NULL, other);
	for (size_t page = 0; page < pages; page += 2)
		*(uint64_t *)page_at(block, page) = page + 1;
	file = delta_file(_metadata, block, 0);
	EXPECT_EQ((off_t)(64 + 1000 * 16 + 1000 * PAGE + 32), file_size(file));
	ASSERT_EQ(0, cowpool_delta_apply(other, file));
	EXPECT_EQ(0, memcmp(block, other, pages * PAGE));
	close(file);
	cowpool_free(other);
	cowpool_free(block);
}

/* Every byte counts, and so does every length. */
TEST_F(library, delta_damaged)
{
	char *other = cowpool_map(self->fd, 0, 0), byte, wrong;
	int file;
	off_t size;

	ASSERT_NE(NULL, other);
	pages_set(self->view, 7, 3, 1);
	file = delta_file(_metadata, self->view, 0);
	size = file_size(file);
	for (off_t at = 0; at < size; at += at < 128 || at > size - 64 ? 1 : 97) {
		ASSERT_EQ(1, pread(file, &byte, 1, at));
		wrong = byte ^ 0x10;
		ASSERT_EQ(1, pwrite(file, &wrong, 1, at));
		/* Magic and version say that it is something else. */
		EXPECT_EQ(at < 12 ? EINVAL : EBADMSG,
			  ERROR(cowpool_delta_apply(other, file)))
			TH_LOG("byte %jd", (intmax_t)at);
		ASSERT_EQ(1, pwrite(file, &byte, 1, at));
	}
	ASSERT_EQ(0, ftruncate(file, size + 1));
	EXPECT_EQ(EBADMSG, ERROR(cowpool_delta_apply(other, file)));
	for (off_t length = size - 1; length >= 0; length -= length < 150 ? 1 : 91) {
		ASSERT_EQ(0, ftruncate(file, length));
		EXPECT_EQ(length < 8 ? EINVAL : EBADMSG,
			  ERROR(cowpool_delta_apply(other, file)))
			TH_LOG("length %jd", (intmax_t)length);
	}
	EXPECT_EQ(0, private_pages(_metadata, self->fd, other));
	close(file);
	cowpool_free(other);
}

TEST_F(library, delta_refused)
{
	char *small = cowpool_alloc(PAGE);
	int file, ends[2];

	ASSERT_NE(NULL, small);
	ASSERT_EQ(0, pipe(ends));
	pages_set(self->view, 7, 3, 1);
	file = delta_file(_metadata, self->view, 0);
	EXPECT_EQ(ERANGE, ERROR(cowpool_delta_apply(small, file)));
	EXPECT_EQ(0, page_tag(small));
	EXPECT_EQ(ESPIPE, ERROR(cowpool_delta_apply(self->view, ends[0])));
	EXPECT_EQ(EBADF, ERROR(cowpool_delta_apply(self->view, -1)));
	EXPECT_EQ(EBADF, ERROR(cowpool_delta_save(self->view, -1, 0)));
	EXPECT_EQ(EINVAL, ERROR(cowpool_delta_save(self->view, file, ~0U)));
	EXPECT_EQ(ENOENT, ERROR(cowpool_delta_save(NULL, file, 0)));
	EXPECT_EQ(ENOENT, ERROR(cowpool_delta_apply(&file, file)));
	/* Read-only memory is no reason for a signal. */
	ASSERT_EQ(0, mprotect(self->view, self->size, PROT_READ));
	EXPECT_EQ(EFAULT, ERROR(cowpool_delta_apply(self->view, file)));
	expect_tags(_metadata, self->view, 7, 3, 1);
	/* A pipe will do for saving. */
	EXPECT_EQ(0, cowpool_delta_save(small, ends[1], 0));
	close(ends[0]);
	close(ends[1]);
	close(file);
	cowpool_free(small);
}

struct counter {
	char *view;
	atomic_bool stop;
};

static void *count_up(void *arg)
{
	struct counter *counter = arg;

	for (uint64_t n = 1; !atomic_load(&counter->stop); n++)
		for (size_t page = 0; page < PAGES; page++)
			atomic_store((_Atomic uint64_t *)page_at(counter->view, page),
				     n);
	return NULL;
}

/* While a thread writes page after page, deltas show no mixture. */
TEST_F(library, delta_is_of_one_instant)
{
	struct counter counter = { .view = cowpool_alloc(self->size) };
	char *other = cowpool_alloc(self->size);
	uint64_t before = 0;
	pthread_t thread;

	ASSERT_NE(NULL, counter.view);
	ASSERT_NE(NULL, other);
	ASSERT_EQ(0, pthread_create(&thread, NULL, count_up, &counter));
	for (int round = 0; round < 20; round++) {
		uint64_t first;
		int file;

		/* It goes on. */
		while (*(volatile uint64_t *)counter.view == before)
			sched_yield();
		file = delta_file(_metadata, counter.view, 0);

		ASSERT_EQ(0, cowpool_delta_apply(other, file));
		first = *(uint64_t *)other;
		for (size_t page = 0; page < PAGES; page++) {
			uint64_t word = *(uint64_t *)page_at(other, page);

			EXPECT_TRUE(word == first || word + 1 == first);
		}
		EXPECT_LT(before, first);
		before = first;
		close(file);
	}
	atomic_store(&counter.stop, true);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, cowpool_free(other));
	EXPECT_EQ(0, cowpool_free(counter.view));
}

TEST_HARNESS_MAIN
