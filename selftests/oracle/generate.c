// SPDX-License-Identifier: GPL-2.0
/*
 * Scripts from seeds. What is generated depends on the world, the seed and the
 * number of operations alone.
 *
 * It is kept in mind which processes, views and snapshots there are, so that
 * few operations find nothing to do. And each script has a mood: some kinds of
 * operations come often in it, others never. So there are long histories
 * without a fork, say, or with nothing but forks.
 */
#include "oracle.h"

#define HOT_PAGES	24
#define MAX_BURST	24

struct process_plan {
	bool lives;
	bool view[MAX_VIEWS];
	bool snapshot[MAX_SNAPSHOTS];
};

struct generator {
	const struct world *world;
	uint64_t random;
	struct process_plan process[MAX_PROCESSES];
	uint16_t hot[HOT_PAGES];	/* most operations go here */
	unsigned int weight[NR_KINDS];
	unsigned int whole;		/* of 8 ranges, so many are all pages */
	size_t close_pool;		/* the operation that does that */
};

/* How often each kind comes in relation to the others, before moods */
static const unsigned int weights[NR_KINDS] = {
	[START] = 1,
	[KILL] = 3,
	[FORK] = 6,
	[EXIT] = 3,
	[READ] = 320,
	[WRITE] = 360,
	[CHECK] = 40,
	[COPY] = 15,
	[FETCH] = 15,
	[LOOK] = 25,
	[MAP] = 8,
	[MAP_SNAPSHOT] = 10,
	[SNAPSHOT] = 20,
	[DUP] = 10,
	[CLOSE] = 6,
	[RESET] = 10,
	[KEEP] = 12,
	[DIRTY] = 15,
	[DIRTY_CONTENT] = 8,
	[INFO] = 25,
	[UNMAP] = 4,
	[MOVE] = 6,
	[SHRINK] = 2,
	[PROTECT] = 14,
	[DONTNEED] = 30,
	[POPULATE] = 6,
	[STORM] = 12,
	[STORM_SNAPSHOT] = 4,
	[STORM_FORK] = 1,
	[AUDIT] = 1,
};

/* splitmix64 */
uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static unsigned int below(struct generator *g, unsigned int n)
{
	return random_next(&g->random) % n;
}

/* One of the slots that are in use, or any if there is none. */
static unsigned int pick(struct generator *g, const bool *used, unsigned int nr)
{
	unsigned int at = below(g, nr);

	for (unsigned int i = 0; i < nr; i++)
		if (used[(at + i) % nr])
			return (at + i) % nr;
	return at;
}

static int pick_process(struct generator *g, bool lives)
{
	unsigned int at = below(g, MAX_PROCESSES);

	for (unsigned int i = 0; i < MAX_PROCESSES; i++, at++)
		if (g->process[at % MAX_PROCESSES].lives == lives)
			return at % MAX_PROCESSES;
	return -1;
}

static enum kind pick_kind(struct generator *g)
{
	unsigned int sum = 0, at;
	enum kind kind;

	for (kind = 0; kind < NR_KINDS; kind++)
		sum += g->weight[kind];
	at = below(g, sum);
	for (kind = 0; at >= g->weight[kind]; kind++)
		at -= g->weight[kind];
	return kind;
}

static void choose_mood(struct generator *g)
{
	static const unsigned int factors[] = { 0, 0, 1, 1, 1, 3 };

	for (enum kind kind = 0; kind < NR_KINDS; kind++) {
		g->weight[kind] = weights[kind];
		if (kind != READ && kind != WRITE)
			g->weight[kind] *= factors[below(g, ARRAY_SIZE(factors))];
	}
	g->whole = 1 + below(g, 8);
}

static void hot_pages(struct generator *g)
{
	/* Where nodes of the index and huge pages meet, and the ends */
	static const unsigned int edges[] = { 0, 63, 511, 4095 };
	const struct world *world = g->world;
	unsigned int nr = 0;

	for (size_t i = 0; i < ARRAY_SIZE(edges); i++)
		for (unsigned int page = edges[i]; page < edges[i] + 3; page++)
			if (page >= world->first &&
			    page < world->first + world->pages)
				g->hot[nr++] = page - world->first;
	g->hot[nr++] = world->pages - 1;
	while (nr < HOT_PAGES)
		g->hot[nr++] = below(g, world->pages);
}

static unsigned int pick_page(struct generator *g)
{
	return below(g, 5) ? g->hot[below(g, HOT_PAGES)] : below(g, g->world->pages);
}

static void pick_range(struct generator *g, struct operation *operation)
{
	unsigned int all = g->world->pages, most;

	if (below(g, 8) < g->whole) {
		operation->page = 0;
		operation->pages = all;
		return;
	}
	most = below(g, 3) ? 10 : 200;
	operation->page = pick_page(g);
	all -= operation->page;
	operation->pages = 1 + below(g, most < all ? most : all);
}

