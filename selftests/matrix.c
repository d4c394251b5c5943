// SPDX-License-Identifier: GPL-2.0
/*
 * A matrix: every way to share a view's content, by every way to touch it.
 *
 * In each cell some *parties* share two pages, one that nobody has written yet
 * and one that the first party owns. Parties are views, in this process or in
 * another, and descriptors of pools. One of those that can write touches the
 * pages, and everybody looks: it sees what it wrote, and nobody else does.
 * Then the others write, one after the other, and all look again. This is done
 * for every party as the one that touches, and for small pages and huge ones.
 *
 * With --table it prints a table rather than KTAP. What the kernel does not
 * let anybody do is an XFAIL, what this machine lacks a SKIP.
 */
#include "cowpool_test.h"

#include <limits.h>
#include <linux/fuse.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

/* What is touched is the first part of a page, which is why it is copied. */
#define HEAD_WORDS	64
#define HEAD		(HEAD_WORDS * sizeof(uint64_t))

/* The pages that are looked at */
enum { CLEAN, OWNED, OTHER, PAGES };
static const size_t page_index[PAGES] = { 3, 5, 6 };

#define SMALL_POOL	16
#define LARGE_POOL	1024

#define MAX_PARTIES	6

struct seen {
	uint64_t head, tail;
};

/* What everybody sees who has nothing of his own */
static const struct seen pool_content[PAGES] = {
	{ TAG(0, 3), TAG(0, 3) }, { TAG(0, 5), TAG(0, 5) }, { TAG(0, 6), TAG(0, 6) },
};

/* A process that does what it is told: calls a function of this program. */
struct agent {
	_Atomic uint32_t asked, answered;
	pid_t pid;
	void (*fn)(struct agent *agent);
	char *view;
	uint64_t tag;
	const struct touch *touch;
	int result;
	struct seen seen[PAGES];
};

struct party {
	const char *name;
	struct agent *agent;	/* NULL: this process */
	char *view;		/* NULL: a pool, seen through its descriptor */
	int fd;			/* else -1 */
	bool private;		/* MAP_PRIVATE */
	bool gone;
	struct seen expected[PAGES];
};

/* Results of a touch, besides 0 */
enum { TOUCH_FAILED = 1, TOUCH_SKIP, TOUCH_XFAIL };

struct touch {
	const char *name;
	/* Done by the first party, before anything is shared; then it touches */
	int (*before)(char *view, uint64_t tag);
	int (*touch)(char *view, uint64_t tag);
	/* What those see who got hold of pages; @old is what was there then. */
	bool (*held)(int page, const struct seen *seen, const struct seen *old,
		     uint64_t tag, bool exclusive);
	bool leaves;		/* the toucher is gone afterwards */
	bool discards;		/* what a MAP_PRIVATE mapping has of its own */
};

static struct shared {
	struct agent agents[MAX_PARTIES];
	_Atomic uint32_t nr_agents;
	char trouble[256];
	char reason[128];	/* for a SKIP or an XFAIL */
	struct helper {
		_Atomic uint32_t asked, answered;
		pid_t pid;
		char *view;
		uint64_t tag;
		bool ptrace;
		int result;
	} helper;
	struct server {
		_Atomic uint32_t hold, pending;
		uint64_t tag;
	} server;
} *shared;

static int pools[2];
static size_t pool_pages[2] = { SMALL_POOL, LARGE_POOL };
static int direct_fd = -1;	/* what is read from it is read into place */
static int source_fd;		/* a file */
static int pipe_fds[2];

