// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The two sets of blocks of a backing: plugged and owed. A block in neither set
 * is unplugged, and its memory reads zero.
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
	backing->front = ops;
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

/* Set the filter between device and backing; NULL removes it. */
void backing_set_filter(struct backing *backing,
			const struct backing_ops *filter, void *arg)
{
	backing->front = filter ? filter : backing->ops;
	backing->filter_arg = arg;
}

/**
 * backing_await() - check whether a request may start
 * @backing: the backing
 *
 * Return: 0; -EINPROGRESS: not yet; @done will be called with 0.
 */
int backing_await(struct backing *backing)
{
	return backing->front->await ? backing->front->await(backing) : 0;
}

int backing_plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return backing->front->plug(backing, gpa, size);
}

int backing_unplug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return backing->front->unplug(backing, gpa, size);
}

int backing_unplug_all(struct backing *backing)
{
	return backing->front->unplug_all(backing);
}

int backing_repeat(struct backing *backing, bool plug, uint64_t gpa,
		   uint64_t size)
{
	return backing->front->repeat(backing, plug, gpa, size);
}

int backing_verify(struct backing *backing)
{
	return backing->front->verify(backing);
}

int backing_discard(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return backing->front->discard(backing, gpa, size);
}

/* See struct backing_ops. */
uint64_t backing_kept(struct backing *backing, uint64_t first, uint64_t end,
		      bool *kept)
{
	*kept = false;
	return backing->front->kept
		       ? backing->front->kept(backing, first, end, kept)
		       : end;
}

void backing_answer_lost(struct backing *backing)
{
	backing->ops->answer_lost(backing);
}

/* An operation of the backing that returned -EINPROGRESS has ended. */
void backing_ended(struct backing *backing, int result)
{
	if (backing->front->ended)
		backing->front->ended(backing, result);
	else if (backing->done)
		backing->done(backing->arg, result);
}

/* Count searches of the sets of blocks in @work, which is not owned. */
void backing_count(struct backing *backing, struct work *work)
{
	backing->plugged.work = work;
	backing->owed.work = work;
}

/* Record the identity of the memory file. Return: 0, or an errno. */
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

/*
 * Other processes have changed blocks: replace the set of plugged blocks by
 * @plugged, which is taken over.
 */
void backing_adopt(struct backing *backing, struct blocks *plugged)
{
	blocks_add(&backing->owed, &backing->plugged);
	blocks_remove(&backing->owed, plugged);
	plugged->work = backing->plugged.work;
	blocks_free(&backing->plugged);
	backing->plugged = *plugged;
}

/* The unplugged blocks of a range may have memory. */
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
