// SPDX-License-Identifier: GPL-2.0
/*
 * The demo's actors. Orders and outcomes go over a socket pair, one struct a
 * message; an actor that dies closes its end, so that nobody waits for it.
 */
#include "actor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/cowpool.h"
#include "command.h"
#include "pagemap.h"
#include "term.h"

#define HUGE	(2UL << 20)

/**
 * struct self - what an actor's process knows
 * @stage: where it acts
 * @channel: to the demo
 * @pagemap: descriptor of its /proc/self/pagemap, or -1
 * @shown: see struct actor
 * @heir_channel: its child's channel to the demo, or -1
 * @heir_shown: its child's
 */
struct self {
	const struct stage *stage;
	int channel;
	int pagemap;
	uint64_t *shown;
	int heir_channel;
	uint64_t *heir_shown;
};

bool stage_reserve(struct stage *stage)
{
	size_t size = stage->pages * stage->page_size;
	char *area;

	area = mmap(NULL, size + 2 * HUGE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return false;
	/* Actors map over this reservation, which they inherit. */
	stage->base = area + (HUGE - (uintptr_t)area % HUGE) + stage->page_size;
	return true;
}

static uint64_t faults_so_far(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)(usage.ru_minflt + usage.ru_majflt);
}

/* Reads from @at, or writes @piece there. Returns the page faults it took. */
static uint64_t touch(volatile unsigned char *at, const unsigned char *piece)
{
	uint64_t before = faults_so_far();

	if (piece)
		memcpy((void *)at, piece, PIECE_SIZE);
	else
		(void)*at;
	return faults_so_far() - before;
}

static void do_touch(const struct self *self, const struct order *order,
		     struct outcome *outcome)
{
	const unsigned char *piece =
		order->action == ACT_WRITE ? order->piece : NULL;
	unsigned char *page = (unsigned char *)self->stage->base +
		order->page * self->stage->page_size;
	unsigned char rehearsal[PIECE_SIZE];

	outcome->entry_before = pagemap_entry(self->pagemap, page);
	/* So that faults for code, stack and the like are not counted. */
	touch(rehearsal, piece);
	outcome->faults = touch(page + order->offset, piece);
	outcome->entry_after = pagemap_entry(self->pagemap, page);
	memcpy(outcome->piece, page + order->offset, PIECE_SIZE);
}

/* To tell pages apart by their content, where there are no frame numbers. */
static uint64_t content_hash(const unsigned char *bytes, size_t length)
{
	struct sha256_ctx sha;
	uint64_t hash;

	sha256_init(&sha);
	sha256_update(&sha, length, bytes);
	sha256_digest(&sha, sizeof(hash), (uint8_t *)&hash);
	return hash;
}

static void do_read_all(const struct self *self, struct outcome *outcome)
{
	const struct stage *stage = self->stage;
	uint64_t *done = &self->shown[stage->pages];
	struct sha256_ctx sha;

	sha256_init(&sha);
	for (uint64_t i = 0; i < stage->pages; i++) {
		const unsigned char *page = (unsigned char *)stage->base +
			i * stage->page_size;
		uint64_t frame;

		if (!(pagemap_entry(self->pagemap, page) & PAGEMAP_PRESENT))
			outcome->absent++;
		sha256_update(&sha, stage->page_size, page);
		frame = pagemap_entry(self->pagemap, page) & PAGEMAP_FRAME;
		self->shown[i] = frame ? frame :
			content_hash(page, stage->page_size);
		__atomic_store_n(done, i + 1, __ATOMIC_RELAXED);
	}
	sha256_digest(&sha, sizeof(outcome->digest), outcome->digest);
}

static void do_map(const struct self *self, struct outcome *outcome)
{
	const struct stage *stage = self->stage;

	if (mmap(stage->base, stage->pages * stage->page_size,
		 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, stage->pool,
		 0) == MAP_FAILED)
		outcome->error = errno;
}

