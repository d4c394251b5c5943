// SPDX-License-Identifier: GPL-2.0
/*
 * `cowpool pool`: pools in daily use. Each command is a few calls of
 * libcowpool; the list comes from debugfs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/cowpool.h"
#include "command.h"
#include "debugfs.h"

static const char help[] =
"Usage: cowpool pool create NAME SIZE [-m MODE]\n"
"       cowpool pool list\n"
"       cowpool pool show [NAME]\n"
"       cowpool pool fill NAME [FILE]\n"
"       cowpool pool seal NAME\n"
"       cowpool pool destroy NAME\n"
"\n"
"  create   make a named pool of SIZE bytes (16M, 1G ...), rounded up to pages\n"
"  list     every pool, from " DEBUGFS_DIR " (root)\n"
"  show     one pool in full (the default pool if there is no NAME)\n"
"  fill     write FILE, or standard input, to the pool from its start\n"
"  seal     forbid writing to the pool for ever\n"
"  destroy  free the name; the memory goes with the last user\n"
"\n"
"Options:\n"
"  -m, --mode MODE  who may use the pool, in octal as chmod has it (0600)\n"
"  -j, --json       print JSON\n"
"  -h, --help       this text\n";

/* What may stand on the command line of any of the commands. */
struct arguments {
	bool json;
	unsigned int mode;
	int count;
	char **words;		/* what follows the command's name */
};

static const char *state_word(const struct cowpool_info *info)
{
	if (info->state & COWPOOL_STATE_SNAPSHOT)
		return "snapshot";
	if (info->state & COWPOOL_STATE_SEALED)
		return "sealed";
	if (info->state & COWPOOL_STATE_MAPPED)
		return "mapped";
	return "open";
}

static void add_number(struct json_object *object, const char *key,
		       uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static struct json_object *counters_json(const struct cowpool_counters *c)
{
	struct json_object *object = json_object_new_object();

	add_number(object, "read_faults", c->read_faults);
	add_number(object, "copies_first_touch", c->copies_first_touch);
	add_number(object, "copies_after_read", c->copies_after_read);
	add_number(object, "copies_pinned", c->copies_pinned);
	add_number(object, "copies_reset", c->copies_reset);
	add_number(object, "reuses", c->reuses);
	add_number(object, "forks", c->forks);
	add_number(object, "snapshots", c->snapshots);
	add_number(object, "resets", c->resets);
	add_number(object, "private_pages", c->private_pages);
	return object;
}

static struct json_object *pool_json(const struct cowpool_info *info,
				     const char *state)
{
	struct json_object *object = json_object_new_object();
	char mode[8];

	snprintf(mode, sizeof(mode), "%04o", info->mode & 0777);
	add_number(object, "id", info->pool_id);
	json_object_object_add(object, "name", info->name[0] ?
			       json_object_new_string(info->name) : NULL);
	add_number(object, "size", info->size);
	add_number(object, "page_size", info->page_size);
	add_number(object, "filled_pages", info->filled_pages);
	json_object_object_add(object, "mode", json_object_new_string(mode));
	add_number(object, "uid", info->uid);
	add_number(object, "gid", info->gid);
	json_object_object_add(object, "state", json_object_new_string(state));
	add_number(object, "views", info->views);
	json_object_object_add(object, "counters",
			       counters_json(&info->counters));
	return object;
}

static int print_json(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_SPACED));
	json_object_put(object);
	return EXIT_FINE;
}

/* Opens the pool of the first word, or says why not. */
static int open_pool(const struct arguments *args)
{
	const char *name = args->words[0];
	int fd = cowpool_open(name);

	if (fd < 0)
		failed_device("cannot open pool '%s'",
			      name ? name : COWPOOL_DEFAULT_NAME);
	return fd;
}

static int show(int fd, bool json)
{
	struct cowpool_info info;
	char size[SIZE_TEXT], filled[SIZE_TEXT];
	const struct cowpool_counters *c = &info.counters;

	if (cowpool_info(fd, NULL, &info))
		return failed_device("cannot get the pool's description");
	if (json)
		return print_json(pool_json(&info, state_word(&info)));
	printf("name                %s\n", info.name);
	printf("id                  %llu\n", info.pool_id);
	printf("size                %llu (%s)\n", info.size,
	       size_text(size, info.size));
	printf("filled              %llu pages (%s)\n", info.filled_pages,
	       size_text(filled, info.filled_pages * info.page_size));
	printf("owner               %u:%u, mode %04o\n", info.uid, info.gid,
	       info.mode);
	printf("state               %s\n", state_word(&info));
	printf("views               %llu\n", info.views);
	printf("private pages       %llu (%s)\n", c->private_pages,
	       size_text(size, c->private_pages * info.page_size));
	printf("read faults         %llu\n", c->read_faults);
	printf("copies first touch  %llu\n", c->copies_first_touch);
	printf("copies after read   %llu\n", c->copies_after_read);
	printf("copies pinned       %llu\n", c->copies_pinned);
	printf("copies reset        %llu\n", c->copies_reset);
	printf("reuses              %llu\n", c->reuses);
	printf("forks               %llu\n", c->forks);
	printf("snapshots           %llu\n", c->snapshots);
	printf("resets              %llu\n", c->resets);
	return EXIT_FINE;
}

static int pool_create(const struct arguments *args)
{
	int fd, status = EXIT_FINE;
	uint64_t size;

	if (!parse_size(args->words[1], &size) || !size)
		return misused("'%s' is no size", args->words[1]);
	fd = cowpool_create(args->words[0], size, args->mode);
	if (fd < 0)
		return failed_device("cannot create pool '%s' of %llu bytes",
				     args->words[0], (unsigned long long)size);
	if (args->json)
		status = show(fd, true);
	close(fd);
	return status;
}

