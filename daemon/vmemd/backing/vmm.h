/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that a front end maps for us as the backing of a device; see vmm.c. */
#ifndef SHMEM_H
#define SHMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <systemd/sd-event.h>

#include "backing/backing.h"
#include "backing/memory.h"
#include "backing/vmm_state.h"
#include "base/log.h"
#include "common/error.h"
#include "vhost/vhost_user.h"

/* Entries of a memory table, by the protocol: what QEMU sends at most. */
#define SHMEM_TABLE_SIZE 8

/*
 * Slots of a region. A memory table has 8 entries, and a VMM has its own memory
 * in one or two of them; the table is why the list of slots is so short, see
 * vmm.c.
 */
#define SHMEM_MAX_SLOTS 6

/* How much farther each slot ends than the one before. */
#define SHMEM_GROWTH 4

/* What a first slot has at least by default: a memory block of Linux. */
#define SHMEM_SLOT_MIN (128ULL << 20)

/**
 * struct shmem_slot - a part of the region that is mapped as one
 * @offset, @size: bytes
 * @mapped: the front end has it, by its memory table
 */
struct shmem_slot {
	uint64_t offset;
	uint64_t size;
	bool mapped;
};

/**
 * struct shmem_change - a change of blocks that is being carried out
 * @active: there is one
 * @plug: the blocks are to be plugged
 * @undo: it has failed with @result, and what it did is being undone
 */
struct shmem_change {
	bool active;
	bool plug;
	bool undo;
	int result;
	uint64_t first;
	uint64_t nr;
};

/**
 * struct shmem_message - what the front end was asked for
 * @out: it was, and it has not come about
 * @left: it is to give up what a vmemd before us has left at @offset, else it is
 *	to map a slot, or to give it up
 * @replied: it has said that it will
 * @last_word: it was asked for something else after that, whose reply means
 *	that this one is over
 */
struct shmem_message {
	bool out;
	bool map;
	bool replied;
	bool last_word;
	bool left;
	uint64_t offset;
	unsigned int slot;
};

/**
 * struct shmem_left - a mapping of memory that a vmemd before us has left
 * @offset, @size: bytes of the region
 */
struct shmem_left {
	uint64_t offset;
	uint64_t size;
};

/**
 * struct shmem - memory of our own, mapped by the front end
 * @backing: what the device sees
 * @state: what has to outlast us
 * @state_fd: owned
 * @memory: its descriptor is owned too
 * @vu: the way to the front end
 * @slots: @nr_slots of them, in order
 * @left: what the last memory table had of a vmemd before us, @nr_left of them
 * @running: a driver works the queue, so that the front end can be asked
 * @ready: all slots are mapped as the blocks say
 * @inside: an operation has been begun and has not returned
 * @misplaced: the front end has mapped a slot where the region is not believed
 *	to be; the region would be at @found_gpa
 * @may_repeat: the guest may not have got the answer to the last change
 * @timer: for asking again, and for a last word
 */
struct shmem {
	struct backing backing;
	struct vmm_state state;
	int state_fd;
	struct memory memory;
	struct vhost_user *vu;
	struct shmem_slot slots[SHMEM_MAX_SLOTS];
	unsigned int nr_slots;
	struct shmem_left left[SHMEM_TABLE_SIZE];
	unsigned int nr_left;
	bool running;
	bool ready;
	bool inside;
	bool misplaced;
	uint64_t found_gpa;
	bool may_repeat;
	struct shmem_change change;
	struct shmem_message message;
	sd_event_source *timer;
	struct log_limit limit;
};

uint64_t vmm_default_slot(uint64_t region_size, uint64_t block_size);
int vmm_make_file(const char *name);
int vmm_attach(struct shmem *shmem, sd_event *event, struct vhost_user *vu,
	       int memory_fd, int state_fd, uint64_t region_size,
	       uint64_t block_size, uint64_t slot_size, struct error *err);
void vmm_detach(struct shmem *shmem);

int vmm_place(struct shmem *shmem, uint64_t gpa, struct error *err);
uint64_t vmm_slot_plugged(const struct shmem *shmem, unsigned int slot);

#endif /* SHMEM_H */
