// SPDX-License-Identifier: GPL-2.0
/*
 * What the terminal can show.
 */
#include "term.h"

#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"

/* Written once by term_init(), before there are other processes. */
static struct {
	bool colour;
	bool utf8;
	bool overwrite;		/* stderr can take a line back */
} term;

/* Set to something that does not mean no. */
static bool is_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value && strcmp(value, "0");
}

void term_init(enum term_when when)
{
	/* A terminal at the end of a pipe, as scripts/vm has, is one too. */
	bool forced = when == TERM_ALWAYS || is_set("CLICOLOR_FORCE");
	const char *no_colour = getenv("NO_COLOR");
	const char *type = getenv("TERM");
	bool dumb = !type || !strcmp(type, "dumb");
	bool terminal = forced || (isatty(STDOUT_FILENO) && !dumb);

	/* Set to anything, NO_COLOR means no: see no-color.org. */
	term.colour = when == TERM_ALWAYS ||
		(when == TERM_AUTO && terminal && !(no_colour && *no_colour));
	term.utf8 = terminal && !strcmp(nl_langinfo(CODESET), "UTF-8");
	term.overwrite = forced || (isatty(STDERR_FILENO) && !dumb);
}

const char *term_style(unsigned int style)
{
	static const char *const codes[] = {
		[STYLE_PLAIN] = "\033[0m",
		[STYLE_TITLE] = "\033[1m",
		[STYLE_FAINT] = "\033[2m",
		[STYLE_GOOD] = "\033[32m",
		[STYLE_BAD] = "\033[1;31m",
		[STYLE_CHANGED] = "\033[1;33m",
	};
	static const char *const owners[] = {
		"\033[1;36m", "\033[1;35m", "\033[1;33m", "\033[1;32m",
		"\033[1;34m", "\033[1;31m",
	};

	if (!term.colour)
		return "";
	if (style < STYLE_OWNER)
		return codes[style];
	return owners[(style - STYLE_OWNER) % ARRAY_SIZE(owners)];
}

const char *term_sign(enum sign sign)
{
	static const char *const signs[][2] = {
		[SIGN_GOOD] = { "[ok]", "✓" },
		[SIGN_BAD] = { "[FAILED]", "✗" },
		[SIGN_ARROW] = { "->", " →" },
		[SIGN_TIMES] = { "x", "×" },
		[SIGN_SHARED] = { ".", "·" },
		[SIGN_BAR] = { "|", "│" },
	};

	return signs[sign][term.utf8];
}

double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* What progress() has begun to tell of, if anything. */
static struct {
	const char *what;
	double begun;
	double next;		/* when to say something again */
	bool shown;
} telling;

void progress(const char *what, uint64_t done, uint64_t total)
{
	double time = now();

	if (!telling.what) {
		telling.begun = time;
		telling.next = time + 1;
	}
	telling.what = what;
	if (time < telling.next)
		return;
	telling.next = time + (term.overwrite ? 0.1 : 5);
	telling.shown = true;
	fflush(stdout);
	fprintf(stderr, "%s   ... %s %3u %% (%.0f s)%s",
		term.overwrite ? "\r\033[K" : "", what,
		(unsigned int)(total ? 100 * done / total : 100),
		time - telling.begun, term.overwrite ? "" : "\n");
	fflush(stderr);
}

void progress_end(void)
{
	if (telling.shown && term.overwrite) {
		fputs("\r\033[K", stderr);
		fflush(stderr);
	}
	memset(&telling, 0, sizeof(telling));
}
