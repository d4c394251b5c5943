// SPDX-License-Identifier: GPL-2.0
/*
 * The command `cowpool`: `cowpool OBJECT COMMAND`. This file finds the object
 * on the command line; a file per object does the rest.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/cowpool.h>

#include "command.h"
#include "term.h"

static const struct {
	const char *name;
	int (*main)(const struct options *options, int argc, char **argv);
} objects[] = {
	{ "delta", delta_main },
	{ "demo", demo_main },
	{ "pool", pool_main },
};

static const char help[] =
"Usage: cowpool [-j] OBJECT [COMMAND] [ARGUMENTS]\n"
"       cowpool --help | --version\n"
"\n"
"Objects:\n"
"  delta  save how an image differs from a base, and apply that\n"
"  demo   watch copy-on-write happen on a real file, step by step\n"
"  pool   create, list, show, fill, seal and destroy pools\n"
"\n"
"Options:\n"
"  -j, --json     print JSON (delta, pool)\n"
"  -h, --help     this text; after an object, that object's\n"
"  -V, --version  the versions of this command and of the loaded module\n"
"\n"
"The module cowpool has to be loaded, but for deltas of files. See cowpool(1).\n";

static void complain(const char *format, va_list args)
{
	progress_end();
	fflush(stdout);
	fputs("cowpool: ", stderr);
	vfprintf(stderr, format, args);
}

int failed(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_FAILED;
}

/* What the user can do about an errno that came from the device. */
static const char *advice(int error)
{
	if (access(COWPOOL_DEVICE, F_OK))
		return "The module is not loaded: run `modprobe cowpool` as root,\n"
		       "  or `insmod module/cowpool.ko` in its source tree.";
	switch (error) {
	case ENXIO:
	case ENODEV:
		return "Nothing is behind the device: load the module with `modprobe cowpool`.";
	case EACCES:
		if (access(COWPOOL_DEVICE, R_OK | W_OK))
			return "The device is not open to this user: run as root,\n"
			       "  or give a group access to " COWPOOL_DEVICE " with a udev rule.";
		return "The pool's owner and mode forbid it: `cowpool pool list` tells them.";
	case EPERM:
		return "The pool is sealed, or belongs to somebody else.";
	case ETXTBSY:
		return "A pool cannot be written while it is mapped.";
	case ENOSPC:
		return "That is more than the pool can hold: create a larger one.";
	case EDQUOT:
		return "That is over a limit of the module, which are in\n"
		       "  /sys/module/cowpool/parameters/max_pool_mib and max_total_mib.";
	case ENOMEM:
		return "Pools count against RLIMIT_MEMLOCK (`ulimit -l`): raise it,\n"
		       "  or run as root.";
	case EEXIST:
		return "`cowpool pool destroy` would make the name free.";
	case ENOENT:
		return "`cowpool pool list` shows the pools that exist.";
	case EINVAL:
		return "A name has 1 to 31 letters, digits, '.', '_' or '-',\n"
		       "  and begins with neither '.' nor '-'.";
	default:
		return NULL;
	}
}

int failed_device(const char *format, ...)
{
	int error = errno;
	const char *todo = advice(error);
	va_list args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(error));
	if (todo)
		fprintf(stderr, "  %s\n", todo);
	return EXIT_FAILED;
}

int misused(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	fputs(" (see cowpool --help and cowpool OBJECT --help)\n", stderr);
	return EXIT_USAGE;
}

bool parse_number(const char *text, int base, uint64_t min, uint64_t max,
		  uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, base);
	return !errno && end != text && !*end && isxdigit((unsigned char)*text) &&
		*number >= min && *number <= max;
}

bool parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGTPE";
	unsigned int shift = 0;
	const char *unit;
	char *end;

	errno = 0;
	*bytes = strtoull(text, &end, 0);
	if (errno || end == text || !isdigit((unsigned char)*text))
		return false;
	if (*end) {
		unit = strchr(units, *end & ~0x20);
		if (!unit || !*unit)
			return false;
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
		if (!strcmp(end, "iB"))
			end += 2;
	}
	if (*end || *bytes > UINT64_MAX >> shift)
		return false;
	*bytes <<= shift;
	return true;
}

char *size_text(char *buf, uint64_t bytes)
{
	static const char *const units[] = {
		"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"
	};
	double value = (double)bytes;
	unsigned int unit = 0;

	while (value >= 1024) {
		value /= 1024;
		unit++;
	}
	if (unit)
		snprintf(buf, SIZE_TEXT, "%.1f %s", value, units[unit]);
	else
		snprintf(buf, SIZE_TEXT, "%llu bytes",
			 (unsigned long long)bytes);
	return buf;
}

static int print_version(void)
{
	static const char where[] = "/sys/module/cowpool/version";
	char version[64] = "";
	FILE *file = fopen(where, "r");

	if (file) {
		if (!fgets(version, sizeof(version), file))
			version[0] = 0;
		version[strcspn(version, "\n")] = 0;
		fclose(file);
	}
	printf("cowpool %s\n", COWPOOL_VERSION);
	if (version[0])
		printf("module %s\n", version);
	else if (access(COWPOOL_DEVICE, F_OK))
		printf("module not loaded\n");
	else
		printf("module loaded\n");
	return EXIT_FINE;
}

static int run(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 }
	};
	struct options options = { 0 };
	int option;

	setlocale(LC_CTYPE, "");
	/* "+": stop at the object, what follows is its own. */
	while ((option = getopt_long(argc, argv, "+hjV", long_options,
				     NULL)) != -1) {
		switch (option) {
		case 'h':
			fputs(help, stdout);
			return EXIT_FINE;
		case 'j':
			options.json = true;
			break;
		case 'V':
			return print_version();
		default:
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	argc -= optind;
	argv += optind;
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
		if (!strcmp(argv[0], objects[i].name)) {
			/* 0 makes getopt start afresh, with GNU's state too. */
			optind = 0;
			return objects[i].main(&options, argc, argv);
		}
	}
	return misused("there is no object '%s'", argv[0]);
}

int main(int argc, char **argv)
{
	int status = run(argc, argv);
	bool lost = ferror(stdout);

	/* What is told is what was asked for: it counts only if it gets there. */
	errno = EIO;
	if ((fflush(stdout) || lost) && status == EXIT_FINE)
		return failed("cannot write: %s", strerror(errno));
	return status;
}
