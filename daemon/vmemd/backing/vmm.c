// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A backing whose memory the front end maps into the guest. It is for hosts
 * without kvm_vmem.ko and for unmodified VMMs.
 *
 * A vhost-user front end with SHMEM support (QEMU 11.1 and later) gives the
 * device a shared memory region, which the guest sees as a BAR of the device.
 * vmemd owns the memory: a file of the region's size. When the first block of a
 * slot is plugged, SHMEM_MAP asks the front end to map that part of the file
 * into the BAR. After the last block is unplugged, SHMEM_UNMAP asks it to
 * remove the mapping. The VMM adds and removes the memslots, so its own devices
 * and its other vhost devices handle the memory like any other.
 *
 * Address. Firmware or guest choose the BAR's address, and no message reports
 * it; see vmm_place(). Until the address is known, the device reports that it
 * has no memory. The front end's memory table lists each mapping with its guest
 * address, which verifies the address.
 *
 * Completion. The memory table also shows that a change is complete. QEMU
 * answers SHMEM_MAP and SHMEM_UNMAP before it executes them, and sends the
 * table afterwards. So the answer only accepts the change. If the guest got its
 * answer at this point, it could use memory without a memslot, or memory that
 * is being freed. If a front end accepts a mapping and never lists it, vmemd
 * sends another request. The front end handles requests in order, so the answer
 * to this one means that the mapping has failed.
 *
 * Few slots. SET_MEM_TABLE sends the whole table, which has at most 8 entries,
 * except those of front ends that send more for their own memory.
 * CONFIGURE_MEM_SLOTS, with one message per entry, allows hundreds, but is
 * deliberately not offered: a reset of the system drops all mappings in the
 * VMM, and at the next start of the device QEMU 11.1 looks up the memory of
 * each entry to remove, finds none, and crashes. So a region has at most
 * VMM_MAX_SLOTS slots of growing size: each ends at VMM_GROWTH times the
 * end of the previous one. Guests plug from the start of the region, so the
 * populated slots have at most VMM_GROWTH times the plugged size.
 *
 * Waiting. One mapping is requested at a time. Until it is complete, the event
 * loop handles other events, in particular messages of the front end: it sends
 * the table and waits for our acknowledgement. If one of several mappings
 * fails, the earlier ones are undone, and the guest gets BUSY.
 *
 * Hidden slots. The guest may map another BAR over a slot, or disable the BAR
 * of the memory. The table then lacks a mapping that still exists, and a front
 * end refuses to make it again. So a change only waits for the mappings that
 * its own blocks need. Other differences are corrected between changes. A
 * correction that is refused is repeated ever more rarely, until a new table
 * arrives. Changes do not bring the next attempt forward: the guest could cause
 * a refused request by each of its own.
 *
 * Requests to the front end are only allowed while a driver uses the queue.
 * QEMU 11.1 crashes on any message of the backend channel before that.
 *
 * Persistence. The state file (vmm_state.c) has the plugged blocks; the front
 * end has the slots. When a driver starts, the memory table shows which slots
 * are mapped. Slots are then mapped and unmapped according to the plugged
 * blocks, before the queue is served. This also covers a daemon that was killed
 * and restarted with the same files, and a VMM that dropped its mappings in a
 * reset. A plug maps first and then commits. An unplug unmaps first, then
 * commits, and only then is memory discarded. If the daemon is killed at any
 * point, each block is plugged or unplugged with its contents intact, and slots
 * are corrected at the next start.
 *
 * Lost state. If no process has kept the files, e.g. because the service was
 * stopped, a daemon starts with new files. The front end of a running VM still
 * maps the old memory file. Only the guest knows which of these blocks are
 * plugged, and no message can ask it. So the old file is neither written nor
 * punched, and all blocks that are mapped from it count as plugged, which keeps
 * them accessible. Until the guest unplugs all or its system is reset, requests
 * are answered BUSY, see device/virtio_mem.c. Then the front end is asked to
 * remove the old mappings, and the region starts again with the new file. All
 * of this is derived from the memory table, so that it cannot be lost in turn.
 * A front end only removes a mapping as a whole, and the table may list parts
 * of it. So the slot that contains a part is tried first, and then the part:
 * the earlier vmemd may have had other slots.
 *
 * While a driver uses the queue, tables can only add old mappings. A table
 * without them does not mean that the guest no longer uses them: a front end
 * may send its own memory first, and a guest may disable the BAR for a moment.
 * The state is known again after a completed UNPLUG_ALL or when the queue
 * stops. After a stop, the latest table counts; a new driver only starts after
 * a table was sent.
 *
 * Partly lost state. Memory with contents is refused without a state, and a
 * state with plugged blocks is refused with new memory: vmemd never leaves
 * either behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backing/vmm.h"
#include "base/timer.h"
#include "common/min_max.h"
#include "common/size.h"

/* Time for the table to arrive after the answer, before vmemd asks again. */
#define TABLE_USEC 1000000ULL

/*
 * Time for an answer, before the log says that it is missing. A front end
 * answers without waiting for anything else.
 */
#define ANSWER_USEC 10000000ULL

/*
 * First and longest delay before a refused correction is requested again. The
 * first one is also that of a refused undo, which the guest waits for.
 */
