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

/*
 * Every range must consist of whole blocks of the region: the device has
 * checked it.
 */
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

/* Unplugging this way keeps the memory's contents, as in the kernel module. */
static void learn_truth(struct bitmap_backing *bitmap)
{
	struct backing *backing = &bitmap->backing;
	struct blocks truth;

	assert_int_equal(blocks_init(&truth, backing->plugged.nr), 0);
	for (uint64_t i = 0; i < truth.nr; i++)
		if (bitmap->truth[i])
			blocks_set(&truth, i, 1);
	backing_adopt(backing, &truth);
}

static int failing(struct bitmap_backing *bitmap)
{
	struct backing *backing = &bitmap->backing;
	int ret = bitmap->fail;

	if (bitmap->fail_once)
		bitmap->fail = 0;
	if (ret)
		error_set(&backing->error, ret, "the test wants it");
	if (ret == -EAGAIN && bitmap->truth)
		learn_truth(bitmap);
	return ret;
}

static int carry_out(struct bitmap_backing *bitmap, enum bitmap_call call,
		     uint64_t gpa, uint64_t size)
{
	struct backing *backing = &bitmap->backing;
	uint64_t first = first_of(backing, gpa);
	uint64_t nr = size / backing->block_size;
	bool repeated = bitmap->repeated;
	int ret;

	if (call == CALL_REPEAT) {
		bitmap->repeated = false;
		return repeated ? 0 : -EINVAL;
	}
	ret = failing(bitmap);
	if (ret)
		return ret;
	if (call != CALL_PLUG) {
		if (call == CALL_UNPLUG)
			assert_int_equal(
				blocks_count(&backing->plugged, first, nr), nr);
		backing_note_unplugged(backing, gpa, size);
		return 0;
	}
	assert_int_equal(blocks_count(&backing->plugged, first, nr), 0);
	for (uint64_t i = first; i < first + nr; i++) {
		/* The guest must see zeroes. */
		assert_int_equal(bitmap->dirty[i], 0);
		bitmap->dirty[i] = 1;
	}
	backing_note_plugged(backing, gpa, size);
	return 0;
}

static int begin(struct backing *backing, enum bitmap_call call, uint64_t gpa,
		 uint64_t size)
{
	struct bitmap_backing *bitmap = to_bitmap(backing);

	assert_false(bitmap->waits);
	note(bitmap, call, gpa, size);
	if (!bitmap->later)
		return carry_out(bitmap, call, gpa, size);
	bitmap->waits = true;
	bitmap->waiting = (struct bitmap_log){call, gpa, size};
	return -EINPROGRESS;
}

/* Carry out the deferred operation. Return: false if there is none. */
bool bitmap_backing_finish(struct bitmap_backing *bitmap)
{
	const struct bitmap_log *waiting = &bitmap->waiting;
	struct backing *backing = &bitmap->backing;
	int ret;

	if (!bitmap->waits)
		return false;
	bitmap->waits = false;
	ret = carry_out(bitmap, waiting->call, waiting->gpa, waiting->size);
	backing_ended(backing, ret);
	return true;
}

static int plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return begin(backing, CALL_PLUG, gpa, size);
}

static int unplug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return begin(backing, CALL_UNPLUG, gpa, size);
}

static int unplug_all(struct backing *backing)
{
	return begin(backing, CALL_UNPLUG_ALL, backing->gpa, backing->size);
}

static int repeat(struct backing *backing,
		  bool plugging __attribute__((unused)), uint64_t gpa,
		  uint64_t size)
{
	return begin(backing, CALL_REPEAT, gpa, size);
}

static int verify(struct backing *backing)
{
	struct bitmap_backing *bitmap = to_bitmap(backing);

	note(bitmap, CALL_VERIFY, backing->gpa, backing->size);
	if (bitmap->fail_verify)
		return bitmap->fail_verify;
	if (!bitmap->stale)
		return 0;
	bitmap->stale = false;
	learn_truth(bitmap);
	return 1;
}

static void answer_lost(struct backing *backing)
{
	to_bitmap(backing)->lost++;
}

static int discard(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct bitmap_backing *bitmap = to_bitmap(backing);
	uint64_t first = first_of(backing, gpa);
	uint64_t nr = size / backing->block_size;
	int ret;

	note(bitmap, CALL_DISCARD, gpa, size);
	/* The range must not contain plugged blocks. */
	assert_int_equal(blocks_count(&backing->plugged, first, nr), 0);
	ret = bitmap->fail_discard;
	if (bitmap->fail_once)
		bitmap->fail_discard = 0;
	if (ret) {
		return error_set(&backing->error, ret, "the test wants it");
	}
	memset(bitmap->dirty + first, 0, nr);
	return 0;
}

static int await(struct backing *backing)
{
	return to_bitmap(backing)->wait;
}

static const struct backing_ops ops = {
	.await = await,
	.plug = plug,
	.unplug = unplug,
	.unplug_all = unplug_all,
	.repeat = repeat,
	.verify = verify,
	.discard = discard,
	.answer_lost = answer_lost,
};

void bitmap_backing_init(struct bitmap_backing *bitmap, uint64_t gpa,
			 uint64_t size, uint64_t block_size)
{
	memset(bitmap, 0, sizeof(*bitmap));
	assert_int_equal(
		backing_init(&bitmap->backing, &ops, gpa, size, block_size), 0);
	bitmap->dirty = calloc(size / block_size, 1);
	assert_non_null(bitmap->dirty);
}

void bitmap_backing_free(struct bitmap_backing *bitmap)
{
	backing_free(&bitmap->backing);
	free(bitmap->dirty);
}
