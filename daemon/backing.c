// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The two sets of blocks that a backing keeps. A block is in one of them, or
 * in neither: then it is unplugged and its memory is zero.
 */
#include <errno.h>
#include <string.h>

#include "backing.h"

static uint64_t block_of(const struct backing *backing, uint64_t gpa)
{
	return (gpa - backing->gpa) / backing->block_size;
}

/* Return: 0, or -ENOMEM. */
int backing_init(struct backing *backing, const struct backing_ops *ops,
		 uint64_t gpa, uint64_t size, uint64_t block_size)
{
	uint64_t nr = size / block_size;

	memset(backing, 0, sizeof(*backing));
	backing->ops = ops;
	backing->placed = true;
	backing->gpa = gpa;
	backing->size = size;
	backing->block_size = block_size;
	if (blocks_init(&backing->plugged, nr))
		return -ENOMEM;
	if (blocks_init(&backing->owed, nr)) {
		blocks_free(&backing->plugged);
		return -ENOMEM;
	}
	return 0;
}

void backing_free(struct backing *backing)
{
	blocks_free(&backing->plugged);
	blocks_free(&backing->owed);
}

void backing_note_plugged(struct backing *backing, uint64_t gpa, uint64_t size)
{
	uint64_t first = block_of(backing, gpa);
	uint64_t nr = size / backing->block_size;

	blocks_set(&backing->plugged, first, nr);
	blocks_clear(&backing->owed, first, nr);
}

void backing_note_unplugged(struct backing *backing, uint64_t gpa,
			    uint64_t size)
{
	uint64_t first = block_of(backing, gpa);
	uint64_t end = first + size / backing->block_size;

	while ((first = blocks_next_until(&backing->plugged, first, end,
					  true)) < end) {
		uint64_t next =
			blocks_next_until(&backing->plugged, first, end, false);

		blocks_set(&backing->owed, first, next - first);
		blocks_clear(&backing->plugged, first, next - first);
		first = next;
	}
}

/* Others have changed blocks: take over what is plugged now. */
void backing_adopt(struct backing *backing, struct blocks *plugged)
{
	blocks_add(&backing->owed, &backing->plugged);
	blocks_remove(&backing->owed, plugged);
	blocks_free(&backing->plugged);
	backing->plugged = *plugged;
	memset(plugged, 0, sizeof(*plugged));
}

/* There may be memory of the unplugged blocks of a range. */
void backing_owe(struct backing *backing, uint64_t gpa, uint64_t size)
{
	blocks_set(&backing->owed, block_of(backing, gpa),
		   size / backing->block_size);
	blocks_remove(&backing->owed, &backing->plugged);
}

/* Nothing is known of the memory of unplugged blocks. */
void backing_owe_unplugged(struct backing *backing)
{
	blocks_set(&backing->owed, 0, backing->owed.nr);
	blocks_remove(&backing->owed, &backing->plugged);
}