#define AGAIN_USEC     1000000ULL
#define AGAIN_MAX_USEC (64 * AGAIN_USEC)

static struct vmm_backing *to_vmm(struct backing *backing)
{
	return (struct vmm_backing *)((char *)backing -
				      offsetof(struct vmm_backing, backing));
}

static uint64_t block_of(const struct vmm_backing *vmm, uint64_t offset)
{
	return offset / vmm->backing.block_size;
}

/* --- Wanted slots --- */

/* Number of the current change's blocks in a slot; @first: the first one. */
static uint64_t changed_in(const struct vmm_backing *vmm,
			   const struct vmm_slot *slot, uint64_t *first)
{
	const struct vmm_change *change = &vmm->change;
	uint64_t from = block_of(vmm, slot->offset);
	uint64_t to = block_of(vmm, slot->offset + slot->size);

	from = max(from, change->first);
	to = min(to, change->first + change->nr);
	*first = from;
	return to > from ? to - from : 0;
}

/*
 * Does the current change depend on the slot's mapping? Blocks can be unplugged
 * without a mapping. An undone change only restores what it has changed.
 */
static bool concerns(const struct vmm_backing *vmm, unsigned int i)
{
	const struct vmm_change *change = &vmm->change;
	const struct vmm_slot *slot = &vmm->slots[i];
	uint64_t first;

	if (change->undo)
		return change->done & 1U << i;
	return (change->plug || slot->mapped) && changed_in(vmm, slot, &first);
}

/* Must a slot be mapped once the current change is complete, or undone? */
static bool wanted(const struct vmm_backing *vmm, unsigned int i)
{
	const struct vmm_slot *slot = &vmm->slots[i];
	const struct vmm_change *change = &vmm->change;
	const struct blocks *plugged = &vmm->backing.plugged;
	uint64_t have, first, nr;

	have = blocks_count(plugged, block_of(vmm, slot->offset),
			    block_of(vmm, slot->size));
	if (!change->active || change->undo)
		return have;
	nr = changed_in(vmm, slot, &first);
	if (change->plug)
		return have || nr;
	return have > (nr ? blocks_count(plugged, first, nr) : 0);
}

/* Plugged bytes in a slot. */
uint64_t vmm_slot_plugged(const struct vmm_backing *vmm, unsigned int slot)
{
	const struct vmm_slot *s = &vmm->slots[slot];

	return blocks_count(&vmm->backing.plugged, block_of(vmm, s->offset),
			    block_of(vmm, s->size)) *
	       vmm->backing.block_size;
}

/* --- Mapped slots --- */

/* Does the entry have a part of this range of the region? */
static bool has_part(const struct guest_memory_region *region, uint64_t offset,
		     uint64_t size)
{
	return region->offset < offset + size &&
	       offset < region->offset + region->size;
}

/*
 * Does the entry have memory of the slot? The guest may map another device over
 * a part of a slot. The table then has the rest, perhaps as several entries.
 * The mapping as a whole is still there, and cannot be made a second time.
 */
static bool lists(const struct vmm_backing *vmm,
		  const struct guest_memory_region *region,
		  const struct vmm_slot *slot)
{
	return region->dev == vmm->backing.memory_dev &&
	       region->ino == vmm->backing.memory_ino &&
	       has_part(region, slot->offset, slot->size);
}

static void read_table(struct vmm_backing *vmm)
{
	const struct guest_memory *memory = &vmm->vu->memory;

	vmm->misplaced = false;
	vmm->long_table |= memory->nr > VMM_TABLE_SIZE;
	for (unsigned int i = 0; i < vmm->nr_slots; i++) {
		struct vmm_slot *slot = &vmm->slots[i];

		slot->mapped = false;
		for (size_t j = 0; j < memory->nr; j++) {
			const struct guest_memory_region *region =
				&memory->regions[j];

			if (!lists(vmm, region, slot))
				continue;
			slot->mapped = true;
			if (region->gpa - region->offset == vmm->backing.gpa)
				continue;
			vmm->misplaced = true;
			vmm->found_gpa = region->gpa - region->offset;
		}
	}
}

/* --- Old mappings, of an earlier vmemd's memory file --- */

/*
 * Is this an old mapping? Only this device can have memory at its region's
 * addresses, and a vmemd maps each part of its file at the same offset in the
 * region. If the region's address is wrong, the memory may be that of another
 * device of this daemon, whose file is known.
 */
static bool is_left(const struct vmm_backing *vmm,
		    const struct guest_memory_region *region)
{
	const struct backing *backing = &vmm->backing;
	uint64_t offset = region->gpa - backing->gpa;

	return backing->placed && region->gpa >= backing->gpa &&
	       offset < backing->size &&
	       region->size <= backing->size - offset &&
	       region->offset == offset &&
	       !guest_access_has_file(vmm->vu->access, region->dev,
				      region->ino);
}

static const struct guest_memory_region *
first_left(const struct vmm_backing *vmm)
{
	const struct guest_memory *memory = &vmm->vu->memory;

	for (size_t i = 0; i < memory->nr; i++)
		if (is_left(vmm, &memory->regions[i]))
			return &memory->regions[i];
	return NULL;
}

