// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/cowpool as a file: the node, the default pool, every way to read and
 * write, offsets, open modes, shared and duplicated descriptors, 32-bit calls.
 */
#include "cowpool_test.h"

#include <sys/sendfile.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

/* Ways to move bytes: all return the number moved, as pread and pwrite do. */

static ssize_t seek_write(int fd, const void *data, size_t len, off_t at)
{
	return lseek(fd, at, SEEK_SET) == at ? write(fd, data, len) : -1;
}

static ssize_t seek_read(int fd, void *data, size_t len, off_t at)
{
	return lseek(fd, at, SEEK_SET) == at ? read(fd, data, len) : -1;
}

static ssize_t vector_write(int fd, const void *data, size_t len, off_t at)
{
	char *p = (char *)data;
	struct iovec parts[] = {
		{ p, len / 3 }, { p + len / 3, 0 }, { p + len / 3, len - len / 3 },
	};

	return pwritev(fd, parts, 3, at);
}

static ssize_t vector_read(int fd, void *data, size_t len, off_t at)
{
	char *p = data;
	struct iovec parts[] = {
		{ p, len / 3 }, { p + len / 3, 0 }, { p + len / 3, len - len / 3 },
	};

	return preadv(fd, parts, 3, at);
}

static ssize_t pipe_write(int fd, const void *data, size_t len, off_t at)
{
	size_t done = 0;
	int ends[2];

	if (pipe(ends))
		return -1;
	while (done < len) {
		ssize_t n = len - done < 16384 ? len - done : 16384;

		n = write(ends[1], (const char *)data + done, n);
		if (n > 0)
			n = splice(ends[0], NULL, fd, &at, n, 0);
		if (n <= 0)
			break;
		done += n;
	}
	close(ends[0]);
	close(ends[1]);
	return done;
}

static ssize_t pipe_read(int fd, void *data, size_t len, off_t at)
{
	size_t done = 0;
	int ends[2];

	if (pipe(ends))
		return -1;
	while (done < len) {
		ssize_t n = splice(fd, &at, ends[1], NULL, len - done, 0);

		if (n > 0)
			n = read(ends[0], (char *)data + done, n);
		if (n <= 0)
			break;
		done += n;
	}
	close(ends[0]);
	close(ends[1]);
	return done;
}

static ssize_t sendfile_all(int to, int from, off_t from_at, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = sendfile(to, from, &from_at, len - done);

		if (n <= 0)
			break;
		done += n;
	}
	return done;
}

static ssize_t sendfile_write(int fd, const void *data, size_t len, off_t at)
{
	int file = memfd_create("data", 0);
	ssize_t n = -1;

	if (write(file, data, len) == (ssize_t)len && lseek(fd, at, SEEK_SET) == at)
		n = sendfile_all(fd, file, 0, len);
	close(file);
	return n;
}

static ssize_t sendfile_read(int fd, void *data, size_t len, off_t at)
{
	int file = memfd_create("data", 0);
	ssize_t n = sendfile_all(file, fd, at, len);

	if (n > 0)
		n = pread(file, data, n, 0);
	close(file);
	return n;
}

/* Every way against a model in plain memory, across pages and folios. */
#define IO_PAGES 1027

FIXTURE(io) {
	int fd;
	unsigned char *model, *seen;
};

FIXTURE_VARIANT(io) {
	ssize_t (*write)(int fd, const void *data, size_t len, off_t at);
	ssize_t (*read)(int fd, void *data, size_t len, off_t at);
};

FIXTURE_VARIANT_ADD(io, at_offset) { pwrite, pread };
FIXTURE_VARIANT_ADD(io, at_position) { seek_write, seek_read };
FIXTURE_VARIANT_ADD(io, vectors) { vector_write, vector_read };
FIXTURE_VARIANT_ADD(io, splice) { pipe_write, pipe_read };
FIXTURE_VARIANT_ADD(io, sendfile) { sendfile_write, sendfile_read };

FIXTURE_SETUP(io)
{
	self->fd = pool_create(_metadata, IO_PAGES, NULL, 0);
	self->model = calloc(IO_PAGES, PAGE);
	self->seen = malloc(IO_PAGES * PAGE);
	ASSERT_TRUE(self->model && self->seen);
}

FIXTURE_TEARDOWN(io)
{
	free(self->model);
	free(self->seen);
	close(self->fd);
}

