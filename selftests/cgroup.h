/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A control group for a test and its children.
 */
#ifndef COWPOOL_TEST_CGROUP_H
#define COWPOOL_TEST_CGROUP_H

#include "cowpool_test.h"

#define CGROUP_ROOT	"/sys/fs/cgroup/"
#define CGROUP		CGROUP_ROOT "cowpool-selftest/"

/* Whether a file of the root group, which lists controllers, has this one. */
static inline bool cgroup_lists(struct __test_metadata *_metadata, const char *path,
				const char *controller)
{
	char line[512] = "";
	FILE *file = fopen(path, "r");

	ASSERT_NE(NULL, file) TH_LOG("%s: %s", path, strerror(errno));
	fgets(line, sizeof(line), file);
	fclose(file);
	return strstr(line, controller);
}

static inline bool cgroup_can(struct __test_metadata *_metadata, const char *controller)
{
	return !access(CGROUP_ROOT "cgroup.subtree_control", W_OK) &&
	       cgroup_lists(_metadata, CGROUP_ROOT "cgroup.controllers", controller);
}

static inline void cgroup_make(struct __test_metadata *_metadata, const char *controller)
{
	char text[32];

	snprintf(text, sizeof(text), "+%s", controller);
	file_write(_metadata, CGROUP_ROOT "cgroup.subtree_control", text);
	ASSERT_EQ(0, mkdir(CGROUP, 0755)) TH_LOG("%s", strerror(errno));
}

/* A group can be removed once its last task is quite gone. */
static inline void cgroup_remove(struct __test_metadata *_metadata)
{
	int tries = 1000;

	while (rmdir(CGROUP) && errno == EBUSY && tries--)
		usleep(10000);
	EXPECT_NE(0, access(CGROUP, F_OK));
}

#endif
