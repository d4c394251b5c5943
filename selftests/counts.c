// SPDX-License-Identifier: GPL-2.0
/*
 * The counters are exact. Each row is a short story of reads, writes and
 * forks, with what it must have counted on the view; the pool's counters, the
 * totals and debugfs's table must agree.
 *
 * A script is a list of steps, one letter and a page number each:
 *	r read, w write, d MADV_DONTNEED of the page
 *	f fork; the child waits, and exits at the matching x
 *	R, W as r and w, but done by the youngest child
 *
 * Expected are the parent's counters. The pools consist of 4 KiB pages only
 * unless said: a write to a page in a 2 MiB entry counts as a first touch.
 */
#include "snapshot.h"

#include <sys/utsname.h>

#define PAGES		256
#define MAX_CHILDREN	4

struct row {
	const char *script;
	uint64_t first_touch, after_read, reuses, forks, private_pages;
	/* and the children's, in sum */
	uint64_t child_first_touch, child_after_read, child_reuses;
};

/* Apart, where one is read first: it may be mapped along with its neighbours. */
static const struct row rows[] = {
	/* alone */
	{ "",				0, 0, 0, 0, 0,	0, 0, 0 },
	{ "r1 r2 r1",			0, 0, 0, 0, 0,	0, 0, 0 },
	{ "w1",				1, 0, 0, 0, 1,	0, 0, 0 },
	{ "w1 w1 r1 w1",		1, 0, 0, 0, 1,	0, 0, 0 },
	{ "r1 w1",			0, 1, 0, 0, 1,	0, 0, 0 },
	{ "r1 w1 w1",			0, 1, 0, 0, 1,	0, 0, 0 },
	{ "r1 w20",			1, 0, 0, 0, 1,	0, 0, 0 },
	{ "w0 w1 w63 w64 w65 w255",	6, 0, 0, 0, 6,	0, 0, 0 },
	{ "r0 w0 w199 r64 w64 w255",	2, 2, 0, 0, 4,	0, 0, 0 },
	/* MADV_DONTNEED takes the entries, not the copies */
	{ "r1 d1 w1",			1, 0, 0, 0, 1,	0, 0, 0 },
	{ "w1 d1 r1 w1",		1, 0, 0, 0, 1,	0, 0, 0 },
	{ "w1 d1 w1",			1, 0, 0, 0, 1,	0, 0, 0 },
	/* a fork makes everything shared; whoever writes first copies */
	{ "f x",			0, 0, 0, 1, 0,	0, 0, 0 },
	{ "w1 f x",			1, 0, 0, 1, 1,	0, 0, 0 },
	{ "w1 f w1 x",			2, 0, 0, 1, 1,	0, 0, 0 },
	{ "w1 f r1 w1 x",		1, 1, 0, 1, 1,	0, 0, 0 },
	{ "w1 f W1 x",			1, 0, 0, 1, 1,	1, 0, 0 },
	{ "w1 f R1 W1 x",		1, 0, 0, 1, 1,	0, 1, 0 },
	{ "w1 f w2 x",			2, 0, 0, 1, 2,	0, 0, 0 },
	{ "w1 f W2 x",			1, 0, 0, 1, 1,	1, 0, 0 },
	/* the other has let go of it: given back without a copy */
	{ "w1 f x w1",			1, 0, 1, 1, 1,	0, 0, 0 },
	{ "w1 f x r1 w1",		1, 0, 1, 1, 1,	0, 0, 0 },
	{ "w1 f x w1 w1 d1 w1",		1, 0, 1, 1, 1,	0, 0, 0 },
	{ "w1 f R1 r1 W1 w1 x",		1, 0, 1, 1, 1,	0, 1, 0 },
	{ "w1 f W1 w1 x",		1, 0, 1, 1, 1,	1, 0, 0 },
	{ "w1 f w1 W1 x",		2, 0, 0, 1, 1,	0, 0, 1 },
	{ "w1 f w1 x w1",		2, 0, 0, 1, 1,	0, 0, 0 },
	{ "w1 w2 f x w1 f x w1 w2",	2, 0, 3, 2, 2,	0, 0, 0 },
	/* of several owners, all but the last copy */
	{ "w1 f f W1 w1 x x",		2, 0, 0, 2, 1,	1, 0, 0 },
	{ "w1 f f x w1 x",		2, 0, 0, 2, 1,	0, 0, 0 },
	{ "w1 f f x x w1",		1, 0, 1, 2, 1,	0, 0, 0 },
	/* pages that nobody has written belong to the pool: always copied */
	{ "f x w1",			1, 0, 0, 1, 1,	0, 0, 0 },
	{ "r1 f x w1",			0, 1, 0, 1, 1,	0, 0, 0 },
};

