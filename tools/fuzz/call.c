// SPDX-License-Identifier: GPL-2.0
/*
 * The calls of sequences. Each takes from its bytes what it needs (argument.c), and
 * does not care whether it succeeds.
 */
#include "argument.h"
#include "fuzz.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define BUFFER_PAGES	64UL

bool tracing;

static int pipe_fds[2] = { -1, -1 };
static char buffer[BUFFER_PAGES * PAGE];

static const unsigned long pool_sizes[] = {
	1, 2, 3, 64, 65, 130, 512, 513, 600, 1024, 1100, 1536, 4096, 4097, 8192,
	1UL << 18, (1UL << 18) + 70, (1UL << 24) + 5, 1UL << 28, (1UL << 28) + 1,
	0, 1UL << 51,
};

static const char *const names[] = {
	"", "", "", "", "a", "a", "b", COWPOOL_DEFAULT_NAME, ".c",
};

static const unsigned int modes[] = {
	0600, 0666, 0644, 0400, 0200, 0, 0777, 01000,
};

/**
 * call_forget() - know nothing of earlier calls, whose traces are gone
 */
void call_forget(void)
{
	for (size_t i = 0; i < NR_FDS; i++)
		fds[i] = -1;
	for (size_t i = 0; i < NR_SLOTS; i++)
		slot_pages[i] = 0;
	pipe_fds[0] = -1;
	pipe_fds[1] = -1;
}

/**
 * call_told() - tell what became of a call, if anybody wants to know
 * @call: the call
 * @result: what it returned; with -1, errno is set
 * @format: its arguments
 */
void call_told(const struct call *call, long result, const char *format, ...)
{
	int error = errno;
	char text[256];
	va_list args;

	if (!tracing)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* At once, since the machine may be about to die */
	dprintf(STDOUT_FILENO, "# %d: %s(%s) = %ld%s%s\n", gettid(),
		kinds[call->kind % nr_kinds].name, text, result,
		result == -1 ? " " : "", result == -1 ? strerrorname_np(error) : "");
	errno = error;
}

static void do_open(const struct call *call)
{
	static const int flags[] = {
		O_RDWR, O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY,
		O_RDWR | O_APPEND, O_RDWR | O_NONBLOCK | O_TRUNC,
	};
	int how = flags[call->how % ARRAY_SIZE(flags)];
	int fd = open(COWPOOL_DEVICE, how | O_CLOEXEC);

	fd_keep(call, fd);
	call_told(call, fd, "%#x", how);
}

static void do_dup(const struct call *call)
{
	int old = fd_of(call), fd = dup(old);

	if (fd >= 0)
		fds[call->value % NR_FDS] = fd;
	call_told(call, fd, "%d", old);
}

static void do_close(const struct call *call)
{
	unsigned int n = call->fd % NR_FDS;
	int fd = atomic_exchange(&fds[n], -1);

	if (fd >= 0)
		call_told(call, close(fd), "%d", fd);
}

/* Names that pools may have afterwards are to be known. */
static bool name_note(const char *name)
{
	unsigned int n;

	if (!name[0])
		return true;
	n = atomic_fetch_add(&shared->nr_names, 1);
	if (n >= MAX_NAMES)
		return false;
	memcpy(shared->name[n], name, COWPOOL_NAME_SIZE);
	return true;
}

static void do_create(const struct call *call)
{
	struct cowpool_create arg = {
		.size = pool_sizes[call->value % ARRAY_SIZE(pool_sizes)] * PAGE,
		.mode = modes[call->how % ARRAY_SIZE(modes)],
	};
	void *at = &arg;
	int fd = fd_of(call);

	strcpy(arg.name, names[call->page % ARRAY_SIZE(names)]);
	/* Not where another thread could change the name */
	if (call->bad != BAD_IN_VIEW && call->bad != BAD_ACROSS)
		at = argument(call, &arg, sizeof(arg));
	if (!name_note(arg.name))
		return;
	call_told(call, ioctl(fd, COWPOOL_IOC_CREATE, at), "%d, %#llx, %#o, \"%.32s\"",
		  fd, (unsigned long long)arg.size, arg.mode, arg.name);
}

static void do_attach(const struct call *call)
{
	struct cowpool_attach arg = {};
	int fd = fd_of(call);
	void *at;

	/* Not those without a name */
	strcpy(arg.name, names[3 + call->page % (ARRAY_SIZE(names) - 3)]);
	at = argument(call, &arg, sizeof(arg));
	call_told(call, ioctl(fd, COWPOOL_IOC_ATTACH, at), "%d, \"%.32s\"", fd,
		  arg.name);
}

