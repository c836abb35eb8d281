// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory that a front end maps for us: the second way to populate slots, for
 * VMMs that nobody has changed and hosts without kvm_vmem.ko.
 *
 * A vhost-user front end that speaks SHMEM (QEMU from 11.1 on) gives the device
 * a shared memory region, which in a guest is a BAR of it. The memory is a file
 * of ours, as long as the region. When the first block of a slot is plugged,
 * SHMEM_MAP asks the front end to map that part of the file into the BAR, and
 * SHMEM_UNMAP takes it away after the last one. It is the VMM that adds and
 * removes the memslot, so its own devices, and other vhost devices, learn of the
 * memory as of any other.
 *
 * Where the region is in the guest. The BAR's address is the choice of firmware
 * or guest, and no message tells it; see vmm_place(). Until it is known the
 * device says that it has no memory. The memory table, in which the front end
 * lists each mapping with its guest address, shows whether it is true.
 *
 * The table is also what tells that a change has come about. QEMU answers
 * SHMEM_MAP and SHMEM_UNMAP before it carries them out, and sends the table
 * after that: an answer means that it will be, the table that it is. A guest
 * that was told at the answer could use memory that has no memslot yet, or
 * memory that is being given back. A front end that answers and never lists the
 * mapping is asked for something else: as it takes requests in order, the reply
 * to that is the last word.
 *
 * Few slots. The table is sent whole, by SET_MEM_TABLE, and has 8 entries. There
 * is a message for each region instead (CONFIGURE_MEM_SLOTS), with room for
 * hundreds, and it is not offered on purpose: a VMM's system reset drops all
 * mappings, and QEMU 11.1, which then at the next start of the device looks up
 * the memory of each region that it has to remove, finds none and crashes. So a
 * region is at most SHMEM_MAX_SLOTS slots, which grow: each ends SHMEM_GROWTH
 * times as far from the start as the one before. A guest plugs from the start
 * on, so the slots that it populates are at most SHMEM_GROWTH times as large as
 * what it has plugged.
 *
 * Waiting. Mappings are asked for one at a time, and other events have their
 * turn until they have come about, the front end's messages above all: it sends
 * the table, and waits until we have acknowledged it. If one of several fails,
 * those before it are undone, and the guest is told BUSY.
 *
 * When a front end may be asked: while a driver works the queue. QEMU 11.1
 * crashes on any message of the backend channel before that.
 *
 * What is kept. Blocks are the state's (vmm_state.c), slots are the front
 * end's: when a driver starts, its table tells what is mapped, and what the
 * blocks want is mapped before the queue is served. So a daemon that was killed
 * and is started again with the same files, or a VMM that dropped its mappings in
 * a reset, ends with what the blocks say. A plug maps first and commits then; an
 * unplug unmaps first, commits, and only then may the memory be discarded: a
 * daemon killed anywhere in between leaves blocks that are plugged, or that are
 * not, with their contents intact, and slots that are put right at the next
 * start.
 *
 * What is lost. Where nobody has kept the files, as when the service was stopped,
 * a daemon begins with new ones, and the front end of a VM that goes on has
 * mappings of the old one. Only the guest knows which blocks of them are plugged,
 * and no message asks it. Its memory is left alone: the old file is neither
 * written to nor punched, and blocks that are mapped of it count as plugged, and
 * so can be reached. Until the guest unplugs all, or its system is reset, it is
 * answered BUSY, see device/virtio_mem.c. Then the front end is asked to give up
 * the old mappings, and the region begins anew with our file. All this is read
 * from the memory table, so that there is nothing about it that could be lost in
 * turn.
 *
 * While a driver works the queue, tables only add to it. A table without the old
 * mappings does not say that the guest is done with them: a front end may send
 * its own memory first, and a guest may turn the BAR off for a moment. The end of
 * it is an UNPLUG_ALL that was carried out, or a stop of the queue. After a stop
 * the latest table counts, and a new driver has one before it starts.
 *
 * Half of it lost. Memory with contents and no state is refused, and so is a state
 * with plugged blocks and memory that is new: neither is what a vmemd leaves.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backing/vmm.h"
#include "common/size.h"