FIXTURE(counts) {
	int fd;
};

FIXTURE_SETUP(counts)
{
	/* Backwards, page by page: so each page is a folio of its own. */
	self->fd = pool_create(_metadata, PAGES, NULL, 0);
	for (size_t page = PAGES; page-- > 0;)
		pool_fill(_metadata, self->fd, page, 1);
}

FIXTURE_TEARDOWN(counts)
{
	close(self->fd);
}

/* A child does as it is told, a step at a time. */
struct child {
	pid_t pid;
	int to[2], from[2];
};

static void step(char kind, char *addr)
{
	switch (kind) {
	case 'r':
	case 'R':
		*(volatile char *)addr;
		break;
	case 'w':
	case 'W':
		*(volatile char *)addr = kind;
		break;
	case 'd':
		madvise(addr, PAGE, MADV_DONTNEED);
		break;
	}
}

struct order {
	char kind;
	size_t page;
};

static void child_start(struct __test_metadata *_metadata, struct child *child,
			int fd, char *view)
{
	struct cowpool_counters counters;
	struct order order;

	ASSERT_EQ(0, pipe(child->to));
	ASSERT_EQ(0, pipe(child->from));
	child->pid = child_fork(_metadata);
	if (child->pid)
		return;
	while (read(child->to[0], &order, sizeof(order)) == sizeof(order)) {
		if (order.kind == 'x')
			break;
		step(order.kind, page_at(view, order.page));
		counters = view_info(_metadata, fd, view).counters;
		if (write(child->from[1], &counters, sizeof(counters)) < 0)
			break;
	}
	counters = view_info(_metadata, fd, view).counters;
	if (write(child->from[1], &counters, sizeof(counters)) < 0)
		_exit(1);
	_exit(0);
}

static struct cowpool_counters child_tell(struct __test_metadata *_metadata,
					  struct child *child, struct order order)
{
	struct cowpool_counters counters;

	ASSERT_EQ((ssize_t)sizeof(order), write(child->to[1], &order, sizeof(order)));
	ASSERT_EQ((ssize_t)sizeof(counters), read(child->from[0], &counters, sizeof(counters)));
	return counters;
}

static void counters_add(struct cowpool_counters *sum, struct cowpool_counters c)
{
	sum->read_faults += c.read_faults;
	sum->copies_first_touch += c.copies_first_touch;
	sum->copies_after_read += c.copies_after_read;
	sum->reuses += c.reuses;
	sum->forks += c.forks;
}

/* Plays a script; returns the children's final counters in sum. */
static struct cowpool_counters play(struct __test_metadata *_metadata, int fd,
				    char *view, const char *script)
{
	struct child children[MAX_CHILDREN];
	struct cowpool_counters sum = {};
	size_t live = 0;

	while (*script) {
		struct order order = { .kind = *script++ };
		struct child *youngest = &children[live ? live - 1 : 0];

		order.page = strtoul(script, (char **)&script, 10);
		switch (order.kind) {
		case ' ':
			break;
		case 'f':
			ASSERT_LT(live, MAX_CHILDREN);
			child_start(_metadata, &children[live++], fd, view);
			break;
		case 'R':
		case 'W':
			child_tell(_metadata, youngest, order);
			break;
		case 'x':
			counters_add(&sum, child_tell(_metadata, youngest, order));
			child_join(_metadata, youngest->pid);
			for (size_t end = 0; end < 2; end++) {
				close(youngest->to[end]);
				close(youngest->from[end]);
			}
			live--;
			break;
		default:
			step(order.kind, page_at(view, order.page));
		}
	}
	return sum;
}

