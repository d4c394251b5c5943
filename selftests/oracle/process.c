// SPDX-License-Identifier: GPL-2.0
/*
 * A process of the oracle: does what it is asked, and looks at pages.
 */
#include "process.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>

struct process self;
/* Its own copy: a child may still need it when the parent is long past it. */
static struct operation current;

/* An access that must fail, and whose signal is caught */
static volatile sig_atomic_t refusal_expected;
static sigjmp_buf refusal;

/* Something is not as it must be. */
void wrong(const char *format, ...)
{
	char text[200];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	trouble_set(&current, "%s", text);
	_exit(1);
}

/*
 * What a word holds after operation number @writer wrote it: its own place, and
 * who wrote it. By 0 the pool's content is meant.
 */
uint64_t word_value(uint32_t writer, unsigned int page, unsigned int word)
{
	if (!writer && page >= shared->world.filled)
		return 0;
	return (uint64_t)shared->salt << 48 | (uint64_t)writer << 24 | page << 13 | word;
}

/* Where the cells of a page are. All its other words stay as they are. */
unsigned int cell_word(unsigned int page, unsigned int cell)
{
	unsigned int part = WORDS / CELLS;

	return cell * part + (page * 7 + cell * 3) % part;
}

static const char *value_text(uint64_t value, char *text, size_t size)
{
	unsigned int writer = value >> 24 & 0xffffff;
	unsigned int page = value >> 13 & 0x7ff, word = value & 0x1fff;

	if (!value)
		snprintf(text, size, "zero");
	else if (value >> 48 != shared->salt)
		snprintf(text, size, "%#llx, which is nobody's", (unsigned long long)value);
	else if (!writer)
		snprintf(text, size, "the pool's word %u of page %u", word, page);
	else
		snprintf(text, size, "what operation %u wrote to word %u of page %u",
			 writer, word, page);
	return text;
}

static _Noreturn void word_wrong(uint64_t value, uint64_t expected, const char *of,
				 unsigned int number, unsigned int page,
				 unsigned int word)
{
	char seen[80], wanted[80];

	wrong("%s %u, page %u, word %u: is %s, not %s", of, number, page, word,
	      value_text(value, seen, sizeof(seen)),
	      value_text(expected, wanted, sizeof(wanted)));
}

/* @value must be what @writer wrote. */
void word_check(uint64_t value, uint32_t writer, unsigned int page,
		unsigned int word, unsigned int view)
{
	if (value != word_value(writer, page, word))
		word_wrong(value, word_value(writer, page, word), "view", view,
			   page, word);
}

/* Looks at every word of a page. */
void page_check(const void *at, const struct content *content, unsigned int page,
		const char *of, unsigned int number)
{
	const volatile uint64_t *words = at;
	unsigned int word = 0;

	for (unsigned int cell = 0; cell <= CELLS; cell++) {
		unsigned int next = cell < CELLS ? cell_word(page, cell) : WORDS;
		uint64_t value, expected = word_value(0, page, 0);

		for (; word < next; word++) {
			value = words[word];
			if (value != (expected ? expected + word : 0))
				word_wrong(value, expected ? expected + word : 0, of,
					   number, page, word);
		}
		if (cell == CELLS)
			break;
		value = words[word];
		expected = word_value(content->cell[page][cell], page, word);
		if (value != expected)
			word_wrong(value, expected, of, number, page, word);
		word++;
	}
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (refusal_expected && sig == SIGSEGV)
		siglongjmp(refusal, 1);
	wrong("signal %d, code %d, at %p", sig, info->si_code, info->si_addr);
}

/* Whether an access ends in SIGSEGV, as it should. */
bool access_refused(void *at, bool write)
{
	volatile uint64_t *word = at;
	bool refused;

	refusal_expected = 1;
	refused = sigsetjmp(refusal, 1);
	if (!refused) {
		if (write)
			*word = 0;
		else
			(void)*word;
	}
	refusal_expected = 0;
	return refused;
}

/* The running process is a new one, in a certain place. */
void process_forked(unsigned int number)
{
	self.number = number;
	if (number % 2)
		bystander_start();
	shared->queue[number].pid = getpid();
}

/* What a process does that the director has started. */
static void process_begin(void)
{
	struct sigaction action = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO,
	};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	for (unsigned int i = 0; i < MAX_SNAPSHOTS; i++)
		self.snapshot[i].fd = -1;
}

static void process_step(struct queue *queue)
{
	const unsigned int number = self.number;
	uint32_t done = queue->done;
	bool did, ends;

	while (queue->asked == done) {
		queue->process_sleeps = 1;
		if (queue->asked == done)
			futex_wait(&queue->asked, done);
		queue->process_sleeps = 0;
	}
	current = queue->operation[done % QUEUE_LENGTH];
	did = operation_do(&current);
	/* A child goes on with what it is asked itself. */
	if (self.number != number)
		return;
	shared->result[current.place] = did ? DONE : IDLE;
	ends = current.kind == EXIT;
	queue->done = done + 1;
	if (queue->director_sleeps)
		futex_wake(&queue->done);
	if (ends)
		_exit(0);
}

_Noreturn void process_run(unsigned int number)
{
	process_forked(number);
	process_begin();
	for (;;)
		process_step(&shared->queue[self.number]);
}
