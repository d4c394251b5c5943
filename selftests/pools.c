// SPDX-License-Identifier: GPL-2.0
/*
 * Pools: names, numbers, states, what INFO and debugfs say of them, and how
 * long each kind lives.
 */
#include "cowpool_test.h"

#include <limits.h>
#include <sys/inotify.h>

#define NAME "selftest-pools"

FIXTURE(pools) {
	int fd;			/* on the default pool */
	uint64_t pools;		/* when the test began */
};

FIXTURE_SETUP(pools)
{
	self->fd = device_open(_metadata);
	self->pools = stat_value(_metadata, "pools");
}

FIXTURE_TEARDOWN(pools)
{
	pool_forget(NAME);
	close(self->fd);
}

TEST_F(pools, info_of_a_new_pool)
{
	int fd = pool_create(_metadata, 5, NAME, 0640);
	struct cowpool_info info = pool_info(_metadata, fd);
	struct cowpool_counters none = {};

	EXPECT_STREQ(NAME, info.name);
	EXPECT_EQ(5 * PAGE, info.size);
	EXPECT_EQ(0640, info.mode);
	EXPECT_EQ(0, info.state);
	EXPECT_EQ(0, info.filled_pages);
	EXPECT_EQ(0, info.views);
	EXPECT_EQ(0, info.uid);
	EXPECT_EQ(0, info.gid);
	EXPECT_EQ(0, memcmp(&none, &info.counters, sizeof(none)));
	for (size_t page = 0; page < 5; page++)
		EXPECT_EQ(0, pool_page_tag(_metadata, fd, page));
	close(fd);
}

TEST_F(pools, anonymous_lives_as_long_as_its_descriptors_and_views)
{
	int fd = pool_filled(_metadata, 3), copy = dup(fd);
	char *view;

	EXPECT_STREQ("", pool_info(_metadata, fd).name);
	EXPECT_EQ(self->pools + 1, stat_value(_metadata, "pools"));
	close(fd);
	EXPECT_EQ(self->pools + 1, stat_value(_metadata, "pools"));
	view = view_map(_metadata, copy, 3);
	close(copy);
	EXPECT_EQ(self->pools + 1, stat_value(_metadata, "pools"));
	EXPECT_EQ(TAG(0, 2), page_tag(page_at(view, 2)));
	page_set(page_at(view, 2), TAG(1, 2));
	EXPECT_EQ(TAG(1, 2), page_tag(page_at(view, 2)));
	munmap(view, 3 * PAGE);
	EXPECT_EQ(self->pools, stat_value(_metadata, "pools"));
}

TEST_F(pools, named_lives_until_destroyed)
{
	int fd = pool_create(_metadata, 3, NAME, 0600);
	uint64_t id = pool_info(_metadata, fd).pool_id;
	char *view;

	pool_fill(_metadata, fd, 0, 3);
	close(fd);
	EXPECT_EQ(self->pools + 1, stat_value(_metadata, "pools"));

	fd = device_open(_metadata);
	ASSERT_EQ(0, pool_attach(fd, NAME));
	EXPECT_EQ(id, pool_info(_metadata, fd).pool_id);
	EXPECT_EQ(TAG(0, 1), pool_page_tag(_metadata, fd, 1));
	view = view_map(_metadata, fd, 3);
	page_set(view, TAG(1, 0));

	/* Only the name goes: whoever has the pool keeps it. */
	EXPECT_EQ(0, ioctl(fd, COWPOOL_IOC_DESTROY));
	EXPECT_EQ(-1, pool_attach(self->fd, NAME));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, ioctl(fd, COWPOOL_IOC_DESTROY));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(TAG(0, 1), pool_page_tag(_metadata, fd, 1));
	EXPECT_EQ(TAG(1, 0), page_tag(view));
	EXPECT_EQ(TAG(0, 1), page_tag(page_at(view, 1)));
	close(fd);
	EXPECT_EQ(TAG(0, 2), page_tag(page_at(view, 2)));
	munmap(view, 3 * PAGE);
	EXPECT_EQ(self->pools, stat_value(_metadata, "pools"));
}