TEST_F(io, bytes_arrive_where_they_belong)
{
	const size_t page = PAGE, size = IO_PAGES * page;
	const struct {
		size_t at, len;
	} spans[] = {
		{ 0, 1 }, { 1, page - 1 }, { page - 1, 2 }, { page, page },
		{ 3 * page + 100, 3 * page }, { PMD_PAGES * page - 1, 2 },
		{ PMD_PAGES * page - 5 * page, 10 * page + 7 },
		{ size - 1, 1 }, { size - 9 * page - 3, 9 * page + 3 },
		{ 7, 300 * page },
	};
	unsigned int seed = 1;

	for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
		size_t at = spans[i].at, len = spans[i].len;

		for (size_t n = 0; n < len; n++)
			self->model[at + n] = rand_r(&seed);
		ASSERT_EQ((ssize_t)len, variant->write(self->fd, self->model + at, len, at))
			TH_LOG("span %zu: %s", i, strerror(errno));
		memset(self->seen, 0xee, len);
		ASSERT_EQ((ssize_t)len, variant->read(self->fd, self->seen, len, at))
			TH_LOG("span %zu: %s", i, strerror(errno));
		EXPECT_EQ(0, memcmp(self->model + at, self->seen, len))
			TH_LOG("span %zu", i);
	}
	/* Nothing but the spans has changed. */
	ASSERT_EQ((ssize_t)size, pread(self->fd, self->seen, size, 0));
	EXPECT_EQ(0, memcmp(self->model, self->seen, size));
	ASSERT_EQ((ssize_t)size, variant->read(self->fd, self->seen, size, 0));
	EXPECT_EQ(0, memcmp(self->model, self->seen, size));
}

TEST_F(io, ends_are_those_of_a_file)
{
	const size_t size = IO_PAGES * PAGE;
	char data[200] = "twelve bytes";

	EXPECT_EQ(0, variant->read(self->fd, data, 10, size));
	EXPECT_EQ(10, variant->read(self->fd, data, sizeof(data), size - 10));
	EXPECT_EQ(0, variant->read(self->fd, data, 0, 0));
}

FIXTURE(device) {
	int fd;
};

FIXTURE_SETUP(device)
{
	self->fd = device_open(_metadata);
}

FIXTURE_TEARDOWN(device)
{
	close(self->fd);
}

TEST_F(device, node_is_private_to_root)
{
	struct stat st;

	ASSERT_EQ(0, stat(COWPOOL_DEVICE, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0600, st.st_mode & 07777);
	EXPECT_EQ(0, st.st_uid);
	EXPECT_EQ(0, st.st_gid);
}

TEST_F(device, acts_on_the_default_pool)
{
	struct cowpool_info info = pool_info(_metadata, self->fd);
	unsigned long mib;
	FILE *file;

	file = fopen("/sys/module/cowpool/parameters/default_mib", "r");
	ASSERT_NE(NULL, file);
	ASSERT_EQ(1, fscanf(file, "%lu", &mib));
	fclose(file);

	EXPECT_STREQ(COWPOOL_DEFAULT_NAME, info.name);
	EXPECT_EQ(mib << 20, info.size);
	EXPECT_EQ(0666, info.mode);
	EXPECT_EQ(0, info.uid);
	EXPECT_EQ(0, info.gid);
	EXPECT_EQ(PAGE, info.page_size);
	EXPECT_EQ(0, info.view_id);
	EXPECT_EQ(info.size, lseek(self->fd, 0, SEEK_END));
}

TEST_F(device, seek)
{
	const off_t size = 16 * PAGE;
	int fd = pool_create(_metadata, 16, NULL, 0);
	char byte;

	EXPECT_EQ(0, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(size, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(size - 1, lseek(fd, -1, SEEK_CUR));
	EXPECT_EQ(1, read(fd, &byte, 1));
	EXPECT_EQ(0, read(fd, &byte, 1));
	EXPECT_EQ(size, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(5, lseek(fd, 5, SEEK_SET));
	EXPECT_EQ(-1, lseek(fd, -1, SEEK_SET));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, lseek(fd, -6, SEEK_CUR));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, lseek(fd, 0, 99));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(5, lseek(fd, 0, SEEK_CUR));
	close(fd);
}

/* Short first, then ENOSPC, and nothing of what did not fit. */
TEST_F(device, write_at_the_end)
{
	int fd = pool_create(_metadata, 2, NULL, 0);
	char data[3 * 4096];

	memset(data, 'x', sizeof(data));
	EXPECT_EQ(2 * PAGE - 5, pwrite(fd, data, 3 * PAGE, 5));
	EXPECT_EQ(1, pwrite(fd, data, 2, 2 * PAGE - 1));
	EXPECT_EQ(-1, pwrite(fd, data, 1, 2 * PAGE));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-1, pwrite(fd, data, 1, 1ULL << 50));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(0, pwrite(fd, data, 0, 0));
	EXPECT_EQ(0, pread(fd, data, 1, 1ULL << 50));
	/* A pool does not grow. */
	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_APPEND));
	EXPECT_EQ(-1, write(fd, data, 1));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(1, pread(fd, data, 1, 0));
	EXPECT_EQ(0, data[0]);
	close(fd);
}

