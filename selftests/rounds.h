/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How long tests race and how many they are, for those with the harness and without.
 */
#ifndef COWPOOL_TEST_ROUNDS_H
#define COWPOOL_TEST_ROUNDS_H

#include <kselftest.h>
#include <stdlib.h>

/* $COWPOOL_ROUNDS, which may be a fraction */
static inline double rounds(void)
{
	const char *times = getenv("COWPOOL_ROUNDS");

	return times && atof(times) > 0 ? atof(times) : 1;
}

/* How many to have of what is usually there @many times: fewer for fewer rounds. */
static inline size_t how_many(size_t many)
{
	return rounds() < 1 ? many * rounds() : many;
}

/* How often to do what is usually done @few times: as many times that as rounds. */
static inline unsigned int how_often(unsigned int few)
{
	few = few * rounds() < 1 ? 1 : few * rounds();
	ksft_print_msg("%u repetitions\n", few);
	return few;
}

#endif /* COWPOOL_TEST_ROUNDS_H */