/* How long the table may take after the answer before it is asked about. */
#define TABLE_USEC 1000000ULL

/* How long after a mapping that the blocks need was refused it is asked again. */
#define AGAIN_USEC 1000000ULL

static struct shmem *to_shmem(struct backing *backing)
{
	return (struct shmem *)((char *)backing -
				offsetof(struct shmem, backing));
}

static uint64_t block_of(const struct shmem *shmem, uint64_t offset)
{
	return offset / shmem->backing.block_size;
}

/* --- Which slots there should be --- */

/* Blocks of the current change that are in a slot; @first is the first one. */
static uint64_t changed_in(const struct shmem *shmem,
			   const struct shmem_slot *slot, uint64_t *first)
{
	const struct shmem_change *change = &shmem->change;
	uint64_t from = block_of(shmem, slot->offset);
	uint64_t to = block_of(shmem, slot->offset + slot->size);

	if (from < change->first)
		from = change->first;
	if (to > change->first + change->nr)
		to = change->first + change->nr;
	*first = from;
	return to > from ? to - from : 0;
}

/* Is a slot to be mapped, once the current change is made or undone? */
static bool wanted(const struct shmem *shmem, unsigned int i)
{
	const struct shmem_slot *slot = &shmem->slots[i];
	const struct shmem_change *change = &shmem->change;
	const struct blocks *plugged = &shmem->backing.plugged;
	uint64_t have, first, nr;

	have = blocks_count(plugged, block_of(shmem, slot->offset),
			    block_of(shmem, slot->size));
	if (!change->active || change->undo)
		return have;
	nr = changed_in(shmem, slot, &first);
	if (change->plug)
		return have || nr;
	return have > (nr ? blocks_count(plugged, first, nr) : 0);
}

/* Bytes of a slot that are plugged. */
uint64_t vmm_slot_plugged(const struct shmem *shmem, unsigned int slot)
{
	const struct shmem_slot *s = &shmem->slots[slot];

	return blocks_count(&shmem->backing.plugged, block_of(shmem, s->offset),
			    block_of(shmem, s->size)) *
	       shmem->backing.block_size;
}

/* --- Which there are --- */

static bool lists(const struct shmem *shmem,
		  const struct guest_memory_region *region,
		  const struct shmem_slot *slot)
{
	return region->dev == shmem->backing.memory_dev &&
	       region->ino == shmem->backing.memory_ino &&
	       region->offset <= slot->offset &&
	       slot->offset - region->offset <= region->size &&
	       slot->size <= region->size - (slot->offset - region->offset);
}

static void read_table(struct shmem *shmem)
{
	const struct guest_memory *memory = &shmem->vu->memory;

	shmem->misplaced = false;
	for (unsigned int i = 0; i < shmem->nr_slots; i++) {
		struct shmem_slot *slot = &shmem->slots[i];

		slot->mapped = false;
		for (size_t j = 0; j < memory->nr; j++) {
			const struct guest_memory_region *region =
				&memory->regions[j];

			if (!lists(shmem, region, slot))
				continue;
			slot->mapped = true;
			if (region->gpa - region->offset == shmem->backing.gpa)
				continue;
			shmem->misplaced = true;
			shmem->found_gpa = region->gpa - region->offset;
		}
	}
}

/* --- What a vmemd before us has left --- */

/*
 * Does the front end map another file there, as a vmemd would have it? Nobody
 * but a device has memory where its region is, and each part of the region is
 * that part of the file. Where the place is wrong it may be that of another device
 * of ours, whose file is known.
 */
static bool is_left(const struct shmem *shmem,
		    const struct guest_memory_region *region)
{
	const struct backing *backing = &shmem->backing;
	uint64_t offset = region->gpa - backing->gpa;

	return backing->placed && region->gpa >= backing->gpa &&
	       offset < backing->size &&
	       region->size <= backing->size - offset &&
	       region->offset == offset &&
	       !guest_access_has_file(shmem->vu->access, region->dev,
				      region->ino);
}

static const struct guest_memory_region *first_left(const struct shmem *shmem)
{
	const struct guest_memory *memory = &shmem->vu->memory;

	for (size_t i = 0; i < memory->nr; i++)
		if (is_left(shmem, &memory->regions[i]))
			return &memory->regions[i];
	return NULL;
}

