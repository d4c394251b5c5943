// SPDX-License-Identifier: GPL-2.0
/*
 * Failures injected into the loading of the module. See inject.h for how, and for
 * what must not happen.
 */
#include "inject.h"

/*
 * Only what fails below do_one_initcall() is ours: the
 * module's own beginning.
 */
FIXTURE(inject_load) {
	void *image;
	size_t size;
};

static int module_unload(void)
{
	return syscall(SYS_delete_module, "cowpool", O_NONBLOCK);
}

static int module_load(const void *image, size_t size)
{
	return syscall(SYS_init_module, image, size, "") ? -errno : 0;
}

/* A function of the kernel, if it exists */
static struct text symbol_text(struct __test_metadata *_metadata, const char *symbol)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	struct text text = nowhere;
	uint64_t addr;
	char name[256];

	ASSERT_NE(NULL, file);
	while (fscanf(file, "%" SCNx64 " %*c %255s%*[^\n]", &addr, name) == 2)
		if (!strcmp(name, symbol))
			text = (struct text){ addr, UINT64_MAX };
	rewind(file);
	while (fscanf(file, "%" SCNx64 " %*c %255s%*[^\n]", &addr, name) == 2)
		if (addr > text.start && addr < text.end)
			text.end = addr;
	fclose(file);
	return text;
}

FIXTURE_SETUP(inject_load)
{
	const char *path = getenv("COWPOOL_KO");
	struct text ours, leaky;
	struct stat stat;
	int fd;

	if (!path)
		SKIP(return, "COWPOOL_KO does not name the module's file");
	if (!inject_begin(_metadata))
		SKIP(return, "no " FAIL_NTH ": a kernel without fault injection");
	ours = symbol_text(_metadata, "do_one_initcall");
	ASSERT_NE(0, ours.start);
	/* Linux 6.12 loses a name there when it fails. */
	leaky = symbol_text(_metadata, "sysfs_slab_add");
	ASSERT_TRUE(inject_settings(ours, leaky));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fstat(fd, &stat));
	self->size = stat.st_size;
	self->image = malloc(self->size);
	ASSERT_EQ(stat.st_size, read(fd, self->image, self->size));
	close(fd);
}

FIXTURE_TEARDOWN_PARENT(inject_load)
{
	const char *path = getenv("COWPOOL_KO");
	int fd;

	if (!path || !access("/sys/module/cowpool", F_OK))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(0, syscall(SYS_finit_module, fd, "", 0));
	close(fd);
}

TEST_F_TIMEOUT(inject_load, module, 900)
{
	unsigned int n, failures = 0;
	bool hit = true;

	for (n = 1; hit; n++) {
		int outcome, fd;

		ASSERT_EQ(0, module_unload());
		inject_start(n);
		outcome = module_load(self->image, self->size);
		hit = inject_stop();
		if (outcome) {
			EXPECT_TRUE(hit);
			EXPECT_EQ(-ENOMEM, outcome) TH_LOG("%u: %s", n, strerror(-outcome));
			EXPECT_NE(0, access("/sys/module/cowpool", F_OK));
			EXPECT_NE(0, access(DEBUGFS, F_OK));
			EXPECT_NE(0, access(COWPOOL_DEVICE, F_OK));
			failures++;
			ASSERT_EQ(0, module_load(self->image, self->size));
		}
		fd = device_open(_metadata);
		EXPECT_EQ(16UL << 20, pool_info(_metadata, fd).size);
		close(fd);
		ASSERT_GT(POINTS_MAX, n);
	}
	EXPECT_LT(0, failures);
	ksft_print_msg("load: %u injection points, %u reported\n", n - 2, failures);
}

TEST_HARNESS_MAIN
