// SPDX-License-Identifier: GPL-2.0
/*
 * What bad input gets: each row takes a good request, spoils one thing and
 * names the errno. Nothing may have changed afterwards.
 */
#include "snapshot.h"

#include <stddef.h>
#include <sys/uio.h>

#define NAME	"selftest-bad"
#define PAGES	8

FIXTURE(bad_input) {
	int fd;
	struct cowpool_info before;
};

FIXTURE_SETUP(bad_input)
{
	self->fd = pool_filled(_metadata, PAGES);
	self->before = pool_info(_metadata, self->fd);
}

/* The descriptor still acts on the same pool, and that is what it was. */
FIXTURE_TEARDOWN(bad_input)
{
	struct cowpool_info after = pool_info(_metadata, self->fd);

	EXPECT_EQ(0, memcmp(&self->before, &after, sizeof(after)));
	for (size_t page = 0; page < PAGES; page++)
		EXPECT_EQ(TAG(0, page), pool_page_tag(_metadata, self->fd, page));
	close(self->fd);
	pool_forget(NAME);
}

/* One field of a request, overwritten with @bytes bytes of @value. */
struct poke {
	const char *what;
	size_t offset, bytes;
	uint64_t value;
	int expected;
};

#define POKE(what, type, field, value, expected) \
	{ what, offsetof(struct type, field), sizeof(((struct type *)0)->field), value, expected }

static void poke(void *request, const struct poke *row)
{
	/* Little-endian or one byte: fields are integers. */
	if (row->bytes > sizeof(row->value))
		memset((char *)request + row->offset, row->value, row->bytes);
	else
		memcpy((char *)request + row->offset, &row->value, row->bytes);
}

TEST_F(bad_input, create)
{
	const struct poke rows[] = {
		POKE("size 0", cowpool_create, size, 0, EINVAL),
		POKE("size 1", cowpool_create, size, 1, EINVAL),
		POKE("size not of whole pages", cowpool_create, size, 4097, EINVAL),
		POKE("size of all ones", cowpool_create, size, UINT64_MAX, EINVAL),
		POKE("size beyond any offset", cowpool_create, size, 1ULL << 63, EINVAL),
		POKE("size over the limit", cowpool_create, size, 1ULL << 61, EDQUOT),
		POKE("unknown flag", cowpool_create, flags, 1, EINVAL),
		POKE("all flags", cowpool_create, flags, UINT32_MAX, EINVAL),
		POKE("set-user-id bit", cowpool_create, mode, 04600, EINVAL),
		POKE("all mode bits", cowpool_create, mode, UINT32_MAX, EINVAL),
		POKE("reserved", cowpool_create, reserved[0], 1, EINVAL),
		POKE("reserved, last", cowpool_create, reserved[1], 1ULL << 63, EINVAL),
		POKE("name not terminated", cowpool_create, name, 'x', EINVAL),
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cowpool_create create = { .size = PAGE, .mode = 0600, .name = NAME };

		poke(&create, &rows[i]);
		EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_CREATE, &create))
			TH_LOG("%s", rows[i].what);
		EXPECT_EQ(rows[i].expected, errno) TH_LOG("%s", rows[i].what);
	}
}

TEST_F(bad_input, attach)
{
	const struct poke rows[] = {
		POKE("unknown flag", cowpool_attach, flags, 1, EINVAL),
		POKE("reserved", cowpool_attach, reserved, 1, EINVAL),
		POKE("name not terminated", cowpool_attach, name, 'x', EINVAL),
		POKE("no name", cowpool_attach, name, 0, EINVAL),
		POKE("no such pool", cowpool_attach, name[0], 'X', ENOENT),
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cowpool_attach attach = { .name = COWPOOL_DEFAULT_NAME };

		poke(&attach, &rows[i]);
		EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_ATTACH, &attach))
			TH_LOG("%s", rows[i].what);
		EXPECT_EQ(rows[i].expected, errno) TH_LOG("%s", rows[i].what);
	}
}

