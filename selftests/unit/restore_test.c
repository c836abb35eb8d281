// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The blocks that a restore plugs in one step, the states that it refuses, and
 * what remains of a restore that fails. The module is the fuzzers' model;
 * vmemd_save_test.c of the kselftests uses the real module.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/restore.h"
#include "fuzz/fuzz.h"
#include "fuzz/fuzz_module.h"
#include "model.h"
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

/* --- Restoring --- */

#define GPA   FUZZ_MODULE_GPA
#define BLOCK FUZZ_MODULE_BLOCK

/* The module's error -ENOMEM, by the number of the model, once. */
#define NO_MEMORY (1 | FUZZ_MODULE_ONCE | FUZZ_MODULE_READS)

static struct save_run runs[] = {
	{GPA + 2 * BLOCK, 3 * BLOCK},
	{GPA + 20 * BLOCK, BLOCK},
	{GPA + 63 * BLOCK, BLOCK},
};

static const struct save_state saved = {
	.gpa = GPA,
	.region_size = FUZZ_MODULE_SIZE,
	.block_size = BLOCK,
	.requested_size = 8 * BLOCK,
	.runs = runs,
	.nr_runs = 3,
};

struct fixture {
	sd_event *event;
	struct kernel_nl nl;
	struct kernel_backing region;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	model_attach(&f->region, &f->event, &f->nl);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	model_detach(&f->region, f->event, &f->nl);
	free(f);
	return 0;
}

static bool is_saved(uint64_t block)
{
	for (uint64_t i = 0; i < saved.nr_runs; i++) {
		uint64_t offset = runs[i].gpa - GPA;

		if (block * BLOCK - offset < runs[i].size)
			return true;
	}
	return false;
}

static void assert_restored(const struct fixture *f)
{
	for (uint64_t i = 0; i < FUZZ_MODULE_NR_BLOCKS; i++)
		assert_int_equal(fuzz_module_plugged(i), is_saved(i));
	assert_int_equal(fuzz_module_state()->requested_size, 8 * BLOCK);
	assert_int_equal(f->region.backing.plugged.set, 5);
	assert_int_equal(f->region.state.requested_size, 8 * BLOCK);
}

static void a_state_is_restored_once(void **state)
{
	struct fixture *f = *state;
	struct error err;

	if (restore_region(&f->region, &saved, &err))
		fail_msg("%s", err.text);
	assert_restored(f);
	/* The region has a request id now, and is newer than the state. */
	assert_true(fuzz_module_state()->request_id);
	fuzz_module_others(40, 1, true);
	assert_int_equal(kernel_reload(&f->region, &err), 0);
	assert_int_equal(restore_region(&f->region, &saved, &err), 1);
	assert_true(fuzz_module_plugged(40));
}

static void a_state_without_blocks_is_restored_once(void **state)
{
	const struct save_state empty = {
		.gpa = GPA,
		.region_size = FUZZ_MODULE_SIZE,
		.block_size = BLOCK,
	};
	struct fixture *f = *state;
	struct error err;

	assert_int_equal(restore_region(&f->region, &empty, &err), 0);
	assert_true(fuzz_module_state()->request_id);
	assert_int_equal(restore_region(&f->region, &saved, &err), 1);
}

static void other_blocks_are_left_alone(void **state)
{
	static const struct {
		uint8_t first;
		uint8_t nr;
	} others[] = {{40, 1}, {2, 2}, {2, 3}, {1, 63}};
	struct fixture *f = *state;
	struct error err;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		uint64_t changes;

		fuzz_module_others(0, 64, false);
		fuzz_module_others(others[i].first, others[i].nr, true);
		assert_int_equal(kernel_reload(&f->region, &err), 0);
		changes = fuzz_module_state()->changes;
		assert_int_equal(restore_region(&f->region, &saved, &err),
				 -EEXIST);
		assert_non_null(strstr(err.text, "restore: the region has "));
		assert_int_equal(fuzz_module_state()->changes, changes);
	}
}

/* What the region has after a restore that failed. */
static void assert_nothing_or_all(void)
{
	const struct vmem_nl_region *region = fuzz_module_state();

	/*
	 * With a request id, the next vmemd leaves the region as it is, so all
	 * blocks must be there.
	 */
	for (uint64_t i = 0; i < FUZZ_MODULE_NR_BLOCKS; i++)
		assert_int_equal(fuzz_module_plugged(i),
				 region->request_id && is_saved(i));
	if (region->request_id)
		assert_int_equal(region->requested_size, 8 * BLOCK);
}

/* Each request of a restore fails in turn. */
static void a_failed_restore_is_undone(void **state)
{
	struct fixture *f = *state;
	unsigned int nr = 0;
	struct error err;
	int ret;

	for (;; nr++) {
		fuzz_module_set(NO_MEMORY);
		fuzz_module_delay(nr);
		ret = restore_region(&f->region, &saved, &err);
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_memory_equal(err.text, "restore: ", 9);
		assert_nothing_or_all();
		/* The next region. */
		tear_down(state);
		set_up(state);
		f = *state;
	}
	fuzz_module_set(0);
	assert_true(nr > 2);
	assert_restored(f);
}

/* The plug is still in the kernel's queue when its answer is lost. */
static void a_lost_answer_undoes_nothing(void **state)
{
	struct fixture *f = *state;
	struct error err;

	fuzz_module_set(FUZZ_MODULE_LOSE);
	assert_int_equal(restore_region(&f->region, &saved, &err), -ENOBUFS);
	assert_true(fuzz_module_finish());
	assert_nothing_or_all();
	/* The next daemon finds the restored region. */
	assert_int_equal(kernel_reload(&f->region, &err), 0);
	assert_int_equal(restore_region(&f->region, &saved, &err), 1);
	assert_restored(f);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gaps_that_take_no_memslot_are_covered),
		cmocka_unit_test(any_blocks_are_covered),
		cmocka_unit_test(another_geometry_is_refused),
		T(a_state_is_restored_once),
		T(a_state_without_blocks_is_restored_once),
		T(other_blocks_are_left_alone),
		T(a_failed_restore_is_undone),
		T(a_lost_answer_undoes_nothing),
	};

	return unit_run(tests, NULL, NULL);
}