static void die(const char *what)
{
	ksft_exit_fail_msg("%s: %s\n", what, strerror(errno));
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	struct timespec timeout = { .tv_sec = 5 };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &timeout, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Tells why a touch cannot be done here. */
static int reason(int result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(shared->reason, sizeof(shared->reason), format, args);
	va_end(args);
	return result;
}

/* Pages */

static void head_set(void *page, uint64_t tag)
{
	volatile uint64_t *word = page;

	for (size_t i = 0; i < HEAD_WORDS; i++)
		word[i] = tag + i;
}

static char *view_page(char *view, int page)
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

static struct seen page_seen(const void *page)
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

static void agent_touch(struct agent *agent)
{
	agent->result = agent->touch->touch(agent->view, agent->tag);
}

static void agent_store(struct agent *agent)
{
	head_set(view_page(agent->view, CLEAN), agent->tag);
	head_set(view_page(agent->view, OWNED), agent->tag);
}

static void agent_exit(struct agent *agent)
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

static void agent_call(struct agent *agent, void (*fn)(struct agent *agent))
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
static int party_do(struct party *party, void (*fn)(struct agent *agent),
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

static bool party_looks(struct party *party, const char *when)
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

struct scene {
	int pool;		/* index in pools[] */
	int nr;
	struct party party[MAX_PARTIES];
};

static struct party *scene_add(struct scene *scene, const char *name, char *view,
			       int fd, struct agent *agent,
			       const struct seen *expected)
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

static char *scene_map(struct scene *scene, int fd, int flags)
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

static const struct share {
	const char *name;
	void (*share)(struct scene *scene);
	/* Takes write access away from what was written before */
	bool revokes;
} shares[] = {
	{ "fork", share_fork, true },
	{ "fork of fork", share_fork_of_fork, true },
	{ "snapshot", share_snapshot, true },
	{ "snapshot of snapshot", share_snapshot_of_snapshot, true },
	{ "dup", share_dup, true },
	{ "second view", share_second_view, false },
	{ "MAP_PRIVATE", share_private, false },
};

#define SHARES ARRAY_SIZE(shares)

/* Ways to touch. All write @tag to the head of both pages. */

static int touch_store(char *view, uint64_t tag)
{
	head_set(view_page(view, CLEAN), tag);
	head_set(view_page(view, OWNED), tag);
	return 0;
}

static int touch_atomic(char *view, uint64_t tag)
{
	for (int page = CLEAN; page <= OWNED; page++) {
		uint64_t *word = (uint64_t *)view_page(view, page);

		for (size_t i = 0; i < HEAD_WORDS; i++) {
			uint64_t old = __atomic_load_n(word + i, __ATOMIC_RELAXED);

			if (__atomic_fetch_add(word + i, tag + i - old,
					       __ATOMIC_SEQ_CST) != old)
				return TOUCH_FAILED;
		}
	}
	return 0;
}

/* From one view to another, each of which has a page of the same pool. */
static int touch_memcpy(char *view, uint64_t tag)
{
	size_t len = SMALL_POOL * PAGE;
	char *from = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, pools[0], 0);

	if (from == MAP_FAILED)
		return TOUCH_FAILED;
	head_set(from, tag);
	memcpy(view_page(view, CLEAN), from, HEAD);
	memcpy(view_page(view, OWNED), from, HEAD);
	munmap(from, len);
	return 0;
}

/* @tag's head, in two pieces as the touches that take a vector want it */
static void vector_set(uint64_t *data, char *view, uint64_t tag, struct iovec *to)
{
	for (int page = CLEAN; page <= OWNED; page++) {
		head_set(data + page * HEAD_WORDS, tag);
		to[page].iov_base = view_page(view, page);
		to[page].iov_len = HEAD;
	}
}

static int touch_proc_mem(char *view, uint64_t tag)
{
	uint64_t data[2 * HEAD_WORDS];
	struct iovec to[2];
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC), result = 0;

	vector_set(data, view, tag, to);
	for (int page = CLEAN; page <= OWNED; page++)
		if (pwrite(fd, data, HEAD, (off_t)to[page].iov_base) != HEAD)
			result = TOUCH_FAILED;
	close(fd);
	return result;
}

/* What another process does to this one. */
static int touch_by_helper(char *view, uint64_t tag, bool ptrace)
{
	struct helper *helper = &shared->helper;
	uint32_t asked = helper->asked + 1, answered;

	helper->pid = getpid();
	helper->view = view;
	helper->tag = tag;
	helper->ptrace = ptrace;
	helper->asked = asked;
	futex_wake(&helper->asked);
	while ((answered = helper->answered) != asked)
		futex_wait(&helper->answered, answered);
	return helper->result;
}

