// SPDX-License-Identifier: GPL-2.0
/*
 * Races on descriptors, names and pools: what two threads do with one
 * descriptor, two processes with one name, and writing against whatever must
 * exclude it.
 */
#include "races.h"

#include <sys/syscall.h>

#define NAME	"selftest-races"

enum { PAGES = 64 };

struct race {
	struct crew crew;
	atomic_int fd;
};

FIXTURE(races_pools) {
	struct race race;
};

FIXTURE_SETUP(races_pools)
{
	self->race.fd = pool_create(_metadata, PAGES, NULL, 0);
}

FIXTURE_TEARDOWN_PARENT(races_pools)
{
	static const char *const names[] = { NAME, NAME "-a", NAME "-b" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		pool_forget(names[i]);
	if (access("/sys/module/cowpool", F_OK)) {
		int fd = open(getenv("COWPOOL_KO"), O_RDONLY | O_CLOEXEC);

		EXPECT_EQ(0, syscall(SYS_finit_module, fd, "", 0));
		close(fd);
	}
}

/* The tags of all pages, if they come from one writer, who is returned. */
static int writer_of(const char *pages, size_t nr)
{
	int writer = page_tag(pages) >> 48;

	for (size_t page = 0; page < nr; page++) {
		uint64_t tag = page_tag(page_at((void *)pages, page));

		if (tag != TAG(writer, page) && (tag || writer))
			return -1;
	}
	return writer;
}

/*
 * Fills the descriptor's pool again and again, as one writer and as another,
 * and is in a write() for most of the time.
 */
static void *fill(void *arg)
{
	static char pages[2][PAGES * 4096];
	struct race *race = arg;

	for (size_t page = 0; page < 2 * PAGES; page++)
		page_set(page_at(pages, page), TAG(1 + page / PAGES, page % PAGES));
	while (!race->crew.stop) {
		if (pwrite(race->fd, pages[race->crew.done % 2], sizeof(*pages), 0) < 0) {
			if (errno == EPERM)
				break;
			if (errno != ETXTBSY)
				race->crew.wrong++;
		}
		race->crew.done++;
	}
	return NULL;
}

static bool same_twice(int fd)
{
	static char first[PAGES * 4096], second[PAGES * 4096];

	return pread(fd, first, sizeof(first), 0) == sizeof(first) &&
	       !sched_yield() &&
	       pread(fd, second, sizeof(second), 0) == sizeof(second) &&
	       !memcmp(first, second, sizeof(first));
}

/* From the return of SEAL on nothing changes. */
TEST_F(races_pools, seal_against_write)
{
	for (unsigned int n = how_often(300); n; n--) {
		self->race.crew.stop = false;
		crew_add(_metadata, &self->race.crew, fill, &self->race);
		while (self->race.crew.done < n % 4)
			sched_yield();
		EXPECT_EQ(0, ioctl(self->race.fd, COWPOOL_IOC_SEAL));
		EXPECT_TRUE(same_twice(self->race.fd));
		/* It ends by itself: the pool is sealed. */
		pthread_join(self->race.crew.threads[0], NULL);
		self->race.crew.nr = 0;
		EXPECT_EQ(0, self->race.crew.wrong);
		self->race.crew.done = 0;
		close(self->race.fd);
		self->race.fd = pool_create(_metadata, PAGES, NULL, 0);
	}
}

/* What is mapped is not written: mmap() or the write is refused. */
TEST_F(races_pools, mmap_against_write)
{
	bool mapped = false;

	crew_add(_metadata, &self->race.crew, fill, &self->race);
	/* The writer hardly rests: on, until it has been met resting once at least. */
	for (unsigned int n = how_often(1000); n || !mapped; n -= n > 0) {
		char *view = mmap(NULL, PAGES * PAGE, PROT_READ, n % 2 ? MAP_SHARED : MAP_PRIVATE,
				  self->race.fd, 0);

		if (view == MAP_FAILED) {
			EXPECT_EQ(ETXTBSY, errno);
			continue;
		}
		mapped = true;
		EXPECT_TRUE(same_twice(self->race.fd));
		EXPECT_LE(0, writer_of(view, PAGES));
		munmap(view, PAGES * PAGE);
	}
	crew_stop(_metadata, &self->race.crew);
}

/* Puts another descriptor in the place of the one that others use. */
static void *replace_descriptor(void *arg)
{
	struct race *race = arg;

	while (!race->crew.stop) {
		int fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);

		if (fd < 0)
			race->crew.wrong++;
		close(race->fd);
		race->fd = fd;
	}
	return NULL;
}

