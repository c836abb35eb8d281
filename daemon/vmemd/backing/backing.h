/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What carries out a virtio-mem device's changes.
 *
 * The device model (device/virtio_mem.c) decides what a request means; a
 * backing makes it so: it puts memory at guest addresses and takes it away, and
 * gives the memory behind back to the host. The rule is the kernel's region
 * (kernel.c). For front ends that map memory for a device it is the VMM, which
 * changes its own memslots (vmm.c).
 *
 * A backing keeps @plugged true, as far as it knows: it is what the device
 * answers STATE requests from, without asking anybody. It adds to @owed the
 * blocks that were unplugged, by whom ever; the device discards them.
 */
#ifndef BACKING_H
#define BACKING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "backing/memory.h"
#include "base/blocks.h"
#include "common/error.h"

struct backing;

/* Why the last operation failed, for people. */
#define BACKING_REASON_MAX (ERROR_TEXT_MAX + 16)

/**
 * struct backing_ops - operations of a backing
 * @plug: make the range accessible to the guest. The memory reads zero.
 * @unplug: make the range inaccessible, as far as slots allow
 * @unplug_all: all of it, as one step
 * @repeat: was the last change this one? Then the guest asks again, because
 *	its answer was lost, and gets it now. Return: 0 it was; -EINVAL it was
 *	another, or no answer was lost; another errno: not known
 * @verify: bring @plugged up to date. Return: 0 it was; 1 it was not; an errno
 * @discard: give the memory of an unplugged range back to the host. Does not
 *	take long for ranges of BACKING_DISCARD_MAX
 * @answer_lost: the guest was not told of the last change
 * @next_memory: first block from a number on whose memory may be there, or the
 *	number of blocks. NULL: any may
 * @set_requested: keep the requested size where it lasts. -EINPROGRESS: the user
 *	of that backing is told the result
 * @place: the region is at @gpa in the guest. NULL: the backing knows
 * @populated_slots: memslots that there are, as far as is known
 * @detach: the backing is not used any more. Blocks stay as they are
 *
 * Ranges are whole blocks inside the region: the device has checked. The first
 * four may take long. They return -EINPROGRESS then, and backing_ended() is
 * called with the result; there is one at a time. An errno means that
 * nothing was changed (@discard: maybe some), and has @reason set. -EAGAIN:
 * @plugged was not true and has been brought up to date; judge again.
 */
struct backing_ops {
	int (*plug)(struct backing *backing, uint64_t gpa, uint64_t size);
	int (*unplug)(struct backing *backing, uint64_t gpa, uint64_t size);
	int (*unplug_all)(struct backing *backing);
	int (*repeat)(struct backing *backing, bool plug, uint64_t gpa,
		      uint64_t size);
	int (*verify)(struct backing *backing);
	int (*discard)(struct backing *backing, uint64_t gpa, uint64_t size);
	void (*answer_lost)(struct backing *backing);
	uint64_t (*next_memory)(struct backing *backing, uint64_t from);
	int (*set_requested)(struct backing *backing, uint64_t size,
			     struct error *err);
	int (*place)(struct backing *backing, uint64_t gpa, struct error *err);
	uint64_t (*populated_slots)(const struct backing *backing);
	void (*detach)(struct backing *backing);
};

/**
 * struct backing_filter - what stands between a device and its backing
 * @plug, @unplug, @unplug_all, @repeat, @verify, @discard: as of struct
 *	backing_ops, which it calls in turn, or not
 * @await: may a request be begun? Return: 0; -EINPROGRESS not yet: it calls
 *	@done of the backing with 0 when it may
 * @ended: what it had the backing begin has this result; it calls @done of the
 *	backing when the device's own request has ended
 */
