/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the bytes of a call mean, for the calls.
 */
#ifndef FUZZ_ARGUMENT_H
#define FUZZ_ARGUMENT_H

#include "fuzz.h"

#define NR_FDS		8

/* What can be bad */
enum {
	BAD_BYTE = 16,		/* below: a byte of the argument */
	BAD_POINTER = BAD_BYTE,
	BAD_IN_VIEW,		/* the argument is in what may be a view, */
	BAD_ACROSS,		/* or across the end of a page there */
	BAD_KERNEL,
	BAD_ADDRESS,
	BAD_NULL,
	BAD_LENGTH,
	BAD_OVERFLOW,
	BAD_ZERO,
	BAD_FD,
	BAD_OFFSET,
};

extern atomic_int fds[NR_FDS];
extern atomic_uint slot_pages[NR_SLOTS];	/* 0: nothing is mapped there */

static inline unsigned long min(unsigned long a, unsigned long b)
{
	return a < b ? a : b;
}

unsigned long spend(unsigned long pages);
int fd_of(const struct call *call);
void fd_keep(const struct call *call, int fd);
unsigned int slot_of(const struct call *call);
unsigned long pool_page_of(const struct call *call);
unsigned long pages_of(const struct call *call, unsigned long whole);
off_t offset_of(const struct call *call);
char *area_of(const struct call *call, unsigned long *pages);
void range_of(const struct call *call, __u64 *addr, __u64 *len);
bool touch(volatile uint64_t *word, bool write, uint64_t value);
void *argument(const struct call *call, void *arg, size_t size);

#endif /* FUZZ_ARGUMENT_H */