/* What they act on is alive until they are through with it. */
static void *use_descriptor(void *arg)
{
	struct race *race = arg;
	struct cowpool_create create = { .size = PAGES * PAGE };
	struct cowpool_info info = {};
	char page[4096];

	while (!race->crew.stop) {
		int fd = race->fd;
		char *view;

		if (ioctl(fd, COWPOOL_IOC_CREATE, &create) && errno != EBADF)
			race->crew.wrong++;
		if (pwrite(fd, page, sizeof(page), 0) < 0 && errno != EBADF && errno != ETXTBSY)
			race->crew.wrong++;
		memset(&info, 0, sizeof(info));
		if (ioctl(fd, COWPOOL_IOC_INFO, &info) && errno != EBADF)
			race->crew.wrong++;
		view = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (view == MAP_FAILED) {
			if (errno != EBADF && errno != ETXTBSY)
				race->crew.wrong++;
			continue;
		}
		page_set(view, TAG(1, 0));
		if (page_tag(view) != TAG(1, 0))
			race->crew.wrong++;
		munmap(view, PAGES * PAGE);
		race->crew.done++;
	}
	return NULL;
}

TEST_F(races_pools, close_against_everything)
{
	uint64_t pools = stat_value(_metadata, "pools") - 1;

	crew_add(_metadata, &self->race.crew, replace_descriptor, &self->race);
	crew_add(_metadata, &self->race.crew, use_descriptor, &self->race);
	crew_add(_metadata, &self->race.crew, use_descriptor, &self->race);
	for (unsigned int n = how_often(1000); self->race.crew.done < n;)
		usleep(1000);
	crew_stop(_metadata, &self->race.crew);
	close(self->race.fd);
	EXPECT_EQ(pools, stat_value(_metadata, "pools"));
	EXPECT_EQ(0, stat_value(_metadata, "views"));
	self->race.fd = device_open(_metadata);
}

/* Makes the descriptor act on pool after pool. */
static void *attach(void *arg)
{
	struct race *race = arg;

	for (unsigned int n = 0; !race->crew.stop; n++) {
		if (pool_attach(race->fd, n % 2 ? NAME "-a" : NAME "-b"))
			race->crew.wrong++;
		race->crew.done++;
	}
	return NULL;
}

static void *create(void *arg)
{
	struct race *race = arg;
	struct cowpool_create create = { .size = 3 * PAGES * PAGE };

	while (!race->crew.stop) {
		if (ioctl(race->fd, COWPOOL_IOC_CREATE, &create))
			race->crew.wrong++;
		race->crew.done++;
	}
	return NULL;
}

/* One descriptor, many pools: each call acts on one of them, and on all of it. */
TEST_F(races_pools, attach_and_create_on_one_descriptor)
{
	static const char *const names[] = { "", NAME "-a", NAME "-b" };
	uint64_t pools = stat_value(_metadata, "pools");

	for (size_t i = 1; i < ARRAY_SIZE(names); i++) {
		int fd = pool_create(_metadata, i * PAGES, names[i], 0600);
		char *pages = calloc(i * PAGES, PAGE);

		for (size_t page = 0; page < i * PAGES; page++)
			page_set(page_at(pages, page), TAG(i, page));
		ASSERT_EQ((ssize_t)(i * PAGES * PAGE), pwrite(fd, pages, i * PAGES * PAGE, 0));
		free(pages);
		close(fd);
	}
	ASSERT_EQ(0, pool_attach(self->race.fd, names[1]));
	crew_add(_metadata, &self->race.crew, attach, &self->race);
	crew_add(_metadata, &self->race.crew, create, &self->race);
	for (unsigned int n = how_often(500); n; n--) {
		struct cowpool_info info = pool_info(_metadata, self->race.fd);
		size_t i = info.size / PAGE / PAGES;
		char *view;

		ASSERT_TRUE(i >= 1 && i <= 3);
		EXPECT_STREQ(names[i % 3], info.name);
		EXPECT_EQ(i == 3 ? 0 : i * PAGES, info.filled_pages);
		view = view_map(_metadata, self->race.fd, PAGES);
		EXPECT_LE(0, writer_of(view, PAGES));
		munmap(view, PAGES * PAGE);
	}
	crew_stop(_metadata, &self->race.crew);
	pool_forget(names[1]);
	pool_forget(names[2]);
	close(self->race.fd);
	EXPECT_EQ(pools - 1, stat_value(_metadata, "pools"));
	self->race.fd = device_open(_metadata);
}

/* What processes did with a name */
struct deeds {
	atomic_llong made, destroyed, attached, refused;
	atomic_llong wrong;
};

static void deed(struct deeds *deeds, atomic_llong *done, int ret, int refusal)
{
	if (!ret)
		(*done)++;
	else if (errno == refusal)
		deeds->refused++;
	else
		deeds->wrong++;
}