/* Is a part of an old mapping in this range of the region? */
static bool is_left_in(const struct vmm_backing *vmm, uint64_t offset,
		       uint64_t size)
{
	const struct guest_memory *memory = &vmm->vu->memory;

	for (size_t i = 0; i < memory->nr; i++) {
		const struct guest_memory_region *region = &memory->regions[i];

		if (is_left(vmm, region) && has_part(region, offset, size))
			return true;
	}
	return false;
}

/*
 * List the old mappings in the memory table.
 *
 * Return: whether the list has changed.
 */
static bool list_left(struct vmm_backing *vmm)
{
	const struct guest_memory *memory = &vmm->vu->memory;
	unsigned int nr = 0;
	bool changed = false;

	/* @left has room for a whole table. */
	for (size_t i = 0; i < memory->nr && nr < VHOST_USER_MEM_TABLE_SIZE;
	     i++) {
		const struct guest_memory_region *region = &memory->regions[i];
		struct vmm_left *left = &vmm->left[nr];

		if (!is_left(vmm, region))
			continue;
		changed |= nr >= vmm->nr_left ||
			   left->offset != region->offset ||
			   left->size != region->size;
		left->offset = region->offset;
		left->size = region->size;
		nr++;
	}
	changed |= nr != vmm->nr_left;
	vmm->nr_left = nr;
	return changed;
}

/*
 * All blocks in old mappings count as plugged. Blocks that do not count any
 * more are owed, because the new file may have memory for them as well.
 */
static void plug_left(struct vmm_backing *vmm)
{
	struct blocks *plugged = &vmm->backing.plugged;
	struct blocks *owed = &vmm->backing.owed;

	/* A running driver may still use blocks of an earlier table. */
	if (!vmm->running)
		blocks_move(plugged, owed, 0, plugged->nr);
	for (unsigned int i = 0; i < vmm->nr_left; i++) {
		const struct vmm_left *left = &vmm->left[i];
		uint64_t first, end;

		/* The earlier vmemd may have used another block size. */
		first = block_of(vmm, left->offset);
		end = block_of(vmm, left->offset + left->size +
					    vmm->backing.block_size - 1);
		blocks_set(plugged, first, end - first);
		blocks_clear(owed, first, end - first);
	}
}

static void lost_changed(struct vmm_backing *vmm)
{
	struct backing *backing = &vmm->backing;
	char size[SIZE_TEXT_MAX];

	if (backing->lost)
		log_limited(
			&vmm->limit, LOG_LEVEL_WARNING, vmm->vu->label,
			"the state was lost: the VMM has %s of memory mapped "
			"from an earlier vmemd, and the plugged blocks are "
			"unknown. Plug and unplug are answered busy until the "
			"guest unplugs all or its system is reset",
			size_format(backing->plugged.set * backing->block_size,
				    size));
	else
		log_limited(
			&vmm->limit, LOG_LEVEL_INFO, vmm->vu->label,
			"no memory of an earlier vmemd is in use any more: the "
			"plugged blocks are known again");
	if (backing->lost_changed)
		backing->lost_changed(backing->arg);
	/* Rings in these blocks may be accessible now, or no longer. */
	guest_access_known(vmm->vu->access);
}

/*
 * Check the memory table for old mappings and update the lost state.
 * @again: also if the list has not changed
 */
static void find_left(struct vmm_backing *vmm, bool again)
{
	struct backing *backing = &vmm->backing;
	bool changed = list_left(vmm);
	bool left = vmm->nr_left;
	bool before = backing->lost;
	uint64_t plugged = backing->plugged.set;

	/* With plugged blocks, or a change in progress, the state is known. */
	if (!before && (!left || plugged || vmm->change.active))
		return;
	if (before && !changed && !again)
		return;
	plug_left(vmm);
	backing->lost = left || (before && vmm->running);
	if (backing->lost != before || backing->plugged.set != plugged)
		lost_changed(vmm);
}

/* --- Requests to the front end --- */

static void set_timer(struct vmm_backing *vmm, uint64_t usec)
{
	if (usec)
		timer_start(vmm->timer, usec);
	else
		sd_event_source_set_enabled(vmm->timer, SD_EVENT_OFF);
}

static uint64_t time_now(const struct vmm_backing *vmm)
{
	uint64_t now = 0;

	sd_event_now(sd_event_source_get_event(vmm->timer), CLOCK_MONOTONIC,
		     &now);
	return now;
}

/*
 * Maximum number of entries in the memory table. A front end that has sent more
 * than the protocol's maximum can send more.
 */
static unsigned int table_size(const struct vmm_backing *vmm)
{
	return vmm->long_table ? VHOST_USER_MEM_TABLE_SIZE : VMM_TABLE_SIZE;
}

/* A message was sent: the timer is for its answer. */
static void await_answer(struct vmm_backing *vmm)
{
	vmm->message.silent_usec = ANSWER_USEC;
	set_timer(vmm, ANSWER_USEC);
}

/*
 * Ask the front end to map or unmap a part of the region.
 * @message: the request; becomes the one in progress
 *
 * Return: 0; an errno with the error set.
 */
