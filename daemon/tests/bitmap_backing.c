// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap_backing.h"
#include "unit.h"

static struct bitmap_backing *to_bitmap(struct backing *backing)
{
	return (struct bitmap_backing *)((char *)backing -
					 offsetof(struct bitmap_backing,
						  backing));
}

static uint64_t first_of(const struct backing *backing, uint64_t gpa)
{
	return (gpa - backing->gpa) / backing->block_size;
}

/* Every range must be whole blocks of the region: the device has checked. */
static void note(struct bitmap_backing *bitmap, enum bitmap_call call,
		 uint64_t gpa, uint64_t size)
{
	const struct backing *backing = &bitmap->backing;

	assert_true(gpa >= backing->gpa);
	assert_int_equal((gpa - backing->gpa) % backing->block_size, 0);
	assert_true(size > 0);
	assert_int_equal(size % backing->block_size, 0);
	assert_true(gpa - backing->gpa + size <= backing->size);
	if (bitmap->nr_log < BITMAP_LOG_MAX)
		bitmap->log[bitmap->nr_log++] =
			(struct bitmap_log){call, gpa, size};
}

static int failing(struct bitmap_backing *bitmap)
{
	struct backing *backing = &bitmap->backing;
	int ret = bitmap->fail;

	if (bitmap->fail_once)
		bitmap->fail = 0;
	if (ret)
		snprintf(backing->reason, sizeof(backing->reason),
			 "the test wants it");
	if (ret == -EAGAIN && bitmap->truth)
		for (uint64_t i = 0; i < backing->plugged.nr; i++)
			(bitmap->truth[i] ? blocks_set : blocks_clear)(
				&backing->plugged, i, 1);
	return ret;
}

static int plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct bitmap_backing *bitmap = to_bitmap(backing);
	uint64_t first = first_of(backing, gpa);
	uint64_t nr = size / backing->block_size;
	int ret;

	note(bitmap, CALL_PLUG, gpa, size);
	ret = failing(bitmap);
	if (ret)
		return ret;
	assert_int_equal(blocks_count(&backing->plugged, first, nr), 0);
	for (uint64_t i = first; i < first + nr; i++) {
		/* What the guest would see must be zero. */
		assert_int_equal(bitmap->dirty[i], 0);
		bitmap->dirty[i] = 1;
	}
	blocks_set(&backing->plugged, first, nr);
	return 0;
}

static int unplug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct bitmap_backing *bitmap = to_bitmap(backing);
	uint64_t first = first_of(backing, gpa);
	uint64_t nr = size / backing->block_size;
	int ret;

	note(bitmap, CALL_UNPLUG, gpa, size);
	ret = failing(bitmap);
	if (ret)
		return ret;
	assert_int_equal(blocks_count(&backing->plugged, first, nr), nr);
	blocks_clear(&backing->plugged, first, nr);
	return 0;
}

static int unplug_all(struct backing *backing)
{
	struct bitmap_backing *bitmap = to_bitmap(backing);
	int ret;

	note(bitmap, CALL_UNPLUG_ALL, backing->gpa, backing->size);
	ret = failing(bitmap);
	if (!ret)
		blocks_clear(&backing->plugged, 0, backing->plugged.nr);
	return ret;
}

static int discard(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct bitmap_backing *bitmap = to_bitmap(backing);
	uint64_t first = first_of(backing, gpa);
	uint64_t nr = size / backing->block_size;

	note(bitmap, CALL_DISCARD, gpa, size);
	/* Never memory that the guest uses. */
	assert_int_equal(blocks_count(&backing->plugged, first, nr), 0);
	if (bitmap->fail_discard) {
		snprintf(backing->reason, sizeof(backing->reason),
			 "the test wants it");
		return bitmap->fail_discard;
	}
	memset(bitmap->dirty + first, 0, nr);
	return 0;
}

static bool repeated(struct backing *backing,
		     bool plugging __attribute__((unused)), uint64_t gpa,
		     uint64_t size)
{
	struct bitmap_backing *bitmap = to_bitmap(backing);
	bool ret = bitmap->repeated;

	note(bitmap, CALL_REPEATED, gpa, size);
	bitmap->repeated = false;
	return ret;
}

static const struct backing_ops ops = {
	.plug = plug,
	.unplug = unplug,
	.unplug_all = unplug_all,
	.discard = discard,
	.repeated = repeated,
};

void bitmap_backing_init(struct bitmap_backing *bitmap, uint64_t gpa,
			 uint64_t size, uint64_t block_size)
{
	memset(bitmap, 0, sizeof(*bitmap));
	bitmap->backing.ops = &ops;
	bitmap->backing.gpa = gpa;
	bitmap->backing.size = size;
	bitmap->backing.block_size = block_size;
	assert_int_equal(
		blocks_init(&bitmap->backing.plugged, size / block_size), 0);
	bitmap->dirty = calloc(size / block_size, 1);
	assert_non_null(bitmap->dirty);
}

void bitmap_backing_free(struct bitmap_backing *bitmap)
{
	blocks_free(&bitmap->backing.plugged);
	free(bitmap->dirty);
}
