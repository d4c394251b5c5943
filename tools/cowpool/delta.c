// SPDX-License-Identifier: GPL-2.0
/*
 * `cowpool delta`: how an image differs from a base, as a file. Base and image
 * are files or pools; the format is libcowpool's.
 *
 * Whatever fails leaves no half-written file behind: output goes to a
 * temporary file, which becomes the one asked for when all is well. Who is told
 * to end removes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <nettle/sha2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/cowpool.h"
#include "../lib/delta.h"
#include "command.h"

#define CHUNK		((size_t)1 << 20)
#define POOL_PREFIX	"pool:"

static const char help[] =
"Usage: cowpool delta save BASE IMAGE DELTA\n"
"       cowpool delta apply BASE DELTA OUT\n"
"       cowpool delta show DELTA\n"
"\n"
"  save   write to the file DELTA the pages in which IMAGE differs from BASE\n"
"  apply  write BASE with these pages to OUT\n"
"  show   check a delta file and tell what it holds\n"
"\n"
"BASE, IMAGE and OUT are files, or pools as pool:NAME.\n"
"\n"
"Options:\n"
"  -j, --json  print JSON (save, show)\n"
"  -h, --help  this text\n";

static char chunk[CHUNK], other_chunk[CHUNK];

/* A file or a pool to be read. */
struct input {
	const char *name;
	int fd;
	uint64_t size;
};

static const char *pool_name(const char *word)
{
	size_t length = strlen(POOL_PREFIX);

	return strncmp(word, POOL_PREFIX, length) ? NULL : word + length;
}

/* Opens a file or a pool, or says why not. */
static bool input_open(struct input *input, const char *name)
{
	const char *pool = pool_name(name);
	off_t size;

	input->name = name;
	input->fd = pool ? cowpool_open(pool) : open(name, O_RDONLY | O_CLOEXEC);
	if (input->fd < 0) {
		if (pool)
			failed_device("cannot open '%s'", name);
		else
			failed("cannot open '%s': %s", name, strerror(errno));
		return false;
	}
	size = lseek(input->fd, 0, SEEK_END);
	if (size < 0) {
		failed("cannot use '%s': %s", name, strerror(errno));
		close(input->fd);
		return false;
	}
	input->size = (uint64_t)size;
	return true;
}

static bool input_read(const struct input *input, void *buf, size_t length,
		       uint64_t offset)
{
	if (!cowpool_pread_all(input->fd, buf, length, offset))
		return true;
	failed("cannot read '%s': %s", input->name, strerror(errno));
	return false;
}

/* Where something is written to. */
struct output {
	const char *name;
	char *target;		/* where that leads to, if it is a file */
	char *temporary;	/* to be renamed to it, if not NULL */
	int fd;
};

/* Gives a file the permissions of the one that it will replace, or of a new one. */
static void set_mode(int fd, const struct stat *replaced)
{
	mode_t mode, mask;

	if (replaced) {
		mode = replaced->st_mode & 0777;
		/* What its group may do is not what another one may. */
		if (fchown(fd, replaced->st_uid, replaced->st_gid) &&
		    fchown(fd, -1, replaced->st_gid))
			mode &= ~070;
	} else {
		mask = umask(0);
		umask(mask);
		mode = 0666 & ~mask;
	}
	fchmod(fd, mode);
}

/* What temporary_open() has made and output_close() has not seen to, or NULL */
static char *volatile unfinished;

static void remove_unfinished(int sig)
{
	if (unfinished)
		unlink(unfinished);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void remove_when_ended(void)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGTERM };
	struct sigaction old;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		/* nohup(1) has this one ignored. */
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			signal(signals[i], remove_unfinished);
	}
}

/* A file beside the one that it will replace, so that there always is a whole one. */
static int temporary_open(struct output *output, const struct stat *replaced)
{
	int fd;

	output->target = replaced ? realpath(output->name, NULL) : strdup(output->name);
	if (!output->target)
		return -1;
	if (asprintf(&output->temporary, "%s.XXXXXX", output->target) < 0) {
		output->temporary = NULL;
		return -1;
	}
	remove_when_ended();
	fd = mkostemp(output->temporary, O_CLOEXEC);
	if (fd < 0)
		return -1;
	unfinished = output->temporary;
	set_mode(fd, replaced);
	return fd;
}

