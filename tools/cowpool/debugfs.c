// SPDX-License-Identifier: GPL-2.0
/*
 * Reading what the module shows under /sys/kernel/debug/cowpool/. Columns are
 * found by the names in the header line, so new ones do no harm.
 */
#include "debugfs.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A named number and where it goes. */
struct field {
	const char *name;
	size_t offset;
	int base;
};

static const struct field counter_fields[] = {
	{ "read_faults", offsetof(struct cowpool_counters, read_faults), 10 },
	{ "copies_first_touch",
	  offsetof(struct cowpool_counters, copies_first_touch), 10 },
	{ "copies_after_read",
	  offsetof(struct cowpool_counters, copies_after_read), 10 },
	{ "copies_pinned",
	  offsetof(struct cowpool_counters, copies_pinned), 10 },
	{ "copies_reset",
	  offsetof(struct cowpool_counters, copies_reset), 10 },
	{ "reuses", offsetof(struct cowpool_counters, reuses), 10 },
	{ "forks", offsetof(struct cowpool_counters, forks), 10 },
	{ "snapshots", offsetof(struct cowpool_counters, snapshots), 10 },
	{ "resets", offsetof(struct cowpool_counters, resets), 10 },
	{ "private_pages",
	  offsetof(struct cowpool_counters, private_pages), 10 },
	{ 0 }
};

static const struct field row_fields[] = {
	{ "id", offsetof(struct debugfs_row, id), 10 },
	{ "pool", offsetof(struct debugfs_row, pool), 10 },
	{ "pid", offsetof(struct debugfs_row, pid), 10 },
	{ "size_pages", offsetof(struct debugfs_row, size_pages), 10 },
	{ "filled_pages", offsetof(struct debugfs_row, filled_pages), 10 },
	{ "views", offsetof(struct debugfs_row, views), 10 },
	{ "mode", offsetof(struct debugfs_row, mode), 8 },
	{ "uid", offsetof(struct debugfs_row, uid), 10 },
	{ "gid", offsetof(struct debugfs_row, gid), 10 },
	{ 0 }
};

static const struct field stats_fields[] = {
	{ "pools", offsetof(struct debugfs_stats, pools), 10 },
	{ "views", offsetof(struct debugfs_stats, views), 10 },
	{ "filled_pages", offsetof(struct debugfs_stats, filled_pages), 10 },
	{ "pool_frames", offsetof(struct debugfs_stats, pool_frames), 10 },
	{ "private_frames",
	  offsetof(struct debugfs_stats, private_frames), 10 },
	{ "nodes", offsetof(struct debugfs_stats, nodes), 10 },
	{ 0 }
};

static FILE *open_file(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS_DIR "/%s", name);
	return fopen(path, "re");
}

static void set_field(const struct field *fields, void *to, const char *name,
		      const char *value)
{
	for (; fields->name; fields++) {
		if (!strcmp(fields->name, name)) {
			uint64_t number = strtoull(value, NULL, fields->base);

			memcpy((char *)to + fields->offset, &number,
			       sizeof(number));
			return;
		}
	}
}

static void parse_row(struct debugfs_row *row, char *header, char *line)
{
	char *next_name, *next_value;
	char *name = strtok_r(header, " \t\n", &next_name);
	char *value = strtok_r(line, " \t\n", &next_value);

	while (name && value) {
		if (!strcmp(name, "name"))
			snprintf(row->name, sizeof(row->name), "%s", value);
		if (!strcmp(name, "state"))
			snprintf(row->state, sizeof(row->state), "%s", value);
		set_field(row_fields, row, name, value);
		set_field(counter_fields, &row->counters, name, value);
		name = strtok_r(NULL, " \t\n", &next_name);
		value = strtok_r(NULL, " \t\n", &next_value);
	}
}

struct debugfs_row *debugfs_rows(const char *table, size_t *count)
{
	struct debugfs_row *rows = calloc(1, sizeof(*rows));
	char header[1024], names[1024], line[1024];
	FILE *file = open_file(table);
	size_t room = 1;

	*count = 0;
	if (!rows || !file || !fgets(header, sizeof(header), file))
		goto fail;
	while (fgets(line, sizeof(line), file)) {
		if (*count == room) {
			struct debugfs_row *more;

			more = realloc(rows, 2 * room * sizeof(*rows));
			if (!more)
				goto fail;
			memset(more + room, 0, room * sizeof(*rows));
			rows = more;
			room *= 2;
		}
		memcpy(names, header, sizeof(names));
		parse_row(&rows[(*count)++], names, line);
	}
	if (ferror(file))
		goto fail;
	fclose(file);
	return rows;
fail:
	free(rows);
	if (file)
		fclose(file);
	return NULL;
}

const struct debugfs_row *debugfs_find(const struct debugfs_row *rows,
				       size_t count, uint64_t id)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].id == id)
			return &rows[i];
	return NULL;
}

bool debugfs_stats(struct debugfs_stats *stats)
{
	FILE *file = open_file("stats");
	char name[64], value[32];

	if (!file)
		return false;
	memset(stats, 0, sizeof(*stats));
	while (fscanf(file, "%63s %31s", name, value) == 2) {
		set_field(stats_fields, stats, name, value);
		set_field(counter_fields, &stats->counters, name, value);
	}
	fclose(file);
	return true;
}
