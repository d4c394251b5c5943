// SPDX-License-Identifier: GPL-2.0
/*
 * The oracle's command line. Without options it is a selftest.
 */
#include "../rounds.h"
#include "oracle.h"

#include <getopt.h>
#include <inttypes.h>
#include <time.h>

/* Operations of a script: few enough to find the cause of trouble. */
#define SCRIPT_LENGTH	5000
/* Operations of the selftest; $COWPOOL_ROUNDS multiplies them. */
#define FEW		30000

static const struct world worlds[] = {
	/* Pages that have frames of their own */
	{ .name = "small pages", .pool_pages = 130, .pages = 130, .filled = 130,
	  .backwards = true },
	/* Pages that were never written to the pool */
	{ .name = "sparse", .pool_pages = 300, .pages = 300, .filled = 100 },
	/* PMD entries over all, but for what is private */
	{ .name = "huge pages", .pool_pages = 1100, .pages = 1100, .filled = 1100 },
	/* Three levels of the index, the third of which begins in the middle */
	{ .name = "deep", .pool_pages = 5000, .first = 3700, .pages = 600,
	  .filled = 600 },
};

static const char usage_text[] =
"usage: oracle [OPTION...]\n"
"Random operations by many processes on views, against a model in memory.\n"
"\n"
"  --ops N        so many operations, and those to the end of a script; 0: no end\n"
"  --seed N       a number that decides what they are\n"
"  --script N     only the script of this number\n"
"  --replay FILE  run a script that an earlier run has printed (- for stdin)\n"
"  --times N      so often, with --script or --replay\n"
"  --print        print that script rather than run it\n"
"  --company      others use the module, too: do not look at what scripts leave behind\n"
"  --shrink N     take N seconds to find a shorter script that goes wrong\n";

#define NO_SCRIPT	UINT64_MAX

struct options {
	uint64_t ops;
	uint64_t seed;
	uint64_t script;
	const char *replay;
	unsigned int times;
	unsigned int shrink;
	bool print;
};

/* How often each kind was done, or found nothing to do */
static struct tally {
	uint64_t done[NR_KINDS];
	uint64_t idle[NR_KINDS];
} tally;

static double seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - start->tv_sec + (now.tv_nsec - start->tv_nsec) / 1e9;
}

static uint64_t sum(const uint64_t *counts)
{
	uint64_t sum = 0;

	for (unsigned int kind = 0; kind < NR_KINDS; kind++)
		sum += counts[kind];
	return sum;
}

static void tally_add(const struct script *script, const uint8_t *results)
{
	for (size_t i = 0; i < script->nr; i++) {
		enum kind kind = script->operation[i].kind;

		tally.done[kind] += results[i] == DONE;
		tally.idle[kind] += results[i] == IDLE;
	}
}

static void trouble_print(const struct trouble *trouble)
{
	const struct operation *operation = &trouble->operation;

	printf("# %s\n", trouble->text);
	if (operation->number) {
		printf("# in operation ");
		operation_print(operation, stdout);
	} else {
		printf("# after the last operation\n");
	}
}

/* Runs a script; if that goes wrong, tells about it and shows a shorter one. */
static bool attempt(struct script *script, const struct options *options)
{
	uint8_t *results = calloc(script->nr + 1, 1);
	struct trouble trouble;
	bool good;

	good = script_run(script, &trouble, results);
	tally_add(script, results);
	free(results);
	if (good)
		return true;
	trouble_print(&trouble);
	fflush(stdout);
	if (options->shrink && script_shrink(script, options->shrink)) {
		printf("# what is left, for oracle --replay:\n");
		script_print(script, stdout);
	}
	return false;
}

static bool attempts(struct script *script, const struct options *options)
{
	if (options->print) {
		script_print(script, stdout);
		return true;
	}
	for (unsigned int i = 0; i < options->times; i++)
		if (!attempt(script, options))
			return false;
	printf("# nothing went wrong\n");
	return true;
}

static bool replay(const struct options *options)
{
	FILE *file = strcmp(options->replay, "-") ? fopen(options->replay, "r") : stdin;
	struct script script;
	bool good;

	if (!file) {
		perror(options->replay);
		return false;
	}
	good = script_read(&script, file) && attempts(&script, options);
	script_free(&script);
	return good;
}