static int ask(struct vmm_backing *vmm, uint64_t offset, uint64_t size,
	       const struct vmm_message *message)
{
	struct backing *backing = &vmm->backing;
	bool map = message->map;
	struct vhost_user_mmap mmap = {
		.fd_offset = offset,
		.shm_offset = offset,
		.len = size,
		.flags = map ? VHOST_USER_MMAP_RW : 0,
	};
	int ret;

	if (map && vmm->vu->memory.nr >= table_size(vmm)) {
		return error_set(
			&backing->error, -ENOSPC,
			"the VMM's memory table is full: of %u entries, its "
			"own memory uses too many",
			table_size(vmm));
	}
	ret = vhost_channel_ask(vmm->vu,
				map ? VHOST_USER_BACKEND_SHMEM_MAP
				    : VHOST_USER_BACKEND_SHMEM_UNMAP,
				&mmap, sizeof(mmap), map ? vmm->memory.fd : -1);
	if (ret) {
		return error_set(&backing->error, ret,
				 "the backend channel: %s", strerror(-ret));
	}
	vmm->message = *message;
	vmm->message.out = true;
	vmm->message.of_change = vmm->change.active;
	await_answer(vmm);
	return 0;
}

static int ask_for_slot(struct vmm_backing *vmm, unsigned int i)
{
	const struct vmm_slot *slot = &vmm->slots[i];
	const struct vmm_message message = {
		.map = !slot->mapped,
		.slot = i,
	};

	return ask(vmm, slot->offset, slot->size, &message);
}

/* The slot that contains the range, or NULL. */
static const struct vmm_slot *slot_around(const struct vmm_backing *vmm,
					  uint64_t offset, uint64_t size)
{
	for (unsigned int i = 0; i < vmm->nr_slots; i++) {
		const struct vmm_slot *slot = &vmm->slots[i];

		if (offset >= slot->offset &&
		    offset + size <= slot->offset + slot->size)
			return slot;
	}
	return NULL;
}

/* Ask to unmap the old mapping that a table entry is a part of. */
static int ask_for_left(struct vmm_backing *vmm,
			const struct guest_memory_region *region)
{
	const struct vmm_slot *slot =
		slot_around(vmm, region->offset, region->size);
	struct vmm_message message = {
		.left = true,
		.offset = region->offset,
		.size = region->size,
	};

	if (slot && slot->size != region->size && !vmm->change.as_listed) {
		message.guessed = true;
		message.offset = slot->offset;
		message.size = slot->size;
	}
	return ask(vmm, message.offset, message.size, &message);
}

static const char state_lost[] =
	"\"state\" descriptor: the file was truncated: changes are not recorded, "
	"and a restarted vmemd will refuse it";

/* To be called after a change of the state. */
static void check_state(struct vmm_backing *vmm)
{
	if (!vmm->state_lost || vmm->state_told)
		return;
	vmm->state_told = true;
	log_err_of(vmm->vu->label, "%s", state_lost);
}

/* The current change is complete, or undone. */
static void finish(struct vmm_backing *vmm)
{
	struct vmm_change *change = &vmm->change;
	struct backing *backing = &vmm->backing;
	uint64_t gpa = backing->gpa + change->first * backing->block_size;
	uint64_t size = change->nr * backing->block_size;
	bool known = false;

	if (!change->undo) {
		/* A lost state only allows to unplug all blocks. */
		known = backing->lost;
		backing->lost = false;
		vmm_state_commit(&vmm->state, change->first, change->nr,
				 change->plug);
		check_state(vmm);
		vmm->may_repeat = false;
		if (change->plug)
			backing_note_plugged(backing, gpa, size);
		else
			backing_note_unplugged(backing, gpa, size);
		change->result = 0;
	} else {
		/* Others may have set it since. */
		backing->error = change->error;
	}
	change->active = false;
	if (!vmm->inside)
		backing_ended(backing, change->result);
	if (known)
		lost_changed(vmm);
}

/*
 * A request to the front end has failed; the error is set.
 * @of_change: the current change needs it; otherwise it is a correction
 */
static void failed(struct vmm_backing *vmm, int result, bool of_change)
{
	struct vmm_change *change = &vmm->change;

	if (of_change && !change->undo) {
		change->undo = true;
		change->result = result;
		change->error = vmm->backing.error;
		return;
	}
	/* Plugged blocks of the guest may have no mapping: keep trying. */
	log_limited(&vmm->limit, LOG_LEVEL_ERR, vmm->vu->label,
		    "a slot cannot be corrected: %s; trying again",
		    vmm->backing.error.text);
	if (of_change) {
		set_timer(vmm, AGAIN_USEC);
		return;
	}
	/* A change that has begun since does not wait for a correction. */
	vmm->correct_at = time_now(vmm) + vmm->again_usec;
	vmm->again_usec = min(2 * vmm->again_usec, AGAIN_MAX_USEC);
}

/*
 * Is it too early for the next correction? The timer is set to its time then.
 */
static bool is_early(struct vmm_backing *vmm)
{
	uint64_t now = time_now(vmm);

	if (vmm->change.active || vmm->correct_at <= now)
		return false;
	set_timer(vmm, vmm->correct_at - now);
	return true;
}