static void be_orphan_safe(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* In the child, turns @self into the heir. */
static void do_fork(struct self *self, struct outcome *outcome)
{
	outcome->child = fork();
	if (outcome->child < 0)
		outcome->error = errno;
	if (outcome->child) {
		close(self->heir_channel);
		return;
	}
	be_orphan_safe();
	close(self->channel);
	close(self->pagemap);
	self->channel = self->heir_channel;
	self->shown = self->heir_shown;
	self->pagemap = pagemap_open();
}

/* Waits for children, so that their views are gone when this process is. */
static void __attribute__((noreturn)) leave(void)
{
	while (wait(NULL) > 0)
		;
	_exit(0);
}

static void __attribute__((noreturn)) act(struct self *self)
{
	struct order order;

	while (read(self->channel, &order, sizeof(order)) == sizeof(order)) {
		struct outcome outcome = { 0 };
		struct cowpool_info info;

		switch (order.action) {
		case ACT_MAP:
			do_map(self, &outcome);
			break;
		case ACT_READ:
		case ACT_WRITE:
			do_touch(self, &order, &outcome);
			break;
		case ACT_READ_ALL:
			do_read_all(self, &outcome);
			break;
		case ACT_FORK:
			do_fork(self, &outcome);
			/* The child's first order is still to come. */
			if (!outcome.child)
				continue;
			break;
		case ACT_EXIT:
			leave();
		}
		if (!outcome.error) {
			if (cowpool_info(self->stage->pool, self->stage->base,
					 &info))
				outcome.error = errno;
			outcome.view = info.view_id;
			outcome.counters = info.counters;
		}
		if (write(self->channel, &outcome, sizeof(outcome)) < 0)
			break;
	}
	leave();
}

static uint64_t *shared_numbers(uint64_t count)
{
	uint64_t *numbers = mmap(NULL, count * sizeof(*numbers),
				 PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return numbers == MAP_FAILED ? NULL : numbers;
}

/* Gives @actor what it needs before its process exists; *@far is its end. */
static bool prepare(struct actor *actor, const struct stage *stage, int *far)
{
	int ends[2];

	actor->stage = stage;
	actor->shown = shared_numbers(stage->pages + 1);
	if (!actor->shown ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return false;
	actor->channel = ends[0];
	*far = ends[1];
	return true;
}

bool actor_start(struct actor *actor, const struct stage *stage,
		 struct actor *heir)
{
	struct self self = { .stage = stage, .heir_channel = -1 };

	if (!prepare(actor, stage, &self.channel))
		return false;
	self.shown = actor->shown;
	if (heir) {
		if (!prepare(heir, stage, &self.heir_channel))
			return false;
		self.heir_shown = heir->shown;
		heir->child = true;
	}
	fflush(NULL);
	actor->pid = fork();
	if (!actor->pid) {
		be_orphan_safe();
		self.pagemap = pagemap_open();
		act(&self);
	}
	/* Only the actor may hold its end: else nobody would see it die. */
	close(self.channel);
	if (heir)
		close(self.heir_channel);
	return actor->pid > 0;
}

static bool send_order(const struct actor *actor, const struct order *order)
{
	return send(actor->channel, order, sizeof(*order), MSG_NOSIGNAL) ==
		sizeof(*order);
}

/* Says why an actor did not answer. */
static void tell_death(struct actor *actor)
{
	int status;

	if (actor->child || waitpid(actor->pid, &status, 0) != actor->pid) {
		failed("process %s (%d) is gone", actor->name, (int)actor->pid);
	} else {
		if (WIFSIGNALED(status))
			failed("process %s (%d) was killed by signal %d (%s)",
			       actor->name, (int)actor->pid, WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
		else
			failed("process %s (%d) exited with status %d",
			       actor->name, (int)actor->pid,
			       WEXITSTATUS(status));
		actor->pid = 0;
	}
}

static bool receive_outcome(struct actor *actor, struct outcome *outcome)
{
	ssize_t got;

	do {
		got = read(actor->channel, outcome, sizeof(*outcome));
	} while (got < 0 && errno == EINTR);
	if (got != sizeof(*outcome)) {
		tell_death(actor);
		return false;
	}
	if (outcome->error) {
		errno = outcome->error;
		failed_device("process %s (%d) could not do its part",
			      actor->name, (int)actor->pid);
		return false;
	}
	return true;
}

bool actor_ask(struct actor *actor, const struct order *order,
	       struct outcome *outcome)
{
	if (!send_order(actor, order)) {
		tell_death(actor);
		return false;
	}
	return receive_outcome(actor, outcome);
}

static uint64_t pages_done(const struct actor *actors, size_t count)
{
	uint64_t done = 0;

	for (size_t i = 0; i < count; i++)
		done += __atomic_load_n(&actors[i].shown[actors[i].stage->pages],
					__ATOMIC_RELAXED);
	return done;
}

bool actors_read_all(struct actor *actors, size_t count,
		     struct outcome *outcomes)
{
	const struct order order = { .action = ACT_READ_ALL };
	uint64_t total = count * actors[0].stage->pages;
	bool fine = true;

	for (size_t i = 0; i < count; i++) {
		if (!send_order(&actors[i], &order)) {
			tell_death(&actors[i]);
			return false;
		}
	}
	for (size_t i = 0; fine && i < count; i++) {
		struct pollfd channel = {
			.fd = actors[i].channel, .events = POLLIN
		};

		while (poll(&channel, 1, 100) <= 0)
			progress("everyone reads every page",
				 pages_done(actors, count), total);
		fine = receive_outcome(&actors[i], &outcomes[i]);
	}
	progress_end();
	return fine;
}

void actors_end(struct actor *actors, size_t count)
{
	const struct order order = { .action = ACT_EXIT };

	for (size_t i = count; i--;) {
		if (actors[i].pid > 0)
			send_order(&actors[i], &order);
	}
	for (size_t i = 0; i < count; i++) {
		if (actors[i].pid > 0 && !actors[i].child)
			waitpid(actors[i].pid, NULL, 0);
		if (actors[i].channel > 0)
			close(actors[i].channel);
		if (actors[i].shown)
			munmap(actors[i].shown,
			       (actors[i].stage->pages + 1) *
				       sizeof(*actors[i].shown));
	}
}
