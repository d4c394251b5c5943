// SPDX-License-Identifier: GPL-2.0
/*
 * How the demo speaks: titles, checks, names.
 */
#include <stdarg.h>
#include <stdio.h>

#include "demo.h"
#include "term.h"

void title(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("\n%s", term_style(STYLE_TITLE));
	vprintf(format, args);
	printf("%s\n\n", term_style(STYLE_PLAIN));
	va_end(args);
}

void note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("   %s", term_style(STYLE_FAINT));
	vprintf(format, args);
	printf("%s\n", term_style(STYLE_PLAIN));
	va_end(args);
}

bool check(struct demo *d, bool held, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("   %s%s%s ", term_style(held ? STYLE_GOOD : STYLE_BAD),
	       term_sign(held ? SIGN_GOOD : SIGN_BAD), term_style(STYLE_PLAIN));
	vprintf(format, args);
	putchar('\n');
	va_end(args);
	d->checks++;
	d->failures += !held;
	return held;
}

const char *actor_colour(const struct demo *d, size_t actor)
{
	if (actor == READER)
		return term_style(STYLE_PLAIN);
	/* A child has its parent's colour, in a lower case letter. */
	if (actor == CHILD(d))
		actor = PARENT;
	return term_style(STYLE_OWNER + (unsigned int)(actor - PARENT));
}

void print_actor(const struct demo *d, size_t actor, int width)
{
	printf("   %s%-*s%s", actor_colour(d, actor), width,
	       d->actors[actor].name, term_style(STYLE_PLAIN));
}

bool is_shown(const struct demo *d, size_t actor)
{
	return actor < MAX_ROWS || actor == CHILD(d);
}

void print_more(const struct demo *d)
{
	size_t more = 0;

	for (size_t i = 0; i < d->nr_actors; i++)
		more += !is_shown(d, i);
	if (more)
		note("and %zu more, checked likewise", more);
}

const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

const char *actor_names(const struct demo *d, size_t first, size_t end)
{
	static char text[128];
	bool many = end - first > MAX_ROWS;
	size_t length = 0;

	text[0] = 0;
	for (size_t i = first; i < end; i++) {
		const char *before = i == first ? "" :
			i + 1 == end ? " and " : ", ";

		/* Of many, the first two and the last one will do. */
		if (many && i == first + 2) {
			before = " ... ";
			i = end - 1;
		}
		length += (size_t)snprintf(text + length, sizeof(text) - length,
					   "%s%s", before, d->actors[i].name);
	}
	return text;
}
