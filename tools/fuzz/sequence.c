// SPDX-License-Identifier: GPL-2.0
/*
 * Sequences: making, changing, printing and reading them.
 */
#include "fuzz.h"

/* splitmix64 */
uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

unsigned int random_below(uint64_t *state, unsigned int n)
{
	return random_next(state) % n;
}

static unsigned int kind_pick(uint64_t *random)
{
	unsigned int sum = 0, at, kind;

	for (kind = 0; kind < nr_kinds; kind++)
		sum += kinds[kind].weight;
	at = random_below(random, sum);
	for (kind = 0; at >= kinds[kind].weight; kind++)
		at -= kinds[kind].weight;
	return kind;
}

static unsigned int kind_named(const char *name)
{
	unsigned int kind;

	for (kind = 0; kind < nr_kinds; kind++)
		if (!strcmp(kinds[kind].name, name))
			break;
	return kind;
}

static void call_make(struct call *call, uint64_t *random)
{
	uint64_t bytes = random_next(random);

	memcpy(call, &bytes, sizeof(*call));
	call->kind = kind_pick(random);
	/* Most calls are on the same few things. */
	if (random_below(random, 2))
		call->fd = 0;
	if (random_below(random, 3))
		call->slot &= 1;
	if (random_below(random, 2))
		call->page &= 3;
	if (random_below(random, 8))
		call->bad = UINT8_MAX;
}

/**
 * sequence_make() - make a new one
 * @sequence: gets its calls
 * @random: state of the generator
 *
 * It begins as most users do: with a pool that has some content, and a view.
 */
void sequence_make(struct sequence *sequence, uint64_t *random)
{
	static const char *const first[] = { "open", "create", "pwrite", "mmap" };
	unsigned int i;

	sequence->nr = ARRAY_SIZE(first) + 1 + random_below(random, 20);
	for (i = 0; i < sequence->nr; i++) {
		call_make(&sequence->call[i], random);
		if (i < ARRAY_SIZE(first) && random_below(random, 16))
			sequence->call[i].kind = kind_named(first[i]);
	}
}

/* Makes room for @nr calls at @at, if there is any. */
static unsigned int sequence_widen(struct sequence *sequence, unsigned int at,
				   unsigned int nr)
{
	if (nr > MAX_CALLS - sequence->nr)
		nr = MAX_CALLS - sequence->nr;
	memmove(&sequence->call[at + nr], &sequence->call[at],
		(sequence->nr - at) * sizeof(struct call));
	sequence->nr += nr;
	return nr;
}

static void sequence_cut(struct sequence *sequence, unsigned int at,
			 unsigned int nr)
{
	if (nr > sequence->nr - at)
		nr = sequence->nr - at;
	sequence->nr -= nr;
	memmove(&sequence->call[at], &sequence->call[at + nr],
		(sequence->nr - at) * sizeof(struct call));
}

static void change_once(struct sequence *sequence, const struct sequence *other,
			uint64_t *random)
{
	const unsigned int at = random_below(random, sequence->nr);
	const unsigned int byte = random_below(random, sizeof(struct call));
	uint8_t *bytes = (uint8_t *)&sequence->call[at];
	struct call piece[8];
	unsigned int from, nr;

	switch (random_below(random, 10)) {
	case 0:
	case 1:
	case 2:
		bytes[byte] = random_next(random);
		break;
	case 3:
		bytes[byte] += random_below(random, 2) ? 1 : -1;
		break;
	case 4:
		bytes[byte] = ((uint8_t *)&sequence->call[random_below(random,
							sequence->nr)])[byte];
		break;
	case 5:
		call_make(&sequence->call[at], random);
		break;
	case 6:
		if (sequence_widen(sequence, at, 1))
			call_make(&sequence->call[at], random);
		break;
	case 7:
		sequence_cut(sequence, at, 1 + random_below(random, 3));
		break;
	case 8:
		/* Some of it once more, elsewhere */
		from = random_below(random, sequence->nr);
		nr = 1 + random_below(random, ARRAY_SIZE(piece));
		if (nr > sequence->nr - from)
			nr = sequence->nr - from;
		memcpy(piece, &sequence->call[from], nr * sizeof(piece[0]));
		nr = sequence_widen(sequence, at, nr);
		memcpy(&sequence->call[at], piece, nr * sizeof(piece[0]));
		break;
	case 9:
		/* The beginning of one, the end of the other */
		from = random_below(random, other->nr);
		nr = other->nr - from;
		if (nr > MAX_CALLS - at)
			nr = MAX_CALLS - at;
		memcpy(&sequence->call[at], &other->call[from],
		       nr * sizeof(struct call));
		sequence->nr = at + nr;
		break;
	}
	if (!sequence->nr)
		sequence_make(sequence, random);
}

/**
 * sequence_change() - change a sequence a little
 * @sequence: the sequence
 * @other: one that it may get a part of
 * @random: state of the generator
 */
void sequence_change(struct sequence *sequence, const struct sequence *other,
		     uint64_t *random)
{
	unsigned int times = 1 << random_below(random, 4);

	while (times--)
		change_once(sequence, other, random);
}

/**
 * sequence_print() - write a sequence as text
 * @sequence: the sequence
 * @to: where to
 * @size: what fits there
 *
 * Return: the number of characters.
 */
size_t sequence_print(const struct sequence *sequence, char *to, size_t size)
{
	size_t at = snprintf(to, size, "sequence %llu seed %llu\n",
			     (unsigned long long)sequence->number,
			     (unsigned long long)sequence->seed);

	for (unsigned int i = 0; i < sequence->nr && at < size; i++) {
		const struct call *call = &sequence->call[i];

		at += snprintf(to + at, size - at, "%s %u %u %u %u %u %u %u\n",
			       kinds[call->kind % nr_kinds].name, call->fd,
			       call->slot, call->page, call->pages, call->how,
			       call->value, call->bad);
	}
	return at < size ? at : size - 1;
}

/**
 * sequence_read() - read the next sequence that was printed
 * @sequence: the sequence
 * @from: where from
 *
 * Return: false if there is none.
 */
bool sequence_read(struct sequence *sequence, FILE *from)
{
	char line[128], name[16];
	unsigned long long number, seed;
	unsigned int b[7], i;
	bool begun = false;
	long start;

	memset(sequence, 0, sizeof(*sequence));
	for (; start = ftell(from), fgets(line, sizeof(line), from);) {
		struct call *call = &sequence->call[sequence->nr];

		if (sscanf(line, "sequence %llu seed %llu", &number, &seed) == 2) {
			if (begun) {
				fseek(from, start, SEEK_SET);
				break;
			}
			begun = true;
			sequence->number = number;
			sequence->seed = seed;
			continue;
		}
		if (sscanf(line, "%15s %u %u %u %u %u %u %u", name, &b[0], &b[1],
			   &b[2], &b[3], &b[4], &b[5], &b[6]) != 8)
			continue;
		if (sequence->nr == MAX_CALLS || kind_named(name) == nr_kinds) {
			fprintf(stderr, "not understood: %s", line);
			return false;
		}
		call->kind = kind_named(name);
		for (i = 0; i < ARRAY_SIZE(b); i++)
			((uint8_t *)call)[i + 1] = b[i];
		sequence->nr++;
	}
	return sequence->nr;
}
