// SPDX-License-Identifier: GPL-2.0
/*
 * A matrix: every way to share a view's content, by every way to touch it.
 *
 * In each cell some *parties* share two pages, one that nobody has written yet
 * and one that the first party owns. Parties are views, in this process or in
 * another, and descriptors of pools. One of those that can write touches the
 * pages, and everybody looks: it sees what it wrote, and nobody else does.
 * Then the others write, one after the other, and all look again. This is done
 * for every party as the one that touches, and for small pages and huge ones (with
 * fewer rounds, for one of both in each cell).
 *
 * With --table it prints a table rather than KTAP. What the kernel does not
 * let anybody do is an XFAIL, what this machine lacks a SKIP.
 */
#include "matrix.h"
#include "../rounds.h"

#include <sys/prctl.h>

const size_t page_index[PAGES] = { 3, 5, 6 };
const struct seen pool_content[PAGES] = {
	{ TAG(0, 3), TAG(0, 3) }, { TAG(0, 5), TAG(0, 5) }, { TAG(0, 6), TAG(0, 6) },
};

struct shared *shared;
int pools[2];
const size_t pool_pages[2] = { SMALL_POOL, LARGE_POOL };
int source_fd;
int pipe_fds[2];

static void scene_begin(struct scene *scene, int pool)
{
	struct seen expected[PAGES];
	char *view;

	memset(scene, 0, sizeof(*scene));
	scene->pool = pool;
	shared->nr_agents = 0;
	shared->trouble[0] = '\0';
	if (pipe2(pipe_fds, O_CLOEXEC))
		die("pipe");
	view = scene_map(scene, pools[pool], MAP_SHARED);
	/* Has a huge page mapped, if there is one. */
	page_seen(view_page(view, OTHER));
	page_set(view_page(view, OWNED), TAG(1, page_index[OWNED]));
	memcpy(expected, pool_content, sizeof(expected));
	expected[OWNED].tail = TAG(1, page_index[OWNED]);
	expected[OWNED].head = TAG(1, page_index[OWNED]);
	scene_add(scene, "first view", view, -1, NULL, expected);
}