/* A name can be used again, at once, and the new pool knows nothing of the old. */
TEST_F(pools, names_are_reused_numbers_are_not)
{
	int old = pool_create(_metadata, 2, NAME, 0600), new;

	pool_fill(_metadata, old, 0, 2);
	EXPECT_EQ(0, ioctl(old, COWPOOL_IOC_DESTROY));
	new = pool_create(_metadata, 4, NAME, 0600);
	EXPECT_LT(pool_info(_metadata, old).pool_id, pool_info(_metadata, new).pool_id);
	EXPECT_EQ(2 * PAGE, pool_info(_metadata, old).size);
	EXPECT_EQ(4 * PAGE, pool_info(_metadata, new).size);
	EXPECT_EQ(TAG(0, 0), pool_page_tag(_metadata, old, 0));
	EXPECT_EQ(0, pool_page_tag(_metadata, new, 0));

	/* DESTROY on the old one must not take the new one's name. */
	EXPECT_EQ(-1, ioctl(old, COWPOOL_IOC_DESTROY));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(0, pool_attach(self->fd, NAME));
	EXPECT_EQ(0, ioctl(new, COWPOOL_IOC_DESTROY));
	close(old);
	close(new);
}

TEST_F(pools, create_and_attach_let_go_of_the_pool_before)
{
	int fd = pool_filled(_metadata, 2);
	struct cowpool_create create = { .size = PAGE };

	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(self->pools + 1, stat_value(_metadata, "pools"));
	EXPECT_EQ(PAGE, pool_info(_metadata, fd).size);
	EXPECT_EQ(0, pool_page_tag(_metadata, fd, 0));
	ASSERT_EQ(0, pool_attach(fd, COWPOOL_DEFAULT_NAME));
	EXPECT_EQ(self->pools, stat_value(_metadata, "pools"));
	EXPECT_EQ(pool_info(_metadata, self->fd).pool_id, pool_info(_metadata, fd).pool_id);
	close(fd);
}

/* The descriptor's pool is another one by now; the view's is not. */
TEST_F(pools, a_view_keeps_its_pool)
{
	int fd = pool_filled(_metadata, 2);
	struct cowpool_create create = { .size = PAGE };
	uint64_t id = pool_info(_metadata, fd).pool_id;
	char *view = view_map(_metadata, fd, 2);

	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create));
	EXPECT_EQ(id, view_info(_metadata, fd, view).pool_id);
	EXPECT_NE(id, pool_info(_metadata, fd).pool_id);
	EXPECT_EQ(TAG(0, 1), page_tag(page_at(view, 1)));
	munmap(view, 2 * PAGE);
	close(fd);
}

TEST_F(pools, writable_until_mapped_and_again_after)
{
	int fd = pool_filled(_metadata, 2);
	char *view = view_map(_metadata, fd, 2), *second = view_map(_metadata, fd, 1);
	char data[] = "late";

	EXPECT_EQ(COWPOOL_STATE_MAPPED, pool_info(_metadata, fd).state);
	EXPECT_EQ(2, pool_info(_metadata, fd).views);
	EXPECT_EQ(-1, pwrite(fd, data, 4, 0));
	EXPECT_EQ(ETXTBSY, errno);
	munmap(view, 2 * PAGE);
	EXPECT_EQ(-1, pwrite(fd, data, 4, 0));
	EXPECT_EQ(ETXTBSY, errno);
	munmap(second, PAGE);
	EXPECT_EQ(0, pool_info(_metadata, fd).state);
	EXPECT_EQ(0, pool_info(_metadata, fd).views);
	EXPECT_EQ(TAG(0, 0), pool_page_tag(_metadata, fd, 0));
	EXPECT_EQ(4, pwrite(fd, data, 4, 0));
	close(fd);
}