static bool is_left_at(const struct shmem *shmem, uint64_t offset)
{
	const struct guest_memory *memory = &shmem->vu->memory;

	for (size_t i = 0; i < memory->nr; i++)
		if (is_left(shmem, &memory->regions[i]) &&
		    memory->regions[i].offset == offset)
			return true;
	return false;
}

/*
 * Take the list of what was left from the memory table.
 *
 * Return: whether it is another one than before.
 */
static bool list_left(struct shmem *shmem)
{
	const struct guest_memory *memory = &shmem->vu->memory;
	unsigned int nr = 0;
	bool changed = false;

	/* More than a table can have there cannot be. */
	for (size_t i = 0; i < memory->nr && nr < SHMEM_TABLE_SIZE; i++) {
		const struct guest_memory_region *region = &memory->regions[i];
		struct shmem_left *left = &shmem->left[nr];

		if (!is_left(shmem, region))
			continue;
		changed |= nr >= shmem->nr_left ||
			   left->offset != region->offset ||
			   left->size != region->size;
		left->offset = region->offset;
		left->size = region->size;
		nr++;
	}
	changed |= nr != shmem->nr_left;
	shmem->nr_left = nr;
	return changed;
}

/*
 * All blocks that the guest may have of it count as plugged. When they do not any
 * more they are owed, since there may be memory of them in our file as well.
 */
static void plug_left(struct shmem *shmem)
{
	struct blocks *plugged = &shmem->backing.plugged;
	struct blocks *owed = &shmem->backing.owed;

	/* A driver may have what another table listed. */
	if (!shmem->running)
		blocks_move(plugged, owed, 0, plugged->nr);
	for (unsigned int i = 0; i < shmem->nr_left; i++) {
		const struct shmem_left *left = &shmem->left[i];
		uint64_t first, end;

		/* Blocks need not have had the size that they have now. */
		first = block_of(shmem, left->offset);
		end = block_of(shmem, left->offset + left->size +
					      shmem->backing.block_size - 1);
		blocks_set(plugged, first, end - first);
		blocks_clear(owed, first, end - first);
	}
}

static void lost_changed(struct shmem *shmem)
{
	struct backing *backing = &shmem->backing;
	char size[SIZE_TEXT_MAX];

	if (backing->lost)
		log_limited(
			&shmem->limit, LOG_LEVEL_WARNING, shmem->vu->label,
			"the state was lost: the VMM has %s of memory mapped "
			"that a vmemd before has left, and which blocks of it "
			"the guest has is not known. Plug and unplug are "
			"answered busy until the guest unplugs all or its "
			"system is reset",
			size_format(backing->plugged.set * backing->block_size,
				    size));
	else
		log_limited(
			&shmem->limit, LOG_LEVEL_INFO, shmem->vu->label,
			"nothing that a vmemd before has left is in use any "
			"more: what is plugged is known again");
	if (backing->lost_changed)
		backing->lost_changed(backing->arg);
	/* A ring may be in the blocks. */
	guest_access_known(shmem->vu->access);
}

/*
 * By the memory table: is there memory of the guest's of which no state is?
 * @again: what was found before counts no more
 */
static void find_left(struct shmem *shmem, bool again)
{
	struct backing *backing = &shmem->backing;
	bool changed = list_left(shmem);
	bool left = shmem->nr_left;
	bool before = backing->lost;
	uint64_t plugged = backing->plugged.set;

	/* Where blocks of ours are plugged, or are about to be, there is one. */
	if (!before && (!left || plugged || shmem->change.active))
		return;
	if (before && !changed && !again)
		return;
	plug_left(shmem);
	backing->lost = left || (before && shmem->running);
	if (backing->lost != before || backing->plugged.set != plugged)
		lost_changed(shmem);
}

/* --- Asking --- */

