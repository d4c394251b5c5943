// SPDX-License-Identifier: MIT
/*
 * "make check-cxx": cowpool.h serves C++ of any age, and what it declares can
 * be linked from there.
 */
#include "cowpool.h"

#include <cerrno>

typedef void (*function)();

static const function functions[] = {
	(function)cowpool_alloc, (function)cowpool_create,
	(function)cowpool_delta_apply, (function)cowpool_delta_save,
	(function)cowpool_destroy, (function)cowpool_dirty,
	(function)cowpool_dup, (function)cowpool_fill,
	(function)cowpool_fill_from, (function)cowpool_free,
	(function)cowpool_info, (function)cowpool_map,
	(function)cowpool_open, (function)cowpool_reset,
	(function)cowpool_seal, (function)cowpool_snapshot,
	(function)cowpool_stats,
};

/* How many there are, so that none is left out of the list above. */
static const unsigned int expected = EXPORTED;

/* The UAPI has structs of the same names: both can be had. */
int main()
{
	struct cowpool_info info;

	if (sizeof(functions) / sizeof(functions[0]) != expected)
		return 1;
	errno = 0;
	if (cowpool_info(-1, 0, &info) != -1 || errno != EBADF)
		return 1;
	return cowpool_free(0);
}