TEST_F(pools, sealed_for_ever)
{
	int fd = pool_filled(_metadata, 2);
	char data[] = "late", *view;

	EXPECT_EQ(0, ioctl(fd, COWPOOL_IOC_SEAL));
	EXPECT_EQ(COWPOOL_STATE_SEALED, pool_info(_metadata, fd).state);
	EXPECT_EQ(-1, pwrite(fd, data, 4, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(0, ioctl(fd, COWPOOL_IOC_SEAL));
	view = view_map(_metadata, fd, 2);
	page_set(view, TAG(1, 0));
	EXPECT_EQ(COWPOOL_STATE_SEALED | COWPOOL_STATE_MAPPED, pool_info(_metadata, fd).state);
	EXPECT_EQ(-1, pwrite(fd, data, 4, 0));
	EXPECT_EQ(EPERM, errno);
	munmap(view, 2 * PAGE);
	EXPECT_EQ(COWPOOL_STATE_SEALED, pool_info(_metadata, fd).state);
	EXPECT_EQ(TAG(0, 0), pool_page_tag(_metadata, fd, 0));
	close(fd);
}

/* A page counts once, however often and by whatever part it is written. */
TEST_F(pools, filled_pages_are_counted_exactly)
{
	const struct {
		size_t at, len, filled;
	} rows[] = {
		{ 0, 1, 1 }, { 1, 1, 1 }, { 4095, 2, 2 }, { 4096, 4096, 2 },
		{ 10 * 4096, 5 * 4096, 7 }, { 12 * 4096 - 1, 2, 7 },
		{ 1100 * 4096 - 1, 1, 8 }, { 0, 600 * 4096, 601 },
		{ 0, 1100 * 4096, 1100 },
	};
	int fd = pool_create(_metadata, 1100, NULL, 0);
	uint64_t filled = stat_value(_metadata, "filled_pages");
	char *data = calloc(1100, 4096);

	ASSERT_NE(NULL, data);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ASSERT_EQ((ssize_t)rows[i].len, pwrite(fd, data, rows[i].len, rows[i].at));
		EXPECT_EQ(rows[i].filled, pool_info(_metadata, fd).filled_pages)
			TH_LOG("row %zu", i);
		EXPECT_EQ(filled + rows[i].filled, stat_value(_metadata, "filled_pages"));
	}
	EXPECT_LE(1100, stat_value(_metadata, "pool_frames"));
	free(data);
	close(fd);
	EXPECT_EQ(filled, stat_value(_metadata, "filled_pages"));
}

/* The frames of a pool come and go with its content. */
TEST_F(pools, frames_go_with_the_pool)
{
	uint64_t frames = stat_value(_metadata, "pool_frames");
	int fd = pool_create(_metadata, 4 * PMD_PAGES, NULL, 0);

	EXPECT_EQ(frames, stat_value(_metadata, "pool_frames"));
	pool_fill(_metadata, fd, 0, 2 * PMD_PAGES);
	EXPECT_EQ(frames + 2 * PMD_PAGES, stat_value(_metadata, "pool_frames"));
	close(fd);
	EXPECT_EQ(frames, stat_value(_metadata, "pool_frames"));
}

static void debugfs_row(struct __test_metadata *_metadata, uint64_t id,
			const char *name, const char *state, unsigned int views)
{
	FILE *file = fopen(DEBUGFS "pools", "r");
	char line[512], seen_name[64], seen_state[16];
	uint64_t seen, size, filled;
	unsigned int mode, uid, gid, seen_views;
	bool found = false;

	ASSERT_NE(NULL, file);
	ASSERT_NE(NULL, fgets(line, sizeof(line), file));
	while (!found && fgets(line, sizeof(line), file))
		found = sscanf(line, "%" SCNu64 " %63s %" SCNu64 " %" SCNu64
			       " %o %u %u %15s %u", &seen, seen_name, &size,
			       &filled, &mode, &uid, &gid, seen_state,
			       &seen_views) == 9 && seen == id;
	fclose(file);
	ASSERT_TRUE(found);
	EXPECT_STREQ(name, seen_name);
	EXPECT_EQ(4, size);
	EXPECT_EQ(2, filled);
	EXPECT_EQ(0640, mode);
	EXPECT_EQ(0, uid);
	EXPECT_EQ(0, gid);
	EXPECT_STREQ(state, seen_state);
	EXPECT_EQ(views, seen_views);
}

TEST_F(pools, debugfs_table)
{
	int fd = pool_create(_metadata, 4, NAME, 0640);
	uint64_t id = pool_info(_metadata, fd).pool_id;
	char *view;

	pool_fill(_metadata, fd, 1, 2);
	debugfs_row(_metadata, id, NAME, "open", 0);
	view = view_map(_metadata, fd, 4);
	debugfs_row(_metadata, id, NAME, "mapped", 1);
	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_SEAL));
	debugfs_row(_metadata, id, NAME, "sealed", 1);
	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_DESTROY));
	debugfs_row(_metadata, id, "-", "sealed", 1);
	munmap(view, 4 * PAGE);
	close(fd);
}