static void set_timer(struct shmem *shmem, uint64_t usec)
{
	if (usec)
		sd_event_source_set_time_relative(shmem->timer, usec);
	sd_event_source_set_enabled(shmem->timer,
				    usec ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/*
 * Ask for a part of the region.
 * @message: what is to come about
 *
 * Return: 0, or an errno with the reason set.
 */
static int ask(struct shmem *shmem, uint64_t offset, uint64_t size,
	       const struct shmem_message *message)
{
	struct backing *backing = &shmem->backing;
	bool map = message->map;
	struct vhost_user_mmap mmap = {
		.fd_offset = offset,
		.shm_offset = offset,
		.len = size,
		.flags = map ? VHOST_USER_MMAP_RW : 0,
	};
	int ret;

	if (map && shmem->vu->memory.nr >= SHMEM_TABLE_SIZE) {
		snprintf(backing->reason, sizeof(backing->reason),
			 "the VMM's memory table is full: %d entries, of which "
			 "its own memory has too many",
			 SHMEM_TABLE_SIZE);
		return -ENOSPC;
	}
	ret = vhost_channel_ask(shmem->vu,
				map ? VHOST_USER_BACKEND_SHMEM_MAP
				    : VHOST_USER_BACKEND_SHMEM_UNMAP,
				&mmap, sizeof(mmap),
				map ? shmem->memory.fd : -1);
	if (ret) {
		snprintf(backing->reason, sizeof(backing->reason),
			 "the backend channel: %s", strerror(-ret));
		return ret;
	}
	shmem->message = *message;
	shmem->message.out = true;
	return 0;
}

static int ask_for_slot(struct shmem *shmem, unsigned int i)
{
	const struct shmem_slot *slot = &shmem->slots[i];
	const struct shmem_message message = {
		.map = !slot->mapped,
		.slot = i,
	};

	return ask(shmem, slot->offset, slot->size, &message);
}

/* What was left is given up as it was mapped. */
static int ask_for_left(struct shmem *shmem,
			const struct guest_memory_region *region)
{
	const struct shmem_message message = {
		.left = true,
		.offset = region->offset,
	};

	return ask(shmem, region->offset, region->size, &message);
}

/* The current change has come to its end. */
static void finish(struct shmem *shmem)
{
	struct shmem_change *change = &shmem->change;
	struct backing *backing = &shmem->backing;
	uint64_t gpa = backing->gpa + change->first * backing->block_size;
	uint64_t size = change->nr * backing->block_size;

	bool known = false;

	if (!change->undo) {
		/* Only all blocks can be unplugged of what is not known. */
		known = backing->lost;
		backing->lost = false;
		vmm_state_commit(&shmem->state, change->first, change->nr,
				 change->plug);
		shmem->may_repeat = false;
		if (change->plug)
			backing_note_plugged(backing, gpa, size);
		else
			backing_note_unplugged(backing, gpa, size);
		change->result = 0;
	}
	change->active = false;
	if (!shmem->inside)
		backing_ended(backing, change->result);
	if (known)
		lost_changed(shmem);
}

/* What was asked for cannot be had; the reason is set. */
static void failed(struct shmem *shmem, int result)
{
	struct shmem_change *change = &shmem->change;

	if (change->active && !change->undo) {
		change->undo = true;
		change->result = result;
		return;
	}
	/* What is missing belongs to blocks that the guest has. */
	log_limited(&shmem->limit, LOG_LEVEL_ERR, shmem->vu->label,
		    "a slot cannot be put right: %s; tried again",
		    shmem->backing.reason);
	set_timer(shmem, AGAIN_USEC);
}

/*
 * Ask for the next mapping that is not as it should be. Of what was left all or
 * nothing is wanted, and no slot besides.
 *
 * Return: 1 it was asked for; 0 all is as it should be; an errno with the reason
 * set.
 */
static int ask_for_next(struct shmem *shmem)
{
	const struct shmem_change *change = &shmem->change;
	int ret;

	if (shmem->backing.lost) {
		const struct guest_memory_region *left = NULL;

		if (change->active && !change->undo)
			left = first_left(shmem);
		ret = left ? ask_for_left(shmem, left) : 0;
		return ret ? ret : left != NULL;
	}
	for (unsigned int i = 0; i < shmem->nr_slots; i++) {
		if (shmem->slots[i].mapped == wanted(shmem, i))
			continue;
		ret = ask_for_slot(shmem, i);
		return ret ? ret : 1;
	}
	return 0;
}

/* Ask for the next mapping that is not as it should be, or be done. */
static void advance_mapping(struct shmem *shmem)
{
	int enabled = SD_EVENT_OFF;

	while (shmem->running && !shmem->message.out) {
		int ret;

		sd_event_source_get_enabled(shmem->timer, &enabled);
		if (enabled != SD_EVENT_OFF)
			return;
		ret = ask_for_next(shmem);
		/* on_stopped() follows, and the next front end has the request. */
		if (ret == -ENOTCONN)
			return;
		if (ret < 0)
			failed(shmem, ret);
		if (ret)
			continue;
		if (shmem->change.active)
			finish(shmem);
		if (!shmem->ready) {
			shmem->ready = true;
			vhost_user_go_on(shmem->vu);
		}
		return;
	}
}

/* What the front end said that it would do has not come about. */
static void not_done(struct shmem *shmem)
{
	struct backing *backing = &shmem->backing;

	shmem->message.out = false;
	snprintf(backing->reason, sizeof(backing->reason),
		 "the VMM does not %s memory that it said it would",
		 shmem->message.map ? "list" : "give up");
	failed(shmem, -EIO);
	advance_mapping(shmem);
}

/* Has what was asked for come about? */
static void check_message(struct shmem *shmem)
{
	struct shmem_message *message = &shmem->message;
	struct backing *backing = &shmem->backing;
	bool mapped;

	if (!message->out || !message->replied)
		return;
	mapped = message->left ? is_left_at(shmem, message->offset)
			       : shmem->slots[message->slot].mapped;
	if (mapped != message->map) {
		if (!message->last_word)
			set_timer(shmem, TABLE_USEC);
		return;
	}
	message->out = false;
	set_timer(shmem, 0);
	if (message->map && shmem->misplaced) {
		snprintf(backing->reason, sizeof(backing->reason),
			 "the guest has the region at 0x%" PRIx64
			 ", not at 0x%" PRIx64 ": \"vmemctl place\" it there",
			 shmem->found_gpa, backing->gpa);
		failed(shmem, -EADDRNOTAVAIL);
	}
	advance_mapping(shmem);
}

/* --- What the front end does --- */

static void on_started(void *arg)
{
	struct shmem *shmem = arg;

	vmm_state_set(&shmem->state.header->used, 1);
	shmem->running = true;
	read_table(shmem);
	advance_mapping(shmem);
}

/* No driver, or no front end: nobody can be asked any more. */
static void on_stopped(void *arg)
{
	struct shmem *shmem = arg;

	shmem->running = false;
	shmem->ready = false;
	shmem->message.out = false;
	set_timer(shmem, 0);
	for (unsigned int i = 0; i < shmem->nr_slots; i++)
		shmem->slots[i].mapped = false;
	if (shmem->change.active) {
		snprintf(shmem->backing.reason, sizeof(shmem->backing.reason),
			 "the front end has stopped the device");
		shmem->change.undo = true;
		shmem->change.result = -ENOTCONN;
		finish(shmem);
	}
	if (shmem->backing.lost)
		find_left(shmem, true);
}

static void on_memory(void *arg)
{
	struct shmem *shmem = arg;

	find_left(shmem, false);
	if (!shmem->backing.unread)
		return;
	shmem->backing.unread = false;
	guest_access_known(shmem->vu->access);
}

static void on_table(void *arg)
{
	struct shmem *shmem = arg;

	read_table(shmem);
	if (shmem->message.out)
		check_message(shmem);
	else
		advance_mapping(shmem);
}

static void on_replied(void *arg, uint32_t request, bool ok)
{
	struct shmem *shmem = arg;
	struct shmem_message *message = &shmem->message;
	struct backing *backing = &shmem->backing;
	bool last_word = request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG;

	if (!message->out || message->last_word != last_word)
		return;
	if (!last_word && ok) {
		message->replied = true;
		check_message(shmem);
		return;
	}
	if (last_word) {
		not_done(shmem);
		return;
	}
	message->out = false;
	snprintf(backing->reason, sizeof(backing->reason),
		 "the VMM refuses to %s memory; see its messages",
		 message->map ? "map" : "unmap");
	failed(shmem, -EIO);
	advance_mapping(shmem);
}

static bool is_ready(void *arg)
{
	const struct shmem *shmem = arg;

	return shmem->ready;
}

static const struct vhost_user_shmem_ops shmem_ops = {
	.started = on_started,
	.stopped = on_stopped,
	.memory = on_memory,
	.table = on_table,
	.replied = on_replied,
	.ready = is_ready,
};

static int on_timer(sd_event_source *source __attribute__((unused)),
		    uint64_t usec __attribute__((unused)), void *arg)
{
	struct shmem *shmem = arg;
	int ret;

	if (!shmem->message.out) {
		advance_mapping(shmem);
		return 0;
	}
	/*
	 * A driver that looked at the configuration would take blocks that it
	 * may have for those that it has: the time is the last word.
	 */
	if (shmem->backing.lost) {
		not_done(shmem);
		return 0;
	}
	/* News of no change do no harm to a driver. */
	ret = vhost_channel_ask(shmem->vu, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
				NULL, 0, -1);
	if (ret)
		set_timer(shmem, TABLE_USEC);
	else
		shmem->message.last_word = true;
	return 0;
}

/* --- What the device does --- */

static int begin_mapping(struct backing *backing, bool plug, uint64_t gpa,
			 uint64_t size)
{
	struct shmem *shmem = to_shmem(backing);
	struct shmem_change *change = &shmem->change;

	if (!shmem->running) {
		snprintf(backing->reason, sizeof(backing->reason),
			 "no front end to map memory");
		return -ENOTCONN;
	}
	*change = (struct shmem_change){
		.active = true,
		.plug = plug,
		.first = block_of(shmem, gpa - backing->gpa),
		.nr = block_of(shmem, size),
	};
	shmem->inside = true;
	advance_mapping(shmem);
	shmem->inside = false;
	return change->active ? -EINPROGRESS : change->result;
}

static int shmem_plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return begin_mapping(backing, true, gpa, size);
}

static int shmem_unplug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return begin_mapping(backing, false, gpa, size);
}