TEST_F(bad_input, info)
{
	int on_stack;
	const struct poke rows[] = {
		POKE("unknown flag", cowpool_info, flags, 2, EINVAL),
		POKE("unknown flag besides", cowpool_info, flags, 3, EINVAL),
		POKE("reserved", cowpool_info, reserved[0], 1, EINVAL),
		{ "reserved, last byte", sizeof(struct cowpool_info) - 1, 1, 0x80, EINVAL },
		POKE("address but no flag", cowpool_info, flags, 0, EINVAL),
		POKE("no mapping there", cowpool_info, addr, 0, ENOENT),
		POKE("not a view", cowpool_info, addr, (uintptr_t)&on_stack, ENOENT),
		POKE("no address of a program", cowpool_info, addr, UINT64_MAX, ENOENT),
	};
	char *view = view_map(_metadata, self->fd, PAGES);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cowpool_info info = {
			.addr = (uintptr_t)view,
			.flags = COWPOOL_INFO_VIEW,
		};

		poke(&info, &rows[i]);
		EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_INFO, &info))
			TH_LOG("%s", rows[i].what);
		EXPECT_EQ(rows[i].expected, errno) TH_LOG("%s", rows[i].what);
	}
	munmap(view, PAGES * PAGE);
}

TEST_F(bad_input, names)
{
	const char *const bad[] = {
		"a/b", "a b", "a\nb", ".", "..", ".hidden", "-option", "a*", "a\\b",
		"caf\xc3\xa9", "a\x7f", "a:b", "%s",
	};
	const char *const good[] = {
		"a", "0", "_", "A.b-c_9", "a..", "0123456789012345678901234567890",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct cowpool_create create = { .size = PAGE };

		snprintf(create.name, sizeof(create.name), "%s", bad[i]);
		EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_CREATE, &create))
			TH_LOG("'%s'", bad[i]);
		EXPECT_EQ(EINVAL, errno) TH_LOG("'%s'", bad[i]);
		EXPECT_EQ(-1, pool_attach(self->fd, bad[i])) TH_LOG("'%s'", bad[i]);
		EXPECT_EQ(EINVAL, errno) TH_LOG("'%s'", bad[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		int fd = pool_create(_metadata, 1, good[i], 0600);

		EXPECT_STREQ(good[i], pool_info(_metadata, fd).name);
		EXPECT_EQ(0, ioctl(fd, COWPOOL_IOC_DESTROY));
		close(fd);
	}
}

TEST_F(bad_input, name_taken)
{
	struct cowpool_create create = { .size = PAGE, .name = COWPOOL_DEFAULT_NAME };
	int fd = pool_create(_metadata, 1, NAME, 0600);

	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(EEXIST, errno);
	snprintf(create.name, sizeof(create.name), NAME);
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(0, ioctl(fd, COWPOOL_IOC_DESTROY));
	close(fd);
}

TEST_F(bad_input, destroy_what_has_no_name)
{
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_DESTROY));
	EXPECT_EQ(ENOENT, errno);
}

TEST_F(bad_input, ioctl_numbers)
{
	struct cowpool_info info = {};
	const unsigned long unknown[] = {
		_IO(0xCB, 0), _IO(0xCB, 0x3f), _IO(0xCB, 0x7f), _IO(0xCB, 0xff),
		/* right number, wrong type, size or direction */
		_IOWR(0xCC, 0x44, struct cowpool_info),
		_IOWR(0xCB, 0x44, struct cowpool_create),
		_IOR(0xCB, 0x44, struct cowpool_info),
		_IO(0xCB, 0x44), 0, UINT32_MAX,
		/* TCGETS: somebody else's */
		0x5401,
	};

	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		EXPECT_EQ(-1, ioctl(self->fd, unknown[i], &info))
			TH_LOG("%#lx", unknown[i]);
		EXPECT_EQ(ENOTTY, errno) TH_LOG("%#lx", unknown[i]);
	}
}

TEST_F(bad_input, ioctl_pointers)
{
	const unsigned long numbers[] = {
		COWPOOL_IOC_CREATE, COWPOOL_IOC_ATTACH, COWPOOL_IOC_INFO,
	};
	/* A request that ends in front of a page that is not there */
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const void *const bad[] = {
		NULL, (void *)8, (void *)-4096L, (void *)(1L << 62), pages + PAGE - 16,
	};

	ASSERT_NE(MAP_FAILED, pages);
	munmap(pages + PAGE, PAGE);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(bad); j++) {
			EXPECT_EQ(-1, ioctl(self->fd, numbers[i], bad[j]));
			EXPECT_EQ(EFAULT, errno) TH_LOG("ioctl %zu, pointer %zu", i, j);
		}
	}
	munmap(pages, PAGE);
}

/* INFO's answer has nowhere to go. */
TEST_F(bad_input, info_to_read_only_memory)
{
	void *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, page);
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_INFO, page));
	EXPECT_EQ(EFAULT, errno);
	munmap(page, PAGE);
}