/* What /proc/PID/map_files calls the first VMA of @view, from its line in .../maps. */
static void map_file(struct __test_metadata *_metadata, const char *view, char *line,
		     size_t size, char *path)
{
	uintptr_t start, end;

	maps_line(_metadata, view, line, size);
	ASSERT_EQ(2, sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &start, &end));
	line[strcspn(line, "\n")] = '\0';
	sprintf(path, "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, start, end);
}

/* How the kernel calls what is mapped: in /proc/PID/maps, and as a link. */
static void expect_mapped_as(struct __test_metadata *_metadata, const char *view,
			     const char *expected)
{
	char line[512], path[64], link[PATH_MAX];
	ssize_t len;

	map_file(_metadata, view, line, sizeof(line), path);
	ASSERT_LT(strlen(expected), strlen(line));
	EXPECT_STREQ(expected, line + strlen(line) - strlen(expected));
	/* With its length: the kernel's buffer is larger. */
	len = readlink(path, link, sizeof(link));
	ASSERT_EQ((ssize_t)strlen(expected), len);
	EXPECT_EQ(0, memcmp(expected, link, len));
}

TEST_F(pools, mappings_have_the_name)
{
	int named = pool_create(_metadata, 4, NAME, 0600);
	int anonymous = pool_create(_metadata, 4, NULL, 0);
	char *view = view_map(_metadata, named, 4), expected[64];

	expect_mapped_as(_metadata, view, "/cowpool:" NAME);
	munmap(view, 4 * PAGE);
	ASSERT_EQ(0, ioctl(named, COWPOOL_IOC_DESTROY));
	close(named);

	snprintf(expected, sizeof(expected), "/cowpool:[%" PRIu64 "]",
		 (uint64_t)pool_info(_metadata, anonymous).pool_id);
	view = view_map(_metadata, anonymous, 4);
	expect_mapped_as(_metadata, view, expected);
	munmap(view, 4 * PAGE);
	close(anonymous);
}

/* Root watches a mapping; that it goes must not wait for him. */
TEST_F(pools, mapping_is_watched)
{
	char *view = view_map(_metadata, self->fd, 4), line[512], path[64];
	struct inotify_event event;
	int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	ASSERT_LE(0, watch);
	map_file(_metadata, view, line, sizeof(line), path);
	ASSERT_LE(0, inotify_add_watch(watch, path, IN_ATTRIB));
	munmap(view, 4 * PAGE);
	/* The last one that there is of the device */
	close(self->fd);
	ASSERT_EQ((ssize_t)sizeof(event), read(watch, &event, sizeof(event)))
		TH_LOG("%s: is the device open elsewhere?", strerror(errno));
	EXPECT_EQ(IN_UNMOUNT, event.mask);
	close(watch);
	self->fd = device_open(_metadata);
}

TEST_HARNESS_MAIN