static int shmem_unplug_all(struct backing *backing)
{
	return begin_mapping(backing, false, backing->gpa, backing->size);
}

static int shmem_repeat(struct backing *backing, bool plug, uint64_t gpa,
			uint64_t size)
{
	struct shmem *shmem = to_shmem(backing);
	const struct shmem_record *last = vmm_state_last(&shmem->state);
	bool may = shmem->may_repeat;

	shmem->may_repeat = false;
	return may && last->plug == plug &&
			       last->first ==
				       block_of(shmem, gpa - backing->gpa) &&
			       last->nr == block_of(shmem, size)
		       ? 0
		       : -EINVAL;
}

/* Nobody else changes blocks. */
static int shmem_verify(struct backing *backing __attribute__((unused)))
{
	return 0;
}

static int shmem_discard(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct error err;
	int ret;

	ret = memory_punch(&to_shmem(backing)->memory, gpa - backing->gpa, size,
			   &err);
	if (ret)
		snprintf(backing->reason, sizeof(backing->reason), "%s",
			 err.text);
	return ret;
}

static uint64_t shmem_next_memory(struct backing *backing, uint64_t from)
{
	return memory_next_data(&to_shmem(backing)->memory,
				from * backing->block_size, backing->size) /
	       backing->block_size;
}

