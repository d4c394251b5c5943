// SPDX-License-Identifier: GPL-2.0
/*
 * Who may do what: the device's mode, the pools' owners and modes,
 * RLIMIT_MEMLOCK, and the limits that module parameters set.
 */
#include "cowpool_test.h"

#include <grp.h>
#include <sys/prctl.h>

#define NAME	"selftest-permissions"
#define PAGES	64
#define USER	4711		/* nobody in particular */
#define GROUP	4712

/* Becomes an unprivileged user, for good. Descriptors stay. */
static void become(struct __test_metadata *_metadata, uid_t uid, gid_t group)
{
	ASSERT_EQ(0, setgroups(1, &group));
	ASSERT_EQ(0, setresgid(uid, uid, uid));
	ASSERT_EQ(0, setresuid(uid, uid, uid));
}

FIXTURE(permissions) {
	int fd;
};

FIXTURE_SETUP(permissions)
{
	/* What an unprivileged program gets by a udev rule or from a daemon */
	self->fd = device_open(_metadata);
}

FIXTURE_TEARDOWN_PARENT(permissions)
{
	chmod(COWPOOL_DEVICE, 0600);
	pool_forget(NAME);
}

TEST_F(permissions, device)
{
	become(_metadata, USER, GROUP);
	EXPECT_EQ(-1, open(COWPOOL_DEVICE, O_RDONLY));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, open(COWPOOL_DEVICE, O_RDWR));
	EXPECT_EQ(EACCES, errno);
}

/* What each mode lets each user do with root's pool: 0 or an errno. */
TEST_F(permissions, modes)
{
	const struct {
		unsigned int mode;
		uid_t uid;
		gid_t group;
		int attach, write;
	} rows[] = {
		{ 0600, USER, GROUP, EACCES, 0 },
		{ 0660, USER, GROUP, EACCES, 0 },
		{ 0644, USER, GROUP, 0, EACCES },
		{ 0666, USER, GROUP, 0, 0 },
		{ 0606, USER, GROUP, 0, 0 },
		{ 0622, USER, GROUP, EACCES, 0 },
		{ 0711, USER, GROUP, EACCES, 0 },
		/* Group 0 is the pool's: its bits alone count for a member. */
		{ 0640, USER, 0, 0, EACCES },
		{ 0660, USER, 0, 0, 0 },
		{ 0606, USER, 0, EACCES, 0 },
		{ 0000, 0, 0, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int fd = pool_create(_metadata, PAGES, NAME, rows[i].mode), err;
		char byte = 'x', *view;
		pid_t child;

		pool_fill(_metadata, fd, 0, PAGES);
		child = child_fork(_metadata);
		if (child) {
			child_join(_metadata, child);
			pool_forget(NAME);
			close(fd);
			continue;
		}
		close(fd);
		if (rows[i].uid)
			become(_metadata, rows[i].uid, rows[i].group);
		err = pool_attach(self->fd, NAME) ? errno : 0;
		EXPECT_EQ(rows[i].attach, err) TH_LOG("row %zu", i);
		if (err)
			_exit(0);
		EXPECT_EQ(TAG(0, 1), pool_page_tag(_metadata, self->fd, 1));
		err = pwrite(self->fd, &byte, 1, 0) == 1 ? 0 : errno;
		EXPECT_EQ(rows[i].write, err) TH_LOG("row %zu", i);

		/* Private pages are the viewer's own business. */
		view = view_map(_metadata, self->fd, PAGES);
		page_set(page_at(view, 1), TAG(1, 1));
		EXPECT_EQ(TAG(1, 1), page_tag(page_at(view, 1)));
		munmap(view, PAGES * PAGE);

		err = ioctl(self->fd, COWPOOL_IOC_SEAL) ? errno : 0;
		EXPECT_EQ(rows[i].write, err) TH_LOG("row %zu", i);
		err = ioctl(self->fd, COWPOOL_IOC_DESTROY) ? errno : 0;
		EXPECT_EQ(rows[i].uid ? EPERM : 0, err) TH_LOG("row %zu", i);
		_exit(0);
	}
}

/* An unprivileged user's own pool. */
TEST_F(permissions, owner)
{
	struct cowpool_create create = { .size = PAGES * PAGE, .mode = 0600, .name = NAME };
	int root_fd = device_open(_metadata);
	pid_t child = child_fork(_metadata);

	if (!child) {
		become(_metadata, USER, GROUP);
		ASSERT_EQ(0, ioctl(self->fd, COWPOOL_IOC_CREATE, &create));
		EXPECT_EQ(USER, pool_info(_metadata, self->fd).uid);
		EXPECT_EQ(USER, pool_info(_metadata, self->fd).gid);
		pool_fill(_metadata, self->fd, 0, 2);
		_exit(0);
	}
	child_join(_metadata, child);

	/* Another user can do nothing with it. */
	child = child_fork(_metadata);
	if (!child) {
		become(_metadata, USER + 1, GROUP);
		EXPECT_EQ(-1, pool_attach(root_fd, NAME));
		EXPECT_EQ(EACCES, errno);
		EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_DESTROY));
		EXPECT_EQ(EPERM, errno);
		_exit(0);
	}
	child_join(_metadata, child);

	/* Its owner can destroy it, with any descriptor on it. */
	child = child_fork(_metadata);
	if (!child) {
		become(_metadata, USER, GROUP);
		EXPECT_EQ(0, pool_attach(root_fd, NAME));
		EXPECT_EQ(TAG(0, 1), pool_page_tag(_metadata, root_fd, 1));
		EXPECT_EQ(0, ioctl(root_fd, COWPOOL_IOC_DESTROY));
		_exit(0);
	}
	child_join(_metadata, child);
	EXPECT_EQ(-1, pool_attach(root_fd, NAME));
	EXPECT_EQ(ENOENT, errno);
	close(root_fd);
}

