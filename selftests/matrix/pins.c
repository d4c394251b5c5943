// SPDX-License-Identifier: GPL-2.0
/*
 * Touches by those who pin pages for as long as it takes: reads with O_DIRECT,
 * and io_uring's fixed buffers.
 */
#include "matrix.h"

#include <linux/fuse.h>
#include <linux/io_uring.h>
#include <sys/mount.h>
#include <sys/prctl.h>

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
static int direct_fd = -1;

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

void direct_start(void)
{
	direct_fd = direct_open();
}

static int direct_read(char *view, uint64_t tag)
{
	uint64_t data[2 * HEAD_WORDS];
	struct iovec to[2];

	vector_set(data, view, tag, to);
	return preadv(direct_fd, to, 2, 0) == sizeof(data) ? 0 : TOUCH_FAILED;
}

int touch_direct(char *view, uint64_t tag)
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
int before_direct(char *view, uint64_t tag)
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

int touch_direct_end(char *view, uint64_t tag)
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

int before_fixed(char *view, uint64_t tag)
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

int touch_fixed(char *view, uint64_t tag)
{
	bool good = ring_read(view_page(view, CLEAN), CLEAN, 0) &&
		    ring_read(view_page(view, OWNED), OWNED, HEAD);

	(void)tag;
	ring_end();
	return good ? 0 : TOUCH_FAILED;
}