static void shmem_answer_lost(struct backing *backing)
{
	to_shmem(backing)->may_repeat = true;
}

static int shmem_set_requested(struct backing *backing, uint64_t size,
			       struct error *err __attribute__((unused)))
{
	vmm_state_set(&to_shmem(backing)->state.header->requested_size, size);
	return 0;
}

/**
 * vmm_place() - tell where the region is in the guest
 * @gpa: the address of the front end's shared memory region, multiple of the
 *	block size
 * @err: what is wrong, on error
 *
 * What was found at a place before may have been another's memory: without a
 * driver, a region can be moved whose blocks are not known.
 *
 * Return: 0; -EINVAL; -EBUSY it is known to be elsewhere, and in use.
 */
int vmm_place(struct shmem *shmem, uint64_t gpa, struct error *err)
{
	struct backing *backing = &shmem->backing;

	if (!gpa || !vmm_state_fits(gpa, backing->size, backing->block_size))
		return error_set(err, -EINVAL,
				 "0x%" PRIx64
				 " is not where a region of blocks of "
				 "%" PRIu64 " bytes can be",
				 gpa, backing->block_size);
	if (backing->placed && gpa == backing->gpa)
		return 0;
	if (backing->placed &&
	    ((backing->plugged.set && !backing->lost) || shmem->running))
		return error_set(err, -EBUSY,
				 "the region is in use at 0x%" PRIx64,
				 backing->gpa);
	backing->gpa = gpa;
	backing->placed = true;
	vmm_state_set(&shmem->state.header->gpa, gpa);
	find_left(shmem, true);
	guest_access_known(shmem->vu->access);
	return 0;
}