static bool output_open(struct output *output, const char *name)
{
	const char *pool = pool_name(name);
	struct stat st;
	bool exists = !pool && !stat(name, &st);

	if (!pool && !exists && errno == ENOENT && !lstat(name, &st)) {
		failed("cannot create '%s': it is a link that leads nowhere", name);
		return false;
	}
	output->name = name;
	output->target = NULL;
	output->temporary = NULL;
	if (pool) {
		output->fd = cowpool_open(pool);
	} else if (exists && !S_ISREG(st.st_mode)) {
		/* A device or a pipe is written to, not replaced. */
		output->fd = open(name, O_WRONLY | O_CLOEXEC);
	} else {
		output->fd = temporary_open(output, exists ? &st : NULL);
	}
	if (output->fd >= 0)
		return true;
	if (pool)
		failed_device("cannot open '%s'", name);
	else
		failed("cannot create '%s': %s", name, strerror(errno));
	free(output->target);
	free(output->temporary);
	return false;
}

static bool output_write(const struct output *output, const void *buf,
			 size_t length)
{
	if (!cowpool_write_all(output->fd, buf, length))
		return true;
	if (pool_name(output->name))
		failed_device("cannot write to '%s'", output->name);
	else
		failed("cannot write to '%s': %s", output->name,
		       strerror(errno));
	return false;
}

/* Ends an output: keeps it if it is @good, and returns what to exit with. */
static int output_close(struct output *output, bool good)
{
	int err = 0;

	/*
	 * What is renamed must be there even if the machine goes down after that, and a
	 * disk tells now what has gone wrong. A pool or a pipe has nothing to tell.
	 */
	if (good && fsync(output->fd) && errno != EINVAL && errno != EROFS)
		err = errno;
	if (close(output->fd) && !err)
		err = errno;
	if (err && good) {
		failed("cannot write to '%s': %s", output->name, strerror(err));
		good = false;
	}
	if (good && output->temporary &&
	    rename(output->temporary, output->target)) {
		failed("cannot create '%s': %s", output->name, strerror(errno));
		good = false;
	}
	if (!good && output->temporary)
		unlink(output->temporary);
	unfinished = NULL;
	free(output->target);
	free(output->temporary);
	return good ? EXIT_FINE : EXIT_FAILED;
}

static bool base_is_known(const struct cowpool_delta *delta)
{
	static const uint8_t unknown[DELTA_DIGEST];

	return memcmp(delta->base, unknown, sizeof(unknown));
}

static char *base_text(char text[2 * DELTA_DIGEST + 1],
		       const struct cowpool_delta *delta)
{
	for (size_t i = 0; i < DELTA_DIGEST; i++)
		sprintf(text + 2 * i, "%02x", delta->base[i]);
	return text;
}

static void show_json(const struct cowpool_delta *delta)
{
	struct json_object *object = json_object_new_object();
	struct json_object *ranges = json_object_new_array();
	char base[2 * DELTA_DIGEST + 1];

	for (uint64_t i = 0; i < delta->nr_ranges; i++) {
		struct json_object *range = json_object_new_object();

		json_object_object_add(range, "start",
				       json_object_new_uint64(delta->ranges[i].start));
		json_object_object_add(range, "end",
				       json_object_new_uint64(delta->ranges[i].end));
		json_object_array_add(ranges, range);
	}
	json_object_object_add(object, "version",
			       json_object_new_uint64(DELTA_VERSION));
	json_object_object_add(object, "page_size",
			       json_object_new_uint64(delta->page_size));
	json_object_object_add(object, "size",
			       json_object_new_uint64(delta->size));
	json_object_object_add(object, "data_size",
			       json_object_new_uint64(delta->data_size));
	json_object_object_add(object, "base_sha256", base_is_known(delta) ?
			       json_object_new_string(base_text(base, delta)) :
			       NULL);
	json_object_object_add(object, "ranges", ranges);
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_SPACED));
	json_object_put(object);
}

