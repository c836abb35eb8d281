// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory that a front end has removed, compared with a list of pages. */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "vhost/removed_memory.h"

#define PAGES 64
#define PAGE  4096ULL

static void assert_same(const struct removed_memory *removed,
			const bool *expected)
{
	for (unsigned int i = 0; i < PAGES; i++) {
		assert_int_equal(removed_memory_has(removed, i * PAGE),
				 expected[i]);
		assert_int_equal(
			removed_memory_has(removed, i * PAGE + PAGE - 1),
			expected[i]);
	}
}

static void any_order(void **state)
{
	struct removed_memory removed = {};
	bool expected[PAGES] = {};
	unsigned int seed = 1;

	(void)state;
	for (unsigned int i = 0; i < 20000; i++) {
		unsigned int first = rand_r(&seed) % PAGES;
		unsigned int nr = 1 + rand_r(&seed) % (PAGES - first);
		bool remove = rand_r(&seed) % 2;

		if (remove)
			removed_memory_add(&removed, first * PAGE, nr * PAGE);
		else
			removed_memory_back(&removed, first * PAGE, nr * PAGE);
		for (unsigned int n = first; n < first + nr; n++)
			expected[n] = remove;
		assert_same(&removed, expected);
		assert_true(removed.nr <= PAGES);
	}
	removed_memory_clear(&removed);
	assert_false(removed_memory_has(&removed, 0));
}

static void up_to_the_last_address(void **state)
{
	struct removed_memory removed = {};

	(void)state;
	removed_memory_add(&removed, UINT64_MAX - PAGE + 1, PAGE);
	assert_true(removed_memory_has(&removed, UINT64_MAX));
	assert_false(removed_memory_has(&removed, UINT64_MAX - PAGE));
	removed_memory_back(&removed, UINT64_MAX, 1);
	assert_false(removed_memory_has(&removed, UINT64_MAX));
	assert_true(removed_memory_has(&removed, UINT64_MAX - 1));
	removed_memory_clear(&removed);
}

/* The oldest entry is dropped. */
static void more_ranges_than_there_is_room_for(void **state)
{
	struct removed_memory removed = {};

	(void)state;
	for (uint64_t i = 0; i < REMOVED_MEMORY_MAX + 3; i++)
		removed_memory_add(&removed, 2 * i * PAGE, PAGE);
	assert_int_equal(removed.nr, REMOVED_MEMORY_MAX);
	assert_false(removed_memory_has(&removed, 4 * PAGE));
	assert_true(removed_memory_has(&removed, 6 * PAGE));
	removed_memory_clear(&removed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_order),
		cmocka_unit_test(up_to_the_last_address),
		cmocka_unit_test(more_ranges_than_there_is_room_for),
	};

	return unit_run(tests, NULL, NULL);
}
