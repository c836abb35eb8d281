// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sets of blocks are compared with an array of bytes. Also the parsing and
 * printing of sizes.
 */
#include <errno.h>
#include <string.h>

#include "base/blocks.h"
#include "common/size.h"
#include "unit.h"

/* Not a multiple of the bits of a word. */
#define NR 333

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void check(const struct blocks *blocks, const uint8_t *model,
		  uint64_t first, uint64_t nr)
{
	uint64_t count = 0, total = 0, end = 0, set = NR, clear = NR;
	uint64_t stop = first + nr;

	for (uint64_t i = 0; i < NR; i++) {
		total += model[i];
		if (model[i])
			end = i + 1;
		if (i >= first && i < first + nr)
			count += model[i];
	}
	for (uint64_t i = NR; i-- > first;) {
		if (model[i])
			set = i;
		else
			clear = i;
	}
	assert_int_equal(blocks->set, total);
	assert_int_equal(blocks_end(blocks), end);
	assert_int_equal(blocks_count(blocks, first, nr), count);
	assert_int_equal(blocks_next(blocks, first, true), set);
	assert_int_equal(blocks_next(blocks, first, false), clear);
	assert_int_equal(blocks_next_until(blocks, first, stop, true),
			 set < stop ? set : stop);
	assert_int_equal(blocks_next_until(blocks, first, stop, false),
			 clear < stop ? clear : stop);
}

static void blocks_follow_a_model(void **state)
{
	uint64_t seed = 88172645463325252ULL;
	struct blocks blocks;
	uint8_t model[NR] = {};

	(void)state;
	assert_int_equal(blocks_init(&blocks, NR), 0);
	check(&blocks, model, 0, NR);
	for (int i = 0; i < 20000; i++) {
		uint64_t first = next_random(&seed) % NR;
		uint64_t nr = next_random(&seed) % (NR - first + 1);
		bool set = next_random(&seed) % 2;

		if (i % 3)
			nr %= 70;
		(set ? blocks_set : blocks_clear)(&blocks, first, nr);
		memset(model + first, set, nr);
		first = next_random(&seed) % NR;
		check(&blocks, model, first,
		      next_random(&seed) % (NR - first + 1));
	}
	blocks_free(&blocks);
}

/*
 * Large sets with whole levels full or empty: a search finds the right block
 * without a look at all entries.
 */
#define LARGE (5ULL << 21)

/* Maximum number of entries that a search visits, up and down; see blocks.c. */
#define SEARCH_MAX (2 * 64 * (BLOCKS_LEVELS + 1))

static void assert_cheap(struct work *work)
{
	assert_in_range(work->steps, 0, SEARCH_MAX);
	work->steps = 0;
}

static void large_sets_are_searched_by_levels(void **state)
{
	static const uint64_t places[] = {
		0,	    1,		63,	   64,
		4095,	    4096,	4097,	   262143,
		262144,	    300000,	(1 << 22), LARGE / 2,
		LARGE - 65, LARGE - 64, LARGE - 2, LARGE - 1,
	};
	struct work work = {0};
	struct blocks blocks;

	(void)state;
	for (int set = 0; set < 2; set++) {
		assert_int_equal(blocks_init(&blocks, LARGE), 0);
		if (!set)
			blocks_set(&blocks, 0, LARGE);
		blocks.work = &work;
		work.steps = 0;
		for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
			uint64_t at = places[i];

			(set ? blocks_set : blocks_clear)(&blocks, at, 1);
			work.steps = 0;
			/* The only block that differs. */
			assert_int_equal(blocks_next(&blocks, 0, set), at);
			assert_cheap(&work);
			assert_int_equal(blocks_next(&blocks, at + 1, set),
					 LARGE);
			assert_cheap(&work);
			assert_int_equal(blocks_next_until(&blocks, 0, at, set),
					 at);
			assert_cheap(&work);
			if (set) {
				assert_int_equal(blocks_end(&blocks), at + 1);
				assert_cheap(&work);
				assert_int_equal(blocks_end_before(&blocks, at),
						 0);
				assert_cheap(&work);
			}
			assert_int_equal(blocks_count(&blocks, 0, at),
					 set ? 0 : at);
			assert_cheap(&work);
			assert_int_equal(blocks_count(&blocks, 1, LARGE - 1),
					 set ? at > 0 : LARGE - 1 - (at > 0));
			assert_cheap(&work);
			(set ? blocks_clear : blocks_set)(&blocks, at, 1);
		}
		assert_int_equal(blocks.set, set ? 0 : LARGE);
		blocks_free(&blocks);
	}
}