/* Corrections are possible, or worth another attempt. */
static void correct_now(struct vmm_backing *vmm)
{
	vmm->again_usec = AGAIN_USEC;
	vmm->correct_at = 0;
}

/*
 * Request the next difference between wanted and existing mappings: during a
 * change, only of slots that it depends on. While the state is lost, no slots
 * are mapped, and old mappings are only removed by an UNPLUG_ALL.
 *
 * Return: 1: sent; 0: there is no difference; an errno with the error set.
 */
static int ask_for_next(struct vmm_backing *vmm)
{
	const struct vmm_change *change = &vmm->change;
	int ret;

	if (vmm->backing.lost) {
		const struct guest_memory_region *left = NULL;

		if (change->active && !change->undo)
			left = first_left(vmm);
		ret = left ? ask_for_left(vmm, left) : 0;
		return ret ? ret : left != NULL;
	}
	for (unsigned int i = 0; i < vmm->nr_slots; i++) {
		if (vmm->slots[i].mapped == wanted(vmm, i) ||
		    (change->active && !concerns(vmm, i)))
			continue;
		ret = ask_for_slot(vmm, i);
		return ret ? ret : 1;
	}
	return 0;
}

/* Request the next mapping, complete the change, or correct other slots. */
static void advance_mapping(struct vmm_backing *vmm)
{
	int enabled = SD_EVENT_OFF;

	while (vmm->running && !vmm->message.out) {
		int ret;

		sd_event_source_get_enabled(vmm->timer, &enabled);
		if (enabled != SD_EVENT_OFF || is_early(vmm))
			return;
		ret = ask_for_next(vmm);
		/* on_stopped() follows and ends the change. */
		if (ret == -ENOTCONN)
			return;
		if (ret < 0)
			failed(vmm, ret, vmm->change.active);
		if (ret)
			continue;
		if (vmm->change.active) {
			finish(vmm);
			continue;
		}
		if (!vmm->ready) {
			vmm->ready = true;
			vhost_user_go_on(vmm->vu);
		}
		return;
	}
}

/* The front end accepted a request and has not executed it. */
static void not_done(struct vmm_backing *vmm)
{
	struct backing *backing = &vmm->backing;

	vmm->message.out = false;
	error_set(&backing->error, -EIO,
		  "the VMM agreed to %s memory, but has not done so",
		  vmm->message.map ? "map" : "unmap");
	failed(vmm, -EIO, vmm->message.of_change);
	advance_mapping(vmm);
}

/* Does the memory table show what the request in progress is for? */
static bool is_listed(const struct vmm_backing *vmm)
{
	const struct vmm_message *message = &vmm->message;
	bool mapped = message->left
			      ? is_left_in(vmm, message->offset, message->size)
			      : vmm->slots[message->slot].mapped;

	return mapped == message->map;
}

/* Is the request in progress complete? */
static void check_message(struct vmm_backing *vmm)
{
	struct vmm_message *message = &vmm->message;
	struct backing *backing = &vmm->backing;

	if (!message->out || !message->replied)
		return;
	if (!is_listed(vmm)) {
		if (!message->last_word)
			set_timer(vmm, TABLE_USEC);
		return;
	}
	message->out = false;
	set_timer(vmm, 0);
	if (message->of_change && !message->left)
		vmm->change.done |= 1U << message->slot;
	if (message->map && vmm->misplaced) {
		error_set(&backing->error, -EADDRNOTAVAIL,
			  "the guest has the region at 0x%" PRIx64
			  ", not at 0x%" PRIx64 ": \"vmemctl place\" it there",
			  vmm->found_gpa, backing->gpa);
		failed(vmm, -EADDRNOTAVAIL, message->of_change);
	}
	advance_mapping(vmm);
}

/* --- Events of the front end --- */

static void on_started(void *arg)
{
	struct vmm_backing *vmm = arg;

	vmm_state_set(&vmm->state.header->used, 1);
	check_state(vmm);
	vmm->running = true;
	correct_now(vmm);
	read_table(vmm);
	advance_mapping(vmm);
}

/* The driver or the front end is gone: no requests are possible. */
static void on_stopped(void *arg)
{
	struct vmm_backing *vmm = arg;

	vmm->running = false;
	vmm->ready = false;
	vmm->long_table = false;
	vmm->message.out = false;
	set_timer(vmm, 0);
	for (unsigned int i = 0; i < vmm->nr_slots; i++)
		vmm->slots[i].mapped = false;
	if (vmm->change.active) {
		vmm->change.undo = true;
		vmm->change.result =
			error_set(&vmm->change.error, -ENOTCONN,
				  "the front end has stopped the device");
		finish(vmm);
	}
	if (vmm->backing.lost)
		find_left(vmm, true);
}

static void on_memory(void *arg)
{
	struct vmm_backing *vmm = arg;

	find_left(vmm, false);
	if (!vmm->backing.unread)
		return;
	vmm->backing.unread = false;
	guest_access_known(vmm->vu->access);
}

static void on_table(void *arg)
{
	struct vmm_backing *vmm = arg;

	read_table(vmm);
	correct_now(vmm);
	if (vmm->message.out) {
		check_message(vmm);
		return;
	}
	/* What was refused may be there now, or be possible: do not wait. */
	set_timer(vmm, 0);
	advance_mapping(vmm);
}