static void do_seal(const struct call *call)
{
	struct cowpool_info info = {};
	int fd = fd_of(call);

	/* The default pool is not to be sealed for all that comes later. */
	if (ioctl(fd, COWPOOL_IOC_INFO, &info) ||
	    !strcmp(info.name, COWPOOL_DEFAULT_NAME))
		return;
	call_told(call, ioctl(fd, COWPOOL_IOC_SEAL), "%d", fd);
}

static void do_destroy(const struct call *call)
{
	int fd = fd_of(call);

	call_told(call, ioctl(fd, COWPOOL_IOC_DESTROY), "%d", fd);
}

static void do_info(const struct call *call)
{
	struct cowpool_info arg = {};
	int fd = fd_of(call);
	__u64 len;
	void *at;

	if (call->how % 4) {
		range_of(call, &arg.addr, &len);
		arg.flags = COWPOOL_INFO_VIEW;
	}
	at = argument(call, &arg, sizeof(arg));
	call_told(call, ioctl(fd, COWPOOL_IOC_INFO, at), "%d, %#llx, %#x", fd,
		  (unsigned long long)arg.addr, arg.flags);
}

static void do_snapshot(const struct call *call)
{
	struct cowpool_snapshot arg = {};
	int device = fd_of(call), fd;
	__u64 len;
	void *at;

	range_of(call, &arg.addr, &len);
	at = argument(call, &arg, sizeof(arg));
	fd = ioctl(device, COWPOOL_IOC_SNAPSHOT, at);
	if (fd >= 0)
		fds[call->value % NR_FDS] = fd;
	call_told(call, fd, "%d, %#llx", device, (unsigned long long)arg.addr);
}

static void do_reset(const struct call *call)
{
	static const unsigned int flags[] = {
		0, COWPOOL_RESET_KEEP, COWPOOL_RESET_KEEP | COWPOOL_RESET_WRITTEN,
		COWPOOL_RESET_KEEP | COWPOOL_RESET_WRITTEN,
	};
	struct cowpool_reset arg = { .flags = flags[call->how % ARRAY_SIZE(flags)] };
	int fd = fd_of(call);
	void *at;

	range_of(call, &arg.addr, &arg.len);
	at = argument(call, &arg, sizeof(arg));
	call_told(call, ioctl(fd, COWPOOL_IOC_RESET, at), "%d, %#llx, %#llx, %u", fd,
		  (unsigned long long)arg.addr, (unsigned long long)arg.len, arg.flags);
}

static void do_dirty(const struct call *call)
{
	struct cowpool_dirty arg = {
		.ranges = (uintptr_t)buffer,
		.nr_ranges = 1 + call->value,
		.flags = call->how & COWPOOL_DIRTY_CONTENT,
	};
	int fd = fd_of(call);
	unsigned long pages;
	void *at;

	range_of(call, &arg.addr, &arg.len);
	if (call->how & 2)
		arg.ranges = (uintptr_t)area_of(call, &pages) + call->value;
	at = argument(call, &arg, sizeof(arg));
	call_told(call, ioctl(fd, COWPOOL_IOC_DIRTY, at),
		  "%d, %#llx, %#llx, %#llx, %u, %u", fd, (unsigned long long)arg.addr,
		  (unsigned long long)arg.len, (unsigned long long)arg.ranges,
		  arg.nr_ranges, arg.flags);
}

static void do_ioctl(const struct call *call)
{
	unsigned long request = COWPOOL_IOC_SEAL + call->value;
	int fd = fd_of(call);

	/* Not SEAL itself, nor with the size of another argument */
	if (request == COWPOOL_IOC_SEAL)
		request = COWPOOL_IOC_CREATE ^ 1UL << (16 + call->page % 14);
	call_told(call, ioctl(fd, request, buffer), "%d, %#lx", fd, request);
}

/* Vectors for @pages, into one buffer or into the arena. */
static unsigned int vectors_make(const struct call *call, struct iovec *vectors,
				 unsigned long pages)
{
	unsigned int nr = 0;
	unsigned long there;

	if (call->how & 1) {
		vectors[0].iov_base = area_of(call, &there);
		vectors[0].iov_len = min(pages, there) * PAGE;
		return 1;
	}
	for (; pages; pages -= min(pages, BUFFER_PAGES)) {
		vectors[nr].iov_base = buffer;
		vectors[nr++].iov_len = min(pages, BUFFER_PAGES) * PAGE;
	}
	if (call->bad == BAD_LENGTH && nr)
		vectors[nr - 1].iov_len -= call->value;
	if (call->bad == BAD_ADDRESS && nr)
		vectors[nr - 1].iov_base = NULL;
	return nr;
}

