// SPDX-License-Identifier: GPL-2.0
/*
 * Cases of one process and one view: what reads, writes and munmap() cost.
 */
#include "bench.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void prepare(struct job *job)
{
	image_make(job, MIB(job->param));
}

/* At such an address a page table's entries are all that maps. */
static void prepare_4k(struct job *job)
{
	prepare(job);
	job->shift = PAGE;
}

static double first_write(struct job *job)
{
	char *mem = image_map(job);
	uint64_t time;

	time = clock_start();
	write_pages(job, mem, 1);
	time = clock_stop(time);
	read_all(job, mem);
	image_unmap(job, mem);
	return (double)time / job->pages;
}

static double write_after_read(struct job *job)
{
	char *mem = image_map(job);
	uint64_t time;

	read_all(job, mem);
	time = clock_start();
	write_pages(job, mem, 1);
	time = clock_stop(time);
	read_all(job, mem);
	image_unmap(job, mem);
	return (double)time / job->pages;
}

static double read_seq(struct job *job)
{
	char *mem = image_map(job);
	uint64_t time;

	time = clock_start();
	read_all(job, mem);
	time = clock_stop(time);
	image_unmap(job, mem);
	return (double)time / job->pages;
}

static void prepare_random(struct job *job)
{
	prepare(job);
	image_shuffle(job);
}

static double read_random(struct job *job)
{
	char *mem = image_map(job);
	uint64_t time, sum = 0;
	size_t i;

	time = clock_start();
	for (i = 0; i < job->pages; i++)
		sum += *(volatile uint64_t *)(mem + job->order[i] * PAGE);
	time = clock_stop(time);
	expect(sum == job->pages * (job->pages - 1) / 2, "the image's content");
	image_unmap(job, mem);
	return (double)time / job->pages;
}

static double read_sparse_dirty(struct job *job)
{
	char *mem = image_map(job);
	uint64_t time;

	write_pages(job, mem, MIB(2) / PAGE);
	time = clock_start();
	read_all(job, mem);
	time = clock_stop(time);
	image_unmap(job, mem);
	return (double)time / job->pages;
}

static void prepare_rewrite(struct job *job)
{
	prepare(job);
	job->mem = image_map(job);
	write_pages(job, job->mem, 1);
}

static double rewrite(struct job *job)
{
	uint64_t time = clock_start();

	write_pages(job, job->mem, 1);
	time = clock_stop(time);
	return (double)time / job->pages;
}

static double munmap_dirty(struct job *job)
{
	char *mem = image_map(job);
	uint64_t time;

	write_pages(job, mem, 1);
	time = clock_start();
	image_unmap(job, mem);
	time = clock_stop(time);
	return (double)time / job->pages;
}

/* As copy_page() of the kernel, and as many instructions. */
static void copy_page(char *to, const char *from)
{
	size_t words = PAGE / 8;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
}

/*
 * What copy-on-write cannot do without: a fault on fresh memory, and a copy of
 * a page.
 */
static void prepare_floor(struct job *job)
{
	prepare(job);
	job->mem = image_map(job);
	read_all(job, job->mem);
}