static int touch_process_vm(char *view, uint64_t tag)
{
	return touch_by_helper(view, tag, false);
}

static int touch_ptrace(char *view, uint64_t tag)
{
	return touch_by_helper(view, tag, true);
}

static int helper_process_vm(struct helper *helper)
{
	uint64_t data[2 * HEAD_WORDS];
	struct iovec to[2], from = { data, sizeof(data) };

	vector_set(data, helper->view, helper->tag, to);
	return process_vm_writev(helper->pid, &from, 1, to, 2, 0) == sizeof(data) ?
		0 : TOUCH_FAILED;
}

static int helper_ptrace(struct helper *helper)
{
	int result = 0;

	if (ptrace(PTRACE_SEIZE, helper->pid, 0, 0) ||
	    ptrace(PTRACE_INTERRUPT, helper->pid, 0, 0) ||
	    waitpid(helper->pid, NULL, __WALL) != helper->pid)
		return TOUCH_FAILED;
	for (int page = CLEAN; page <= OWNED; page++)
		for (size_t i = 0; i < HEAD_WORDS; i++)
			if (ptrace(PTRACE_POKEDATA, helper->pid,
				   view_page(helper->view, page) + i * sizeof(uint64_t),
				   helper->tag + i))
				result = TOUCH_FAILED;
	ptrace(PTRACE_DETACH, helper->pid, 0, 0);
	return result;
}

static void helper_start(void)
{
	struct helper *helper = &shared->helper;
	uint32_t done = 0;
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		while (helper->asked == done)
			futex_wait(&helper->asked, done);
		helper->result = helper->ptrace ? helper_ptrace(helper) :
						  helper_process_vm(helper);
		helper->answered = ++done;
		futex_wake(&helper->answered);
	}
}

static int source_set(uint64_t tag)
{
	uint64_t data[2 * HEAD_WORDS];

	head_set(data, tag);
	head_set(data + HEAD_WORDS, tag);
	return pwrite(source_fd, data, sizeof(data), 0) == sizeof(data) ?
		0 : TOUCH_FAILED;
}

static int touch_read(char *view, uint64_t tag)
{
	uint64_t data[2 * HEAD_WORDS];
	struct iovec to[2];

	vector_set(data, view, tag, to);
	if (source_set(tag))
		return TOUCH_FAILED;
	return preadv(source_fd, to, 2, 0) == sizeof(data) ? 0 : TOUCH_FAILED;
}

/*
 * Reads with O_DIRECT, into pages that are pinned as long as the read takes.
 * How long that is decides the server of a FUSE file, in a process of its own.
 */
static void server_reply(int fd, uint64_t unique, int error, const void *data,
			 size_t size)
{
	struct fuse_out_header header = {
		.len = sizeof(header) + size,
		.error = error,
		.unique = unique,
	};
	struct iovec reply[2] = { { &header, sizeof(header) }, { (void *)data, size } };

	/* The request may have been given up. */
	if (writev(fd, reply, 2) < 0 && errno != ENOENT)
		_exit(1);
}

static void server_read(int fd, uint64_t unique, const struct fuse_read_in *in)
{
	struct server *server = &shared->server;
	uint64_t data[2 * HEAD_WORDS];

	while (server->hold) {
		server->pending = 1;
		futex_wake(&server->pending);
		futex_wait(&server->hold, 1);
	}
	server->pending = 0;
	head_set(data, server->tag);
	head_set(data + HEAD_WORDS, server->tag);
	server_reply(fd, unique, 0, data,
		     in->size < sizeof(data) ? in->size : sizeof(data));
}