static void do_pread(const struct call *call)
{
	struct iovec vectors[SLOT_PAGES / BUFFER_PAGES];
	unsigned long pages = spend(pages_of(call, SLOT_PAGES));
	unsigned int nr = vectors_make(call, vectors, pages);
	int fd = fd_of(call);

	call_told(call, call->how & 2 ? readv(fd, vectors, nr) :
		  preadv(fd, vectors, nr, offset_of(call)),
		  "%d, %lu pages, %#lx", fd, pages, offset_of(call));
}

static void do_pwrite(const struct call *call)
{
	struct iovec vectors[SLOT_PAGES / BUFFER_PAGES];
	unsigned long pages = spend(pages_of(call, 2 * BUFFER_PAGES));
	unsigned int nr = vectors_make(call, vectors, pages);
	int fd = fd_of(call);

	buffer[call->value * 8] = call->value;
	call_told(call, call->how & 2 ? writev(fd, vectors, nr) :
		  pwritev(fd, vectors, nr, offset_of(call)),
		  "%d, %lu pages, %#lx", fd, pages, offset_of(call));
}

static void do_lseek(const struct call *call)
{
	off_t offset = call->value % 4 ? offset_of(call) : -1;
	int fd = fd_of(call), whence = call->how % 6;

	call_told(call, lseek(fd, offset, whence), "%d, %#lx, %d", fd, offset, whence);
}

static void do_mmap(const struct call *call)
{
	static const int flags[] = {
		MAP_SHARED, MAP_SHARED, MAP_SHARED, MAP_SHARED, MAP_PRIVATE,
		MAP_SHARED_VALIDATE, MAP_SHARED | MAP_POPULATE,
		MAP_PRIVATE | MAP_POPULATE,
	};
	static const int prots[] = {
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ,
		PROT_READ | PROT_WRITE,
	};
	int flag = flags[call->how % 8], prot = prots[call->how / 8 % 4];
	unsigned int slot = call->value % NR_SLOTS;
	struct cowpool_info info = {};
	unsigned long page = pool_page_of(call), pages = 0, whole;
	int fd = fd_of(call);
	void *at;

	/* Most want all of the pool that is there. */
	if (!ioctl(fd, COWPOOL_IOC_INFO, &info))
		pages = info.size / PAGE;
	if (page >= pages && call->bad != BAD_OFFSET)
		page = 0;
	whole = min(pages > page ? pages - page : 1, SLOT_PAGES);
	pages = call->pages < 128 ? whole : pages_of(call, whole);
	if (call->bad != BAD_LENGTH)
		pages = min(pages, whole);
	if (flag & MAP_POPULATE && spend(pages) < pages)
		flag &= ~MAP_POPULATE;
	if (call->bad == BAD_BYTE - 1)
		prot |= PROT_EXEC;
	at = mmap(ARENA + slot * SLOT_PAGES * PAGE, pages * PAGE, prot,
		  flag | MAP_FIXED, fd, page * PAGE);
	if (at != MAP_FAILED)
		slot_pages[slot] = pages;
	call_told(call, at == MAP_FAILED ? -1 : 0, "%u, %lu pages, %#x, %#x, %d, %#lx",
		  slot, pages, prot, flag, fd, page);
}

/* Gives a slot up if nothing is there any more. */
static void do_munmap(const struct call *call)
{
	unsigned int slot = slot_of(call);
	unsigned long pages;
	char *at = area_of(call, &pages);

	if (pages >= slot_pages[slot])
		slot_pages[slot] = 0;
	call_told(call, munmap(at, pages * PAGE), "%p, %lu pages", at, pages);
}

static void do_mremap(const struct call *call)
{
	unsigned int slot = call->value % NR_SLOTS;
	unsigned long pages, new;
	char *at = area_of(call, &pages), *to = ARENA + slot * SLOT_PAGES * PAGE;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	void *moved;

	pages = min(pages, SLOT_PAGES);
	new = pages;
	switch (call->how % 8) {
	case 0:
		new = 1 + pages / 2;
		break;
	case 1:
		new = min(pages + 1 + call->value % 64, SLOT_PAGES);
		break;
	case 2:
		flags |= MREMAP_DONTUNMAP;
		break;
	case 3:
		pages = 0;
		break;
	case 4:
		/* Where it is */
		flags = 0;
		new = 1 + pages / 2;
		break;
	}
	moved = mremap(at, pages * PAGE, new * PAGE, flags, to);
	if (moved == to)
		slot_pages[slot] = new;
	call_told(call, moved == MAP_FAILED ? -1 : 0, "%p, %lu pages, %lu pages, %#x, %p",
		  at, pages, new, flags, to);
}

