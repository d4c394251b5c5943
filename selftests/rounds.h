/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How long tests race, for those with the harness and without.
 */
#ifndef COWPOOL_TEST_ROUNDS_H
#define COWPOOL_TEST_ROUNDS_H

#include <kselftest.h>
#include <stdlib.h>

/*
 * How often to do what is usually done @few times: $COWPOOL_ROUNDS times that, which
 * may be a fraction.
 */
static inline unsigned int how_often(unsigned int few)
{
	const char *times = getenv("COWPOOL_ROUNDS");

	if (times && atof(times) > 0)
		few = few * atof(times) < 1 ? 1 : few * atof(times);
	ksft_print_msg("%u repetitions\n", few);
	return few;
}

#endif /* COWPOOL_TEST_ROUNDS_H */
