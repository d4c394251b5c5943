// SPDX-License-Identifier: GPL-2.0
/*
 * The director: runs a script. It is a process of its own with all processes
 * of the script in its process group. So nothing outlives it, and each run
 * begins anew.
 */
#include "process.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define STATS			"/sys/kernel/debug/cowpool/stats"

/* Nothing happens for so long: something hangs. */
#define PATIENCE_SECONDS	60

struct shared *shared;
int device_fd;
bool in_company;

/* What the director knows of a process */
static struct actor {
	bool lives;		/* else it is gone or going */
	uint32_t last_fork;	/* it may be killed when so much is done */
} actors[MAX_PROCESSES];

static const struct script *playing;

void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	struct timespec second = { .tv_sec = 1 };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &second, NULL, 0);
}

void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Notes what went wrong, unless something has before. Returns false. */
bool trouble_set(const struct operation *operation, const char *format, ...)
{
	struct trouble *trouble = &shared->trouble;
	uint32_t unset = 0;
	va_list args;

	if (!atomic_compare_exchange_strong(&trouble->set, &unset, 1))
		return false;
	if (operation) {
		trouble->operation = *operation;
		shared->result[operation->place] = DONE;
	}
	va_start(args, format);
	vsnprintf(trouble->text, sizeof(trouble->text), format, args);
	va_end(args);
	trouble->set = 2;
	return false;
}

/* Whether a process with that number exists. */
static bool exists(pid_t pid)
{
	return pid && (!kill(pid, 0) || errno != ESRCH);
}

/*
 * Waits until a process has done all but @left of what it was asked.
 *
 * Return: false if there is trouble.
 */
static bool wait_done(unsigned int number, uint32_t left)
{
	struct queue *queue = &shared->queue[number];
	uint32_t done = queue->done, before;
	int patience = PATIENCE_SECONDS;
	bool dead;

	while (queue->asked - (done = queue->done) > left) {
		const struct operation *operation =
			&queue->operation[done % QUEUE_LENGTH];

		if (shared->trouble.set)
			return false;
		/* Asked before: one that is dead has done what it has. */
		dead = queue->pid && !exists(queue->pid);
		before = done;
		queue->director_sleeps = 1;
		if (queue->done == done)
			futex_wait(&queue->done, done);
		queue->director_sleeps = 0;
		if (queue->done != before) {
			patience = PATIENCE_SECONDS;
			continue;
		}
		if (dead)
			return trouble_set(operation, "the process is dead");
		if (!--patience)
			return trouble_set(operation, "it comes to no end");
	}
	return true;
}

static bool ask(unsigned int number, const struct operation *operation)
{
	struct queue *queue = &shared->queue[number];

	if (!wait_done(number, QUEUE_LENGTH - 1))
		return false;
	queue->operation[queue->asked % QUEUE_LENGTH] = *operation;
	queue->asked++;
	if (queue->process_sleeps)
		futex_wake(&queue->asked);
	return true;
}

/* Waits until a process exists: some other one may have to fork it first. */
static bool wait_started(unsigned int number)
{
	struct queue *queue = &shared->queue[number];

	for (int tries = 0; !queue->pid; tries++) {
		if (shared->trouble.set)
			return false;
		if (tries == PATIENCE_SECONDS * 10000)
			return trouble_set(NULL, "process %u does not start", number);
		usleep(100);
	}
	return true;
}

/* Waits until a process that was told to end is gone. */
static bool wait_gone(unsigned int number)
{
	struct queue *queue = &shared->queue[number];
	struct pollfd gone = { .events = POLLIN };
	int ended = 1;

	if (!queue->pid)
		return true;
	gone.fd = syscall(SYS_pidfd_open, queue->pid, 0);
	if (gone.fd >= 0) {
		ended = poll(&gone, 1, PATIENCE_SECONDS * 1000);
		close(gone.fd);
	}
	if (ended != 1)
		return trouble_set(NULL, "process %u does not end", number);
	queue->pid = 0;
	return !shared->trouble.set;
}

/* A place for a new process: an old one is gone, and has left nothing. */
static bool place_clear(unsigned int number)
{
	struct queue *queue = &shared->queue[number];

	if (!wait_done(number, 0) || !wait_gone(number))
		return false;
	queue->asked = 0;
	queue->done = 0;
	queue->process_sleeps = 0;
	actors[number] = (struct actor){ .lives = true };
	return true;
}

static bool direct_start(const struct operation *operation)
{
	unsigned int number = operation->process;
	pid_t pid;

	if (actors[number].lives)
		return true;
	if (!place_clear(number))
		return false;
	shared->result[operation->place] = DONE;
	pid = fork();
	if (pid < 0)
		return trouble_set(operation, "fork: %s", strerror(errno));
	if (!pid) {
		if (shared->pool_fd >= 0)
			close(shared->pool_fd);
		process_run(number);
	}
	return true;
}

/* In the middle of whatever it is at, but of no fork(). */
static bool direct_kill(const struct operation *operation)
{
	unsigned int number = operation->process;
	struct queue *queue = &shared->queue[number];

	if (!actors[number].lives)
		return true;
	if (!wait_started(number) ||
	    !wait_done(number, queue->asked - actors[number].last_fork))
		return false;
	kill(queue->pid, SIGKILL);
	shared->result[operation->place] = DONE;
	actors[number].lives = false;
	/* What it has not done it will not do. */
	if (!wait_gone(number))
		return false;
	queue->done = (uint32_t)queue->asked;
	return true;
}

/* From now on the pool lives as long as it is mapped. */
static bool direct_close_pool(const struct operation *operation)
{
	if (shared->pool_fd >= 0) {
		close(shared->pool_fd);
		shared->result[operation->place] = DONE;
	}
	shared->pool_fd = -1;
	return true;
}