/* Nobody but root may do away with the default pool. */
TEST_F(permissions, default_pool)
{
	become(_metadata, USER, GROUP);
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_DESTROY));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(0, pool_attach(self->fd, COWPOOL_DEFAULT_NAME));
}

/* The pool that everybody gets unasked is root's to make. */
TEST_F(permissions, default_name)
{
	struct cowpool_create create = { .size = PAGE, .name = COWPOOL_DEFAULT_NAME };

	become(_metadata, USER, GROUP);
	EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(EPERM, errno);
}

/* Who is root in a user namespace of his own has no more rights here. */
TEST_F(permissions, root_of_a_user_namespace)
{
	struct cowpool_create create = { .size = PAGE, .name = COWPOOL_DEFAULT_NAME };
	struct rlimit rlimit = { PAGE, PAGE };
	int fd = pool_create(_metadata, PAGES, NAME, 0600);
	pid_t child = fork();
	int status;

	if (!child)
		_exit(unshare(CLONE_NEWUSER) ? errno : 0);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	if (status)
		SKIP(return, "no user namespaces: %s", strerror(WEXITSTATUS(status)));
	child = child_fork(_metadata);
	if (!child) {
		become(_metadata, USER, GROUP);
		ASSERT_EQ(0, unshare(CLONE_NEWUSER));
		EXPECT_EQ(-1, pool_attach(self->fd, NAME));
		EXPECT_EQ(EACCES, errno);
		EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_DESTROY));
		EXPECT_EQ(EPERM, errno);
		EXPECT_EQ(-1, ioctl(self->fd, COWPOOL_IOC_CREATE, &create));
		EXPECT_EQ(EPERM, errno);
		create.name[0] = '\0';
		create.size = 2 * PAGE;
		ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &rlimit));
		ASSERT_EQ(0, ioctl(self->fd, COWPOOL_IOC_CREATE, &create));
		EXPECT_EQ(1, pwrite(self->fd, "x", 1, 0));
		EXPECT_EQ(-1, pwrite(self->fd, "x", 1, PAGE));
		EXPECT_EQ(ENOMEM, errno);
		_exit(0);
	}
	child_join(_metadata, child);
	close(fd);
}

