/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How long tests race and how much they try, for those with the harness and without.
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

/*
 * Of many that are alike, be they cases or views, one in so many will do: all are there,
 * unless there are fewer rounds.
 */
static inline size_t one_in(void)
{
	const size_t most = 20;

	if (rounds() >= 1)
		return 1;
	return rounds() * most < 1 ? most : 1 / rounds();
}

/* How often to do what is usually done @few times: as many times that as rounds. */
static inline unsigned int how_often(unsigned int few)
{
	few = few * rounds() < 1 ? 1 : few * rounds();
	ksft_print_msg("%u repetitions\n", few);
	return few;
}

#endif /* COWPOOL_TEST_ROUNDS_H */
