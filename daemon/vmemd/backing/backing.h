/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A backing executes the changes of a virtio-mem device.
 *
 * The device model (device/virtio_mem.c) decides on a request. The backing
 * makes memory accessible at guest addresses, removes it, and frees it.
 * Normally this is a region in the kernel (kernel.c). If the front end maps
 * memory for the device, the VMM changes its own memslots instead (vmm.c).
 *
 * A backing keeps @plugged up to date, as far as it can know. The device
 * answers STATE requests from it without a system call. The backing adds
 * unplugged blocks to @owed, no matter which process unplugged them, and the
 * device discards these.
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

/**
 * struct backing_ops - operations of a backing
 * @plug: make the range accessible to the guest. Its memory reads zero.
 * @unplug: make the range inaccessible, as far as memslots allow
 * @unplug_all: unplug all blocks, atomically
 * @repeat: check whether the request repeats the last change because its answer
 *	was lost. Return: 0: yes; -EINVAL: no; another errno: unknown
 * @verify: bring @plugged up to date. Return: 0: it was; 1: it is now; an errno
 * @discard: free the memory of an unplugged range. Fast for ranges of up to
 *	BACKING_DISCARD_MAX
 * @answer_lost: the guest did not get the answer for the last change
 * @next_memory: first block at or after @from that may have memory, or the
 *	number of blocks; NULL: any block may
 * @set_requested: store the requested size persistently. If it returns
 *	-EINPROGRESS, the result is reported later in a way that depends on the
 *	backing
 * @place: set the region's guest address; NULL: the backing knows the address
 * @populated_slots: number of memslots that exist, as far as known
 * @detach: release the backing. Blocks stay plugged
 * @kept: may blocks @first to @end - 1 be discarded? Set @kept if @first must not
 *	be, with @error. Return: the end, exclusive, of the blocks of which the
 *	same is true. NULL: all may be
 * @await: may a request start? Return: 0: yes; -EINPROGRESS: not yet; @done of
 *	the backing will be called with 0. NULL: it always may
 * @ended: an operation that was started in the backing has ended; @done of the
 *	backing is called once the device's request has ended. NULL: it has
 *
 * Ranges are whole blocks inside the region; the device has checked this. The
 * operations @plug, @unplug, @unplug_all and @repeat may return -EINPROGRESS; then
 * backing_ended() is called with the result later. One such operation is in
 * progress at a time. On other errors, @error is set and nothing was changed,
 * except that @discard may have freed a part. -EAGAIN: @plugged was out of date and
 * has been updated; the device judges the request again.
 *
 * A filter, which intercepts the calls from a device to its backing, has the
 * first six, which may call those of the backing, and the last three. See
 * backing_set_filter().
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
	uint64_t (*kept)(struct backing *backing, uint64_t first, uint64_t end,
			 bool *kept);
	int (*await)(struct backing *backing);
	void (*ended)(struct backing *backing, int result);
};

/*
 * Maximum size of a discard before other work gets its turn. It takes some tens
 * of milliseconds if all of it is resident in pages of 4 KiB.
 */
#define BACKING_DISCARD_MAX (256ULL << 20)

/* The same for background work, which must not delay requests and clients. */
#define BACKING_DISCARD_SLICE (32ULL << 20)

/**
 * struct backing - executes the changes of a device
 * @ops: operations of the backing
 * @front: what the device calls: @ops, or those of a filter; see
 *	backing_set_filter()
 * @filter_arg: for the filter's own use
 * @placed: the guest address of the region is known. Otherwise @gpa is invalid,
 *	and the device reports that it has no memory
 * @lost_at_reset: a reset of the system drops populated memory, and so does a
 *	suspend to RAM, which ends in such a reset
 * @lost: the set of the guest's blocks is unknown, and @plugged has all blocks
 *	that may be plugged. Only all of them can be unplugged, which ends this
 *	state
 * @unread: @plugged is unknown until a front end has sent its memory table
 * @nr_slots: maximum number of memslots
 * @memory: memory of the region; belongs to the backing
 * @memory_dev: device number of the memory file; identifies it in a memory
 *	table together with @memory_ino, see backing_note_file()
 * @memory_ino: inode number of the memory file
 * @gpa: guest address of the region
 * @size: bytes in the region
 * @block_size: bytes per block
 * @plugged: plugged blocks
 * @owed: unplugged blocks that may have memory with old contents
 * @error: why the last operation failed
 * @done: an operation has ended; set by the device, like the next three
 * @lost_changed: @lost has changed, or @plugged while @lost is set
 * @released: blocks that the filter kept from being discarded may be discarded
 * @arg: for these callbacks
 */
struct backing {
	const struct backing_ops *ops;
	const struct backing_ops *front;
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
	struct error error;
	void (*done)(void *arg, int result);
	void (*lost_changed)(void *arg);
	void (*released)(void *arg);
	void *arg;
};

int backing_init(struct backing *backing, const struct backing_ops *ops,
		 uint64_t gpa, uint64_t size, uint64_t block_size);
void backing_set_filter(struct backing *backing,
			const struct backing_ops *filter, void *arg);
void backing_count(struct backing *backing, struct work *work);
int backing_note_file(struct backing *backing, int fd);
void backing_free(struct backing *backing);
void backing_note_plugged(struct backing *backing, uint64_t gpa, uint64_t size);
void backing_note_unplugged(struct backing *backing, uint64_t gpa,
			    uint64_t size);
void backing_adopt(struct backing *backing, struct blocks *plugged);
void backing_owe(struct backing *backing, uint64_t gpa, uint64_t size);

/* For devices. */
int backing_await(struct backing *backing);
int backing_plug(struct backing *backing, uint64_t gpa, uint64_t size);
int backing_unplug(struct backing *backing, uint64_t gpa, uint64_t size);
int backing_unplug_all(struct backing *backing);
int backing_repeat(struct backing *backing, bool plug, uint64_t gpa,
		   uint64_t size);
int backing_verify(struct backing *backing);
int backing_discard(struct backing *backing, uint64_t gpa, uint64_t size);
uint64_t backing_kept(struct backing *backing, uint64_t first, uint64_t end,
		      bool *kept);
void backing_answer_lost(struct backing *backing);

/* For backings. */
void backing_ended(struct backing *backing, int result);

#endif /* BACKING_H */
