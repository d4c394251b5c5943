/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the selftests share: pools with known content, views, counters,
 * children and accesses that may raise a signal.
 *
 * The helpers take the harness's _metadata, so that they can use its
 * ASSERT_*() themselves. Tests fork a lot, so they use TEST_F(): its
 * _metadata is shared, and a failure in a child fails the test.
 */
#ifndef COWPOOL_TEST_H
#define COWPOOL_TEST_H

#include "pages.h"
#include "rounds.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/cowpool.h>
#include <linux/mempolicy.h>
#include <kselftest_harness.h>

/*
 * Seconds for a test: a busy machine that emulates another one is slow, and
 * slower with a kernel that checks everything.
 */
static inline int test_timeout(void)
{
	const char *scale = getenv("COWPOOL_TIMEOUT_SCALE");

	return 150 * (scale ? atoi(scale) : 1);
}

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT test_timeout()

#define DEBUGFS		"/sys/kernel/debug/cowpool/"

/* Pools and views */

static inline int device_open(struct __test_metadata *_metadata)
{
	int fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd) TH_LOG(COWPOOL_DEVICE ": %s", strerror(errno));
	return fd;
}

/* A new pool; with @name NULL or "" an anonymous one. Returns its fd. */
static inline int pool_create(struct __test_metadata *_metadata, size_t pages,
			      const char *name, unsigned int mode)
{
	struct cowpool_create create = { .size = pages * PAGE, .mode = mode };
	int fd = device_open(_metadata);

	if (name)
		snprintf(create.name, sizeof(create.name), "%s", name);
	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_CREATE, &create))
		TH_LOG("CREATE: %s", strerror(errno));
	return fd;
}

static inline int pool_attach(int fd, const char *name)
{
	struct cowpool_attach attach = {};

	snprintf(attach.name, sizeof(attach.name), "%s", name);
	return ioctl(fd, COWPOOL_IOC_ATTACH, &attach);
}

/* For teardowns: a failed test must not leave a name behind. */
static inline void pool_forget(const char *name)
{
	int fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);

	if (!pool_attach(fd, name))
		ioctl(fd, COWPOOL_IOC_DESTROY);
	close(fd);
}

/* Page n gets TAG(0, n). */
static inline void pool_fill(struct __test_metadata *_metadata, int fd,
			     size_t first, size_t pages)
{
	size_t batch = PMD_PAGES;
	char *buffer = malloc(batch * PAGE);

	ASSERT_NE(NULL, buffer);
	while (pages) {
		size_t n = pages < batch ? pages : batch;

		for (size_t i = 0; i < n; i++)
			page_set(page_at(buffer, i), TAG(0, first + i));
		ASSERT_EQ((ssize_t)(n * PAGE),
			  pwrite(fd, buffer, n * PAGE, first * PAGE))
			TH_LOG("pwrite: %s", strerror(errno));
		first += n;
		pages -= n;
	}
	free(buffer);
}

/* An anonymous pool, filled. */
static inline int pool_filled(struct __test_metadata *_metadata, size_t pages)
{
	int fd = pool_create(_metadata, pages, NULL, 0);

	pool_fill(_metadata, fd, 0, pages);
	return fd;
}

/* A pool, or a memfd that is to behave like one, without content. */
static inline int pool_or_memfd(struct __test_metadata *_metadata, bool pool, size_t pages)
{
	int fd;

	if (pool)
		return pool_create(_metadata, pages, NULL, 0);
	fd = memfd_create("reference", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, pages * PAGE));
	return fd;
}

static inline uint64_t pool_page_tag(struct __test_metadata *_metadata, int fd,
				     size_t page)
{
	uint64_t buffer[PAGE / sizeof(uint64_t)];

	ASSERT_EQ((ssize_t)PAGE, pread(fd, buffer, PAGE, page * PAGE));
	return page_tag(buffer);
}

static inline char *view_map(struct __test_metadata *_metadata, int fd,
			     size_t pages)
{
	char *view = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			  MAP_SHARED, fd, 0);

	ASSERT_NE(MAP_FAILED, view) TH_LOG("mmap: %s", strerror(errno));
	return view;
}

static inline struct cowpool_info pool_info(struct __test_metadata *_metadata,
					    int fd)
{
	struct cowpool_info info = {};

	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_INFO, &info))
		TH_LOG("INFO: %s", strerror(errno));
	return info;
}

static inline struct cowpool_info view_info(struct __test_metadata *_metadata,
					    int fd, void *addr)
{
	struct cowpool_info info = {
		.addr = (uintptr_t)addr,
		.flags = COWPOOL_INFO_VIEW,
	};

	ASSERT_EQ(0, ioctl(fd, COWPOOL_IOC_INFO, &info))
		TH_LOG("INFO of a view: %s", strerror(errno));
	return info;
}

static inline uint64_t private_pages(struct __test_metadata *_metadata, int fd,
				     void *addr)
{
	return view_info(_metadata, fd, addr).counters.private_pages;
}

/* All copies that a view has made. */
static inline uint64_t view_copies(struct __test_metadata *_metadata, int fd,
				   void *addr)
{
	struct cowpool_counters c = view_info(_metadata, fd, addr).counters;

	return c.copies_first_touch + c.copies_after_read;
}

static inline void file_write(struct __test_metadata *_metadata, const char *path,
			      const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	ASSERT_LE(0, fd) TH_LOG("%s: %s", path, strerror(errno));
	ASSERT_EQ((ssize_t)strlen(value), write(fd, value, strlen(value)))
		TH_LOG("%s: %s: %s", path, value, strerror(errno));
	close(fd);
}