TEST_F(counts, scripts)
{
	struct cowpool_counters pool = pool_info(_metadata, self->fd).counters;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		char *view = view_map(_metadata, self->fd, PAGES);
		struct cowpool_counters child, own, now;

		child = play(_metadata, self->fd, view, row->script);
		own = view_info(_metadata, self->fd, view).counters;
		EXPECT_EQ(row->first_touch, own.copies_first_touch) TH_LOG("%s", row->script);
		EXPECT_EQ(row->after_read, own.copies_after_read) TH_LOG("%s", row->script);
		EXPECT_EQ(row->reuses, own.reuses) TH_LOG("%s", row->script);
		EXPECT_EQ(row->forks, own.forks) TH_LOG("%s", row->script);
		EXPECT_EQ(row->private_pages, own.private_pages) TH_LOG("%s", row->script);
		EXPECT_EQ(0, own.snapshots);
		EXPECT_EQ(0, own.resets);
		EXPECT_EQ(row->child_first_touch, child.copies_first_touch)
			TH_LOG("%s", row->script);
		EXPECT_EQ(row->child_after_read, child.copies_after_read) TH_LOG("%s", row->script);
		EXPECT_EQ(row->child_reuses, child.reuses) TH_LOG("%s", row->script);
		EXPECT_EQ(0, child.forks);

		/* The pool's are those of all its views, living and gone. */
		counters_add(&pool, child);
		counters_add(&pool, own);
		pool.private_pages = own.private_pages;
		now = pool_info(_metadata, self->fd).counters;
		EXPECT_EQ(0, memcmp(&pool, &now, sizeof(pool))) TH_LOG("%s", row->script);
		munmap(view, PAGES * PAGE);
		pool.private_pages = 0;
		now = pool_info(_metadata, self->fd).counters;
		EXPECT_EQ(0, memcmp(&pool, &now, sizeof(pool))) TH_LOG("%s", row->script);
	}
}

/* Totals are of everything, what is gone included. */
TEST_F(counts, totals)
{
	const struct {
		const char *name;
		uint64_t alive, gone;	/* while the views live, and after */
	} totals[] = {
		{ "copies_first_touch", 2, 2 },
		{ "copies_after_read", 1, 1 },
		{ "reuses", 0, 1 },
		{ "forks", 1, 1 },
		{ "snapshots", 0, 1 },
		{ "resets", 0, 2 },
		{ "copies_reset", 0, 6 },
		{ "copies_pinned", 0, 0 },
		{ "private_pages", 6, 0 },	/* of two views each, */
		{ "private_frames", 3, 0 },	/* which exist once */
		{ "views", 2, 0 },
	};
	uint64_t before[ARRAY_SIZE(totals)];
	struct child child;
	char *view;

	for (size_t i = 0; i < ARRAY_SIZE(totals); i++)
		before[i] = stat_value(_metadata, totals[i].name);
	view = view_map(_metadata, self->fd, PAGES);
	play(_metadata, self->fd, view, "w1 r20 w20 w99");
	child_start(_metadata, &child, self->fd, view);
	for (size_t i = 0; i < ARRAY_SIZE(totals); i++) {
		EXPECT_EQ(before[i] + totals[i].alive, stat_value(_metadata, totals[i].name))
			TH_LOG("%s", totals[i].name);
	}
	child_tell(_metadata, &child, (struct order){ 'x', 0 });
	child_join(_metadata, child.pid);
	step('w', page_at(view, 20));
	close(snapshot_take(_metadata, self->fd, view));
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(3, reset_try(self->fd, view, PAGES, COWPOOL_RESET_KEEP));
	munmap(view, PAGES * PAGE);
	for (size_t i = 0; i < ARRAY_SIZE(totals); i++) {
		EXPECT_EQ(before[i] + totals[i].gone, stat_value(_metadata, totals[i].name))
			TH_LOG("%s", totals[i].name);
	}
}