static size_t lines_of(struct __test_metadata *_metadata, const char *path)
{
	FILE *file = fopen(path, "r");
	size_t lines = 0;
	int c;

	ASSERT_NE(NULL, file);
	while ((c = fgetc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

/* For root only, and with a line for each view, whatever its process is called. */
TEST_F(permissions, debugfs)
{
	static const char *const files[] = { "stats", "pools", "views" };
	char *view = view_map(_metadata, self->fd, 1);
	char path[64];
	struct stat stat_of;

	EXPECT_EQ(2, lines_of(_metadata, DEBUGFS "views"));
	ASSERT_EQ(0, prctl(PR_SET_NAME, "x\n1 1 1 1 1 1"));
	EXPECT_EQ(2, lines_of(_metadata, DEBUGFS "views"));
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), DEBUGFS "%s", files[i]);
		ASSERT_EQ(0, stat(path, &stat_of));
		EXPECT_EQ(0400, stat_of.st_mode & 0777);
		EXPECT_EQ(0, stat_of.st_uid);
	}
	become(_metadata, USER, GROUP);
	EXPECT_EQ(-1, open(path, O_RDONLY));
	EXPECT_EQ(EACCES, errno);
	munmap(view, PAGE);
}

/* How many pages can be written to a new pool, and what stopped it. */
static size_t pages_until(struct __test_metadata *_metadata, int fd, size_t pages,
			  size_t batch, int expected)
{
	struct cowpool_create create = { .size = pages * PAGE };
	char *data = calloc(batch, PAGE);
	size_t bytes = 0;
	ssize_t n;

	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	do {
		n = pwrite(fd, data, batch * PAGE, bytes);
		if (n > 0)
			bytes += n;
	} while (n > 0 && bytes < pages * PAGE);
	if (n < 0)
		EXPECT_EQ(expected, errno);
	free(data);
	return bytes / PAGE;
}

TEST_F(permissions, rlimit_memlock)
{
	const size_t limit = 100;
	struct rlimit rlimit = { limit * PAGE, limit * PAGE };
	struct cowpool_create one = { .size = PAGE };
	char *view;

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &rlimit));
	/* CAP_IPC_LOCK: no limit */
	EXPECT_EQ(1000, pages_until(_metadata, self->fd, 1000, 1000, 0));

	become(_metadata, USER + 2, GROUP);
	EXPECT_EQ(limit, pages_until(_metadata, self->fd, 1000, 1000, ENOMEM));
	/* The pool before is gone, and so is its charge. */
	EXPECT_EQ(limit, pages_until(_metadata, self->fd, 1000, 1, ENOMEM));
	EXPECT_EQ(limit, pages_until(_metadata, self->fd, 1000, 7, ENOMEM));
	/* What is written twice is charged once; holes cost nothing. */
	EXPECT_EQ(limit, pages_until(_metadata, self->fd, limit, limit, 0));
	pool_fill(_metadata, self->fd, 0, limit);

	/* A pool that is not at anybody's descriptor, but mapped, counts. */
	view = view_map(_metadata, self->fd, limit);
	EXPECT_EQ(0, pages_until(_metadata, self->fd, 10, 1, ENOMEM));
	/* Private pages do not: they are charged as the memory that they are. */
	for (size_t page = 0; page < limit; page++)
		page_set(page_at(view, page), TAG(1, page));
	EXPECT_EQ(limit, private_pages(_metadata, self->fd, view));
	munmap(view, limit * PAGE);
	EXPECT_EQ(limit, pages_until(_metadata, self->fd, 1000, 1, ENOMEM));
	ASSERT_EQ(0, ioctl(self->fd, COWPOOL_IOC_CREATE, &one));
}

