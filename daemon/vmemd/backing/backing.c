// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The two sets of blocks that a backing keeps. A block is in one of them, or
 * in neither: then it is unplugged and its memory is zero.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "backing/backing.h"

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

/* Count what is looked at of the sets of blocks. @work: not owned */
void backing_count(struct backing *backing, struct work *work)
{
	backing->plugged.work = work;
	backing->owed.work = work;
}

/* Which file the memory is of. Return: 0, or an errno. */
int backing_note_file(struct backing *backing, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	backing->memory_dev = st.st_dev;
	backing->memory_ino = st.st_ino;
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
	blocks_move(&backing->plugged, &backing->owed, block_of(backing, gpa),
		    size / backing->block_size);
}

/* Others have changed blocks: take over what is plugged now. */
void backing_adopt(struct backing *backing, struct blocks *plugged)
{
	blocks_add(&backing->owed, &backing->plugged);
	blocks_remove(&backing->owed, plugged);
	plugged->work = backing->plugged.work;
	blocks_free(&backing->plugged);
	backing->plugged = *plugged;
	memset(plugged, 0, sizeof(*plugged));
}

/* There may be memory of the unplugged blocks of a range. */
void backing_owe(struct backing *backing, uint64_t gpa, uint64_t size)
{
	uint64_t at = block_of(backing, gpa);
	uint64_t end = at + size / backing->block_size;

	while ((at = blocks_next_until(&backing->plugged, at, end, false)) <
	       end) {
		uint64_t next =
			blocks_next_until(&backing->plugged, at, end, true);

		blocks_set(&backing->owed, at, next - at);
		at = next;
	}
}