static void scene_end(struct scene *scene)
{
	for (int i = scene->nr - 1; i >= 0; i--) {
		struct party *party = &scene->party[i];

		if (party->agent)
			agent_call(party->agent, agent_exit);
		else if (party->view)
			munmap(party->view, pool_pages[scene->pool] * PAGE);
		else if (party->fd != pools[scene->pool])
			close(party->fd);
	}
	/* Orphans come to this process, which is a subreaper. */
	for (uint32_t i = 0; i < shared->nr_agents; i++)
		waitpid(shared->agents[i].pid, NULL, 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static bool all_look(struct scene *scene, const char *when)
{
	for (int i = 0; i < scene->nr; i++)
		if (!party_looks(&scene->party[i], when))
			return false;
	return true;
}

/* What the pipe holds: pages that @holder had, when they were as @old says. */
static bool pipe_looks(const struct touch *touch, const struct seen *old, uint64_t tag,
		       bool exclusive)
{
	uint64_t buffer[PAGE / sizeof(uint64_t)];

	for (int page = CLEAN; page <= OWNED; page++) {
		struct seen seen;

		if (read(pipe_fds[0], buffer, PAGE) != (ssize_t)PAGE)
			die("read from the pipe");
		seen = page_seen(buffer);
		if (touch->held(page, &seen, &old[page], tag, exclusive))
			continue;
		snprintf(shared->trouble, sizeof(shared->trouble),
			 "the pipe, page %d: %" PRIx64 ", %" PRIx64, page, seen.head,
			 seen.tail);
		return false;
	}
	return true;
}

static void expect_head(struct party *party, uint64_t tag)
{
	party->expected[CLEAN].head = tag;
	party->expected[OWNED].head = tag;
}

/* All but the toucher write too, one after the other. */
static bool others_store(struct scene *scene, int toucher)
{
	for (int i = 0; i < scene->nr; i++) {
		struct party *party = &scene->party[i];

		if (i == toucher || !party->view)
			continue;
		party_do(party, agent_store, NULL, TAG(20 + i, 0));
		expect_head(party, TAG(20 + i, 0));
		if (!all_look(scene, party->name))
			return false;
	}
	return true;
}

static int scene_play(struct scene *scene, const struct share *share,
		      const struct touch *touch, int toucher)
{
	struct party *party = &scene->party[toucher];
	const int holder = touch->before ? 0 : toucher;
	const uint64_t tag = TAG(10 + toucher, 0);
	bool exclusive = toucher == 0 && (touch->before || !share->revokes);
	struct seen old[PAGES];
	int result;

	memcpy(old, scene->party[holder].expected, sizeof(old));
	if (!all_look(scene, "at first"))
		return TOUCH_FAILED;
	result = party_do(party, agent_touch, touch, tag);
	if (result) {
		if (result == TOUCH_FAILED)
			snprintf(shared->trouble, sizeof(shared->trouble),
				 "the touch itself fails");
		return result;
	}
	party->gone = touch->leaves;
	if (!(touch->discards && party->private))
		expect_head(party, tag);
	if (!all_look(scene, "after the touch"))
		return TOUCH_FAILED;
	if (touch->held && !touch->leaves && !pipe_looks(touch, old, tag, exclusive))
		return TOUCH_FAILED;
	if (!others_store(scene, toucher))
		return TOUCH_FAILED;
	if (touch->leaves && !pipe_looks(touch, old, tag, exclusive))
		return TOUCH_FAILED;
	return 0;
}

/* One party touches. Returns false if there is no such party to do so. */
static bool cell_part(const struct share *share, const struct touch *touch,
		      int toucher, int pool, int *result)
{
	struct scene scene;
	bool possible = true;

	scene_begin(&scene, pool);
	*result = touch->before ? touch->before(scene.party[0].view, TAG(10, 0)) : 0;
	if (!*result) {
		share->share(&scene);
		scene_add(&scene, "pool", NULL, pools[pool], NULL, pool_content);
		possible = toucher < scene.nr && scene.party[toucher].view;
		if (possible)
			*result = scene_play(&scene, share, touch, toucher);
		/* It failed before its time. */
		if (shared->server.hold)
			touch_direct_end(NULL, 0);
	} else if (*result == TOUCH_FAILED) {
		strcpy(shared->trouble, shared->reason);
	}
	scene_end(&scene);
	return possible;
}

static int cell(const struct share *share, const struct touch *touch)
{
	const int turn = share - shares + (touch - touches);
	/* What was begun before can only be ended by who began it. */
	int touchers = touch->before && !touch->held ? 1 : MAX_PARTIES;
	int result = 0;

	for (int pool = 0; pool < 2; pool++) {
		/* Where some will do, cells have one pool and the other in turns. */
		if (one_in() > 1 && turn % 2 != pool)
			continue;
		for (int toucher = 0; toucher < touchers; toucher++) {
			if (cell_part(share, touch, toucher, pool, &result) && result) {
				size_t len = strlen(shared->trouble);

				snprintf(shared->trouble + len, sizeof(shared->trouble) - len,
					 " (%s pool, touched by party %d)",
					 pool ? "large" : "small", toucher);
				return result;
			}
		}
	}
	return 0;
}

static void report(const struct share *share, const struct touch *touch, int result)
{
	char name[100];

	snprintf(name, sizeof(name), "%s, %s", share->name, touch->name);
	switch (result) {
	case TOUCH_SKIP:
		ksft_test_result_skip("%s: %s\n", name, shared->reason);
		break;
	case TOUCH_XFAIL:
		ksft_test_result_xfail("%s: %s\n", name, shared->reason);
		break;
	default:
		if (result)
			ksft_print_msg("%s\n", shared->trouble);
		ksft_test_result(!result, "%s\n", name);
	}
}

static int column_width(const struct share *share)
{
	int width = strlen(share->name), least = strlen("XFAIL");

	return width > least ? width : least;
}

static void table_head(void)
{
	printf("%-22s", "");
	for (size_t i = 0; i < SHARES; i++)
		printf(" | %-*s", column_width(&shares[i]), shares[i].name);
	putchar('\n');
}

static void table_cell(const struct share *share, int result)
{
	static const char *const words[] = { "ok", "FAIL", "SKIP", "XFAIL" };

	printf(" | %-*s", column_width(share), words[result]);
	fflush(stdout);
}

static bool matrix(bool table)
{
	char reasons[TOUCHES][sizeof(shared->trouble)] = {};
	bool good = true;

	for (size_t t = 0; t < TOUCHES; t++) {
		if (table)
			printf("%-22s", touches[t].name);
		for (size_t s = 0; s < SHARES; s++) {
			int result = cell(&shares[s], &touches[t]);

			if (!table)
				report(&shares[s], &touches[t], result);
			else
				table_cell(&shares[s], result);
			if (result)
				strcpy(reasons[t], result == TOUCH_FAILED ?
					shared->trouble : shared->reason);
			good = good && result != TOUCH_FAILED;
		}
		if (table)
			putchar('\n');
	}
	for (size_t t = 0; table && t < TOUCHES; t++)
		if (reasons[t][0])
			printf("%s: %s\n", touches[t].name, reasons[t]);
	if (table)
		puts("ok: everybody saw what he should; XFAIL: the kernel refuses this");
	return good;
}

/* The one page by page from the end, so that its folios are small. */
static void pool_make(int pool)
{
	struct cowpool_create create = { .size = pool_pages[pool] * PAGE };
	uint64_t buffer[PAGE / sizeof(uint64_t)];

	pools[pool] = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);
	if (pools[pool] < 0 || ioctl(pools[pool], COWPOOL_IOC_CREATE, &create))
		die(COWPOOL_DEVICE);
	for (size_t i = 0; i < pool_pages[pool]; i++) {
		size_t page = pool ? i : pool_pages[pool] - 1 - i;

		page_set(buffer, TAG(0, page));
		if (pwrite(pools[pool], buffer, PAGE, page * PAGE) != (ssize_t)PAGE)
			die("pwrite");
	}
}

int main(int argc, char **argv)
{
	bool table = argc == 2 && !strcmp(argv[1], "--table");

	if (argc > 1 && !table) {
		fputs("usage: matrix [--table]\n", stderr);
		return KSFT_FAIL;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	source_fd = memfd_create("source", MFD_CLOEXEC);
	if (shared == MAP_FAILED || source_fd < 0 || source_set(0))
		die("memory");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* Before there is a view that they would inherit */
	helper_start();
	direct_start();
	pool_make(0);
	pool_make(1);
	if (table) {
		table_head();
		return matrix(true) ? KSFT_PASS : KSFT_FAIL;
	}
	ksft_print_header();
	ksft_set_plan(SHARES * TOUCHES);
	matrix(false);
	ksft_finished();
}