/* Fills in what @operation is to be told, and keeps in mind what it does. */
static void fill_in(struct generator *g, struct operation *operation)
{
	struct process_plan *plan = &g->process[operation->process];
	struct process_plan *child;
	int process;

	operation->view = pick(g, plan->view, MAX_VIEWS);
	pick_range(g, operation);
	switch (operation->kind) {
	case START:
		if (!plan->lives)
			*plan = (struct process_plan){ .lives = true };
		break;
	case KILL:
	case EXIT:
		plan->lives = false;
		break;
	case FORK:
	case STORM_FORK:
		process = pick_process(g, false);
		/* It finds nothing to do if all live. */
		operation->other = process < 0 ? operation->process : process;
		child = &g->process[operation->other];
		*child = *plan;
		break;
	case READ:
	case WRITE:
		operation->page = pick_page(g);
		operation->how = below(g, CELLS);
		break;
	case COPY:
		operation->page = pick_page(g);
		operation->other = pick(g, plan->view, MAX_VIEWS);
		break;
	case FETCH:
		operation->page = pick_page(g);
		operation->other = pick(g, plan->snapshot, MAX_SNAPSHOTS);
		break;
	case CHECK:
		operation->pages = 1 + operation->pages % 4;
		break;
	case LOOK:
		operation->pages = 1 + operation->pages % 4;
		operation->other = pick(g, plan->snapshot, MAX_SNAPSHOTS);
		break;
	case MAP:
	case MAP_SNAPSHOT:
		operation->view = below(g, MAX_VIEWS);
		if (below(g, 4)) {
			operation->page = 0;
			operation->pages = g->world->pages;
		}
		operation->other = pick(g, plan->snapshot, MAX_SNAPSHOTS);
		if (operation->kind == MAP || plan->snapshot[operation->other])
			plan->view[operation->view] = true;
		break;
	case SNAPSHOT:
	case STORM_SNAPSHOT:
		operation->other = below(g, MAX_SNAPSHOTS);
		if (plan->view[operation->view])
			plan->snapshot[operation->other] = true;
		break;
	case DUP:
		operation->other = below(g, MAX_VIEWS);
		if (plan->view[operation->view])
			plan->view[operation->other] = true;
		break;
	case CLOSE:
		operation->other = pick(g, plan->snapshot, MAX_SNAPSHOTS);
		plan->snapshot[operation->other] = false;
		break;
	case UNMAP:
		if (operation->pages == g->world->pages)
			plan->view[operation->view] = false;
		break;
	case PROTECT:
		/* Most of the time back to what it was */
		operation->how = below(g, 4) ? 2 : below(g, 2);
		if (operation->how == 2 && below(g, 2)) {
			operation->page = 0;
			operation->pages = g->world->pages;
		}
		break;
	case MOVE:
	case POPULATE:
	case STORM:
		operation->how = below(g, 2);
		break;
	default:
		break;
	}
	/* Storms are small. */
	if (operation->kind >= STORM && operation->kind <= STORM_FORK)
		operation->page = pick_page(g);
	if (operation->page + operation->pages > g->world->pages)
		operation->pages = g->world->pages - operation->page;
}

/* A process begins with a view or two, and maps what there is. */
static enum kind next_kind(struct generator *g, unsigned int process, size_t at)
{
	const struct process_plan *plan = &g->process[process];
	bool some = false;
	enum kind kind;

	if (at == g->close_pool)
		return CLOSE_POOL;
	for (unsigned int i = 0; i < MAX_VIEWS; i++)
		some = some || plan->view[i];
	kind = some ? pick_kind(g) : MAP;
	if (at < g->close_pool)
		return kind;
	/* New processes come by fork() from now on: else they would have nothing. */
	return kind == MAP ? MAP_SNAPSHOT : kind == START ? FORK : kind;
}

/**
 * script_generate() - make a script
 * @script: set; script_free() frees it
 * @world: what it runs in
 * @seed: decides what it does
 * @nr: number of operations
 */
void script_generate(struct script *script, const struct world *world,
		     uint64_t seed, size_t nr)
{
	struct generator g = { .world = world, .random = seed };
	struct operation *operation;
	unsigned int left = 0;
	int process = -1, idle;

	*script = (struct script){
		.world = *world,
		/* Not 0, which is what was never written */
		.salt = random_next(&g.random) | 1,
		.nr = nr,
		.operation = calloc(nr, sizeof(*operation)),
	};
	hot_pages(&g);
	choose_mood(&g);
	/* In half of the scripts: only snapshots and views go on from there. */
	g.close_pool = nr / 2 + random_next(&g.random) % nr;
	for (size_t i = 0; i < nr; i++) {
		operation = &script->operation[i];
		operation->number = i + 1;
		if (!left-- || !g.process[process].lives) {
			left = below(&g, MAX_BURST);
			process = pick_process(&g, true);
		}
		operation->kind = process < 0 ? START : next_kind(&g, process, i);
		operation->process = process;
		if (operation->kind == START) {
			/* It finds nothing to do if all live. */
			idle = pick_process(&g, false);
			operation->process = idle < 0 ? 0 : idle;
			left = 0;
		}
		fill_in(&g, operation);
	}
}