static int pool_show(const struct arguments *args)
{
	int fd = open_pool(args);
	int status;

	if (fd < 0)
		return EXIT_FAILED;
	status = show(fd, args->json);
	close(fd);
	return status;
}

static struct cowpool_info row_info(const struct debugfs_row *row)
{
	struct cowpool_info info = {
		.pool_id = row->id,
		.page_size = (__u32)sysconf(_SC_PAGESIZE),
		.filled_pages = row->filled_pages,
		.views = row->views,
		.mode = (__u32)row->mode,
		.uid = (__u32)row->uid,
		.gid = (__u32)row->gid,
		.counters = row->counters,
	};

	info.size = row->size_pages * info.page_size;
	if (strcmp(row->name, "-"))
		memcpy(info.name, row->name, sizeof(info.name));
	return info;
}

static void print_list(const struct debugfs_row *rows, size_t count)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	char size[SIZE_TEXT], filled[SIZE_TEXT], private[SIZE_TEXT];

	printf("%4s %-16s %12s %12s %5s %11s %-8s %6s %12s\n", "ID", "NAME",
	       "SIZE", "FILLED", "MODE", "OWNER", "STATE", "VIEWS", "PRIVATE");
	for (const struct debugfs_row *row = rows; row < rows + count; row++) {
		char owner[32];

		snprintf(owner, sizeof(owner), "%u:%u", (unsigned int)row->uid,
			 (unsigned int)row->gid);
		printf("%4llu %-16s %12s %12s  %04o %11s %-8s %6llu %12s\n",
		       (unsigned long long)row->id, row->name,
		       size_text(size, row->size_pages * page_size),
		       size_text(filled, row->filled_pages * page_size),
		       (unsigned int)row->mode, owner, row->state,
		       (unsigned long long)row->views,
		       size_text(private,
				 row->counters.private_pages * page_size));
	}
}

static int pool_list(const struct arguments *args)
{
	struct json_object *list;
	struct debugfs_row *rows;
	size_t count;

	rows = debugfs_rows("pools", &count);
	if (!rows) {
		int error = errno;

		if (access(COWPOOL_DEVICE, F_OK)) {
			errno = ENOENT;
			return failed_device("cannot list pools");
		}
		return failed("cannot list pools: " DEBUGFS_DIR "/pools: %s\n"
			      "  Run as root, with debugfs mounted (`mount -t debugfs none /sys/kernel/debug`).",
			      strerror(error));
	}
	if (args->json) {
		list = json_object_new_array();
		for (size_t i = 0; i < count; i++) {
			struct cowpool_info info = row_info(&rows[i]);

			json_object_array_add(list,
					      pool_json(&info, rows[i].state));
		}
		print_json(list);
	} else {
		print_list(rows, count);
	}
	free(rows);
	return EXIT_FINE;
}

static int pool_fill(const struct arguments *args)
{
	const char *from = args->count > 1 ? args->words[1] : "-";
	int src = STDIN_FILENO;
	int fd, status = EXIT_FINE;
	int64_t filled;

	if (strcmp(from, "-")) {
		src = open(from, O_RDONLY | O_CLOEXEC);
		if (src < 0)
			return failed("cannot open '%s': %s", from,
				      strerror(errno));
	}
	fd = open_pool(args);
	if (fd < 0)
		return EXIT_FAILED;
	filled = cowpool_fill_from(fd, src);
	if (filled < 0)
		status = failed_device("cannot fill pool '%s' from '%s'",
				       args->words[0], from);
	else if (args->json)
		status = show(fd, true);
	close(fd);
	return status;
}

static int pool_seal(const struct arguments *args)
{
	int fd = open_pool(args);
	int status = EXIT_FINE;

	if (fd < 0)
		return EXIT_FAILED;
	if (cowpool_seal(fd))
		status = failed_device("cannot seal pool '%s'", args->words[0]);
	else if (args->json)
		status = show(fd, true);
	close(fd);
	return status;
}

static int pool_destroy(const struct arguments *args)
{
	int fd = open_pool(args);
	int status = EXIT_FINE;

	if (fd < 0)
		return EXIT_FAILED;
	if (cowpool_destroy(fd))
		status = failed_device("cannot destroy pool '%s'",
				       args->words[0]);
	close(fd);
	return status;
}

static const struct {
	const char *name;
	int (*run)(const struct arguments *args);
	int min, max;		/* how many words it takes */
} commands[] = {
	{ "create", pool_create, 2, 2 },
	{ "list", pool_list, 0, 0 },
	{ "show", pool_show, 0, 1 },
	{ "fill", pool_fill, 1, 2 },
	{ "seal", pool_seal, 1, 1 },
	{ "destroy", pool_destroy, 1, 1 },
};

int pool_main(const struct options *options, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ "mode", required_argument, NULL, 'm' },
		{ 0 }
	};
	struct arguments args = { .json = options->json, .mode = 0600 };
	uint64_t mode;
	int option;

	while ((option = getopt_long(argc, argv, "hjm:", long_options,
				     NULL)) != -1) {
		switch (option) {
		case 'h':
			fputs(help, stdout);
			return EXIT_FINE;
		case 'j':
			args.json = true;
			break;
		case 'm':
			if (!parse_number(optarg, 8, 0, 0777, &mode))
				return misused("'%s' is no mode", optarg);
			args.mode = (unsigned int)mode;
			break;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	args.words = argv + optind + 1;
	args.count = argc - optind - 1;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[optind], commands[i].name))
			continue;
		if (args.count < commands[i].min || args.count > commands[i].max)
			return misused("'pool %s' takes other arguments",
				       commands[i].name);
		return commands[i].run(&args);
	}
	return misused("there is no command 'pool %s'", argv[optind]);
}