static void server_run(int fd)
{
	static union {
		struct fuse_in_header header;
		char bytes[FUSE_MIN_READ_BUFFER + 4096];
	} request;
	const struct fuse_attr attr = {
		.ino = 1, .size = 1 << 20, .mode = S_IFREG | 0600, .nlink = 1,
	};
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096,
	};
	struct fuse_attr_out attr_out = { .attr = attr };
	struct fuse_open_out open_out = { .open_flags = FOPEN_DIRECT_IO };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(fd, &request, sizeof(request)) > 0) {
		uint64_t unique = request.header.unique;
		void *arg = &request.header + 1;

		switch (request.header.opcode) {
		case FUSE_INIT:
			server_reply(fd, unique, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			server_reply(fd, unique, 0, &attr_out, sizeof(attr_out));
			break;
		case FUSE_OPEN:
			server_reply(fd, unique, 0, &open_out, sizeof(open_out));
			break;
		case FUSE_READ:
			server_read(fd, unique, arg);
			break;
		case FUSE_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			server_reply(fd, unique, -ENOSYS, NULL, 0);
		}
	}
	_exit(0);
}

/* A file whose only content is what the server says, or -1 if it cannot be. */
static int direct_open(void)
{
	char path[] = "/tmp/cowpool-matrix-XXXXXX", options[100];
	int file, fd, result = -1;

	/* Nobody else sees the mount, and it goes with this process. */
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -1;
	file = mkstemp(path);
	if (file < 0)
		return -1;
	close(file);
	/* The first attempt has the module loaded, and makes the device. */
	mount("matrix", path, "fuse", 0, "");
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=100600,user_id=0,group_id=0", fd);
	if (fd >= 0 && !mount("matrix", path, "fuse", MS_NOSUID | MS_NODEV, options)) {
		pid_t pid = fork();

		if (!pid)
			server_run(fd);
		close(fd);
		result = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		umount2(path, MNT_DETACH);
	}
	unlink(path);
	return result;
}

static int direct_read(char *view, uint64_t tag)
{
	uint64_t data[2 * HEAD_WORDS];
	struct iovec to[2];

	vector_set(data, view, tag, to);
	return preadv(direct_fd, to, 2, 0) == sizeof(data) ? 0 : TOUCH_FAILED;
}

static int touch_direct(char *view, uint64_t tag)
{
	if (direct_fd < 0)
		return reason(TOUCH_SKIP, "no FUSE to read from with O_DIRECT");
	shared->server.tag = tag;
	return direct_read(view, tag);
}

static pthread_t direct_thread;

static void *direct_thread_run(void *view)
{
	return (void *)(intptr_t)direct_read(view, 0);
}

/* Starts a read, which ends after all is shared. */
static int before_direct(char *view, uint64_t tag)
{
	struct server *server = &shared->server;

	if (direct_fd < 0)
		return reason(TOUCH_SKIP, "no FUSE to read from with O_DIRECT");
	server->tag = tag;
	server->hold = 1;
	if (pthread_create(&direct_thread, NULL, direct_thread_run, view))
		return TOUCH_FAILED;
	while (!server->pending)
		futex_wait(&server->pending, 0);
	return 0;
}

static int touch_direct_end(char *view, uint64_t tag)
{
	struct server *server = &shared->server;
	void *result;

	(void)view;
	(void)tag;
	server->hold = 0;
	futex_wake(&server->hold);
	pthread_join(direct_thread, &result);
	return (intptr_t)result;
}

/* Fixed buffers of io_uring: pages pinned as long as they are registered. */
static struct ring {
	int fd;
	unsigned char *rings;
	struct io_uring_params params;
	struct io_uring_sqe *sqes;
} ring;

#define RING_SIZE 4096

static int ring_setup(void)
{
	memset(&ring, 0, sizeof(ring));
	ring.fd = syscall(SYS_io_uring_setup, 2, &ring.params);
	if (ring.fd < 0)
		return reason(TOUCH_SKIP, "no io_uring: %s", strerror(errno));
	ring.rings = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			  ring.fd, IORING_OFF_SQ_RING);
	ring.sqes = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 ring.fd, IORING_OFF_SQES);
	if (ring.rings == MAP_FAILED || ring.sqes == MAP_FAILED ||
	    !(ring.params.features & IORING_FEAT_SINGLE_MMAP))
		return reason(TOUCH_SKIP, "io_uring is not as expected");
	return 0;
}