struct backing_filter {
	int (*plug)(struct backing *backing, uint64_t gpa, uint64_t size);
	int (*unplug)(struct backing *backing, uint64_t gpa, uint64_t size);
	int (*unplug_all)(struct backing *backing);
	int (*repeat)(struct backing *backing, bool plug, uint64_t gpa,
		      uint64_t size);
	int (*verify)(struct backing *backing);
	int (*discard)(struct backing *backing, uint64_t gpa, uint64_t size);
	int (*await)(struct backing *backing);
	void (*ended)(struct backing *backing, int result);
};

/*
 * Memory that is discarded before other work gets its turn: it takes some
 * tens of milliseconds if all of it is there, in pages of 4 KiB.
 */
#define BACKING_DISCARD_MAX (256ULL << 20)

/*
 * The same where nobody waits for it: guests and operators that do have their
 * turns in between.
 */
#define BACKING_DISCARD_SLICE (32ULL << 20)

/**
 * struct backing - what carries out changes
 * @filter: what stands before it, NULL for nothing; with @filter_arg. See
 *	backing_set_filter()
 * @placed: it is known where the region is in the guest; else @gpa means nothing,
 *	and the device says that it has no memory
 * @lost_at_reset: memory that is populated is not kept over a system reset,
 *	nor over the one that a suspend to RAM makes
 * @lost: which blocks the guest has is not known, and @plugged has all that it
 *	may have. Only all of them can be unplugged, which ends it
 * @unread: whether it has any is not known yet, since no front end has said
 *	what it has mapped
 * @nr_slots: memslots that there can be
 * @memory: what it is of, the backing's own
 * @memory_dev, @memory_ino: the file that the memory is of, as it is found in a
 *	memory table; see backing_note_file()
 * @plugged: blocks that the guest has
 * @owed: unplugged blocks whose memory may not have been given back, so that
 *	it is not zero
 * @done: an operation has ended; set by the user of the backing
 * @lost_changed: @lost has changed, or @plugged where it is set; likewise
 * @released: memory that the filter has kept from being discarded may be now;
 *	likewise
 * @arg: for all three
 */
struct backing {
	const struct backing_ops *ops;
	const struct backing_filter *filter;
	void *filter_arg;
	bool placed;
	bool lost_at_reset;
	bool lost;
	bool unread;
	uint64_t nr_slots;
	const struct memory *memory;
	dev_t memory_dev;
	ino_t memory_ino;
	uint64_t gpa;
	uint64_t size;
	uint64_t block_size;
	struct blocks plugged;
	struct blocks owed;
	char reason[BACKING_REASON_MAX];
	void (*done)(void *arg, int result);
	void (*lost_changed)(void *arg);
	void (*released)(void *arg);
	void *arg;
};

int backing_init(struct backing *backing, const struct backing_ops *ops,
		 uint64_t gpa, uint64_t size, uint64_t block_size);
void backing_set_filter(struct backing *backing,
			const struct backing_filter *filter, void *arg);
void backing_count(struct backing *backing, struct work *work);
int backing_note_file(struct backing *backing, int fd);
void backing_free(struct backing *backing);
void backing_note_plugged(struct backing *backing, uint64_t gpa, uint64_t size);
void backing_note_unplugged(struct backing *backing, uint64_t gpa,
			    uint64_t size);
void backing_adopt(struct backing *backing, struct blocks *plugged);
void backing_owe(struct backing *backing, uint64_t gpa, uint64_t size);

/* What a device calls. */
int backing_await(struct backing *backing);
int backing_plug(struct backing *backing, uint64_t gpa, uint64_t size);
int backing_unplug(struct backing *backing, uint64_t gpa, uint64_t size);
int backing_unplug_all(struct backing *backing);
int backing_repeat(struct backing *backing, bool plug, uint64_t gpa,
		   uint64_t size);
int backing_verify(struct backing *backing);
int backing_discard(struct backing *backing, uint64_t gpa, uint64_t size);
void backing_answer_lost(struct backing *backing);

/* What a backing calls. */
void backing_ended(struct backing *backing, int result);

#endif /* BACKING_H */
