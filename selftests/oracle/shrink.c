// SPDX-License-Identifier: GPL-2.0
/*
 * Finds a short script that goes wrong: leaves operations out of one that does,
 * as long as it still goes wrong, whatever way.
 */
#include "oracle.h"

#include <time.h>

struct shrink {
	struct script *script;
	struct trouble trouble;		/* of the script as it is */
	uint8_t *results;		/* likewise */
	unsigned int attempts;		/* one of so many is enough */
	time_t deadline;
};

static time_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Whether a script goes wrong, in one of some attempts. */
static bool goes_wrong(struct shrink *shrink, const struct script *script)
{
	struct trouble trouble;

	for (unsigned int i = 0; i < shrink->attempts; i++) {
		if (seconds_now() > shrink->deadline)
			return false;
		if (!script_run(script, &trouble, shrink->results)) {
			shrink->trouble = trouble;
			return true;
		}
	}
	return false;
}

/* Leaves out what @leave says, if it goes wrong without that, too. */
static bool try_without(struct shrink *shrink, const bool *leave)
{
	struct script *script = shrink->script;
	struct script part = *script;
	bool wrong;

	part.operation = calloc(script->nr + 1, sizeof(part.operation[0]));
	part.nr = 0;
	for (size_t i = 0; i < script->nr; i++)
		if (!leave[i])
			part.operation[part.nr++] = script->operation[i];
	wrong = part.nr < script->nr && goes_wrong(shrink, &part);
	if (wrong) {
		memcpy(script->operation, part.operation,
		       part.nr * sizeof(part.operation[0]));
		script->nr = part.nr;
	}
	free(part.operation);
	return wrong;
}

/* What has not been done when it went wrong matters least. */
static void without_idle(struct shrink *shrink, bool *leave)
{
	for (size_t i = 0; i < shrink->script->nr; i++)
		leave[i] = shrink->results[i] != DONE;
	try_without(shrink, leave);
}

/* Whole processes first: most have no part in it. */
static void without_processes(struct shrink *shrink, bool *leave)
{
	const struct script *script = shrink->script;

	for (unsigned int process = 0; process < MAX_PROCESSES; process++) {
		for (size_t i = 0; i < script->nr; i++)
			leave[i] = script->operation[i].process == process;
		if (try_without(shrink, leave))
			without_idle(shrink, leave);
	}
}

/* Then parts of @len operations. Returns whether any was left out. */
static bool without_parts(struct shrink *shrink, bool *leave, size_t len)
{
	const struct script *script = shrink->script;
	size_t at = script->nr;
	bool any = false;

	/* From the end, where what matters less is. */
	while (at) {
		size_t first = at > len ? at - len : 0;

		for (size_t i = 0; i < script->nr; i++)
			leave[i] = i >= first && i < at;
		if (try_without(shrink, leave)) {
			without_idle(shrink, leave);
			any = true;
		}
		at = first < script->nr ? first : script->nr;
	}
	return any;
}

/* Ranges become single pages. */
static void smaller_ranges(struct shrink *shrink)
{
	struct script *script = shrink->script;

	for (size_t i = 0; i < script->nr; i++) {
		struct operation *operation = &script->operation[i];
		unsigned int pages = operation->pages;

		if (pages == 1)
			continue;
		operation->pages = 1;
		if (!goes_wrong(shrink, script))
			operation->pages = pages;
	}
}

/* How it goes wrong most surely: that is how it is tried from then on. */
static bool reproduce(struct shrink *shrink)
{
	struct script *script = shrink->script;

	shrink->attempts = 1;
	script->lockstep = true;
	if (goes_wrong(shrink, script)) {
		/* Threads may race all the same. */
		shrink->attempts = goes_wrong(shrink, script) ? 1 : 5;
		return true;
	}
	script->lockstep = false;
	for (unsigned int i = 1; seconds_now() <= shrink->deadline; i++) {
		if (goes_wrong(shrink, script)) {
			shrink->attempts = 3 * i;
			return true;
		}
	}
	return false;
}

/**
 * script_shrink() - make a script that goes wrong shorter
 * @script: the script, changed
 * @seconds: the time for having it happen again, and for leaving out
 *
 * Return: true if @script has gone wrong once more.
 */
bool script_shrink(struct script *script, unsigned int seconds)
{
	struct shrink shrink = {
		.script = script,
		.results = calloc(script->nr + 1, 1),
		.deadline = seconds_now() + seconds,
	};
	size_t before = script->nr, len;
	bool *leave;

	if (!reproduce(&shrink)) {
		printf("# it does not happen again\n");
		free(shrink.results);
		return false;
	}
	shrink.deadline = seconds_now() + seconds;
	leave = calloc(script->nr + 1, sizeof(*leave));
	without_idle(&shrink, leave);
	without_processes(&shrink, leave);
	for (len = script->nr / 2; len; len /= 2)
		without_parts(&shrink, leave, len);
	while (without_parts(&shrink, leave, 1))
		;
	smaller_ranges(&shrink);
	free(leave);
	free(shrink.results);
	printf("# %zu of %zu operations are enough%s:\n# %s\n", script->nr, before,
	       script->lockstep ? "" : ", at times", shrink.trouble.text);
	return true;
}