/* Who has the right must have been given the descriptor by somebody who has it, too. */
TEST_F(permissions, rlimit_memlock_of_who_opened)
{
	const size_t limit = 100, pages = 1000;
	struct rlimit rlimit = { limit * PAGE, limit * PAGE };
	struct cowpool_create create = { .size = pages * PAGE };
	char *data = calloc(pages, PAGE);
	int fd;

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &rlimit));
	ASSERT_EQ(0, chmod(COWPOOL_DEVICE, 0666));
	ASSERT_EQ(0, setresuid(USER + 3, USER + 3, 0));
	fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	ASSERT_EQ(0, setresuid(0, 0, 0));

	EXPECT_EQ((ssize_t)(limit * PAGE), pwrite(fd, data, pages * PAGE, 0));
	EXPECT_EQ(-1, pwrite(fd, data, PAGE, limit * PAGE));
	EXPECT_EQ(ENOMEM, errno);
	/* It was charged to him, not to who wrote it. */
	become(_metadata, USER + 3, GROUP);
	EXPECT_EQ(0, pages_until(_metadata, self->fd, 10, 1, ENOMEM));
	close(fd);
	EXPECT_EQ(10, pages_until(_metadata, self->fd, 10, 1, 0));
	free(data);
}

/* A name is charged as a page, since it keeps a pool without anybody. */
TEST_F(permissions, rlimit_memlock_of_names)
{
	struct rlimit rlimit = { 2 * PAGE, 2 * PAGE };
	int fds[] = { self->fd, device_open(_metadata), device_open(_metadata) };
	struct cowpool_create create[ARRAY_SIZE(fds)];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		create[i] = (struct cowpool_create){ .size = PAGE };
		snprintf((char *)create[i].name, sizeof(create[i].name), NAME "%zu", i);
	}
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &rlimit));
	become(_metadata, USER + 4, GROUP);
	EXPECT_EQ(0, ioctl(fds[0], COWPOOL_IOC_CREATE, &create[0]));
	/* One that is taken costs nothing, however often, */
	for (int i = 0; i < 10; i++) {
		EXPECT_EQ(-1, ioctl(fds[1], COWPOOL_IOC_CREATE, &create[0]));
		EXPECT_EQ(EEXIST, errno);
	}
	EXPECT_EQ(0, ioctl(fds[1], COWPOOL_IOC_CREATE, &create[1]));
	EXPECT_EQ(-1, ioctl(fds[2], COWPOOL_IOC_CREATE, &create[2]));
	EXPECT_EQ(ENOMEM, errno);
	/* and neither does one that was given up, nor a pool without one. */
	EXPECT_EQ(0, ioctl(fds[0], COWPOOL_IOC_DESTROY));
	EXPECT_EQ(0, ioctl(fds[2], COWPOOL_IOC_CREATE, &create[2]));
	EXPECT_EQ(0, ioctl(fds[1], COWPOOL_IOC_DESTROY));
	EXPECT_EQ(0, ioctl(fds[2], COWPOOL_IOC_DESTROY));
	EXPECT_EQ(2, pages_until(_metadata, self->fd, 10, 1, ENOMEM));
}

/* A module parameter that is put back when the test ends, however it ends. */
FIXTURE(limits) {
	int fd;
	char path[64], old[32];
};

FIXTURE_VARIANT(limits) {
	const char *parameter;
};

FIXTURE_VARIANT_ADD(limits, pool) { "max_pool_mib" };
FIXTURE_VARIANT_ADD(limits, total) { "max_total_mib" };

FIXTURE_SETUP(limits)
{
	FILE *file;

	snprintf(self->path, sizeof(self->path), "/sys/module/cowpool/parameters/%s",
		 variant->parameter);
	file = fopen(self->path, "r");
	ASSERT_NE(NULL, file);
	ASSERT_NE(NULL, fgets(self->old, sizeof(self->old), file));
	fclose(file);
	self->fd = device_open(_metadata);
}

FIXTURE_TEARDOWN_PARENT(limits)
{
	file_write(_metadata, self->path, self->old);
}

