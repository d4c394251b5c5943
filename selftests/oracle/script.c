// SPDX-License-Identifier: GPL-2.0
/*
 * Scripts as text: a line for the world, then one for each operation, such as
 *
 *	17 p0 write view=1 page=12 cell=2
 *
 * What follows a # is a comment.
 */
#include "oracle.h"

const char *const kind_names[NR_KINDS] = {
	[START] = "start",
	[KILL] = "kill",
	[CLOSE_POOL] = "close-pool",
	[FORK] = "fork",
	[EXIT] = "exit",
	[READ] = "read",
	[WRITE] = "write",
	[CHECK] = "check",
	[COPY] = "copy",
	[FETCH] = "fetch",
	[LOOK] = "look",
	[MAP] = "map",
	[MAP_SNAPSHOT] = "map-snapshot",
	[SNAPSHOT] = "snapshot",
	[DUP] = "dup",
	[CLOSE] = "close",
	[RESET] = "reset",
	[KEEP] = "keep",
	[DIRTY] = "dirty",
	[DIRTY_CONTENT] = "dirty-content",
	[INFO] = "info",
	[UNMAP] = "unmap",
	[MOVE] = "move",
	[SHRINK] = "shrink",
	[PROTECT] = "protect",
	[DONTNEED] = "dontneed",
	[POPULATE] = "populate",
	[STORM] = "storm",
	[STORM_SNAPSHOT] = "storm-snapshot",
	[STORM_FORK] = "storm-fork",
	[AUDIT] = "audit",
};

enum field { VIEW, TO, OF, CHILD, PAGE_, PAGES, CELL, HOW, NR_FIELDS };

static const char *const field_names[NR_FIELDS] = {
	[VIEW] = "view",
	[TO] = "to",
	[OF] = "snapshot",
	[CHILD] = "child",
	[PAGE_] = "page",
	[PAGES] = "pages",
	[CELL] = "cell",
	[HOW] = "how",
};

#define F(field)	(1U << (field))
#define RANGE		(F(VIEW) | F(PAGE_) | F(PAGES))

/* What each kind needs to be told */
static const unsigned int kind_fields[NR_KINDS] = {
	[FORK] = F(CHILD),
	[READ] = F(VIEW) | F(PAGE_) | F(CELL),
	[WRITE] = F(VIEW) | F(PAGE_) | F(CELL),
	[CHECK] = RANGE,
	[COPY] = F(VIEW) | F(TO) | F(PAGE_),
	[FETCH] = F(VIEW) | F(OF) | F(PAGE_),
	[LOOK] = F(OF) | F(PAGE_) | F(PAGES),
	[MAP] = RANGE,
	[MAP_SNAPSHOT] = F(OF) | RANGE,
	[SNAPSHOT] = F(VIEW) | F(OF),
	[DUP] = F(VIEW) | F(TO),
	[CLOSE] = F(OF),
	[RESET] = RANGE,
	[KEEP] = RANGE,
	[DIRTY] = RANGE,
	[DIRTY_CONTENT] = RANGE,
	[INFO] = F(VIEW),
	[UNMAP] = RANGE,
	[MOVE] = RANGE | F(HOW),
	[SHRINK] = RANGE,
	[PROTECT] = RANGE | F(HOW),
	[DONTNEED] = RANGE,
	[POPULATE] = RANGE | F(HOW),
	[STORM] = RANGE | F(HOW),
	[STORM_SNAPSHOT] = RANGE | F(OF),
	[STORM_FORK] = RANGE | F(CHILD),
};

static unsigned int field_get(const struct operation *operation, enum field field)
{
	switch (field) {
	case VIEW:
		return operation->view;
	case PAGE_:
		return operation->page;
	case PAGES:
		return operation->pages;
	case CELL:
	case HOW:
		return operation->how;
	default:
		return operation->other;
	}
}

