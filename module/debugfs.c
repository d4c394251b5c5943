// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/debug/cowpool: the state of everything, for people. The formats
 * are described in Documentation/ABI/.
 */
#include <linux/debugfs.h>
#include <linux/kernel.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/user_namespace.h>

#include "debugfs.h"
#include "view.h"

static struct dentry *debugfs_dir;

static void show_counters(struct seq_file *m,
			  const struct cowpool_counters *counters)
{
	const u64 *value = (const u64 *)counters;
	unsigned int i;

	for (i = 0; i < COWPOOL_NR_COUNTERS; i++)
		seq_printf(m, " %llu", value[i]);
}

static void show_counter_names(struct seq_file *m)
{
	unsigned int i;

	for (i = 0; i < COWPOOL_NR_COUNTERS; i++)
		seq_printf(m, " %s", cowpool_counter_names[i]);
}

static int stats_show(struct seq_file *m, void *unused)
{
	struct cowpool_totals totals;
	const u64 *value = (const u64 *)&totals.counters;
	unsigned int i;

	cowpool_totals(&totals);
	for (i = 0; i < COWPOOL_NR_COUNTERS; i++)
		seq_printf(m, "%s %llu\n", cowpool_counter_names[i], value[i]);
	seq_printf(m, "pools %llu\n", totals.pools);
	seq_printf(m, "views %llu\n", totals.views);
	seq_printf(m, "filled_pages %llu\n", totals.filled_pages);
	seq_printf(m, "pool_frames %llu\n", totals.pool_frames);
	seq_printf(m, "private_frames %llu\n", totals.private_frames);
	seq_printf(m, "nodes %llu\n", totals.nodes);
	seq_printf(m, "spare_frames %llu\n", totals.spare_frames);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static const char *state_name(u32 state)
{
	if (state & COWPOOL_STATE_SNAPSHOT)
		return "snapshot";
	if (state & COWPOOL_STATE_SEALED)
		return "sealed";
	return state & COWPOOL_STATE_MAPPED ? "mapped" : "open";
}

/*
 * Lines that do not fit are in vain: seq_file begins again, with a larger buffer. So is
 * whatever comes behind them.
 */

static bool show_pool(struct cowpool_pool *pool,
		      const struct cowpool_pool_state *state, void *m)
{
	struct cowpool_counters counters;

	cowpool_pool_counters(pool, &counters);
	seq_printf(m, "%llu %s %lu %llu %04o %u %u %s %llu", pool->id,
		   state->name[0] ? state->name : "-", pool->nr_pages,
		   state->filled_pages, pool->mode,
		   from_kuid_munged(&init_user_ns, pool->uid),
		   from_kgid_munged(&init_user_ns, pool->gid),
		   state_name(state->state), state->views);
	show_counters(m, &counters);
	seq_putc(m, '\n');
	return !seq_has_overflowed(m);
}

static int pools_show(struct seq_file *m, void *unused)
{
	seq_puts(m, "id name size_pages filled_pages mode uid gid state views");
	show_counter_names(m);
	seq_putc(m, '\n');
	cowpool_pools_walk(show_pool, m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(pools);

struct owner {
	pid_t pid;
	char comm[TASK_COMM_LEN];
};

/* Who has the view mapped; nobody ("0 -") when the process is exiting. */
static void view_owner(const struct cowpool_view *view, struct owner *owner)
{
	owner->pid = 0;
	strscpy(owner->comm, "-", sizeof(owner->comm));
#ifdef CONFIG_MEMCG
	rcu_read_lock();
	struct task_struct *task = rcu_dereference(view->mm->owner);

	if (task) {
		owner->pid = task_tgid_nr(task);
		get_task_comm(owner->comm, task);
	}
	rcu_read_unlock();
#endif
}

static bool show_view(struct cowpool_view *view, void *m)
{
	struct cowpool_counters counters;
	struct owner owner;

	view_owner(view, &owner);
	cowpool_counters_read(&counters, &view->counters);
	seq_printf(m, "%llu %llu %d %lu", view->id, view->mapping->pool->id,
		   owner.pid, view->mapping->pool->nr_pages);
	show_counters(m, &counters);
	/* A process can give itself any name, a line break included. */
	seq_printf(m, " %*pE\n", (int)strlen(owner.comm), owner.comm);
	return !seq_has_overflowed(m);
}

static int views_show(struct seq_file *m, void *unused)
{
	seq_puts(m, "id pool pid size_pages");
	show_counter_names(m);
	seq_puts(m, " comm\n");
	cowpool_views_walk(show_view, m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(views);

/**
 * cowpool_debugfs_setup() - make the files
 *
 * A kernel without debugfs does without them.
 */
void cowpool_debugfs_setup(void)
{
	debugfs_dir = debugfs_create_dir("cowpool", NULL);
	debugfs_create_file("stats", 0400, debugfs_dir, NULL, &stats_fops);
	debugfs_create_file("pools", 0400, debugfs_dir, NULL, &pools_fops);
	debugfs_create_file("views", 0400, debugfs_dir, NULL, &views_fops);
}

/**
 * cowpool_debugfs_teardown() - remove the files
 */
void cowpool_debugfs_teardown(void)
{
	debugfs_remove_recursive(debugfs_dir);
}