/*
 * Read faults, in places so far apart that none can serve another. Half of
 * them are holes of the pool.
 */
TEST_F(counts, read_faults)
{
	enum { PLACES = 8 };
	const size_t apart = 2 * PMD_PAGES;
	int fd = pool_create(_metadata, PLACES * apart, NULL, 0);
	uint64_t total = stat_value(_metadata, "read_faults");
	char *view;

	for (size_t i = 0; i < PLACES; i += 2)
		pool_fill(_metadata, fd, i * apart, 1);
	view = view_map(_metadata, fd, PLACES * apart);
	for (int round = 1; round <= 2; round++) {
		for (size_t i = 0; i < PLACES; i++) {
			char *addr = page_at(view, i * apart);

			EXPECT_EQ(i % 2 ? 0 : TAG(0, i * apart), page_tag(addr));
			EXPECT_EQ(i % 2 ? 0 : TAG(0, i * apart), page_tag(addr));
		}
		EXPECT_EQ(round * PLACES,
			  view_info(_metadata, fd, view).counters.read_faults);
		ASSERT_EQ(0, madvise(view, PLACES * apart * PAGE, MADV_DONTNEED));
	}
	/* A write fault is none, nor is a look at what is there. */
	page_set(view, TAG(1, 0));
	EXPECT_EQ(TAG(1, 0), page_tag(view));
	EXPECT_EQ(2 * PLACES, view_info(_metadata, fd, view).counters.read_faults);
	EXPECT_EQ(2 * PLACES, pool_info(_metadata, fd).counters.read_faults);
	EXPECT_EQ(total + 2 * PLACES, stat_value(_metadata, "read_faults"));
	munmap(view, PLACES * apart * PAGE);
	close(fd);
}

/*
 * Page faults of a write: one for what is not mapped. For what is mapped read-only one
 * copies, and maps the copy if the kernel lets a module do that.
 */
TEST_F(counts, faults_of_a_write)
{
	char *view = view_map(_metadata, self->fd, PAGES);
	unsigned int major, minor;
	struct utsname name;
	long before;

	ASSERT_EQ(0, uname(&name));
	ASSERT_EQ(2, sscanf(name.release, "%u.%u", &major, &minor));
	numa_balancing_avoid(_metadata);
	page_tag(view);
	before = faults_now();
	page_set(view, TAG(1, 0));
	EXPECT_EQ(major > 6 || (major == 6 && minor >= 15) ? 1 : 2, faults_now() - before);
	before = faults_now();
	page_set(page_at(view, PAGES / 2), TAG(1, 0));
	EXPECT_EQ(1, faults_now() - before);
	EXPECT_EQ(1, view_info(_metadata, self->fd, view).counters.copies_after_read);
	EXPECT_EQ(1, view_info(_metadata, self->fd, view).counters.copies_first_touch);
	munmap(view, PAGES * PAGE);
}

/*
 * One read fault maps 2 MiB, also with frames that were in another file's page
 * cache before: the kernel looks at what it left there. From 6.15 on it does so
 * only where the system or madvise() wants huge pages.
 */