static double floor_once(struct job *job)
{
	size_t size = job->pages * PAGE, done;
	uint64_t time;
	char *fresh;

	fresh = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(fresh != MAP_FAILED, "mmap");
	expect(!madvise(fresh, size, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");
	time = clock_start();
	for (done = 0; done < size; done += PAGE)
		copy_page(fresh + done, job->mem + done);
	time = clock_stop(time);
	read_all(job, fresh);
	expect(!munmap(fresh, size), "munmap");
	return (double)time / job->pages;
}

/*
 * Copy-on-write in user space: pages are write-protected, and a thread hears
 * of each write, saves the old content and lets the write go on.
 */
struct protector {
	int uffd;
	char *saved;
	char *mem;
};

static void *protector_thread(void *arg)
{
	struct protector *protector = arg;
	struct uffd_msg msg;

	while (read(protector->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		char *page = (char *)(msg.arg.pagefault.address & ~(PAGE - 1));
		struct uffdio_writeprotect allow = {
			.range = { (uintptr_t)page, PAGE },
		};

		copy_page(protector->saved + (page - protector->mem), page);
		if (ioctl(protector->uffd, UFFDIO_WRITEPROTECT, &allow))
			break;
	}
	fail("userfaultfd");
}

static void prepare_uffd(struct job *job)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct protector *protector = malloc(sizeof(*protector));
	struct uffdio_register range = {
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	size_t size = MIB(job->param);
	pthread_t thread;

	expect(protector, "malloc");
	image_make(job, size);
	job->mem = image_map(job);
	protector->mem = job->mem;
	protector->saved = mmap(NULL, size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(protector->saved != MAP_FAILED, "mmap");
	madvise(protector->saved, size, MADV_NOHUGEPAGE);
	protector->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	expect(protector->uffd >= 0, "userfaultfd");
	expect(!ioctl(protector->uffd, UFFDIO_API, &api), "UFFDIO_API");
	range.range.start = (uintptr_t)job->mem;
	range.range.len = size;
	expect(!ioctl(protector->uffd, UFFDIO_REGISTER, &range),
	       "UFFDIO_REGISTER");
	expect(!pthread_create(&thread, NULL, protector_thread, protector),
	       "pthread_create");
	job->state = protector;
}

static double uffd_wp(struct job *job)
{
	struct protector *protector = job->state;
	size_t size = job->pages * PAGE;
	struct uffdio_writeprotect protect = {
		.range = { (uintptr_t)job->mem, size },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	uint64_t time;

	expect(!madvise(protector->saved, size, MADV_DONTNEED),
	       "MADV_DONTNEED");
	expect(!ioctl(protector->uffd, UFFDIO_WRITEPROTECT, &protect),
	       "UFFDIO_WRITEPROTECT");
	time = clock_start();
	write_pages(job, job->mem, 1);
	time = clock_stop(time);
	read_all(job, protector->saved);
	return (double)time / job->pages;
}

#define SIZE	"%u MiB"
/* The memfd has huge pages, too, for which an administrator must have asked. */
#define HUGE	"%u MiB, huge memfd"
#define MAPPED(prepare, fn)						\
	.unit = PER_PAGE,						\
	.ours = { "cowpool", VIEW, prepare, fn },			\
	.theirs = { "memfd MAP_PRIVATE", MEMFD, prepare, fn }
#define SIMPLE(fn)	MAPPED(prepare, fn)

static const unsigned int usual[] = { 64, 0 };
static const unsigned int sizes[] = { 64, 4, 16, 0 };

const struct bench_case touch_cases[] = {
	{ "first_write", SIZE, sizes, SIMPLE(first_write) },
	{ "first_write", HUGE, usual, SIMPLE(first_write), .shmem = "always" },
	{ "write_after_read", SIZE, sizes, SIMPLE(write_after_read) },
	{ "write_after_read", HUGE, usual, SIMPLE(write_after_read), .shmem = "always" },
	{ "write_after_read_4k", SIZE, usual, MAPPED(prepare_4k, write_after_read) },
	{ "read_seq", SIZE, sizes, SIMPLE(read_seq) },
	{ "read_seq", HUGE, usual, SIMPLE(read_seq), .shmem = "always" },
	{ "read_random", SIZE, usual, MAPPED(prepare_random, read_random) },
	{ "read_4k", SIZE, usual, SIMPLE(read_seq), .thp = "never" },
	{
		"read_4k", "%u MiB, 4 KiB entries", usual,
		MAPPED(prepare_4k, read_seq), .thp = "never"
	},
	{ "read_sparse_dirty", SIZE, usual, SIMPLE(read_sparse_dirty) },
	{ "rewrite", SIZE, usual, MAPPED(prepare_rewrite, rewrite) },
	{ "munmap_dirty", SIZE, sizes, SIMPLE(munmap_dirty) },
	{
		"floor", SIZE, usual, PER_PAGE,
		.ours = { "cowpool", VIEW, prepare, first_write },
		.theirs = {
			"anonymous memory and a page copy", MEMFD,
			prepare_floor, floor_once
		},
	},
	{
		"uffd_wp", SIZE, usual, PER_PAGE,
		.ours = { "cowpool", VIEW, prepare, first_write },
		.theirs = {
			"userfaultfd write-protect", ANON,
			prepare_uffd, uffd_wp
		},
	},
	{ NULL }
};