/* No parameter makes them larger than an index can be. */
static void expect_largest_index(struct __test_metadata *_metadata, int fd)
{
	const size_t most = 1UL << 36, pages = 64;
	struct cowpool_create create = { .size = (most + 1) * PAGE };
	uint64_t content[PAGE / sizeof(uint64_t)];
	char *view;
	pid_t child;

	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(EDQUOT, errno);
	create.size = most * PAGE;
	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	page_set(content, TAG(0, 1));
	ASSERT_EQ((ssize_t)PAGE, pwrite(fd, content, PAGE, (most - 2) * PAGE));
	view = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    (most - pages) * PAGE);
	ASSERT_NE(MAP_FAILED, view);
	EXPECT_EQ(TAG(0, 1), page_tag(page_at(view, pages - 2)));
	page_set(page_at(view, pages - 1), TAG(1, 2));
	child = child_fork(_metadata);
	if (!child) {
		EXPECT_EQ(TAG(1, 2), page_tag(page_at(view, pages - 1)));
		page_set(page_at(view, pages - 1), TAG(2, 2));
		_exit(0);
	}
	child_join(_metadata, child);
	EXPECT_EQ(TAG(0, 1), page_tag(page_at(view, pages - 2)));
	EXPECT_EQ(TAG(1, 2), page_tag(page_at(view, pages - 1)));
	EXPECT_EQ(0, page_tag(view));
	EXPECT_EQ(1, private_pages(_metadata, fd, view));
	ASSERT_EQ((ssize_t)PAGE, pread(fd, content, PAGE, 0));
	EXPECT_EQ(0, content[0]);
	munmap(view, pages * PAGE);
}

static void expect_largest_pool(struct __test_metadata *_metadata, int fd)
{
	struct cowpool_create create = { .size = 4UL << 20 };

	EXPECT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	create.size += PAGE;
	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(EDQUOT, errno);
	EXPECT_EQ(4UL << 20, pool_info(_metadata, fd).size);
}

/* Pools and private pages share one limit. */
static void expect_total(struct __test_metadata *_metadata, int fd)
{
	const size_t limit = (4UL << 20) / PAGE;
	size_t used = stat_value(_metadata, "pool_frames") +
		      stat_value(_metadata, "private_frames");
	size_t room = limit - used, private = 100;
	char *view;

	ASSERT_LT(private, room);
	EXPECT_EQ(room, pages_until(_metadata, fd, limit + 10, 50, EDQUOT));
	EXPECT_EQ(room - private,
		  pages_until(_metadata, fd, room - private, room - private, 0));
	view = view_map(_metadata, fd, room - private);
	for (size_t page = 0; page < private; page++)
		page_set(page_at(view, page), TAG(1, page));
	/* Over the limit: SIGBUS for a write, while reading goes on. */
	EXPECT_EQ(SIGBUS, access_byte(page_at(view, private), BLIND_STORE));
	EXPECT_EQ(0, access_byte(page_at(view, private), LOAD));
	EXPECT_EQ(SIGBUS, access_byte(page_at(view, private), STORE));
	EXPECT_EQ(0, page_tag(page_at(view, private)));
	EXPECT_EQ(0, access_byte(page_at(view, private - 1), STORE));
	EXPECT_EQ(TAG(1, 0), page_tag(view));
	EXPECT_EQ(private, private_pages(_metadata, fd, view));
	EXPECT_EQ(private, view_copies(_metadata, fd, view));
	munmap(view, (room - private) * PAGE);

	/* All of it came back. */
	EXPECT_EQ(room, pages_until(_metadata, fd, limit + 10, 50, EDQUOT));
}

TEST_F(limits, hold)
{
	bool total = !strcmp(variant->parameter, "max_total_mib");

	file_write(_metadata, self->path, "4\n");
	if (total)
		expect_total(_metadata, self->fd);
	else
		expect_largest_pool(_metadata, self->fd);
	file_write(_metadata, self->path, "4294967295\n");
	if (!total)
		expect_largest_index(_metadata, self->fd);
}

TEST_HARNESS_MAIN
