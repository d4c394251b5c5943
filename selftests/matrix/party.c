// SPDX-License-Identifier: GPL-2.0
/*
 * The parties of the matrix, the processes that some of them are in, and the
 * ways to share.
 */
#include "matrix.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/prctl.h>

void die(const char *what)
{
	ksft_exit_fail_msg("%s: %s\n", what, strerror(errno));
}

void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	struct timespec timeout = { .tv_sec = 5 };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &timeout, NULL, 0);
}

void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Tells why a touch cannot be done here. */
int reason(int result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(shared->reason, sizeof(shared->reason), format, args);
	va_end(args);
	return result;
}

/* Pages */

void head_set(void *page, uint64_t tag)
{
	volatile uint64_t *word = page;

	for (size_t i = 0; i < HEAD_WORDS; i++)
		word[i] = tag + i;
}

char *view_page(char *view, int page)
{
	return page_at(view, page_index[page]);
}

static uint64_t part_tag(const volatile uint64_t *word, size_t first, size_t end)
{
	uint64_t tag = word[first] - first;

	for (size_t i = first; i < end; i++)
		if (word[i] != tag + i)
			return TAG_TORN;
	return tag;
}

struct seen page_seen(const void *page)
{
	return (struct seen){
		.head = part_tag(page, 0, HEAD_WORDS),
		.tail = part_tag(page, HEAD_WORDS, PAGE / sizeof(uint64_t)),
	};
}

/* Processes */

static void agent_look(struct agent *agent)
{
	for (int page = 0; page < PAGES; page++)
		agent->seen[page] = page_seen(view_page(agent->view, page));
}

void agent_touch(struct agent *agent)
{
	agent->result = agent->touch->touch(agent->view, agent->tag);
}

void agent_store(struct agent *agent)
{
	head_set(view_page(agent->view, CLEAN), agent->tag);
	head_set(view_page(agent->view, OWNED), agent->tag);
}

void agent_exit(struct agent *agent)
{
	(void)agent;
	_exit(0);
}

static void agent_serve(struct agent *agent)
{
	uint32_t done = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		while (agent->asked == done)
			futex_wait(&agent->asked, done);
		agent->fn(agent);
		agent->answered = ++done;
		futex_wake(&agent->answered);
	}
}

void agent_call(struct agent *agent, void (*fn)(struct agent *agent))
{
	uint32_t asked = agent->asked + 1, answered;
	int patience = 12;

	agent->fn = fn;
	agent->asked = asked;
	futex_wake(&agent->asked);
	if (fn == agent_exit)
		return;
	while ((answered = agent->answered) != asked) {
		if (!patience--)
			ksft_exit_fail_msg("an agent does not answer\n");
		futex_wait(&agent->answered, answered);
	}
}

/* fork(): the child serves. */
static struct agent *agent_fork(char *view)
{
	struct agent *agent = &shared->agents[shared->nr_agents++];
	pid_t pid;

	memset(agent, 0, sizeof(*agent));
	agent->view = view;
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		agent_serve(agent);
	agent->pid = pid;
	return agent;
}

static void agent_fork_again(struct agent *agent)
{
	agent_fork(agent->view);
}

/* Has a party's process do something. */
int party_do(struct party *party, void (*fn)(struct agent *agent),
	     const struct touch *touch, uint64_t tag)
{
	struct agent self = { .view = party->view }, *agent = party->agent ?: &self;

	agent->touch = touch;
	agent->tag = tag;
	if (party->agent)
		agent_call(agent, fn);
	else
		fn(agent);
	return agent->result;
}

