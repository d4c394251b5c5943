// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is taken offline: a block that holds frames of pools, views or
 * snapshots is refused, since nothing moves them, and their content stays.
 */
#include "snapshot.h"

#define MEMORY	"/sys/devices/system/memory/"
#define PAGES	(PMD_PAGES + 64)

FIXTURE(hotplug) {
	int fd;
	char *view;
	uint64_t block;		/* pages in one */
};

FIXTURE_SETUP(hotplug)
{
	FILE *file = fopen(MEMORY "block_size_bytes", "r");

	if (!file || access(MEMORY "memory0/removable", F_OK))
		SKIP(return, "the kernel takes no memory offline");
	ASSERT_EQ(1, fscanf(file, "%" SCNx64, &self->block));
	fclose(file);
	self->block /= PAGE;
	self->fd = pool_filled(_metadata, PAGES);
	self->view = view_map(_metadata, self->fd, PAGES);
}

FIXTURE_TEARDOWN(hotplug)
{
	munmap(self->view, PAGES * PAGE);
	close(self->fd);
}

/* 0 or an errno. */
static int block_set(long block, const char *state)
{
	char path[64];
	int fd, err = 0;

	snprintf(path, sizeof(path), MEMORY "memory%ld/state", block);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	/* What the kernel cannot move now it tries again until it is told to stop. */
	alarm(20);
	if (write(fd, state, strlen(state)) < 0)
		err = errno;
	alarm(0);
	close(fd);
	return err;
}

static void alarmed(int sig)
{
	(void)sig;
}

/* The block of the frame at an address. */
static long block_of(struct __test_metadata *_metadata, void *addr, uint64_t block)
{
	page_tag(addr);
	return frame_of(_metadata, addr) / block;
}

static void expect_pages(struct __test_metadata *_metadata, char *addr, int writer)
{
	for (size_t page = 0; page < PAGES; page++) {
		EXPECT_EQ(TAG(page % 8 ? 0 : writer, page), page_tag(page_at(addr, page)))
			TH_LOG("page %zu", page);
	}
}

/* Blocks in which frames are, each once; returns how many. */
static size_t blocks_of(struct __test_metadata *_metadata, char *addr, uint64_t block,
			long *blocks, size_t most)
{
	size_t nr = 0, i;

	for (size_t page = 0; page < PAGES; page++) {
		long here = block_of(_metadata, page_at(addr, page), block);

		for (i = 0; i < nr && blocks[i] != here; i++)
			;
		if (i == nr && nr < most)
			blocks[nr++] = here;
	}
	return nr;
}

TEST_F(hotplug, frames_in_use_stay)
{
	struct sigaction action = { .sa_handler = alarmed };
	long blocks[16], other;
	char path[64];
	size_t nr, i;
	int snapshot;
	char *past;

	sigaction(SIGALRM, &action, NULL);
	for (size_t page = 0; page < PAGES; page += 8)
		page_set(page_at(self->view, page), TAG(1, page));
	snapshot = snapshot_take(_metadata, self->fd, self->view);
	past = view_map(_metadata, snapshot, PAGES);
	for (size_t page = 0; page < PAGES; page += 8)
		page_set(page_at(self->view, page), TAG(2, page));

	/* What the pool, the view, and the snapshot hold */
	nr = blocks_of(_metadata, self->view, self->block, blocks, 8);
	nr += blocks_of(_metadata, past, self->block, blocks + nr, 8);
	for (i = 0; i < nr; i++) {
		int err = block_set(blocks[i], "offline");

		/* EINTR: the kernel was still trying; EINVAL: it has parts of two zones. */
		EXPECT_TRUE(err == EBUSY || err == EINTR || err == EINVAL)
			TH_LOG("block %ld: %s", blocks[i], strerror(err));
		if (!err)
			EXPECT_EQ(0, block_set(blocks[i], "online"));
		expect_pages(_metadata, self->view, 2);
		expect_pages(_metadata, past, 1);
	}

	/* Another one goes, if the kernel itself has nothing that stays there. */
	for (other = 0; ; other++) {
		snprintf(path, sizeof(path), MEMORY "memory%ld", other);
		if (access(path, F_OK))
			break;
		for (i = 0; i < nr && blocks[i] != other; i++)
			;
		if (i < nr || block_set(other, "offline"))
			continue;
		ksft_print_msg("block %ld went offline\n", other);
		expect_pages(_metadata, self->view, 2);
		expect_pages(_metadata, past, 1);
		EXPECT_EQ(0, block_set(other, "online"));
		break;
	}
	expect_pages(_metadata, self->view, 2);
	munmap(past, PAGES * PAGE);
	close(snapshot);
}

TEST_HARNESS_MAIN