TEST_F(counts, large_entries)
{
	enum { RANGES = 8 };
	const size_t pages = RANGES * PMD_PAGES;
	int file = memfd_create("before", 0), fd;
	char *view;

	ASSERT_EQ(0, ftruncate(file, 2L << 40));
	ASSERT_EQ(0, fallocate(file, 0, 1L << 40, 4 * pages * PAGE));
	close(file);
	fd = pool_filled(_metadata, pages);
	view = view_map(_metadata, fd, pages);
	ASSERT_EQ(0, madvise(view, pages * PAGE, MADV_HUGEPAGE));
	for (size_t page = 0; page < pages; page++)
		EXPECT_EQ(TAG(0, page), *(uint64_t *)page_at(view, page));
	EXPECT_EQ(RANGES, view_info(_metadata, fd, view).counters.read_faults);
	munmap(view, pages * PAGE);
	close(fd);
}

/* However many threads fault on a page at once, it is copied once. */
enum { THREADS = 4 };

struct racer {
	pthread_barrier_t *start;
	char *view;
	size_t number;
	pthread_t thread;
};

static void *racer_run(void *arg)
{
	struct racer *racer = arg;

	pthread_barrier_wait(racer->start);
	for (size_t page = 0; page < PAGES; page++)
		((volatile char *)page_at(racer->view, page))[racer->number] = 'x';
	return NULL;
}

TEST_F(counts, racing_threads)
{
	for (int round = 0; round < 20; round++) {
		char *view = view_map(_metadata, self->fd, PAGES);
		struct cowpool_counters counters;
		struct racer racers[THREADS];
		pthread_barrier_t start;

		pthread_barrier_init(&start, NULL, THREADS);
		for (size_t i = 0; i < THREADS; i++) {
			racers[i] = (struct racer){ &start, view, i, 0 };
			ASSERT_EQ(0, pthread_create(&racers[i].thread, NULL,
						    racer_run, &racers[i]));
		}
		for (size_t i = 0; i < THREADS; i++)
			pthread_join(racers[i].thread, NULL);
		counters = view_info(_metadata, self->fd, view).counters;
		EXPECT_EQ(PAGES, counters.copies_first_touch + counters.copies_after_read);
		EXPECT_EQ(0, counters.reuses);
		EXPECT_EQ(PAGES, counters.private_pages);
		for (size_t page = 0; page < PAGES; page++)
			EXPECT_EQ(0, memcmp(page_at(view, page), "xxxx", THREADS));
		munmap(view, PAGES * PAGE);
	}
}

static void *idle_run(void *arg)
{
	pthread_barrier_wait(arg);
	return NULL;
}

/*
 * With threads a copy is made ahead, of the pool's page, where the last write had need
 * of that. A page of the view's own whose entry is gone is no less found.
 */
TEST_F(counts, copies_ahead)
{
	enum { OWN = 3, BEGUN = 100 };
	const size_t pages = 2 * BEGUN;
	int fd = pool_filled(_metadata, pages);
	char *view = view_map(_metadata, fd, pages);
	uint64_t frames, copies, spares, in_vain = 0;
	pthread_barrier_t end;
	pthread_t idle;

	pthread_barrier_init(&end, NULL, 2);
	ASSERT_EQ(0, pthread_create(&idle, NULL, idle_run, &end));
	for (size_t page = 0; page < BEGUN; page++)
		page_set(page_at(view, page), TAG(1, page));
	copies = view_copies(_metadata, fd, view);
	frames = stat_value(_metadata, "private_frames");
	EXPECT_EQ(BEGUN, copies);
	EXPECT_EQ(BEGUN, frames);
	for (size_t page = BEGUN; page < pages; page++) {
		ASSERT_EQ(0, madvise(page_at(view, OWN), PAGE, MADV_DONTNEED));
		spares = stat_value(_metadata, "spare_frames");
		((volatile char *)page_at(view, OWN))[8] = 'x';
		in_vain += spares - stat_value(_metadata, "spare_frames");
		EXPECT_EQ(TAG(1, OWN), *(uint64_t *)page_at(view, OWN));
		EXPECT_EQ(copies, view_copies(_metadata, fd, view));
		EXPECT_EQ(frames, stat_value(_metadata, "private_frames"));
		page_set(page_at(view, page), TAG(1, page));
		EXPECT_EQ(++copies, view_copies(_metadata, fd, view));
		EXPECT_EQ(++frames, stat_value(_metadata, "private_frames"));
	}
	EXPECT_LT(0, in_vain);
	pthread_barrier_wait(&end);
	pthread_join(idle, NULL);
	for (size_t page = 0; page < pages; page++)
		EXPECT_EQ(TAG(1, page), *(uint64_t *)page_at(view, page));
	munmap(view, pages * PAGE);
	close(fd);
	EXPECT_EQ(0, stat_value(_metadata, "private_frames"));
	EXPECT_EQ(0, stat_value(_metadata, "spare_frames"));
}

