// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The blocks that a restore plugs in one step, and the states that it refuses.
 */
#include <errno.h>
#include <string.h>

#include "device/restore.h"
#include "unit.h"

#define NR	 1024
#define PER_SLOT 8

/* The memslots that these blocks populate: a hash and their number. */
static uint64_t slots_of(const struct blocks *blocks, uint64_t *nr)
{
	uint64_t hash = 0;

	*nr = 0;
	for (uint64_t slot = 0; slot < blocks->nr / PER_SLOT; slot++) {
		if (!blocks_count(blocks, slot * PER_SLOT, PER_SLOT))
			continue;
		hash = hash * 31 + slot + 1;
		++*nr;
	}
	return hash;
}

static void assert_covers(const struct blocks *wanted)
{
	uint64_t nr_wanted, nr_cover, groups = 0, runs = 0;
	struct blocks cover;
	bool was = false;

	assert_int_equal(restore_cover(wanted, PER_SLOT, &cover), 0);
	/* All wanted blocks, without an additional memslot. */
	for (uint64_t i = 0; i < NR; i++)
		if (blocks_count(wanted, i, 1))
			assert_int_equal(blocks_count(&cover, i, 1), 1);
	assert_int_equal(slots_of(wanted, &nr_wanted),
			 slots_of(&cover, &nr_cover));
	assert_int_equal(nr_wanted, nr_cover);
	/* No blocks before the first wanted block or after the last one. */
	assert_int_equal(blocks_next(&cover, 0, true),
			 blocks_next(wanted, 0, true));
	for (uint64_t i = NR; i-- && !blocks_count(wanted, i, 1);)
		assert_int_equal(blocks_count(&cover, i, 1), 0);
	/* One run per group of adjacent memslots. */
	for (uint64_t slot = 0; slot < NR / PER_SLOT; slot++) {
		bool is = blocks_count(wanted, slot * PER_SLOT, PER_SLOT);

		groups += is && !was;
		was = is;
	}
	was = false;
	for (uint64_t i = 0; i < NR; i++) {
		bool is = blocks_count(&cover, i, 1);

		runs += is && !was;
		was = is;
	}
	assert_int_equal(runs, groups);
	blocks_free(&cover);
}

static void gaps_that_take_no_memslot_are_covered(void **state)
{
	struct blocks wanted;

	(void)state;
	assert_int_equal(blocks_init(&wanted, NR), 0);
	assert_covers(&wanted);
	blocks_set(&wanted, 3, 1);
	assert_covers(&wanted);
	/* Blocks in the same memslot, in the next one, and after a gap. */
	blocks_set(&wanted, 5, 1);
	assert_covers(&wanted);
	blocks_set(&wanted, 15, 1);
	assert_covers(&wanted);
	blocks_set(&wanted, 24, 1);
	assert_covers(&wanted);
	blocks_set(&wanted, NR - 1, 1);
	assert_covers(&wanted);
	blocks_free(&wanted);
}

static void any_blocks_are_covered(void **state)
{
	uint64_t random = 88172645463325252ULL;
	struct blocks wanted;

	(void)state;
	for (int round = 0; round < 200; round++) {
		assert_int_equal(blocks_init(&wanted, NR), 0);
		for (int i = 0; i < 1 + round; i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			blocks_set(&wanted, random % NR, 1);
		}
		assert_covers(&wanted);
		blocks_free(&wanted);
	}
}

static void assert_unfit(const struct save_state *saved,
			 const struct kernel_backing *region,
			 const struct virtio_mem *dev, const char *why)
{
	struct error err = {0};

	assert_int_equal(restore_check(saved, region, dev, &err), -EINVAL);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void another_geometry_is_refused(void **state)
{
	struct kernel_backing region = {
		.state = {.gpa = 4 * GIB, .size = GIB, .block_size = 2 * MIB}};
	struct virtio_mem dev = {.has_node = true, .node_id = 3};
	struct save_state saved = {.gpa = 4 * GIB,
				   .region_size = GIB,
				   .block_size = 2 * MIB,
				   .node = 3};
	struct error err;

	(void)state;
	saved.features = virtio_mem_features(&dev);
	assert_int_equal(restore_check(&saved, &region, &dev, &err), 0);
	saved.gpa = 5 * GIB;
	assert_unfit(&saved, &region, &dev, "at 0x140000000");
	saved.gpa = 4 * GIB;
	saved.region_size = 2 * GIB;
	assert_unfit(&saved, &region, &dev, "has 2 GiB, this one 1 GiB");
	saved.region_size = GIB;
	saved.block_size = 4 * MIB;
	assert_unfit(&saved, &region, &dev, "blocks of 4 MiB");
	saved.block_size = 2 * MIB;
	saved.features |= 1ULL << 9;
	assert_unfit(&saved, &region, &dev, "0x200");
	saved.features &= ~(1ULL << 9);
	dev.node_id = 4;
	assert_unfit(&saved, &region, &dev, "node 3, this one to 4");
	dev.has_node = false;
	assert_unfit(&saved, &region, &dev, "it has a --node");
	/*
	 * A driver that was not offered the node feature does not use it, so
	 * the device may have a node.
	 */
	saved.features = 1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;
	saved.node = 0;
	dev.has_node = true;
	assert_int_equal(restore_check(&saved, &region, &dev, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gaps_that_take_no_memslot_are_covered),
		cmocka_unit_test(any_blocks_are_covered),
		cmocka_unit_test(another_geometry_is_refused),
	};

	return unit_run(tests, NULL, NULL);
}