/* A descriptor that may not write cannot change pools. */
TEST_F(bad_input, read_only_descriptor)
{
	struct cowpool_create create = { .size = PAGE };
	int fd = open(COWPOOL_DEVICE, O_RDONLY);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_SEAL));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(0, pool_attach(fd, COWPOOL_DEFAULT_NAME));
	EXPECT_NE(0, pool_info(_metadata, fd).size);
	close(fd);
}

/* Nor does a snapshot give what the descriptor did not. */
TEST_F(bad_input, snapshot_by_read_only_descriptor)
{
	struct cowpool_create create = { .size = PAGE };
	int from = open(COWPOOL_DEVICE, O_RDONLY | O_CLOEXEC), fd;
	char *view = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, from, 0);

	ASSERT_NE(MAP_FAILED, view);
	fd = snapshot_try(from, view);
	ASSERT_LE(0, fd);
	EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(0, pool_attach(fd, COWPOOL_DEFAULT_NAME));
	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_SEAL));
	EXPECT_EQ(EBADF, errno);
	munmap(view, PAGE);
	EXPECT_EQ(-1, pwrite(fd, "", 1, 0));
	EXPECT_EQ(EBADF, errno);
	close(fd);
	close(from);
}

TEST_F(bad_input, snapshot_by_write_only_descriptor)
{
	int from = open(COWPOOL_DEVICE, O_WRONLY | O_CLOEXEC), fd = device_open(_metadata);
	char *view = view_map(_metadata, fd, 1), byte;

	ASSERT_LE(0, from);
	close(fd);
	fd = snapshot_try(from, view);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, pread(fd, &byte, 1, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	EXPECT_EQ(EACCES, errno);
	munmap(view, PAGE);
	close(fd);
	close(from);
}

TEST_F(bad_input, mmap)
{
	const size_t page = PAGE, size = PAGES * PAGE;
	const int rw = PROT_READ | PROT_WRITE;
	const struct {
		const char *what;
		size_t length, offset;
		int prot, expected;
	} rows[] = {
		{ "one page too long", size + page, 0, rw, EINVAL },
		{ "one byte too long", size + 1, 0, rw, EINVAL },
		{ "a tebibyte too long", 1ULL << 40, 0, PROT_READ, EINVAL },
		{ "one page too far", size, page, rw, EINVAL },
		{ "all of it too far", page, size, rw, EINVAL },
		{ "very far", page, 1ULL << 62, rw, EINVAL },
		{ "the end overflows", size, -size, rw, EOVERFLOW },
		{ "length 0", 0, 0, rw, EINVAL },
		{ "offset inside a page", page, 1, rw, EINVAL },
		{ "executable", page, 0, rw | PROT_EXEC, EPERM },
		{ "executable only", page, 0, PROT_EXEC, EPERM },
	};
	const int flags[] = { MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE };

	for (size_t i = 0; i < ARRAY_SIZE(rows) * ARRAY_SIZE(flags); i++) {
		size_t row = i / ARRAY_SIZE(flags);
		long addr;

		/* The C library would check the offset itself. */
		errno = 0;
		addr = syscall(SYS_mmap, NULL, rows[row].length, rows[row].prot,
			       flags[i % ARRAY_SIZE(flags)], self->fd, rows[row].offset);
		EXPECT_EQ(-1, addr) TH_LOG("%s", rows[row].what);
		EXPECT_EQ(rows[row].expected, errno) TH_LOG("%s", rows[row].what);
	}
}

/* A source that faults halfway: the pool has as much as arrived. */
TEST_F(bad_input, write_from_memory_that_ends)
{
	int fd = pool_create(_metadata, PAGES, NULL, 0);
	char *data = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec parts[] = { { data, 100 }, { data + 2 * PAGE, 100 }, { data, 100 } };
	char seen[8 * 4096];
	ssize_t n;

	ASSERT_NE(MAP_FAILED, data);
	memset(data, 'x', 2 * PAGE);
	munmap(data + 2 * PAGE, 2 * PAGE);

	EXPECT_EQ(-1, pwrite(fd, data + 2 * PAGE, 10, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, pool_info(_metadata, fd).filled_pages);
	EXPECT_EQ(0, pool_page_tag(_metadata, fd, 0));

	/* Starts inside a page of the pool, crosses into the next. */
	n = pwrite(fd, data + 1000, 4 * PAGE, 3 * PAGE + 50);
	EXPECT_EQ((ssize_t)(2 * PAGE - 1000), n);
	ASSERT_EQ((ssize_t)sizeof(seen), pread(fd, seen, sizeof(seen), 0));
	for (ssize_t i = 0; i < (ssize_t)sizeof(seen); i++) {
		ssize_t at = i - (3 * PAGE + 50);

		ASSERT_EQ(at >= 0 && at < n ? 'x' : 0, seen[i]) TH_LOG("byte %zd", i);
	}
	EXPECT_EQ(2, pool_info(_metadata, fd).filled_pages);

	EXPECT_EQ(100, pwritev(fd, parts, 3, 0));
	EXPECT_EQ(PAGE, pread(fd, seen, PAGE, 0));
	EXPECT_EQ('x', seen[99]);
	EXPECT_EQ(0, seen[100]);
	munmap(data, 2 * PAGE);
	close(fd);
}

TEST_F(bad_input, read_to_memory_that_ends)
{
	char *data = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, data);
	munmap(data + 2 * PAGE, 2 * PAGE);
	EXPECT_EQ(-1, pread(self->fd, data + 2 * PAGE, 10, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ((ssize_t)(2 * PAGE - 1000), pread(self->fd, data + 1000, 4 * PAGE, 0));
	EXPECT_EQ(TAG(0, 0), *(uint64_t *)(data + 1000));
	EXPECT_EQ(TAG(0, 1), *(uint64_t *)(data + 1000 + PAGE));
	munmap(data, 2 * PAGE);
}

/* The source of a write is a view of the very pool, or of another. */
TEST_F(bad_input, write_from_a_view)
{
	char *view = view_map(_metadata, self->fd, PAGES);
	int fd = pool_create(_metadata, PAGES, NULL, 0);

	EXPECT_EQ(-1, pwrite(self->fd, view, PAGE, PAGE));
	EXPECT_EQ(ETXTBSY, errno);
	page_set(page_at(view, 1), TAG(1, 1));
	EXPECT_EQ((ssize_t)(PAGES * PAGE), pwrite(fd, view, PAGES * PAGE, 0));
	EXPECT_EQ(TAG(1, 1), pool_page_tag(_metadata, fd, 1));
	EXPECT_EQ(TAG(0, 2), pool_page_tag(_metadata, fd, 2));
	close(fd);
	munmap(view, PAGES * PAGE);
	self->before = pool_info(_metadata, self->fd);
}

TEST_F(bad_input, other_file_calls)
{
	int other = memfd_create("other", 0);
	char *view = view_map(_metadata, self->fd, PAGES);
	int fds[] = { self->fd, snapshot_take(_metadata, self->fd, view) };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-1, ftruncate(fds[i], PAGE));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, fallocate(fds[i], 0, 0, PAGE));
		EXPECT_EQ(ENODEV, errno);
		EXPECT_EQ(-1, fsync(fds[i]));
		EXPECT_EQ(EINVAL, errno);
	}
	munmap(view, PAGES * PAGE);
	close(fds[1]);
	self->before = pool_info(_metadata, self->fd);
	EXPECT_EQ(-1, pread(self->fd, &other, 1, -1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, pwrite(self->fd, &other, 1, -1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, copy_file_range(self->fd, NULL, other, NULL, PAGE, 0));
	close(other);
}

/* An address means the caller's memory: another process's view is out of reach. */
TEST_F(bad_input, address_of_another_process)
{
	char *view = view_map(_metadata, self->fd, PAGES);
	struct cowpool_info info = { .addr = (uintptr_t)view, .flags = COWPOOL_INFO_VIEW };
	struct cowpool_range range;
	pid_t child;

	page_set(view, TAG(1, 0));
	ASSERT_EQ(0, madvise(view, PAGES * PAGE, MADV_DONTFORK));
	child = child_fork(_metadata);
	if (!child) {
		EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_INFO, &info));
		EXPECT_EQ(ENOENT, errno);
		EXPECT_EQ(-1, snapshot_try(self->fd, view));
		EXPECT_EQ(ENOENT, errno);
		EXPECT_EQ(-1, reset_try(self->fd, view, PAGES, 0));
		EXPECT_EQ(ENOENT, errno);
		EXPECT_EQ(-1, dirty_try(self->fd, view, PAGES, 0, &range, 1, NULL));
		EXPECT_EQ(ENOENT, errno);
		_exit(0);
	}
	child_join(_metadata, child);
	EXPECT_EQ(TAG(1, 0), page_tag(view));
	munmap(view, PAGES * PAGE);
	self->before.counters = pool_info(_metadata, self->fd).counters;
}

TEST_HARNESS_MAIN