static void show_text(const struct cowpool_delta *delta)
{
	char size[SIZE_TEXT], base[2 * DELTA_DIGEST + 1];

	printf("size       %" PRIu64 " (%s)\n", delta->size,
	       size_text(size, delta->size));
	printf("differs in %" PRIu64 " (%s)\n", delta->data_size,
	       size_text(size, delta->data_size));
	printf("page size  %" PRIu32 "\n", delta->page_size);
	printf("base       %s\n", base_is_known(delta) ?
	       base_text(base, delta) : "unknown");
	printf("ranges     %" PRIu64 "\n", delta->nr_ranges);
	for (uint64_t i = 0; i < delta->nr_ranges; i++)
		printf("  0x%012llx 0x%012llx\n", delta->ranges[i].start,
		       delta->ranges[i].end);
}

/* Finds the pages that differ, and the base's checksum on the way. */
static bool compare(struct cowpool_delta *delta, const struct input *base,
		    const struct input *image)
{
	struct sha256_ctx sha;

	sha256_init(&sha);
	for (uint64_t at = 0; at < base->size; at += CHUNK) {
		uint64_t left = base->size - at;
		size_t length = left < CHUNK ? (size_t)left : CHUNK;

		if (!input_read(base, chunk, length, at) ||
		    !input_read(image, other_chunk, length, at))
			return false;
		sha256_update(&sha, length, (const uint8_t *)chunk);
		for (size_t page = 0; page < length; page += delta->page_size) {
			size_t n = length - page;

			if (n > delta->page_size)
				n = delta->page_size;
			if (memcmp(chunk + page, other_chunk + page, n) &&
			    cowpool_delta_add(delta, at + page, at + page + n)) {
				failed("cannot note what differs: %s", strerror(errno));
				return false;
			}
		}
	}
	sha256_digest(&sha, sizeof(delta->base), delta->base);
	return true;
}

static int save(const struct input *base, const struct input *image,
		const char *name, bool json)
{
	struct cowpool_delta delta = {
		.page_size = (uint32_t)sysconf(_SC_PAGESIZE),
		.size = base->size,
	};
	int status = EXIT_FAILED;
	struct output out;
	bool good;

	if (compare(&delta, base, image) && output_open(&out, name)) {
		good = !cowpool_delta_write(&delta, out.fd, image->fd);
		if (!good)
			failed("cannot write '%s': %s", name, strerror(errno));
		status = output_close(&out, good);
		if (status == EXIT_FINE && json)
			show_json(&delta);
	}
	cowpool_delta_release(&delta);
	return status;
}

static int delta_save(char **words, bool json)
{
	struct input base, image;
	int status;

	if (pool_name(words[2]))
		return misused("a delta is saved to a file, not to '%s'", words[2]);
	if (!input_open(&base, words[0]))
		return EXIT_FAILED;
	if (!input_open(&image, words[1])) {
		close(base.fd);
		return EXIT_FAILED;
	}
	if (base.size == image.size)
		status = save(&base, &image, words[2], json);
	else
		status = failed("'%s' has %" PRIu64 " bytes and '%s' %" PRIu64
				": a delta is between two of one size",
				base.name, base.size, image.name, image.size);
	close(image.fd);
	close(base.fd);
	return status;
}

/* Opens and checks a delta file, or says what is wrong. */
static bool delta_open(struct cowpool_delta *delta, struct input *file,
		       const char *name)
{
	const char *problem;

	if (!input_open(file, name))
		return false;
	problem = cowpool_delta_read(delta, file->fd);
	if (!problem)
		return true;
	failed("cannot use '%s' as a delta: %s", name, problem);
	cowpool_delta_release(delta);
	close(file->fd);
	return false;
}

static int delta_show(char **words, bool json)
{
	struct cowpool_delta delta;
	struct input file;

	if (!delta_open(&delta, &file, words[0]))
		return EXIT_FAILED;
	if (json)
		show_json(&delta);
	else
		show_text(&delta);
	cowpool_delta_release(&delta);
	close(file.fd);
	return EXIT_FINE;
}