/* The number behind @key, or the first one in the file. */
static inline uint64_t file_value(struct __test_metadata *_metadata, const char *path,
				  const char *key)
{
	FILE *file = fopen(path, "r");
	char line[256];
	uint64_t value;
	bool found = false;

	ASSERT_NE(NULL, file) TH_LOG("%s: %s", path, strerror(errno));
	while (!found && fgets(line, sizeof(line), file))
		found = !strncmp(line, key, strlen(key)) &&
			sscanf(line + strlen(key), "%" SCNu64, &value) == 1;
	fclose(file);
	ASSERT_TRUE(found) TH_LOG("no \"%s\" in %s", key, path);
	return value;
}

/* One value of debugfs's stats. */
static inline uint64_t stat_value(struct __test_metadata *_metadata,
				  const char *name)
{
	return file_value(_metadata, DEBUGFS "stats", name);
}

/*
 * For what counts faults: NUMA balancing takes entries away to see who uses them, once a
 * process has run for a while, but not from one that says where its memory is to be.
 */
static inline void numa_balancing_avoid(struct __test_metadata *_metadata)
{
	ASSERT_EQ(0, syscall(SYS_set_mempolicy, MPOL_LOCAL, NULL, 0));
}

/* How many page faults the thread has taken, but for those that read from a disk. */
static inline long faults_now(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt;
}

/* What /proc/PID/pagemap says of a page. */
static inline uint64_t pagemap_entry(struct __test_metadata *_metadata, void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry;

	ASSERT_LE(0, fd);
	ASSERT_EQ((ssize_t)sizeof(entry),
		  pread(fd, &entry, sizeof(entry),
			(uintptr_t)addr / PAGE * sizeof(entry)));
	close(fd);
	return entry;
}

/* The physical page that stands in the page table at @addr, 0 for none. */
static inline uint64_t frame_of(struct __test_metadata *_metadata, void *addr)
{
	uint64_t entry = pagemap_entry(_metadata, addr);

	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* The line of /proc/PID/maps about the VMA that begins at @addr */
static inline void maps_line(struct __test_metadata *_metadata, const char *addr,
			     char *line, size_t size)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	uintptr_t start = 0;

	ASSERT_NE(NULL, maps);
	while (start != (uintptr_t)addr && fgets(line, size, maps))
		ASSERT_EQ(1, sscanf(line, "%" SCNxPTR, &start));
	fclose(maps);
	ASSERT_EQ((uintptr_t)addr, start);
}

/* Children and threads */

static inline pid_t child_fork(struct __test_metadata *_metadata)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid) TH_LOG("fork: %s", strerror(errno));
	return pid;
}

/* Waits for a child; it must have ended by itself and without complaint. */
static inline void child_join(struct __test_metadata *_metadata, pid_t pid)
{
	int status;

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) TH_LOG("child ended with status %#x", status);
}

/*
 * A pipe that holds on to a page of a view of @pages: a child got hold of it while it
 * was shared, and is gone. Returns the end to read from.
 */
static inline int child_held(struct __test_metadata *_metadata, char *view, size_t pages,
			     size_t page)
{
	pid_t child;
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	child = child_fork(_metadata);
	if (!child) {
		struct iovec held = { page_at(view, page), PAGE };

		ASSERT_EQ((ssize_t)PAGE, vmsplice(ends[1], &held, 1, 0));
		munmap(view, pages * PAGE);
		_exit(0);
	}
	child_join(_metadata, child);
	close(ends[1]);
	return ends[0];
}

/* A barrier for @n processes that descend from the caller. */
static inline pthread_barrier_t *barrier_new(struct __test_metadata *_metadata,
					     unsigned int n)
{
	pthread_barrier_t *barrier;
	pthread_barrierattr_t attr;

	barrier = mmap(NULL, sizeof(*barrier), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)barrier);
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	ASSERT_EQ(0, pthread_barrier_init(barrier, &attr, n));
	return barrier;
}

/* How far the kernel may be preempted: fully, for races on one processor. */

#define PREEMPT		"/sys/kernel/debug/sched/preempt"
#define PREEMPT_SIZE	64

static inline void preempt_set(const char *value)
{
	int fd = open(PREEMPT, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, value, strlen(value)) < 0)
		ksft_print_msg("cannot set " PREEMPT " to %s\n", value);
	close(fd);
}

/* Where the kernel can do that. @before gets what it was set to, or "". */
static inline void preempt_full(char *before)
{
	FILE *file = fopen(PREEMPT, "r");

	before[0] = '\0';
	if (!file)
		return;
	/* "none voluntary (full)": the mode in brackets is the present one. */
	if (fscanf(file, "%*[^(](%63[^)]", before) != 1)
		before[0] = '\0';
	fclose(file);
	preempt_set("full");
}

static inline void preempt_restore(const char *before)
{
	if (before[0])
		preempt_set(before);
}

/* Accesses that may raise a signal */

enum access { LOAD, STORE, BLIND_STORE };

static sigjmp_buf access_env;

static inline void access_signalled(int sig)
{
	siglongjmp(access_env, sig);
}

/*
 * Reads a byte, or writes back what it reads, or writes without that: 0, or the signal
 * raised.
 */
static inline int access_byte(void *addr, enum access access)
{
	struct sigaction action = { .sa_handler = access_signalled };
	struct sigaction old_segv, old_bus;
	volatile char *byte = addr;
	int sig;

	sigaction(SIGSEGV, &action, &old_segv);
	sigaction(SIGBUS, &action, &old_bus);
	sig = sigsetjmp(access_env, 1);
	if (!sig) {
		char value = access == BLIND_STORE ? 'b' : *byte;

		if (access != LOAD)
			*byte = value;
	}
	sigaction(SIGSEGV, &old_segv, NULL);
	sigaction(SIGBUS, &old_bus, NULL);
	return sig;
}

#endif /* COWPOOL_TEST_H */