static void tally_print(const struct options *options, const struct timespec *start)
{
	printf("# seed %" PRIu64 ": %" PRIu64 " operations in %.0f s;",
	       options->seed, sum(tally.done), seconds_since(start));
	printf(" %" PRIu64 " others found nothing to do\n#", sum(tally.idle));
	for (unsigned int kind = 0; kind < NR_KINDS; kind++)
		printf(" %s %" PRIu64, kind_names[kind], tally.done[kind]);
	putchar('\n');
	fflush(stdout);
}

/* So short that there is one for each world: the beginning of a whole one. */
static unsigned int script_length(const struct options *options)
{
	uint64_t share = options->ops / ARRAY_SIZE(worlds);

	return share && share < SCRIPT_LENGTH ? share : SCRIPT_LENGTH;
}

static void generate(struct script *script, const struct options *options,
		     uint64_t number)
{
	script_generate(script, &worlds[number % ARRAY_SIZE(worlds)],
			options->seed * 1000003 + number, script_length(options));
}

static bool run_one(const struct options *options)
{
	struct script script;
	bool good;

	generate(&script, options, options->script);
	good = attempts(&script, options);
	script_free(&script);
	return good;
}

static bool run(const struct options *options)
{
	struct timespec start;
	struct script script;
	double told = 0;

	printf("# seed %" PRIu64 "\n", options->seed);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint64_t i = 0; !options->ops || sum(tally.done) < options->ops; i++) {
		bool good;

		generate(&script, options, i);
		good = attempt(&script, options);
		script_free(&script);
		if (!good) {
			printf("# That was script %" PRIu64 " of seed %" PRIu64 ": %s.\n",
			       i, options->seed, worlds[i % ARRAY_SIZE(worlds)].name);
			return false;
		}
		if (seconds_since(&start) > told + 30) {
			told = seconds_since(&start);
			printf("# seed %" PRIu64 ": %" PRIu64 " operations, %.0f s\n",
			       options->seed, sum(tally.done), told);
			fflush(stdout);
		}
	}
	tally_print(options, &start);
	printf("# nothing went wrong\n");
	return true;
}

static void selftest(struct options *options)
{
	ksft_print_header();
	ksft_set_plan(1);
	options->ops = how_often(FEW);
	ksft_test_result(run(options), "%" PRIu64 " operations of seed %" PRIu64 "\n",
			 options->ops, options->seed);
	ksft_finished();
}

static bool number_parse(const char *text, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	return !errno && *text >= '0' && *text <= '9' && !*end;
}

int main(int argc, char **argv)
{
	static const struct option table[] = {
		{ "ops", required_argument, NULL, 'o' },
		{ "seed", required_argument, NULL, 's' },
		{ "script", required_argument, NULL, 'n' },
		{ "replay", required_argument, NULL, 'r' },
		{ "times", required_argument, NULL, 't' },
		{ "shrink", required_argument, NULL, 'k' },
		{ "print", no_argument, NULL, 'p' },
		{ "company", no_argument, NULL, 'c' },
		{ }
	};
	struct options options = {
		.script = NO_SCRIPT, .seed = 1, .times = 1, .shrink = 120,
	};
	bool good = true, ops = false;
	uint64_t number;
	int option;

	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == 'r') {
			options.replay = optarg;
		} else if (option == 'p') {
			options.print = true;
		} else if (option == 'c') {
			in_company = true;
		} else if (option == '?' || !number_parse(optarg, &number)) {
			good = false;
		} else if (option == 'o') {
			options.ops = number;
			ops = true;
		} else if (option == 's') {
			options.seed = number;
		} else if (option == 'n') {
			options.script = number;
		} else if (option == 't') {
			options.times = number;
		} else {
			options.shrink = number;
		}
	}
	if (!good || optind < argc) {
		fputs(usage_text, stderr);
		return KSFT_FAIL;
	}
	if (!options.replay && options.script == NO_SCRIPT && !ops)
		selftest(&options);
	if (options.replay)
		good = replay(&options);
	else
		good = ops ? run(&options) : run_one(&options);
	return good ? KSFT_PASS : KSFT_FAIL;
}