static void on_replied(void *arg, uint32_t request, bool ok)
{
	struct vmm_backing *vmm = arg;
	struct vmm_message *message = &vmm->message;
	struct backing *backing = &vmm->backing;
	bool last_word = request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG;

	if (!message->out || message->last_word != last_word)
		return;
	set_timer(vmm, 0);
	/*
	 * A refused request may have been carried out: a request before the
	 * queue stopped was the same one.
	 */
	if (!last_word && (ok || is_listed(vmm))) {
		message->replied = true;
		check_message(vmm);
		return;
	}
	if (last_word) {
		not_done(vmm);
		return;
	}
	message->out = false;
	if (message->guessed) {
		vmm->change.as_listed = true;
		advance_mapping(vmm);
		return;
	}
	error_set(&backing->error, -EIO,
		  "the VMM refuses to %s memory; see its messages",
		  message->map ? "map" : "unmap");
	failed(vmm, -EIO, message->of_change);
	advance_mapping(vmm);
}

static bool is_ready(void *arg)
{
	const struct vmm_backing *vmm = arg;

	return vmm->ready;
}

static const struct vhost_user_shmem_ops shmem_ops = {
	.started = on_started,
	.stopped = on_stopped,
	.memory = on_memory,
	.table = on_table,
	.replied = on_replied,
	.ready = is_ready,
};

/*
 * The front end has not answered. It may still do so, and may have changed the
 * mapping already. So the guest's request waits. The log repeats this, each
 * time after twice as long.
 */
static void note_silence(struct vmm_backing *vmm)
{
	struct vmm_message *message = &vmm->message;

	log_limited(&vmm->limit, LOG_LEVEL_WARNING, vmm->vu->label,
		    "the VMM has not answered %s for %" PRIu64
		    " s: requests of the guest wait",
		    message->last_word ? "a notification"
		    : message->map     ? "a request to map memory"
				       : "a request to unmap memory",
		    message->silent_usec / 1000000);
	set_timer(vmm, message->silent_usec);
	message->silent_usec *= 2;
}

static int on_timer(sd_event_source *source __attribute__((unused)),
		    uint64_t usec __attribute__((unused)), void *arg)
{
	struct vmm_backing *vmm = arg;
	int ret;

	if (!vmm->message.out) {
		advance_mapping(vmm);
		return 0;
	}
	if (!vmm->message.replied || vmm->message.last_word) {
		note_silence(vmm);
		return 0;
	}
	/*
	 * No configuration change may be notified while the state is lost: the
	 * driver would adopt the plugged size. The timeout decides instead.
	 */
	if (vmm->backing.lost) {
		not_done(vmm);
		return 0;
	}
	/* A notification without a change is harmless for a driver. */
	ret = vhost_channel_ask(vmm->vu, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
				NULL, 0, -1);
	if (ret) {
		set_timer(vmm, TABLE_USEC);
		return 0;
	}
	vmm->message.last_word = true;
	await_answer(vmm);
	return 0;
}

/* --- Backing operations --- */

static int begin_mapping(struct backing *backing, bool plug, uint64_t gpa,
			 uint64_t size)
{
	struct vmm_backing *vmm = to_vmm(backing);
	struct vmm_change *change = &vmm->change;

	if (!vmm->running) {
		return error_set(&backing->error, -ENOTCONN,
				 "no front end to map memory");
	}
	*change = (struct vmm_change){
		.active = true,
		.plug = plug,
		.first = block_of(vmm, gpa - backing->gpa),
		.nr = block_of(vmm, size),
	};
	/* The change does not wait for the next attempt at a correction. */
	if (!vmm->message.out)
		set_timer(vmm, 0);
	vmm->inside = true;
	advance_mapping(vmm);
	vmm->inside = false;
	if (change->active)
		return -EINPROGRESS;
	/* A correction that failed since may have set another. */
	if (change->result)
		backing->error = change->error;
	return change->result;
}

static int vmm_plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return begin_mapping(backing, true, gpa, size);
}

static int vmm_unplug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return begin_mapping(backing, false, gpa, size);
}

static int vmm_unplug_all(struct backing *backing)
{
	return begin_mapping(backing, false, backing->gpa, backing->size);
}

static int vmm_repeat(struct backing *backing, bool plug, uint64_t gpa,
		      uint64_t size)
{
	struct vmm_backing *vmm = to_vmm(backing);
	const volatile struct vmm_record *last = vmm_state_last(&vmm->state);
	bool may = vmm->may_repeat;

	vmm->may_repeat = false;
	return may && last->plug == plug &&
			       last->first ==
				       block_of(vmm, gpa - backing->gpa) &&
			       last->nr == block_of(vmm, size)
		       ? 0
		       : -EINVAL;
}

/* No other process changes blocks. */
static int vmm_verify(struct backing *backing __attribute__((unused)))
{
	return 0;
}

static int vmm_discard(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return memory_punch(&to_vmm(backing)->memory, gpa - backing->gpa, size,
			    &backing->error);
}

static uint64_t vmm_next_memory(struct backing *backing, uint64_t from)
{
	return memory_next_data(&to_vmm(backing)->memory,
				from * backing->block_size, backing->size) /
	       backing->block_size;
}

