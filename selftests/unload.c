// SPDX-License-Identifier: GPL-2.0
/*
 * Unloading: refused as "in use" for each thing that can be alive, possible
 * as soon as the last is gone, and what a module without a default pool does.
 *
 * Needs COWPOOL_KO, the module's file, to load it again.
 */
#include "snapshot.h"

#define NAME	"selftest-unload"
#define PAGES	16

static int module_unload(void)
{
	return syscall(SYS_delete_module, "cowpool", O_NONBLOCK);
}

static int module_load(const char *parameters)
{
	const char *path = getenv("COWPOOL_KO");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1, ret;

	ret = syscall(SYS_finit_module, fd, parameters, 0);
	close(fd);
	return ret;
}

/* The node comes a moment after the module where udev makes it. */
static int wait_for_device(void)
{
	int fd, tries = 500;

	while ((fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC)) < 0 && tries--)
		usleep(10000);
	return fd;
}

/*
 * Each brings one thing to life; @keep is what to undo it with. The
 * descriptor that it came from is closed.
 */
struct keep {
	int fd;
	void *map;
	pid_t pid;
	bool name;
};

static void keep_descriptor(struct __test_metadata *_metadata, struct keep *keep)
{
	keep->fd = device_open(_metadata);
}

static void keep_anonymous_pool(struct __test_metadata *_metadata, struct keep *keep)
{
	keep->fd = pool_filled(_metadata, PAGES);
}

static void keep_named_pool(struct __test_metadata *_metadata, struct keep *keep)
{
	close(pool_create(_metadata, PAGES, NAME, 0600));
	keep->name = true;
}

static void keep_view(struct __test_metadata *_metadata, struct keep *keep)
{
	int fd = pool_filled(_metadata, PAGES);

	keep->map = view_map(_metadata, fd, PAGES);
	page_set(keep->map, TAG(1, 0));
	close(fd);
}

static void keep_view_of_default(struct __test_metadata *_metadata, struct keep *keep)
{
	int fd = device_open(_metadata);

	keep->map = view_map(_metadata, fd, PAGES);
	close(fd);
}

static void keep_private_mapping(struct __test_metadata *_metadata, struct keep *keep)
{
	int fd = pool_filled(_metadata, PAGES);

	keep->map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, keep->map);
	page_set(keep->map, TAG(1, 0));
	close(fd);
}

static void keep_part_of_view(struct __test_metadata *_metadata, struct keep *keep)
{
	keep_view(_metadata, keep);
	munmap(keep->map, 3 * PAGE);
	munmap(page_at(keep->map, 4), (PAGES - 4) * PAGE);
}

/* The parent unmaps: only the child's view is left. */
static void keep_view_of_child(struct __test_metadata *_metadata, struct keep *keep)
{
	keep_view(_metadata, keep);
	keep->pid = child_fork(_metadata);
	if (!keep->pid) {
		page_set(page_at(keep->map, 1), TAG(2, 1));
		for (;;)
			pause();
	}
	munmap(keep->map, PAGES * PAGE);
	keep->map = NULL;
}

static void keep_snapshot(struct __test_metadata *_metadata, struct keep *keep)
{
	int fd = device_open(_metadata);

	keep_view(_metadata, keep);
	keep->fd = snapshot_take(_metadata, fd, keep->map);
	munmap(keep->map, PAGES * PAGE);
	keep->map = NULL;
	close(fd);
}

static void keep_view_of_snapshot(struct __test_metadata *_metadata, struct keep *keep)
{
	keep_snapshot(_metadata, keep);
	keep->map = view_map(_metadata, keep->fd, PAGES);
	close(keep->fd);
	keep->fd = 0;
}

