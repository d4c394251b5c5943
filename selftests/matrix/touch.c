// SPDX-License-Identifier: GPL-2.0
/*
 * Ways to touch. All write @tag to the head of both pages.
 */
#include "matrix.h"

#include <sys/prctl.h>
#include <sys/ptrace.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

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
void vector_set(uint64_t *data, char *view, uint64_t tag, struct iovec *to)
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

void helper_start(void)
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

int source_set(uint64_t tag)
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

	/* The rest stays to the end of the scene. */
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

const struct touch touches[TOUCHES] = {
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
