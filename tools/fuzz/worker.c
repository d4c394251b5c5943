// SPDX-License-Identifier: GPL-2.0
/*
 * The worker: runs one sequence after the other, and keeps those that reach
 * something new. It is a user without privileges.
 *
 * It makes some sequences at a time, and writes them to a file that outlives the
 * machine before it runs them. Its name has the number of the one that runs:
 * reports of the kernel tell that.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#define MAX_KEPT	4096
#define BATCH		16
#define BATCHES		2	/* that the file has */
#define TEXT_SIZE	2048	/* of a sequence, at most */
#define SECONDS		5	/* between lines */

static struct sequence *kept;
static unsigned int nr_kept;
static int record_fd, reached_fd;

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Writes down sequences that are about to be run. */
static void record(const struct sequence *sequences, unsigned int nr)
{
	static char text[BATCH * TEXT_SIZE];
	size_t length = 0;

	for (unsigned int i = 0; i < nr; i++)
		length += sequence_print(&sequences[i], text + length,
					 sizeof(text) - length);
	memset(text + length, '\n', sizeof(text) - length);
	if (pwrite(record_fd, text, sizeof(text),
		   sequences->number / BATCH % BATCHES * sizeof(text)) < 0)
		die("record");
}

/* What an emulated machine has, and what the kernel says of calls by others */
static bool is_harmless(const char *message)
{
	static const char *const harmless[] = {
		"hrtimer: ", "clocksource: ", "Huh VM_FAULT_OOM leaked out",
		/* And how often it did not say that */
		"pagefault_out_of_memory: ",
		"attempted to duplicate a private mapping with mremap",
	};

	for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
		if (strstr(message, harmless[i]))
			return true;
	return false;
}

/* Whether the kernel has logged a warning or worse. */
static bool kernel_complains(void)
{
	char entry[8192], *message;
	bool complains = false;
	ssize_t length;

	while ((length = read(kmsg_fd, entry, sizeof(entry) - 1)) > 0 ||
	       (length < 0 && errno == EPIPE)) {
		if (length < 0)
			continue;
		entry[length] = '\0';
		message = strchr(entry, ';');
		/* What is above 4 is no warning, or not from the kernel itself. */
		if (!message || strtoul(entry, NULL, 10) > 4 ||
		    is_harmless(message + 1))
			continue;
		if (!complains)
			printf("# the kernel says: %s", message + 1);
		complains = true;
	}
	return complains;
}

/* Says in the log which sequence it was. */
static void tell(const struct sequence *sequence)
{
	printf("# that was sequence %llu of seed %llu, or one before it\n",
	       (unsigned long long)sequence->number,
	       (unsigned long long)sequence->seed);
	dprintf(kmsg_fd, "fuzz: sequence %llu of seed %llu\n",
		(unsigned long long)sequence->number,
		(unsigned long long)sequence->seed);
}

static bool attempt(const struct sequence *sequence)
{
	char name[16];

	shared->number = sequence->number;
	snprintf(name, sizeof(name), "%llu:%llu", (unsigned long long)sequence->seed,
		 (unsigned long long)sequence->number);
	prctl(PR_SET_NAME, name);
	if (run_sequence(sequence) & !kernel_complains())
		return true;
	tell(sequence);
	return false;
}

static void next_make(struct sequence *sequence, uint64_t number)
{
	uint64_t random = options.seed * 0xd1342543de82ef95ULL + number;
	unsigned int i;

	if (!nr_kept || !random_below(&random, 8)) {
		sequence_make(sequence, &random);
	} else {
		/* The newest have been tried the least. */
		i = random_below(&random, nr_kept);
		if (random_below(&random, 2))
			i = nr_kept - 1 - i / 4;
		*sequence = kept[i];
		sequence_change(sequence, &kept[random_below(&random, nr_kept)],
				&random);
	}
	sequence->seed = options.seed;
	sequence->number = number;
}

static void report(uint64_t number, double seconds)
{
	printf("# %.0f s: %llu sequences, %u of %u PCs, %u kept\n", seconds,
	       (unsigned long long)number, cover_reached(), options.pcs, nr_kept);
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = ((const struct sequence *)a)->number;
	uint64_t y = ((const struct sequence *)b)->number;

	return x < y ? -1 : x > y;
}

/* Reads the sequences of a file, in the order of their numbers. */
static void kept_read(const char *path)
{
	FILE *file = fopen(path, "r");

	if (!file)
		die(path);
	while (nr_kept < MAX_KEPT && sequence_read(&kept[nr_kept], file))
		nr_kept++;
	fclose(file);
	qsort(kept, nr_kept, sizeof(kept[0]), by_number);
}

static int explore(void)
{
	double start = seconds_now(), told = start, now = start;
	struct sequence batch[BATCH];
	uint64_t number = 0;
	bool good = true;

	if (options.seeds)
		kept_read(options.seeds);
	for (unsigned int i = 0; good && i < nr_kept; i++) {
		record(&kept[i], 1);
		good = attempt(&kept[i]);
		cover_collect();
	}
	while (good && now - start < options.seconds) {
		unsigned int n = number % BATCH;

		if (!n) {
			for (unsigned int i = 0; i < BATCH; i++)
				next_make(&batch[i], number + i);
			record(batch, BATCH);
		}
		good = attempt(&batch[n]);
		number++;
		if (cover_collect() && nr_kept < MAX_KEPT)
			kept[nr_kept++] = batch[n];
		now = seconds_now();
		if (now - told > SECONDS) {
			report(number, now - start);
			told = now;
		}
	}
	printf("# seed %llu, the end:\n", (unsigned long long)options.seed);
	report(number, now - start);
	return good ? 0 : 1;
}

static int replay(void)
{
	bool good = true;

	kept_read(options.replay);
	if (!nr_kept) {
		printf("# no sequence in %s\n", options.replay);
		return 1;
	}
	for (unsigned int n = 0; good && n < options.times; n++) {
		for (unsigned int i = 0; good && i < nr_kept; i++) {
			tracing = !n;
			if (tracing)
				printf("# sequence %llu of seed %llu\n",
				       (unsigned long long)kept[i].number,
				       (unsigned long long)kept[i].seed);
			good = attempt(&kept[i]);
			cover_collect();
		}
	}
	report((uint64_t)nr_kept * options.times, 0);
	return good ? 0 : 1;
}

/**
 * worker_memory() - memory that no child of the worker gets
 * @size: how much
 * @fd: what to map, or -1
 *
 * fork() is dear enough on kernels that check themselves.
 *
 * Return: the memory, which is zero.
 */
void *worker_memory(size_t size, int fd)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED,
			    fd, 0);

	if (memory == MAP_FAILED || madvise(memory, size, MADV_DONTFORK))
		die("mmap");
	return memory;
}

/**
 * worker_run() - be the worker
 *
 * Return: its exit status.
 */
int worker_run(void)
{
	int status;

	kept = worker_memory(MAX_KEPT * sizeof(*kept), -1);
	cover_map();
	run_begin();
	status = options.replay ? replay() : explore();
	cover_save(reached_fd);
	return status;
}

static int file_open(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", options.directory, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		die(path);
	return own_fd(fd);
}

/**
 * worker_setup() - open what it has no permission for, as root
 */
void worker_setup(void)
{
	if (!options.replay)
		record_fd = file_open("sequences");
	reached_fd = file_open("reached");
}