/* Is @base what the delta was made from, as far as the delta can tell? */
static bool base_fits(const struct cowpool_delta *delta,
		      const struct input *base)
{
	uint8_t digest[DELTA_DIGEST];
	struct sha256_ctx sha;

	if (base->size != delta->size) {
		failed("'%s' has %" PRIu64 " bytes: the delta is for %" PRIu64,
		       base->name, base->size, delta->size);
		return false;
	}
	if (!base_is_known(delta))
		return true;
	sha256_init(&sha);
	for (uint64_t at = 0; at < base->size; at += CHUNK) {
		uint64_t left = base->size - at;
		size_t length = left < CHUNK ? (size_t)left : CHUNK;

		if (!input_read(base, chunk, length, at))
			return false;
		sha256_update(&sha, length, (const uint8_t *)chunk);
	}
	sha256_digest(&sha, sizeof(digest), digest);
	if (!memcmp(digest, delta->base, sizeof(digest)))
		return true;
	failed("'%s' is not what the delta was made from: its SHA-256 is another",
	       base->name);
	return false;
}

static bool copy(const struct output *out, const struct input *from,
		 uint64_t at, uint64_t length)
{
	while (length) {
		size_t n = length < CHUNK ? (size_t)length : CHUNK;

		if (!input_read(from, chunk, n, at) ||
		    !output_write(out, chunk, n))
			return false;
		at += n;
		length -= n;
	}
	return true;
}

/* Writes the base and what the delta puts in its place, from end to end. */
static bool merge(const struct output *out, const struct input *base,
		  const struct cowpool_delta *delta, const struct input *file)
{
	uint64_t data = delta->data_offset, at = 0;

	for (uint64_t i = 0; i < delta->nr_ranges; i++) {
		struct cowpool_range range = delta->ranges[i];

		if (!copy(out, base, at, range.start - at) ||
		    !copy(out, file, data, range.end - range.start))
			return false;
		data += range.end - range.start;
		at = range.end;
	}
	return copy(out, base, at, base->size - at);
}

/* A pool, by whatever name, and a disk stay as large as they are. */
static bool output_fits(const struct output *out, uint64_t size)
{
	struct cowpool_info info;
	struct stat st;
	uint64_t has;

	if (out->temporary)
		return true;
	if (!cowpool_info(out->fd, NULL, &info)) {
		has = info.size;
	} else if (!fstat(out->fd, &st) && S_ISBLK(st.st_mode)) {
		has = (uint64_t)lseek(out->fd, 0, SEEK_END);
		lseek(out->fd, 0, SEEK_SET);
	} else {
		return true;
	}
	if (has == size)
		return true;
	failed("'%s' has %" PRIu64 " bytes: the delta is for %" PRIu64,
	       out->name, has, size);
	return false;
}

static int delta_apply(char **words, bool json)
{
	struct cowpool_delta delta;
	struct input base, file;
	int status = EXIT_FAILED;
	struct output out;

	if (json)
		return misused("'delta apply' prints nothing, as JSON or else");
	if (!input_open(&base, words[0]))
		return EXIT_FAILED;
	if (delta_open(&delta, &file, words[1])) {
		if (base_fits(&delta, &base) && output_open(&out, words[2]))
			status = output_close(&out,
					      output_fits(&out, delta.size) &&
					      merge(&out, &base, &delta, &file));
		cowpool_delta_release(&delta);
		close(file.fd);
	}
	close(base.fd);
	return status;
}

static const struct {
	const char *name;
	int (*run)(char **words, bool json);
	int words;		/* how many it takes */
} commands[] = {
	{ "save", delta_save, 3 },
	{ "apply", delta_apply, 3 },
	{ "show", delta_show, 1 },
};

int delta_main(const struct options *options, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 }
	};
	bool json = options->json;
	int option;

	while ((option = getopt_long(argc, argv, "hj", long_options,
				     NULL)) != -1) {
		switch (option) {
		case 'h':
			fputs(help, stdout);
			return EXIT_FINE;
		case 'j':
			json = true;
			break;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[optind], commands[i].name))
			continue;
		if (argc - optind - 1 != commands[i].words)
			return misused("'delta %s' takes other arguments",
				       commands[i].name);
		return commands[i].run(argv + optind + 1, json);
	}
	return misused("there is no command 'delta %s'", argv[optind]);
}
