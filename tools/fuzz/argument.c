// SPDX-License-Identifier: GPL-2.0
/*
 * Arguments of calls: what their bytes mean, good or bad, with the descriptors and
 * mappings that there are.
 *
 * Nothing but the arena is ever mapped, unmapped or written to by address, so
 * that no sequence can harm the fuzzer itself.
 */
#include "argument.h"

#include <setjmp.h>
#include <signal.h>

atomic_int call_budget;
atomic_int fds[NR_FDS];
atomic_uint slot_pages[NR_SLOTS];

/* Where nodes of the index, page tables and huge pages begin and end */
static const unsigned long edges[] = {
	0, 1, 2, 63, 64, 65, 127, 128, 511, 512, 513, 1023, 1024, 2048, 4094, 4095,
};

static const unsigned long lengths[] = {
	1, 2, 3, 4, 16, 63, 64, 65, 100, 128, 511, 512, 513, 1024, 1100, 4096,
};

static const unsigned long far[] = {
	4096, 4094, 1UL << 18, (1UL << 18) - 2, 1UL << 24, (1UL << 24) - 1, 1UL << 27,
	1UL << 36,
};

static __thread sigjmp_buf fault;
static __thread volatile sig_atomic_t may_fault;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	if (may_fault)
		siglongjmp(fault, 1);
	/* It is our own: let it come again, and end us. */
	sigaction(signal, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
}

/**
 * argument_setup() - get ready for accesses that fail
 */
void argument_setup(void)
{
	struct sigaction action = {
		.sa_sigaction = on_fault,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* So many pages may be touched of @pages. */
unsigned long spend(unsigned long pages)
{
	int left = call_budget;

	pages = min(pages, left > 0 ? left : 0);
	call_budget -= pages;
	return pages;
}

int fd_of(const struct call *call)
{
	if (call->bad == BAD_FD)
		return call->value - 1;
	for (unsigned int i = 0; i < NR_FDS; i++) {
		int fd = fds[(call->fd + i) % NR_FDS];

		if (fd >= 0)
			return fd;
	}
	return -1;
}

void fd_keep(const struct call *call, int fd)
{
	if (fd >= 0)
		fds[call->fd % NR_FDS] = fd;
}

unsigned int slot_of(const struct call *call)
{
	for (unsigned int i = 0; i < NR_SLOTS; i++) {
		unsigned int slot = (call->slot + i) % NR_SLOTS;

		if (slot_pages[slot])
			return slot;
	}
	return call->slot % NR_SLOTS;
}

static unsigned long page_of(const struct call *call)
{
	return call->page < 128 ? call->page % 32 :
	       edges[call->page % ARRAY_SIZE(edges)];
}

/* Offsets may be far into a pool. */
unsigned long pool_page_of(const struct call *call)
{
	unsigned int n = call->slot >> 3;

	return page_of(call) + (n < 24 ? 0 : far[n - 24]);
}

unsigned long pages_of(const struct call *call, unsigned long whole)
{
	if (call->pages < 128)
		return 1 + call->pages % 4;
	return call->pages < 224 ? lengths[call->pages % ARRAY_SIZE(lengths)] :
	       whole;
}

/* A part of the arena */
char *area_of(const struct call *call, unsigned long *pages)
{
	unsigned int slot = slot_of(call);
	unsigned long page = page_of(call), mapped = slot_pages[slot];

	if (page >= mapped && call->how % 8)
		page = mapped ? page % mapped : 0;
	*pages = pages_of(call, mapped > page ? mapped - page : 1);
	page += slot * SLOT_PAGES;
	*pages = min(*pages, NR_SLOTS * SLOT_PAGES - page);
	return ARENA + page * PAGE;
}

/* The same for an ioctl, to which it may be anything. */
void range_of(const struct call *call, __u64 *addr, __u64 *len)
{
	unsigned long pages;

	*addr = (uintptr_t)area_of(call, &pages);
	*len = pages * PAGE;
	switch (call->bad) {
	case BAD_KERNEL:
		*addr = -2 * PAGE;
		break;
	case BAD_ADDRESS:
		*addr += call->value + 1;
		break;
	case BAD_NULL:
		*addr = 0;
		break;
	case BAD_LENGTH:
		*len += call->value + 1;
		break;
	case BAD_OVERFLOW:
		*len = -*addr;
		break;
	case BAD_ZERO:
		*len = 0;
		break;
	}
}

/* Accesses by address may raise a signal. */
static __attribute__((noinline)) bool copy_out(void *to, const void *from,
					       size_t size)
{
	if (sigsetjmp(fault, 0)) {
		may_fault = 0;
		return false;
	}
	may_fault = 1;
	memcpy(to, from, size);
	may_fault = 0;
	return true;
}

__attribute__((noinline)) bool touch(volatile uint64_t *word, bool write,
				     uint64_t value)
{
	if (sigsetjmp(fault, 0)) {
		may_fault = 0;
		return false;
	}
	may_fault = 1;
	if (write)
		*word = value;
	else
		value = *word;
	may_fault = 0;
	return true;
}

/* An ioctl's argument, if it is not to be bad */
void *argument(const struct call *call, void *arg, size_t size)
{
	unsigned long pages;
	char *there;

	if (call->bad < BAD_BYTE)
		((uint8_t *)arg)[(call->bad * 16U + call->value % 16) % size] ^=
			1U << call->how % 8;
	switch (call->bad) {
	case BAD_POINTER:
		return (void *)(call->value % 2 ? -PAGE : 0UL);
	case BAD_IN_VIEW:
	case BAD_ACROSS:
		there = area_of(call, &pages);
		if (call->bad == BAD_ACROSS)
			there += PAGE - size / 2;
		if (there + size <= ARENA + ARENA_SIZE)
			copy_out(there, arg, size);
		return there;
	default:
		return arg;
	}
}

off_t offset_of(const struct call *call)
{
	off_t offset = pool_page_of(call) * PAGE;

	return call->bad == BAD_OFFSET ? offset + 1 + call->value : offset;
}
