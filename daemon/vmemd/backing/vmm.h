/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A backing whose memory the front end maps into the guest; see vmm.c. */
#ifndef VMM_H
#define VMM_H

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

/* Maximum number of entries in a memory table, by the protocol. */
#define VMM_TABLE_SIZE 8

/*
 * Maximum number of slots. A memory table has 8 entries, of which a VMM needs
 * one or two for its own memory; see vmm.c.
 */
#define VMM_MAX_SLOTS 6

/* Each slot ends at this multiple of the previous slot's end. */
#define VMM_GROWTH 4

/* Smallest default size of the first slot: a memory block of Linux. */
#define VMM_SLOT_MIN (128ULL << 20)

/**
 * struct vmm_slot - a part of the region that is mapped as a whole
 * @offset: offset in the region
 * @size: bytes
 * @mapped: the front end's memory table lists the slot, or a part of it
 */
struct vmm_slot {
	uint64_t offset;
	uint64_t size;
	bool mapped;
};

/**
 * struct vmm_change - the change of blocks in progress
 * @active: a change is in progress
 * @plug: true: plug; false: unplug
 * @undo: the change has failed with @result and is being undone
 * @as_listed: old mappings are unmapped by ranges of the memory table, because
 *	the front end has refused those of slots
 * @done: bit i: the change has mapped or unmapped slot i
 * @result: result of the change
 * @error: reason of @result, if it has failed
 * @first: first block
 * @nr: number of blocks
 */
struct vmm_change {
	bool active;
	bool plug;
	bool undo;
	bool as_listed;
	unsigned int done;
	int result;
	struct error error;
	uint64_t first;
	uint64_t nr;
};

/**
 * struct vmm_message - the request to the front end in progress
 * @out: the request is in progress
 * @map: true: map; false: unmap
 * @replied: the front end has accepted the request
 * @last_word: another request was sent after that; once it is answered, this
 *	one has failed
 * @of_change: the current change needs it; otherwise it is a correction
 * @left: true: unmap the old mapping at @offset; false: map or unmap @slot
 * @guessed: the memory table lists only a part of the old mapping
 * @silent_usec: time without an answer when the timer expires, while it is for
 *	an answer
 * @offset: offset of the old mapping in the region
 * @size: its bytes
 * @slot: index of the slot
 */
struct vmm_message {
	bool out;
	bool map;
	bool replied;
	bool last_word;
	bool of_change;
	bool left;
	bool guessed;
	uint64_t silent_usec;
	uint64_t offset;
	uint64_t size;
	unsigned int slot;
};

/**
 * struct vmm_left - an old mapping, of an earlier vmemd's memory file
 * @offset: offset in the region
 * @size: bytes
 */
struct vmm_left {
	uint64_t offset;
	uint64_t size;
};

/**
 * struct vmm_backing - memory of vmemd that the front end maps
 * @backing: the backing
 * @state: state that outlives vmemd
 * @state_fd: file of @state, owned
 * @state_lost: the file was truncated; @state does not outlive vmemd any more
 * @state_told: the log says so
 * @memory: the memory; owns its descriptor
 * @vu: vhost-user back end, which talks to the front end
 * @slots: slots of the region, in order
 * @nr_slots: number of @slots
 * @left: old mappings in the last memory table
 * @nr_left: number of @left
 * @long_table: the front end has sent a table of more than VMM_TABLE_SIZE
 *	entries since it connected or the queue stopped
 * @running: a driver uses the queue, so requests to the front end are allowed
 * @ready: exactly the slots with plugged blocks are mapped
 * @inside: in a call of a backing operation: return the result instead of
 *	calling backing_ended()
 * @misplaced: the front end mapped a slot at an address that does not match
 *	@backing.gpa
 * @found_gpa: guest address of the region according to that mapping
 * @may_repeat: the guest may have missed the answer to the last change
 * @change: the change of blocks in progress
 * @message: the request to the front end in progress
 * @again_usec: delay before the next refused correction is requested again
 * @correct_at: no correction is requested before this time of CLOCK_MONOTONIC
 * @timer: timer for retries and for @message.last_word
 * @limit: rate limit for messages that a front end can cause
 */
struct vmm_backing {
	struct backing backing;
	struct vmm_state state;
	int state_fd;
	volatile bool state_lost;
	bool state_told;
	struct memory memory;
	struct vhost_user *vu;
	struct vmm_slot slots[VMM_MAX_SLOTS];
	unsigned int nr_slots;
	struct vmm_left left[VHOST_USER_MEM_TABLE_SIZE];
	unsigned int nr_left;
	bool long_table;
	bool running;
	bool ready;
	bool inside;
	bool misplaced;
	uint64_t found_gpa;
	bool may_repeat;
	struct vmm_change change;
	struct vmm_message message;
	uint64_t again_usec;
	uint64_t correct_at;
	sd_event_source *timer;
	struct log_limit limit;
};

uint64_t vmm_default_slot(uint64_t region_size, uint64_t block_size);
int vmm_make_file(const char *name);
int vmm_attach(struct vmm_backing *vmm, sd_event *event, struct vhost_user *vu,
	       int memory_fd, int state_fd, uint64_t region_size,
	       uint64_t block_size, uint64_t slot_size, struct error *err);
void vmm_detach(struct vmm_backing *vmm);

int vmm_place(struct vmm_backing *vmm, uint64_t gpa, struct error *err);
uint64_t vmm_slot_plugged(const struct vmm_backing *vmm, unsigned int slot);

#endif /* VMM_H */
