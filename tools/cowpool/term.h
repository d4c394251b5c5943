/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the terminal can show: colours, and signs beyond ASCII. Without a
 * terminal everything is plain characters.
 */
#ifndef TERM_H
#define TERM_H

#include <stdbool.h>
#include <stdint.h>

enum style {
	STYLE_PLAIN,
	STYLE_TITLE,
	STYLE_FAINT,
	STYLE_GOOD,
	STYLE_BAD,
	STYLE_CHANGED,
	STYLE_OWNER,		/* STYLE_OWNER + n: the nth process's colour */
};

enum sign {
	SIGN_GOOD,
	SIGN_BAD,
	SIGN_ARROW,
	SIGN_TIMES,
	SIGN_SHARED,
	SIGN_BAR,
};

/* When there are to be colours, and all that goes with a terminal. */
enum term_when { TERM_AUTO, TERM_ALWAYS, TERM_NEVER };

void term_init(enum term_when when);

/* What to print to begin a style; STYLE_PLAIN ends it. "" without colours. */
const char *term_style(unsigned int style);

const char *term_sign(enum sign sign);

/*
 * Tell that @what is under way and @done of @total through. Silent for the
 * first second; then a line that overwrites itself on a terminal, and an
 * occasional plain one elsewhere, both on stderr. progress_end() removes it.
 */
void progress(const char *what, uint64_t done, uint64_t total);
void progress_end(void);

/* Seconds on a clock that only goes forward. */
double now(void);

#endif /* TERM_H */