static void ring_end(void)
{
	munmap(ring.rings, RING_SIZE);
	munmap(ring.sqes, RING_SIZE);
	close(ring.fd);
}

/* One read of a file into a fixed buffer. */
static bool ring_read(char *to, unsigned int buffer, off_t from)
{
	const struct io_sqring_offsets *sq = &ring.params.sq_off;
	const struct io_cqring_offsets *cq = &ring.params.cq_off;
	uint32_t *sq_tail = (uint32_t *)(ring.rings + sq->tail);
	uint32_t *cq_head = (uint32_t *)(ring.rings + cq->head);
	uint32_t slot = *sq_tail & *(uint32_t *)(ring.rings + sq->ring_mask);
	struct io_uring_cqe *cqes = (void *)(ring.rings + cq->cqes);
	struct io_uring_cqe *done = cqes + (*cq_head & *(uint32_t *)(ring.rings + cq->ring_mask));

	ring.sqes[slot] = (struct io_uring_sqe){
		.opcode = IORING_OP_READ_FIXED,
		.fd = source_fd,
		.off = from,
		.addr = (uintptr_t)to,
		.len = HEAD,
		.buf_index = buffer,
	};
	((uint32_t *)(ring.rings + sq->array))[slot] = slot;
	__atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring.fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return false;
	__atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
	return done->res == HEAD;
}

static int before_fixed(char *view, uint64_t tag)
{
	uint64_t data[2 * HEAD_WORDS];
	struct iovec buffers[2];
	int result = ring_setup();

	if (result)
		return result;
	vector_set(data, view, tag, buffers);
	if (!syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, buffers, 2))
		return source_set(tag);
	if (errno == EFAULT)
		result = reason(TOUCH_XFAIL,
				"the kernel refuses long-term pins of files that track writes");
	else if (errno == EOPNOTSUPP)
		result = reason(TOUCH_XFAIL, "this kernel registers no memory of files");
	else
		result = reason(TOUCH_FAILED, "registering buffers: %s", strerror(errno));
	ring_end();
	return result;
}

static int touch_fixed(char *view, uint64_t tag)
{
	bool good = ring_read(view_page(view, CLEAN), CLEAN, 0) &&
		    ring_read(view_page(view, OWNED), OWNED, HEAD);

	(void)tag;
	ring_end();
	return good ? 0 : TOUCH_FAILED;
}

/* vmsplice(): a pipe holds the pages themselves. */
static int splice_pages(char *view, uint64_t tag)
{
	struct iovec pages[2] = {
		{ view_page(view, CLEAN), PAGE },
		{ view_page(view, OWNED), PAGE },
	};

	(void)tag;
	return vmsplice(pipe_fds[1], pages, 2, 0) == (ssize_t)(2 * PAGE) ?
		0 : TOUCH_FAILED;
}

static int touch_splice_store(char *view, uint64_t tag)
{
	return splice_pages(view, tag) ?: touch_store(view, tag);
}

static int touch_splice_unmap(char *view, uint64_t tag)
{
	int result = splice_pages(view, tag);

	/* More than there is, for the larger of the pools */
	return munmap(view, PAGE * (page_index[OWNED] + 1)) ? TOUCH_FAILED : result;
}

static bool seen_is(const struct seen *seen, uint64_t head, uint64_t tail)
{
	return seen->head == head && seen->tail == tail;
}

/* The page stays with the view that it was got from, if that may write it. */
static bool held_follows(int page, const struct seen *seen, const struct seen *old,
			 uint64_t tag, bool exclusive)
{
	return seen_is(seen, page == OWNED && exclusive ? tag : old->head, old->tail);
}