static bool direct_fork(const struct operation *operation)
{
	struct actor *actor = &actors[operation->process];

	if (!actor->lives || actors[operation->other].lives)
		return true;
	if (!place_clear(operation->other) || !ask(operation->process, operation))
		return false;
	actor->last_fork = shared->queue[operation->process].asked;
	return true;
}

static bool direct(const struct operation *operation)
{
	struct actor *actor = &actors[operation->process];

	switch (operation->kind) {
	case START:
		return direct_start(operation);
	case KILL:
		return direct_kill(operation);
	case CLOSE_POOL:
		return direct_close_pool(operation);
	case FORK:
	case STORM_FORK:
		return direct_fork(operation);
	default:
		if (!actor->lives)
			return true;
		actor->lives = operation->kind != EXIT;
		return ask(operation->process, operation);
	}
}

static bool direct_all(void)
{
	struct operation last = { .kind = AUDIT, .pages = 1, .place = playing->nr };

	for (size_t i = 0; i < playing->nr; i++) {
		struct operation operation = playing->operation[i];

		operation.place = i;
		if (shared->trouble.set || !direct(&operation))
			return false;
		if (playing->lockstep && !wait_done(operation.process, 0))
			return false;
	}
	for (last.process = 0; last.process < MAX_PROCESSES; last.process++)
		if (actors[last.process].lives && !ask(last.process, &last))
			return false;
	last.kind = EXIT;
	for (last.process = 0; last.process < MAX_PROCESSES; last.process++)
		if (actors[last.process].lives && !ask(last.process, &last))
			return false;
	for (unsigned int i = 0; i < MAX_PROCESSES; i++)
		if (!wait_done(i, 0) || !wait_gone(i))
			return false;
	return !shared->trouble.set;
}

static void fill(int fd, unsigned int page)
{
	const struct world *world = &shared->world;
	uint64_t words[WORDS];

	for (unsigned int word = 0; word < WORDS; word++)
		words[word] = word_value(0, page, word);
	if (pwrite(fd, words, PAGE, (world->first + page) * PAGE) != (ssize_t)PAGE)
		trouble_set(NULL, "pwrite: %s", strerror(errno));
}

static void pool_make(void)
{
	const struct world *world = &shared->world;
	struct cowpool_create create = { .size = world->pool_pages * PAGE };
	int fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);

	shared->director = getpid();
	shared->pool_fd = fd;
	device_fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);
	if (device_fd < 0 || fd < 0 || ioctl(fd, COWPOOL_IOC_CREATE, &create)) {
		trouble_set(NULL, COWPOOL_DEVICE ": %s", strerror(errno));
		return;
	}
	for (unsigned int i = 0; i < world->filled; i++)
		fill(fd, world->backwards ? world->filled - 1 - i : i);
}

/* What there is of the module's memory */
struct gauges {
	long long pools, views, pool_frames, private_frames, nodes;
};

static struct gauges gauges_read(void)
{
	FILE *file = fopen(STATS, "r");
	struct gauges gauges = {};
	char name[64];
	long long value;

	if (!file) {
		perror("oracle: " STATS);
		exit(1);
	}
	while (fscanf(file, "%63s %lld", name, &value) == 2) {
		if (!strcmp(name, "pools"))
			gauges.pools = value;
		else if (!strcmp(name, "views"))
			gauges.views = value;
		else if (!strcmp(name, "pool_frames"))
			gauges.pool_frames = value;
		else if (!strcmp(name, "private_frames"))
			gauges.private_frames = value;
		else if (!strcmp(name, "nodes"))
			gauges.nodes = value;
	}
	fclose(file);
	return gauges;
}

static void gauges_check(const struct gauges *before)
{
	struct gauges now;

	/* The last references may be dropped a moment later. */
	for (int tries = 0; tries < 50; tries++) {
		now = gauges_read();
		if (!memcmp(&now, before, sizeof(now)))
			return;
		usleep(20000);
	}
	trouble_set(NULL,
		    "left behind: %lld pools, %lld views, %lld + %lld frames, %lld nodes",
		    now.pools - before->pools, now.views - before->views,
		    now.pool_frames - before->pool_frames,
		    now.private_frames - before->private_frames,
		    now.nodes - before->nodes);
}

/**
 * script_run() - run a script once
 * @script: the script
 * @trouble: set to what went wrong
 * @results: set to what became of each operation, an enum result
 *
 * Return: true if nothing went wrong.
 */
bool script_run(const struct script *script, struct trouble *trouble,
		uint8_t *results)
{
	/* One more for the operations after the script. */
	size_t size = sizeof(*shared) + script->nr + 1;
	struct gauges before = gauges_read();
	pid_t director;
	int status;

	shared = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("oracle: mmap");
		exit(1);
	}
	shared->world = script->world;
	shared->salt = script->salt;
	playing = script;
	/* Whose parent is gone comes to us. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fflush(NULL);
	director = fork();
	if (!director) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		setpgid(0, 0);
		/* Nobody is to be waited for. */
		signal(SIGCHLD, SIG_IGN);
		pool_make();
		direct_all();
		_exit(0);
	}
	if (director < 0 || waitpid(director, &status, 0) != director) {
		perror("oracle: fork");
		exit(1);
	}
	kill(-director, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (status)
		trouble_set(NULL, "the director ended with status %#x", status);
	if (!in_company)
		gauges_check(&before);
	/* One that was killed may have been about to tell. */
	*trouble = shared->trouble;
	memcpy(results, shared->result, script->nr);
	munmap(shared, size);
	return !trouble->set;
}
