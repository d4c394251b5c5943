// SPDX-License-Identifier: GPL-2.0
/*
 * userfaultfd: a view is not taken. A MAP_PRIVATE mapping is, for marks that the
 * kernel itself takes away at the first write; they may stand where no page is, and
 * must behave as over any file.
 */
#include "snapshot.h"

#include <linux/userfaultfd.h>

/* What the C library's headers may lack */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY	1
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif

#define PAGES	1100

/* Returns a descriptor, or -1 if the kernel has not got all that. */
static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (uffd >= 0 && ioctl(uffd, UFFDIO_API, &api)) {
		close(uffd);
		uffd = -1;
	}
	return uffd;
}

static int uffd_register(int uffd, void *addr, uint64_t mode)
{
	struct uffdio_register range = {
		.range = { (uintptr_t)addr, PAGES * PAGE },
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &range);
}

FIXTURE(view) {
	int fd, uffd;
	char *view;
};

FIXTURE_VARIANT(view) {
	uint64_t features, mode;
};

FIXTURE_VARIANT_ADD(view, missing) { 0, UFFDIO_REGISTER_MODE_MISSING };
FIXTURE_VARIANT_ADD(view, marks) { 0, UFFDIO_REGISTER_MODE_WP };
FIXTURE_VARIANT_ADD(view, asynchronous_marks) {
	UFFD_FEATURE_WP_ASYNC, UFFDIO_REGISTER_MODE_WP
};

FIXTURE_SETUP(view)
{
	self->uffd = uffd_open(variant->features);
	if (self->uffd < 0)
		SKIP(return, "this kernel's userfaultfd has no such thing");
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(view)
{
	if (self->uffd < 0)
		return;
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
	close(self->uffd);
}

TEST_F(view, is_not_taken)
{
	EXPECT_EQ(-1, uffd_register(self->uffd, self->view, variant->mode));
	EXPECT_EQ(EINVAL, errno);
	page_set(self->view, TAG(1, 0));
	EXPECT_EQ(TAG(1, 0), page_tag(self->view));
	EXPECT_EQ(1, private_pages(_metadata, self->fd, self->view));
}

FIXTURE(private) {
	int fd, uffd;
	char *map;
};

FIXTURE_VARIANT(private) {
	enum { POOL, SNAPSHOT, MEMFD } of;
};

FIXTURE_VARIANT_ADD(private, pool) { POOL };
FIXTURE_VARIANT_ADD(private, snapshot) { SNAPSHOT };
FIXTURE_VARIANT_ADD(private, memfd) { MEMFD };

/* With private pages all over, so that no large folio is mapped as a whole */
static int snapshot_instead(struct __test_metadata *_metadata, int fd)
{
	char *view = view_map(_metadata, fd, PAGES);
	int snapshot;

	for (size_t page = 0; page < PAGES; page += 50)
		page_set(page_at(view, page), TAG(0, page));
	snapshot = snapshot_take(_metadata, fd, view);
	munmap(view, PAGES * PAGE);
	close(fd);
	return snapshot;
}

FIXTURE_SETUP(private)
{
	self->uffd = uffd_open(UFFD_FEATURE_WP_ASYNC);
	if (self->uffd < 0)
		SKIP(return, "this kernel's userfaultfd has no asynchronous marks");
	self->fd = pool_or_memfd(_metadata, variant->of != MEMFD, PAGES);
	pool_fill(_metadata, self->fd, 0, PAGES);
	if (variant->of == SNAPSHOT)
		self->fd = snapshot_instead(_metadata, self->fd);
	self->map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			 self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	ASSERT_EQ(0, uffd_register(self->uffd, self->map, UFFDIO_REGISTER_MODE_WP));
}

FIXTURE_TEARDOWN(private)
{
	if (self->uffd < 0)
		return;
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), pool_page_tag(_metadata, self->fd, page));
	munmap(self->map, PAGES * PAGE);
	close(self->fd);
	close(self->uffd);
}

/* Marks all pages, whether there are entries or not. */
static void mark(struct __test_metadata *_metadata, int uffd, char *map)
{
	struct uffdio_writeprotect range = {
		.range = { (uintptr_t)map, PAGES * PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	ASSERT_EQ(0, ioctl(uffd, UFFDIO_WRITEPROTECT, &range));
}

static bool is_marked(struct __test_metadata *_metadata, void *addr)
{
	return pagemap_entry(_metadata, addr) >> 57 & 1;
}

/*
 * Each third page is written, and with that loses its mark, if it has one; the others
 * are read, one before, one after it, and keep theirs.
 */
static void use(struct __test_metadata *_metadata, char *map, int writer, bool marked)
{
	for (size_t page = 0; page + 2 < PAGES; page += 3) {
		for (size_t i = 0; i < 3; i++)
			EXPECT_EQ(marked, is_marked(_metadata, page_at(map, page + i)));
		EXPECT_EQ(TAG(0, page), page_tag(page_at(map, page)));
		page_set(page_at(map, page + 1), TAG(writer, page + 1));
		EXPECT_EQ(TAG(0, page + 2), page_tag(page_at(map, page + 2)));
		EXPECT_EQ(TAG(writer, page + 1), page_tag(page_at(map, page + 1)));
		for (size_t i = 0; i < 3; i++) {
			EXPECT_EQ(marked && i != 1, is_marked(_metadata, page_at(map, page + i)))
				TH_LOG("page %zu", page + i);
		}
	}
}

TEST_F(private, marks_where_no_page_is)
{
	mark(_metadata, self->uffd, self->map);
	use(_metadata, self->map, 1, true);
	mark(_metadata, self->uffd, self->map);
	use(_metadata, self->map, 2, true);
}

TEST_F(private, marks_where_pages_are)
{
	use(_metadata, self->map, 1, false);
	mark(_metadata, self->uffd, self->map);
	use(_metadata, self->map, 2, true);
	/* Those of pages that are in the page cache or a pool stay. */
	mark(_metadata, self->uffd, self->map);
	ASSERT_EQ(0, madvise(self->map, PAGES * PAGE, MADV_DONTNEED));
	use(_metadata, self->map, 3, is_marked(_metadata, self->map));
}

TEST_HARNESS_MAIN