bool party_looks(struct party *party, const char *when)
{
	struct agent self = { .view = party->view }, *agent = party->agent ?: &self;
	uint64_t buffer[PAGE / sizeof(uint64_t)];
	struct iovec to = { buffer, PAGE };

	if (party->gone)
		return true;
	if (party->agent) {
		agent_call(agent, agent_look);
		/* From here it looks the same. */
		for (int page = 0; page < PAGES; page++) {
			struct iovec from = { view_page(party->view, page), PAGE };
			struct seen seen;

			if (process_vm_readv(agent->pid, &to, 1, &from, 1, 0) !=
			    (ssize_t)PAGE)
				die("process_vm_readv");
			seen = page_seen(buffer);
			if (memcmp(&seen, &agent->seen[page], sizeof(seen))) {
				agent->seen[page].tail = TAG_TORN;
				agent->seen[page].head = TAG_TORN;
			}
		}
	} else if (party->view) {
		agent_look(agent);
	} else {
		for (int page = 0; page < PAGES; page++) {
			if (pread(party->fd, buffer, PAGE, page_index[page] * PAGE) !=
			    (ssize_t)PAGE)
				die("pread");
			self.seen[page] = page_seen(buffer);
		}
	}
	for (int page = 0; page < PAGES; page++) {
		const struct seen *seen = &agent->seen[page];
		const struct seen *expected = &party->expected[page];

		if (seen->head == expected->head && seen->tail == expected->tail)
			continue;
		snprintf(shared->trouble, sizeof(shared->trouble),
			 "%s, page %d: %s sees %" PRIx64 ", %" PRIx64 ", not %" PRIx64 ", %" PRIx64,
			 when, page, party->name, seen->head, seen->tail,
			 expected->head, expected->tail);
		return false;
	}
	return true;
}

/* Ways to share. The first party is the view that owns a page. */

struct party *scene_add(struct scene *scene, const char *name, char *view, int fd,
			struct agent *agent, const struct seen *expected)
{
	struct party *party = &scene->party[scene->nr++];

	*party = (struct party){
		.name = name,
		.view = view,
		.fd = fd,
		.agent = agent,
	};
	memcpy(party->expected, expected, sizeof(party->expected));
	return party;
}

char *scene_map(struct scene *scene, int fd, int flags)
{
	char *view = mmap(NULL, pool_pages[scene->pool] * PAGE, PROT_READ | PROT_WRITE,
			  flags, fd, 0);

	if (view == MAP_FAILED)
		die("mmap");
	return view;
}

static int scene_snapshot(struct scene *scene, char *view)
{
	struct cowpool_snapshot arg = { .addr = (uintptr_t)view };
	int fd = ioctl(pools[scene->pool], COWPOOL_IOC_SNAPSHOT, &arg);

	if (fd < 0)
		die("SNAPSHOT");
	return fd;
}

static void share_fork(struct scene *scene)
{
	struct party *first = &scene->party[0];

	scene_add(scene, "child", first->view, -1, agent_fork(first->view),
		  first->expected);
}

static void share_fork_of_fork(struct scene *scene)
{
	struct party *first = &scene->party[0];

	share_fork(scene);
	agent_call(scene->party[1].agent, agent_fork_again);
	scene_add(scene, "grandchild", first->view, -1, &shared->agents[1],
		  first->expected);
}

static void share_snapshot(struct scene *scene)
{
	struct party *first = &scene->party[0];
	int fd = scene_snapshot(scene, first->view);

	scene_add(scene, "snapshot", NULL, fd, NULL, first->expected);
	scene_add(scene, "view of snapshot", scene_map(scene, fd, MAP_SHARED), -1,
		  NULL, first->expected);
}

static void share_snapshot_of_snapshot(struct scene *scene)
{
	struct party *first = &scene->party[0];
	int fd;

	share_snapshot(scene);
	fd = scene_snapshot(scene, scene->party[2].view);
	scene_add(scene, "second snapshot", NULL, fd, NULL, first->expected);
	scene_add(scene, "view of second snapshot", scene_map(scene, fd, MAP_SHARED),
		  -1, NULL, first->expected);
}

/* What a library makes of it: a second block of memory. */
static void share_dup(struct scene *scene)
{
	struct party *first = &scene->party[0];
	int fd = scene_snapshot(scene, first->view);

	scene_add(scene, "duplicate", scene_map(scene, fd, MAP_SHARED), -1, NULL,
		  first->expected);
	close(fd);
}

static void share_second_view(struct scene *scene)
{
	scene_add(scene, "second view", scene_map(scene, pools[scene->pool], MAP_SHARED),
		  -1, NULL, pool_content);
}

static void share_private(struct scene *scene)
{
	scene_add(scene, "private mapping",
		  scene_map(scene, pools[scene->pool], MAP_PRIVATE), -1, NULL,
		  pool_content)->private = true;
}

const struct share shares[SHARES] = {
	{ "fork", share_fork, true },
	{ "fork of fork", share_fork_of_fork, true },
	{ "snapshot", share_snapshot, true },
	{ "snapshot of snapshot", share_snapshot_of_snapshot, true },
	{ "dup", share_dup, true },
	{ "second view", share_second_view, false },
	{ "MAP_PRIVATE", share_private, false },
};