static void do_mprotect(const struct call *call)
{
	static const int prots[] = {
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
		PROT_WRITE, PROT_READ | PROT_EXEC,
	};
	int prot = prots[call->how / 8 % ARRAY_SIZE(prots)];
	unsigned long pages;
	char *at = area_of(call, &pages);

	call_told(call, mprotect(at, pages * PAGE, prot), "%p, %lu pages, %#x", at,
		  pages, prot);
}

static void do_madvise(const struct call *call)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_DONTNEED, MADV_DONTNEED, MADV_POPULATE_READ,
		MADV_POPULATE_WRITE, MADV_DONTFORK, MADV_DOFORK, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_COLD, MADV_PAGEOUT, MADV_FREE, MADV_REMOVE,
		MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_WIPEONFORK, MADV_KEEPONFORK,
		MADV_DONTDUMP, MADV_DODUMP, MADV_SEQUENTIAL, MADV_RANDOM,
		MADV_WILLNEED, 24 /* DONTNEED_LOCKED */, 25 /* COLLAPSE */,
	};
	int advice = advices[call->value % ARRAY_SIZE(advices)];
	unsigned long pages;
	char *at = area_of(call, &pages);

	if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE)
		pages = spend(pages);
	call_told(call, madvise(at, pages * PAGE, advice), "%p, %lu pages, %d", at,
		  pages, advice);
}

static void do_mbind(const struct call *call)
{
	static const int modes[] = {
		MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL,
	};
	int mode = modes[call->value % ARRAY_SIZE(modes)];
	unsigned long node = 1, pages;
	char *at = area_of(call, &pages);
	bool bare = mode == MPOL_DEFAULT || mode == MPOL_LOCAL;

	call_told(call, syscall(SYS_mbind, at, pages * PAGE, mode, bare ? NULL : &node,
				bare ? 0 : 8 * sizeof(node), 0),
		  "%p, %lu pages, %d", at, pages, mode);
}

static void do_mlock(const struct call *call)
{
	unsigned long pages;
	char *at = area_of(call, &pages);
	long result;

	switch (call->how / 8 % 4) {
	case 0:
		result = munlock(at, pages * PAGE);
		break;
	case 1:
		result = mlock2(at, pages * PAGE, MLOCK_ONFAULT);
		break;
	default:
		pages = spend(pages);
		result = mlock(at, pages * PAGE);
	}
	call_told(call, result, "%p, %lu pages, %d", at, pages, call->how / 8 % 4);
}

static void do_msync(const struct call *call)
{
	static const int flags[] = { MS_ASYNC, MS_SYNC, MS_INVALIDATE };
	int flag = flags[call->value % ARRAY_SIZE(flags)];
	unsigned long pages;
	char *at = area_of(call, &pages);

	call_told(call, msync(at, pages * PAGE, flag), "%p, %lu pages, %d", at, pages,
		  flag);
}

static void access_pages(const struct call *call, bool write)
{
	unsigned long pages, page;
	char *at = area_of(call, &pages);

	pages = spend(pages);
	for (page = 0; page < pages; page++)
		if (!touch((uint64_t *)(at + page * PAGE) + call->value, write,
			   call->value))
			break;
	call_told(call, page, "%p, %lu pages", at, pages);
}

static void do_load(const struct call *call)
{
	access_pages(call, false);
}

static void do_store(const struct call *call)
{
	access_pages(call, true);
}

/* Through another process's eyes, or one's own */
static void do_vm(const struct call *call)
{
	const pid_t pids[] = {
		getpid(), getpid(), getppid(), shared->child[call->value % MAX_CHILDREN],
	};
	pid_t pid = pids[call->how / 8 % ARRAY_SIZE(pids)];
	struct iovec local = { buffer, sizeof(buffer) }, remote;
	unsigned long pages;

	remote.iov_base = area_of(call, &pages);
	pages = spend(min(pages, BUFFER_PAGES));
	remote.iov_len = pages * PAGE;
	call_told(call, call->how & 64 ? process_vm_readv(pid, &local, 1, &remote, 1, 0) :
		  process_vm_writev(pid, &local, 1, &remote, 1, 0),
		  "%d, %p, %lu pages, %s", pid, remote.iov_base, pages,
		  call->how & 64 ? "read" : "write");
}

static void pipe_need(void)
{
	if (pipe_fds[0] < 0 && pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC))
		pipe_fds[0] = -1;
}

