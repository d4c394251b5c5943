/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Marks in a program between which instructions are counted: instructions that
 * do nothing, and that no compiler makes.
 */
#ifndef COWPOOL_MARK_H
#define COWPOOL_MARK_H

static inline void mark_start(void)
{
	asm volatile("xchg %r15, %r15");
}

static inline void mark_stop(void)
{
	asm volatile("xchg %r14, %r14");
}

/* Their last bytes */
#define MARK_START_REGISTERS	0xff
#define MARK_STOP_REGISTERS	0xf6

#endif