/* --- Start and end --- */

/* The size of a first slot with which SHMEM_MAX_SLOTS reach the region's end. */
uint64_t vmm_default_slot(uint64_t region_size, uint64_t block_size)
{
	uint64_t slot =
		block_size > SHMEM_SLOT_MIN ? block_size : SHMEM_SLOT_MIN;
	uint64_t reach = 1;

	for (unsigned int i = 1; i < SHMEM_MAX_SLOTS; i++)
		reach *= SHMEM_GROWTH;
	while (slot < region_size / reach + (region_size % reach != 0))
		slot *= 2;
	return slot < region_size ? slot : region_size;
}

/* The last slot that there may be takes what is left. */
static void lay_out(struct shmem *shmem, uint64_t slot_size)
{
	uint64_t size = shmem->backing.size, offset = 0, end = slot_size;

	while (offset < size) {
		struct shmem_slot *slot = &shmem->slots[shmem->nr_slots++];

		if (end > size || shmem->nr_slots == SHMEM_MAX_SLOTS)
			end = size;
		slot->offset = offset;
		slot->size = end - offset;
		offset = end;
		if (__builtin_mul_overflow(end, SHMEM_GROWTH, &end))
			end = size;
	}
}

/**
 * vmm_make_file() - make an empty file in memory
 * @name: for people
 *
 * Return: a descriptor, or an errno of memfd_create(2).
 */
int vmm_make_file(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? -errno : fd;
}