/* A pipe holds pages of the view. */
static void do_vmsplice(const struct call *call)
{
	struct iovec vector;
	unsigned long pages;

	pipe_need();
	vector.iov_base = area_of(call, &pages);
	pages = spend(min(pages, 16));
	vector.iov_len = pages * PAGE;
	call_told(call, vmsplice(pipe_fds[1], &vector, 1, SPLICE_F_NONBLOCK |
				 (call->how & 64 ? SPLICE_F_GIFT : 0)),
		  "%p, %lu pages", vector.iov_base, pages);
}

static void do_splice(const struct call *call)
{
	loff_t offset = offset_of(call);
	unsigned long pages = spend(min(pages_of(call, 16), 16));
	int fd = fd_of(call);
	long result;

	pipe_need();
	if (call->how & 1)
		result = splice(fd, &offset, pipe_fds[1], NULL, pages * PAGE,
				SPLICE_F_NONBLOCK);
	else
		result = splice(pipe_fds[0], NULL, fd, &offset, pages * PAGE,
				SPLICE_F_NONBLOCK);
	call_told(call, result, "%s %d, %#lx, %lu pages", call->how & 1 ? "from" : "to",
		  fd, (long)offset, pages);
}

static void do_drain(const struct call *call)
{
	pipe_need();
	call_told(call, read(pipe_fds[0], buffer, (1 + call->pages % 16) * PAGE),
		  "%u pages", 1 + call->pages % 16);
}

/* What looks at, and what changes, all entries */
static void do_proc(const struct call *call)
{
	static const char *const files[] = {
		"/proc/self/maps", "/proc/self/smaps", "/proc/self/numa_maps",
		"/proc/self/clear_refs", "/proc/self/clear_refs",
	};
	unsigned int n = call->value % ARRAY_SIZE(files);
	int fd = open(files[n], (n < 3 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
	long result = 0;

	if (fd < 0)
		return;
	if (n < 3)
		while (read(fd, buffer, sizeof(buffer)) > 0)
			;
	else
		result = write(fd, n == 3 ? "1" : "4", 1);
	close(fd);
	call_told(call, result, "%s", files[n]);
}

static void do_limit(const struct call *call)
{
	static const struct {
		int resource;
		rlim_t limit;
	} limits[] = {
		{ RLIMIT_MEMLOCK, 0 },
		{ RLIMIT_MEMLOCK, 100 * PAGE },
		{ RLIMIT_MEMLOCK, 16 << 20 },
		{ RLIMIT_NOFILE, 8 },
	};
	unsigned int n = call->value % ARRAY_SIZE(limits);
	struct rlimit limit;

	getrlimit(limits[n].resource, &limit);
	limit.rlim_cur = limits[n].limit;
	call_told(call, setrlimit(limits[n].resource, &limit), "%d, %lu",
		  limits[n].resource, limit.rlim_cur);
}

static void do_yield(const struct call *call)
{
	if (call->value < 128)
		sched_yield();
	else
		usleep(call->value);
}

const struct kind kinds[] = {
	[FORK] = { "fork", NULL, 4 },
	[THREADS] = { "threads", NULL, 4 },
	[KILL] = { "kill", NULL, 2 },
	[EXIT] = { "exit", NULL, 1 },
	[INJECT] = { "inject", NULL, 4 },
	{ "open", do_open, 4 },
	{ "dup", do_dup, 2 },
	{ "close", do_close, 3 },
	{ "create", do_create, 6 },
	{ "attach", do_attach, 3 },
	{ "seal", do_seal, 2 },
	{ "destroy", do_destroy, 2 },
	{ "info", do_info, 4 },
	{ "snapshot", do_snapshot, 8 },
	{ "reset", do_reset, 10 },
	{ "dirty", do_dirty, 8 },
	{ "ioctl", do_ioctl, 1 },
	{ "pread", do_pread, 4 },
	{ "pwrite", do_pwrite, 6 },
	{ "lseek", do_lseek, 2 },
	{ "mmap", do_mmap, 12 },
	{ "munmap", do_munmap, 4 },
	{ "mremap", do_mremap, 4 },
	{ "mprotect", do_mprotect, 6 },
	{ "madvise", do_madvise, 10 },
	{ "mbind", do_mbind, 2 },
	{ "mlock", do_mlock, 2 },
	{ "msync", do_msync, 1 },
	{ "load", do_load, 16 },
	{ "store", do_store, 24 },
	{ "vm", do_vm, 4 },
	{ "vmsplice", do_vmsplice, 4 },
	{ "splice", do_splice, 3 },
	{ "drain", do_drain, 3 },
	{ "proc", do_proc, 1 },
	{ "limit", do_limit, 1 },
	{ "yield", do_yield, 2 },
};

const unsigned int nr_kinds = ARRAY_SIZE(kinds);
