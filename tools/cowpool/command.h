/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the objects of the command `cowpool` share: how an object is entered,
 * how a failure is told, and numbers as people write them.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

enum exit_status {
	EXIT_FINE = 0,
	EXIT_FAILED = 1,	/* something could not be done, or did not hold */
	EXIT_USAGE = 2,		/* the command line was wrong */
};

/* What stood before the object on the command line. */
struct options {
	bool json;
};

/*
 * An object's entry, argv[0] being the object's name. Returns an
 * enum exit_status.
 */
int delta_main(const struct options *options, int argc, char **argv);
int demo_main(const struct options *options, int argc, char **argv);
int pool_main(const struct options *options, int argc, char **argv);

/*
 * Each of these says on stderr what is wrong and returns what to exit with.
 * failed_device() is for whatever went through /dev/cowpool: it knows from
 * errno what the user can do about it and says that too.
 */
int failed(const char *format, ...) __attribute__((format(printf, 1, 2)));
int failed_device(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
int misused(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "4096", "16M", "1G" (powers of 1024) to bytes; false if it is no size. */
bool parse_size(const char *text, uint64_t *bytes);

/* A decimal, octal (0...) or hexadecimal number from @min to @max. */
bool parse_number(const char *text, int base, uint64_t min, uint64_t max,
		  uint64_t *number);

/* "7.8 MiB", into a buffer of SIZE_TEXT that is returned. */
#define SIZE_TEXT	32
char *size_text(char *buf, uint64_t bytes);

#endif /* COMMAND_H */
