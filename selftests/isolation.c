// SPDX-License-Identifier: GPL-2.0
/*
 * The first two promises: what is written through a view is seen there and
 * nowhere else, and what nobody has written exists once.
 */
#include "cowpool_test.h"

#include <sys/ptrace.h>
#include <sys/uio.h>

#define PAGES 700	/* more than one PMD entry's worth, and not a multiple */
#define VIEWS 4

FIXTURE(isolation) {
	int fd;
	char *views[VIEWS];
};

FIXTURE_SETUP(isolation)
{
	self->fd = pool_filled(_metadata, PAGES);
	for (size_t v = 0; v < VIEWS; v++)
		self->views[v] = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(isolation)
{
	for (size_t v = 0; v < VIEWS; v++)
		munmap(self->views[v], PAGES * PAGE);
	close(self->fd);
}

TEST_F(isolation, a_new_view_shows_the_pool)
{
	for (size_t v = 0; v < VIEWS; v++)
		for (size_t page = 0; page < PAGES; page++) {
			ASSERT_EQ(TAG(0, page), page_tag(page_at(self->views[v], page)))
				TH_LOG("view %zu, page %zu", v, page);
		}
}

/* View v writes every page whose number is v modulo VIEWS + 1. */
TEST_F(isolation, views_of_one_process)
{
	for (size_t page = 0; page < PAGES; page++) {
		size_t v = page % (VIEWS + 1);

		if (v < VIEWS)
			page_set(page_at(self->views[v], page), TAG(v + 1, page));
	}
	for (size_t page = 0; page < PAGES; page++) {
		size_t writer = page % (VIEWS + 1);

		for (size_t v = 0; v < VIEWS; v++) {
			ASSERT_EQ(TAG(v == writer ? v + 1 : 0, page),
				  page_tag(page_at(self->views[v], page)))
				TH_LOG("view %zu, page %zu", v, page);
		}
		ASSERT_EQ(TAG(0, page), pool_page_tag(_metadata, self->fd, page));
	}
	for (size_t v = 0; v < VIEWS; v++)
		EXPECT_EQ(PAGES / (VIEWS + 1),
			  private_pages(_metadata, self->fd, self->views[v]));
}

/* Processes that map by themselves, all at once, all writing the same pages. */
TEST_F(isolation, views_of_many_processes)
{
	enum { PROCESSES = 6 };
	pthread_barrier_t *barrier = barrier_new(_metadata, PROCESSES);
	pid_t children[PROCESSES];

	for (size_t i = 0; i < PROCESSES; i++) {
		children[i] = child_fork(_metadata);
		if (!children[i]) {
			char *view = view_map(_metadata, self->fd, PAGES);

			for (size_t page = 0; page < PAGES; page += 3)
				page_set(page_at(view, page), TAG(i + 1, page));
			pthread_barrier_wait(barrier);
			for (size_t page = 0; page < PAGES; page++)
				ASSERT_EQ(TAG(page % 3 ? 0 : i + 1, page),
					  page_tag(page_at(view, page)));
			pthread_barrier_wait(barrier);
			_exit(0);
		}
	}
	for (size_t i = 0; i < PROCESSES; i++)
		child_join(_metadata, children[i]);
	for (size_t page = 0; page < PAGES; page++)
		ASSERT_EQ(TAG(0, page), page_tag(page_at(self->views[0], page)));
}

/*
 * The first write to a page may come from anywhere. Each way writes the whole
 * page at @to, in a view, and returns 0.
 */
struct target {
	char *to;
	const void *data;
};

static int by_store(const struct target *t)
{
	memcpy(t->to, t->data, PAGE);
	return 0;
}

static int by_atomics(const struct target *t)
{
	const uint64_t *data = t->data;
	atomic_ullong *to = (void *)t->to;

	for (size_t i = 0; i < PAGE / sizeof(*to); i++)
		atomic_exchange(&to[i], data[i]);
	return 0;
}

/* The kernel writes, in the context of the process. */
static int by_read(const struct target *t)
{
	int file = memfd_create("data", 0);
	ssize_t n = pwrite(file, t->data, PAGE, 0);

	if (n > 0)
		n = pread(file, t->to, PAGE, 0);
	close(file);
	return n != (ssize_t)PAGE;
}

static int by_proc_mem(const struct target *t)
{
	int mem = open("/proc/self/mem", O_RDWR);
	ssize_t n = pwrite(mem, t->data, PAGE, (uintptr_t)t->to);

	close(mem);
	return n != (ssize_t)PAGE;
}

/*
 * Another process writes, here and in by_ptrace(): the fault happens in a
 * foreign mm. The helper has a view of its own, which must not be taken for
 * its parent's.
 */
static int by_process_vm_writev(const struct target *t)
{
	struct iovec from = { (void *)t->data, PAGE }, to = { t->to, PAGE };
	pid_t owner = getpid(), helper = fork();
	int status;

	if (!helper)
		_exit(process_vm_writev(owner, &from, 1, &to, 1, 0) != (ssize_t)PAGE);
	return waitpid(helper, &status, 0) != helper || status;
}

static int by_ptrace(const struct target *t)
{
	pid_t owner = getpid(), helper = fork();
	const long *data = t->data;
	int status, ret = 0;

	if (!helper) {
		if (ptrace(PTRACE_ATTACH, owner, 0, 0) ||
		    waitpid(owner, &status, __WALL) != owner)
			_exit(1);
		for (size_t i = 0; i < PAGE / sizeof(long); i++)
			ret |= ptrace(PTRACE_POKEDATA, owner,
				      (long *)t->to + i, data[i]) != 0;
		ret |= ptrace(PTRACE_DETACH, owner, 0, 0) != 0;
		_exit(ret);
	}
	return waitpid(helper, &status, 0) != helper || status;
}

TEST_F(isolation, every_way_to_write)
{
	const struct {
		const char *name;
		int (*write)(const struct target *t);
	} ways[] = {
		{ "store", by_store },
		{ "atomics", by_atomics },
		{ "read(2)", by_read },
		{ "/proc/self/mem", by_proc_mem },
		{ "process_vm_writev", by_process_vm_writev },
		{ "ptrace", by_ptrace },
	};
	uint64_t *data = malloc(PAGE);

	ASSERT_NE(NULL, data);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(ways); i++) {
		const char *name = ways[i / 2].name;
		size_t page = 50 * i + 7;
		struct target t = { page_at(self->views[0], page), data };

		/* To a page that nobody has touched, and to one that was read. */
		if (i % 2)
			page_tag(t.to);
		page_set(data, TAG(1, page));
		EXPECT_EQ(0, ways[i / 2].write(&t)) TH_LOG("%s", name);
		EXPECT_EQ(TAG(1, page), page_tag(t.to)) TH_LOG("%s", name);
		EXPECT_EQ(TAG(0, page), page_tag(page_at(self->views[1], page)))
			TH_LOG("%s", name);
		EXPECT_EQ(TAG(0, page), pool_page_tag(_metadata, self->fd, page))
			TH_LOG("%s", name);
	}
	free(data);
}