static bool held_stays(int page, const struct seen *seen, const struct seen *old,
		       uint64_t tag, bool exclusive)
{
	(void)page;
	(void)tag;
	(void)exclusive;
	return seen_is(seen, old->head, old->tail);
}

static int touch_mprotect(char *view, uint64_t tag)
{
	size_t len = PAGE * (page_index[OTHER] + 1);

	if (mprotect(view, len, PROT_READ))
		return TOUCH_FAILED;
	/* The kernel could write, but must not. */
	if (pread(source_fd, view_page(view, CLEAN), 1, 0) != -1 || errno != EFAULT)
		return TOUCH_FAILED;
	if (mprotect(view, len, PROT_READ | PROT_WRITE))
		return TOUCH_FAILED;
	return touch_store(view, tag);
}

static int advise(char *view, int advice)
{
	return madvise(view, PAGE * (page_index[OTHER] + 1), advice);
}

/* A view keeps what it has, as a shared mapping does. */
static int touch_dontneed(char *view, uint64_t tag)
{
	touch_store(view, tag);
	return advise(view, MADV_DONTNEED) ? TOUCH_FAILED : 0;
}

static int touch_pageout(char *view, uint64_t tag)
{
	return (advise(view, MADV_COLD) | advise(view, MADV_PAGEOUT)) ?
		TOUCH_FAILED : touch_store(view, tag);
}

static int touch_populate(char *view, uint64_t tag)
{
	return (advise(view, MADV_POPULATE_READ) | advise(view, MADV_POPULATE_WRITE)) ?
		TOUCH_FAILED : touch_store(view, tag);
}

/* Whatever the kernel makes of these, content is not lost. */
static int touch_other_advice(char *view, uint64_t tag)
{
	static const int kinds[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
		MADV_HUGEPAGE, MADV_COLLAPSE, MADV_NOHUGEPAGE, MADV_MERGEABLE,
		MADV_UNMERGEABLE, MADV_DONTDUMP, MADV_DODUMP,
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		advise(view, kinds[i]);
	touch_store(view, tag);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		advise(view, kinds[i]);
	return 0;
}

static int touch_mlock(char *view, uint64_t tag)
{
	size_t len = PAGE * (page_index[OTHER] + 1);

	if (mlock(view, len))
		return TOUCH_FAILED;
	touch_store(view, tag);
	return munlock(view, len) ? TOUCH_FAILED : 0;
}

static const struct touch touches[] = {
	{ "plain store", .touch = touch_store },
	{ "atomic", .touch = touch_atomic },
	{ "memcpy from a view", .touch = touch_memcpy },
	{ "/proc/self/mem", .touch = touch_proc_mem },
	{ "process_vm_writev", .touch = touch_process_vm },
	{ "ptrace POKEDATA", .touch = touch_ptrace },
	{ "read(2)", .touch = touch_read },
	{ "O_DIRECT read", .touch = touch_direct },
	{ "O_DIRECT in flight", .touch = touch_direct_end, .before = before_direct },
	{ "io_uring fixed buffer", .touch = touch_fixed, .before = before_fixed },
	{ "vmsplice before", .touch = touch_store, .before = splice_pages,
	  .held = held_follows },
	{ "vmsplice after", .touch = touch_splice_store, .held = held_follows },
	{ "vmsplice, then unmap", .touch = touch_splice_unmap, .held = held_stays,
	  .leaves = true },
	{ "mprotect and back", .touch = touch_mprotect },
	{ "mlock", .touch = touch_mlock },
	{ "madvise cold, pageout", .touch = touch_pageout },
	{ "madvise dontneed", .touch = touch_dontneed, .discards = true },
	{ "madvise populate", .touch = touch_populate },
	{ "madvise, other kinds", .touch = touch_other_advice },
};

#define TOUCHES ARRAY_SIZE(touches)

/* Cells */

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
	/* What was begun before can only be ended by who began it. */
	int touchers = touch->before && !touch->held ? 1 : MAX_PARTIES;
	int result = 0;

	for (int pool = 0; pool < 2; pool++) {
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
	direct_fd = direct_open();
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
