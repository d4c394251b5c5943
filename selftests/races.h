/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For tests that race on purpose: two sides run against each other for a number
 * of rounds.
 */
#ifndef COWPOOL_TEST_RACES_H
#define COWPOOL_TEST_RACES_H

#include "snapshot.h"

/* A few threads that run until they are told to stop, or finish. */
struct crew {
	pthread_t threads[4];
	size_t nr;
	atomic_bool stop;
	atomic_ullong done;	/* what they did, to see that there was a race */
	atomic_ullong wrong;	/* what they saw that must not be */
};

static inline void crew_add(struct __test_metadata *_metadata, struct crew *crew,
			    void *(*function)(void *arg), void *arg)
{
	ASSERT_GT(ARRAY_SIZE(crew->threads), crew->nr);
	ASSERT_EQ(0, pthread_create(&crew->threads[crew->nr++], NULL, function, arg));
}

static inline void crew_join(struct __test_metadata *_metadata, struct crew *crew)
{
	for (size_t i = 0; i < crew->nr; i++)
		pthread_join(crew->threads[i], NULL);
	crew->nr = 0;
	EXPECT_EQ(0, crew->wrong);
	EXPECT_LT(0, crew->done);
}

/* Stops them once they have begun. */
static inline void crew_stop(struct __test_metadata *_metadata, struct crew *crew)
{
	while (!crew->done)
		sched_yield();
	crew->stop = true;
	crew_join(_metadata, crew);
}

#endif /* COWPOOL_TEST_RACES_H */
