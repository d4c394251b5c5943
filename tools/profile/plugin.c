// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU that counts how often each block of code is executed
 * between two marks that the benchmark sets (mark.h): a profile that is exact.
 *
 * At each second mark it writes a file $COWPOOL_PROFILE.N, with a line for each
 * block: its address, its instructions, how often it was executed.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "mark.h"
#include "qemu_plugin.h"

/* What the QEMU that loads this has to offer at least, and is compiled for */
int qemu_plugin_version = 1;

/* A hash table, never full: one emulator runs some ten thousand blocks. */
#define BLOCKS		(1U << 20)

static struct block {
	uint64_t addr;
	uint64_t instructions;
	uint64_t executed;
} blocks[BLOCKS];
static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int files;

static struct block *block_at(uint64_t addr, uint64_t instructions)
{
	unsigned int i = (addr * 0x9e3779b97f4a7c15ULL >> 32 ^ instructions) % BLOCKS;

	while (blocks[i].addr &&
	       (blocks[i].addr != addr || blocks[i].instructions != instructions))
		i = (i + 1) % BLOCKS;
	blocks[i].addr = addr;
	blocks[i].instructions = instructions;
	return &blocks[i];
}

static void profile_start(unsigned int vcpu, void *data)
{
	(void)vcpu;
	(void)data;
	for (unsigned int i = 0; i < BLOCKS; i++)
		blocks[i].executed = 0;
}

static void profile_stop(unsigned int vcpu, void *data)
{
	char name[4096];
	FILE *file;

	(void)vcpu;
	(void)data;
	snprintf(name, sizeof(name), "%s.%u", getenv("COWPOOL_PROFILE"), files++);
	file = fopen(name, "w");
	if (!file) {
		perror(name);
		exit(1);
	}
	for (unsigned int i = 0; i < BLOCKS; i++)
		if (blocks[i].executed)
			fprintf(file, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n",
				blocks[i].addr, blocks[i].instructions,
				blocks[i].executed);
	fclose(file);
}

/* xchg %reg, %reg, of one of the two registers */
static bool is_mark(const struct qemu_plugin_insn *insn, uint8_t registers)
{
	const uint8_t *code = qemu_plugin_insn_data(insn);

	return qemu_plugin_insn_size(insn) == 3 && code[0] == 0x4d && code[1] == 0x87 &&
	       code[2] == registers;
}

static void block_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t nr = qemu_plugin_tb_n_insns(tb);
	struct block *block;

	(void)id;
	pthread_mutex_lock(&blocks_lock);
	block = block_at(qemu_plugin_tb_vaddr(tb), nr);
	pthread_mutex_unlock(&blocks_lock);
	qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64,
						 &block->executed, 1);
	for (size_t i = 0; i < nr; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (is_mark(insn, MARK_START_REGISTERS))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, profile_start,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		if (is_mark(insn, MARK_STOP_REGISTERS))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, profile_stop,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
	}
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
			char **argv)
{
	(void)info;
	(void)argc;
	(void)argv;
	qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
	return 0;
}