/* What debugfs prints after the columns of an object's own, from @row on. */
static void counters_row(struct __test_metadata *_metadata, char *row,
			 const struct cowpool_counters *counters)
{
	const uint64_t *expected = (const uint64_t *)counters;

	for (size_t i = 0; i < sizeof(*counters) / sizeof(*expected); i++) {
		EXPECT_EQ(expected[i], strtoull(row, &row, 10))
			TH_LOG("counter %zu", i);
	}
}

static void expect_header(struct __test_metadata *_metadata, char *line)
{
	/* In the order of struct cowpool_counters */
	const char *const names[] = {
		"read_faults", "copies_first_touch", "copies_after_read", "copies_pinned",
		"reuses", "forks", "snapshots", "resets", "private_pages", "copies_reset",
	};
	const char *name = strtok(line, "\n ");

	while (name && strcmp(name, names[0]))
		name = strtok(NULL, "\n ");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		EXPECT_STREQ(names[i], name ?: "nothing");
		name = strtok(NULL, "\n ");
	}
}

/* Finds the line of @id in a table; columns are separated by one blank or more. */
static void debugfs_find(struct __test_metadata *_metadata, const char *path,
			 uint64_t id, char *line, size_t size)
{
	FILE *file = fopen(path, "r");
	bool found = false;

	ASSERT_NE(NULL, file);
	ASSERT_NE(NULL, fgets(line, size, file));
	expect_header(_metadata, line);
	while (!found && fgets(line, size, file))
		found = strtoull(line, NULL, 10) == id;
	fclose(file);
	ASSERT_TRUE(found) TH_LOG("no %" PRIu64 " in %s", id, path);
}

TEST_F(counts, debugfs_tables)
{
	char *view = view_map(_metadata, self->fd, PAGES), line[512], comm[32] = "";
	struct cowpool_info info;
	uint64_t id, pool, size;
	int pid, at = 0;

	play(_metadata, self->fd, view, "w1 r2 w2 r3 f W1 x w1 w4");
	info = view_info(_metadata, self->fd, view);
	debugfs_find(_metadata, DEBUGFS "views", info.view_id, line, sizeof(line));
	ASSERT_EQ(4, sscanf(line, "%" SCNu64 " %" SCNu64 " %d %" SCNu64 "%n",
			    &id, &pool, &pid, &size, &at));
	EXPECT_EQ(info.pool_id, pool);
	EXPECT_EQ(getpid(), pid);
	EXPECT_EQ(PAGES, size);
	counters_row(_metadata, line + at, &info.counters);
	ASSERT_NE(NULL, strrchr(line, ' '));
	ASSERT_EQ(1, sscanf(strrchr(line, ' '), "%31s", comm));
	EXPECT_STREQ("counts", comm);

	info = pool_info(_metadata, self->fd);
	debugfs_find(_metadata, DEBUGFS "pools", info.pool_id, line, sizeof(line));
	at = 0;
	sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %*s %*s%n", &at);
	ASSERT_NE(0, at);
	counters_row(_metadata, line + at, &info.counters);
	munmap(view, PAGES * PAGE);
}

TEST_HARNESS_MAIN
