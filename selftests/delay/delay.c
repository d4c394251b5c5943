// SPDX-License-Identifier: GPL-2.0
/*
 * Makes functions of the kernel or of a module wait for a moment when they are
 * called, now and then, so that what races with them gets a chance.
 *
 * It puts kprobes on them. Their handlers run with interrupts off, so the wait
 * is spent spinning, whatever locks the caller holds.
 */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/prandom.h>

#define MOST_SYMBOLS	32
/* What udelay() is good for on every architecture. */
#define MOST_US		1000U

static char *symbols[MOST_SYMBOLS];
static unsigned int nr_symbols;
module_param_array(symbols, charp, &nr_symbols, 0444);
MODULE_PARM_DESC(symbols,
		 "Functions to delay. Those that cannot be probed here are left out");

static unsigned int most_us = 100;
module_param(most_us, uint, 0444);
MODULE_PARM_DESC(most_us, "Microseconds that a call waits at most, up to 1000 (100)");

static unsigned int one_in = 10;
module_param(one_in, uint, 0444);
MODULE_PARM_DESC(one_in, "How many calls there are for one that waits (10)");

/**
 * struct point - a function that waits
 * @probe: is on it, if @armed
 * @armed: it was found
 * @waits: how often it has waited
 */
static struct point {
	struct kprobe probe;
	bool armed;
	atomic_long_t waits;
} points[MOST_SYMBOLS];

/* The kernel's own random numbers take a lock, which must not be in here. */
static DEFINE_PER_CPU(struct rnd_state, random_state);

static int point_reached(struct kprobe *probe, struct pt_regs *regs)
{
	struct point *point = container_of(probe, struct point, probe);
	u32 random = prandom_u32_state(this_cpu_ptr(&random_state));

	if (random % one_in)
		return 0;
	atomic_long_inc(&point->waits);
	udelay(1 + random / one_in % most_us);
	return 0;
}

/*
 * Does nothing, but a probe that has one is not turned into a jump: that happens
 * some time later, while other processors may run the function.
 */
static void point_passed(struct kprobe *probe, struct pt_regs *regs,
			 unsigned long flags)
{
}

/* A line for each function that is delayed, with how often it was. */
static int waits_get(char *buffer, const struct kernel_param *param)
{
	unsigned int i;
	int len = 0;

	for (i = 0; i < nr_symbols; i++)
		if (points[i].armed)
			len += sysfs_emit_at(buffer, len, "%s %ld\n", symbols[i],
					     atomic_long_read(&points[i].waits));
	return len;
}

static const struct kernel_param_ops waits_ops = {
	.get = waits_get,
};
module_param_cb(waits, &waits_ops, NULL, 0444);
MODULE_PARM_DESC(waits, "How often each function has waited, to be read");

static int __init delay_init(void)
{
	unsigned int i;

	if (!one_in || !most_us || most_us > MOST_US)
		return -EINVAL;
	prandom_seed_full_state(&random_state);
	for (i = 0; i < nr_symbols; i++) {
		points[i].probe.symbol_name = symbols[i];
		points[i].probe.pre_handler = point_reached;
		points[i].probe.post_handler = point_passed;
		points[i].armed = !register_kprobe(&points[i].probe);
	}
	return 0;
}

/* A function may be gone with its module: then nothing is left to disarm. */
static void __exit delay_exit(void)
{
	unsigned int i;

	for (i = 0; i < nr_symbols; i++)
		if (points[i].armed)
			unregister_kprobe(&points[i].probe);
}

module_init(delay_init);
module_exit(delay_exit);

MODULE_DESCRIPTION("Delays for tests of races");
MODULE_LICENSE("GPL");