/* Frame numbers: one for everybody until the write, another one after it. */
TEST_F(isolation, unwritten_pages_exist_once)
{
	const size_t pages[] = { 0, 1, 63, 64, 511, 512, PAGES - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		uint64_t frame = 0, seen;

		for (size_t v = 0; v < VIEWS; v++) {
			char *addr = page_at(self->views[v], pages[i]);

			page_tag(addr);
			seen = frame_of(_metadata, addr);
			EXPECT_NE(0, seen);
			EXPECT_EQ(v ? frame : seen, seen) TH_LOG("page %zu", pages[i]);
			frame = seen;
		}
		page_set(page_at(self->views[1], pages[i]), TAG(2, pages[i]));
		EXPECT_NE(frame, frame_of(_metadata, page_at(self->views[1], pages[i])));
		page_tag(page_at(self->views[2], pages[i]));
		EXPECT_EQ(frame, frame_of(_metadata, page_at(self->views[2], pages[i])));
	}
}

/* A view of a part of a pool, at an offset. */
TEST_F(isolation, partial_views)
{
	const struct {
		size_t first, pages;
	} parts[] = { { 1, 3 }, { 500, 100 }, { 511, 2 }, { 512, PAGES - 512 }, { PAGES - 1, 1 } };

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		size_t first = parts[i].first, pages = parts[i].pages, last = first + pages - 1;
		char *part = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				  MAP_SHARED, self->fd, first * PAGE);

		ASSERT_NE(MAP_FAILED, part);
		for (size_t page = 0; page < pages; page++)
			ASSERT_EQ(TAG(0, first + page), page_tag(page_at(part, page)));
		page_set(page_at(part, pages - 1), TAG(1, last));
		EXPECT_EQ(TAG(1, last), page_tag(page_at(part, pages - 1)));
		EXPECT_EQ(TAG(0, last), page_tag(page_at(self->views[0], last)));
		EXPECT_EQ(1, private_pages(_metadata, self->fd, part));
		munmap(part, pages * PAGE);
	}
}

/* A view of the default pool, which programs that know nothing get. */
TEST_F(isolation, default_pool)
{
	int fd = device_open(_metadata);
	char *one = view_map(_metadata, fd, 2), *other = view_map(_metadata, fd, 2);
	uint64_t before = page_tag(page_at(other, 1));

	page_set(page_at(one, 1), TAG(9, 1));
	EXPECT_EQ(TAG(9, 1), page_tag(page_at(one, 1)));
	EXPECT_EQ(before, page_tag(page_at(other, 1)));
	munmap(one, 2 * PAGE);
	munmap(other, 2 * PAGE);
	close(fd);
}

TEST_HARNESS_MAIN
