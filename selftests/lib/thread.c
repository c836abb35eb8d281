// SPDX-License-Identifier: GPL-2.0-or-later
#include "thread.h"

#include "tap.h"

/** thread_start() - Start a thread, the caller's to join. */
void thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	ASSERT_EQ(pthread_create(thread, NULL, run, arg), 0);
}

/**
 * counter_read() - Return: the count. Pairs with counter_add(): writes before
 * it are visible.
 */
uint64_t counter_read(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

/* clang-tidy does not recognize that the atomics write. */
/* NOLINTBEGIN(readability-non-const-parameter) */

/** counter_add() - Increment the counter. */
void counter_add(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELEASE);
}

bool flag_is_set(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

void flag_set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
}

/* NOLINTEND(readability-non-const-parameter) */