/* Returns false for a value that cannot be. */
static bool field_set(struct operation *operation, enum field field,
		      unsigned int value, const struct world *world)
{
	switch (field) {
	case VIEW:
		operation->view = value;
		return value < MAX_VIEWS;
	case TO:
		operation->other = value;
		return value < MAX_VIEWS;
	case OF:
		operation->other = value;
		return value < MAX_SNAPSHOTS;
	case CHILD:
		operation->other = value;
		return value < MAX_PROCESSES;
	case PAGE_:
		operation->page = value;
		return value < world->pages;
	case PAGES:
		operation->pages = value;
		return value && operation->page + value <= world->pages;
	case CELL:
		operation->how = value;
		return value < CELLS;
	default:
		operation->how = value;
		return value < 8;
	}
}

void operation_print(const struct operation *operation, FILE *to)
{
	fprintf(to, "%u p%u %s", operation->number, operation->process,
		kind_names[operation->kind]);
	for (enum field field = 0; field < NR_FIELDS; field++)
		if (kind_fields[operation->kind] & F(field))
			fprintf(to, " %s=%u", field_names[field],
				field_get(operation, field));
	putc('\n', to);
}

static bool operation_read(struct operation *operation, char *line,
			   const struct world *world)
{
	char *word, *at = line, name[20];
	unsigned int number, process, value, missing;
	int end;

	*operation = (struct operation){ .pages = 1 };
	if (sscanf(at, "%u p%u %19s%n", &number, &process, name, &end) != 3 ||
	    !number || process >= MAX_PROCESSES)
		return false;
	operation->number = number;
	operation->process = process;
	while (strcmp(name, kind_names[operation->kind]))
		if (++operation->kind == NR_KINDS)
			return false;
	missing = kind_fields[operation->kind];
	at += end;
	while ((word = strtok_r(at, " \t\n", &at))) {
		enum field field = 0;

		if (sscanf(word, "%19[a-z]=%u", name, &value) != 2)
			return false;
		while (strcmp(name, field_names[field]))
			if (++field == NR_FIELDS)
				return false;
		if (!(missing & F(field)) || !field_set(operation, field, value, world))
			return false;
		missing &= ~F(field);
	}
	return !missing;
}

#define WORLD_FORMAT \
	"world pool=%u first=%u pages=%u filled=%u backwards=%d salt=%u lockstep=%d"

void script_print(const struct script *script, FILE *to)
{
	const struct world *world = &script->world;

	fprintf(to, WORLD_FORMAT "\n",
		world->pool_pages, world->first, world->pages, world->filled,
		world->backwards, script->salt, script->lockstep);
	for (size_t i = 0; i < script->nr; i++)
		operation_print(&script->operation[i], to);
}

static bool world_read(struct script *script, const char *line)
{
	struct world *world = &script->world;
	unsigned int salt;
	int backwards, lockstep;

	if (sscanf(line, WORLD_FORMAT,
		   &world->pool_pages, &world->first, &world->pages, &world->filled,
		   &backwards, &salt, &lockstep) != 7)
		return false;
	world->name = "replay";
	world->backwards = backwards;
	script->salt = salt;
	script->lockstep = lockstep;
	return world->pages && world->pages <= MAX_PAGES &&
	       world->filled <= world->pages && world->first < world->pool_pages &&
	       world->pages <= world->pool_pages - world->first;
}

/*
 * Reads a script. On false, the errno is set or a complaint was printed.
 */
bool script_read(struct script *script, FILE *from)
{
	char line[256];
	bool begun = false;

	*script = (struct script){};
	for (unsigned int nr = 1; fgets(line, sizeof(line), from); nr++) {
		struct operation operation;

		line[strcspn(line, "#\n")] = '\0';
		if (!line[strspn(line, " \t")])
			continue;
		if (begun ? !operation_read(&operation, line, &script->world) :
			    !world_read(script, line)) {
			fprintf(stderr, "oracle: line %u is no %s\n", nr,
				begun ? "operation" : "world");
			return false;
		}
		if (begun) {
			script->operation = realloc(script->operation,
						    (script->nr + 1) * sizeof(operation));
			script->operation[script->nr++] = operation;
		}
		begun = true;
	}
	if (!begun)
		fputs("oracle: there is no script\n", stderr);
	return begun;
}

void script_free(struct script *script)
{
	free(script->operation);
	script->operation = NULL;
	script->nr = 0;
}