static void keep_debugfs(struct __test_metadata *_metadata, struct keep *keep)
{
	char byte;

	keep->fd = open(DEBUGFS "views", O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(1, read(keep->fd, &byte, 1));
}

static void release(struct __test_metadata *_metadata, struct keep *keep)
{
	if (keep->fd)
		close(keep->fd);
	if (keep->map)
		munmap(keep->map, PAGES * PAGE);
	if (keep->name)
		pool_forget(NAME);
	if (keep->pid) {
		kill(keep->pid, SIGKILL);
		ASSERT_EQ(keep->pid, waitpid(keep->pid, NULL, 0));
	}
}

FIXTURE(unload) {
};

FIXTURE_SETUP(unload)
{
	if (!getenv("COWPOOL_KO"))
		SKIP(return, "COWPOOL_KO does not name the module's file");
}

FIXTURE_TEARDOWN_PARENT(unload)
{
	pool_forget(NAME);
	if (access("/sys/module/cowpool", F_OK))
		EXPECT_EQ(0, module_load(""));
}

TEST_F(unload, in_use)
{
	const struct {
		const char *what;
		void (*make)(struct __test_metadata *_metadata, struct keep *keep);
	} rows[] = {
		{ "descriptor", keep_descriptor },
		{ "anonymous pool", keep_anonymous_pool },
		{ "named pool", keep_named_pool },
		{ "view", keep_view },
		{ "view of the default pool", keep_view_of_default },
		{ "MAP_PRIVATE mapping", keep_private_mapping },
		{ "part of a view", keep_part_of_view },
		{ "view of a child", keep_view_of_child },
		{ "snapshot", keep_snapshot },
		{ "view of a snapshot", keep_view_of_snapshot },
		{ "file of debugfs", keep_debugfs },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct keep keep = {};

		rows[i].make(_metadata, &keep);
		EXPECT_EQ(-1, module_unload()) TH_LOG("%s", rows[i].what);
		EXPECT_EQ(EWOULDBLOCK, errno) TH_LOG("%s", rows[i].what);
		release(_metadata, &keep);
		EXPECT_EQ(0, module_unload()) TH_LOG("%s: %s", rows[i].what, strerror(errno));
		EXPECT_NE(0, access(COWPOOL_DEVICE, F_OK));
		EXPECT_NE(0, access(DEBUGFS, F_OK));
		ASSERT_EQ(0, module_load(""));
		close(wait_for_device());
	}
}

/* Without a default pool a descriptor acts on nothing, until it is told to. */
TEST_F(unload, no_default_pool)
{
	struct cowpool_create create = { .size = PAGE };
	struct cowpool_info info = {};
	char byte;
	int fd;

	ASSERT_EQ(0, module_unload());
	ASSERT_EQ(0, module_load("default_mib=0"));
	fd = wait_for_device();
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, stat_value(_metadata, "pools"));
	EXPECT_EQ(-1, read(fd, &byte, 1));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(-1, write(fd, &byte, 1));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(-1, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_INFO, &info));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_SEAL));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_DESTROY));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(-1, snapshot_try(fd, &byte));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(1, read(fd, &byte, 1));
	close(fd);
	EXPECT_EQ(0, module_unload());
	EXPECT_EQ(0, module_load(""));
	close(wait_for_device());
}

/* Who may not read the default pool does not get it by opening the device. */
TEST_F(unload, default_pool_has_a_mode)
{
	const struct {
		unsigned int mode;
		int read, write;
	} rows[] = {
		{ 0600, ENXIO, ENXIO },
		{ 0644, 0, EACCES },
		{ 0666, 0, 0 },
	};
	struct cowpool_create create = { .size = PAGE, .name = COWPOOL_DEFAULT_NAME };
	int fd = device_open(_metadata), err;
	struct stat before;
	char byte = 'x';
	pid_t child;

	ASSERT_EQ(0, fstat(fd, &before));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_DESTROY));
		create.mode = rows[i].mode;
		ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create));
		ASSERT_EQ(0, chmod(COWPOOL_DEVICE, 0666));
		child = child_fork(_metadata);
		if (!child) {
			int mine;

			ASSERT_EQ(0, setresuid(4711, 4711, 4711));
			mine = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);
			ASSERT_LE(0, mine);
			err = read(mine, &byte, 1) == 1 ? 0 : errno;
			EXPECT_EQ(rows[i].read, err) TH_LOG("mode %o", rows[i].mode);
			err = pwrite(mine, &byte, 1, 0) == 1 ? 0 : errno;
			EXPECT_EQ(rows[i].write, err) TH_LOG("mode %o", rows[i].mode);
			_exit(0);
		}
		child_join(_metadata, child);
		ASSERT_EQ(0, chmod(COWPOOL_DEVICE, before.st_mode & 07777));
	}
	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_DESTROY));
	close(fd);
	ASSERT_EQ(0, module_unload());
	ASSERT_EQ(0, module_load(""));
	close(wait_for_device());
}

/* The default pool's size, and nothing of what it held before. */
TEST_F(unload, default_pool_size)
{
	int fd = device_open(_metadata);

	EXPECT_EQ(4, write(fd, "past", 4));
	close(fd);
	ASSERT_EQ(0, module_unload());
	ASSERT_EQ(0, module_load("default_mib=3"));
	fd = wait_for_device();
	ASSERT_LE(0, fd);
	EXPECT_EQ(3 << 20, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(0, pool_page_tag(_metadata, fd, 0));
	EXPECT_EQ(0, pool_info(_metadata, fd).filled_pages);
	close(fd);
	EXPECT_EQ(0, module_unload());
	EXPECT_EQ(0, module_load(""));
	close(wait_for_device());
}

TEST_HARNESS_MAIN