static void use_name(struct __test_metadata *_metadata, struct deeds *deeds, unsigned int n)
{
	struct cowpool_create create = { .size = PAGES * PAGE, .mode = 0600, .name = NAME };
	struct cowpool_create own = { .size = PAGE };
	int fd = device_open(_metadata);
	atomic_llong rest = 0;
	char byte = 0;

	while (n--) {
		/* Not on the default pool, nor on what had the name before */
		deed(deeds, &rest, ioctl(fd, COWPOOL_IOC_CREATE, &own), 0);
		deed(deeds, &deeds->made, ioctl(fd, COWPOOL_IOC_CREATE, &create), EEXIST);
		deed(deeds, &deeds->attached, pool_attach(fd, NAME), ENOENT);
		deed(deeds, &rest, pwrite(fd, &byte, 1, 0) != 1, EPERM);
		if (n % 2)
			deed(deeds, &rest, ioctl(fd, COWPOOL_IOC_SEAL), 0);
		deed(deeds, &deeds->destroyed, ioctl(fd, COWPOOL_IOC_DESTROY), ENOENT);
	}
	close(fd);
}

/* Nobody gets a name that is taken, and a name is taken away once. */
TEST_F(races_pools, one_name_many_processes)
{
	struct deeds *deeds = mmap(NULL, sizeof(*deeds), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t pools = stat_value(_metadata, "pools");
	unsigned int n = how_often(500);
	pid_t children[3];

	ASSERT_NE(MAP_FAILED, (void *)deeds);
	for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
		children[i] = child_fork(_metadata);
		if (!children[i]) {
			use_name(_metadata, deeds, n);
			_exit(0);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(children); i++)
		child_join(_metadata, children[i]);
	EXPECT_EQ(0, deeds->wrong);
	EXPECT_EQ(deeds->made, deeds->destroyed + !pool_attach(self->race.fd, NAME));
	EXPECT_LT(0, deeds->made);
	pool_forget(NAME);
	close(self->race.fd);
	EXPECT_EQ(pools - 1, stat_value(_metadata, "pools"));
	self->race.fd = device_open(_metadata);
}

/* Some who ask for a free name at once, again and again */
struct makers {
	struct crew crew;
	pthread_barrier_t *all;
	unsigned int rounds;
};

static void *make(void *arg)
{
	struct makers *makers = arg;
	struct cowpool_create create = { .size = PAGE, .mode = 0600, .name = NAME };
	int fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);

	for (unsigned int n = makers->rounds; n; n--) {
		bool made;

		pthread_barrier_wait(makers->all);
		made = !ioctl(fd, COWPOOL_IOC_CREATE, &create);
		if (!made && errno != EEXIST)
			makers->crew.wrong++;
		/* They all have asked: now it may be free again. */
		pthread_barrier_wait(makers->all);
		if (!made)
			continue;
		makers->crew.done++;
		if (ioctl(fd, COWPOOL_IOC_DESTROY))
			makers->crew.wrong++;
	}
	close(fd);
	return NULL;
}

TEST_F(races_pools, one_of_them_gets_the_name)
{
	const unsigned int nr = 3;
	struct makers makers = {
		.all = barrier_new(_metadata, nr),
		.rounds = how_often(500),
	};

	for (unsigned int i = 0; i < nr; i++)
		crew_add(_metadata, &makers.crew, make, &makers);
	crew_join(_metadata, &makers.crew);
	EXPECT_EQ(makers.rounds, makers.crew.done);
}

/* Whoever opens the device while the module goes has it, or has nothing. */
static void open_again_and_again(atomic_uint *opened)
{
	for (;;) {
		int fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);
		char *view, byte;

		if (fd < 0) {
			if (errno != ENOENT && errno != ENODEV && errno != ENXIO)
				break;
			continue;
		}
		if (read(fd, &byte, 1) != 1)
			break;
		view = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
		if (view == MAP_FAILED)
			break;
		*view = 1;
		munmap(view, PAGE);
		(*opened)++;
	}
	_exit(EXIT_FAILURE);
}

TEST_F(races_pools, unload_against_open)
{
	atomic_uint *opened = mmap(NULL, sizeof(*opened), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *path = getenv("COWPOOL_KO");
	unsigned int unloaded = 0;
	pid_t child;
	int image, status;

	if (!path)
		SKIP(return, "COWPOOL_KO does not name the module's file");
	ASSERT_NE(MAP_FAILED, (void *)opened);
	image = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, image);
	close(self->race.fd);
	child = child_fork(_metadata);
	if (!child)
		open_again_and_again(opened);
	/* With few repetitions, or a slow machine, it may take some more to meet. */
	for (unsigned int n = how_often(30); unloaded < n || !*opened;) {
		if (syscall(SYS_delete_module, "cowpool", O_NONBLOCK)) {
			EXPECT_EQ(EWOULDBLOCK, errno);
			usleep(rand() % 1000);
			continue;
		}
		unloaded++;
		ASSERT_EQ(0, syscall(SYS_finit_module, image, "", 0));
	}
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	close(image);
	self->race.fd = device_open(_metadata);
}

TEST_HARNESS_MAIN