static void vmm_answer_lost(struct backing *backing)
{
	to_vmm(backing)->may_repeat = true;
}

static int vmm_set_requested(struct backing *backing, uint64_t size,
			     struct error *err)
{
	struct vmm_backing *vmm = to_vmm(backing);

	vmm_state_set(&vmm->state.header->requested_size, size);
	check_state(vmm);
	return vmm->state_lost ? error_set(err, -EIO, "%s", state_lost) : 0;
}

/**
 * vmm_place() - set the guest address of the region
 * @vmm: the backing
 * @gpa: guest address of the front end's shared memory region, a multiple of
 *	the block size
 * @err: set on error
 *
 * Old mappings at the previous address may have been unrelated memory. So a
 * region whose state is lost can be moved as long as no driver uses it.
 *
 * Return: 0; -EINVAL; -EBUSY: the region is in use at another address.
 */
int vmm_place(struct vmm_backing *vmm, uint64_t gpa, struct error *err)
{
	struct backing *backing = &vmm->backing;

	if (!gpa || !vmm_state_fits(gpa, backing->size, backing->block_size))
		return error_set(err, -EINVAL,
				 "0x%" PRIx64
				 " cannot be the address of a region with "
				 "blocks of %" PRIu64 " bytes",
				 gpa, backing->block_size);
	if (backing->placed && gpa == backing->gpa)
		return 0;
	if (backing->placed &&
	    ((backing->plugged.set && !backing->lost) || vmm->running))
		return error_set(err, -EBUSY,
				 "the region is in use at 0x%" PRIx64,
				 backing->gpa);
	backing->gpa = gpa;
	backing->placed = true;
	vmm_state_set(&vmm->state.header->gpa, gpa);
	check_state(vmm);
	find_left(vmm, true);
	guest_access_known(vmm->vu->access);
	return 0;
}

/* --- Start and end --- */

/* Size of the first slot with which VMM_MAX_SLOTS cover the region. */
uint64_t vmm_default_slot(uint64_t region_size, uint64_t block_size)
{
	uint64_t slot = block_size > VMM_SLOT_MIN ? block_size : VMM_SLOT_MIN;
	uint64_t reach = 1;

	for (unsigned int i = 1; i < VMM_MAX_SLOTS; i++)
		reach *= VMM_GROWTH;
	while (slot < region_size / reach + (region_size % reach != 0))
		slot *= 2;
	return min(slot, region_size);
}

/* Divide the region into slots. The last one covers the rest of the region. */
static void lay_out(struct vmm_backing *vmm, uint64_t slot_size)
{
	uint64_t size = vmm->backing.size, offset = 0, end = slot_size;

	while (offset < size) {
		struct vmm_slot *slot = &vmm->slots[vmm->nr_slots++];

		if (end > size || vmm->nr_slots == VMM_MAX_SLOTS)
			end = size;
		slot->offset = offset;
		slot->size = end - offset;
		offset = end;
		if (__builtin_mul_overflow(end, VMM_GROWTH, &end))
			end = size;
	}
}

/**
 * vmm_make_file() - make an empty memfd
 * @name: shown in /proc
 *
 * Return: a descriptor, or an errno of memfd_create(2).
 */
int vmm_make_file(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? -errno : fd;
}