static void what_one_set_lacks_is_found(void **state)
{
	struct blocks a, b;

	(void)state;
	assert_int_equal(blocks_init(&a, LARGE), 0);
	assert_int_equal(blocks_init(&b, LARGE), 0);
	assert_int_equal(blocks_next_missing(&a, &b, 0, LARGE), LARGE);
	blocks_set(&a, 100, LARGE - 200);
	blocks_set(&b, 50, LARGE / 2);
	assert_int_equal(blocks_next_missing(&a, &b, 0, LARGE), 50 + LARGE / 2);
	assert_int_equal(blocks_next_missing(&b, &a, 0, LARGE), 50);
	assert_int_equal(blocks_next_missing(&b, &a, 100, LARGE), LARGE);
	assert_int_equal(blocks_next_missing(&a, &b, 0, 1000), 1000);
	blocks_clear(&b, 70000, 1);
	assert_int_equal(blocks_next_missing(&a, &b, 0, LARGE), 70000);
	blocks_add(&b, &a);
	assert_int_equal(b.set, LARGE - 150);
	blocks_remove(&b, &a);
	assert_int_equal(b.set, 50);
	assert_int_equal(blocks_next_missing(&b, &a, 0, LARGE), 50);
	blocks_free(&a);
	blocks_free(&b);
}

static void edges_of_words(void **state)
{
	struct blocks blocks;

	(void)state;
	assert_int_equal(blocks_init(&blocks, 128), 0);
	blocks_set(&blocks, 0, 128);
	assert_int_equal(blocks.set, 128);
	assert_int_equal(blocks_next(&blocks, 0, false), 128);
	assert_int_equal(blocks_next(&blocks, 128, true), 128);
	assert_int_equal(blocks_next(&blocks, UINT64_MAX, true), 128);
	blocks_clear(&blocks, 63, 2);
	assert_int_equal(blocks.set, 126);
	assert_int_equal(blocks_next(&blocks, 0, false), 63);
	assert_int_equal(blocks_next(&blocks, 63, true), 65);
	blocks_clear(&blocks, 0, 0);
	assert_int_equal(blocks.set, 126);
	blocks_free(&blocks);
}

static void sizes_are_read(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
	} good[] = {
		{"0", 0},
		{"4096", 4096},
		{"1K", KIB},
		{"128M", 128 * MIB},
		{"128m", 128 * MIB},
		{"1G", GIB},
		{"1GiB", GIB},
		{"1GB", GIB},
		{"7B", 7},
		{"1T", 1024 * GIB},
		{"0x10", 16},
		{"0x1M", MIB},
		{"010", 10},
		{"15E", 15ULL << 60},
		{"18446744073709551615", UINT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t size = 1;

		assert_int_equal(size_parse(good[i].text, &size), 0);
		assert_int_equal(size, good[i].size);
	}
}

static void bad_sizes_are_refused(void **state)
{
	static const char *const bad[] = {
		"",  "x",   "-1",  "+1",  " 1", "1 ",  "1Z",	"1KK",
		"G", "1.G", "1Gx", "1iB", "0x", "1Bi", "1GiBB", "1,000",
	};
	static const char *const huge[] = {
		"16E",
		"18446744073709551616",
		"99999999999T",
		"17179869184G",
	};
	uint64_t size;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(size_parse(bad[i], &size), -EINVAL);
	for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++)
		assert_int_equal(size_parse(huge[i], &size), -ERANGE);
}

static void sizes_are_written(void **state)
{
	char text[SIZE_TEXT_MAX];

	(void)state;
	assert_string_equal(size_format(0, text), "0 B");
	assert_string_equal(size_format(1023, text), "1023 B");
	assert_string_equal(size_format(KIB, text), "1 KiB");
	assert_string_equal(size_format(128 * MIB, text), "128 MiB");
	assert_string_equal(size_format(GIB + 256 * MIB, text), "1.25 GiB");
	assert_string_equal(size_format(1024 * GIB, text), "1 TiB");
	assert_string_equal(size_format(UINT64_MAX, text), "16.00 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_follow_a_model),
		cmocka_unit_test(large_sets_are_searched_by_levels),
		cmocka_unit_test(what_one_set_lacks_is_found),
		cmocka_unit_test(edges_of_words),
		cmocka_unit_test(sizes_are_read),
		cmocka_unit_test(bad_sizes_are_refused),
		cmocka_unit_test(sizes_are_written),
	};

	return unit_run(tests, NULL, NULL);
}