/* The memory has its size, and keeps it where files can be sealed. */
static int open_memory(struct shmem *shmem, int fd, uint64_t size,
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
	ret = memory_init(&shmem->memory, fd, size, block_size, err);
	if (ret)
		return ret;
	/* Files of file systems cannot be sealed. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		log_debug_of(shmem->vu->label, "the memory is not sealed: %s",
			     strerror(errno));
	return 0;
}

/* May there be contents in a file? One of huge pages does not say where. */
static bool has_contents(int fd, const struct stat *st)
{
	return st->st_blocks &&
	       (lseek(fd, 0, SEEK_DATA) >= 0 || errno != ENXIO);
}

static bool any_plugged(const struct vmm_state *state, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		if (vmm_state_plugged(state, i))
			return true;
	return false;
}

/*
 * Open memory and state, which have to be of one another. What is refused stays
 * as it is: whoever passes it may do so again.
 */
static int open_files(struct shmem *shmem, int memory_fd, uint64_t size,
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
	if (!vmm_state_is_there(shmem->state_fd) &&
	    has_contents(memory_fd, &st))
		return error_set(
			err, -EINVAL,
			"\"memory\" descriptor: it has contents, and no state "
			"says of which blocks: pass its \"state\" as well, or "
			"neither");
	ret = vmm_state_open(&shmem->state, shmem->state_fd, size, block_size,
			     slot_size, err);
	if (ret)
		return ret;
	if (!st.st_size && any_plugged(&shmem->state, size / block_size)) {
		ret = error_set(
			err, -EINVAL,
			"\"state\" descriptor: blocks are plugged, and the "
			"memory is new: pass its \"memory\" as well, or "
			"neither");
	} else {
		ret = open_memory(shmem, memory_fd, size, block_size, err);
	}
	if (ret)
		vmm_state_close(&shmem->state);
	return ret;
}

/* What is plugged, by the state. */
static void read_blocks(struct shmem *shmem)
{
	struct blocks *plugged = &shmem->backing.plugged;

	for (uint64_t i = 0; i < plugged->nr; i++)
		if (vmm_state_plugged(&shmem->state, i))
			blocks_set(plugged, i, 1);
}

static int shmem_place_at(struct backing *backing, uint64_t gpa,
			  struct error *err)
{
	return vmm_place(to_shmem(backing), gpa, err);
}

static uint64_t shmem_populated_slots(const struct backing *backing)
{
	const struct shmem *shmem = to_shmem((struct backing *)backing);
	uint64_t nr = 0;

	for (unsigned int i = 0; i < shmem->nr_slots; i++)
		nr += shmem->slots[i].mapped;
	return nr;
}

static void shmem_drop(struct backing *backing)
{
	vmm_detach(to_shmem(backing));
}

static const struct backing_ops backing_ops = {
	.plug = shmem_plug,
	.unplug = shmem_unplug,
	.unplug_all = shmem_unplug_all,
	.repeat = shmem_repeat,
	.verify = shmem_verify,
	.discard = shmem_discard,
	.answer_lost = shmem_answer_lost,
	.next_memory = shmem_next_memory,
	.set_requested = shmem_set_requested,
	.place = shmem_place_at,
	.populated_slots = shmem_populated_slots,
	.detach = shmem_drop,
};

/**
 * vmm_attach() - become the backing of memory that front ends map
 * @vu: where they come
 * @memory_fd: a file, empty or with what was there before; owned from here, also
 *	on error
 * @state_fd: likewise, for the state
 * @region_size: bytes, multiple of the block size
 * @block_size: power of two, at least a page
 * @slot_size: of the first slot: power of two, multiple of the block size
 * @err: what is wrong, on error
 *
 * Return: 0, or an errno.
 */
int vmm_attach(struct shmem *shmem, sd_event *event, struct vhost_user *vu,
	       int memory_fd, int state_fd, uint64_t region_size,
	       uint64_t block_size, uint64_t slot_size, struct error *err)
{
	int ret;

	memset(shmem, 0, sizeof(*shmem));
	shmem->state_fd = state_fd;
	shmem->vu = vu;
	ret = open_files(shmem, memory_fd, region_size, block_size, slot_size,
			 err);
	if (ret)
		goto close_files;
	ret = sd_event_add_time_relative(event, &shmem->timer, CLOCK_MONOTONIC,
					 0, 0, on_timer, shmem);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(shmem->timer, SD_EVENT_OFF);
	if (ret >= 0)
		ret = backing_init(&shmem->backing, &backing_ops,
				   shmem->state.was.gpa, region_size,
				   block_size);
	if (ret >= 0)
		ret = backing_note_file(&shmem->backing, memory_fd);
	if (ret < 0) {
		error_set(err, ret, "%s", strerror(-ret));
		goto free_backing;
	}
	shmem->backing.placed = shmem->backing.gpa;
	shmem->backing.lost_at_reset = true;
	read_blocks(shmem);
	/* Where there is a state with blocks, nothing else can be left. */
	shmem->backing.unread = !shmem->backing.plugged.set;
	shmem->may_repeat = shmem->state.found;
	lay_out(shmem, slot_size);
	shmem->backing.nr_slots = shmem->nr_slots;
	shmem->backing.memory = &shmem->memory;
	vhost_channel_use_shmem(vu, region_size, &shmem_ops, shmem);
	return 0;

free_backing:
	backing_free(&shmem->backing);
	shmem->timer = sd_event_source_disable_unref(shmem->timer);
	vmm_state_close(&shmem->state);
close_files:
	close(memory_fd);
	close(state_fd);
	return ret;
}

/* The front end must be gone. Memory and state stay, with who else has them. */
void vmm_detach(struct shmem *shmem)
{
	shmem->timer = sd_event_source_disable_unref(shmem->timer);
	vmm_state_close(&shmem->state);
	backing_free(&shmem->backing);
	close(shmem->memory.fd);
	close(shmem->state_fd);
}
