// SPDX-License-Identifier: GPL-2.0
/*
 * Runs a sequence: by one process and what that forks, each with a second thread
 * now and then, until all have ended and nothing of it is left.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Pages that the process of a sequence may touch, and each that it forks */
#define BUDGET		600

/**
 * struct part - a part of a sequence
 * @sequence: the sequence
 * @first: the first call
 * @end: behind the last one
 */
struct part {
	const struct sequence *sequence;
	unsigned int first;
	unsigned int end;
};

static bool forked;			/* this is not the worker itself */
static __thread bool beside;		/* nor the only thread */
static atomic_uint at_start;		/* threads that are about to begin */

static void run_part(struct part part);

/* The n-th chance to fail in the module that the thread comes to does. */
static int inject_begin(unsigned int n)
{
	int fd = open("/proc/thread-self/fail-nth", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		dprintf(fd, "%u", n);
	return fd;
}

static void inject_end(int fd)
{
	dprintf(fd, "0");
	close(fd);
}

static void run_child(struct part part)
{
	unsigned int n = atomic_fetch_add(&shared->nr_children, 1);
	pid_t pid;

	if (n >= MAX_CHILDREN)
		return;
	pid = fork();
	if (pid > 0)
		shared->child[n] = pid;
	call_told(&part.sequence->call[part.first - 1], pid, "%u calls",
		  part.end - part.first);
	if (pid)
		return;
	forked = true;
	beside = false;
	shared->child[n] = getpid();
	call_budget = BUDGET;
	cover_begin();
	run_part(part);
	_exit(0);
}

static void wait_for_both(void)
{
	at_start--;
	while (at_start)
		sched_yield();
}

static void *run_beside(void *arg)
{
	beside = true;
	cover_begin();
	wait_for_both();
	run_part(*(struct part *)arg);
	cover_end();
	return NULL;
}

/* Both halves of @part at once */
static void run_threads(struct part part)
{
	unsigned int half = (part.end - part.first) / 2;
	struct part first = part, second = part;
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	first.end = part.first + half;
	second.first = first.end;
	second.end = first.end + half;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024 + PTHREAD_STACK_MIN);
	at_start = 2;
	err = pthread_create(&thread, &attr, run_beside, &first);
	pthread_attr_destroy(&attr);
	call_told(&part.sequence->call[part.first - 1], -err, "%u calls", half);
	if (err)
		return;
	beside = true;
	wait_for_both();
	run_part(second);
	beside = false;
	pthread_join(thread, NULL);
}

static void run_kill(const struct call *call)
{
	pid_t pid = shared->child[call->value % MAX_CHILDREN];

	/* None is waited for before the end, so the number is still its. */
	if (pid)
		call_told(call, kill(pid, SIGKILL), "%d", pid);
}

/* Does the call that @part begins with; returns how many after it are done, too. */
static unsigned int run_call(struct part part)
{
	const struct call *call = &part.sequence->call[part.first++];
	unsigned int more = 0;

	switch (call->kind % nr_kinds) {
	case FORK:
		more = 1 + call->pages % 12;
		break;
	case THREADS:
		more = beside ? 0 : 2 * (1 + call->pages % 6);
		break;
	}
	if (part.end - part.first > more)
		part.end = part.first + more;
	more = part.end - part.first;

	switch (call->kind % nr_kinds) {
	case FORK:
		run_child(part);
		break;
	case THREADS:
		if (more)
			run_threads(part);
		break;
	case KILL:
		run_kill(call);
		break;
	case EXIT:
		if (forked && !beside)
			_exit(0);
		break;
	case INJECT:
		/* The last one counts. */
		break;
	default:
		kinds[call->kind % nr_kinds].run(call);
	}
	return more;
}

static void run_part(struct part part)
{
	const struct call *call;
	unsigned int n;
	int fd;

	while (part.first < part.end) {
		call = &part.sequence->call[part.first];
		fd = -1;
		if (call->kind % nr_kinds == INJECT) {
			/* It is for the next call. */
			if (++part.first == part.end)
				break;
			n = 1 + call->value % 32;
			fd = inject_begin(n);
			call_told(call, fd, "%u", n);
		}
		part.first += 1 + run_call(part);
		if (fd >= 0)
			inject_end(fd);
	}
}

/**
 * run_begin() - get ready to run sequences, as the user who does
 */
void run_begin(void)
{
	argument_setup();
	run_cleanup();
}

/* Whether all children end as they should; waits for them. */
static bool children_end_well(void)
{
	bool good = true;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (pid > 0 && WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
			printf("# a child was killed by signal %d\n", WTERMSIG(status));
			good = false;
		}
	}
	return good;
}

/**
 * run_sequence() - run a sequence
 * @sequence: the sequence
 *
 * Return: when all that it started has ended: whether all went as it should.
 */
bool run_sequence(const struct sequence *sequence)
{
	static struct sequence now;	/* where children find it */
	bool good;

	now = *sequence;
	call_budget = BUDGET;
	shared->nr_children = 0;
	for (size_t i = 0; i < MAX_CHILDREN; i++)
		shared->child[i] = 0;
	cover_reset();
	cover_begin();
	run_part((struct part){ &now, 0, now.nr });
	good = children_end_well();
	run_cleanup();
	cover_end();
	return good;
}

/* A pool's owner cannot reach it by its name if its mode is against that. */
static void name_drop(const char *name)
{
	struct cowpool_attach attach = {};
	int fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);
	char answer;

	if (fd < 0)
		die(COWPOOL_DEVICE);
	memcpy(attach.name, name, sizeof(attach.name));
	if (!ioctl(fd, COWPOOL_IOC_ATTACH, &attach)) {
		ioctl(fd, COWPOOL_IOC_DESTROY);
	} else if (errno == EACCES) {
		if (send(root_fd, name, COWPOOL_NAME_SIZE, 0) < 0 ||
		    recv(root_fd, &answer, 1, 0) != 1)
			die("no answer");
	}
	close(fd);
}

/**
 * run_cleanup() - take away what a sequence has left
 */
void run_cleanup(void)
{
	struct rlimit fds = { MAX_FDS, MAX_FDS };
	struct rlimit locked = { 16 << 20, 16 << 20 };

	munlockall();
	if (mmap(ARENA, ARENA_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		 MAP_NORESERVE | MAP_FIXED, -1, 0) != ARENA)
		die("mmap of the arena");
	syscall(SYS_close_range, STDERR_FILENO + 1, OWN_FDS - 1, 0);
	setrlimit(RLIMIT_NOFILE, &fds);
	setrlimit(RLIMIT_MEMLOCK, &locked);
	call_forget();
	for (unsigned int i = 0; i < shared->nr_names && i < MAX_NAMES; i++)
		name_drop(shared->name[i]);
	shared->nr_names = 0;
}