TEST_F(device, open_modes)
{
	const struct {
		int mode;
		int read, write, map_read, map_write, map_private;
	} rows[] = {
		/* What each gives: 0 or its errno */
		{ O_RDWR,	0, 0, 0, 0, 0 },
		{ O_RDONLY,	0, EBADF, 0, EACCES, 0 },
		{ O_WRONLY,	EBADF, 0, EACCES, EACCES, EACCES },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct {
			int prot, flags, expected;
		} maps[] = {
			{ PROT_READ, MAP_SHARED, rows[i].map_read },
			{ PROT_READ | PROT_WRITE, MAP_SHARED, rows[i].map_write },
			{ PROT_READ | PROT_WRITE, MAP_PRIVATE, rows[i].map_private },
		};
		int fd = open(COWPOOL_DEVICE, rows[i].mode);
		char byte = 0;

		ASSERT_LE(0, fd);
		errno = 0;
		EXPECT_EQ(rows[i].read ? -1 : 1, pread(fd, &byte, 1, 0));
		EXPECT_EQ(rows[i].read, errno);
		errno = 0;
		EXPECT_EQ(rows[i].write ? -1 : 1, pwrite(fd, &byte, 1, 0));
		EXPECT_EQ(rows[i].write, errno);
		for (size_t m = 0; m < ARRAY_SIZE(maps); m++) {
			void *addr;

			errno = 0;
			addr = mmap(NULL, PAGE, maps[m].prot, maps[m].flags, fd, 0);
			EXPECT_EQ(maps[m].expected, errno)
				TH_LOG("row %zu, map %zu", i, m);
			EXPECT_EQ(!!maps[m].expected, addr == MAP_FAILED);
			if (addr != MAP_FAILED)
				munmap(addr, PAGE);
		}
		close(fd);
	}
}

/* A view that was mapped through a read-only descriptor stays read-only. */
TEST_F(device, read_only_descriptor_makes_read_only_views)
{
	int fd = open(COWPOOL_DEVICE, O_RDONLY);
	char *view = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

	ASSERT_NE(MAP_FAILED, view);
	EXPECT_EQ(-1, mprotect(view, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(0, access_byte(view, LOAD));
	EXPECT_EQ(SIGSEGV, access_byte(view, STORE));
	munmap(view, PAGE);
	close(fd);
}

/* The pool belongs to the open file, not to the number or the process. */
TEST_F(device, duplicates_share_opens_do_not)
{
	int fd = pool_filled(_metadata, 2), copy = dup(fd);
	struct cowpool_create create = { .size = PAGE };
	uint64_t id = pool_info(_metadata, fd).pool_id;
	uint64_t default_id = pool_info(_metadata, self->fd).pool_id;
	pid_t child;

	EXPECT_NE(id, default_id);
	EXPECT_EQ(id, pool_info(_metadata, copy).pool_id);
	EXPECT_EQ(7, lseek(copy, 7, SEEK_SET));
	EXPECT_EQ(7, lseek(fd, 0, SEEK_CUR));

	/* CREATE in a child switches the shared open file, no other. */
	child = child_fork(_metadata);
	if (!child) {
		ASSERT_EQ(0, ioctl(copy, COWPOOL_IOC_CREATE, &create));
		_exit(0);
	}
	child_join(_metadata, child);
	EXPECT_NE(id, pool_info(_metadata, fd).pool_id);
	EXPECT_EQ(PAGE, pool_info(_metadata, fd).size);
	EXPECT_EQ(pool_info(_metadata, copy).pool_id, pool_info(_metadata, fd).pool_id);
	EXPECT_EQ(default_id, pool_info(_metadata, self->fd).pool_id);
	close(copy);
	close(fd);
}

#ifdef __x86_64__
/* The call of a 32-bit program: it reaches compat_ioctl. */
static int ioctl_32bit(int fd, unsigned int cmd, void *arg)
{
	long ret;

	asm volatile("int $0x80" : "=a" (ret)
		     : "a" (54), "b" ((long)fd), "c" ((long)cmd), "d" ((long)arg)
		     : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

/* A kernel without such calls sends a signal, and notes one not caught. */
static bool calls_of_32bit(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		signal(SIGSEGV, _exit);
		ioctl_32bit(-1, 0, NULL);
		_exit(0);
	}
	return waitpid(child, &status, 0) == child && !status;
}

TEST_F(device, ioctls_of_a_32_bit_program)
{
	struct {
		struct cowpool_create create;
		struct cowpool_info info;
	} *low = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int fd = device_open(_metadata);

	if (!calls_of_32bit())
		SKIP(return, "the kernel has no calls for 32-bit programs");
	ASSERT_NE(MAP_FAILED, (void *)low);
	low->create.size = 3 * PAGE;
	ASSERT_EQ(0, ioctl_32bit(fd, COWPOOL_IOC_CREATE, &low->create));
	ASSERT_EQ(0, ioctl_32bit(fd, COWPOOL_IOC_INFO, &low->info));
	EXPECT_EQ(3 * PAGE, low->info.size);
	EXPECT_EQ(pool_info(_metadata, fd).pool_id, low->info.pool_id);
	EXPECT_EQ(0, ioctl_32bit(fd, COWPOOL_IOC_SEAL, NULL));
	EXPECT_EQ(COWPOOL_STATE_SEALED, pool_info(_metadata, fd).state);
	EXPECT_EQ(-ENOTTY, ioctl_32bit(fd, _IO(0xCB, 0xff), NULL));
	close(fd);
	munmap(low, PAGE);
}
#endif

TEST_HARNESS_MAIN
