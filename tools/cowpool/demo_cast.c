// SPDX-License-Identifier: GPL-2.0
/*
 * The demo's cast: who there is, what they are told to touch, what they have
 * to count, and what they must see.
 *
 * Predictions are made from what stands in the page table just before a
 * touch, so they hold on kernels that map neighbours of a page too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "demo.h"
#include "pagemap.h"

/* --- Randomness, the same for the same seed --- */

/* What random numbers are for; PAGES + n: the nth actor's pages. */
enum stream { STREAM_PLACES, STREAM_HEROES, STREAM_PAGES };

/* The nth number of a stream, from 0 to @limit - 1. */
static uint64_t random_number(const struct demo *d, uint64_t stream, uint64_t n,
			      uint64_t limit)
{
	const uint64_t source[3] = { d->seed, stream, n };
	uint64_t number;
	struct sha256_ctx sha;

	sha256_init(&sha);
	sha256_update(&sha, sizeof(source), (const uint8_t *)source);
	sha256_digest(&sha, sizeof(number), (uint8_t *)&number);
	return number % limit;
}

/* Where in @page everybody who touches it does so. */
static uint32_t place_in(const struct demo *d, uint64_t page)
{
	uint64_t places = d->image.page_size / PIECE_SIZE;

	return PIECE_SIZE *
		(uint32_t)random_number(d, STREAM_PLACES, page, places);
}

static const unsigned char *original(const struct demo *d, uint64_t page)
{
	return d->image.bytes + page * d->image.page_size + place_in(d, page);
}

bool is_original(const struct demo *d, uint64_t page,
		 const struct outcome *outcome)
{
	return !memcmp(outcome->piece, original(d, page), PIECE_SIZE);
}

/* Whether what stands at that place is something to look at. */
static bool is_colourful(const struct demo *d, uint64_t page)
{
	const unsigned char *piece = original(d, page);
	unsigned int changes = 0;

	for (unsigned int i = 1; i < PIECE_SIZE; i++)
		changes += piece[i] != piece[i - 1];
	return changes > PIECE_SIZE / 2;
}

void choose_heroes(struct demo *d)
{
	uint64_t wanted = d->image.pages < MAX_HEROES ? d->image.pages :
		MAX_HEROES;
	uint64_t share = d->image.pages / wanted, n = 0;

	/* One from each part of the file, colourful if one comes up soon. */
	while (d->nr_heroes < wanted) {
		uint64_t page = 0;

		for (unsigned int tries = 0; tries < 64; tries++) {
			page = d->nr_heroes * share +
				random_number(d, STREAM_HEROES, n++, share);
			if (is_colourful(d, page))
				break;
		}
		d->heroes[d->nr_heroes++] = page;
	}
}

static bool is_hero(const struct demo *d, uint64_t page)
{
	for (size_t i = 0; i < d->nr_heroes; i++)
		if (d->heroes[i] == page)
			return true;
	return false;
}

const uint64_t *choose_pages(struct demo *d, size_t actor)
{
	uint64_t left = 0;

	for (uint64_t page = 0; page < d->image.pages; page++)
		if (!is_hero(d, page))
			d->pages[left++] = page;
	/* Draw without putting back: what is drawn moves to the front. */
	for (uint64_t i = 0; i < d->writes; i++) {
		uint64_t drawn = i + random_number(d, STREAM_PAGES + actor, i,
						   left - i);
		uint64_t page = d->pages[drawn];

		d->pages[drawn] = d->pages[i];
		d->pages[i] = page;
	}
	return d->pages;
}

/* --- Acting --- */

uint64_t copies(const struct cowpool_counters *counters)
{
	return counters->copies_first_touch + counters->copies_after_read;
}

static bool ask(struct demo *d, size_t actor, const struct order *order,
		struct outcome *outcome)
{
	if (!actor_ask(&d->actors[actor], order, outcome))
		return false;
	d->roles[actor].view = outcome->view;
	d->roles[actor].counted = outcome->counters;
	return true;
}

bool cast_map(struct demo *d, size_t actor, struct outcome *outcome)
{
	const struct order order = { .action = ACT_MAP };

	return ask(d, actor, &order, outcome);
}

bool cast_read(struct demo *d, size_t actor, uint64_t page,
	       struct outcome *outcome)
{
	const struct order order = {
		.action = ACT_READ, .page = page, .offset = place_in(d, page)
	};

	if (!ask(d, actor, &order, outcome))
		return false;
	if (!(outcome->entry_before & PAGEMAP_PRESENT))
		d->roles[actor].predicted.read_faults++;
	return true;
}