/* Set or check the size of the memory file, and seal the size if possible. */
static int open_memory(struct vmm_backing *vmm, int fd, uint64_t size,
		       uint64_t block_size, struct error *err)
{
	struct stat st;
	int ret;

	if (fstat(fd, &st) < 0 ||
	    (!st.st_size && ftruncate(fd, (off_t)size) < 0)) {
		ret = -errno;
		return error_set(err, ret, "\"memory\" descriptor: %s",
				 strerror(-ret));
	}
	if (st.st_size && (uint64_t)st.st_size != size)
		return error_set(
			err, -EINVAL,
			"\"memory\" descriptor: neither empty nor of the "
			"region's size");
	ret = memory_init(&vmm->memory, fd, size, block_size, err);
	if (ret)
		return ret;
	/* Files of file systems cannot be sealed. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		log_debug_of(vmm->vu->label, "the memory is not sealed: %s",
			     strerror(errno));
	return 0;
}

/* May a file have contents? hugetlb files do not report holes. */
static bool has_contents(int fd, const struct stat *st)
{
	return st->st_blocks &&
	       (lseek(fd, 0, SEEK_DATA) >= 0 || errno != ENXIO);
}

/*
 * Open memory and state, and check that they belong together. Refused files are
 * not changed, so that they can be passed again.
 */
static int open_files(struct vmm_backing *vmm, int memory_fd, uint64_t size,
		      uint64_t block_size, uint64_t slot_size,
		      struct error *err)
{
	struct stat st;
	int ret;

	if (fstat(memory_fd, &st) < 0) {
		ret = -errno;
		return error_set(err, ret, "\"memory\" descriptor: %s",
				 strerror(-ret));
	}
	if (!vmm_state_is_there(vmm->state_fd) && has_contents(memory_fd, &st))
		return error_set(
			err, -EINVAL,
			"\"memory\" descriptor: it has contents, and no state "
			"says of which blocks: pass its \"state\" as well, or "
			"neither");
	ret = vmm_state_open(&vmm->state, vmm->state_fd, size, block_size,
			     slot_size, err);
	if (ret)
		return ret;
	if (!st.st_size && vmm_state_next(&vmm->state, 0, size / block_size) <
				   size / block_size) {
		ret = error_set(
			err, -EINVAL,
			"\"state\" descriptor: blocks are plugged, and the "
			"memory is new: pass its \"memory\" as well, or "
			"neither");
	} else {
		ret = open_memory(vmm, memory_fd, size, block_size, err);
	}
	if (ret)
		vmm_state_close(&vmm->state);
	return ret;
}

static struct guard *guard_of(const struct vmm_backing *vmm)
{
	return &vmm->vu->access->guard;
}

static void close_state(struct vmm_backing *vmm)
{
	guard_remove(guard_of(vmm), vmm->state.file.start);
	vmm_state_close(&vmm->state);
}

/* Read the plugged blocks from the state. */
static void read_blocks(struct vmm_backing *vmm)
{
	struct blocks *plugged = &vmm->backing.plugged;
	uint64_t at = 0;

	while ((at = vmm_state_next(&vmm->state, at, plugged->nr)) <
	       plugged->nr)
		blocks_set(plugged, at++, 1);
}

static int vmm_place_at(struct backing *backing, uint64_t gpa,
			struct error *err)
{
	return vmm_place(to_vmm(backing), gpa, err);
}

static uint64_t vmm_populated_slots(const struct backing *backing)
{
	const struct vmm_backing *vmm = to_vmm((struct backing *)backing);
	uint64_t nr = 0;

	for (unsigned int i = 0; i < vmm->nr_slots; i++)
		nr += vmm->slots[i].mapped;
	return nr;
}

static void vmm_drop(struct backing *backing)
{
	vmm_detach(to_vmm(backing));
}

static const struct backing_ops vmm_ops = {
	.plug = vmm_plug,
	.unplug = vmm_unplug,
	.unplug_all = vmm_unplug_all,
	.repeat = vmm_repeat,
	.verify = vmm_verify,
	.discard = vmm_discard,
	.answer_lost = vmm_answer_lost,
	.next_memory = vmm_next_memory,
	.set_requested = vmm_set_requested,
	.place = vmm_place_at,
	.populated_slots = vmm_populated_slots,
	.detach = vmm_drop,
};

/**
 * vmm_attach() - start a backing whose memory the front end maps
 * @vmm: set on success
 * @event: the event loop
 * @vu: vhost-user back end of the device
 * @memory_fd: memory file, new or of an earlier vmemd; taken over, also on
 *	error
 * @state_fd: state file; taken over, also on error
 * @region_size: bytes, a multiple of the block size
 * @block_size: bytes, a power of two, at least a page
 * @slot_size: bytes in the first slot, a power of two and a multiple of the
 *	block size
 * @err: set on error
 *
 * Return: 0, or an errno.
 */
int vmm_attach(struct vmm_backing *vmm, sd_event *event, struct vhost_user *vu,
	       int memory_fd, int state_fd, uint64_t region_size,
	       uint64_t block_size, uint64_t slot_size, struct error *err)
{
	int ret;

	memset(vmm, 0, sizeof(*vmm));
	vmm->state_fd = state_fd;
	vmm->vu = vu;
	ret = open_files(vmm, memory_fd, region_size, block_size, slot_size,
			 err);
	if (ret)
		goto close_files;
	/* Not all files can be sealed, see vmm_state_open(). */
	ret = guard_add(guard_of(vmm), vmm->state.file.start,
			vmm->state.file.size, &vmm->state_lost);
	if (ret >= 0)
		ret = timer_add(event, &vmm->timer, on_timer, vmm);
	if (ret >= 0)
		ret = backing_init(&vmm->backing, &vmm_ops, vmm->state.was.gpa,
				   region_size, block_size);
	if (ret >= 0)
		ret = backing_note_file(&vmm->backing, memory_fd);
	if (ret < 0) {
		error_set(err, ret, "%s", strerror(-ret));
		goto free_backing;
	}
	vmm->backing.placed = vmm->backing.gpa;
	vmm->backing.lost_at_reset = true;
	read_blocks(vmm);
	/* A state with plugged blocks rules out old mappings. */
	vmm->backing.unread = !vmm->backing.plugged.set;
	vmm->may_repeat = vmm->state.found;
	lay_out(vmm, slot_size);
	vmm->backing.nr_slots = vmm->nr_slots;
	vmm->backing.memory = &vmm->memory;
	vhost_channel_use_shmem(vu, region_size, &shmem_ops, vmm);
	return 0;

free_backing:
	backing_free(&vmm->backing);
	vmm->timer = sd_event_source_disable_unref(vmm->timer);
	close_state(vmm);
close_files:
	close(memory_fd);
	close(state_fd);
	return ret;
}

/* The front end must be gone. Other holders keep memory and state alive. */
void vmm_detach(struct vmm_backing *vmm)
{
	vmm->timer = sd_event_source_disable_unref(vmm->timer);
	close_state(vmm);
	backing_free(&vmm->backing);
	close(vmm->memory.fd);
	close(vmm->state_fd);
}