static void predict_copy(struct demo *d, struct role *role, uint64_t page,
			 bool present)
{
	if (present)
		role->predicted.copies_after_read++;
	else
		role->predicted.copies_first_touch++;
	/* It may have been private already, and shared with a relative. */
	if (role->owned[page])
		d->shared_frames--;
	else
		role->predicted.private_pages++;
	role->owned[page] = true;
}

bool cast_write(struct demo *d, size_t actor, uint64_t page,
		enum effect effect, struct outcome *outcome)
{
	struct role *role = &d->roles[actor];
	struct written *written = &role->writes[role->nr_writes];
	struct order order = {
		.action = ACT_WRITE, .page = page, .offset = place_in(d, page)
	};
	char text[64];

	snprintf(text, sizeof(text), "%s wrote page %llu, write %zu",
		 d->actors[actor].name, (unsigned long long)page,
		 role->nr_writes + 1);
	memset(order.piece, '.', PIECE_SIZE);
	memcpy(order.piece, text, strnlen(text, PIECE_SIZE));
	if (!ask(d, actor, &order, outcome))
		return false;
	if (effect == EFFECT_COPY)
		predict_copy(d, role, page,
			     outcome->entry_before & PAGEMAP_PRESENT);
	else if (effect == EFFECT_REUSE)
		role->predicted.reuses++;
	written->page = page;
	written->offset = order.offset;
	memcpy(written->piece, order.piece, PIECE_SIZE);
	role->nr_writes++;
	return true;
}

bool cast_fork(struct demo *d)
{
	const struct order order = { .action = ACT_FORK };
	struct role *parent = &d->roles[PARENT];
	struct role *child = &d->roles[CHILD(d)];
	struct outcome outcome;

	if (!ask(d, PARENT, &order, &outcome))
		return false;
	d->actors[CHILD(d)].pid = outcome.child;
	d->nr_actors++;
	parent->predicted.forks++;
	child->predicted.private_pages = parent->predicted.private_pages;
	d->shared_frames += parent->predicted.private_pages;
	memcpy(child->owned, parent->owned,
	       d->image.pages * sizeof(*child->owned));
	memcpy(child->writes, parent->writes,
	       parent->nr_writes * sizeof(*child->writes));
	child->nr_writes = parent->nr_writes;
	return true;
}

bool cast_read_all(struct demo *d, struct outcome *outcomes)
{
	if (!actors_read_all(d->actors, d->nr_actors, outcomes))
		return false;
	for (size_t i = 0; i < d->nr_actors; i++) {
		d->roles[i].predicted.read_faults += outcomes[i].absent;
		d->roles[i].counted = outcomes[i].counters;
	}
	return true;
}

/* --- Entering --- */

static void name_actor(const struct demo *d, size_t actor)
{
	char *name = d->actors[actor].name;
	size_t room = sizeof(d->actors[actor].name);

	/* The map shows the first character of these. */
	if (actor == READER)
		snprintf(name, room, "pool");
	else if (actor == CHILD(d))
		snprintf(name, room, "a");
	else if (actor <= 'Z' - 'A' + 1)
		snprintf(name, room, "%c", (char)('A' + actor - PARENT));
	else
		snprintf(name, room, "+%zu", actor);
}

static bool give_roles(struct demo *d)
{
	size_t count = d->writers + 2;

	d->actors = calloc(count, sizeof(*d->actors));
	d->roles = calloc(count, sizeof(*d->roles));
	d->pages = calloc(d->image.pages, sizeof(*d->pages));
	if (!d->actors || !d->roles || !d->pages)
		return false;
	for (size_t i = 0; i < count; i++) {
		struct role *role = &d->roles[i];

		name_actor(d, i);
		/* The steps come to less than eight writes of one actor. */
		role->writes = calloc(d->writes + 8, sizeof(*role->writes));
		role->owned = calloc(d->image.pages, sizeof(*role->owned));
		if (!role->writes || !role->owned)
			return false;
	}
	return true;
}

bool cast_start(struct demo *d)
{
	if (!give_roles(d) || !stage_reserve(&d->stage)) {
		failed("no memory for %llu processes: %s",
		       (unsigned long long)d->writers, strerror(errno));
		return false;
	}
	while (d->nr_actors < CHILD(d)) {
		struct actor *actor = &d->actors[d->nr_actors];
		struct actor *heir = d->nr_actors == PARENT ?
			&d->actors[CHILD(d)] : NULL;

		if (!actor_start(actor, &d->stage, heir)) {
			failed("cannot start process %s: %s", actor->name,
			       strerror(errno));
			return false;
		}
		d->nr_actors++;
	}
	return true;
}
